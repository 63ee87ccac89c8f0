"""A drawn motion on the scan's own voxels: from the lattice to displacements, warped images, volume change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.flow_volumes import volume_ratio
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import transport
from neuro4d_lib.geometry.grids import identity, sample
from neuro4d_lib.geometry.spaces import LATTICE, Grid, voxel_to_voxel

_ROOM = 2  # cells around the lattice, over which a spline ends by itself: smoothly, with slope and curvature zero


def _roomy_lattice() -> Grid:
    depth, height, width = (n + 2 * _ROOM for n in LATTICE.shape)
    affine = LATTICE.affine.copy()
    affine[:3, 3] -= _ROOM * LATTICE.affine[:3, :3].sum(axis=1)
    return Grid((depth, height, width), affine)


REFINED = _roomy_lattice().refined(2)
"""Where velocities are integrated: 2.625 mm."""

FINE = REFINED.refined(2)
"""Where the result is kept: 1.3125 mm, so fine that reading it linearly costs no accuracy."""

_STEP_MM = 1.0
"""Longest step of a path."""

_SLOW_VOX = 0.005
"""Below this a motion is taken in one step: off by its square at most."""

SLAB_VOXELS = 500_000


@dataclass(frozen=True)
class Flow:
    """One motion over some years, in aligned space.

    Attributes:
        pull_mm: displacement of the pull map exp(-years v): [1, 3, 141, 173, 141] on FINE, mm.
        volume_ratio: volume after the years per volume now, det D exp(+years v): [1, 1, 141, 173, 141] on FINE.
    """

    pull_mm: Tensor
    volume_ratio: Tensor


def psi_displacement(psi_mm: Tensor) -> Tensor:
    """The map psi = exp(w) from aligned to reference space.

    Args:
        psi_mm: control points of w [3, 32, 40, 32], mm.

    Returns:
        Displacement on REFINED [1, 3, 71, 87, 71], voxels of REFINED.
    """
    return along_paths(bspline.refine(_with_room(psi_mm)[None], 4) / REFINED.spacing_mm[0])


def carried_to_aligned(velocity_mm: Tensor, psi_vox: Tensor) -> Tensor:
    """Velocities of the model, in reference space, as they move this person's tissue.

    Args:
        velocity_mm: control points [T, 3, 32, 40, 32], mm per year, reference space.
        psi_vox: displacement of psi on REFINED [1, 3, 71, 87, 71], voxels of REFINED.

    Returns:
        [T, 3, 71, 87, 71] on REFINED in aligned space, mm per year; zero at the border, so that nothing leaves the box.
    """
    return transport(bspline.refine(_with_room(velocity_mm), 2), psi_vox)


def flow(velocity_mm: Tensor, years: float) -> Flow:
    """Follow a velocity in aligned space, [3, 71, 87, 71] on REFINED in mm per year, for some years."""
    on_fine = bspline.refine(bspline.fit(years / REFINED.spacing_mm[0] * velocity_mm[None]), 2)
    pull_vox = bspline.refine(bspline.fit(along_paths(-on_fine)), 2)
    return Flow(pull_vox * REFINED.spacing_mm[0], volume_ratio(along_paths(on_fine)))


def along_paths(velocity_vox: Tensor) -> Tensor:
    """The displacement of exp(v) on REFINED [1, 3, 71, 87, 71], in its voxels.

    Every point is followed along its own path in midpoint steps, as in `data.flow_volumes.flow_vox`, which says why
    scaling and squaring is not exact enough here.

    Args:
        velocity_vox: v on FINE [1, 3, 141, 173, 141], in voxels of REFINED.
    """
    fastest_mm = float(velocity_vox.square().sum(dim=1).max().sqrt()) * REFINED.spacing_mm[0]
    steps = max(2, math.ceil(fastest_mm / _STEP_MM))
    displacement_vox = velocity_vox[:, :, ::2, ::2, ::2].clone()
    moving = displacement_vox[0].square().sum(dim=0) > _SLOW_VOX**2  # for the others one step is exact enough
    start = identity(REFINED.shape, velocity_vox.device, velocity_vox.dtype)[0, :, moving][None, :, :, None, None]
    place = start.clone()
    for _ in range(steps):
        halfway = place + sample(velocity_vox, 2 * place) / (2 * steps)
        place = place + sample(velocity_vox, 2 * halfway) / steps
    displacement_vox[0, :, moving] = (place - start)[0, :, :, 0, 0]
    return displacement_vox


def _with_room(control: Tensor) -> Tensor:
    """The same spline on the lattice with room around it: [..., 32, 40, 32] -> [..., 36, 44, 36]."""
    return F.pad(control, (_ROOM,) * 6)


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
    """Values on FINE, [1, C, 141, 173, 141], read at the voxels of a grid in scan space: [1, C, D, H, W]."""
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
