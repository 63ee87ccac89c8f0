"""The area of the lateral ventricles on an axial slice of a skull-stripped T1-weighted scan."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

PIXEL_MM = 0.7375
# A ventricle lies so deep in the brain, its middle so near to the middle of the slice.
_DEEP_MM, _ACROSS_MM, _ALONG_MM = 18.0, 25.0, 32.0
_LEAST_MM2, _RIM_MM = 15.0, 3.0


def ventricle_area_mm2(slice_: np.ndarray) -> float:
    """Area of the ventricles of a slice [x, y], mm2; NaN where none are found."""
    return float(ventricle_share(slice_).sum() * PIXEL_MM**2) or float("nan")


def ventricle_share(slice_: np.ndarray) -> np.ndarray:
    """Share of ventricle in every pixel, so that its edge is not a matter of one threshold.

    Args:
        slice_: [x, y], ventricles dark, background darkest.

    Returns:
        [x, y], 0 to 1; 0 everywhere where no ventricle is found.
    """
    values = ndimage.gaussian_filter(slice_.astype(float), 0.7)
    background = np.bincount(slice_.ravel()).argmax()
    bright = ndimage.binary_opening(slice_ > background + 12, iterations=2)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(_largest(bright), iterations=6))
    if not brain.any():
        return np.zeros(slice_.shape)
    threshold = _fluid_threshold(values[brain])
    deep = ndimage.distance_transform_edt(brain) * PIXEL_MM > _DEEP_MM
    labels, count = ndimage.label(ndimage.binary_opening((values < threshold) & deep))
    middle = ndimage.center_of_mass(brain)
    ventricles = np.zeros_like(brain)
    for number, place in enumerate(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)), start=1):
        across_mm, along_mm = np.abs(np.subtract(place, middle)) * PIXEL_MM
        part = labels == number
        if across_mm < _ACROSS_MM and along_mm < _ALONG_MM and part.sum() * PIXEL_MM**2 > _LEAST_MM2:
            ventricles |= part
    if not ventricles.any():
        return np.zeros(slice_.shape)
    rim = round(_RIM_MM / PIXEL_MM)
    inner, around = (
        ndimage.binary_erosion(ventricles, iterations=2),
        ndimage.binary_dilation(ventricles, iterations=rim),
    )
    fluid = np.median(values[inner if inner.any() else ventricles])
    tissue = np.median(values[around & ~ndimage.binary_dilation(ventricles, iterations=2)])
    share = np.clip((tissue - values) / max(tissue - fluid, 1e-6), 0, 1)
    return np.where(around, share, 0)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else mask


def _fluid_threshold(values: np.ndarray) -> float:
    """The lower of the two thresholds that divide [N] intensities into fluid, gray and white matter."""
    found = sitk.OtsuMultipleThresholdsImageFilter()
    found.SetNumberOfThresholds(2)
    found.Execute(sitk.GetImageFromArray(values[None]))
    return float(found.GetThresholds()[0])
