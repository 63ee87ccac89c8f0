"""What is asked of a forecast, checked before any work is done."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.errors import InputError

Scan = str | os.PathLike[str] | Image
"""A file, a DICOM folder or an image that is in memory."""

MOST_FUTURES = 1000
MOST_STEPS = 1000
CLOSEST_YEARS = 0.01
LEAST_PAST_YEARS = 0.05
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a forecast was made from.

    Attributes:
        past: earlier scans with their years before the scan (negative), in order of time.
        also: other modalities in the scan's space, each on its own grid.
    """

    scan: Image
    covariates: Covariates
    past: tuple[tuple[Image, float], ...]
    segmentation: Image | None
    also: tuple[Image, ...]


def gather(
    scan: Scan,
    covariates: Covariates | None,
    past: Sequence[tuple[Scan, float]],
    segmentation: Scan | None,
    also: Sequence[Scan],
) -> Inputs:
    """Read what is given as a path and check that it fits together; see `forecaster.forecast`."""
    image = as_image(scan)
    return Inputs(
        scan=image,
        covariates=covariates or Covariates(),
        past=tuple(checked_past(past, image)),
        segmentation=checked_segmentation(segmentation, image),
        also=tuple(as_image(other, what="other image") for other in also),
    )


def as_image(scan: Scan, what: str = "scan", allow_labels: bool = False) -> Image:
    """The image itself, read where a path is given."""
    return scan if isinstance(scan, Image) else read_image(scan, what=what, allow_labels=allow_labels)


def checked_years(years: Iterable[float], ranges: Mapping[str, Any]) -> tuple[float, ...]:
    """The years to forecast, or an InputError: positive, ascending, within what the model has learned."""
    values = tuple(float(year) for year in years)
    low, high = ranges["years"]
    expected = f"Expected years after the scan in ascending order, {low:g} to {high:g} for this model, such as 1 2 3 5."
    if not values:
        raise InputError(f"No years were given. {expected}")
    for year in values:
        if not math.isfinite(year) or year <= 0:
            raise InputError(f"The years contain {year:g}. {expected}")
        if not low <= year <= high:
            raise InputError(f"The years contain {year:g}, which this model has not learned. {expected}")
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise InputError(f"The years {_listed(values)} are not ascending. {expected}")
    for earlier, later in itertools.pairwise(values):
        if later - earlier < CLOSEST_YEARS - 1e-9:
            raise InputError(
                f"The years {earlier!r} and {later!r} are closer than {CLOSEST_YEARS:g}, about four days. {expected}"
            )
    return values


def checked_seed(seed: int) -> int:
    """A whole number that a generator takes, or an InputError."""
    if isinstance(seed, bool) or int(seed) != seed or not abs(seed) < 2**62:
        raise InputError(f"The seed is {seed}; expected a whole number between -2^62 and 2^62.")
    return int(seed)


def checked_count(name: str, value: int, low: int, high: int) -> int:
    """A whole number within limits, or an InputError."""
    if isinstance(value, bool) or int(value) != value or not low <= value <= high:
        raise InputError(f"The number of {name} is {value}; expected a whole number from {low} to {high}.")
    return int(value)


def checked_past(past: Sequence[tuple[Scan, float]], scan: Image) -> list[tuple[Image, float]]:
    """Earlier scans in order of time, or an InputError."""
    checked = []
    for given, years in past:
        image = as_image(given, what="past scan")
        name = f"The past scan {image.path}".rstrip()
        if not math.isfinite(years) or years >= 0:
            raise InputError(
                f"{name} is placed at {years:g} years; expected a negative number, the years before the latest scan, "
                "such as earlier.nii.gz:-1.5. The latest scan is the one that is forecast from."
            )
        if years > -LEAST_PAST_YEARS:
            raise InputError(
                f"{name} is placed at {years:g} years; expected {-LEAST_PAST_YEARS:g} or earlier: in less time nothing "
                "changes that a scan could show."
            )
        if image.array.shape == scan.array.shape and np.array_equal(image.array, scan.array):
            raise InputError(f"{name} is the same image as the scan. Give the scan that was made earlier.")
        checked.append((image, float(years)))
    checked.sort(key=lambda item: item[1])
    for (_, earlier), (_, later) in itertools.pairwise(checked):
        if earlier == later:
            raise InputError(f"Two past scans are placed at {earlier:g} years. Give each its own time.")
    return checked


def checked_segmentation(given: Scan | None, scan: Image) -> Image | None:
    """A label map on the scan's own voxels, or an InputError."""
    if given is None:
        return None
    image = as_image(given, what="segmentation", allow_labels=True)
    name = f"The segmentation {image.path}".rstrip()
    if image.array.shape != scan.array.shape:
        raise InputError(
            f"{name} has {_listed(image.array.shape, ' x ')} voxels, the scan has {_listed(scan.array.shape, ' x ')}. "
            "Resample it to the scan's grid with nearest neighbor."
        )
    corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
    corners[:3] *= np.array(scan.array.shape)[:, None] - 1
    apart_mm = np.abs((image.affine - scan.affine) @ corners).max()
    if apart_mm > _SAME_PLACE_MM:
        raise InputError(
            f"{name} lies up to {apart_mm:.2f} mm beside the scan. Resample it to the scan's grid, nearest neighbor."
        )
    return image


def outside_ranges(covariates: Covariates, past: Sequence[tuple[Image, float]], ranges: Mapping[str, Any]) -> list[str]:
    """One sentence for everything that is known of the person and lies outside what the model has learned."""
    warnings = []
    values = {name: value for name, value in covariates.as_dict().items() if value is not None and name in ranges}
    for name, value in values.items():
        learned = ranges[name]
        if isinstance(value, str):
            if value not in learned:
                warnings.append(f"The {name} {value} is new to this model, which has learned {_listed(learned)}.")
        elif not learned[0] <= value <= learned[-1]:
            warnings.append(
                f"The {name.replace('_', ' ')} {value:g} is outside the {learned[0]:g} to {learned[-1]:g} that this "
                "model has learned: the forecast is an extrapolation."
            )
    for image, years in past:
        low, high = sorted(ranges.get("past_years", (years, years)))
        if not low <= years <= high:
            warnings.append(
                f"The past scan {Path(image.path).name} at {years:g} years is outside the {low:g} to {high:g} years "
                "that this model has learned."
            )
    return warnings


def _listed(values: Iterable[Any], separator: str = " ") -> str:
    return separator.join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
