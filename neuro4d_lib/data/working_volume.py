"""An image made ready for computing: axes nearest to R, A, S; float32 from 0 to 1; voxels no smaller than needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.records import Image
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import Grid, canonical

# Darker than this part of the range is background, for the purpose of finding the range of the rest.
_BACKGROUND, _FOREGROUND = 0.02, 0.1
# Brighter than this multiple of the upper quartile of a head or brain is hardly brain.
_WHITE = 1.5


@dataclass(frozen=True, eq=False)
class WorkingVolume:
    """Values with their place in space.

    Attributes:
        values: [1, 1, D, H, W] float32.
        grid: RAS mm, axes nearest to R, A, S.
    """

    values: Tensor
    grid: Grid

    @staticmethod
    def of(image: Image, voxel_mm: float = 1.0) -> WorkingVolume:
        """The image with voxels of about `voxel_mm` where it has smaller ones; 0 is dark, 1 as bright as white matter.

        More or less so, and not far brighter: a bright scalp must not leave the brain a tenth of the range.
        """
        stored, affine, _ = canonical(image.array, image.affine)
        factors = _factors(affine, voxel_mm)
        array = np.array(stored, dtype=np.float32, order="C")
        array *= image.slope
        array += image.inter
        volume = WorkingVolume(torch.from_numpy(array)[None, None], _grid(array.shape, affine)).thinned(factors)
        values = volume.values.numpy()
        few = values[..., ::2, ::2, ::2] if values.size > 4e6 else values
        low, peak = np.percentile(few, (1, 99.9))
        high = np.percentile(few[few > low + _BACKGROUND * (peak - low)], 99) if peak > low else low + 1
        typical = np.percentile(few[few > low + _FOREGROUND * (high - low)], 75) if peak > low else high
        high = min(high, low + _WHITE * (typical - low))
        np.clip((values - low) / max(high - low, 1e-30), 0, 1, out=values)
        return volume

    def reduced(self, voxel_mm: float) -> WorkingVolume:
        """Means over blocks of whole voxels, of about `voxel_mm`."""
        return self.thinned(_factors(self.grid.affine, voxel_mm))

    def thinned(self, factors: tuple[int, int, int]) -> WorkingVolume:
        """Means over blocks of so many voxels along D, H, W; the last block repeats the border."""
        if factors == (1, 1, 1):
            return self
        values = self.values
        depth, height, width = (-n % factor for n, factor in zip(values.shape[2:], factors, strict=True))
        if depth or height or width:
            values = F.pad(values, (0, width, 0, height, 0, depth), mode="replicate")
        values = F.avg_pool3d(values, factors)
        affine = self.grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (np.array(factors) - 1) / 2
        affine[:3, :3] *= factors
        return WorkingVolume(values, _grid(values.shape[2:], affine))

    def placed(self, transform: np.ndarray) -> WorkingVolume:
        """The same voxels, moved in space by a 4x4 map, RAS mm to RAS mm."""
        return WorkingVolume(self.values, Grid(self.grid.shape, transform @ self.grid.affine))

    def on(self, grid: Grid) -> Tensor:
        """[1, 1, D, H, W] on another grid; averaged over small blocks first where that is coarser; zero outside."""
        ready = self.reduced(0.75 * min(grid.spacing_mm))
        return resample(ready.values, ready.grid, grid)


def _factors(affine: np.ndarray, voxel_mm: float) -> tuple[int, int, int]:
    i, j, k = (max(1, round(voxel_mm / size)) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return i, j, k


def _grid(shape: tuple[int, ...], affine: np.ndarray) -> Grid:
    depth, height, width = shape
    return Grid((depth, height, width), affine)
