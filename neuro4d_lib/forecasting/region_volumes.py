"""Volumes of regions through the years, without making a single image of the future."""

from __future__ import annotations

import numpy as np

from neuro4d_lib.data.regions import AGGREGATES, REGIONS
from neuro4d_lib.forecasting.native_grid import FINE, to_lattice
from neuro4d_lib.geometry.spaces import Grid

NAMES = tuple(region.name for region in REGIONS) + tuple(AGGREGATES)
"""The order in which volumes are reported: every region, then the sums of regions."""


class RegionVolumes:
    """Integrates a volume ratio that is known on the lattice over regions that are known on the scan's voxels.

    Reading the ratio at every voxel and summing over a region is linear in the lattice values. Its weights are gathered
    once; then a future costs one product, and its volume is the integral of the delivered map by construction.

    Attributes:
        baseline_mm3: [len(NAMES)], volumes at the scan.
    """

    def __init__(self, labels: np.ndarray, grid: Grid, scan_to_aligned: np.ndarray) -> None:
        """Gather the weights.

        Args:
            labels: [D, H, W] on `grid`, the scan's own: `Region.index`, 0 elsewhere.
            scan_to_aligned: 4x4, RAS mm to RAS mm.
        """
        voxel_mm3 = abs(np.linalg.det(grid.affine[:3, :3]))
        order = np.argsort(labels, axis=None, kind="stable")
        ends = np.cumsum(np.bincount(labels.reshape(-1), minlength=len(REGIONS) + 1))
        matrix = to_lattice(grid, scan_to_aligned)
        self._points: list[np.ndarray] = []
        self._weights_mm3: list[np.ndarray] = []
        for region in REGIONS:
            voxels = np.stack(np.unravel_index(order[ends[region.index - 1] : ends[region.index]], grid.shape))
            points, weights = _linear_weights(matrix[:3, :3] @ voxels + matrix[:3, 3:], FINE.shape)
            self._points.append(points)
            self._weights_mm3.append(weights * voxel_mm3)
        self.baseline_mm3 = _with_sums(np.array([weights.sum() for weights in self._weights_mm3]))

    def of(self, volume_ratio: np.ndarray) -> np.ndarray:
        """Volumes in mm3, [len(NAMES)], where every place has grown by `volume_ratio`: [141, 173, 141] on FINE."""
        flat = volume_ratio.reshape(-1)
        pairs = zip(self._points, self._weights_mm3, strict=True)
        return _with_sums(np.array([flat[points].astype(np.float64) @ weights for points, weights in pairs]))


def _linear_weights(places: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The grid points that linear interpolation at all the places [3, N] reads, as flat indices, and their weights.

    Places outside read the border.
    """
    last = np.array(shape)[:, None] - 1
    places = np.clip(places, 0, last)
    cell = np.minimum(places.astype(np.int64), last - 1)
    if not cell.size:
        return np.empty(0, np.int64), np.empty(0)
    inside = places - cell
    corner_of_box = cell.min(axis=1, keepdims=True)
    box = tuple(int(n) for n in np.ptp(cell, axis=1) + 2)
    weights = np.zeros(int(np.prod(box)))
    for corner in np.ndindex(2, 2, 2):
        step = np.array(corner)[:, None]
        share = np.where(step == 1, inside, 1 - inside).prod(axis=0)
        points = np.ravel_multi_index(tuple(cell - corner_of_box + step), box)
        weights += np.bincount(points, share, minlength=len(weights))
    used = np.flatnonzero(weights)
    return np.ravel_multi_index(tuple(np.unravel_index(used, box) + corner_of_box), shape), weights[used]


def _with_sums(volumes_mm3: np.ndarray) -> np.ndarray:
    of_name = dict(zip(NAMES, volumes_mm3, strict=False))
    return np.append(volumes_mm3, [sum(of_name[member] for member in members) for members in AGGREGATES.values()])
