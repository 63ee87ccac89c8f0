"""Smoothing a map where it folds between voxels, and nowhere else."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.geometry.jacobian import fold_failures

_REACH_VOX = 3
_MOST_ROUNDS = 60


class Unfolded(NamedTuple):
    """A map after mending.

    Attributes:
        displacement_vox: u [1, 3, D, H, W].
        changed: [D, H, W], True at the voxels that were averaged.
        failed: [D, H, W], True where the test still fails.
    """

    displacement_vox: Tensor
    changed: Tensor
    failed: Tensor


def unfolded(displacement_vox: Tensor) -> Unfolded:
    """The map with its displacement averaged around voxels that fail the test for folds, until none fails.

    A flow does not fold, but it is read at voxels, and where a voxel is longer than the motion is smooth, the map between
    voxels may. Where nothing fails, every bit stays.

    Args:
        displacement_vox: u [1, 3, D, H, W], voxels.
    """
    failed = fold_failures(displacement_vox)
    changed = torch.zeros_like(failed)
    for _ in range(_MOST_ROUNDS):
        if not failed.any():
            break
        near = F.max_pool3d(failed[None, None].float(), 2 * _REACH_VOX + 1, 1, _REACH_VOX)[0, 0] > 0
        averaged = F.avg_pool3d(F.pad(displacement_vox, (1,) * 6, mode="replicate"), 3, 1)
        displacement_vox = torch.where(near, averaged, displacement_vox)
        changed |= near
        failed = fold_failures(displacement_vox)
    return Unfolded(displacement_vox, changed, failed)
