import math

import pytest
import torch

from neuro4d_lib.geometry import bspline, grids, jacobian
from neuro4d_lib.geometry.deformation import compose, exponentiate, invert, transport

SHAPE = (49, 49, 49)
INNER = (slice(None), slice(None), slice(8, -8), slice(8, -8), slice(8, -8))


def centered(shape=SHAPE):
    """The place of every voxel from the center of the grid: [1, 3, D, H, W]."""
    middle = torch.tensor([(n - 1) / 2 for n in shape]).view(1, 3, 1, 1, 1)
    return grids.identity(shape) - middle


def smooth_velocity(size_vox, seed=0):
    """A random field with details of 8 voxels that dies out at the border: [1, 3, 49, 49, 49]."""
    control = torch.zeros(1, 3, 7, 7, 7)
    generator = torch.Generator().manual_seed(seed)
    control[:, :, 2:-2, 2:-2, 2:-2] = torch.randn(1, 3, 3, 3, 3, generator=generator)
    velocity = bspline.refine(control, 8)
    return velocity * (size_vox / velocity.abs().max())


def distance(a, b, region=INNER):
    return (a - b)[region].square().sum(1).sqrt().max().item()


class TestExponentiate:
    def test_zero_velocity_moves_nothing(self):
        assert torch.equal(exponentiate(torch.zeros(1, 3, *SHAPE)), torch.zeros(1, 3, *SHAPE))

    @pytest.mark.parametrize(
        "matrix",
        [
            [[0, -0.3, 0.1], [0.3, 0, -0.2], [-0.1, 0.2, 0]],
            [[0.2, 0, 0], [0, 0.2, 0], [0, 0, 0.2]],
            [[-0.3, 0.1, 0], [0.0, 0.1, 0.2], [0.1, 0, -0.1]],
        ],
        ids=["rotation", "radial", "shear"],
    )
    def test_a_linear_velocity_gives_the_matrix_exponential(self, matrix):
        matrix = torch.tensor(matrix, dtype=torch.float32)
        velocity = torch.einsum("ij,bjdhw->bidhw", matrix, centered())
        expected = torch.einsum("ij,bjdhw->bidhw", torch.linalg.matrix_exp(matrix) - torch.eye(3), centered())
        assert distance(exponentiate(velocity), expected) < 2e-3

    def test_a_ball_shrinks_by_the_volume_that_flows_out(self):
        # Inside, v = rate * x / 3 and volumes become e^rate as large; the pull by exp(-v) shows it.
        rate = -0.2
        radius = centered().square().sum(1, keepdim=True).sqrt()
        fade = ((14 - radius) / 4).clamp(0, 1)
        velocity = rate / 3 * centered() * fade
        ball = torch.sigmoid((8 - radius) / 0.5)
        ratio = grids.warp(ball, exponentiate(-velocity)).sum() / ball.sum()
        assert ratio.item() == pytest.approx(math.exp(rate), rel=1e-2)
        inside = jacobian.jacobian_determinant(exponentiate(velocity))[radius < 6]
        assert torch.allclose(inside, torch.tensor(math.exp(rate)), rtol=2e-3)

    def test_opposite_velocities_undo_each_other(self):
        velocity = smooth_velocity(3.0)
        identity = torch.zeros_like(velocity)
        assert distance(compose(exponentiate(velocity), exponentiate(-velocity)), identity) < 0.05
        velocity = smooth_velocity(0.5)
        assert distance(compose(exponentiate(velocity), exponentiate(-velocity)), identity) < 0.005

    def test_flows_add_up_in_time(self):
        velocity = smooth_velocity(2.0)
        parts = compose(exponentiate(0.4 * velocity), exponentiate(0.6 * velocity))
        assert distance(parts, exponentiate(velocity)) < 0.01

    def test_a_batch_is_its_members(self):
        both = torch.cat([smooth_velocity(1.0), smooth_velocity(1.5, seed=1)])
        assert torch.allclose(exponentiate(both)[1:], exponentiate(both[1:]), atol=1e-5)

    def test_is_differentiable(self):
        velocity = smooth_velocity(1.0).requires_grad_()
        exponentiate(velocity).square().sum().backward()
        assert velocity.grad.isfinite().all() and velocity.grad.abs().max() > 0

    def test_half_precision_is_integrated_in_single(self):
        assert exponentiate(smooth_velocity(1.0).half()).dtype == torch.float32


class TestInvert:
    def test_undoes_the_map(self):
        field = exponentiate(smooth_velocity(3.0))
        inverse = invert(field)
        assert distance(compose(field, inverse), torch.zeros_like(field), ...) < 1e-3
        assert distance(inverse, exponentiate(-smooth_velocity(3.0))) < 0.05

    def test_says_so_when_it_does_not_arrive(self):
        with pytest.raises(ValueError, match="No inverse"):
            invert(3 * torch.sin(2 * centered()), iterations=5)


class TestTransport:
    def test_is_conjugation(self):
        # exp(transported v) = psi^-1 o exp(v) o psi
        velocity, psi = smooth_velocity(0.8, seed=1), exponentiate(smooth_velocity(2.0))
        inverse = exponentiate(-smooth_velocity(2.0))
        expected = compose(inverse, compose(exponentiate(velocity), psi))
        error = distance(exponentiate(transport(velocity, psi)), expected)
        assert error < 0.03
        assert distance(exponentiate(velocity), expected) > 5 * error

    def test_there_and_back(self):
        velocity, psi = smooth_velocity(0.8, seed=1), exponentiate(smooth_velocity(1.5))
        back = transport(transport(velocity, psi), exponentiate(-smooth_velocity(1.5)))
        assert distance(back, velocity) < 0.03

    def test_through_a_linear_map_it_is_exact(self):
        matrix = torch.tensor([[1.1, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 1.05]])
        psi = torch.einsum("ij,bjdhw->bidhw", matrix - torch.eye(3), centered())
        velocity = centered() * 0.05 + 0.3
        expected = torch.einsum("ij,bjdhw->bidhw", torch.linalg.inv(matrix), velocity + 0.05 * psi)
        assert distance(transport(velocity, psi), expected) < 1e-4

    def test_zero_stays_zero_and_no_deformation_changes_nothing(self):
        velocity, psi = smooth_velocity(1.0), exponentiate(smooth_velocity(1.0, seed=1))
        assert torch.equal(transport(torch.zeros_like(psi), psi), torch.zeros_like(psi))
        assert torch.allclose(transport(velocity, torch.zeros_like(psi)), velocity, atol=1e-5)

    def test_many_velocities_share_one_psi(self):
        psi = exponentiate(smooth_velocity(1.0))
        many = torch.cat([smooth_velocity(0.5, seed=s) for s in (1, 2)])
        assert torch.allclose(transport(many, psi)[1:], transport(many[1:], psi), atol=1e-6)
