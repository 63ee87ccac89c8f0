"""Frames of one output, spooled to disk while the years are worked through, and the files made of them."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from neuro4d_lib.data.images import write_like
from neuro4d_lib.data.records import Image
from neuro4d_lib.geometry.spaces import affine_to_lps

_SLAB_BYTES = 32_000_000
_NRRD_TYPES = {
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}


class Frames:
    """Volumes on the voxels of one image, appended one by one, read back in turn or all at a plane.

    They lie in a plain file meanwhile, so that any number of years needs the memory of one.
    """

    def __init__(self, spool: Path, like: Image, dtype: type | None = None) -> None:
        """Begin with none.

        Args:
            spool: file to keep them in.
            like: gives the voxels, the type and the intensity scaling.
            dtype: another type, for values that are no intensities of `like`.
        """
        self.spool = spool
        self.like = like
        self.own_dtype = None if dtype is None else np.dtype(dtype)
        self.dtype = self.own_dtype or like.dtype
        self.scaled = dtype is None and (like.slope, like.inter) != (1.0, 0.0)
        self.count = 0
        spool.write_bytes(b"")

    def append(self, volume: np.ndarray) -> None:
        """Add a volume [D, H, W]."""
        if volume.shape != self.like.array.shape or volume.dtype != self.dtype:
            raise ValueError(f"Expected {self.dtype} {self.like.array.shape}, found {volume.dtype} {volume.shape}.")
        with self.spool.open("ab") as stream:
            stream.write(volume.tobytes(order="F"))
        self.count += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._read(frame) for frame in range(self.count))

    def last(self) -> np.ndarray:
        """The volume that was appended last, [D, H, W]."""
        return self._read(self.count - 1)

    def write_nifti(self, path: Path) -> None:
        """A 4D NIfTI file."""
        write_like(self.like, iter(self), path, frames=self.count, dtype=self.own_dtype)

    def write_sequence(self, path: Path, years: Sequence[float]) -> None:
        """A volume sequence of 3D Slicer (.seq.nrrd), one item per year. It has no scaling: values are intensities.

        The list axis comes first: every Slicer since 4.9 reads that, newer ones both orders.
        https://slicer.readthedocs.io/en/latest/developer_guide/modules/sequences.html
        """
        dtype = np.dtype(np.float32) if self.scaled else self.dtype
        affine_lps = affine_to_lps(self.like.affine)
        header = (
            "NRRD0004",
            "# Complete NRRD file format specification at:",
            "# http://teem.sourceforge.net/nrrd/format.html",
            f"type: {_NRRD_TYPES[dtype.name]}",
            "dimension: 4",
            "space: left-posterior-superior",
            f"sizes: {self.count} {' '.join(map(str, self.like.array.shape))}",
            f"space directions: none {' '.join(_vector(affine_lps[:3, axis]) for axis in range(3))}",
            "kinds: list domain domain domain",
            'labels: "time" "" "" ""',
            'units: "year" "" "" ""',
            f"endian: {sys.byteorder}",
            "encoding: gzip",
            f"space origin: {_vector(affine_lps[:3, 3])}",
            "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
            "DataNodeClassName:=vtkMRMLScalarVolumeNode",
            "axis 0 index type:=numeric",
            f"axis 0 index values:={' '.join(f'{year:g}' for year in years)}",
        )
        with path.open("wb") as raw:
            raw.write(("\n".join(header) + "\n\n").encode("ascii"))
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3, mtime=0) as packed:
                for values in self._interleaved():
                    if self.scaled:
                        values = values.astype(dtype) * dtype.type(self.like.slope) + dtype.type(self.like.inter)
                    packed.write(values.tobytes())

    def _read(self, frame: int) -> np.ndarray:
        values = np.fromfile(self.spool, self.dtype, self.like.array.size, offset=frame * self._frame_bytes)
        return values.reshape(self.like.array.shape, order="F")

    def _interleaved(self) -> Iterator[np.ndarray]:
        """All voxels in pieces [voxels, frames], D fastest among the voxels."""
        plane_voxels = math.prod(self.like.array.shape[:2])
        plane_bytes = plane_voxels * self.dtype.itemsize
        step = max(1, _SLAB_BYTES // (plane_bytes * self.count))
        for start in range(0, self.like.array.shape[2], step):
            voxels = plane_voxels * min(step, self.like.array.shape[2] - start)
            offsets = [frame * self._frame_bytes + start * plane_bytes for frame in range(self.count)]
            yield np.stack([np.fromfile(self.spool, self.dtype, voxels, offset=place) for place in offsets], axis=1)

    @property
    def _frame_bytes(self) -> int:
        return self.like.array.size * self.dtype.itemsize


def _vector(values: np.ndarray) -> str:
    return f"({','.join(f'{value:.17g}' for value in values)})"
