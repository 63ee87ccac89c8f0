"""Our regions beside those of others: five people of IXI with DLMUSE labels, and the template with those of CerebrA.

Each scan goes the way of a forecast: registration with the reference, whose regions are carried to the scan. DLMUSE
labels come from a network, so they are no ground truth either; at 2 mm a small structure has few voxels.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tables import arguments, markdown, publish

from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.preprocessing import preprocess
from neuro4d_lib.data.reference import Reference, build_reference
from neuro4d_lib.data.regions import REGIONS

IXI = "single_scans/ixi_2mm"
TEMPLATE = "atlas/ICBM2009c_sym_T1_intensity_normalised_1mm.nii.gz"
CEREBRA, CEREBRA_TABLE = "atlas/CerebrA_labels_ICBM2009c_sym_1mm.nii.gz", "atlas/CerebrA_labels.csv"
DLMUSE_NUMBERS = {
    "hippocampus": (47, 48),
    "amygdala": (31, 32),
    "entorhinal_cortex": (116, 117),
    "caudate": (36, 37),
    "putamen": (57, 58),
    "thalamus": (59, 60),
    "lateral_ventricle": (49, 50, 51, 52),
    "third_ventricle": (4,),
    "cerebellum": (38, 39, 40, 41, 71, 72, 73),
    "brainstem": (35,),
}
"""Labels of DLMUSE (MUSE_n) for each of our structures, both sides together."""
CEREBRA_NAMES = {
    "hippocampus": ("Hippocampus",),
    "amygdala": ("Amygdala",),
    "entorhinal_cortex": ("Entorhinal",),
    "caudate": ("Caudate",),
    "putamen": ("Putamen",),
    "thalamus": ("Thalamus",),
    "lateral_ventricle": ("Lateral Ventricle", "Inferior Lateral Ventricle"),
    "third_ventricle": ("Third Ventricle",),
    "brainstem": ("Brainstem",),
}


def labels_of(scan: Path, reference: Reference) -> np.ndarray:
    """Our regions on the scan's voxels."""
    return preprocess(read_image(scan), reference).labels


def compared(
    ours: np.ndarray, theirs: np.ndarray, numbers: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[float, float]]:
    """For every structure: Dice, and our volume over theirs."""
    found = {}
    for group, labels in numbers.items():
        mine = np.isin(ours, [region.index for region in REGIONS if region.group == group])
        other = np.isin(theirs, labels)
        found[group] = (2 * (mine & other).sum() / (mine.sum() + other.sum()), mine.sum() / other.sum())
    return found


def ixi(folder: Path, reference: Reference) -> str:
    """A row for every structure: mean and range over the people."""
    people = []
    for labels in sorted(folder.glob("*_DLMUSE.nii.gz")):
        scan = labels.with_name(labels.name.replace("_DLMUSE", ""))
        theirs = read_image(labels, allow_labels=True, what="label map").array
        people.append(compared(labels_of(scan, reference), theirs, DLMUSE_NUMBERS))
    rows = []
    for group in DLMUSE_NUMBERS:
        dice, ratio = np.array([person[group] for person in people]).T
        rows.append((
            group.replace("_", " "), f"{dice.mean():.2f} ({dice.min():.2f} to {dice.max():.2f})",
            f"{ratio.mean():.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
        ))  # fmt: skip
    head = ("structure", f"Dice, mean of {len(people)} people (range)", "our volume over theirs")
    return markdown(head, rows)


def cerebra(data: Path, reference: Reference) -> str:
    """A row for every structure."""
    with (data / CEREBRA_TABLE).open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    numbers = {
        group: tuple(int(row["label"]) for row in table if row["name"] in names)
        for group, names in CEREBRA_NAMES.items()
    }
    theirs = read_image(data / CEREBRA, allow_labels=True, what="label map").array
    found = compared(labels_of(data / TEMPLATE, reference), theirs, numbers)
    return markdown(
        ("structure", "Dice", "our volume over theirs"),
        [(group.replace("_", " "), f"{dice:.2f}", f"{ratio:.2f}") for group, (dice, ratio) in found.items()],
    )


def main() -> None:
    chosen = arguments(__doc__)
    reference = build_reference()
    publish(
        "IXI, whole heads at 2 mm, against DLMUSE:\n\n" + ixi(chosen.data / IXI, reference)
        + "\n\nThe ICBM 2009c template at 1 mm, against CerebrA:\n\n" + cerebra(chosen.data, reference),
        chosen.table,
    )  # fmt: skip


if __name__ == "__main__":
    main()
