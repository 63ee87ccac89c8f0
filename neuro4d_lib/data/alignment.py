"""Scan to aligned space: the affine map, and whether it can be trusted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from neuro4d_lib.data.affine_registration import affine_pose
from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.flow_volumes import REFINED
from neuro4d_lib.data.pose_search import PoseSearch
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.errors import InputError

# Agreement of a scan with the reference after the affine map. Of the real scans at hand, T1-weighted ones have 0.53 to
# 0.93, FLAIR 0.22 to 0.33, EPI 0.16; with a header that turns them over, or without a brain, at most 0.19.
LEAST_AGREEMENT, USUAL_AGREEMENT = 0.42, 0.5
SCALES = (0.7, 1.4)
LEAST_COVERED, USUAL_COVERED = 0.8, 0.98
USUAL_TURN_DEGREES = 40.0


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a scan lies in aligned space.

    Attributes:
        affine: 4x4, RAS mm of the scan to RAS mm of aligned space.
        agreement: mean local correlation with the reference inside the brain, at most 1.
        scales: the three stretches of the affine map, smallest first; above 1, the brain is smaller than the reference.
        covered: part of the brain, 0 to 1, that the scan shows.
    """

    affine: np.ndarray
    agreement: float
    scales: tuple[float, float, float]
    covered: float

    @property
    def turn_degrees(self) -> float:
        """The angle by which the head is turned against the directions that its header names."""
        left, _, right = np.linalg.svd(self.affine[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))

    @property
    def fault(self) -> str:
        """Why the alignment cannot be used; empty where it can."""
        if self.agreement < LEAST_AGREEMENT:
            return f"its agreement with the reference is {self.agreement:.2f}, expected at least {LEAST_AGREEMENT}"
        if self.scales[0] < 1 / SCALES[1] or self.scales[2] > 1 / SCALES[0]:
            lengths = ", ".join(f"{1 / scale:.2f}" for scale in self.scales)
            return (
                f"its brain would be {lengths} times as long as the reference along three axes, "
                f"expected {SCALES[0]} to {SCALES[1]}"
            )
        if self.covered < LEAST_COVERED:
            return f"it shows {100 * self.covered:.0f} % of the brain, expected at least {100 * LEAST_COVERED:.0f} %"
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the reader of a result has to see."""
        found = []
        if self.agreement < USUAL_AGREEMENT:
            found.append(
                f"The scan agrees less with the reference ({self.agreement:.2f}) than T1-weighted scans usually do "
                f"({USUAL_AGREEMENT} or more). Check that it is T1-weighted, and the overlay of its regions."
            )
        if self.turn_degrees > USUAL_TURN_DEGREES:
            found.append(
                f"The head is turned by {self.turn_degrees:.0f} degrees against what the scan's header says. Check the "
                "header, and left and right."
            )
        if self.covered < USUAL_COVERED:
            found.append(
                f"The scan shows {100 * self.covered:.0f} % of the brain: volumes of regions at its edge are too small."
            )
        return tuple(found)


def align(image: Image, reference: Reference, *, what: str = "scan") -> tuple[Alignment, WorkingVolume]:
    """The affine map from a scan to aligned space, and the scan made ready for computing.

    An InputError says what is wrong where the scan does not fit: no brain, another contrast, a header that lies.
    """
    volume = WorkingVolume.of(image)
    template, mask = reference_volumes(reference)
    alignment = _judged(volume, template, mask, affine_pose(volume, template, mask))
    if alignment.fault:
        name = f"The {what} {image.path}".rstrip()
        turned = _header_that_fits(volume, template, mask)
        if turned:
            raise InputError(
                f"{name} has a header that names its axes wrongly: the brain is found where the header's "
                f"{turned[0]} is taken for right, {turned[1]} for anterior and {turned[2]} for superior. Set the "
                "orientation right (in 3D Slicer: Transforms), or convert again from DICOM. Check left and right."
            )
        raise InputError(
            f"{name} could not be matched with the reference brain: {alignment.fault}. Expected a T1-weighted scan of "
            "a whole human head or brain. Look at it in a viewer: is it T1-weighted (not FLAIR, T2 or EPI), is the "
            "whole brain in it, do its axes point the right way? Taking the skull off may help."
        )
    return alignment, volume


def reference_volumes(reference: Reference) -> tuple[WorkingVolume, WorkingVolume]:
    """The reference's T1 and its brain mask."""
    image = torch.from_numpy(reference.image)[None, None].clamp(0, 1)
    mask = torch.from_numpy(reference.mask.astype(np.float32))[None, None]
    return WorkingVolume(image, reference.grid), WorkingVolume(mask, reference.grid)


def _judged(volume: WorkingVolume, template: WorkingVolume, mask: WorkingVolume, pose: np.ndarray) -> Alignment:
    affine = np.linalg.inv(pose)
    placed = volume.placed(affine)
    inside = mask.on(REFINED)
    shown = WorkingVolume(torch.ones_like(volume.values), placed.grid).on(REFINED)
    stretches = np.linalg.svd(affine[:3, :3], compute_uv=False)
    return Alignment(
        affine=affine,
        agreement=local_agreement(template.on(REFINED), placed.on(REFINED), inside * (shown > 0.5)),
        scales=(float(stretches[2]), float(stretches[1]), float(stretches[0])),
        covered=float(((shown > 0.5) * inside).sum() / inside.sum()),
    )


def _header_that_fits(
    volume: WorkingVolume, template: WorkingVolume, mask: WorkingVolume
) -> tuple[str, str, str] | None:
    """What the header calls the brain's right, anterior and superior, if with other names for the axes all is well."""
    turns = [turn for turn in _quarter_turns() if not np.array_equal(turn, np.eye(3))]
    turn = PoseSearch(volume, template, mask).likeliest_turn(turns)
    if _judged(volume, template, mask, affine_pose(volume, template, mask, turn)).fault:
        return None
    right, anterior, superior = (_direction(turn[:, axis]) for axis in range(3))
    return right, anterior, superior


def _quarter_turns() -> list[np.ndarray]:
    """The 24 rotations that take axes to axes."""
    signed = (
        np.diag(signs)[:, list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    )
    return [matrix for matrix in signed if np.linalg.det(matrix) > 0]


def _direction(vector: np.ndarray) -> str:
    axis = int(np.abs(vector).argmax())
    return (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))[axis][int(vector[axis] > 0)]
