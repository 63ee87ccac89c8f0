import numpy as np
import pytest

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.volumes import regional_volumes, volume_errors


class TestVolumeErrors:
    def test_three_ways_of_one_error(self):
        errors = volume_errors([[3300.0]], [[3400.0]], [[3500.0]], [1_000_000.0], [2.0])
        assert errors.percent_of_whole == pytest.approx(-0.01)
        assert errors.percent_of_own == pytest.approx(-100 / 35)
        assert errors.rate_percent_per_year == pytest.approx(50 * np.log(33 / 34))

    def test_a_wrong_rate_is_the_error_of_the_rate_at_every_horizon(self):
        last, years = np.full((4, 1), 8000.0), np.array([1.0, 2.0, 3.0, 5.0])
        predicted, true = (last * np.exp(rate * years[:, None]) for rate in (-0.02, -0.03))
        rates = volume_errors(predicted, true, last, np.full(4, 1e6), years).rate_percent_per_year
        np.testing.assert_allclose(rates, 1.0)

    def test_a_horizon_in_the_past_is_refused(self):
        with pytest.raises(InputError, match="after the last scan"):
            volume_errors([[1.0]], [[1.0]], [[1.0]], [1.0], [0.0])


class TestRegionalVolumes:
    def test_counts_voxels_and_integrates_the_determinant(self):
        labels = np.zeros((6, 5, 4), dtype=np.uint8)
        labels[1:3, 1:3, 1:3] = 7
        labels[3:5] = 2
        assert regional_volumes(labels, [7, 2, 9], 0.5).tolist() == [4.0, 20.0, 0.0]
        grown = np.where(labels == 7, 1.1, 0.9)
        np.testing.assert_allclose(regional_volumes(labels, [7, 2], 0.5, grown), [4.4, 18.0])
