"""What a scan must be before anything is computed from it. Each fault has its own message."""

from __future__ import annotations

import numpy as np

from neuro4d_lib.data.records import Image
from neuro4d_lib.errors import InputError

VOXEL_MM = (0.2, 8.0)
FIELD_MM = (90.0, 600.0)
LARGEST_VOXELS = 300_000_000
SHEAR_DEGREES = 30.0
# Of the pairs of neighboring voxels that lie off the background, those with equal values: at most 0.26 in the real
# scans at hand (8-bit, upsampled), at least 0.77 in their label maps. A scan with every voxel repeated has 0.6.
LABEL_EQUAL_NEIGHBORS = 0.68
LABEL_FEW_VALUES = 8


def check(image: Image, what: str, *, allow_labels: bool) -> None:
    """Raise an InputError for the first thing that is wrong with the image."""
    name = f"The {what} {image.path}".rstrip()
    _check_affine(image, name)
    _check_extent(image, name)
    _check_finite(image, name)
    low, high = float(image.array.min()), float(image.array.max())
    if low == high:
        raise InputError(f"{name} is empty: every voxel is {low * image.slope + image.inter:g}. Export it again.")
    if allow_labels:
        if image.array.dtype.kind == "f" and not _whole_numbers(image.array):
            raise InputError(f"{name} has values that are no whole numbers. Expected a label map.")
    elif _looks_like_labels(image.array):
        raise InputError(
            f"{name} looks like a label map or mask: a few whole numbers in large even patches. Expected the "
            "T1-weighted scan itself."
        )


def _check_affine(image: Image, name: str) -> None:
    columns = image.affine[:3, :3]
    if not np.isfinite(image.affine).all():
        raise InputError(f"{name} has an affine with values that are no numbers. Convert it again from DICOM.")
    sizes = np.linalg.norm(columns, axis=0)
    volume = abs(np.linalg.det(columns)) / max(float(np.prod(sizes)), 1e-30)
    if sizes.min() < 1e-6 or volume < np.cos(np.radians(SHEAR_DEGREES)) ** 3 * 0.5:
        raise InputError(
            f"{name} has an affine that flattens or shears space (voxel size {_mm(sizes)}), so its voxels have no "
            "place. Convert it again from DICOM."
        )


def _check_extent(image: Image, name: str) -> None:
    voxel_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    if voxel_mm.min() < VOXEL_MM[0] or voxel_mm.max() > VOXEL_MM[1]:
        raise InputError(
            f"{name} has voxels of {_mm(voxel_mm)}. Expected {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm: check the units of "
            "the header, or resample it to about 1 mm."
        )
    field_mm = voxel_mm * image.array.shape
    if field_mm.min() < FIELD_MM[0]:
        raise InputError(
            f"{name} covers {_mm(field_mm)}, too little to hold a brain. Expected at least {FIELD_MM[0]:g} mm along "
            "every axis: give the scan of the whole brain."
        )
    if field_mm.max() > FIELD_MM[1] or image.array.size > LARGEST_VOXELS:
        raise InputError(
            f"{name} covers {_mm(field_mm)} with {image.array.size / 1e6:.0f} million voxels, more than a head needs. "
            "Crop it to the head, or resample it to about 1 mm."
        )


def _check_finite(image: Image, name: str) -> None:
    if image.array.dtype.kind != "f":
        return
    bad = ~np.isfinite(image.array)
    count = int(np.count_nonzero(bad))
    if count:
        first = np.unravel_index(int(bad.argmax()), bad.shape)
        place_mm = (image.affine @ [*first, 1])[:3]
        raise InputError(
            f"{name} has {count} voxels ({100 * count / bad.size:.2g} %) that are NaN or infinite, the first at voxel "
            f"{tuple(int(i) for i in first)}, RAS {place_mm[0]:.0f} {place_mm[1]:.0f} {place_mm[2]:.0f} mm. Replace "
            "them, by 0 where they are background, and save it again."
        )


def _looks_like_labels(array: np.ndarray) -> bool:
    """Whole numbers that repeat from voxel to voxel; a scan has noise, even with 8 bits."""
    slices = array[:: max(1, array.shape[0] // 48)]
    if not _whole_numbers(slices):
        return False
    values, counts = np.unique(slices, return_counts=True)
    if len(values) <= LABEL_FEW_VALUES:
        return True
    background = values[counts.argmax()]
    equal = pairs = 0
    for near, far in ((slices[:, :-1], slices[:, 1:]), (slices[:, :, :-1], slices[:, :, 1:])):
        inside = (near != background) & (far != background)
        pairs += int(np.count_nonzero(inside))
        equal += int(np.count_nonzero(inside & (near == far)))
    return equal > LABEL_EQUAL_NEIGHBORS * pairs


def _whole_numbers(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.array_equal(array, np.rint(array)))


def _mm(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes) + " mm"
