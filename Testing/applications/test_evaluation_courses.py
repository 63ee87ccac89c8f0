"""Courses along one swelling whose flow is known to compose."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuro4d_lib.applications.evaluation_courses import check_courses, course_legs
from neuro4d_lib.geometry.spaces import LATTICE, Grid


def swelling(center):
    places = (
        np.tensordot(LATTICE.affine[:3, :3], np.indices(LATTICE.shape), 1) + LATTICE.affine[:3, 3][:, None, None, None]
    )
    away = places - np.reshape(center, (3, 1, 1, 1))
    return torch.as_tensor(away * np.exp(-np.square(away).sum(axis=0) / 450), dtype=torch.float32)


@pytest.fixture(scope="module")
def anatomy():
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = (-60, -72, -60)
    grid = Grid((21, 25, 21), affine)
    deformation = SimpleNamespace(fields=torch.stack([swelling((20, 0, 0)), swelling((30, 8, 0))]))
    return deformation, SimpleNamespace(grid=grid, mask=np.ones(grid.shape, dtype=bool))


def course(*rates):
    """[4, 2]: mean rates up to 1, 2, 3 and 5 years."""
    return torch.tensor(rates, dtype=torch.float64)


def test_the_legs_add_up():
    (first, two), (between, three), (whole, five) = course_legs(course([1, 0], [2, 1], [3, 2], [4, 5]))
    assert (two, three, five) == (2, 3, 5)
    assert torch.allclose(first * two + between * three, whole * five)


def test_a_constant_rate_composes_and_does_not_fold(anatomy):
    found = check_courses(*anatomy, course([0.02, 0], [0.02, 0], [0.02, 0], [0.02, 0])[None])
    assert found.max_mm < 0.05 and found.mean_mm < 0.002  # of motions of 1 mm
    assert (found.courses, found.maps, found.failed) == (1, 3, 0)
    assert found.voxels == 3 * 21 * 25 * 21


def test_motions_that_do_not_commute_are_seen(anatomy):
    found = check_courses(*anatomy, course([0.1, 0], [0.1, 0], [0, 0.1], [-0.02, 0.1])[None])
    assert found.max_mm > 0.2
