"""Any file or DICOM folder to an Image, and an Image back to a NIfTI file on exactly the same voxels."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np

from neuro4d_lib.data import dicom, image_checks, image_formats
from neuro4d_lib.data.records import Image
from neuro4d_lib.errors import InputError


def read_image(path: str | os.PathLike[str], *, allow_labels: bool = False, what: str = "scan") -> Image:
    """Read one 3D image and refuse, in plain words, whatever cannot be one.

    Args:
        path: a .nii, .nii.gz, .mgz, .mgh, .nrrd, .nhdr, .mha or .mhd file, a DICOM folder or a .zip of one. With
            `::` behind it: `scan.nii.gz::2` is the third volume of several, `folder::1.2.840...` one DICOM series.
        allow_labels: expect a label map (whole numbers, however few) instead of a scan.
        what: what to call it in messages, such as "scan", "past scan" or "segmentation".
    """
    place, _, choice = str(path).partition("::")
    file = Path(place).expanduser()
    _check_readable(file, what)
    try:
        if file.is_dir():
            image = dicom.read_folder(file, choice, what)
        elif file.suffix.lower() == ".zip":
            image = dicom.read_zip(file, choice, what)
        else:
            image = image_formats.read_file(file, choice, what)
    except MemoryError as error:
        raise InputError(f"The {what} {place} does not fit into memory. Crop or resample it first.") from error
    image_checks.check(image, what, allow_labels=allow_labels)
    return image


def write_like(
    image: Image,
    array: np.ndarray | Iterable[np.ndarray],
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    dtype: np.dtype | type | None = None,
    overwrite: bool = False,
) -> None:
    """Write values on the voxels of `image` as NIfTI. The file appears whole or not at all.

    Args:
        image: gives grid, type and intensity scaling.
        array: on the scale of `image.array`: [D, H, W]; or [T, D, H, W], which becomes a file of T volumes. For a type
            of whole numbers, others are rounded and cut to its range. An iterable of T frames [D, H, W] is written
            frame by frame, so that they need not all be in memory; say how many with `frames`.
        path: ends in .nii or .nii.gz.
        dtype: another type, for values that are no intensities; the intensity scaling is then left out.
        overwrite: replace a file that is there.
    """
    file = Path(path)
    if not file.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"Cannot write {file.name}: results are NIfTI files, with names in .nii or .nii.gz.")
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already. Choose another name, or ask to overwrite it.")
    volumes: Iterable[np.ndarray] = array if not isinstance(array, np.ndarray) or array.ndim == 4 else [array]
    if isinstance(array, np.ndarray):
        frames = len(array) if array.ndim == 4 else None
    stored_type = image.dtype if dtype is None else np.dtype(dtype)
    header = _header(image, stored_type, frames, scaled=dtype is None)
    with _atomic(file) as stream:
        stream.write(header)
        written = 0
        for volume in volumes:
            if volume.shape != image.array.shape:
                raise ValueError(f"Frame {written} has shape {volume.shape}; the image has {image.array.shape}.")
            stream.write(_as_type(volume, stored_type).tobytes(order="F"))
            written += 1
        if written != (frames or 1):
            raise ValueError(f"{written} frames were given, {frames or 1} announced.")


def _check_readable(file: Path, what: str) -> None:
    if not file.exists():
        raise InputError(f"The {what} {file} does not exist. Check the path{_nearest_existing(file)}.")
    if file.is_dir():
        if not os.access(file, os.R_OK | os.X_OK):
            raise InputError(f"The folder {file} may not be read. Check its permissions.")
        return
    if file.stat().st_size == 0:
        raise InputError(f"The {what} {file} is an empty file. Copy or export it again.")
    try:
        file.open("rb").close()
    except OSError as error:
        raise InputError(f"The {what} {file} could not be opened ({error.strerror}). Check its permissions.") from error


def _nearest_existing(file: Path) -> str:
    """Where a wrong path stops being right."""
    parent = next((parent for parent in file.parents if parent.exists()), None)
    if parent is None or parent == file.parent or parent == Path("."):
        return ""
    return f": {parent} exists, {parent / file.relative_to(parent).parts[0]} does not"


def _header(image: Image, dtype: np.dtype, frames: int | None, scaled: bool) -> bytes:
    """The first 352 bytes of a NIfTI-1 file: everything before the voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(image.array.shape if frames is None else (*image.array.shape, frames))
    # A quaternion holds no shear: where the affine has one, only the sform is declared valid.
    header.set_qform(image.affine, image.qform_code or image.sform_code or 1, strip_shears=True)
    if not np.allclose(header.get_qform(), image.affine, atol=1e-3):
        header["qform_code"] = 0
    header.set_sform(image.affine, image.sform_code or image.qform_code or 1)
    header.set_xyzt_units("mm", "unknown")
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["scl_slope"], header["scl_inter"] = (image.slope, image.inter) if scaled else (1.0, 0.0)
    return header.binaryblock + bytes(4)


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if values.dtype == dtype or dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if values.dtype.kind == "f":
        # float32 does not hold the largest int32: clip in float64, where that matters.
        values = np.rint(values.astype(np.float64) if dtype.itemsize > 2 else values)
    return np.clip(values, limits.min, limits.max).astype(dtype)


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


@contextmanager
def _atomic(file: Path) -> Iterator[_Writable]:
    """A stream to a temporary neighbor of `file`, moved into its place at the end, removed if anything goes wrong."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as raw:
            if file.suffix == ".gz":
                # No name and time inside, so that equal results are equal files.
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3, mtime=0) as packed:
                    yield packed
            else:
                yield raw
        os.replace(temporary, file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(f"No space is left on the disk for {file}. Free some and run again.") from error
        raise InputError(f"{file} could not be written ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)
