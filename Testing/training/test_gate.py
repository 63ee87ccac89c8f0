"""The gate against networks whose right factor is known."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from neuro4d_lib.model import GATE_TIMES, GATE_VISITS, TrajectoryModel
from neuro4d_lib.training.gate import gate_record, measure_gate
from neuro4d_lib.training.trainer import save_weights

SHIFT = 0.7


class ShiftedBatches:
    """People whose future lies, in the closed form's standard coordinates, SHIFT above what it expects, spread as it expects.

    With clean ~ N(SHIFT, 1) and x_t = alpha clean + sigma noise, E[alpha noise - sigma clean | x_t] = -sigma SHIFT.
    """

    def __init__(self, model, batches):
        self.model, self.batches = model, batches

    def draw(self, size, observed, future, generator, all_known=0.0):
        batch = self.batches.draw(size, observed, future, generator, all_known)
        posterior = self.model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen).posterior
        z = SHIFT + torch.randn(posterior.mean.shape, generator=generator)
        return type(batch)(batch.covariates, batch.anatomy, batch.years, batch.seen, posterior.from_standard(z))


class Stated(nn.Module):
    """A network that predicts what it is told to, as coordinates: rule(t [B, T], shape [B, T, K]) -> [B, T, K]."""

    def __init__(self, model, rule):
        super().__init__()
        self.of = [model]
        self.rule = rule

    def forward(self, x, t, condition, present=None):
        deformation = self.of[0].deformation
        said = self.rule(t, (*t.shape, len(deformation.fields)))
        return deformation.as_field(said, deformation.images)


def right(t, shape):
    return (-torch.sin(math.pi / 2 * t) * SHIFT)[..., None].expand(shape)


def measured(model_and_batches, rule, people=256):
    model, batches = model_and_batches
    model.unet = Stated(model, rule)
    return measure_gate(model, ShiftedBatches(model, batches), torch.device("cpu"), people=people)


class TestMeasureGate:
    def test_a_network_that_is_right_is_trusted(self, model_and_batches):
        gate = measured(model_and_batches, right)
        assert gate.shape == (GATE_VISITS, GATE_TIMES)
        # Least-squares error: 1 / (sqrt(numbers) * size of the prediction), numbers = 256 people x 1-5 frames x 29 modes.
        size = SHIFT * torch.sin(math.pi / 2 * torch.arange(1, 11) / 10)
        assert ((gate - 1).abs() < 5 / (math.sqrt(256 * 3 * 29) * size)).all()

    def test_a_network_that_says_twice_too_much_is_halved(self, model_and_batches):
        gate = measured(model_and_batches, lambda t, shape: 2 * right(t, shape))
        assert (gate[:, 3:] - 0.5).abs().max() < 0.05

    def test_pure_noise_is_shut_out(self, model_and_batches):
        torch.manual_seed(1)
        gate = measured(model_and_batches, lambda t, shape: torch.randn(shape))
        assert gate.max() < 0.04

    def test_no_factor_leaves_its_limits(self, model_and_batches):
        assert torch.equal(measured(model_and_batches, lambda t, s: -right(t, s), 64), torch.zeros(5, 10))
        assert torch.equal(
            measured(model_and_batches, lambda t, s: right(t, s) / 4, 64)[:, 3:], torch.full((5, 7), 1.2)
        )

    def test_a_network_that_predicts_nothing_keeps_one(self, model_and_batches):
        model, batches = model_and_batches
        assert torch.equal(measure_gate(model, batches, torch.device("cpu"), people=8), torch.ones(5, 10))

    def test_measures_the_network_itself_whatever_its_gate_says(self, model_and_batches):
        model, _ = model_and_batches
        first = measured(model_and_batches, right, 64)
        model.gate.fill_(0.3)
        assert torch.equal(measured(model_and_batches, right, 64), first)
        assert torch.equal(model.gate, torch.full((5, 10), 0.3))


class TestGateOfTheModel:
    def predictions(self, model_and_batches, observed, t):
        model, batches = model_and_batches
        model.unet = Stated(model, lambda t, shape: torch.ones(shape))
        batch = batches.draw(len(t), observed, 2, torch.Generator().manual_seed(0))
        condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
        return model.predict(torch.zeros_like(condition.posterior.mean), t, condition)

    def test_multiplies_the_prediction_by_visits_and_noise_time(self, model_and_batches):
        model, _ = model_and_batches
        model.gate.copy_(torch.arange(5.0)[:, None] + torch.arange(1, 11) / 10)  # visits + t
        t = torch.tensor([0.02, 0.1, 0.25, 0.8, 1.0])
        for observed in (0, 2, 4, 6):
            expected = min(observed, 4) + t.clamp_min(0.1)  # constant below the first noise time
            found = self.predictions(model_and_batches, observed, t)
            assert torch.allclose(found, expected[:, None, None].expand_as(found), atol=1e-4)

    def test_is_stored_with_the_weights_in_single_precision(self, model_and_batches, model_config, tmp_path):
        model, _ = model_and_batches
        model.gate.uniform_()
        save_weights(model, tmp_path / "weights.safetensors")
        again = TrajectoryModel(model_config)
        again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(again.gate, model.gate)

    def test_older_weights_have_a_gate_of_one_and_anything_else_missing_is_refused(
        self, model_and_batches, model_config
    ):
        model, _ = model_and_batches
        model.gate.fill_(0.5)
        older = {name: value for name, value in model.state_dict().items() if name != "gate"}
        again = TrajectoryModel(model_config)
        again.load_state_dict(older)
        assert torch.equal(again.gate, torch.ones(5, 10))
        with pytest.raises(RuntimeError, match=r"Missing key.*prior\.rate"):
            again.load_state_dict({name: value for name, value in older.items() if name != "prior.rate"})

    def test_the_card_states_it(self):
        record = json.loads(json.dumps(gate_record(torch.full((5, 10), 0.25))))
        assert record["factors"] == [[0.25] * 10] * 5 and record["noise_times"][-1] == 1.0
