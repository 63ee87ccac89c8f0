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
from neuro4d_lib.data.flow_volumes import REFINED, flow_vox
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import transport
from neuro4d_lib.geometry.grids import warp
from neuro4d_lib.geometry.registration import register
from neuro4d_lib.progress import Progress, silent

# Agreement with the reference once the shapes are the same. On the real scans at hand, T1-weighted ones have ... or more.
LEAST_AGREEMENT = 0.6
USUAL_AGREEMENT = 0.65
# Agreement of two scans of one person, brought together as a rigid body: ...
LEAST_LIKENESS = 0.7


@dataclass(frozen=True, eq=False)
class AlignedScan:
    """A scan in terms of the reference.

    Attributes:
        affine: 4x4, RAS mm of the scan to RAS mm of aligned space.
        psi: control points of w [3, 32, 40, 32], mm; psi = exp(w) leads from aligned to reference space, exp(-w) back.
        labels: `Region.index` on the scan's own voxels [D, H, W], uint8; 0 outside the brain.
        image: intensities in aligned space on the lattice refined by 2 [1, 1, 63, 79, 63], 0 to 1 between the darkest
            and the brightest percent of the brain.
        brain: brain mask there [1, 1, 63, 79, 63], 0 to 1.
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
    image: Tensor
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
    template, mask = (ready.on(REFINED) for ready in reference_volumes(reference))
    aligned = _scaled(volume.placed(alignment.affine).on(REFINED), mask)
    # The mask lies on the reference, so that is the fixed image, and what is found is -w.
    back_mm = register(
        template,
        aligned,
        mask,
        progress=lambda done, _: progress(0.4 + 0.5 * done, "Matching the shape of the brain"),
    )
    agreement = local_agreement(template, warp(aligned, flow_vox(back_mm)), mask)
    if agreement < LEAST_AGREEMENT:
        raise InputError(
            f"The {what} {image.path}".rstrip() + " could not be matched with the reference brain: even after bending, "
            f"their agreement is {agreement:.2f}, expected at least {LEAST_AGREEMENT}. Expected a T1-weighted scan of "
            "a whole human head or brain. Look at it in a viewer: is it T1-weighted (not FLAIR, T2 or EPI), are large "
            "parts lost or distorted?"
        )
    progress(0.9, "Finding the regions")
    psi_mm = -back_mm
    return AlignedScan(
        affine=alignment.affine,
        psi=psi_mm,
        labels=carried_labels(reference, image.grid, alignment.affine, psi_mm),
        image=aligned,
        brain=warp(mask, flow_vox(psi_mm)),
        anatomy=log_volume(psi_mm),
        volume=volume,
        alignment=alignment,
        agreement=agreement,
        warnings=alignment.warnings,
    )


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


@torch.no_grad()
def observed_velocity(past: Image, latest: AlignedScan, years: float) -> ObservedMotion:
    """The velocity v whose flow exp(years * v) carries tissue from the latest scan's time to the past scan's.

    Args:
        past: earlier scan of the same person.
        years: time of the past scan, negative.
    """
    name = f"The past scan {past.path}".rstrip()
    if not years < 0:
        raise InputError(f"{name} is placed at {years:g} years; expected a negative number, the years before the scan.")
    volume = WorkingVolume.of(past)
    mask = WorkingVolume(latest.brain, REFINED).placed(np.linalg.inv(latest.affine)).on(latest.volume.grid)
    brain = WorkingVolume(mask, latest.volume.grid)
    pose = rigid_pose(volume, latest.volume, brain)
    earlier = _scaled(volume.placed(latest.affine @ np.linalg.inv(pose)).on(REFINED), latest.brain)
    likeness = local_agreement(latest.image, earlier, latest.brain)
    if likeness < LEAST_LIKENESS:
        raise InputError(
            f"{name} does not look like the same person, or was made with another kind of sequence: its agreement with "
            f"the latest scan is {likeness:.2f}, expected at least {LEAST_LIKENESS}. Check the file, or leave it out."
        )
    motion_mm = register(latest.image, earlier, latest.brain, similarity="ssd")
    agreement = local_agreement(latest.image, warp(earlier, flow_vox(motion_mm)), latest.brain)
    carried = transport(bspline.refine(motion_mm[None], 2), flow_vox(-latest.psi))
    return ObservedMotion(bspline.fit(carried[:, :, ::2, ::2, ::2])[0] / years, likeness, agreement)


def _scaled(image: Tensor, mask: Tensor) -> Tensor:
    """0 at the darkest and 1 at the brightest percent inside the mask; what is brighter, such as scalp, is cut off."""
    inside = image[mask > 0.5]
    low, high = torch.quantile(inside, torch.tensor([0.01, 0.99]))
    return ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1.2)
