"""The regions whose volumes are forecast, and how tissue maps in MNI space are divided into them.

Every voxel of the brain mask belongs to exactly one region. Tissue says gray, white or fluid; a handful of numbers per
region says where: tubes around polylines for deep structures, a partition by weighted seeds for lobes, cerebellum and
brainstem. The numbers are coordinates in MNI152 (ICBM 2009a symmetric) RAS mm, of the right half and mirrored to the
left. They were fitted here to the places that the CerebrA atlas gives (Manera et al., 2020,
doi:10.1038/s41597-020-0557-9; CC0); no label of it is stored. Testing/data/test_regions.py measures the agreement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDES = ("left", "right")


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        index: its value in a label image, from 1.
        name: such as "left_hippocampus".
        side: "left", "right" or "both".
        group: the structure without its side, such as "hippocampus".
    """

    index: int
    name: str
    side: str
    group: str


PAIRED = (
    "hippocampus",
    "amygdala",
    "entorhinal_cortex",
    "caudate",
    "putamen",
    "thalamus",
    "lateral_ventricle",
    "frontal_cortex",
    "temporal_cortex",
    "parietal_cortex",
    "occipital_cortex",
    "cingulate_cortex",
    "white_matter",
)
SINGLE = ("cerebellum", "brainstem", "third_ventricle", "sulcal_csf")
_GROUPS = (*PAIRED, *SINGLE)
_NAMED = [(f"{side}_{group}", side, group) for group in PAIRED for side in SIDES]
_NAMED += [(group, "both", group) for group in SINGLE]

REGIONS = tuple(Region(index, *named) for index, named in enumerate(_NAMED, start=1))
DRIVEN = REGIONS[:-1]
"""The regions that have a rate of their own. The last one, sulcal CSF, takes up what the others lose."""

_FLUID = ("lateral_ventricle", "third_ventricle", "sulcal_csf")
AGGREGATES: dict[str, tuple[str, ...]] = {
    **{group: tuple(f"{side}_{group}" for side in SIDES) for group in PAIRED},
    "cortex": tuple(r.name for r in REGIONS if r.group.endswith("_cortex")),
    "whole_brain": tuple(r.name for r in REGIONS if r.group not in _FLUID),
}
"""Sums of regions that people ask for, by name: both sides of every pair, the cortex, the brain without its fluid."""

# Tubes: nodes (x, y, z, radius), mm, joined by cones; the structure is where `tissue` allows within them.
_HIPPOCAMPUS = ((19, -41, 2, 3.3), (30, -37, -5, 4.6), (30, -16, -21, 5.2), (21, -9, -25, 4.7), (23, -19, -18, 5.6))
_AMYGDALA = ((27, -4, -24, 5.3), (20, -6, -18, 5.6))
_ENTORHINAL = ((24, -15, -34, 6.7), (13, -2, -33, 12.6), (26, -1, -37, 5.8))
_CAUDATE = (
    (19, -25, 23, 2.4),
    (15.5, -0.5, 20, 6.9),
    (19, 19, 10, 4.9),
    (11, 6, 13, 7.8),
    (16, 21.5, 2, 5.5),
    (9.5, 11.5, 4, 7.4),
    (15.5, 20, -5, 3.8),
)
_PUTAMEN = (
    (30.5, -17.5, 2, 3.8),
    (26.5, -2, 9, 5.7),
    (24, 10.5, 0.5, 6.9),
    (32.5, -13.5, -2.5, 2.8),
    (20.5, 11.5, -6.5, 6.8),
)
_THALAMUS = ((16, -28, 3.5, 9.1), (11, -19, 9.5, 11.2), (9.5, -8.5, 11, 7.3), (5.5, -11.5, 5.5, 10.0))
_PALLIDUM = ((24, -10, -2.5, 4.0), (17.5, -1.5, -1.5, 6.0), (15, 2.5, -2.5, 4.5))
_VENTRAL_DIENCEPHALON = ((21.5, -23, -7, 5.2), (9, -18.5, -11, 10.6), (3, -3.5, -10, 4.4))
_ACCUMBENS = ((9, 11, -7.5, 5.0),)
_VENTRICLE = (
    (30.5, -77.5, 4, 14.2),
    (38, -51.5, 1, 9.3),
    (17.5, -41, 19.5, 11.5),
    (13, -31, 24, 9.6),
    (10, -11.5, 22, 9.0),
    (10.5, 0.5, 15.5, 11.0),
    (11, 10, 6, 12.9),
    (20, 19, 3.5, 10.6),
)
_TEMPORAL_HORN = ((36, -38, -6.5, 3.9), (38, -14, -18, 7.9), (23.5, -15.5, -12, 3.9), (33, -10, -25.5, 4.7))
_THIRD_VENTRICLE = ((0, -22, 2.5, 18.0), (4.5, -23, 2.5, 1.7), (0.5, -11.5, 0.5, 11.2), (0, 1, -17.5, 2.0))

# Seeds: (x, y, z, weight), mm and mm2. A place belongs to the seed of least squared distance minus weight.
# Insula counts as temporal.
_SEEDS = {
    "frontal_cortex": (
        (49, 13, 47, 411),
        (9, 75, -8, 6),
        (19, -13, 70, 172),
        (15, 47, 53, 307),
        (53, 13, 33, -45),
        (5, 19, -35, -253),
    ),
    "temporal_cortex": (
        (66, -62, 3, -174),
        (72, -42, -9, 314),
        (30, 3, -65, 575),
        (57, -43, -21, 10),
        (55, -28, -21, 57),
        (18, -4, 7, -425),
    ),
    "parietal_cortex": ((37, -46, 85, 486), (67, -22, 42, 169), (51, -71, 49, 896), (10, -65, 40, -226)),
    "occipital_cortex": ((12, -97, 0, 138), (55, -88, 3, -93), (15, -70, -12, -961), (6, -95, 19, 162)),
    "cingulate_cortex": ((0, -38, 26, -509), (-11, 19, 8, -259), (-8, -19, 28, -17), (-10, 18, 10, -49)),
    "cerebellum": ((5, -77, -45, 443), (-9, -72, -28, -44), (43, -51, -50, 327), (32, -57, -63, 159)),
    "brainstem": ((-21, -13, -3, 42), (-10, -35, -69, 15), (-12, -27, -56, 357)),
}

# Least share of fluid in a voxel that counts as fluid. The maps are averages of 152 people, in which sulci and the
# temporal horns are blurred: a half would keep only the widest of them.
_FLUID_SHARE = 0.35
_TEMPORAL_HORN_FLUID_SHARE = 0.15


def label_regions(gray: np.ndarray, white: np.ndarray, brain_mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Divide a brain in MNI152 space into the regions.

    Args:
        gray, white: [D, H, W], share of gray and of white matter, 0 to 1; the rest is fluid.
        brain_mask: [D, H, W], bool.
        affine: 4x4, voxel indices to MNI152 RAS mm.

    Returns:
        [D, H, W] uint8: `Region.index` inside the mask, 0 outside.
    """
    voxels = np.argwhere(brain_mask)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    mirrored = np.column_stack([np.abs(places[:, 0]), places[:, 1:]])
    gray, white = gray[brain_mask], white[brain_mask]
    fluid = 1 - gray - white

    group = _nearest_seed(mirrored)
    cerebral = (group != _GROUPS.index("cerebellum")) & (group != _GROUPS.index("brainstem"))
    wet = fluid > _FLUID_SHARE
    # Later lines win. Pallidum, ventral diencephalon and accumbens have no region of their own.
    for name, chosen in (
        ("white_matter", cerebral & (white > gray)),
        ("sulcal_csf", wet),
        ("white_matter", ~wet & _inside_tube(mirrored, _PALLIDUM)),
        ("white_matter", ~wet & _inside_tube(mirrored, _VENTRAL_DIENCEPHALON)),
        ("white_matter", ~wet & _inside_tube(mirrored, _ACCUMBENS)),
        ("third_ventricle", wet & _inside_tube(mirrored, _THIRD_VENTRICLE)),
        ("lateral_ventricle", wet & _inside_tube(mirrored, _VENTRICLE)),
        ("lateral_ventricle", (fluid > _TEMPORAL_HORN_FLUID_SHARE) & _inside_tube(mirrored, _TEMPORAL_HORN)),
        ("entorhinal_cortex", ~wet & (gray > white) & _inside_tube(mirrored, _ENTORHINAL)),
        ("hippocampus", ~wet & _inside_tube(mirrored, _HIPPOCAMPUS)),
        ("amygdala", ~wet & _inside_tube(mirrored, _AMYGDALA)),
        ("putamen", ~wet & _inside_tube(mirrored, _PUTAMEN)),
        ("thalamus", ~wet & _inside_tube(mirrored, _THALAMUS)),
        ("caudate", ~wet & (gray > _FLUID_SHARE) & _inside_tube(mirrored, _CAUDATE)),
    ):
        group[chosen] = _GROUPS.index(name)

    to_index = {(region.group, region.side): region.index for region in REGIONS}
    of_side = [
        np.array([to_index.get((name, "both")) or to_index[name, side] for name in _GROUPS], np.uint8) for side in SIDES
    ]
    labels = np.zeros(brain_mask.shape, np.uint8)
    labels[brain_mask] = np.where(places[:, 0] < 0, of_side[0][group], of_side[1][group])
    return labels


def _nearest_seed(places: np.ndarray) -> np.ndarray:
    """[N, 3] mm -> [N] places in `_GROUPS` of the territories that the places belong to."""
    best = np.full(len(places), np.inf)
    owner = np.zeros(len(places), dtype=np.intp)
    for name, seeds in _SEEDS.items():
        for *center, weight in seeds:
            distance = np.square(places - center).sum(axis=1) - weight
            owner[distance < best] = _GROUPS.index(name)
            best = np.minimum(best, distance)
    return owner


def _inside_tube(places: np.ndarray, nodes: tuple[tuple[float, float, float, float], ...]) -> np.ndarray:
    """[N, 3] mm -> [N] bool: nearer to the polyline than its radius, which changes linearly between nodes."""
    inside = np.zeros(len(places), dtype=bool)
    for start, end in zip(nodes, nodes[1:] or nodes, strict=False):
        a, b = np.array(start[:3]), np.array(end[:3])
        reach = max(start[3], end[3])
        near = np.all((places > np.minimum(a, b) - reach) & (places < np.maximum(a, b) + reach), axis=1)
        along = b - a
        share = np.clip((places[near] - a) @ along / max(along @ along, 1e-9), 0, 1)
        distance = np.linalg.norm(places[near] - a - share[:, None] * along, axis=1)
        inside[near] |= distance < start[3] + share * (end[3] - start[3])
    return inside
