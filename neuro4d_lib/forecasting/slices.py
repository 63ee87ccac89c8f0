"""The slices of each frame that figure and report show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro4d_lib.data.records import Image
from neuro4d_lib.data.regions import REGIONS
from neuro4d_lib.geometry.spaces import canonical

_MARGIN_MM = 12.0
PLANES = ("axial", "coronal")


@dataclass(frozen=True)
class Slice:
    """One slice of one frame, ready to be shown: rows from top to bottom, columns from the person's right to left.

    Attributes:
        gray: [rows, columns] 0 to 1, the same scale for all frames.
        brain: [rows, columns] bool.
        change_percent: [rows, columns] volume change, or None at the scan.
    """

    gray: np.ndarray
    brain: np.ndarray
    change_percent: np.ndarray | None


class Slices:
    """Cuts the same two planes out of every frame: axial through the ventricles, coronal through the hippocampi.

    The planes follow the scan's own voxels, so that nothing is resampled. Left and right as radiologists see them.

    Attributes:
        frames: for each frame its year and its slices by plane.
        aspect: for each plane the height of a pixel over its width.
    """

    def __init__(self, scan: Image, labels: np.ndarray) -> None:
        self.scan = scan
        self._brain = labels > 0
        regions, affine, _ = canonical(labels, scan.affine)
        spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
        head = np.argwhere(regions)
        self._low = np.maximum(head.min(axis=0) - np.ceil(_MARGIN_MM / spacing_mm), 0).astype(int)
        self._high = (head.max(axis=0) + np.ceil(_MARGIN_MM / spacing_mm) + 1).astype(int)
        self._axial = _middle(regions, "lateral_ventricle", 2)
        self._coronal = _middle(regions, "hippocampus", 1)
        inside = scan.array[self._brain]
        self._black, self._white = (float(value) for value in np.percentile(inside, (1, 99.5)))
        self._black = min(self._black, float(np.median(scan.array)))
        self.aspect = {"axial": spacing_mm[1] / spacing_mm[0], "coronal": spacing_mm[2] / spacing_mm[0]}
        self.frames: list[tuple[float, dict[str, Slice]]] = []

    def add(self, year: float, array: np.ndarray, change_percent: np.ndarray | None = None) -> None:
        """Cut a frame [D, H, W] and the change up to it."""
        scale = max(self._white - self._black, 1e-12)
        cut = {}
        for plane in PLANES:
            gray = np.clip((self._cut(array, plane).astype(np.float32) - self._black) / scale, 0, 1)
            change = None if change_percent is None else self._cut(change_percent, plane)
            cut[plane] = Slice(gray, self._cut(self._brain, plane), change)
        self.frames.append((year, cut))

    def _cut(self, array: np.ndarray, plane: str) -> np.ndarray:
        ordered, _, _ = canonical(array, self.scan.affine)
        (x0, y0, z0), (x1, y1, z1) = self._low, self._high
        if plane == "axial":
            flat = ordered[x0:x1, y0:y1, self._axial]
        else:
            flat = ordered[x0:x1, self._coronal, z0:z1]
        return np.ascontiguousarray(flat[::-1, ::-1].T)


def _middle(regions: np.ndarray, group: str, axis: int) -> int:
    """The plane across an axis that holds the most of a structure; the middle of the head where it is missing."""
    found = np.isin(regions, [region.index for region in REGIONS if region.group == group])
    area = found.sum(axis=tuple(a for a in range(3) if a != axis))
    return int(area.argmax()) if area.any() else regions.shape[axis] // 2
