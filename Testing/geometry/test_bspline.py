import pytest
import torch

from neuro4d_lib.geometry import bspline, grids
from neuro4d_lib.geometry.spaces import LATTICE


def cubic(points):
    """A polynomial of degree three in every axis: [1, 1, D, H, W], and its derivative along D."""
    d, h, w = (points[:, axis : axis + 1] / 5 for axis in range(3))
    rest = (1 - h + 2 * h**2) * (0.5 + w**3)
    return (1 + 2 * d - d**2 + d**3) * rest, (2 - 2 * d + 3 * d**2) / 5 * rest


@pytest.fixture
def control():
    return torch.randn(2, 3, 6, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class TestRefine:
    def test_cubics_are_reproduced(self):
        # Where the four control points around a place all exist; beyond the lattice they are zero.
        values, _ = cubic(grids.identity((14, 14, 14), dtype=torch.float64))
        # The spline through a cubic p has the control points p - p''/6: for one axis, -1/6 of the second difference.
        control = values.clone()
        for axis in (2, 3, 4):
            second = torch.zeros_like(control)
            inner = second.narrow(axis, 1, 12)
            inner += torch.diff(control, n=2, dim=axis)
            control = control - second / 6
        fine, _ = cubic(grids.identity((40, 40, 40), dtype=torch.float64) / 3)
        inner = slice(6, -6)
        refined = bspline.refine(control, 3)[:, :, inner, inner, inner]
        assert torch.allclose(refined, fine[:, :, inner, inner, inner], atol=1e-9)

    def test_one_control_point_gives_the_b_spline(self):
        control = torch.zeros(1, 1, 5, 5, 5)
        control[0, 0, 2, 2, 2] = 1
        line = bspline.refine(control, 2)[0, 0, :, 4, 4] / (2 / 3) ** 2
        assert torch.allclose(line, torch.tensor([0, 1 / 48, 1 / 6, 23 / 48, 2 / 3, 23 / 48, 1 / 6, 1 / 48, 0]))

    def test_lies_on_the_refined_grid(self):
        control = torch.zeros(1, 1, *LATTICE.shape)
        for factor in (1, 2, 4):
            assert bspline.refine(control, factor).shape[2:] == LATTICE.refined(factor).shape

    def test_its_adjoint_is_its_transpose(self, control):
        field = torch.randn(2, 3, 11, 13, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        there = (bspline.refine(control, 2) * field).sum()
        assert torch.allclose(there, (control * bspline.refine_adjoint(field, 2)).sum())


class TestFit:
    def test_the_spline_passes_through_the_samples(self, control):
        assert torch.allclose(bspline.refine(bspline.fit(control), 1), control, atol=1e-12)

    def test_gives_the_control_points_back(self, control):
        assert torch.allclose(bspline.fit(bspline.refine(control, 1)), control, atol=1e-12)


class TestGradient:
    def test_is_the_slope_of_the_refined_field(self, control):
        factor, control = 32, control[:1, :1, :4, :5, :3]
        line, slope = bspline.refine(control, factor), bspline.gradient(control, factor)
        for axis in range(3):
            n = line.shape[2 + axis]
            central = (line.narrow(2 + axis, 2, n - 2) - line.narrow(2 + axis, 0, n - 2)) * (factor / 2)
            assert torch.allclose(slope[:, :, axis].narrow(2 + axis, 1, n - 2), central, atol=4e-3)


def test_matrices_made_without_gradients_serve_those_with():
    with torch.inference_mode():
        bspline.refine(torch.ones(1, 1, 9, 9, 9), 5)
    control = torch.ones(1, 1, 9, 9, 9, requires_grad=True)
    bspline.refine(control, 5).sum().backward()
    assert control.grad is not None
