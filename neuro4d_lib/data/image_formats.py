"""Files of one image: NIfTI and MGH through nibabel, NRRD and MetaImage through SimpleITK."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from neuro4d_lib.data.records import Image
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import affine_from_lps

NIBABEL_ENDINGS = (".nii", ".nii.gz", ".mgz", ".mgh")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
FORMATS = "NIfTI (.nii, .nii.gz), .mgz, .nrrd, .mha, or a DICOM folder or .zip"


def read_file(file: Path, choice: str, what: str) -> Image:
    """Read one file; `choice` is the number of a volume, from 0, or empty."""
    name = file.name.lower()
    if name.endswith(NIBABEL_ENDINGS):
        return _read_with_nibabel(file, choice, what)
    if name.endswith(ITK_ENDINGS):
        return _read_with_itk(file, choice, what)
    with file.open("rb") as stream:
        if stream.read(132)[128:] == b"DICM":
            raise InputError(f"{file} is a single DICOM file. Give the folder of the whole series: {file.parent}")
    raise InputError(f"The {what} {file} is of an unknown kind. Expected {FORMATS}.")


def _read_with_nibabel(file: Path, choice: str, what: str) -> Image:
    try:
        if file.name.lower().endswith((".gz", ".mgz")):
            _check_gzip(file)
        image = nib.load(file)
        if not isinstance(image, SpatialImage):
            raise ImageFileError("no voxels")
        place = _choose_volume(tuple(image.shape), choice, file, what)
        dtype = _check_type(np.dtype(image.get_data_dtype()), file, what)
        proxy = image.dataobj
        stored = proxy.get_unscaled() if hasattr(proxy, "get_unscaled") else np.asanyarray(proxy)
        array = np.ascontiguousarray(stored[place]).astype(dtype, copy=False)
    except (EOFError, zlib.error) as error:
        raise _cut_short(file, what) from error
    except gzip.BadGzipFile as error:
        raise InputError(
            f"The {what} {file} is no image: its name says gzip, its content is not. "
            "Unpacked NIfTI is named .nii; a text or web page saved under this name must be downloaded again."
        ) from error
    except OSError as error:
        if "Expected" in str(error) or "not enough" in str(error):
            raise _cut_short(file, what) from error
        raise InputError(f"The {what} {file} could not be read ({error}). Check the file.") from error
    except (ImageFileError, HeaderDataError, MGHError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The {what} {file} is no image, or its header is damaged. Expected {FORMATS}.") from error
    sform_code = qform_code = 1
    if isinstance(image, nib.Nifti1Pair):
        sform_code, qform_code = int(image.header["sform_code"]), int(image.header["qform_code"])
        if sform_code <= 0 and qform_code <= 0:
            raise InputError(
                f"The {what} {file} does not say how its voxels lie in space (sform and qform codes are both 0), so "
                "left and right cannot be told. Convert it again from DICOM, or set the orientation (in 3D Slicer: "
                "load, check and save it)."
            )
    slope, inter = (float(getattr(proxy, "slope", 1.0)), float(getattr(proxy, "inter", 0.0)))
    return Image(array, np.array(image.affine), dtype, slope, inter, str(file), sform_code, qform_code)


def _read_with_itk(file: Path, choice: str, what: str) -> Image:
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise InputError(
            f"The {what} {file} could not be read: it is no image, is cut short or is damaged. Expected {FORMATS}."
        ) from error
    if file.suffix.lower() in (".nrrd", ".nhdr") and "NRRD_space" not in image.GetMetaDataKeys():
        raise InputError(
            f"The {what} {file} does not say how its voxels lie in space (no 'space' field), so left and right cannot "
            "be told. Save it again from a program that knows, or convert it again from DICOM."
        )
    return from_itk(image, choice, file, what)


def from_itk(image: sitk.Image, choice: str, file: Path, what: str) -> Image:
    """A SimpleITK image, which is LPS and lists its axes backwards in arrays, as an Image."""
    array = sitk.GetArrayFromImage(image).T
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        array = np.moveaxis(array, 0, -1)
        is_list = any(image.GetMetaData(key) == "list" for key in image.GetMetaDataKeys() if "NRRD_kinds" in key)
        if not is_list:
            raise _no_scalar(f"{components} values in every voxel (color or vectors)", file, what)
    place = _choose_volume(array.shape, choice, file, what)
    dtype = _check_type(array.dtype, file, what)
    affine_lps = np.eye(4)
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine_lps[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    affine_lps[:3, 3] = image.GetOrigin()[:3]
    return Image(np.ascontiguousarray(array[place]), affine_from_lps(affine_lps), dtype, path=str(file))


def _check_gzip(file: Path) -> None:
    """Unpack to the end: only there does gzip compare checksum and length, and nibabel stops before."""
    with gzip.open(file) as stream:
        while stream.read(1 << 22):
            pass


def _choose_volume(shape: tuple[int, ...], choice: str, file: Path, what: str) -> tuple[slice | int, ...]:
    """The index that takes one [D, H, W] volume out of `shape`."""
    axes = len(shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3 or min(shape[:3]) < 2:
        size = " x ".join(map(str, shape))
        raise InputError(f"The {what} {file} is a single slice ({size}). Expected a 3D image of the whole brain.")
    if len(shape) > 4:
        raise _no_scalar(f"{' x '.join(map(str, shape[3:]))} values in every voxel", file, what)
    whole = (slice(None),) * 3
    volumes = shape[3] if len(shape) == 4 else 1
    if not choice:
        if volumes > 1:
            raise InputError(
                f"The {what} {file} holds {volumes} volumes, which makes it 4D; one is needed. "
                f"Name one, from {file.name}::0 to {file.name}::{volumes - 1}."
            )
        return whole + (0,) * (axes - 3)
    if not re.fullmatch(r"\d+", choice) or int(choice) >= volumes:
        last = f"0 to {volumes - 1}" if volumes > 1 else "0"
        raise InputError(f"The {what} {file} has no volume {choice!r}. Its volumes are numbered {last}.")
    return (*whole, int(choice), *(0,) * (axes - 4)) if axes > 3 else whole


def _check_type(dtype: np.dtype, file: Path, what: str) -> np.dtype:
    """The type in this machine's byte order; not every number makes an image."""
    if dtype.kind == "c":
        raise _no_scalar("complex numbers", file, what)
    if dtype.kind not in "iufb":
        raise _no_scalar("color (RGB)", file, what)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def _no_scalar(found: str, file: Path, what: str) -> InputError:
    return InputError(
        f"The {what} {file} has {found}. Expected one number in every voxel: a structural MR image. "
        "Export the magnitude image in gray values."
    )


def _cut_short(file: Path, what: str) -> InputError:
    return InputError(
        f"The {what} {file} is cut short or damaged: it ends before its last voxel, or its checksum is wrong. "
        "Copy or download it again."
    )
