import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.temporal import (
    adjacent_change_ratio,
    log_determinant_curvature,
    semigroup_error,
    wrong_sign_share,
)

SHAPE = (20, 18, 16)
POSITION = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SHAPE), indexing="ij"))[None]
INNER = torch.zeros(SHAPE)
INNER[4:-4, 4:-4, 4:-4] = 1


def affine(scale, shift):
    """Displacement in voxels of x -> scale x + shift, about the center of the grid."""
    center = torch.tensor([(n - 1) / 2 for n in SHAPE], dtype=torch.float64)[None, :, None, None, None]
    shift = torch.tensor(shift, dtype=torch.float64)[None, :, None, None, None]
    return (scale - 1) * (POSITION - center) + shift


class TestSemigroupError:
    def test_maps_that_compose_have_none(self):
        first, second = affine(1.05, (0.3, 0.0, -0.2)), affine(1.02, (0.1, 0.2, 0.0))
        whole = affine(1.05 * 1.02, (0.3 + 1.05 * 0.1, 1.05 * 0.2, -0.2))
        assert semigroup_error(first, second, whole, [1, 2, 3], INNER).max_mm < 1e-4

    def test_a_shift_of_one_voxel_is_its_length_in_mm(self):
        still = affine(1.0, (0.0, 0.0, 0.0))
        error = semigroup_error(still, still, affine(1.0, (0.1, 0.1, 0.0)), [3.0, 4.0, 1.0], INNER)
        assert (error.mean_mm, error.percentile_95_mm, error.max_mm) == pytest.approx((0.5, 0.5, 0.5))

    def test_order_matters(self):
        grow, shift = affine(1.2, (0.0, 0.0, 0.0)), affine(1.0, (1.0, 0.0, 0.0))
        whole = affine(1.2, (1.2, 0.0, 0.0))  # pull maps: first o second
        assert semigroup_error(grow, shift, whole, [1, 1, 1], INNER).max_mm < 1e-4
        assert semigroup_error(shift, grow, whole, [1, 1, 1], INNER).mean_mm == pytest.approx(0.2, abs=1e-3)


class TestLogDeterminantCurvature:
    YEARS = np.array([-1.0, 0.0, 0.5, 3.0])

    def test_zero_for_a_constant_rate_at_irregular_times(self):
        course = -0.02 * self.YEARS[:, None, None, None] * np.ones((4, 3, 3, 3))
        assert log_determinant_curvature(course, self.YEARS, np.ones((3, 3, 3))) == pytest.approx(0, abs=1e-12)

    def test_the_second_derivative_of_a_parabola(self):
        course = 0.5 * 0.007 * self.YEARS[:, None, None, None] ** 2 * np.ones((4, 3, 3, 3))
        assert log_determinant_curvature(course, self.YEARS, np.ones((3, 3, 3))) == pytest.approx(0.007)

    def test_two_frames_are_too_few(self):
        with pytest.raises(InputError, match="at least 3"):
            log_determinant_curvature(np.zeros((2, 1, 1, 1)), [0.0, 1.0], np.ones((1, 1, 1)))


class TestWrongSignShare:
    def test_counts_region_visits_against_the_expected_sign(self):
        volumes = np.array([[[5.0, 1.0], [4.9, 1.1], [4.95, 1.2], [np.nan, 1.2]]])
        share = wrong_sign_share(volumes, [-1, 1])
        assert (share.value, share.n) == (pytest.approx(1 / 5), 5)

    def test_a_sign_that_is_not_known_does_not_count(self):
        share = wrong_sign_share(np.array([[[1.0, 1.0], [2.0, 2.0]]]), [[-1, 0]])
        assert (share.value, share.n) == (1.0, 1)

    def test_noise_alone_is_wrong_half_the_time(self):
        noise = np.random.default_rng(1).normal(size=(20_000, 2, 3))
        assert wrong_sign_share(noise, [-1, 1, -1]).value == pytest.approx(0.5, abs=0.01)


class TestAdjacentChangeRatio:
    def test_right_frozen_and_flickering(self):
        mask = np.ones((2, 2, 2))
        true = np.linspace(0, 3, 4)[:, None, None, None] * mask
        assert adjacent_change_ratio(true, true, mask) == 1
        assert adjacent_change_ratio(0 * true, true, mask) == 0
        flicker = true + np.array([0, 1, -1, 1])[:, None, None, None]  # steps 2, -1, 3 for 1, 1, 1
        assert adjacent_change_ratio(flicker, true, mask) == pytest.approx(2)
