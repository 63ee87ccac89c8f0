"""The place of all scans of a person, which must not depend on their order."""

import numpy as np
import pytest

from neuro4d_lib.preparation.common_space import CommonSpace

CENTER_MM = np.array([1.0, -18.0, 5.0])
STRETCH = np.array([[1.1, 0.02, 0], [0.02, 0.95, -0.01], [0, -0.01, 1.05]])


def rigid(degrees, shift_mm):
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    matrix[:3, 3] = shift_mm
    return matrix


def stretched(matrix):
    """The affine map that stretches around the middle of the brain."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = CENTER_MM - matrix @ CENTER_MM
    return affine


@pytest.fixture
def poses():
    return [rigid(10, (3, 0, -5)), rigid(-25, (0, 40, 2)), rigid(3, (-8, 1, 0))]


class TestCommonSpace:
    def test_of_one_stretch_gives_back_the_affine_maps(self, poses):
        affines = [stretched(STRETCH) @ pose for pose in poses]
        space = CommonSpace.of(affines, CENTER_MM)
        np.testing.assert_allclose(space.stretch, stretched(STRETCH), atol=1e-9)
        for pose, found in zip(poses, space.poses, strict=True):
            np.testing.assert_allclose(found, pose, atol=1e-9)

    def test_of_two_stretches_takes_the_geometric_mean(self, poses):
        affines = [stretched(np.diag([s, 1, 1])) @ poses[0] for s in (0.9, 1.0 / 0.9)]
        np.testing.assert_allclose(CommonSpace.of(affines, CENTER_MM).stretch, np.eye(4), atol=1e-9)

    def test_poses_are_rigid_and_keep_the_middle_of_the_brain(self, poses):
        affines = [stretched(STRETCH * size) @ pose for size, pose in zip((0.97, 1.0, 1.04), poses, strict=True)]
        space = CommonSpace.of(affines, CENTER_MM)
        for affine, pose in zip(affines, space.poses, strict=True):
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            in_scan = np.linalg.solve(affine, [*CENTER_MM, 1])
            np.testing.assert_allclose((space.stretch @ pose @ in_scan)[:3], CENTER_MM, atol=1e-9)

    def test_the_order_does_not_matter(self, poses):
        affines = [stretched(STRETCH * size) @ pose for size, pose in zip((0.97, 1.0, 1.04), poses, strict=True)]
        order = [2, 0, 1]
        space, other = CommonSpace.of(affines, CENTER_MM), CommonSpace.of([affines[n] for n in order], CENTER_MM)
        np.testing.assert_allclose(other.stretch, space.stretch, atol=1e-12)
        for n, pose in zip(order, other.poses, strict=True):
            np.testing.assert_allclose(pose, space.poses[n], atol=1e-12)
