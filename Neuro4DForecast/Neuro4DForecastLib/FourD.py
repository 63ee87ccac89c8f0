"""4D NIfTI files, read frame by frame in small steps, so that the panel stays live; and their years."""

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from Neuro4DForecastLib import Failures
from Neuro4DForecastLib.Problem import Problem

CHUNK_BYTES = 2 << 20
YEAR = "year"
COMMENT = 6  # the NIfTI header extension that holds plain text


def header(path: Path):
    """nibabel image of a NIfTI file, voxels unread; a Problem if it is none."""
    try:
        import nibabel
    except ImportError:
        raise Problem(Failures.KNOWN["noPackage"][1], kind="noPackage") from None
    try:
        image = nibabel.load(path)
    except FileNotFoundError:
        raise Problem(f"{path} does not exist.") from None
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise Problem(f"{path.name} cannot be read as a NIfTI file: {error}.") from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise Problem(f"{path.name} is not a NIfTI file.")
    return image


def frames(path: Path, image=None, step: int = 1) -> Iterator[np.ndarray | None]:
    """Each frame [I, J, K] of a 3D, 4D or 5D file in turn (5D: [I, J, K, C]); None between the pieces of one.

    `step` keeps every step-th voxel of each axis only.
    """
    image = image or header(path)
    shape, proxy = image.shape, image.dataobj
    vector = len(shape) == 5
    count = (shape[3] if len(shape) > 3 else 1) * (shape[4] if vector else 1)
    voxels = int(np.prod(shape[:3]))
    frameBytes = voxels * proxy.dtype.itemsize
    opener = gzip.open if path.suffix == ".gz" else open
    vectors: list[list[np.ndarray]] = [[] for _ in range(shape[3])] if vector else []
    with opener(path, "rb") as file:
        file.read(proxy.offset)
        for index in range(count):
            buffer = memoryview(np.empty(frameBytes, np.uint8))
            position = 0
            while position < frameBytes:
                try:
                    got = file.readinto(buffer[position : position + CHUNK_BYTES])
                except (EOFError, OSError, zlib.error):
                    got = 0
                if not got:
                    raise Problem(f"{path.name} is not complete: it ends too early.")
                position += got
                yield None
            frame = np.frombuffer(buffer, proxy.dtype).reshape(shape[:3], order="F")
            frame = scaled(frame[::step, ::step, ::step], proxy)
            if not vector:
                yield frame
            else:  # components are the slowest axis of the file: keep them until all are there
                vectors[index % shape[3]].append(frame)
    for components in vectors:
        yield np.stack(components, axis=-1)


def scaled(frame: np.ndarray, proxy) -> np.ndarray:
    native = frame.astype(frame.dtype.newbyteorder("="), copy=False)
    slope, inter = proxy.slope, proxy.inter
    if slope in (None, 1.0) and inter in (None, 0.0):
        return native
    return native.astype(np.float32) * np.float32(slope) + np.float32(inter)


def timesOf(path: Path, image=None) -> tuple[list[float], str]:
    """Times of the frames and their unit: years from a JSON file beside it or from the header's own text, else the time
    step of the header, in seconds or in the unit "step" where it has none.
    """
    image = image or header(path)
    count = image.shape[3] if len(image.shape) > 3 else 1
    for beside in (sidecar(path), path.with_name("forecast.json")):
        years = _yearsIn(beside.read_text(encoding="utf-8")) if beside.is_file() else None
        if years is not None and len(years) == count - 1 and 0 not in years:
            years = [0.0, *years]  # forecast.json lists the years ahead; frame 0 is the scan
        if years is not None and len(years) == count:
            return years, YEAR
    for extension in image.header.extensions:
        text = extension.get_content()
        years = _yearsIn(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))
        if years is not None and len(years) == count:
            return years, YEAR
    step = float(image.header.get_zooms()[3]) if len(image.shape) > 3 else 1.0
    step = step if math.isfinite(step) and step > 0 else 1.0
    seconds = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1])
    return [index * step * (seconds or 1.0) for index in range(count)], "s" if seconds else "step"


def sidecar(path: Path) -> Path:
    """The file beside a NIfTI file that holds its years."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    return path.with_name(f"{stem}.json")


def _yearsIn(text: str) -> list[float] | None:
    try:
        values = json.loads(text.rstrip("\0"))["years"]
        return [float(value) for value in values]
    except (ValueError, KeyError, TypeError):
        return None


def write(path: Path, frameList: list[np.ndarray], affine: np.ndarray, years: list[float], notes: dict) -> None:
    """A 4D NIfTI whose header and sidecar both carry the years, so that it comes back as the same sequence."""
    import nibabel

    stacked = np.stack(frameList, axis=-1)
    image = nibabel.Nifti1Image(stacked, affine)
    image.header.set_xyzt_units("mm")  # NIfTI has no unit for years
    text = json.dumps({"years": years, **notes}, ensure_ascii=False)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT, text.encode("utf-8")))
    if len(years) > 1:
        image.header["pixdim"][4] = years[1] - years[0]
    nibabel.save(image, path)
    sidecar(path).write_text(text, encoding="utf-8")
