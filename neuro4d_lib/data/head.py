"""A simple head around the reference brain, so that scans that were not stripped of their skull can be simulated."""

from __future__ import annotations

import numpy as np

from neuro4d_lib.data.reference import Reference
from neuro4d_lib.geometry.spaces import Grid

# (outer distance from the brain in mm, signal relative to white matter): fluid, inner table, marrow, outer table, fat.
_SHELLS = ((1.5, 0.25), (4.0, 0.08), (6.5, 0.45), (8.5, 0.08), (13.0, 0.85), (14.5, 0.5))
_MARGIN_MM = 18


def with_head(reference: Reference) -> Reference:
    """The same brain, labels and all, within skull and scalp; the grid grows."""
    from scipy import ndimage

    voxels = [round(_MARGIN_MM / spacing) for spacing in reference.grid.spacing_mm]
    padding = [(n, n) for n in voxels]
    labels = np.pad(reference.labels, padding)
    image = np.pad(reference.image, padding)
    closed = ndimage.gaussian_filter((labels > 0).astype(np.float32), 4 / np.array(reference.grid.spacing_mm)) > 0.4
    distance_mm = ndimage.distance_transform_edt(~(closed | (labels > 0)), sampling=reference.grid.spacing_mm)
    outer, signals = np.array(_SHELLS).T
    shells = np.append(signals, 0).astype(np.float32)[np.searchsorted(outer, distance_mm)]
    shells = ndimage.gaussian_filter(shells, 0.6)
    affine = reference.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ voxels
    depth, height, width = labels.shape
    return Reference(np.where(labels > 0, image, shells), labels, Grid((depth, height, width), affine))
