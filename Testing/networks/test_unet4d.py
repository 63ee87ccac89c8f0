"""The 4D U-Net, its attention and its conditions."""

import pytest
import torch
from torch.nn import functional

from neuro4d_lib.networks.attention import SpatioTemporalAttention
from neuro4d_lib.networks.covariates import DiseaseConditioner
from neuro4d_lib.networks.unet4d import FourDUNet

UNKNOWN = float("nan")


def awakened(module):
    """With random weights where training starts from zero, so that everything has an effect."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return module


def network():
    torch.manual_seed(0)
    return awakened(FourDUNet(4, 3, condition=16, widths=(8, 16), head_width=8))


class TestFourDUNet:
    def test_untrained_it_predicts_nothing(self):
        x = torch.randn(1, 2, 4, 8, 8, 8)
        assert not FourDUNet(4, 3, condition=16, widths=(8, 16), head_width=8)(
            x, torch.zeros(1, 2), torch.zeros(1, 2, 16)
        ).any()

    def test_a_frame_hears_of_the_others(self):
        unet, x = network(), torch.randn(1, 3, 4, 8, 8, 8)
        t, condition = torch.zeros(1, 3), torch.zeros(1, 3, 16)
        changed = x.clone()
        changed[:, 0] += 1
        assert (unet(x, t, condition)[:, 2] - unet(changed, t, condition)[:, 2]).abs().max() > 1e-5

    def test_a_frame_that_does_not_exist_is_not_heard(self):
        unet, x = network(), torch.randn(1, 3, 4, 8, 8, 8)
        t, condition = torch.zeros(1, 3), torch.zeros(1, 3, 16)
        present = torch.tensor([[False, True, True]])
        changed = x.clone()
        changed[:, 0] += 1
        difference = unet(x, t, condition, present)[:, 1:] - unet(changed, t, condition, present)[:, 1:]
        assert difference.abs().max() < 1e-5

    def test_people_of_a_batch_do_not_mix(self):
        unet, x = network(), torch.randn(2, 2, 4, 8, 8, 8)
        t, condition = torch.rand(2, 2), torch.randn(2, 2, 16)
        alone = unet(x[:1], t[:1], condition[:1])
        assert torch.allclose(unet(x, t, condition)[:1], alone, atol=1e-5)

    def test_a_lattice_that_cannot_be_halved_is_named(self):
        with pytest.raises(ValueError, match="divisible by 4"):
            network()(torch.zeros(1, 1, 4, 8, 8, 6), torch.zeros(1, 1), torch.zeros(1, 1, 16))


class TestSpatioTemporalAttention:
    def test_is_softmax_attention_over_all_places_of_all_frames(self):
        torch.manual_seed(0)
        layer, x = awakened(SpatioTemporalAttention(8, 2)), torch.randn(1, 2, 8, 2, 2, 2)
        seen = {}

        def explicit(query, key, value, attn_mask, scale):
            seen["shape"] = query.shape
            return ((query @ key.mT) * scale).softmax(dim=-1) @ value

        fused = layer(x)
        original, functional.scaled_dot_product_attention = functional.scaled_dot_product_attention, explicit
        try:
            assert torch.allclose(layer(x), fused, atol=1e-5)
        finally:
            functional.scaled_dot_product_attention = original
        assert seen["shape"] == (1, 2, 16, 4)

    def test_knows_where_a_token_stands(self):
        torch.manual_seed(0)
        layer, x = awakened(SpatioTemporalAttention(8, 2)), torch.randn(1, 1, 8, 2, 2, 2)
        assert not torch.allclose(layer(x).flip(3), layer(x.flip(3)), atol=1e-4)


class TestDiseaseConditioner:
    def test_everything_may_be_unknown_and_everything_counts(self):
        torch.manual_seed(0)
        conditioner = awakened(DiseaseConditioner(16))
        known = torch.tensor([[70.0, 1, 12, 1, 2]])
        years = torch.tensor([[1.0]])
        base = conditioner(known, years)
        for i, other in enumerate((60.0, 0.0, 16.0, 2.0, 3.0)):
            for value in (other, UNKNOWN):
                changed = known.clone()
                changed[0, i] = value
                result = conditioner(changed, years)
                assert torch.isfinite(result).all() and not torch.allclose(result, base)
        assert not torch.allclose(conditioner(known, years + 1), base)
