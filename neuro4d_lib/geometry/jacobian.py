"""Local volume change of a map, and the proof that it does not fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DETERMINANTS_PER_VOXEL = 10

# Blocks of a field that are tested at a time. On a CPU they stay in a core's cache, and below the size at which PyTorch
# calls its threads together for every operation, which on a busy machine takes a hundred times longer than the work.
BLOCK_PLANES = 4
BLOCK_VOXELS = 10_000
BLOCK_VOXELS_CUDA = 1_000_000


@dataclass(frozen=True)
class FoldCount:
    """The outcome of the test for folds.

    Attributes:
        voxels: of the map.
        failed: how many of them are not proven free of folds.
        mended: how many were smoothed before, so that none fails: see `unfolding`.
    """

    voxels: int
    determinants_per_voxel: int
    failed: int
    mended: int = 0


def derivatives(field: Tensor) -> Tensor:
    """Central differences, one-sided at the border, per voxel.

    Args:
        field: [B, C, D, H, W].

    Returns:
        [B, C, 3, D, H, W]: third axis, along D, H, W.
    """
    return torch.stack(torch.gradient(field, dim=(2, 3, 4)), dim=2)


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """det D phi of phi(x) = x + u(x) by central differences, one-sided at the border.

    Above 1 where the map enlarges. A positive value does not prove that nothing folds: see `count_fold_failures`.

    Args:
        displacement_vox: u [B, 3, D, H, W], voxels.

    Returns:
        [B, 1, D, H, W].
    """
    (a, b, c), (d, e, f), (g, h, i) = (torch.gradient(u, dim=(1, 2, 3)) for u in displacement_vox.unbind(dim=1))
    return determinant(((a + 1, b, c), (d, e + 1, f), (g, h, i + 1)))[:, None]


def determinant(rows: Sequence[Sequence[Tensor]] | Tensor) -> Tensor:
    """Of 3 x 3 matrices whose entries are fields: rows of equally shaped tensors, or [3, 3, ...] -> [...].

    Written out, for that is some times faster than torch.linalg.det or torch.linalg.cross on many small matrices.
    """
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def count_fold_failures(displacement_vox: Tensor) -> FoldCount:
    """How many voxels of a displacement [3, D, H, W] or [1, 3, D, H, W], in voxels, fail: see `fold_failures`."""
    failed = fold_failures(displacement_vox)
    return FoldCount(failed.numel(), DETERMINANTS_PER_VOXEL, int(failed.sum()))


def fold_failures(displacement_vox: Tensor) -> Tensor:
    """The voxels around which a map may fold: where any of ten finite-difference determinants is not positive.

    The eight combinations of forward and backward differences, and J1*, J2*, the two of the differences with the
    neighbors across the edges (-1,-1,0), (-1,0,-1), (0,-1,-1) and (1,1,0), (0,1,1), (1,0,1). If all ten are positive
    at every voxel, the map is one-to-one between voxels too: Liu et al., 2024, doi:10.1007/s11263-024-02047-1. A
    determinant that is no number counts as a failure.

    Every voxel is tested, those of the border too: beyond the grid the displacement goes on as at the border.

    Args:
        displacement_vox: u [3, D, H, W] or [1, 3, D, H, W], voxels.

    Returns:
        [D, H, W], True where the test fails.
    """
    field = displacement_vox.detach()
    if field.ndim == 5:
        field = field.squeeze(0)
    if field.ndim != 4 or field.shape[0] != 3:
        raise ValueError(f"Expected one displacement field [3, D, H, W], found {tuple(displacement_vox.shape)}.")
    depth, height, width = field.shape[1:]
    block_voxels = BLOCK_VOXELS_CUDA if field.is_cuda else BLOCK_VOXELS
    rows = max(1, block_voxels // (BLOCK_PLANES * width))
    failed = torch.empty(depth, height, width, dtype=torch.bool, device=field.device)
    for start in range(0, depth, BLOCK_PLANES):
        planes = torch.arange(start - 1, min(start + BLOCK_PLANES, depth) + 1, device=field.device)
        slab = F.pad(field[:, planes.clamp(0, depth - 1)], (1, 1, 1, 1), mode="replicate")
        for row in range(0, height, rows):
            smallest = _smallest_determinant(slab[:, :, row : row + rows + 2])
            failed[start : start + BLOCK_PLANES, row : row + rows] = ~(smallest > 0)
    return failed


def _smallest_determinant(u: Tensor) -> Tensor:
    """The least of the ten determinants: [d, h, w] for the inner voxels of u: [3, d + 2, h + 2, w + 2]."""
    depth, height, width = (n - 2 for n in u.shape[1:])

    def difference(*step: int) -> Tensor:
        """phi(x + step) - phi(x): [3, d, h, w]."""
        i, j, k = (1 + s for s in step)
        moved = u[:, i : i + depth, j : j + height, k : k + width] - u[:, 1:-1, 1:-1, 1:-1]
        for axis, s in enumerate(step):
            if s:
                moved[axis] += s
        return moved

    along_d = difference(1, 0, 0), difference(-1, 0, 0).neg_()
    along_h = difference(0, 1, 0), difference(0, -1, 0).neg_()
    along_w = difference(0, 0, 1), difference(0, 0, -1).neg_()
    smallest = _triple(difference(-1, -1, 0), _cross(difference(-1, 0, -1), difference(0, -1, -1)))
    determinant = _triple(difference(1, 1, 0), _cross(difference(0, 1, 1), difference(1, 0, 1)))
    smallest = torch.minimum(smallest, determinant, out=smallest)
    for h in along_h:
        for w in along_w:
            cross = _cross(h, w)
            for d in along_d:
                smallest = torch.minimum(smallest, _triple(d, cross), out=smallest)
    return smallest


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of vectors [3, ...]."""
    return torch.stack([(a[i] * b[j]).addcmul_(a[j], b[i], value=-1) for i, j in ((1, 2), (2, 0), (0, 1))])


def _triple(a: Tensor, cross: Tensor) -> Tensor:
    """a . cross, for vectors [3, ...]: [...]."""
    return (a[0] * cross[0]).addcmul_(a[1], cross[1]).addcmul_(a[2], cross[2])
