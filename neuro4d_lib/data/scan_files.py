"""What can be told of a scan without loading it: its grid, whether the file is whole, whether two files are one image."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from neuro4d_lib.data.image_formats import ITK_ENDINGS, NIBABEL_ENDINGS

_NIFTI_ENDINGS = (".nii", ".nii.gz")
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_SAMPLE_BYTES = 1 << 16
_THREADS = 8


@dataclass(frozen=True)
class ScanFile:
    """One file by its header.

    Attributes:
        fault: why it cannot be a scan, as the rest of a sentence that begins with its name; "" where nothing is wrong.
        voxel_mm: None where the format is not looked into.
        content: the same for files that may be the same image; None where that cannot be told cheaply.
    """

    fault: str = ""
    voxel_mm: tuple[float, float, float] | None = None
    content: tuple[int, ...] | None = None


def look_at(paths: Iterable[Path]) -> dict[Path, ScanFile]:
    """Every file once. A few are looked at together: most of the time goes into waiting for disks."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(unique, pool.map(_look, unique), strict=True))


def digest(path: Path) -> bytes | None:
    """The same for files that hold the same bytes, gzip aside; None for one that cannot be read to its end."""
    sha = hashlib.sha256()
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            while block := stream.read(1 << 22):
                sha.update(block)
    except (OSError, EOFError, zlib.error):
        return None
    return sha.digest()


def _look(path: Path) -> ScanFile:
    file = Path(str(path).partition("::")[0])
    try:
        if file.is_dir():
            return ScanFile()
        size = file.stat().st_size
        if size == 0:
            return ScanFile("is an empty file")
        name = file.name.lower()
        if name.endswith(_NIFTI_ENDINGS):
            found = _look_into(file, size, name.endswith(".gz"))
            return found if file == path else dataclasses.replace(found, content=None)  # one volume of several
    except FileNotFoundError:
        return ScanFile("does not exist" + (" (a broken link)" if file.is_symlink() else ""))
    except (OSError, EOFError, zlib.error) as problem:
        said = getattr(problem, "strerror", None)
        return ScanFile(f"cannot be read ({said})" if said else "is no gzip file, or is damaged or cut short")
    if not name.endswith((*NIBABEL_ENDINGS, *ITK_ENDINGS, ".zip")):
        return ScanFile("is of an unknown kind; expected NIfTI, .mgz, .nrrd, .mha or a DICOM folder")
    return ScanFile()


def _look_into(file: Path, size: int, packed: bool) -> ScanFile:
    with gzip.open(file) if packed else file.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    header = _header(start)
    if header is None:
        return ScanFile("is no NIfTI image, or its header is damaged")
    shape = [int(n) for n in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) < 3 or min(shape[:3]) < 2:
        return ScanFile(f"is no 3D image ({' x '.join(map(str, shape))} voxels)")
    needed = int(header["vox_offset"]) + int(np.prod(shape, dtype=np.int64)) * header.get_data_dtype().itemsize
    if packed:
        with file.open("rb") as stream:
            stream.seek(-8, 2)
            checksum, unpacked = struct.unpack("<II", stream.read(8))
        # The last bytes of gzip tell the length. Files of several parts tell that of the last: then unpack.
        if unpacked != needed % 2**32 and _unpacked(file) < needed:
            return ScanFile("is cut short: it ends before its last voxel")
        content = (checksum, unpacked)
    else:
        if size < needed:
            return ScanFile(f"is cut short: {size} bytes, its header asks for {needed}")
        content = (_sampled(file, size), size)
    spacing = [float(abs(step)) for step in header.get_zooms()[:3]]
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        return ScanFile("has a damaged header: no size of voxels")
    return ScanFile("", (spacing[0], spacing[1], spacing[2]), content)


def _header(start: bytes) -> nib.Nifti1Header | None:
    for kind, length in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if len(start) >= length and kind.may_contain_header(start[:length]):
            try:
                header = kind(start[:length], check=False)
                header.get_data_dtype()
                header.get_data_shape()
                return header
            except Exception:  # nibabel has many ways to say that a header is damaged
                return None
    return None


def _unpacked(file: Path) -> int:
    """Bytes until the end or the first damage."""
    length = 0
    with gzip.open(file) as stream:
        try:
            while block := stream.read(1 << 22):
                length += len(block)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return 0
    return length


def _sampled(file: Path, size: int) -> int:
    """A checksum of the beginning, the middle and the end."""
    checksum = 0
    with file.open("rb") as stream:
        for place in (0, size // 2, max(size - _SAMPLE_BYTES, 0)):
            stream.seek(place)
            checksum = zlib.crc32(stream.read(_SAMPLE_BYTES), checksum)
    return checksum
