"""A scan made comparable: its place, its shape and its regions in terms of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.affine_registration import rigid_pose
from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.alignment import Alignment, align, reference_volumes
from neuro4d_lib.data.carrying import carried_labels, log_volume
from neuro4d_lib.data.flow_volumes import FINE, REFINED, flow_vox, on_fine
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import transport
from neuro4d_lib.geometry.grids import resample, warp
from neuro4d_lib.geometry.registration import register
from neuro4d_lib.progress import Progress, part, silent

# Agreement with the reference once the shapes are the same. Of the real scans at hand, T1-weighted ones have 0.73 to
# 0.94, FLAIR 0.53 to 0.63, EPI 0.49.
LEAST_AGREEMENT, USUAL_AGREEMENT = 0.68, 0.72
# Agreement of two scans brought together as rigid bodies. Real and altered pairs of one person have 0.85 to 0.95, with
# slices of 6 mm and a contrast agent among them; T1-weighted scans of two people have 0.35 to 0.57.
LEAST_LIKENESS = 0.7
# Change within a person is small and its size matters: finer images and less smoothing than between people.
PAST_ITERATIONS, PAST_REGULARIZATION = (12, 8, 2), 5e-4


@dataclass(frozen=True, eq=False)
class AlignedScan:
    """A scan in terms of the reference.

    Attributes:
        affine: 4x4, RAS mm of the scan to RAS mm of aligned space.
        psi: control points of w [3, 32, 40, 32], mm; psi = exp(w) leads from aligned to reference space, exp(-w) back.
        labels: `Region.index` on the scan's own voxels [D, H, W], uint8; 0 outside the brain.
        brain: brain mask in aligned space on the lattice refined by 2 [1, 1, 63, 79, 63], 0 to 1.
        anatomy: log of this brain's volume per reference volume, head size aside, at every place of the lattice in
            reference space [1, 32, 40, 32].
        volume: the scan made ready for computing.
        alignment: how well the affine map fits.
        agreement: mean local correlation with the reference after psi, inside the brain; at most 1.
        warnings: sentences that the reader of a result has to see.
    """

    affine: np.ndarray
    psi: Tensor
    labels: np.ndarray
    brain: Tensor
    anatomy: Tensor
    volume: WorkingVolume
    alignment: Alignment
    agreement: float
    warnings: tuple[str, ...]

    def quality_as_dict(self) -> dict[str, float | list[float]]:
        """What is known of the quality of the registration, ready for JSON."""
        return {
            "agreement_affine": round(self.alignment.agreement, 4),
            "agreement": round(self.agreement, 4),
            "least_agreement": LEAST_AGREEMENT,
            "brain_size": [round(1 / scale, 4) for scale in self.alignment.scales],
            "brain_covered": round(self.alignment.covered, 4),
        }


@torch.no_grad()
def preprocess(image: Image, reference: Reference, progress: Progress = silent, *, what: str = "scan") -> AlignedScan:
    """Find the reference in a scan. An InputError says why where it cannot be found.

    Args:
        what: what to call the image in messages.
    """
    progress(0.0, "Aligning the scan with the reference")
    alignment, volume = align(image, reference, what=what)
    aligned = volume.placed(alignment.affine).on(REFINED)
    name = f"The {what} {image.path}".rstrip()
    psi_mm, agreement = matched_shape(aligned, reference, name, part(progress, 0.4, 0.9))
    progress(0.9, "Finding the regions")
    _, mask = reference_volumes(reference)
    return AlignedScan(
        affine=alignment.affine,
        psi=psi_mm,
        labels=carried_labels(reference, image.grid, alignment.affine, psi_mm),
        brain=warp(mask.on(REFINED), flow_vox(psi_mm)),
        anatomy=log_volume(psi_mm),
        volume=volume,
        alignment=alignment,
        agreement=agreement,
        warnings=alignment.warnings + _warnings(agreement),
    )


def matched_shape(
    aligned: Tensor,
    reference: Reference,
    name: str,
    progress: Progress = silent,
    iterations: tuple[int, ...] = (12, 8),
) -> tuple[Tensor, float]:
    """The shape of a brain in aligned space, and its agreement with the reference then; an InputError where it is low.

    Args:
        aligned: [1, 1, 63, 79, 63], the brain in aligned space on the lattice refined by 2.
        name: what to call it in messages, such as "The scan a.nii.gz".
        iterations: see `geometry.registration.register`.

    Returns:
        Control points of w in psi = exp(w) [3, 32, 40, 32], mm, and the agreement.
    """
    template, mask = (ready.on(REFINED).to(aligned.device) for ready in reference_volumes(reference))
    # The mask lies on the reference, so that is the fixed image, and what is found is -w.
    back_mm = register(
        template,
        aligned,
        mask,
        iterations=iterations,
        progress=lambda done, _: progress(done, "Matching the shape of the brain"),
    )
    agreement = local_agreement(template, warp(aligned, flow_vox(back_mm)), mask)
    if agreement < LEAST_AGREEMENT:
        raise InputError(
            f"{name} could not be matched with the reference brain: even after bending, "
            f"their agreement is {agreement:.2f}, expected at least {LEAST_AGREEMENT}. Expected a T1-weighted scan of "
            "a whole human head or brain. Look at it in a viewer: is it T1-weighted (not FLAIR, T2 or EPI), are large "
            "parts lost or distorted?"
        )
    return -back_mm, agreement


class ObservedMotion(NamedTuple):
    """What an earlier scan of the person says.

    Attributes:
        velocity_mm: control points in reference space [3, 32, 40, 32], mm per year.
        likeness: mean local correlation of the two scans inside the brain, as rigid bodies; at most 1.
        agreement: the same once the motion is undone.
    """

    velocity_mm: Tensor
    likeness: float
    agreement: float


class FollowedMotion(NamedTuple):
    """How the brain has moved between two scans of one person, in the aligned space of the first.

    Attributes:
        motion_mm: control points [3, 32, 40, 32], mm, of the velocity whose flow over unit time carries the tissue of
            the first scan to where it is in the other.
        pose: 4x4, RAS mm of the first scan to RAS mm of the other, rigid.
        likeness, agreement: see ObservedMotion.
    """

    motion_mm: Tensor
    pose: np.ndarray
    likeness: float
    agreement: float


@torch.no_grad()
def observed_velocity(past: Image, latest: AlignedScan, years: float, progress: Progress = silent) -> ObservedMotion:
    """The velocity v whose flow exp(years * v) carries tissue from the latest scan's time to the past scan's.

    Args:
        past: earlier scan of the same person.
        years: time of the past scan, negative.
    """
    if not years < 0:
        name = f"The past scan {past.path}".rstrip()
        raise InputError(f"{name} is placed at {years:g} years; expected a negative number, the years before the scan.")
    found = followed_motion(past, latest, progress, what="past scan")
    return ObservedMotion(to_reference(found.motion_mm, latest.psi) / years, found.likeness, found.agreement)


@torch.no_grad()
def followed_motion(
    other: Image, first: AlignedScan, progress: Progress = silent, *, what: str = "other scan"
) -> FollowedMotion:
    """The motion from a scan to another one of the same person, earlier or later.

    Args:
        what: what to call the other one in messages.
    """
    progress(0.0, f"Aligning the {what}")
    volume = WorkingVolume.of(other)
    in_scan = WorkingVolume(first.brain, REFINED).placed(np.linalg.inv(first.affine))
    brain = WorkingVolume(in_scan.on(first.volume.grid), first.volume.grid)
    pose = rigid_pose(volume, first.volume, brain)
    now, then = first.volume.placed(first.affine), volume.placed(first.affine @ np.linalg.inv(pose))
    likeness = local_agreement(now.on(REFINED), then.on(REFINED), first.brain)
    if likeness < LEAST_LIKENESS:
        raise InputError(
            f"The {what} {other.path}".rstrip() + " does not look like the same person, or was made with another kind "
            f"of sequence: its agreement with the latest scan is {likeness:.2f}, expected at least {LEAST_LIKENESS}. "
            "Check the file, or leave it out."
        )
    motion_mm = register(
        now.on(FINE),
        then.on(FINE),
        resample(first.brain, REFINED, FINE),
        iterations=PAST_ITERATIONS,
        regularization=PAST_REGULARIZATION,
        progress=lambda done, _: progress(0.2 + 0.7 * done, f"Following the motion to the {what}"),
    )
    agreement = local_agreement(now.on(REFINED), warp(then.on(REFINED), flow_vox(motion_mm)), first.brain)
    return FollowedMotion(motion_mm, pose, likeness, agreement)


def to_reference(motion_mm: Tensor, psi_mm: Tensor) -> Tensor:
    """A velocity of aligned space in reference space.

    Args:
        motion_mm, psi_mm: control points [3, 32, 40, 32], mm; see AlignedScan.psi.
    """
    # On FINE: on the grid that is twice as coarse, this way and back lose 15 % of a hippocampus's change, here 4 %.
    carried = transport(bspline.refine(motion_mm[None], 4), on_fine(flow_vox(-psi_mm)))
    return bspline.fit(carried[:, :, ::4, ::4, ::4])[0]


def _warnings(agreement: float) -> tuple[str, ...]:
    if agreement >= USUAL_AGREEMENT:
        return ()
    return (
        f"The scan agrees less with the reference after bending ({agreement:.2f}) than T1-weighted scans usually do "
        f"({USUAL_AGREEMENT} or more). Check the overlay of its regions.",
    )
