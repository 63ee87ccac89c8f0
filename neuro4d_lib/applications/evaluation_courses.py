"""Drawn courses as maps on the voxels of the reference: do they fold, and does 0 -> 2 -> 5 years equal 0 -> 5 years?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.known_truth import HORIZONS
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.metrics.temporal import SemigroupError, semigroup_error
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.representations.deformation import Deformation

FIRST_YEARS, LAST_YEARS = 2.0, 5.0


@dataclass(frozen=True)
class CourseCheck:
    """What was found.

    Attributes:
        courses: how many were drawn.
        mean_mm, max_mm: distance between going 0 -> 2 -> 5 years and going 0 -> 5 years, in the brain.
        maps, voxels, failed: of the fold test, on all voxels of the reference's 1 mm grid.
    """

    courses: int
    mean_mm: float
    max_mm: float
    maps: int
    voxels: int
    failed: int


@torch.no_grad()
def check_courses(
    deformation: Deformation, reference: Reference, rates: Tensor, progress: Progress = silent
) -> CourseCheck:
    """Follow courses in reference space (a head of the reference's own shape), as images are delivered.

    Args:
        rates: [N, H, R] mean rates of N courses up to HORIZONS.
    """
    errors: list[SemigroupError] = []
    maps = voxels = failed = 0
    mask = torch.from_numpy(reference.mask)
    for i, of_course in enumerate(rates):
        progress(i / len(rates), f"Following course {i + 1} of {len(rates)}")
        first, second, whole = (
            on_reference(deformation, reference, rate, years) for rate, years in course_legs(of_course)
        )
        folds = [count_fold_failures(displacement) for displacement in (first, second, whole)]
        maps, voxels = maps + len(folds), voxels + sum(fold.voxels for fold in folds)
        failed += sum(fold.failed for fold in folds)
        errors.append(semigroup_error(first, second, whole, reference.grid.spacing_mm, mask))
    return CourseCheck(
        len(rates),
        float(np.mean([error.mean_mm for error in errors])),
        max(error.max_mm for error in errors),
        maps,
        voxels,
        failed,
    )


def course_legs(rates: Tensor) -> list[tuple[Tensor, float]]:
    """(mean rate [R], years) of the legs 0 -> 2, 2 -> 5 and 0 -> 5 of a course [H, R].

    A course states where it is after 2 and after 5 years. The leg between is the stationary motion of the rates that
    are left, 5 v(5) - 2 v(2), as if it were drawn by itself: not the one map that would make the composition exact.
    """
    first, whole = rates[HORIZONS.index(FIRST_YEARS)], rates[HORIZONS.index(LAST_YEARS)]
    years = LAST_YEARS - FIRST_YEARS
    return [
        (first, FIRST_YEARS),
        ((LAST_YEARS * whole - FIRST_YEARS * first) / years, years),
        (whole, LAST_YEARS),
    ]


def on_reference(deformation: Deformation, reference: Reference, rate: Tensor, years: float) -> Tensor:
    """Pull map of a rate [R] over some years on the reference's voxels, [1, 3, D, H, W] in voxels."""
    fields = deformation.fields.cpu()
    control = (rate.to(fields) @ fields.flatten(1)).unflatten(-1, fields.shape[1:])
    still = torch.zeros(1, 3, *native_grid.REFINED.shape)
    velocity = native_grid.carried_to_aligned(control[None], still)[0]
    return native_grid.displacement_on(reference.grid, np.eye(4), native_grid.flow(velocity, years).pull_mm)
