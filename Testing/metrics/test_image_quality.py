import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.image_quality import image_quality, lpips_2_5d

monai = pytest.importorskip("monai")


@pytest.fixture
def images():
    """Follow-up, last scan and forecast: two smooth blobs, of which one shrinks; the forecast has 2/3 of the change."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (30, 28, 26)], indexing="ij"))
    radius = np.sqrt(np.square(grid).sum(axis=0))
    last, true, predicted = (100 + 300 / (1 + np.exp((radius - r) * 20)) for r in (0.6, 0.54, 0.56))
    return predicted, true, last, radius < 0.8


class TestImageQuality:
    def test_the_truth_itself_is_perfect(self, images):
        _, true, last, mask = images
        quality = image_quality(true, true, last, mask)
        assert quality.ssim == pytest.approx(1, abs=1e-5)
        assert quality.psnr == np.inf

    def test_psnr_is_its_formula_inside_the_mask(self, images):
        predicted, true, last, mask = images
        span = np.ptp(true[mask])
        quality = image_quality(predicted, true, last, mask)
        for image, found in ((predicted, quality.psnr), (last, quality.psnr_copy_last)):
            assert found == pytest.approx(10 * np.log10(span**2 / np.square(image - true)[mask].mean()), abs=1e-3)

    def test_ssim_is_that_of_its_definition(self, images):
        """An independent Gaussian window: scipy's, cut at the same five voxels."""
        from scipy.ndimage import gaussian_filter

        predicted, true, last, mask = images
        span = np.ptp(true[mask])
        x, y = (np.pad(np.where(mask, image / span, 0), 8) for image in (predicted, true))
        smooth = lambda image: gaussian_filter(image, 1.5, truncate=5 / 1.5, mode="constant")  # noqa: E731
        mx, my = smooth(x), smooth(y)
        vx, vy, vxy = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        expected = ssim[8:-8, 8:-8, 8:-8][mask].mean()
        assert image_quality(predicted, true, last, mask).ssim == pytest.approx(expected, abs=1e-5)

    def test_two_thirds_of_the_change_beat_copying_the_last_scan(self, images):
        quality = image_quality(*images)
        assert quality.ssim > quality.ssim_copy_last
        assert quality.psnr > quality.psnr_copy_last + 6

    def test_nothing_outside_the_mask_matters(self, images):
        predicted, true, last, mask = images
        spoiled = [np.where(mask, image, 1e4 * i) for i, image in enumerate((predicted, true, last))]
        assert image_quality(*spoiled, mask) == image_quality(*images)

    def test_an_empty_mask_is_refused(self, images):
        with pytest.raises(InputError, match="not empty"):
            image_quality(*images[:3], np.zeros_like(images[3]))


class TestLpips:
    def test_adds_the_means_over_the_slices_of_three_axes(self):
        """With mean squared difference as the network, every axis gives the mean over the volume."""

        class MeanSquare(torch.nn.Module):
            def forward(self, first, second):
                return (first - second).square().mean(dim=(1, 2, 3))

        first, second = torch.rand(6, 5, 4), torch.rand(6, 5, 4)
        found = lpips_2_5d(first, second, MeanSquare(), data_range=1.0)
        assert found == pytest.approx(3 * float((2 * first - 2 * second).square().mean()), rel=1e-5)
        assert found == lpips_2_5d(first, second, MeanSquare(), data_range=1.0)
