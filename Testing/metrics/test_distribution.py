import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.distribution import extract_features, frechet_distance, kernel_distance


@pytest.fixture
def rng():
    return np.random.default_rng(4)


class TestFrechetDistance:
    def test_of_two_gaussians_is_the_closed_form(self, rng):
        pytest.importorskip("monai")
        sd, shift = np.array([1.0, 2.0, 0.5]), np.array([0.3, -1.0, 0.0])
        found = frechet_distance(rng.normal(shift, sd, (60_000, 3)), rng.normal(0, 1, (60_000, 3)))
        assert found == pytest.approx(np.square(shift).sum() + np.square(sd - 1).sum(), rel=0.03)

    def test_of_a_set_with_itself_is_zero(self, rng):
        pytest.importorskip("monai")
        features = rng.normal(size=(80, 6))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)

    def test_few_images_and_other_networks_are_refused(self, rng):
        with pytest.raises(InputError, match="At least 50"):
            frechet_distance(rng.normal(size=(49, 3)), rng.normal(size=(60, 3)))
        with pytest.raises(InputError, match="one network"):
            frechet_distance(rng.normal(size=(60, 4)), rng.normal(size=(60, 3)))


class TestKernelDistance:
    def test_is_unbiased_and_its_error_is_true_where_the_sets_are_alike(self, rng):
        pairs = [kernel_distance(rng.normal(size=(40, 8)), rng.normal(size=(25, 8))) for _ in range(400)]
        found, errors = np.array(pairs).T
        assert abs(found.mean()) < 4 * found.std() / 20
        assert 0.8 < errors.mean() / found.std() < 2  # the jackknife errs to the safe side where the true value is 0

    def test_of_shifted_points_is_the_closed_form(self, rng):
        """In one dimension with x = 0 and y = c: k(x, x) = 1, k(y, y) = (c^2 + 1)^3, k(x, y) = 1."""
        found, error = kernel_distance(np.zeros((5, 1)), np.full((7, 1), 0.5))
        assert found == pytest.approx(1.25**3 - 1)
        assert error == pytest.approx(0, abs=1e-12)

    def test_standard_error_of_sets_that_differ(self, rng):
        pairs = [kernel_distance(rng.normal(0.7, 1, (40, 4)), rng.normal(size=(40, 4))) for _ in range(300)]
        found, errors = np.array(pairs).T
        assert errors.mean() == pytest.approx(found.std(), rel=0.25)


class TestExtractFeatures:
    def test_scale_and_offset_of_the_intensities_do_not_matter(self):
        torch.manual_seed(0)
        volume = torch.rand(6, 5, 4)
        network = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3), torch.nn.AdaptiveAvgPool3d(1)).requires_grad_(False)
        features = extract_features([volume, 50 + 7 * volume], network)
        assert features.shape == (2, 3)
        np.testing.assert_allclose(features[0], features[1], atol=1e-5)

    def test_a_constant_volume_is_refused(self):
        with pytest.raises(InputError, match="constant"):
            extract_features([torch.ones(3, 3, 3)], torch.nn.Identity())
