"""What is no T1-weighted brain is refused with what was measured, what was expected and what to do."""

import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.data import alignment
from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def scan(anatomy):
    """The reference itself, 3 mm, in the form of a file that was read."""
    volume = WorkingVolume(torch.from_numpy(anatomy.image)[None, None], anatomy.grid).reduced(SPACING_MM)
    return as_scan(volume.values[0, 0].numpy(), volume.grid.affine)


def as_scan(values, affine):
    noisy = values + 0.02 * np.random.default_rng(0).standard_normal(values.shape)
    return Image((1000 * np.abs(noisy)).astype(np.int16), affine, np.dtype(np.int16), path="scan.nii.gz")


def refusal(image, anatomy):
    with pytest.raises(InputError) as caught:
        alignment.align(image, anatomy)
    return str(caught.value)


class TestAlign:
    def test_a_brain_agrees_and_lies_where_its_header_says(self, scan, anatomy):
        found, volume = alignment.align(scan, anatomy)
        assert found.agreement > 0.8 and not found.warnings
        np.testing.assert_allclose(found.affine, np.eye(4), atol=0.6)
        np.testing.assert_allclose(found.scales, 1, atol=0.01)
        assert found.covered == pytest.approx(1, abs=0.01)
        assert volume.grid.shape == scan.array.shape

    def test_a_part_of_the_brain_is_said(self, scan, anatomy):
        found, _ = alignment.align(dataclasses.replace(scan, array=scan.array[..., 14:]), anatomy)
        assert 0.85 < found.covered < 0.98
        assert "% of the brain" in found.warnings[0]

    def test_a_header_that_turns_the_brain_over_is_told_apart_from_no_brain(self, scan, anatomy):
        wrong = dataclasses.replace(scan, affine=np.diag([1, -1, -1, 1]) @ scan.affine)
        said = refusal(wrong, anatomy)
        assert "header" in said
        assert "right is taken for right, posterior for anterior and inferior for superior" in said

    @pytest.mark.parametrize("kind", ["noise", "dark where it should be bright"])
    def test_no_t1_weighted_brain(self, scan, anatomy, kind):
        values = scan.array / 1000
        if kind == "noise":
            values = np.random.default_rng(1).random(values.shape)
        else:
            values = np.where(values > 0.15, 1.2 - values, 0)
        said = refusal(as_scan(values.astype(np.float32), scan.affine), anatomy)
        assert (
            "scan.nii.gz" in said and f"expected at least {alignment.LEAST_AGREEMENT}" in said and "T1-weighted" in said
        )


class TestFault:
    def test_a_turned_head_is_warned_about(self):
        nose_up = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        found = alignment.Alignment(nose_up, 0.6, (1.0, 1.0, 1.0), 1.0)
        assert not found.fault and "turned by 90 degrees" in found.warnings[0]

    def test_of_impossible_sizes(self):
        sound = alignment.Alignment(np.eye(4), 0.6, (0.95, 1.0, 1.1), 1.0)
        assert not sound.fault
        assert "1.49" in dataclasses.replace(sound, scales=(0.67, 1.0, 1.1)).fault
        assert "shows 50 %" in dataclasses.replace(sound, covered=0.5).fault


class TestLocalAgreement:
    @pytest.fixture
    def image(self):
        return torch.rand(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0))

    def test_is_one_under_shading_and_contrast_and_minus_one_inverted(self, image):
        mask = torch.ones_like(image)
        shading = torch.linspace(0.5, 1.5, 20).view(1, 1, 20, 1, 1)
        assert local_agreement(image, 300 * image * shading + 40, mask) > 0.95
        assert local_agreement(image, -image, mask) < -0.95

    def test_is_about_zero_for_what_has_nothing_in_common(self, image):
        assert abs(local_agreement(image, image.flip(2), torch.ones_like(image))) < 0.1

    def test_of_a_constant_image_is_zero(self, image):
        assert local_agreement(image, torch.ones_like(image), torch.ones_like(image)) == pytest.approx(0, abs=1e-3)


class TestWorkingVolume:
    def test_blocks_keep_their_place(self):
        array = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
        affine = np.array([[0, 0, 1.2, -9], [-1, 0, 0, 5], [0, 0.9, 0, 3], [0, 0, 0, 1.0]])
        volume = WorkingVolume.of(Image(array, affine, array.dtype), voxel_mm=0.5)
        thin = volume.thinned((2, 3, 1))
        block = volume.values[0, 0, 2:4, 3:6, 4]
        assert float(thin.values[0, 0, 1, 1, 4]) == pytest.approx(float(block.mean()), abs=1e-6)
        np.testing.assert_allclose(thin.grid.affine @ [1, 1, 4, 1], volume.grid.affine @ [2.5, 4, 4, 1], atol=1e-9)

    def test_a_bright_scalp_leaves_the_brain_most_of_the_range(self):
        array = np.zeros((20, 20, 20), np.int16)
        array[4:16, 4:16, 4:16] = np.random.default_rng(0).integers(300, 400, (12, 12, 12))
        array[2:18, 2:18, 18:] = 1500
        volume = WorkingVolume.of(Image(array, np.eye(4), array.dtype))
        assert 0.5 < float(volume.values[0, 0, 4:16, 4:16, 4:16].mean()) < 0.9

    def test_moving_it_moves_its_grid_only(self):
        volume = WorkingVolume(torch.rand(1, 1, 4, 4, 4), Grid((4, 4, 4), np.eye(4)))
        shift = np.eye(4)
        shift[0, 3] = 1
        np.testing.assert_allclose(volume.placed(shift).on(Grid((3, 4, 4), shift))[0, 0], volume.values[0, 0, :3])
