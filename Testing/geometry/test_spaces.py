import itertools

import numpy as np
import pytest

from neuro4d_lib.geometry import spaces
from neuro4d_lib.geometry.spaces import LATTICE, Grid

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def oblique_affine(degrees=20.0, spacing_mm=(1.0, 1.2, 2.0)):
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing_mm)
    affine[:3, 3] = 10, -20, 30
    return affine


def stored_as(array, affine, order, signs):
    """The same anatomy with its axes stored in another order and direction."""
    columns = affine[:3, :3][:, list(order)] * signs
    corner = np.zeros(3)
    for axis, sign in zip(order, signs, strict=True):
        corner[axis] = array.shape[axis] - 1 if sign < 0 else 0
    stored = np.eye(4)
    stored[:3, :3] = columns
    stored[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
    flipped = [axis for axis, sign in enumerate(signs) if sign < 0]
    return np.flip(array.transpose(*order, *range(3, array.ndim)), flipped), stored


class TestCanonical:
    @pytest.mark.parametrize("affine", [np.diag([1.0, 1.2, 2.0, 1]), oblique_affine()], ids=["straight", "oblique"])
    def test_all_48_orientations_give_the_same_anatomy_and_come_back(self, affine):
        anatomy = np.random.default_rng(0).random((3, 4, 5))
        for order, signs in ORIENTATIONS:
            stored, stored_affine = stored_as(anatomy, affine, order, signs)
            array, array_affine, restore = spaces.canonical(stored, stored_affine)
            assert np.array_equal(array, anatomy)
            assert np.allclose(array_affine, affine, atol=1e-12)
            assert np.array_equal(restore(array), stored)

    def test_axes_after_the_third_ride_along(self):
        vectors = np.random.default_rng(0).random((3, 4, 5, 2, 7))
        stored, affine = stored_as(vectors, np.eye(4), (2, 0, 1), (-1, 1, -1))
        array, _, restore = spaces.canonical(stored[..., 0, 0], affine)
        assert array.shape == (3, 4, 5)
        assert np.array_equal(restore(vectors), stored)

    def test_copies_nothing(self):
        stored = np.zeros((3, 4, 5))
        array, _, _ = spaces.canonical(stored, np.diag([-1.0, 1, -1, 1]))
        assert np.shares_memory(array, stored)


class TestGrid:
    def test_spacing_is_that_of_the_voxel_axes(self):
        assert Grid((2, 2, 2), oblique_affine(spacing_mm=(1, 1.2, 2))).spacing_mm == pytest.approx((1, 1.2, 2))

    def test_refining_keeps_the_points_in_place(self):
        grid = Grid((4, 5, 6), oblique_affine())
        fine = grid.refined(4)
        assert fine.shape == (13, 17, 21)
        assert np.allclose(fine.affine @ [8, 4, 12, 1], grid.affine @ [2, 1, 3, 1])

    def test_equal_grids_are_equal(self):
        assert Grid((4, 5, 6), np.eye(4)) == Grid((4, 5, 6), np.eye(4))
        assert hash(Grid((4, 5, 6), np.eye(4))) == hash(Grid((4, 5, 6), np.eye(4)))
        assert Grid((4, 5, 6), np.eye(4)) != Grid((4, 5, 6), oblique_affine())

    def test_the_lattice_is_where_the_documents_say(self):
        assert LATTICE.shape == (32, 40, 32)
        assert LATTICE.spacing_mm == (5.25, 5.25, 5.25)
        assert LATTICE.affine[:3, 3].tolist() == [-81.375, -119.0, -77.0]


def test_voxel_to_voxel_keeps_the_place():
    first, second = Grid((4, 5, 6), oblique_affine()), Grid((9, 9, 9), np.diag([2.0, 2, 2, 1]))
    voxel = np.array([1.0, 2, 3, 1])
    assert np.allclose(second.affine @ spaces.voxel_to_voxel(first, second) @ voxel, first.affine @ voxel)


class TestLPS:
    def test_an_affine_flips_right_and_anterior(self):
        affine_lps = spaces.affine_to_lps(oblique_affine())
        assert np.allclose((affine_lps @ [1, 2, 3, 1])[:3], (oblique_affine() @ [1, 2, 3, 1])[:3] * [-1, -1, 1])
        assert np.allclose(spaces.affine_from_lps(affine_lps), oblique_affine())

    def test_a_transform_moves_the_same_places(self):
        transform = oblique_affine()
        place, flip = np.array([1.0, 2, 3, 1]), np.array([-1, -1, 1, 1])
        assert np.allclose(spaces.transform_to_lps(transform) @ (place * flip), (transform @ place) * flip)
        assert np.allclose(spaces.transform_from_lps(spaces.transform_to_lps(transform)), transform)
