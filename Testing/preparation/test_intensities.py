import pytest
import torch

from neuro4d_lib.geometry.similarity import smooth
from neuro4d_lib.preparation.intensities import matched_curves, on_curve


@pytest.fixture
def brain():
    """Patches of three tissues, blurred at their borders: [1, 1, 40, 40, 40]."""
    generator = torch.Generator().manual_seed(0)
    noise = smooth(torch.randn(1, 1, 40, 40, 40, generator=generator), 4.0)
    low, high = noise.flatten().quantile(0.3), noise.flatten().quantile(0.6)
    return smooth(0.2 + 0.5 * (noise > low).float() + 0.25 * (noise > high).float(), 0.7)


def curved(images):
    curves = matched_curves(images, torch.ones_like(images[0]))
    return [on_curve(image, curve) for image, curve in zip(images, curves, strict=True)]


class TestMatchedCurves:
    def test_another_gamma_vanishes(self, brain):
        images = [brain, brain**1.15, brain**0.9]
        matched = curved(images)
        assert (images[0] - images[1]).abs().max() > 0.04
        for image in matched[1:]:
            assert (image - matched[0]).abs().max() < 0.008

    def test_noise_bends_no_curve(self, brain):
        noise = [0.03 * torch.randn(brain.shape, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
        a, b = matched_curves([brain + n for n in noise], torch.ones_like(brain))
        tissues = torch.tensor([0.2, 0.7, 0.95])
        for curve in (a, b):
            assert (on_curve(tissues, curve) - tissues).abs().max() < 0.01

    def test_the_order_does_not_matter(self, brain):
        images = [brain, brain**1.15, 0.9 * brain]
        there, back = curved(images), curved(images[::-1])[::-1]
        for one, other in zip(there, back, strict=True):
            assert torch.allclose(one, other, atol=1e-5)

    def test_zero_stays_zero(self, brain):
        for curve in matched_curves([brain, brain**1.2], torch.ones_like(brain)):
            assert on_curve(torch.zeros(1), curve) == 0
