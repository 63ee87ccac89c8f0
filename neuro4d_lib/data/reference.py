"""The reference anatomy: an average brain with its regions, the space in which every change is stated."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neuro4d_lib.data.regions import AGGREGATES, REGIONS, label_regions
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

IMAGE_FILE = "reference_T1.nii.gz"
REGIONS_FILE = "reference_regions.nii.gz"
TABLE_FILE = "reference_regions.json"
NOTICE_FILE = "NOTICE.txt"
NOTICE = """\
reference_T1.nii.gz and reference_regions.nii.gz are derived from the ICBM 152 nonlinear symmetric 2009a template and
its tissue maps, as converted by nilearn (https://nilearn.github.io): cropped, cast to 8 bits, divided into regions.

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.

V.S. Fonov, A.C. Evans, R.C. McKinstry, C.R. Almli, D.L. Collins, 2009, doi:10.1016/S1053-8119(09)70884-5.
"""
_MARGIN_VOXELS = 5
_WHITE = 255  # brightest value on disk


@dataclass(frozen=True, eq=False)
class Reference:
    """An average brain without skull.

    Attributes:
        image: T1 [D, H, W] float32, 0 outside the brain, white matter near 1.
        labels: [D, H, W] uint8, `Region.index`, 0 outside the brain.
        grid: 1 mm, axes along RAS, about 5 mm around the brain.
    """

    image: np.ndarray
    labels: np.ndarray
    grid: Grid

    @property
    def mask(self) -> np.ndarray:
        """[D, H, W] bool: inside the skull, fluid included."""
        return self.labels > 0

    @cached_property
    def volumes_mm3(self) -> np.ndarray:
        """[len(REGIONS)] float64, volume of each region in mm3."""
        voxel_mm3 = float(np.prod(self.grid.spacing_mm))
        return np.bincount(self.labels.ravel(), minlength=len(REGIONS) + 1)[1:] * voxel_mm3

    @cached_property
    def boxes(self) -> list[tuple[slice, slice, slice]]:
        """For every region the smallest box of voxels that holds it."""
        boxes = []
        for region in REGIONS:
            inside = self.labels == region.index
            occupied = [np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
            d, h, w = (slice(line[0], line[-1] + 1) if line.size else slice(0, 0) for line in occupied)
            boxes.append((d, h, w))
        return boxes

    @cached_property
    def aggregates(self) -> dict[str, np.ndarray]:
        """For every aggregate the share of each region in its volume: [len(REGIONS)], sums to 1."""
        shares = {}
        for name, members in AGGREGATES.items():
            volumes = self.volumes_mm3 * np.array([region.name in members for region in REGIONS])
            shares[name] = volumes / volumes.sum()
        return shares

    def save(self, folder: Path) -> None:
        """Write image, labels, table of regions and licence notice into an existing or new folder."""
        import nibabel

        folder.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image(np.rint(self.image * _WHITE).astype(np.uint8), self.grid.affine)
        image.header.set_slope_inter(1 / _WHITE, 0)
        image.header.set_xyzt_units("mm")
        labels = nibabel.Nifti1Image(self.labels, self.grid.affine)
        labels.header.set_xyzt_units("mm")
        nibabel.save(image, folder / IMAGE_FILE)
        nibabel.save(labels, folder / REGIONS_FILE)
        (folder / TABLE_FILE).write_text(json.dumps(_table(), indent=1) + "\n", encoding="utf-8")
        (folder / NOTICE_FILE).write_text(NOTICE, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Reference:
        """Read what `save` wrote."""
        import nibabel  # here, so that training and drawing on a bare machine need PyTorch and safetensors alone

        for name in (IMAGE_FILE, REGIONS_FILE, TABLE_FILE):
            if not (folder / name).is_file():
                raise InputError(f"{folder} has no {name}; expected a folder of a model. Build or download it again.")
        if json.loads((folder / TABLE_FILE).read_text(encoding="utf-8")) != _table():
            raise InputError(
                f"{folder / TABLE_FILE} lists other regions than this version of neuro4d_lib knows. "
                "Use the version that the model was made with, or a newer model."
            )
        labels = nibabel.load(folder / REGIONS_FILE)
        stored = np.asanyarray(nibabel.load(folder / IMAGE_FILE).dataobj.get_unscaled())  # type: ignore[attr-defined]
        grid = Grid(labels.shape, labels.affine)  # type: ignore[attr-defined]
        return Reference(_from_stored(stored), np.asarray(labels.dataobj, np.uint8), grid)  # type: ignore[attr-defined]


def build_reference() -> Reference:
    """Make the reference out of nilearn's MNI152 maps (Fonov et al., 2009), which come with nilearn, offline."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise InputError(
            "The reference anatomy is made of maps that come with nilearn, which is missing. Install it with: "
            "pip install 'neuro4d-lib[training]'"
        ) from error

    template = datasets.load_mni152_template(resolution=1)
    image, gray, white, mask = (
        np.asarray(part.dataobj, np.float32)
        for part in (
            template,
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
            datasets.load_mni152_brain_mask(resolution=1),
        )
    )
    affine = np.asarray(template.affine, np.float64)
    labels = label_regions(gray, white, mask > 0, affine)
    stored = np.rint(np.where(labels > 0, image, 0) * _WHITE).astype(np.uint8)

    # The template ends at the lowest slice of the mask: room is added there, not only kept.
    stored, labels = np.pad(stored, _MARGIN_VOXELS), np.pad(labels, _MARGIN_VOXELS)
    occupied = np.argwhere(labels)
    low, high = occupied.min(axis=0) - _MARGIN_VOXELS, occupied.max(axis=0) + _MARGIN_VOXELS + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    cropped = affine.copy()
    cropped[:3, 3] += affine[:3, :3] @ (low - _MARGIN_VOXELS)
    depth, height, width = (int(n) for n in high - low)
    return Reference(_from_stored(stored[box]), labels[box].copy(), Grid((depth, height, width), cropped))


def _from_stored(stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float32) / np.float32(_WHITE)


def _table() -> list[dict[str, object]]:
    return [dataclasses.asdict(region) for region in REGIONS]
