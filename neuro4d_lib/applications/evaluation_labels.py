"""Volumes by segmentations that came with the data: the labels of the last scan carried by a forecast, against the
labels of the later scan, both made by the tool that its owner trusts.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from neuro4d_lib.applications.evaluation_person import as_json
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.study import StudySubject
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.inputs import checked_segmentation
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.metrics.volumes import regional_volumes

TABLE_FILE = "dseg.tsv"
MOST_LABELS = 300


@dataclass(frozen=True)
class Segmentations:
    """A BIDS derivative with sub-*/ses-*/anat/*_dseg.nii.gz on the scans' voxels.

    Attributes:
        names: of the labels, by number; from dseg.tsv (index, name), else "label_3".
    """

    folder: Path
    names: Mapping[int, str]

    @staticmethod
    def of(folder: Path) -> Segmentations:
        """The folder is checked and its table read."""
        if not folder.is_dir() or not any(folder.glob("sub-*/ses-*/anat/*_dseg.nii*")):
            raise InputError(
                f"{folder} holds no segmentation. Expected sub-*/ses-*/anat/*_dseg.nii.gz, on the voxels of the scans."
            )
        return Segmentations(folder, _names(folder / TABLE_FILE))

    def read(self, subject: StudySubject, visit: int, scan: Image) -> Image | None:
        """The segmentation of one visit, if there is one."""
        anat = self.folder / subject.id / subject.visits[visit].session / "anat"
        found = sorted(anat.glob("*_dseg.nii*"))
        if not found:
            return None
        return checked_segmentation(read_image(found[0], allow_labels=True, what="segmentation"), scan)


def compared_labels(
    made: Forecast, years: float, others: Mapping[str, Tensor], past: Sequence[tuple[Image, float]], then: Image,
    names: Mapping[int, str],
) -> dict[str, Any]:  # fmt: skip
    """Log-volume changes of every label since the last scan, ready for JSON: of each future, of the others, and true.

    Args:
        others: velocities of simple forecasts in reference space, mm per year.
        past: segmentations with their years, the last scan's at 0.
        then: of the later scan.
    """
    last = past[-1][0]
    values = np.unique(last.array)
    values = values[values > 0]
    if len(values) > MOST_LABELS:
        raise InputError(f"The segmentation {last.path} has {len(values)} labels; expected at most {MOST_LABELS}.")
    before = _counted(last, values)
    time = made.years.index(years)

    def change(velocity: Tensor) -> np.ndarray:
        carried = native_grid.carried_to_aligned(velocity[None].to(made.device), made.psi_vox)[0]
        ratio = made.on_scan(native_grid.flow(carried, years).volume_ratio).cpu().numpy()
        return _logarithm(regional_volumes(last.array, values, _voxel_mm3(last), ratio), before)

    volumes = np.stack([_logarithm(_counted(image, values), before) for image, _ in past])
    return {
        "names": [names.get(int(value), f"label_{value}") for value in values],
        "brain_share": as_json(before / before.sum()),
        "futures": [as_json(change(velocity)) for velocity in made.drawn_mm[:, time]],
        "others": {name: as_json(change(velocity)) for name, velocity in others.items()},
        "personal_slope": as_json(line_at(np.array([t for _, t in past]), volumes, years)) if len(past) > 1 else None,
        "true": as_json(_logarithm(_counted(then, values), before)),
    }


def line_at(times: np.ndarray, volumes: np.ndarray, years: float) -> np.ndarray:
    """Change [R] after some years along the least-squares line through log-volumes [V, R] at times [V], the last at 0."""
    centered = times - times.mean()
    return np.asarray(years * (centered @ volumes) / np.square(centered).sum())


def _counted(image: Image, values: np.ndarray) -> np.ndarray:
    """Volumes of labels [R], mm3."""
    counts = np.array([np.count_nonzero(image.array == value) for value in values])
    return np.asarray(counts * _voxel_mm3(image))


def _logarithm(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        change = np.log(after / before)
    return np.asarray(np.where(np.isfinite(change), change, np.nan))


def _voxel_mm3(image: Image) -> float:
    return float(abs(np.linalg.det(image.affine[:3, :3])))


def _names(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path} cannot be read: expected the columns index and name ({problem!r}).") from problem
