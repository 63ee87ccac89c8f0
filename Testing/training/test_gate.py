"""The gate against networks whose right factor is known."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from neuro4d_lib.model import GATE_KNOWN, GATE_TIMES, GATE_VISITS, TrajectoryModel, everything_known
from neuro4d_lib.training.gate import gate_record, measure_gate
from neuro4d_lib.training.trainer import save_weights

SHIFT = 0.7


class ShiftedBatches:
    """People whose future lies, in the closed form's standard coordinates, SHIFT above what it expects, spread as it expects.

    With clean ~ N(SHIFT, 1) and x_t = alpha clean + sigma noise, E[alpha noise - sigma clean | x_t] = -sigma SHIFT.
    """

    def __init__(self, model, batches, shift_of=lambda covariates: SHIFT):
        self.model, self.batches, self.shift_of = model, batches, shift_of

    def draw(self, size, observed, future, generator, all_known=0.0):
        batch = self.batches.draw(size, observed, future, generator, all_known)
        posterior = self.model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen).posterior
        z = self.shift_of(batch.covariates) + torch.randn(posterior.mean.shape, generator=generator)
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
        assert gate.shape == (GATE_KNOWN, GATE_VISITS, GATE_TIMES) == (2, 5, 10)
        # Least-squares error: 1 / (sqrt(numbers) * size of the prediction), numbers = 128 people x 1-5 frames x 29 modes.
        size = SHIFT * torch.sin(math.pi / 2 * torch.arange(1, 11) / 10)
        assert ((gate - 1).abs() < 5 / (math.sqrt(128 * 3 * 29) * size)).all()

    def test_a_network_that_says_twice_too_much_is_halved(self, model_and_batches):
        gate = measured(model_and_batches, lambda t, shape: 2 * right(t, shape))
        assert (gate[..., 3:] - 0.5).abs().max() < 0.05

    def test_pure_noise_is_shut_out(self, model_and_batches):
        torch.manual_seed(1)
        gate = measured(model_and_batches, lambda t, shape: torch.randn(shape))
        assert gate.max() < 0.04

    def test_no_factor_leaves_its_limits(self, model_and_batches):
        assert torch.equal(measured(model_and_batches, lambda t, s: -right(t, s), 64), torch.zeros(2, 5, 10))
        assert torch.equal(
            measured(model_and_batches, lambda t, s: right(t, s) / 4, 64)[..., 3:], torch.full((2, 5, 7), 1.2)
        )

    def test_those_of_whom_all_is_known_have_a_gate_of_their_own(self, model_and_batches):
        # Only where something is unknown does the future differ from the closed form, as the network says of everybody.
        model, batches = model_and_batches
        model.unet = Stated(model, right)
        people = ShiftedBatches(model, batches, lambda known: SHIFT * ~everything_known(known)[:, None, None])
        some, every = measure_gate(model, people, torch.device("cpu"), people=256)
        assert (some[:, 3:] - 1).abs().max() < 0.15 and every[:, 3:].abs().max() < 0.15

    def test_a_network_that_predicts_nothing_keeps_one(self, model_and_batches):
        model, batches = model_and_batches
        assert torch.equal(measure_gate(model, batches, torch.device("cpu"), people=8), torch.ones(2, 5, 10))

    def test_measures_the_network_itself_whatever_its_gate_says(self, model_and_batches):
        model, _ = model_and_batches
        first = measured(model_and_batches, right, 64)
        model.gate.fill_(0.3)
        assert torch.equal(measured(model_and_batches, right, 64), first)
        assert torch.equal(model.gate, torch.full((2, 5, 10), 0.3))


class TestGateOfTheModel:
    def test_multiplies_the_prediction_by_what_is_known_visits_and_noise_time(self, model_and_batches):
        model, batches = model_and_batches
        model.unet = Stated(model, lambda t, shape: torch.ones(shape))
        # 10 where all is known, and the number of visits, and t
        table = 10.0 * torch.arange(2)[:, None, None] + torch.arange(5)[:, None] + torch.arange(1, 11) / 10
        model.gate.copy_(table)
        t = torch.tensor([0.02, 0.1, 0.25, 0.8, 1.0, 0.5])
        for observed in (0, 2, 4, 6):
            batch = batches.draw(6, observed, 2, torch.Generator().manual_seed(0), all_known=0.5)
            known = torch.tensor([1.0, 1, 1, 0, 0, 0])
            batch.covariates[3:, 2] = float("nan")
            condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
            found = model.predict(torch.zeros_like(condition.posterior.mean), t, condition)
            expected = 10 * known + min(observed, 4) + t.clamp_min(0.1)  # constant below the first noise time
            assert torch.allclose(found, expected[:, None, None].expand_as(found), atol=1e-3)

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
        assert torch.equal(again.gate, torch.ones(2, 5, 10))
        again.load_state_dict({**older, "gate": torch.full((5, 10), 0.25)})  # before there were two tables
        assert torch.equal(again.gate, torch.full((2, 5, 10), 0.25))
        with pytest.raises(RuntimeError, match=r"Missing key.*prior\.rate"):
            again.load_state_dict({name: value for name, value in older.items() if name != "prior.rate"})

    def test_the_card_states_it(self):
        gate = torch.stack([torch.full((5, 10), 0.25), torch.full((5, 10), 0.75)])
        record = json.loads(json.dumps(gate_record(gate)))
        assert record["factors_where_a_covariate_is_unknown"] == [[0.25] * 10] * 5
        assert record["factors_where_all_are_known"] == [[0.75] * 10] * 5 and record["noise_times"][-1] == 1.0
