"""The place of a brain in a scan is found to within a millimeter and a degree, and the same in every run."""

import numpy as np
import pytest
import torch

from neuro4d_lib.data.affine_registration import affine_pose, rigid_pose
from neuro4d_lib.data.alignment import reference_volumes
from neuro4d_lib.data.head import with_head
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.working_volume import WorkingVolume
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import Grid


@pytest.fixture(scope="module")
def head(anatomy):
    return with_head(anatomy)


def turned(degrees, size=1.0, shift_mm=(0, 0, 0)):
    """4x4: turns about R, A and S, a change of size, a shift."""
    pose = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(4)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[b, a], turn[a, b] = np.sin(angle), -np.sin(angle)
        pose = turn @ pose
    pose[:3, :3] *= size
    pose[:3, 3] = shift_mm
    return pose


def scanned(anatomy, pose, axes, spacing_mm, noise=0.02):
    """A scan of the anatomy after a pose: 4x4, mm to mm. `axes` 3x3 are the directions of i, j and k."""
    placed = Grid(anatomy.grid.shape, pose @ anatomy.grid.affine)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in placed.shape])).reshape(3, -1)
    spots_mm = placed.affine[:3, :3] @ corners + placed.affine[:3, 3:]
    along = np.linalg.inv(np.array(axes) * spacing_mm) @ spots_mm
    affine = np.eye(4)
    affine[:3, :3] = np.array(axes) * spacing_mm
    affine[:3, 3] = affine[:3, :3] @ along.min(axis=1)
    grid = Grid(tuple(int(n) for n in np.ceil(np.ptp(along, axis=1)) + 1), affine)
    values = resample(torch.from_numpy(anatomy.image)[None, None], placed, grid)[0, 0].numpy()
    shading = np.exp(0.3 * np.linspace(-1, 1, grid.shape[0]))[:, None, None]
    generator = np.random.default_rng(0)
    noisy = np.hypot(values * shading + noise * generator.standard_normal(grid.shape), noise)
    return Image((1000 * noisy).astype(np.int16), affine, np.dtype(np.int16))


def error_mm(anatomy, pose, truth):
    """The mean error of places in the brain."""
    places = np.argwhere(anatomy.mask)[::500] @ anatomy.grid.affine[:3, :3].T + anatomy.grid.affine[:3, 3]
    difference = pose - truth
    return np.linalg.norm(places @ difference[:3, :3].T + difference[:3, 3], axis=1).mean()


def degrees_apart(pose, truth):
    left, _, right = np.linalg.svd(pose[:3, :3] @ np.linalg.inv(truth[:3, :3]))
    return np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1)))


RAS = np.eye(3)
PSR = np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]])
LAS = np.diag([-1, 1, 1])


class TestAffinePose:
    @pytest.mark.parametrize(
        ("whole_head", "pose", "axes", "spacing_mm"),
        [
            (False, turned((14, -6, 9), 0.92, (30, -45, 60)), RAS, (2, 2, 2)),
            (False, turned((-12, 4, 5), 1.08, (-80, 10, 0)), turned((20, 0, 8))[:3, :3] @ LAS, (1.4, 1.4, 3)),
            (True, turned((10, 7, -12), 0.95, (0, 30, -40)), turned((0, 10, 0))[:3, :3] @ PSR, (2, 2, 2)),
        ],
        ids=["stripped", "oblique, left-handed, thick slices", "whole head, axes in another order"],
    )
    def test_finds_the_brain_within_a_millimeter_and_a_degree(self, anatomy, head, whole_head, pose, axes, spacing_mm):
        volume = WorkingVolume.of(scanned(head if whole_head else anatomy, pose, axes, spacing_mm))
        found = affine_pose(volume, *reference_volumes(anatomy))
        assert error_mm(anatomy, found, pose) < 1
        assert degrees_apart(found, pose) < 1

    def test_a_sheared_header_is_taken_at_its_word_and_every_run_gives_the_same_bits(self, anatomy):
        axes = np.array([[1, 0.1, 0], [0, 1, 0], [0, 0.05, 1]])
        pose = turned((5, 0, 0), 0.95)
        volume = WorkingVolume.of(scanned(anatomy, pose, axes, (2, 2, 2)))
        found = affine_pose(volume, *reference_volumes(anatomy))
        assert error_mm(anatomy, found, pose) < 1
        np.testing.assert_array_equal(found, affine_pose(volume, *reference_volumes(anatomy)))


class TestRigidPose:
    def test_finds_the_move_of_the_head_and_keeps_its_size(self, anatomy):
        template, mask = reference_volumes(anatomy)
        truth = turned((6, -4, 3), 1.0, (5, -8, 4))
        smaller = truth @ turned((0, 0, 0), 0.98)
        volume = WorkingVolume.of(scanned(anatomy, smaller, RAS, (2, 2, 2)))
        found = rigid_pose(volume, template, mask)
        np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6)
        assert degrees_apart(found, truth) < 0.5
        center_mm = anatomy.grid.affine @ [*np.argwhere(anatomy.mask).mean(axis=0), 1]
        assert np.linalg.norm((found - smaller) @ center_mm) < 1
