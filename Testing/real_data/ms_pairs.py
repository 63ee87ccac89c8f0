"""Two people with multiple sclerosis, seven months apart: what is motion, what is lesion, what is noise?

The FLAIR scans of both visits in their common space are brought to the reference through the person's T1-weighted scan
and the released affine transforms. Motion is registered; volumes of regions change with it. An expert marked the lesions
that changed: how well do plain difference, and difference after the motion (what the deformation-residual
representation stores as residual), tell them from the rest of the brain?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.stats import rankdata
from tables import arguments, markdown, publish
from torch import Tensor

from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.flow_volumes import FINE, REFINED, flow_vox
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.preprocessing import PAST_ITERATIONS, PAST_REGULARIZATION, AlignedScan, preprocess
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference, build_reference
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.region_volumes import NAMES, RegionVolumes
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.grids import warp
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.geometry.registration import register
from neuro4d_lib.geometry.similarity import smooth
from neuro4d_lib.geometry.spaces import Grid, transform_from_lps


@dataclass(frozen=True)
class Patient:
    """One person; `session` is the visit whose T1-weighted scan leads to the reference."""

    number: str
    session: int
    days: float


PATIENTS = (Patient("01", 1, 203), Patient("19", 2, 228))
STIFFNESS = (PAST_REGULARIZATION, 0.1)
"""That of a forecast's earlier scans, chosen on simulated atrophy; and one at which a lesion is hardly taken for motion."""
SHOWN = ("whole_brain", "lateral_ventricle", "thalamus", "cortex", "white_matter")
LEAST_LESION_SHARE = 0.5
BLUR_VOX = 0.8


def rigid(file: Path) -> np.ndarray:
    """4x4 of an ITK transform file, RAS mm to RAS mm: from the space resampled into to the space resampled from."""
    transform = sitk.ReadTransform(str(file))
    matrix = np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        unit = np.zeros(3)
        unit[axis] = 1
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - origin
    matrix[:3, 3] = origin
    return transform_from_lps(matrix)


@dataclass(frozen=True, eq=False)
class Pair:
    """Both FLAIR scans in aligned space on FINE, brain mask and expert mask there; and how the T1 was aligned."""

    first: Tensor
    second: Tensor
    brain: Tensor
    lesion: Tensor
    t1: AlignedScan
    t1_scan: Image


def read_pair(data: Path, patient: Patient, reference: Reference) -> Pair:
    """Bring everything of one person to aligned space."""
    folder = data / "ms_longitudinal" / f"patient{patient.number}"
    name = f"sub-{patient.number}"
    session = f"ses-0{patient.session}"
    t1_scan = read_image(data / "ms_longitudinal_bids" / name / session / "anat" / f"{name}_{session}_T1w.nii.gz")
    t1 = preprocess(t1_scan, reference)
    study = f"study{patient.session}"
    common_to_flair = rigid(folder / "transforms" / f"{study}_FLAIR_to_common_space.txt")
    flair_to_t1 = rigid(folder / "transforms" / f"{study}_T1W_intrastudy_to_FLAIR.txt")
    to_aligned = t1.affine @ flair_to_t1 @ common_to_flair

    def on_fine(file: str) -> Tensor:
        image = read_image(folder / "common" / file, allow_labels=True)
        if image.array.dtype == np.uint8 or image.array.max() <= 1:
            values = torch.from_numpy(np.ascontiguousarray(image.array > 0).astype(np.float32))[None, None]
            return WorkingVolume(values, Grid(image.grid.shape, to_aligned @ image.affine)).on(FINE)
        return WorkingVolume.of(image).placed(to_aligned).on(FINE)

    brain = on_fine("brainmask.nii.gz") * (native_on_fine(t1) > 0.5)
    return Pair(
        on_fine("study1_FLAIR_brain.nii.gz"), on_fine("study2_FLAIR_brain.nii.gz"), brain, on_fine("gt.nii.gz"), t1, t1_scan
    )  # fmt: skip


def native_on_fine(aligned: AlignedScan) -> Tensor:
    """The brain mask of an aligned scan on FINE: [1, 1, 125, 157, 125]."""
    return WorkingVolume(aligned.brain, REFINED).on(FINE)


def volume_changes(pair: Pair, motion_mm: Tensor) -> dict[str, float]:
    """Change of every region's volume, %, by the motion from the first scan to the second."""
    regions = RegionVolumes(pair.t1.labels, pair.t1_scan.grid, pair.t1.affine)
    refined = bspline.refine(torch.nn.functional.pad(motion_mm, (2,) * 6)[None], 2)[0]
    after = regions.of(native_grid.flow(refined, 1.0).volume_ratio[0, 0].numpy())
    return dict(zip(NAMES, 100 * (after / regions.baseline_mm3 - 1), strict=True))


def matched(image: Tensor, to: Tensor, brain: Tensor) -> Tensor:
    """An image with the median and the spread that another one has inside the brain."""
    inside = brain > 0.5
    (middle, spread), (wanted, wanted_spread) = (
        (float(x[inside].median()), float(x[inside].quantile(0.75) - x[inside].quantile(0.25))) for x in (image, to)
    )
    return (image - middle) * wanted_spread / max(spread, 1e-6) + wanted


def area_under_curve(score: Tensor, lesion: Tensor, brain: Tensor) -> float:
    """Probability that a voxel of changed lesion has a larger score than another voxel of the brain."""
    inside = brain > 0.5
    positive = (lesion[inside] > LEAST_LESION_SHARE).numpy()
    ranks = rankdata(score[inside].numpy())
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def checked(pair: Pair, patient: Patient, stiffness: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A row of the table of motion and one of the table of lesions."""
    motion_mm = register(
        pair.first, pair.second, pair.brain, similarity="ssd", iterations=PAST_ITERATIONS, regularization=stiffness
    )
    there_vox = flow_vox(motion_mm)
    on_refined = [x[:, :, ::2, ::2, ::2] for x in (pair.first, pair.second, pair.brain)]
    before = local_agreement(*on_refined)
    after = local_agreement(on_refined[0], warp(on_refined[1], there_vox), on_refined[2])
    back_vox = flow_vox(-motion_mm)
    identity_error = (there_vox + warp(back_vox, there_vox)).square().sum(dim=1).sqrt() * REFINED.spacing_mm[0]
    changes = volume_changes(pair, motion_mm)
    motion = (
        patient.number, f"{stiffness:g}", f"{before:.3f}", f"{after:.3f}",
        *(f"{changes[name]:+.2f}" for name in SHOWN),
        f"{float(identity_error.max()):.3f}", str(count_fold_failures(there_vox).failed),
    )  # fmt: skip

    second = matched(pair.second, pair.first, pair.brain)
    fine_back = bspline.refine(bspline.fit(back_vox), 2) * 2
    moved = warp(pair.first, fine_back)
    plain, residual = second - pair.first, second - moved
    spread = float(pair.first[pair.brain > 0.5].std())
    lesion = pair.lesion > LEAST_LESION_SHARE
    inside = (f"{float(part[lesion].mean()) / spread:+.2f}" for part in (plain, moved - pair.first, residual))
    areas = (
        f"{area_under_curve(smooth(score, BLUR_VOX), pair.lesion, pair.brain):.3f}"
        for score in (plain.abs(), residual.abs(), residual)
    )
    return motion, (
        patient.number,
        f"{stiffness:g}",
        f"{float(pair.lesion.sum()) * FINE.spacing_mm[0] ** 3 / 1000:.2f}",
        *inside,
        *areas,
    )


def main() -> None:
    chosen = arguments(__doc__)
    reference = build_reference()
    rows = []
    for patient in PATIENTS:
        pair = read_pair(chosen.data, patient, reference)
        rows += [checked(pair, patient, stiffness) for stiffness in STIFFNESS]
    publish(
        "Motion between the visits (FLAIR, common space); local agreement before and after, volume change in %:\n\n"
        + markdown(
            ("patient", "stiffness", "agreement before", "after", *(name.replace("_", " ") for name in SHOWN),
             "there and back, largest error, mm", "folds"), [motion for motion, _ in rows],
        )
        + "\n\nChange inside the expert's mask, in SDs of the brain's intensity, and area under the ROC curve of finding "
        "its voxels in the brain:\n\n"
        + markdown(
            ("patient", "stiffness", "mask, ml", "whole change", "of it motion", "of it residual", "AUC, plain difference",
             "AUC, residual", "AUC, residual with its sign"), [lesion for _, lesion in rows],
        ),
        chosen.table,
    )  # fmt: skip


if __name__ == "__main__":
    main()
