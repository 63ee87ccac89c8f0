"""Where voxels lie: grids in RAS mm, axis order and direction, RAS and LPS."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Restore = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels in space. Two grids are equal when shape and affine are.

    Attributes:
        shape: (D, H, W), voxels along the axes i, j, k.
        affine: 4x4 float64, voxel indices to RAS mm; kept read-only.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3:
            raise ValueError(f"A grid has 3 axes and a 4x4 affine; found shape {self.shape}, affine {affine.shape}.")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm between neighbors along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def refined(self, factor: int) -> Grid:
        """The grid `factor` times finer whose point i * factor is point i of this one: (n - 1) * factor + 1 points."""
        depth, height, width = ((n - 1) * factor + 1 for n in self.shape)
        affine = self.affine.copy()
        affine[:3, :3] /= factor
        return Grid((depth, height, width), affine)


def _lattice() -> Grid:
    affine = np.diag([5.25, 5.25, 5.25, 1.0])
    affine[:3, 3] = -81.375, -119.0, -77.0
    return Grid((32, 40, 32), affine)


LATTICE = _lattice()
"""The cubic B-spline control points in which every velocity is stated, in reference space."""


def canonical(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, Restore]:
    """Order and direct the voxel axes as near to right, anterior, superior as permuting and flipping allows.

    Nothing is resampled: an oblique image stays oblique. Every voxel keeps its place in space.

    Args:
        array: [I, J, K, ...]; axes after the third are left alone.
        affine: 4x4, voxel indices to RAS mm.

    Returns:
        The array as a view, its affine, and a function that undoes the reordering of any array on the new grid.
    """
    affine = np.asarray(affine, dtype=np.float64)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = max(
        itertools.permutations(range(3)), key=lambda p: sum(abs(directions[axis, p[axis]]) for axis in range(3))
    )
    flipped = tuple(axis for axis in range(3) if directions[axis, order[axis]] < 0)

    reordering = np.zeros((4, 4))  # new voxel indices to old ones
    reordering[3, 3] = 1
    for axis, old_axis in enumerate(order):
        reordering[old_axis, axis] = -1 if axis in flipped else 1
        reordering[old_axis, 3] = array.shape[old_axis] - 1 if axis in flipped else 0

    def reorder(values: np.ndarray) -> np.ndarray:
        return np.flip(values.transpose(*order, *range(3, values.ndim)), flipped)

    def restore(values: np.ndarray) -> np.ndarray:
        return np.flip(values, flipped).transpose(*np.argsort(order), *range(3, values.ndim))

    return reorder(array), affine @ reordering, restore


def voxel_to_voxel(from_grid: Grid, to_grid: Grid) -> np.ndarray:
    """4x4 matrix from voxel indices of one grid to the voxel indices of the same places in the other."""
    return np.linalg.solve(to_grid.affine, from_grid.affine)


_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_to_lps(affine: np.ndarray) -> np.ndarray:
    """The affine of an image, voxel indices to LPS mm instead of RAS mm."""
    return _RAS_LPS @ affine


def affine_from_lps(affine_lps: np.ndarray) -> np.ndarray:
    """The affine of an image, voxel indices to RAS mm instead of LPS mm."""
    return _RAS_LPS @ affine_lps


def transform_to_lps(transform: np.ndarray) -> np.ndarray:
    """A 4x4 map from space to space, stated in LPS mm instead of RAS mm."""
    return _RAS_LPS @ transform @ _RAS_LPS


def transform_from_lps(transform_lps: np.ndarray) -> np.ndarray:
    """A 4x4 map from space to space, stated in RAS mm instead of LPS mm."""
    return _RAS_LPS @ transform_lps @ _RAS_LPS
