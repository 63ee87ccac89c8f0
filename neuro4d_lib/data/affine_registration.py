"""Scan to reference by an affine map, two scans of one person by a rigid one. Two runs give the same numbers."""

from __future__ import annotations

import numpy as np

from neuro4d_lib.data.flow_volumes import REFINED
from neuro4d_lib.data.mutual_information import MutualInformation
from neuro4d_lib.data.pose_refinement import PoseRefinement
from neuro4d_lib.data.pose_search import PoseSearch
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.geometry.spaces import LATTICE, Grid

STARTS = 3
START_STEPS, DESCENT_STEPS = 40, 60
COARSE_STEPS, FINE_STEPS = 25, 12
COARSE_WINDOW_MM, FINE_WINDOW_MM = 12.0, 9.0


def affine_pose(
    scan: WorkingVolume, reference: WorkingVolume, mask: WorkingVolume, turn: np.ndarray | None = None
) -> np.ndarray:
    """The 4x4 affine map, reference RAS mm to scan RAS mm, under which the two agree best.

    Args:
        mask: on the reference's grid, 1 inside the brain.
        turn: 3x3, a quarter turn or several that the reference undergoes before the search.
    """
    search = PoseSearch(scan, reference, mask)
    center_mm = search.center_mm.double().numpy()
    information = MutualInformation(scan, reference, mask)
    starts = search.best(STARTS, turn)
    fits = [information.improved(pose, center_mm, START_STEPS, 2.0) for pose in starts]
    descended, _ = information.improved(min(fits, key=lambda fit: fit[1])[0], center_mm, DESCENT_STEPS, 1.0)
    return _refined(scan, reference, mask, [descended, starts[0]], np.eye(4))


def rigid_pose(moving: WorkingVolume, fixed: WorkingVolume, mask: WorkingVolume) -> np.ndarray:
    """The 4x4 rigid map between two scans of one head, fixed RAS mm to moving RAS mm.

    Rigid, because an affine map between two visits would take up the shrinking that is to be measured.

    Args:
        mask: on the grid of `fixed`, 1 inside the brain.
    """
    search = PoseSearch(moving, fixed, mask)
    center_mm = search.center_mm.double().numpy()
    starts = [np.eye(4), *(_nearest_rigid(pose, center_mm) for pose in search.best(STARTS))]
    return _refined(moving, fixed, mask, starts, _box_around(center_mm), rigid=True)


def _refined(
    moving: WorkingVolume,
    fixed: WorkingVolume,
    mask: WorkingVolume,
    starts: list[np.ndarray],
    box: np.ndarray,
    rigid: bool = False,
) -> np.ndarray:
    """The best of some starts, refined. `box` 4x4 says where in the space of `fixed` the lattice is laid, RAS mm."""
    lattice, refined = (Grid(grid.shape, box @ grid.affine) for grid in (LATTICE, REFINED))
    coarse = PoseRefinement(fixed, mask, lattice, COARSE_WINDOW_MM)
    fits = [coarse.refined(moving, pose, COARSE_STEPS, rigid) for pose in starts]
    pose, _ = min(fits, key=lambda fit: fit[1])
    return PoseRefinement(fixed, mask, refined, FINE_WINDOW_MM).refined(moving, pose, FINE_STEPS, rigid)[0]


def _box_around(center_mm: np.ndarray) -> np.ndarray:
    """4x4 shift that brings the middle of the lattice to a place."""
    shift = np.eye(4)
    shift[:3, 3] = center_mm - (LATTICE.affine @ [*((n - 1) / 2 for n in LATTICE.shape), 1])[:3]
    return shift


def _nearest_rigid(pose: np.ndarray, center_mm: np.ndarray) -> np.ndarray:
    """The pose without stretching, which takes the center to the same place."""
    left, _, right = np.linalg.svd(pose[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    rigid[:3, 3] = pose[:3, :3] @ center_mm + pose[:3, 3] - rigid[:3, :3] @ center_mm
    return rigid
