"""The last millimeters of a pose: Gauss-Newton steps on the locally normalized difference, which is blind to shading.

Mutual information is not: a coil that shines on the forehead moves a T1-weighted head of 4 mm slices by centimeters
against another scan of the same person, and this back to within a fifth of a millimeter (measured with IXI015).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.similarity import local_difference
from neuro4d_lib.geometry.spaces import Grid

# Steps end when the residual falls by less than this part of it.
SMALLEST_GAIN = 1e-4
# Places are measured in this unit, about the radius of a brain, so that turns and shifts count alike.
_RADIUS_MM = 50.0


class PoseRefinement:
    """A fixed image at one resolution, to which others are fitted. A pose maps fixed RAS mm to moving RAS mm."""

    def __init__(self, fixed: WorkingVolume, mask: WorkingVolume, grid: Grid, window_mm: float) -> None:
        """Bring the image to the resolution.

        Args:
            mask: 1 inside the brain.
            grid: isotropic, in the space of `fixed`.
            window_mm: standard deviation of the window of the local normalization.
        """
        self.grid, self.voxel_mm = grid, grid.spacing_mm[0]
        self.window_vox = window_mm / self.voxel_mm
        self.mask = mask.on(grid)
        self.fixed = _standardized(fixed.on(grid), self.mask)
        self.inside = self.mask[0, 0] > 0.5
        places_mm = self.inside.nonzero().double().numpy() @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        self.center_mm = places_mm.mean(axis=0)
        self.places = torch.from_numpy((places_mm - self.center_mm) / _RADIUS_MM)

    def refined(
        self, moving: WorkingVolume, pose: np.ndarray, steps: int, rigid: bool = False
    ) -> tuple[np.ndarray, float]:
        """A better pose, 4x4, and the mean squared difference there.

        Args:
            rigid: turn and shift only; `pose` has to be rigid too.
        """
        ready = moving.reduced(0.75 * self.voxel_mm)
        best, least = pose, np.inf
        for step in range(steps + 1):
            warped = resample(ready.values, Grid(ready.grid.shape, np.linalg.inv(pose) @ ready.grid.affine), self.grid)
            pair = torch.cat([self.fixed, _standardized(warped, self.mask)])
            from_mean, slope = local_difference(pair, self.mask, self.window_vox)
            residual = from_mean[1:] - from_mean[:1]
            energy = float((self.mask * residual.square()).sum() / self.mask.sum())
            if energy >= least:
                break
            gain, best, least = 1 - energy / least, pose, energy
            if gain < SMALLEST_GAIN or step == steps:
                break
            pose = pose @ self._step(residual[0, 0][self.inside].double(), slope[0][:, self.inside].T.double(), rigid)
        return best, least

    def _step(self, residual: Tensor, slope: Tensor, rigid: bool) -> np.ndarray:
        """The 4x4 motion in fixed space that undoes the residual [N], nearly; slope [N, 3] per voxel along the axes."""
        directions = torch.from_numpy(self.grid.affine[:3, :3] / self.voxel_mm)
        slope = slope @ directions.T / self.voxel_mm
        if rigid:
            turns = torch.linalg.cross(self.places, slope, dim=1)
        else:
            turns = (slope[:, :, None] * self.places[:, None]).flatten(1)
        columns = torch.cat([turns, slope], dim=1)
        curvature = columns.T @ columns
        curvature += 1e-6 * curvature.diagonal().mean() * torch.eye(len(curvature), dtype=curvature.dtype)
        numbers = torch.linalg.solve(curvature, columns.T @ residual)
        turn, shift_mm = numbers[:-3] / _RADIUS_MM, numbers[-3:].numpy()
        if rigid:
            x, y, z = turn.tolist()
            matrix = torch.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=turn.dtype)).numpy()
        else:
            matrix = np.eye(3) + turn.reshape(3, 3).numpy()
        motion = np.eye(4)
        motion[:3, :3] = matrix
        motion[:3, 3] = self.center_mm + shift_mm - matrix @ self.center_mm
        return motion


def _standardized(image: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 inside the mask."""
    mean = (image * mask).sum() / mask.sum()
    variance = ((image - mean).square() * mask).sum() / mask.sum()
    return (image - mean) / variance.sqrt().clamp_min(1e-12)
