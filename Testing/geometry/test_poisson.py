import math

import pytest
import torch

from neuro4d_lib.geometry import grids
from neuro4d_lib.geometry.poisson import velocity_with_divergence

SHAPE, SPACING_MM = (20, 24, 18), 2.5


def waves(*numbers):
    """cos of each axis' wave, vanishing slope half a voxel outside: [1, 1, D, H, W]."""
    voxel = grids.identity(SHAPE, dtype=torch.float64)
    phases = [math.pi * k * (voxel[:, a] + 0.5) / n for a, (k, n) in enumerate(zip(numbers, SHAPE, strict=True))]
    return phases, phases[0].cos() * phases[1].cos() * phases[2].cos()


def loss_around(*center):
    """A smooth loss of at most 10 % around a voxel: [1, 1, D, H, W]."""
    middle = torch.tensor(center, dtype=torch.float64).view(1, 3, 1, 1, 1)
    squared = (grids.identity(SHAPE, dtype=torch.float64) - middle).square().sum(1, keepdim=True)
    return -0.1 * torch.exp(-squared / (2 * 4**2))


class TestVelocityWithDivergence:
    def test_agrees_with_the_analytic_solution_of_a_wave(self):
        numbers = (2, 1, 3)
        phases, divergence = waves(*numbers)
        frequency = [math.pi * k / (n * SPACING_MM) for k, n in zip(numbers, SHAPE, strict=True)]
        squared = sum(f**2 for f in frequency)
        velocity = velocity_with_divergence(divergence[None], SPACING_MM)
        for axis in range(3):
            others = [phases[a].cos() for a in range(3) if a != axis]
            expected = frequency[axis] / squared * phases[axis].sin() * others[0] * others[1]
            assert torch.allclose(velocity[:, axis], expected, atol=1e-12)

    def test_central_differences_find_a_smooth_divergence_less_its_mean(self):
        divergence = loss_around(10, 11, 9)
        velocity = velocity_with_divergence(divergence, SPACING_MM)
        found = sum(torch.gradient(velocity[:, a], dim=a + 1)[0] for a in range(3)) / SPACING_MM
        inner = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
        assert torch.allclose(found[inner], (divergence - divergence.mean())[0][inner], atol=0.1 * 0.03)

    def test_nothing_flows_through_the_border(self):
        velocity = velocity_with_divergence(loss_around(1, 11, 9), SPACING_MM)[:, 0]
        at_the_wall = velocity[:, 0] - (velocity[:, 1] - velocity[:, 0]) / 2
        assert at_the_wall.abs().max() < 0.02 * velocity.abs().max()

    @pytest.mark.parametrize("value", [0.0, 0.3])
    def test_an_even_divergence_cannot_flow(self, value):
        assert velocity_with_divergence(torch.full((2, 1, *SHAPE), value), SPACING_MM).abs().max() < 1e-5
