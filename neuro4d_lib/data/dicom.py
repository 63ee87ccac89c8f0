"""A DICOM folder, or a .zip of one, to an Image."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from neuro4d_lib.data.image_formats import from_itk
from neuro4d_lib.data.records import Image
from neuro4d_lib.errors import InputError

LARGEST_ZIP_BYTES = 8 * 2**30
MODALITY, DESCRIPTION = "0008|0060", "0008|103e"
POSITION, ORIENTATION = "0020|0032", "0020|0037"


def read_zip(file: Path, choice: str, what: str) -> Image:
    """Unpack into a temporary folder and read that."""
    with tempfile.TemporaryDirectory(prefix="neuro4d-dicom-") as folder:
        try:
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > LARGEST_ZIP_BYTES:
                    raise InputError(
                        f"The {what} {file} unpacks to {unpacked / 2**30:.0f} GB. Give the unpacked folder of one scan."
                    )
                archive.extractall(folder)
        except (zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"The {what} {file} is no zip file, or is damaged. Copy or download it again.") from error
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(f"The {what} {file} is encrypted or oddly packed. Unpack it, give the folder.") from error
        return replace(_read(Path(folder), choice, what, shown=file), path=str(file))


def read_folder(folder: Path, choice: str, what: str) -> Image:
    """Read the one series of a folder and its subfolders; `choice` is its series UID, or empty."""
    return _read(folder, choice, what, shown=folder)


def _read(folder: Path, choice: str, what: str, shown: Path) -> Image:
    with _quiet_itk():
        series = _series(folder)
        if not series:
            raise InputError(f"The {what} {shown} has no DICOM files in it. Expected the folder of one DICOM series.")
        if choice and choice not in series:
            raise InputError(f"The {what} {shown} has no series {choice!r}. It has:\n{_listed(series, shown)}")
        if not choice and len(series) > 1:
            raise InputError(
                f"The {what} {shown} holds {len(series)} DICOM series; one is needed. Name one, as below, or give its "
                f"subfolder.\n{_listed(series, shown)}"
            )
        return _read_series(series[choice or next(iter(series))], what, shown)


def _series(folder: Path) -> dict[str, list[str]]:
    """Files of each series UID, in the order of their slices, over the folder and all below it."""
    found: dict[str, list[str]] = {}
    for place in sorted({folder, *(path for path in folder.rglob("*") if path.is_dir())}):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            # GDCM tells series apart by more than the UID and appends to it; a longer name is still the user's choice.
            found.setdefault(uid, []).extend(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), uid))
    return found


def _listed(series: dict[str, list[str]], shown: Path) -> str:
    return "\n".join(
        f"  {shown}::{uid}   {_tag(_header(files[0]), DESCRIPTION) or 'no description'}, {len(files)} images"
        for uid, files in series.items()
    )


def _read_series(files: list[str], what: str, shown: Path) -> Image:
    try:
        headers = [_header(file) for file in files]
        modality = _tag(headers[0], MODALITY)
        if modality and modality != "MR":
            raise InputError(f"The {what} {shown} has modality {modality}. Expected a T1-weighted MR scan (MR).")
        if len(files) == 1:
            return from_itk(sitk.ReadImage(files[0]), "", shown, what)
        files = _in_order(files, headers, what, shown)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        return from_itk(reader.Execute(), "", shown, what)
    except RuntimeError as error:
        raise InputError(f"The {what} {shown} has a DICOM file that cannot be read. Export it again.") from error


def _in_order(files: list[str], headers: list[sitk.ImageFileReader], what: str, shown: Path) -> list[str]:
    """The slices from one end to the other, or a message where they make no even stack."""
    sizes = {header.GetSize()[:2] for header in headers}
    orientations = {_tag(header, ORIENTATION) for header in headers}
    positions = [_tag(header, POSITION) for header in headers]
    if len(sizes) > 1 or "" in orientations or "" in positions:
        raise InputError(
            f"The {what} {shown} is a DICOM series whose images do not make one stack (sizes or positions differ or "
            "are missing). Choose a 3D series, not a scout or a report."
        )
    axes = np.array([[float(v) for v in orientation.split("\\")] for orientation in orientations])
    if np.ptp(axes, axis=0).max() > 1e-3:
        raise InputError(f"The {what} {shown} has slices in several directions: a scout. Choose the 3D series.")
    normal = np.cross(axes[0, :3], axes[0, 3:])
    depth_mm = np.array([[float(v) for v in position.split("\\")] for position in positions]) @ normal
    order = np.argsort(depth_mm, kind="stable")
    gaps_mm = np.diff(depth_mm[order])
    step_mm = float(np.median(gaps_mm))
    if gaps_mm.min() < 0.01:
        raise InputError(
            f"The {what} {shown} has several images at the same place (echoes, time points or duplicates): "
            f"{len(files)} images at {1 + int((gaps_mm >= 0.01).sum())} places. Split the series and give one of them."
        )
    uneven = np.flatnonzero(np.abs(gaps_mm - step_mm) > 0.1 * step_mm)
    if len(uneven):
        at = int(uneven[0])
        raise InputError(
            f"The {what} {shown} lacks slices: {len(files)} were found, {step_mm:.2f} mm apart, but after "
            f"slice {at + 1} the next is {gaps_mm[at]:.2f} mm away{_further(len(uneven))}. Export the series again."
        )
    return [files[i] for i in order]


def _further(places: int) -> str:
    return "" if places == 1 else f" ({places} such gaps)"


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _tag(header: sitk.ImageFileReader, tag: str) -> str:
    return header.GetMetaData(tag).strip() if header.HasMetaDataKey(tag) else ""


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """ITK prints a warning for every file that is not DICOM; our messages say it once."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
