"""The visits of one person brought together, and how far each has moved from where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.alignment import reference_volumes
from neuro4d_lib.data.carrying import mean_log_ratio
from neuro4d_lib.data.flow_volumes import FINE, REFINED, flow_vox, on_fine
from neuro4d_lib.data.preprocessing import matched_shape, to_reference
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import compose
from neuro4d_lib.geometry.grids import resample, warp
from neuro4d_lib.geometry.registration import Similarity, register_group
from neuro4d_lib.preparation.common_space import CommonSpace
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.intensities import matched_curves, on_curve
from neuro4d_lib.progress import Progress, part, silent


@dataclass(frozen=True, eq=False)
class Gathered:
    """The visits of a person as rigid bodies, in one aligned space.

    Attributes:
        images: [1, 1, 125, 157, 125] each, on FINE.
        likeness: agreement of each with the mean of the others, at most 1.
        space: where each scan lies.
    """

    images: tuple[Tensor, ...]
    likeness: tuple[float, ...]
    space: CommonSpace


@dataclass(frozen=True, eq=False)
class Followed:
    """How a brain has changed between the visits.

    Attributes:
        motion_mm: [V, 3, 32, 40, 32] control points in reference space, mm: exp of it carries tissue from where the visits
            meet to each visit. In aligned space they sum to zero.
        in_aligned_mm: the same in aligned space.
        psi_mm: shape of the brain where the visits meet [3, 32, 40, 32]; see AlignedScan.
        anatomy: [V, 32, 40, 32], log of this brain's volume per reference volume at each visit.
        brain: [1, 1, 125, 157, 125], its mask in aligned space.
        warped: the images as they meet, equally bright [V, 1, 125, 157, 125].
        reference_agreement: of the mean image with the reference, after psi.
    """

    motion_mm: Tensor
    in_aligned_mm: Tensor
    psi_mm: Tensor
    anatomy: Tensor
    brain: Tensor
    warped: Tensor
    reference_agreement: float

    @property
    def template(self) -> Tensor:
        """The mean image where the visits meet [1, 1, 125, 157, 125]."""
        return self.warped.mean(dim=0, keepdim=True)


@torch.no_grad()
def gathered(
    volumes: Sequence[WorkingVolume],
    affines: Sequence[np.ndarray],
    reference: Reference,
    match_contrast: bool = False,
) -> Gathered:
    """Bring two or more scans of a person together as rigid bodies.

    Args:
        affines: 4x4 each, RAS mm of the scan to RAS mm of aligned space, each found for the scan alone.
        match_contrast: make their contrast alike, for scans of different sequences. It costs part of a real change,
            which makes the fluid of blurred images darker, too.
    """
    _, mask = reference_volumes(reference)
    brain = mask.on(REFINED)
    inside = np.argwhere(reference.mask)
    center_mm = inside.mean(axis=0) @ reference.grid.affine[:3, :3].T + reference.grid.affine[:3, 3]
    space = CommonSpace.of(affines, center_mm).refined(volumes, brain, center_mm)
    placed = space.placed(volumes)
    coarse = [volume.on(REFINED) for volume in placed]
    images = [volume.on(FINE) for volume in placed]
    if match_contrast:
        images = [on_curve(image, curve) for image, curve in zip(images, matched_curves(coarse, brain), strict=True)]
    likeness = []
    for n, image in enumerate(coarse):
        others = torch.stack([other for m, other in enumerate(coarse) if m != n]).mean(dim=0)
        likeness.append(local_agreement(image, others, brain))
    return Gathered(tuple(images), tuple(likeness), space)


@torch.no_grad()
def followed(
    images: Sequence[Tensor],
    reference: Reference,
    config: PreparationConfig,
    name: str,
    progress: Progress = silent,
) -> Followed:
    """The motion of each visit from where all meet. An InputError says why there is none.

    Args:
        images: [1, 1, 125, 157, 125] each, on FINE; see Gathered.
        name: what to call the mean of the images in messages.
    """
    _, mask = reference_volumes(reference)
    scaled = _equally_wide(images, resample(mask.on(REFINED), REFINED, FINE).to(images[0].device))
    mean = torch.stack(scaled).mean(dim=0)
    psi_mm, agreement = matched_shape(
        mean[:, :, ::2, ::2, ::2], reference, name, part(progress, 0.0, 0.2), config.shape_iterations
    )
    shape_vox, back_vox = flow_vox(psi_mm), flow_vox(-psi_mm)
    brain = resample(warp(mask.on(REFINED).to(mean.device), shape_vox), REFINED, FINE)
    motion_mm, log_gain = register_group(
        _equally_wide(images, brain),
        brain,
        similarity=cast(Similarity, config.similarity),
        iterations=config.iterations,
        regularization=config.regularization,
        progress=lambda done, _: progress(0.2 + 0.7 * done, "Following the motion between the visits"),
    )
    progress(0.9, "Carrying the motion to the reference")
    gains = bspline.refine(log_gain, 4).exp()
    flows = [flow_vox(motion) for motion in motion_mm]
    warped = [
        warp(image, on_fine(flow)) * gain
        for image, flow, gain in zip(_equally_wide(images, brain), flows, gains, strict=True)
    ]
    return Followed(
        motion_mm=torch.stack([to_reference(motion, psi_mm) for motion in motion_mm]),
        in_aligned_mm=motion_mm,
        psi_mm=psi_mm,
        anatomy=torch.cat([mean_log_ratio(compose(flow, back_vox)) for flow in flows]),
        brain=brain,
        warped=torch.cat(warped),
        reference_agreement=agreement,
    )


def _equally_wide(images: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
    """The images scaled such that all have the same variance inside the mask, that of their mean on average."""
    deviations = []
    for image in images:
        mean = (image * mask).sum() / mask.sum()
        deviations.append((((image - mean).square() * mask).sum() / mask.sum()).sqrt().clamp_min(1e-12))
    typical = torch.stack(deviations).mean()
    return [image * (typical / deviation) for image, deviation in zip(images, deviations, strict=True)]
