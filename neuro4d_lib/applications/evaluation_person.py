"""What the scans of one person say: the regions of each, and how the brain moved from each to the later ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.known_truth_scores import SCORED
from neuro4d_lib.data.cohort import TRUTH
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.preprocessing import AlignedScan, FollowedMotion, followed_motion, preprocess
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.study import StudySubject
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.region_volumes import NAMES, RegionVolumes
from neuro4d_lib.geometry.grids import resample, warp
from neuro4d_lib.geometry.spaces import Grid
from neuro4d_lib.progress import Progress, silent

_PLACES = [NAMES.index(name) for name in SCORED]


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A later scan as seen from an earlier one.

    Attributes:
        motion: from the earlier scan to the later one.
        log_change: [R] of the volumes of SCORED, integrals of the motion over the earlier scan's regions; NaN where a
            region is not in the scan.
        image: the later scan on the earlier one's voxels [D, H, W], in its units of intensity.
        brain: [D, H, W] bool, the union of the brain now and then.
    """

    motion: FollowedMotion
    log_change: np.ndarray
    image: np.ndarray
    brain: np.ndarray


class Person:
    """Scans of one person, each read, matched with the reference and followed no more than once."""

    def __init__(self, subject: StudySubject, reference: Reference) -> None:
        self.subject = subject
        self.reference = reference
        self.images = [read_image(visit.scan) for visit in subject.visits]
        for i, image in enumerate(self.images):
            for other in self.images[:i]:
                if image.array.shape == other.array.shape and np.array_equal(image.array, other.array):
                    raise InputError(f"{Path(image.path).name} is the same image as {Path(other.path).name}.")
        self._aligned: dict[int, AlignedScan] = {}
        self._follow_ups: dict[tuple[int, int], FollowUp] = {}

    def aligned(self, visit: int, progress: Progress = silent) -> AlignedScan:
        """A scan in terms of the reference."""
        if visit not in self._aligned:
            self._aligned[visit] = preprocess(self.images[visit], self.reference, progress)
        return self._aligned[visit]

    def knows(self, visit: int, aligned: AlignedScan) -> None:
        """Take over what a forecast has found, which need not be done again."""
        self._aligned[visit] = aligned

    @torch.no_grad()
    def follow_up(self, first: int, later: int, progress: Progress = silent) -> FollowUp:
        """Visit `later` as seen from visit `first`."""
        if (first, later) not in self._follow_ups:
            aligned, scan, other = self.aligned(first, progress), self.images[first], self.images[later]
            motion = followed_motion(other, aligned, progress, what="follow-up scan")
            flow = native_grid.flow(in_aligned_space(motion.motion_mm), 1.0)
            regions = RegionVolumes(aligned.labels, scan.grid, aligned.affine)
            log_change = log_changes(regions, flow)
            now = torch.from_numpy(aligned.labels > 0)[None, None].float()
            pull_vox = native_grid.displacement_on(scan.grid, aligned.affine, flow.pull_mm)
            brain = (aligned.labels > 0) | (warp(now, pull_vox)[0, 0].numpy() > 0.5)
            image = on_voxels_of(scan, other, motion.pose, brain)
            self._follow_ups[first, later] = FollowUp(motion, log_change, image, brain)
        return self._follow_ups[first, later]

    def forget_images(self, first: int) -> None:
        """Keep the numbers of visit `first`, not its volumes: a laptop's memory holds few of them."""
        for key, found in self._follow_ups.items():
            if key[0] == first:
                nothing = np.empty(0)
                self._follow_ups[key] = FollowUp(found.motion, found.log_change, nothing, nothing)

    def past_log_volumes(self, last: int, level: np.ndarray, progress: Progress = silent) -> np.ndarray:
        """Measured log-volumes [last + 1, R] of the visits up to `last`, which has the log-volumes `level` [R]."""
        rows = [level - self.follow_up(visit, last, progress).log_change for visit in range(last)]
        return np.stack([*rows, level])


def in_aligned_space(motion_mm: Tensor) -> Tensor:
    """Control points [3, 32, 40, 32] of aligned space as `native_grid.flow` takes them."""
    still = motion_mm.new_zeros(1, 3, *native_grid.REFINED.shape)
    return native_grid.carried_to_aligned(motion_mm[None], still)[0]


def log_changes(regions: RegionVolumes, flow: native_grid.Flow) -> np.ndarray:
    """[R] of SCORED after a flow; NaN where a region is not in the scan."""
    before, after = regions.baseline_mm3[_PLACES], regions.of(flow.volume_ratio[0, 0].cpu().numpy())[_PLACES]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(before > 0, np.log(after / before), np.nan))


def brain_share(regions: RegionVolumes) -> np.ndarray:
    """[R]: volume of SCORED per volume of the whole brain."""
    return np.asarray(regions.baseline_mm3[_PLACES] / regions.baseline_mm3[NAMES.index("whole_brain")])


def on_voxels_of(scan: Image, other: Image, pose: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Another scan of the person on the voxels of the first, moved as a rigid body, [D, H, W] float32.

    It is read linearly, which takes some of its noise away, and its intensities are scaled to the mean and SD that the
    first scan has in the brain. Both are the same for every forecast that is compared with it.

    Args:
        pose: 4x4, RAS mm of the first to RAS mm of the other.
        brain: [D, H, W] where the intensities are compared.
    """
    depth, height, width = other.array.shape
    place = Grid((depth, height, width), np.linalg.inv(pose) @ other.affine)
    values = torch.from_numpy(other.intensities())[None, None]
    moved = resample(values, place, scan.grid)[0, 0].numpy()
    inside, theirs = moved[brain], scan.intensities()[brain]
    if not inside.std() > 0:
        raise InputError(f"The follow-up scan {other.path} is constant in the brain.")
    return np.asarray((moved - inside.mean()) * (theirs.std() / inside.std()) + theirs.mean(), dtype=np.float32)


def simulated_truth(study: Path, subject: StudySubject) -> list[np.ndarray] | None:
    """True log-volumes [R] of SCORED at every visit, if the data set is a simulated one."""
    path = study / TRUTH / subject.id / f"{subject.id}_truth.json"
    if not path.is_file():
        return None
    try:
        visits = json.loads(path.read_text(encoding="utf-8"))["visits"]
        return [_true_volumes(visits[visit.session]["volumes_mm3"]) for visit in subject.visits]
    except (ValueError, KeyError) as problem:
        raise InputError(f"{path} is not what simulate writes: {problem!r}. Simulate the data set again.") from problem


def _true_volumes(volumes_mm3: dict[str, float]) -> np.ndarray:
    return np.log([volumes_mm3[name] for name in SCORED])


def as_json(values: np.ndarray) -> list[float | None]:
    """Numbers ready for JSON: NaN becomes null."""
    return [None if not np.isfinite(value) else round(float(value), 7) for value in values]
