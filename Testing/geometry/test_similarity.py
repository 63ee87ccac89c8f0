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
        residual, slope = difference(fixed, moving, torch.zeros_like(moving))
        sought = torch.tensor([*shift, log_gain]).view(1, 4, 1, 1, 1)
        foretold = (slope * sought).sum(1, keepdim=True)
        assert torch.allclose(residual[INNER], foretold[INNER], atol=0.03 * foretold.abs().max())

    def test_the_gain_makes_the_images_equally_bright(self):
        residual, _ = difference(1.1 * waves(), waves(), torch.full_like(waves(), 1.1).log())
        assert residual.abs().max() < 1e-12


class TestLocalDifference:
    @pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (1.0, 5.0), (1.3, 5.0)])
    def test_brightness_and_contrast_hardly_count(self, scale, offset):
        residual, _ = local_difference(waves() * scale + offset, waves(), torch.ones_like(waves()), 3.0)
        assert residual.abs().max() < (1e-6 if scale == 1 else 0.06)

    def test_the_slope_points_the_way_of_the_motion(self):
        shift = (0.05, -0.03, 0.04)
        residual, slope = local_difference(waves(shift), waves(), torch.ones_like(waves()), 3.0)
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
