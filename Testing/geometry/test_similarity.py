import pytest
import torch

from neuro4d_lib.geometry import grids
from neuro4d_lib.geometry.similarity import difference, local_difference, smooth

SHAPE = (17, 18, 19)


def waves(shift_vox=(0.0, 0.0, 0.0)):
    """Three smooth waves around a mean of 3: [1, 1, D, H, W], seen from places moved by a shift."""
    d, h, w = (grids.identity(SHAPE, dtype=torch.float64)[:, a] + shift_vox[a] for a in range(3))
    return (3 + torch.sin(0.3 * d + 0.2 * h) + torch.cos(0.25 * h - 0.3 * w) + torch.sin(0.35 * w + 0.1 * d))[:, None]


INNER = (slice(None), slice(None), slice(3, -3), slice(3, -3), slice(3, -3))


class TestDifference:
    def test_the_slope_foretells_motion_and_gain(self):
        shift, log_gain = (0.05, -0.03, 0.04), 0.02
        fixed, moving = waves(shift) * torch.tensor(log_gain).exp(), waves()
        residuals, slope = difference(torch.cat([fixed, moving]), torch.zeros(2, 1, *SHAPE))
        residual = residuals[1:] - residuals[:1]
        sought = torch.tensor([*shift, log_gain]).view(1, 4, 1, 1, 1)
        foretold = (slope * sought).sum(1, keepdim=True)
        assert torch.allclose(residual[INNER], foretold[INNER], atol=0.03 * foretold.abs().max())

    def test_the_gain_makes_the_images_equally_bright(self):
        log_gain = torch.tensor([0.0, 1.1]).log1p().view(2, 1, 1, 1, 1).expand(2, 1, *SHAPE)
        residuals, _ = difference(torch.cat([2.1 * waves(), waves()]), log_gain)
        assert residuals.abs().max() < 1e-6

    def test_many_images_are_compared_with_their_mean(self):
        images = torch.cat([waves((0.1 * n, 0, 0)) for n in range(3)])
        residuals, _ = difference(images, torch.zeros_like(images))
        assert torch.allclose(residuals, images.mean(dim=0, keepdim=True) - images)

    def test_equal_images_leave_exactly_nothing(self):
        residuals, _ = difference(torch.cat([waves().float()] * 3), torch.zeros(3, 1, *SHAPE))
        assert not residuals.any()


class TestLocalDifference:
    @pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (1.0, 5.0), (1.3, 5.0)])
    def test_brightness_and_contrast_hardly_count(self, scale, offset):
        pair = torch.cat([waves() * scale + offset, waves()])
        residuals, _ = local_difference(pair, torch.ones_like(waves()), 3.0)
        residual = residuals[1] - residuals[0]
        assert residual.abs().max() < (1e-6 if scale == 1 else 0.06)

    def test_the_slope_points_the_way_of_the_motion(self):
        shift = (0.05, -0.03, 0.04)
        pair = torch.cat([waves(shift), waves()])
        residuals, slope = local_difference(pair, torch.ones_like(waves()), 3.0)
        residual = residuals[1:] - residuals[:1]
        foretold = (slope * torch.tensor(shift).view(1, 3, 1, 1, 1)).sum(1, keepdim=True)
        alike = torch.corrcoef(torch.stack([residual[INNER].flatten(), foretold[INNER].flatten()]))[0, 1]
        assert alike > 0.9


class TestSmooth:
    def test_keeps_an_even_image_and_widens_a_point_to_a_gaussian(self):
        assert torch.allclose(smooth(torch.ones(1, 1, *SHAPE), 2.0), torch.ones(1, 1, *SHAPE))
        point = torch.zeros(1, 1, 21, 21, 21)
        point[0, 0, 10, 10, 10] = 1
        line = smooth(point, 2.0)[0, 0, :, 10, 10]
        assert line[12] / line[10] == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-4)

    def test_a_stride_thins_out(self):
        image = waves()[:, :, :17, :17, :17]
        assert torch.allclose(smooth(image, 1.5, 4), smooth(image, 1.5)[:, :, ::4, ::4, ::4])
