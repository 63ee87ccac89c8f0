"""A drawn motion on the scan's own voxels: from the lattice to displacements, warped images, volume change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.flow_volumes import FINE, REFINED, volume_ratio
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import exponentiate, transport
from neuro4d_lib.geometry.grids import sample
from neuro4d_lib.geometry.spaces import Grid, voxel_to_voxel

SLAB_VOXELS = 500_000


@dataclass(frozen=True)
class Flow:
    """One motion over some years, in aligned space.

    Attributes:
        pull_mm: displacement of the pull map exp(-years v): [1, 3, 125, 157, 125] on FINE, mm.
        volume_ratio: volume after the years per volume now, det D exp(+years v): [1, 1, 125, 157, 125] on FINE.
    """

    pull_mm: Tensor
    volume_ratio: Tensor


def carried_to_aligned(velocity_mm: Tensor, psi_vox: Tensor) -> Tensor:
    """Velocities of the model, in reference space, as they move this person's tissue.

    Args:
        velocity_mm: control points [T, 3, 32, 40, 32], mm per year, reference space.
        psi_vox: displacement of psi on REFINED [1, 3, 63, 79, 63], voxels of REFINED.

    Returns:
        [T, 3, 63, 79, 63] on REFINED in aligned space, mm per year; zero at the border, so that nothing leaves the box.
    """
    carried = transport(bspline.refine(velocity_mm, 2), psi_vox)
    for axis, points in enumerate(carried.shape[2:], start=2):
        to_border = torch.arange(points, device=carried.device, dtype=carried.dtype)
        fade = (torch.minimum(to_border, to_border.flip(0)) / 2).clamp(max=1)
        carried = carried * fade.view([-1 if a == axis else 1 for a in range(carried.ndim)])
    return carried


def flow(velocity_mm: Tensor, years: float) -> Flow:
    """Follow a velocity in aligned space, [3, 63, 79, 63] on REFINED in mm per year, for some years."""
    distance_vox = years / REFINED.spacing_mm[0] * velocity_mm[None]
    pull_vox = bspline.refine(bspline.fit(exponentiate(-distance_vox)), 2)
    return Flow(pull_vox * REFINED.spacing_mm[0], volume_ratio(exponentiate(distance_vox)))


def to_lattice(grid: Grid, scan_to_aligned: np.ndarray) -> np.ndarray:
    """4x4 from the voxels of a grid in scan space to the voxels of FINE; `scan_to_aligned` is 4x4, RAS mm to RAS mm."""
    return voxel_to_voxel(Grid(grid.shape, scan_to_aligned @ grid.affine), FINE)


def displacement_on(grid: Grid, scan_to_aligned: np.ndarray, pull_mm: Tensor) -> Tensor:
    """The pull map on the voxels of a grid in scan space: [1, 3, D, H, W], voxels of that grid."""
    into_voxels = np.linalg.inv((scan_to_aligned @ grid.affine)[:3, :3])
    rotation = torch.as_tensor(into_voxels, dtype=pull_mm.dtype, device=pull_mm.device)
    out = pull_mm.new_empty(1, 3, *grid.shape)
    for slab, places in _lattice_places(grid, scan_to_aligned, pull_mm):
        out[0, :, slab] = torch.einsum("ij,jdhw->idhw", rotation, sample(pull_mm, places)[0])
    return out


def values_on(grid: Grid, scan_to_aligned: np.ndarray, lattice_values: Tensor) -> Tensor:
    """Values on FINE, [1, C, 125, 157, 125], read at the voxels of a grid in scan space: [1, C, D, H, W]."""
    out = lattice_values.new_empty(1, lattice_values.shape[1], *grid.shape)
    for slab, places in _lattice_places(grid, scan_to_aligned, lattice_values):
        out[:, :, slab] = sample(lattice_values, places)
    return out


def displacement_ras_mm(grid: Grid, displacement_vox: Tensor) -> Tensor:
    """A displacement in voxels of a grid, [1, 3, D, H, W], as RAS mm: components R, A, S."""
    matrix = torch.tensor(grid.affine[:3, :3], dtype=displacement_vox.dtype, device=displacement_vox.device)
    return torch.einsum("ij,bjdhw->bidhw", matrix, displacement_vox)


def _lattice_places(grid: Grid, scan_to_aligned: np.ndarray, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The places of a grid's voxels in voxels of FINE, slab by slab: (slice of D, [1, 3, slab, H, W])."""
    matrix = torch.as_tensor(to_lattice(grid, scan_to_aligned), dtype=like.dtype, device=like.device)
    along_d, along_h, along_w, origin = matrix[:3, :, None, None, None].unbind(dim=1)
    depth, height, width = (torch.arange(n, device=like.device, dtype=like.dtype) for n in grid.shape)
    plane = origin + along_h * height[:, None] + along_w * width
    for slab in slabs(grid.shape):
        yield slab, (plane + along_d * depth[slab, None, None])[None]


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Consecutive pieces of the first of three axes, so small that working on one needs little memory."""
    step = max(2, SLAB_VOXELS // math.prod(shape[1:]) // 2 * 2)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))
