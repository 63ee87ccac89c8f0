"""Regions against the CerebrA atlas (Manera et al., 2020), where the developers' data lie beside the repository."""

import csv
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neuro4d_lib.data.regions import AGGREGATES, DRIVEN, REGIONS, label_regions

DATA = Path(os.environ.get("NEURO4D_DATA", Path(__file__).parents[3] / "shared" / "data"))
ATLAS = DATA / "atlas" / "CerebrA_labels_ICBM2009c_sym_1mm.nii.gz"

# Least Dice with the atlas, and the names or groups it has for the same structure.
EXPECTED = {
    "hippocampus": (0.75, ("Hippocampus",)),
    "amygdala": (0.7, ("Amygdala",)),
    "entorhinal_cortex": (0.65, ("Entorhinal",)),
    "caudate": (0.85, ("Caudate",)),
    "putamen": (0.8, ("Putamen",)),
    "thalamus": (0.85, ("Thalamus",)),
    "lateral_ventricle": (0.85, ("Lateral Ventricle", "Inferior Lateral Ventricle")),
    "frontal_cortex": (0.8, ("frontal",)),
    "temporal_cortex": (0.8, ("temporal", "insula")),
    "parietal_cortex": (0.75, ("parietal",)),
    "occipital_cortex": (0.75, ("occipital",)),
    "cingulate_cortex": (0.68, ("cingulate",)),
    "cerebellum": (0.9, ("cerebellum",)),
    "brainstem": (0.85, ("Brainstem",)),
    "third_ventricle": (0.7, ("Third Ventricle",)),
}


@pytest.fixture(scope="module")
def atlas(anatomy):
    """(Label map on the voxels of the reference, rows of the table)."""
    if not ATLAS.is_file():
        pytest.skip(f"The CerebrA atlas is not at {ATLAS}; set NEURO4D_DATA to the developers' data.")
    image = nibabel.load(ATLAS)
    shift = np.rint(anatomy.grid.affine[:3, 3] - image.affine[:3, 3]).astype(int)
    voxels = [np.arange(n) + s for n, s in zip(anatomy.grid.shape, shift, strict=True)]
    seen = [(v >= 0) & (v < n) for v, n in zip(voxels, image.shape, strict=True)]
    labels = np.zeros(anatomy.grid.shape, np.uint8)
    labels[np.ix_(*seen)] = np.asarray(image.dataobj)[np.ix_(*(v[s] for v, s in zip(voxels, seen, strict=True)))]
    with (ATLAS.parent / "CerebrA_labels.csv").open(encoding="utf-8") as stream:
        return labels, list(csv.DictReader(stream))


@pytest.mark.parametrize("region", [r for r in REGIONS if r.group in EXPECTED], ids=lambda region: region.name)
class TestAgreementWithCerebrA:
    def masks(self, region, anatomy, atlas):
        labels, rows = atlas
        wanted = EXPECTED[region.group][1]
        numbers = [
            int(row["label"])
            for row in rows
            if (row["name"] in wanted or (row["group"] in wanted and row["name"] != "Entorhinal"))
            and region.side in ("both", row["hemisphere"].lower())
        ]
        return anatomy.labels == region.index, np.isin(labels, numbers)

    def test_overlap(self, region, anatomy, atlas):
        ours, theirs = self.masks(region, anatomy, atlas)
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) >= EXPECTED[region.group][0]

    def test_volume_within_a_third(self, region, anatomy, atlas):
        ours, theirs = self.masks(region, anatomy, atlas)
        assert ours.sum() == pytest.approx(theirs.sum(), rel=1 / 3)


class TestRegions:
    def test_are_numbered_from_one_and_named_once(self):
        assert [region.index for region in REGIONS] == list(range(1, len(REGIONS) + 1))
        assert len({region.name for region in REGIONS}) == len(REGIONS)

    def test_only_sulcal_csf_has_no_rate_of_its_own(self):
        assert [region.name for region in REGIONS if region not in DRIVEN] == ["sulcal_csf"]

    def test_sums_name_known_regions_and_are_no_regions_themselves(self):
        names = {region.name for region in REGIONS}
        assert all(set(members) <= names for members in AGGREGATES.values())
        assert not names & set(AGGREGATES)

    def test_every_voxel_of_the_mask_has_one_and_nothing_outside_has(self, anatomy):
        rng = np.random.default_rng(0)
        gray = rng.random((30, 30, 30)).astype(np.float32)
        white = (1 - gray) * rng.random((30, 30, 30)).astype(np.float32)
        mask = rng.random((30, 30, 30)) > 0.5
        affine = np.diag([6.0, 7.0, 6.0, 1.0])
        affine[:3, 3] = -87, -110, -80
        labels = label_regions(gray, white, mask, affine)
        np.testing.assert_array_equal(labels > 0, mask)
        assert labels.max() <= len(REGIONS)

    def test_left_is_left(self, anatomy):
        right_mm = anatomy.grid.affine[0, 3] + np.arange(anatomy.grid.shape[0])
        for region in REGIONS:
            planes = np.flatnonzero((anatomy.labels == region.index).any(axis=(1, 2)))
            if region.side == "left":
                assert right_mm[planes].max() < 0
            if region.side == "right":
                assert right_mm[planes].min() >= 0

    def test_sides_have_equal_volumes_within_5_percent(self, anatomy):
        for left, right in (AGGREGATES[group] for group in AGGREGATES if len(AGGREGATES[group]) == 2):
            volumes = [anatomy.volumes_mm3[[r.name for r in REGIONS].index(name)] for name in (left, right)]
            assert volumes[0] == pytest.approx(volumes[1], rel=0.05)
