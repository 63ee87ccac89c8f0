"""No visit is favored, and a known motion is found again."""

import numpy as np
import pytest
import torch

from neuro4d_lib.data.alignment import align
from neuro4d_lib.data.flow_volumes import REFINED, flow_vox
from neuro4d_lib.data.preprocessing import to_reference
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.within_person import followed, gathered

QUICK = PreparationConfig(iterations=(8,), shape_iterations=(4,))


@pytest.fixture(scope="module")
def placed(scans, anatomy):
    """Volumes and affine maps of both visits."""
    found = [align(scan.image, anatomy) for scan in scans]
    return [volume for _, volume in found], [alignment.affine for alignment, _ in found]


@pytest.fixture(scope="module")
def gathering(placed, anatomy):
    return gathered(*placed, anatomy)


@pytest.fixture(scope="module")
def motion(gathering, anatomy):
    return followed(gathering.images, anatomy, QUICK, "the scan")


class TestGathered:
    def test_scans_of_one_head_lie_on_each_other_as_in_truth(self, gathering, scans, placed):
        first, second = gathering.space.poses
        found = np.linalg.inv(second) @ first
        truth = np.linalg.inv(scans[1].scan_to_aligned) @ scans[0].scan_to_aligned
        middle = np.append(scans[0].image.affine[:3, :3] @ np.array(scans[0].image.array.shape) / 2, 0)
        middle += [*scans[0].image.affine[:3, 3], 1]
        assert np.abs((found - truth) @ middle)[:3].max() < 1.0
        assert np.degrees(np.arccos((np.trace(found[:3, :3] @ truth[:3, :3].T) - 1) / 2)) < 0.7
        assert min(gathering.likeness) > 0.8

    def test_exchanging_the_scans_exchanges_the_images(self, gathering, placed, anatomy):
        volumes, affines = placed
        other = gathered(volumes[::-1], affines[::-1], anatomy)
        for one, same in zip(gathering.images, other.images[::-1], strict=True):
            assert (one - same).abs().max() < 1e-3


class TestFollowed:
    def test_finds_the_way_and_the_size_of_a_known_motion(self, motion, motion_mm, anatomy):
        mask = torch.from_numpy(anatomy.mask).float()[None, None]
        inside = resample(mask, anatomy.grid, REFINED)[0, 0] > 0.9
        found, truth = (
            flow_vox(x)[0][:, inside].flatten() for x in (motion.motion_mm[1] - motion.motion_mm[0], motion_mm)
        )
        assert truth.square().mean().sqrt() > 0.3
        assert torch.corrcoef(torch.stack([found, truth]))[0, 1] > 0.8
        assert 0.6 < found @ truth / truth.square().sum() < 1.2

    def test_exchanging_the_visits_exchanges_their_motions(self, gathering, motion, anatomy):
        other = followed(gathering.images[::-1], anatomy, QUICK, "the scan")
        assert (other.motion_mm.flip(0) - motion.motion_mm).abs().max() < 0.01 * motion.motion_mm.abs().max()
        assert (other.anatomy.flip(0) - motion.anatomy).abs().max() < 1e-3

    def test_the_motions_sum_to_zero(self, motion):
        assert motion.in_aligned_mm.sum(dim=0).abs().max() < 1e-4

    def test_equal_visits_do_not_move(self, gathering, anatomy):
        same = followed([gathering.images[0]] * 3, anatomy, QUICK, "the scan")
        assert not same.motion_mm.any()
        assert torch.equal(same.anatomy[0], same.anatomy[2])

    def test_the_anatomy_changes_as_the_motion_says(self, motion):
        """To first order, log-volume per reference volume at a visit is that of the shape plus the divergence."""
        change = motion.anatomy[1] - motion.anatomy[0]
        assert 0.02 < change.abs().max() < 1
        lattice = torch.gradient(motion.motion_mm[1] - motion.motion_mm[0], dim=(1, 2, 3))
        divergence = sum(lattice[axis][axis] for axis in range(3)) / 5.25
        inside = (slice(8, -8),) * 3
        assert torch.corrcoef(torch.stack([change[inside].flatten(), divergence[inside].flatten()]))[0, 1] > 0.85

    def test_an_image_that_shows_no_brain_is_refused(self, gathering, anatomy):
        from neuro4d_lib.errors import InputError

        noise = torch.rand(gathering.images[0].shape, generator=torch.Generator().manual_seed(0))
        with pytest.raises(InputError, match="the scan could not be matched"):
            followed([noise, noise.flip(2)], anatomy, QUICK, "the scan")


def test_carrying_to_the_reference_and_back_keeps_a_motion(motion):
    back = to_reference(motion.motion_mm[1], -motion.psi_mm)
    inside = (slice(None), *(slice(8, -8),) * 3)
    assert (back - motion.in_aligned_mm[1])[inside].abs().mean() < 0.1 * motion.in_aligned_mm[1][inside].abs().mean()
