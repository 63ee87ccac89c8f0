import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.uniformity import histogram, pit_ensemble, pit_gaussian


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestPit:
    def test_of_a_true_gaussian_is_uniform(self, rng):
        result = histogram(pit_gaussian(1.0, 2.0, rng.normal(1, 2, 5000)))
        assert result.p_value > 0.01
        assert abs(result.bias) < 4 * np.sqrt(1 / 12 / 5000)
        assert result.dispersion == pytest.approx(1, abs=0.06)

    def test_of_a_true_ensemble_is_uniform_whatever_its_size(self, rng):
        pit = pit_ensemble(rng.normal(size=(7, 20_000)), rng.normal(size=20_000), torch.Generator().manual_seed(1))
        assert histogram(pit, bins=13).p_value > 0.01

    def test_ties_are_shared_out(self):
        pit = pit_ensemble(np.zeros((4, 20_000)), np.zeros(20_000), torch.Generator().manual_seed(1))
        assert histogram(pit).p_value > 0.01

    def test_repeats_with_the_same_generator(self, rng):
        samples, truth = rng.normal(size=(3, 50)), rng.normal(size=50)
        first, second = (pit_ensemble(samples, truth, torch.Generator().manual_seed(2)) for _ in range(2))
        np.testing.assert_array_equal(first, second)


class TestHistogram:
    def test_chi_square_is_uniform_over_repetitions(self, rng):
        p_values = [histogram(rng.uniform(size=400)).p_value for _ in range(400)]
        assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)
        assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)

    def test_names_the_fault(self, rng):
        truth = rng.normal(size=4000)
        too_narrow, too_wide, too_low = (
            histogram(pit_gaussian(mean, sd, truth)) for mean, sd in ((0, 0.6), (0, 1.6), (-0.5, 1))
        )
        assert too_narrow.dispersion > 1.3
        assert too_wide.dispersion < 0.7
        assert too_low.bias > 0.1
        assert max(too_narrow.p_value, too_wide.p_value, too_low.p_value) < 1e-6

    def test_too_few_cases_are_refused(self):
        with pytest.raises(InputError, match="too few"):
            histogram(np.linspace(0, 1, 49))
