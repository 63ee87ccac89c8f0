"""The gate of a study, and what is doubted of it."""

import pytest
import torch
from torch import nn

from neuro4d_lib.training.simulated_study import simulated_people
from neuro4d_lib.training.study_batches import StudyBatches
from neuro4d_lib.training.study_config import StudyConfig
from neuro4d_lib.training.study_gate import doubted_factor, measure_study_gate


class Noise(nn.Module):
    """A network that predicts anything, as coordinates."""

    def __init__(self, deformation):
        super().__init__()
        self.of = [deformation]

    def forward(self, x, t, condition, present=None):
        said = torch.randn(*t.shape, len(self.of[0].fields))
        return self.of[0].as_field(said, self.of[0].images)


def test_what_many_people_agree_on_is_believed_and_what_few_show_is_not():
    generator = torch.Generator().manual_seed(0)
    own = torch.ones(400, 1, dtype=torch.float64)
    both = 0.8 * own + 2 * torch.randn(400, 1, generator=generator, dtype=torch.float64)
    assert float(doubted_factor(both, own)) == pytest.approx(float(both.mean()), rel=0.05)
    few = float(doubted_factor(both[:4], own[:4]))
    plain, error = float(both[:4].mean()), float(both[:4].std()) / 2
    assert few == pytest.approx(max(0, plain) * plain**2 / (plain**2 + error**2), rel=1e-6)
    assert float(doubted_factor(both[:1], own[:1])) == 0.0  # one person alone says nothing
    assert float(doubted_factor(-own, own)) == 0.0


def test_a_network_of_noise_is_shut_out_and_later_rows_repeat_the_last(model_and_batches):
    model, batches = model_and_batches
    people = simulated_people(batches, batches.population, 6, 3, torch.Generator().manual_seed(0))
    held_out = StudyBatches(people, model.prior, model.deformation, batches.population, StudyConfig())
    torch.manual_seed(0)
    model.unet = Noise(model.deformation)
    model.gate.fill_(0.5)
    gate = measure_study_gate(model, held_out, torch.device("cpu"), people=12)
    assert gate.shape == (2, 5, 10) and gate.max() < 0.1
    assert torch.equal(gate[:, 2:], gate[:, 1:2].expand(-1, 3, -1)) and torch.equal(gate[0], gate[1])
    assert torch.equal(model.gate, torch.full((2, 5, 10), 0.5))
