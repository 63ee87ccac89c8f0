"""Where all scans of a person lie in one space that belongs to none of them.

A scan has an affine map to the reference that was found for it alone. Its turn and shift are the scan's own; its stretch is
that of the head, which stays the same: the mean stretch of all scans is taken, so that no change of size is lost in the
affine maps, and turns and shifts are refined against the mean image of all scans, whose own place is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.pose_refinement import PoseRefinement
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.geometry.spaces import LATTICE, Grid

FINE, REFINED = LATTICE.refined(4), LATTICE.refined(2)
ROUNDS, STEPS, WINDOW_MM = 2, 12, 9.0


@dataclass(frozen=True, eq=False)
class CommonSpace:
    """The person's own space, which is aligned space without its stretch.

    Attributes:
        stretch: 4x4, RAS mm of the person's own space to RAS mm of aligned space.
        poses: for every scan a rigid 4x4, RAS mm of the scan to RAS mm of the person's own space.
    """

    stretch: np.ndarray
    poses: tuple[np.ndarray, ...]

    @staticmethod
    def of(affines: Sequence[np.ndarray], center_mm: np.ndarray) -> CommonSpace:
        """From the affine maps of all scans.

        Args:
            affines: 4x4 each, RAS mm of the scan to RAS mm of aligned space.
            center_mm: [3], the middle of the brain in aligned space, which the stretch leaves in place.
        """
        turns, logs = [], []
        for affine in affines:
            left, lengths, right = np.linalg.svd(affine[:3, :3])  # affine = (left lengths left.T) (left right)
            turns.append(left @ right)
            logs.append(left @ np.diag(np.log(lengths)) @ left.T)
        values, vectors = np.linalg.eigh(np.mean(logs, axis=0))
        matrix = vectors @ np.diag(np.exp(values)) @ vectors.T
        poses = []
        for affine, turn in zip(affines, turns, strict=True):
            in_scan_mm = np.linalg.solve(affine, [*center_mm, 1])[:3]
            poses.append(_around(turn, in_scan_mm, center_mm))
        return CommonSpace(_around(matrix, center_mm, center_mm), tuple(poses))

    def placed(self, volumes: Sequence[WorkingVolume]) -> list[WorkingVolume]:
        """All scans in aligned space."""
        return [volume.placed(self.stretch @ pose) for volume, pose in zip(volumes, self.poses, strict=True)]

    def refined(self, volumes: Sequence[WorkingVolume], brain: Tensor, center_mm: np.ndarray) -> CommonSpace:
        """Turns and shifts fitted to the mean image.

        Args:
            brain: [1, 1, 63, 79, 63], weights from 0 to 1 in aligned space.
        """
        space = self
        own = Grid(REFINED.shape, np.linalg.inv(self.stretch) @ REFINED.affine)
        mask = WorkingVolume(brain, own)
        for _ in range(ROUNDS):
            mean = torch.stack([image.on(FINE) for image in space.placed(volumes)]).mean(dim=0)
            fixed = WorkingVolume(mean, Grid(FINE.shape, np.linalg.inv(self.stretch) @ FINE.affine))
            fit = PoseRefinement(fixed, mask, REFINED, WINDOW_MM)
            found = [
                np.linalg.inv(fit.refined(volume, np.linalg.inv(pose), STEPS, rigid=True)[0])
                for volume, pose in zip(volumes, space.poses, strict=True)
            ]
            moves = [new @ np.linalg.inv(old) for new, old in zip(found, space.poses, strict=True)]
            back = np.linalg.inv(_mean_move(moves, center_mm))
            space = replace(space, poses=tuple(back @ pose for pose in found))
        return space


def _mean_move(moves: Sequence[np.ndarray], center_mm: np.ndarray) -> np.ndarray:
    """The rigid map nearest to the mean of some small rigid maps."""
    mean = np.mean(moves, axis=0)
    left, _, right = np.linalg.svd(mean[:3, :3])
    return _around(left @ right, center_mm, mean[:3, :3] @ center_mm + mean[:3, 3])


def _around(matrix: np.ndarray, from_mm: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
    """4x4 with the linear part `matrix` that takes one place to another."""
    made = np.eye(4)
    made[:3, :3] = matrix
    made[:3, 3] = to_mm - matrix @ from_mm
    return made
