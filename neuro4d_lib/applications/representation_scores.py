"""How well frames of simulated courses are predicted, whatever they are made of: numbers per person and year, then rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.image_courses import MEASURED, VOXEL_MM3, Courses
from neuro4d_lib.geometry.grids import warp
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.metrics.image_quality import image_quality
from neuro4d_lib.representations.base import Frames

_AIR = 0.05
# Median signal of the reference in the lateral ventricles, and around them (white matter 0.85, caudate and thalamus 0.71 to 0.73).
_FLUID, _TISSUE = 0.33, 0.78
_LESION = 0.25
_CORE = 0.99
_SUMS = ("change_skill_score", "lesion_change_skill", "lesion_load_skill")

Row = tuple[str, str, str, str, float, float, int]
"""metric, region, horizon_years, method, value, standard_error, n."""


@dataclass
class Scores:
    """What was found of each person: {(metric, region): {(method, years): [values]}}.

    The metrics in `_SUMS` keep pairs (sum of squared errors, sum of squared true changes), the others single numbers.
    """

    found: dict[tuple[str, str], dict[tuple[str, float], list]] = field(default_factory=dict)

    def add(self, metric: str, region: str, method: str, years: float, value: object) -> None:
        self.found.setdefault((metric, region), {}).setdefault((method, years), []).append(value)

    def rows(self) -> list[Row]:
        """One row per metric, region, method and horizon, and one over all horizons together."""
        made: list[Row] = []
        for (metric, region), cells in self.found.items():
            summary = _skill if metric in _SUMS else _mean
            for method in dict.fromkeys(method for method, _ in cells):
                of_method = {years: values for (name, years), values in cells.items() if name == method}
                for years, values in of_method.items():
                    made.append((metric, region, f"{years:g}", method, *summary(np.array(values, float)[:, None])))
                everything = np.stack([np.array(values, float) for values in of_method.values()], axis=1)
                made.append((metric, region, "all", method, *summary(everything)))
        return made


def score_person(scores: Scores, method: str, predicted: Frames, truth: Courses, drawn: Frames | None = None) -> None:
    """Add the scores of one person.

    Args:
        predicted: the frames that are scored, [1, T, ...].
        truth: of this person alone.
        drawn: one future, whose map is tested for folds; by itself `predicted`.
    """
    scan = truth.given.scan[0, 0]
    ill = bool(truth.lesions.any())
    moved = predicted.displacement_vox
    tested = (drawn or predicted).displacement_vox
    near_ventricle = F.max_pool3d(truth.shares[:, 1:2], 3, 1, 1)[0, 0] > 0
    # Where white matter is all around: there nothing but a lesion changes the signal.
    core = -F.max_pool3d(-truth.shares[:, 2:3], 3, 1, 1)[0, 0] > _CORE
    for t, years in enumerate(truth.given.years[0].tolist()):
        image, target = predicted.images[0, t, 0], truth.frames[0, t, 0]
        brain = (scan > _AIR) | (target > _AIR)
        scores.add("change_skill_score", "brain", method, years, _squares(image, target, scan, brain))
        quality = image_quality(image.numpy(), target.numpy(), scan.numpy(), brain.numpy(), data_range=1.0)
        scores.add("ssim", "brain", method, years, quality.ssim)
        scores.add("psnr", "brain", method, years, min(quality.psnr, 99.0))
        before_mm3 = truth.volumes_mm3[0, 0]
        darker = float((target - image)[near_ventricle].double().sum()) / (_TISSUE - _FLUID)
        error = darker * VOXEL_MM3 / float(before_mm3[1])
        scores.add("fluid_error_percent", "lateral_ventricle", method, years, 100 * abs(error))
        if moved is not None:
            after_mm3 = warp(truth.shares, moved[:, t], padding="zeros").sum(dim=(0, 2, 3, 4)) * VOXEL_MM3
            for g, name in enumerate(MEASURED[:2]):
                error = float((after_mm3[g] - truth.volumes_mm3[0, 1 + t, g]) / before_mm3[g])
                scores.add("volume_error_percent", name, method, years, 100 * abs(error))
        if tested is not None:
            scores.add("fold_failures", "brain", method, years, count_fold_failures(tested[0, t]).failed)
        if ill:
            lesion = truth.lesions[0, [0, 1 + t]].amax(dim=0) > _LESION
            scores.add("lesion_change_skill", "lesions", method, years, _squares(image, target, scan, lesion))
            load, true_load = (float((volume - scan)[core].mean()) for volume in (image, target))
            scores.add("lesion_load_skill", "white_matter", method, years, ((load - true_load) ** 2, true_load**2))


def _squares(image: Tensor, target: Tensor, scan: Tensor, mask: Tensor) -> tuple[float, float]:
    """Sums over the mask of the squared error, and of the squared true change."""
    change, predicted = ((volume - scan)[mask].double() for volume in (target, image))
    return float((change - predicted).square().sum()), float(change.square().sum())


def _mean(values: np.ndarray) -> tuple[float, float, int]:
    """Mean and standard error of [people, horizons], by person."""
    of_person = values.mean(axis=1)
    return float(of_person.mean()), _spread(of_person) / len(of_person) ** 0.5, len(of_person)


def _skill(values: np.ndarray) -> tuple[float, float, int]:
    """1 - ratio of sums of [people, horizons, 2], and its standard error by leaving out one person at a time."""
    sums = values.sum(axis=1)
    total, count = sums.sum(axis=0), len(sums)
    without = total - sums
    left_out = 1 - without[:, 0] / np.where(without[:, 1] > 0, without[:, 1], np.nan)
    error = _spread(left_out) * (count - 1) / count**0.5 if count > 1 else float("nan")
    return float(1 - total[0] / total[1]), error, count


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def table(rows: Sequence[Row], methods: Sequence[str], columns: Sequence[tuple[str, str, str, str]]) -> str:
    """Markdown: a line per method, a column per (title, metric, region, horizon); value ± standard error."""
    found = {(row[0], row[1], row[2], row[3]): row for row in rows}
    lines = ["| method | " + " | ".join(title for title, *_ in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for method in methods:
        cells = []
        for _, metric, region, horizon in columns:
            row = found.get((metric, region, horizon, method))
            cells.append("" if row is None else _number(metric, row[4], row[5]))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(metric: str, value: float, error: float) -> str:
    if metric == "fold_failures":
        return f"{value:g}"
    digits = {"ssim": 4, "psnr": 2}.get(metric, 3 if metric in _SUMS else 2)
    return f"{value:.{digits}f} ± {error:.{digits}f}"
