"""Smoothing a map where it folds between voxels, and nowhere else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.geometry.jacobian import fold_failures

_REACH_VOX = 3
_MOST_ROUNDS = 60


def unfolded(displacement_vox: Tensor) -> tuple[Tensor, Tensor]:
    """The map with its displacement averaged around voxels that fail the test for folds, until none fails.

    A flow does not fold, but it is read at voxels, and where a voxel is longer than the motion is smooth, the map between
    voxels may. Where nothing fails, every bit stays.

    Args:
        displacement_vox: u [1, 3, D, H, W], voxels.

    Returns:
        u, and which voxels were changed [D, H, W]. After many rounds without success, a voxel may still fail.
    """
    changed = torch.zeros(displacement_vox.shape[2:], dtype=torch.bool, device=displacement_vox.device)
    for _ in range(_MOST_ROUNDS):
        failed = fold_failures(displacement_vox)
        if not failed.any():
            break
        near = F.max_pool3d(failed[None, None].float(), 2 * _REACH_VOX + 1, 1, _REACH_VOX)[0, 0] > 0
        averaged = F.avg_pool3d(F.pad(displacement_vox, (1,) * 6, mode="replicate"), 3, 1)
        displacement_vox = torch.where(near, averaged, displacement_vox)
        changed |= near
    return displacement_vox, changed
