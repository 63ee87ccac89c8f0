"""From the reference to a scan: region labels, and how large each place is compared with the reference."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.flow_volumes import FINE, flow_vox, on_fine, volume_ratio
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.geometry.grids import sample
from neuro4d_lib.geometry.spaces import Grid, voxel_to_voxel

_SLAB_VOXELS = 500_000
_LEAST_RATIO = 0.05


def carried_labels(reference: Reference, grid: Grid, affine: np.ndarray, psi_mm: Tensor) -> np.ndarray:
    """The reference's regions on the voxels of a scan: [D, H, W] uint8, `Region.index`, 0 outside the brain.

    Args:
        grid: of the scan.
        affine: 4x4, RAS mm of the scan to RAS mm of aligned space.
        psi_mm: control points of w in psi = exp(w) [3, 32, 40, 32], mm.
    """
    bent_vox = on_fine(flow_vox(psi_mm))
    into_fine = torch.from_numpy(voxel_to_voxel(Grid(grid.shape, affine @ grid.affine), FINE)).float()
    into_reference = torch.from_numpy(voxel_to_voxel(FINE, reference.grid)).float()
    regions = torch.from_numpy(reference.labels)[None, None].float()
    labels = np.empty(grid.shape, np.uint8)
    depth, height, width = (torch.arange(n, dtype=torch.float32) for n in grid.shape)
    planes = max(1, _SLAB_VOXELS // (len(height) * len(width)))
    for start in range(0, grid.shape[0], planes):
        slab = slice(start, start + planes)
        voxels = torch.stack(torch.meshgrid(depth[slab], height, width, indexing="ij"))
        places = _mapped(into_fine, voxels)[None]
        places = places + sample(bent_vox, places)
        places = _mapped(into_reference, places[0])[None]
        labels[slab] = sample(regions, places, "nearest", padding="zeros")[0, 0].byte()
    return labels


def log_volume(psi_mm: Tensor) -> Tensor:
    """Log of this brain's volume per reference volume, head size aside, around every point of the lattice.

    Args:
        psi_mm: control points of w in psi = exp(w), from aligned to reference space [3, 32, 40, 32], mm.

    Returns:
        [1, 32, 40, 32], reference space: log det D exp(-w), mean over one lattice cell.
    """
    return mean_log_ratio(flow_vox(-psi_mm))


def mean_log_ratio(displacement_vox: Tensor) -> Tensor:
    """Log of the volume ratio of a map on REFINED, in its voxels, mean over one lattice cell: [1, 32, 40, 32]."""
    ratio = volume_ratio(displacement_vox)
    return F.avg_pool3d(ratio.clamp_min(_LEAST_RATIO).log(), 5, 4, 2, count_include_pad=False)[0]


def _mapped(matrix: Tensor, places: Tensor) -> Tensor:
    """An affine map of [3, D, H, W]."""
    return torch.einsum("ij,jdhw->idhw", matrix[:3, :3], places) + matrix[:3, 3].view(3, 1, 1, 1)
