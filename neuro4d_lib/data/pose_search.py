"""Where in a scan is the brain? Every place and a few tilts are tried at low resolution, the best of them improved.

A pose is a 4x4 map from reference RAS mm to scan RAS mm. Poses are scored by normalized mutual information (Studholme
et al., 1999, doi:10.1016/S0031-3203(98)00091-0) of the reference's brain voxels with what they meet in the scan. A scan
that shows neck and shoulders, or half a brain, has its center of mass anywhere, so all places are tried.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.working_volume import WorkingVolume

POINT_MM = 8.0
STEP_MM = 14.0
TILTS_DEGREES = (-25.0, 0.0, 25.0)
# The average of 152 brains is larger than most brains.
USUAL_SIZE = 0.93
# Least distances in mm of the brain's center from the border of the head along R, A and S.
BORDER_MM = (50.0, 65.0, 45.0)
CLIMBERS = 24
# First steps of a climb: center in mm, turns about R, A, S in radians, logarithm of the size; shrinking every round.
FIRST_STEPS = (7.0, 7.0, 7.0, 0.2, 0.15, 0.15, 0.08)
ROUNDS = 8
STEP_SHRINKAGE = 0.75
BINS = 16
FOREGROUND = 0.15
_BATCH = 256


class PoseSearch:
    """A scan and the reference at low resolution.

    Attributes:
        center_mm: [3], the middle of the reference's brain, RAS mm.
    """

    def __init__(self, scan: WorkingVolume, reference: WorkingVolume, mask: WorkingVolume) -> None:
        """Take the brain's voxels as points.

        Args:
            scan, reference: from 0 to 1.
            mask: on the reference's grid, 1 inside the brain.
        """
        coarse, inside = reference.reduced(POINT_MM), mask.reduced(POINT_MM)
        brain = inside.values[0, 0] > 0.5
        self.points_mm = _places(brain, coarse.grid.affine)
        self.center_mm = self.points_mm.mean(dim=0)
        values = coarse.values[0, 0][brain]
        self.levels = (values / torch.quantile(values, 0.98) * (BINS - 1)).clamp(0, BINS - 1).round().long()
        self.scan = scan.reduced(0.75 * POINT_MM)
        foreground_mm = _places(self.scan.values[0, 0] > FOREGROUND, self.scan.grid.affine).numpy()
        if not len(foreground_mm):
            foreground_mm = _places(self.scan.values[0, 0] >= 0, self.scan.grid.affine).numpy()
        self.low_mm, self.high_mm = np.percentile(foreground_mm, (0.5, 99.5), axis=0)

    def best(self, count: int, turn: np.ndarray | None = None) -> list[np.ndarray]:
        """The `count` best poses, 4x4 each, best first.

        Args:
            turn: 3x3 rotation that the reference undergoes first, for headers that name the axes wrongly.
        """
        turned = _tensor(np.eye(3) if turn is None else turn)
        numbers = self._candidates()
        scores = self._scores(self._poses(numbers, turned))
        chosen = scores.argsort(descending=True, stable=True)[:CLIMBERS]
        numbers, scores = self._climbed(numbers[chosen], scores[chosen], turned)
        order = scores.argsort(descending=True, stable=True)[:count]
        return list(self._poses(numbers[order], turned).double().numpy())

    def likeliest_turn(self, turns: list[np.ndarray]) -> np.ndarray:
        """Which of some rotations [3, 3] of the reference finds the brain; on all scans at hand, the right one."""
        return max(turns, key=lambda turn: self._scores(self._poses(self._candidates(), _tensor(turn))).max())

    def _candidates(self) -> Tensor:
        """[N, 7], center in mm, turns about R, A and S, logarithm of the size: a grid in the head, at every tilt."""
        lines = []
        for low, high, border in zip(self.low_mm, self.high_mm, BORDER_MM, strict=True):
            first, last = low + border, high - border
            if first > last:
                first = last = (low + high) / 2
            lines.append(np.linspace(first, last, 1 + int(np.ceil((last - first) / STEP_MM))))
        tilts = np.radians(TILTS_DEGREES)
        grid = itertools.product(*lines, tilts, (0.0,), (0.0,), (np.log(USUAL_SIZE),))
        return torch.tensor(list(grid), dtype=torch.float32)

    def _climbed(self, numbers: Tensor, scores: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Each of the [N, 7] at the best of its neighbors, again and again with smaller steps."""
        steps = torch.diag(torch.tensor(FIRST_STEPS))
        for _ in range(ROUNDS):
            neighbors = numbers[:, None] + torch.cat([steps, -steps])
            found, which = self._scores(self._poses(neighbors.flatten(0, 1), turn)).view(len(numbers), -1).max(dim=1)
            better = found > scores
            numbers = torch.where(better[:, None], neighbors[torch.arange(len(numbers)), which], numbers)
            scores = torch.where(better, found, scores)
            steps = steps * STEP_SHRINKAGE
        return numbers, scores

    def _poses(self, numbers: Tensor, turn: Tensor) -> Tensor:
        """[N, 7] -> [N, 4, 4]."""
        poses = torch.eye(4).repeat(len(numbers), 1, 1)
        poses[:, :3, :3] = _rotations(numbers[:, 3:6]) @ turn * numbers[:, 6].exp()[:, None, None]
        poses[:, :3, 3] = numbers[:, :3] - poses[:, :3, :3] @ self.center_mm
        return poses

    def _scores(self, poses: Tensor) -> Tensor:
        """[N, 4, 4] -> [N]."""
        return torch.cat([self._batch_scores(batch) for batch in poses.split(_BATCH)])

    def _batch_scores(self, poses: Tensor) -> Tensor:
        into_voxels = _tensor(np.linalg.inv(self.scan.grid.affine)) @ poses
        places = torch.einsum("nij,pj->npi", into_voxels[:, :3, :3], self.points_mm) + into_voxels[:, None, :3, 3]
        sizes = torch.tensor(self.scan.grid.shape)
        unit = (places / (sizes - 1) * 2 - 1).flip(-1)
        values = F.grid_sample(self.scan.values, unit.reshape(1, 1, 1, -1, 3), align_corners=True)
        met = (values.reshape(len(poses), -1) * (BINS - 1)).round().long()
        pairs = (torch.arange(len(poses))[:, None] * BINS + self.levels) * BINS + met
        counts = torch.bincount(pairs.flatten(), minlength=len(poses) * BINS**2).view(-1, BINS, BINS)
        joint = counts.double() / len(self.points_mm)
        return (_entropy(joint.sum(1)) + _entropy(joint.sum(2))) / _entropy(joint.flatten(1))


def _entropy(shares: Tensor) -> Tensor:
    """[N, bins] -> [N], nats."""
    return -torch.xlogy(shares, shares).sum(dim=1)


def _places(chosen: Tensor, affine: np.ndarray) -> Tensor:
    """[D, H, W] bool -> [N, 3], RAS mm of the chosen voxels."""
    voxels = chosen.nonzero().double().numpy()
    return _tensor(voxels @ affine[:3, :3].T + affine[:3, 3])


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)


def _rotations(angles: Tensor) -> Tensor:
    """[N, 3], radians about R, A and S, in this order -> [N, 3, 3]."""
    rotations = torch.eye(3).repeat(len(angles), 1, 1)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        turn[:, a, a] = turn[:, b, b] = angles[:, axis].cos()
        turn[:, b, a] = angles[:, axis].sin()
        turn[:, a, b] = -turn[:, b, a]
        rotations = turn @ rotations
    return rotations
