import json

import numpy as np
import pytest

from neuro4d_lib.data.reference import IMAGE_FILE, NOTICE_FILE, REGIONS_FILE, TABLE_FILE, Reference
from neuro4d_lib.data.regions import REGIONS
from neuro4d_lib.errors import InputError


class TestReference:
    def test_holds_the_whole_brain_mask_with_room_around(self, anatomy):
        from nilearn.datasets import load_mni152_brain_mask

        assert anatomy.mask.sum() == np.asarray(load_mni152_brain_mask(resolution=1).dataobj).sum()
        occupied = np.argwhere(anatomy.mask)
        assert occupied.min() >= 5
        assert (np.array(anatomy.grid.shape) - occupied.max(axis=0) > 5).all()

    def test_has_every_region_and_nothing_outside(self, anatomy):
        assert set(np.unique(anatomy.labels)) == set(range(len(REGIONS) + 1))
        assert not anatomy.image[~anatomy.mask].any()

    def test_lies_in_mni_space(self, anatomy):
        """The anterior commissure, near (0, 2, -5) mm, is bright; the lateral ventricle at (10, -10, 24) is dark."""
        voxel = np.linalg.inv(anatomy.grid.affine)
        commissure, ventricle = (np.rint(voxel @ place)[:3].astype(int) for place in ([0, 2, -5, 1], [10, -10, 24, 1]))
        assert anatomy.image[tuple(commissure)] > 0.6
        assert anatomy.image[tuple(ventricle)] < 0.4

    def test_brightness_orders_fluid_gray_white(self, anatomy):
        group = {r.index: r.group for r in REGIONS}
        mean = {
            name: anatomy.image[np.isin(anatomy.labels, [i for i in group if group[i] == name])].mean()
            for name in ("lateral_ventricle", "frontal_cortex", "white_matter")
        }
        assert mean["lateral_ventricle"] < mean["frontal_cortex"] < mean["white_matter"]

    def test_aggregates_are_shares_of_a_whole(self, anatomy):
        for shares in anatomy.aggregates.values():
            assert shares.sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def folder(anatomy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    anatomy.save(folder)
    return folder


class TestFiles:
    def test_come_back_as_they_were(self, anatomy, folder):
        again = Reference.load(folder)
        np.testing.assert_array_equal(again.image, anatomy.image)
        np.testing.assert_array_equal(again.labels, anatomy.labels)
        assert again.grid == anatomy.grid
        assert again.image.dtype == np.float32 and again.labels.dtype == np.uint8

    def test_are_small_enough_to_ship(self, folder):
        assert (folder / IMAGE_FILE).stat().st_size < 2.5e6
        assert (folder / REGIONS_FILE).stat().st_size < 0.6e6

    def test_carry_the_notice_of_the_templates(self, folder):
        notice = (folder / NOTICE_FILE).read_text(encoding="utf-8")
        assert "Louis Collins, McConnell Brain Imaging Centre" in notice
        assert "Permission to use, copy, modify, and distribute" in notice

    def test_missing_one_is_named(self, tmp_path):
        with pytest.raises(InputError, match=IMAGE_FILE):
            Reference.load(tmp_path)

    def test_other_regions_are_refused(self, anatomy, tmp_path):
        anatomy.save(tmp_path)
        table = json.loads((tmp_path / TABLE_FILE).read_text(encoding="utf-8"))
        (tmp_path / TABLE_FILE).write_text(json.dumps(table[:-1]), encoding="utf-8")
        with pytest.raises(InputError, match="other regions"):
            Reference.load(tmp_path)
