"""Volumes of regions, and the error of a predicted volume stated three ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neuro4d_lib.errors import InputError


@dataclass(frozen=True)
class VolumeErrors:
    """Signed errors, predicted minus true, [..., R]. Their absolute values, averaged over people, are what is reported.

    Attributes:
        percent_of_whole: in % of the volume of the brain, or of the intracranial volume (BrLP, TADPOLE).
        percent_of_own: in % of the region's own volume at the last scan.
        rate_percent_per_year: error of the yearly rate 100 log(V / V_last) / years, in %/year.
    """

    percent_of_whole: np.ndarray
    percent_of_own: np.ndarray
    rate_percent_per_year: np.ndarray


def volume_errors(
    predicted_mm3: ArrayLike, true_mm3: ArrayLike, last_mm3: ArrayLike, whole_mm3: ArrayLike, years: ArrayLike
) -> VolumeErrors:
    """Compare predicted with true volumes. Both must come from one tool: the same segmentation, or det J over labels.

    Args:
        predicted_mm3, true_mm3, last_mm3: [..., R] volumes at the horizon (two) and at the last scan.
        whole_mm3: [...] volume of the brain or of the inside of the skull; say which.
        years: [...] from the last scan to the horizon, positive.
    """
    predicted, true, last = (np.asarray(volume, dtype=float) for volume in (predicted_mm3, true_mm3, last_mm3))
    whole, horizon = np.asarray(whole_mm3, dtype=float)[..., None], np.asarray(years, dtype=float)[..., None]
    if np.any(horizon <= 0):
        raise InputError(f"A horizon of {np.nanmin(horizon):g} years; horizons must lie after the last scan.")
    error = predicted - true
    return VolumeErrors(100 * error / whole, 100 * error / last, 100 * np.log(predicted / true) / horizon)


def regional_volumes(
    labels: ArrayLike, values: ArrayLike, voxel_mm3: float, determinant: ArrayLike | None = None
) -> np.ndarray:
    """The volume of each label, or what it becomes under a map.

    Args:
        labels: [D, H, W] integers, in the space of the last scan.
        values: [R] the label of each region.
        voxel_mm3: volume of a voxel.
        determinant: [D, H, W] Jacobian determinant of the *forward* map in the space of `labels` (above 1 where tissue
            grows); its integral over a label is the later volume.

    Returns:
        [R], mm3.
    """
    flat, regions = np.asarray(labels).ravel(), np.asarray(values)
    weights = None if determinant is None else np.asarray(determinant, dtype=float).ravel()
    if flat.min() < 0:
        raise InputError(f"Found a region label of {flat.min()}; labels are 0 (outside) and above.")
    sums = np.bincount(flat, weights, minlength=int(max(regions.max(), flat.max())) + 1)
    return sums[regions] * voxel_mm3
