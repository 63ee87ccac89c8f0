"""Mending folds: nothing where there are none, only around them where there are."""

import torch

from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.geometry.unfolding import unfolded


def smooth_map():
    torch.manual_seed(0)
    coarse = torch.randn(1, 3, 4, 5, 4)
    return 0.8 * torch.nn.functional.interpolate(coarse, size=(20, 24, 22), mode="trilinear", align_corners=True)


class TestUnfolded:
    def test_a_map_without_folds_stays_bit_for_bit(self):
        u = smooth_map()
        assert count_fold_failures(u).failed == 0
        mended, changed, _ = unfolded(u)
        assert torch.equal(mended, u) and not changed.any()

    def test_a_fold_is_mended_and_the_rest_stays(self):
        u = smooth_map()
        u[0, 0, 10, 12, 11] += 2.5  # one voxel jumps over its neighbor
        assert count_fold_failures(u).failed > 0
        mended, changed, _ = unfolded(u)
        assert count_fold_failures(mended).failed == 0
        assert changed.any() and changed.sum() < 0.2 * changed.numel()
        assert torch.equal(mended[:, :, ~changed], u[:, :, ~changed])
        assert (mended - u)[0, 0, 10, 12, 11].abs() > 0.5

    def test_a_long_fold_too(self):
        u = smooth_map()
        u[0, 2, :, 12, :] += 2.0
        u[0, 1, 8:12, 12, :] -= 1.5
        assert count_fold_failures(u).failed > 10
        assert count_fold_failures(unfolded(u).displacement_vox).failed == 0
