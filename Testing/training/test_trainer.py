"""What the loop does, told from what is known: equal gradients, a law that can be learned, a batch that breaks it."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.objective import Objective, autocast, random_stream, validate
from neuro4d_lib.training.trainer import simulated_task, train

CPU = torch.device("cpu")
SMALL = {"steps": 4, "people": 4, "prior_steps": 1, "validate_every": 0, "gate_people": 0, "validation_people": 9}


@pytest.fixture
def start(fields, model_config, tmp_path):
    def started(name="run", **settings):
        lines = []
        config = TrainingConfig(**{**SMALL, **settings})
        model = train(fields, tmp_path / name, model_config, config, CPU, on_step=lines.append)
        return model, lines

    return started


def difference(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


class TestTheLoop:
    def test_says_every_step_in_a_line_and_shows_the_time_left(self, start, tmp_path):
        _, lines = start()
        assert lines == [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4] and [line["kind"] for line in lines] == [0, 1, 2, 3]
        assert lines[-1]["seconds_left"] == 0 < lines[0]["seconds_left"]
        assert all(math.isfinite(line["loss"]) and line["gradient_norm"] >= 0 for line in lines)

    def test_keeps_its_settings_in_a_file_that_starts_the_same_run(self, start, tmp_path):
        from neuro4d_lib.config import read_settings
        from neuro4d_lib.training.config import RunConfig

        start(seed=3)
        assert read_settings(tmp_path / "run" / "config.json", RunConfig).training == TrainingConfig(**SMALL, seed=3)

    def test_records_what_each_session_ran_on(self, start, tmp_path):
        start(seconds=1e-9)
        start()
        sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
        assert [session["from_step"] for session in sessions] == [0, 1]
        assert sessions[0]["torch"] == torch.__version__ and sessions[0]["processes"] == 1

    def test_the_seed_decides_and_only_the_seed(self, start):
        one, lines = start("one", seed=1)
        torch.rand(100)  # nobody else's random numbers matter
        two, again = start("two", seed=1)
        assert difference(one, two) == 0 and [a["loss"] for a in lines] == [a["loss"] for a in again]
        assert difference(one, start("three", seed=2)[0]) > 1e-3

    def test_a_step_that_is_not_finite_stops_it_and_names_the_batch(self, start, tmp_path):
        with pytest.raises(InputError, match=r"not finite: 4 people with \d earlier visits and \d years ahead, seed 5"):
            start(seed=5, steps=12, learning_rate=1e30, save_every=1)
        state = load_file(tmp_path / "run" / "training_state.safetensors")
        assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())

    def test_a_schedule_that_is_none_is_refused_before_anything_is_built(self):
        with pytest.raises(InputError, match="schedule: expected one of cosine, linear, found 'sine'"):
            ModelConfig(lattice=(8, 8, 8), schedule="sine")

    def test_a_network_that_cannot_be_built_is_refused(self, fields, tmp_path):
        for wrong, named in (
            (ModelConfig(lattice=(8, 8, 8), widths=(9, 18)), "No network can be built"),
            (ModelConfig(), "model.lattice ask for"),
        ):
            with pytest.raises(InputError, match=named):
                train(fields, tmp_path / "run", wrong, TrainingConfig(**SMALL), CPU)
        assert not (tmp_path / "run" / "training_state.safetensors").exists()


class TestParts:
    def test_gradients_of_the_parts_add_up_to_that_of_the_whole(self, model_and_batches):
        model, batches = model_and_batches
        with torch.no_grad():
            model.unet.head.weight.normal_()
        objective = Objective(model, "float32")

        def part(i):
            people, noise = (random_stream(CPU, 0, stream, 0, i) for stream in ("people", "noise"))
            return objective(batches.draw(4, 1, 2, people), noise)[0]

        together = torch.autograd.grad((part(0) + part(1)) / 2, [model.unet.head.weight])[0]
        model.zero_grad()
        for i in range(2):
            (part(i) / 2).backward()
        assert torch.allclose(model.unet.head.weight.grad, together, atol=1e-6 * float(together.abs().max()))

    def test_every_part_has_its_own_people_and_noise_in_every_step(self):
        drawn = {
            (stream, step, i): float(torch.rand((), generator=random_stream(CPU, 0, stream, step, i)))
            for stream in ("people", "noise")
            for step in range(50)
            for i in range(4)
        }
        assert len(set(drawn.values())) == len(drawn)

    def test_a_step_in_parts_trains_as_many_people(self, start):
        _, lines = start(people=8, parts=4)
        assert len(lines) == 4 and all(math.isfinite(line["loss"]) for line in lines)


class TestValidation:
    def test_knows_what_the_closed_form_alone_would_lose(self, model_and_batches):
        model, batches = model_and_batches  # untrained: it predicts nothing
        checked = validate(model, batches, TrainingConfig(**SMALL), CPU)
        assert checked.loss == checked.without and set(checked.gain_by_visits.values()) == {0.0}
        assert set(checked.gain_by_visits) == {0, 1, 2, 3, 4, 7}
        assert validate(model, batches, TrainingConfig(**SMALL), CPU) == checked  # the same people and noise

    def test_the_best_average_is_kept(self, start, model_config, fields, tmp_path):
        # So fast that it gets worse after a while.
        settings = {"steps": 16, "validate_every": 2, "learning_rate": 10.0}
        model, lines = start(**settings)
        checked = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
        best = min(checked, key=checked.get)
        assert set(checked) == set(range(2, 17, 2)) and lines[-1]["best_step"] == best < 16
        again = validate_again(model, fields, TrainingConfig(**{**SMALL, **settings}))
        assert again == pytest.approx(checked[best], rel=1e-6)
        stored = TrajectoryModel(model_config)
        stored.load_state_dict(load_file(tmp_path / "run" / "weights.safetensors"))
        assert difference(stored.unet.half(), model.unet.half()) == 0

    def test_patience_ends_a_run_that_gets_worse(self, start):
        settings = {"steps": 40, "validate_every": 2, "learning_rate": 3.0, "patience": 2}
        model, lines = start(**settings)
        last, best = lines[-1]["step"], lines[-1]["best_step"]
        assert last == best + 4 < 40
        again, more = start(**settings)  # it has ended, and nothing is added
        assert not more and difference(model, again) == 0


def validate_again(model, fields, config):
    people = simulated_task(fields, model.config, config, PopulationConfig()).held_out
    return validate(model, people, config, CPU).loss


class TestTraining:
    def test_learns_what_the_closed_form_leaves(self, start):
        # One step of the closed form leaves much: the network must find part of it, for people whom it has not seen.
        kind = {"earlier_visits": (1,), "future_frames": (1,)}
        _, lines = start(steps=120, people=16, learning_rate=0.03, validate_every=120, validation_people=180, **kind)
        assert lines[-1]["validation_loss"] < 0.9 * lines[-1]["validation_without_network"]
        gain = 1 - lines[-1]["validation_loss"] / lines[-1]["validation_without_network"]
        assert lines[-1]["validation_gain_by_visits"] == {1: pytest.approx(gain)}


class TestMemory:
    def test_checkpointing_gives_the_same_gradients_for_less(self, model_and_batches):
        model, batches = model_and_batches
        with torch.no_grad():
            for parameter in model.unet.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
        results = []
        for checkpointing in (False, True):
            model.unet.checkpointing = checkpointing
            kept = []

            def keep(tensor, kept=kept):
                kept.append(tensor.numel())
                return tensor

            people, noise = (random_stream(CPU, 0, stream) for stream in ("people", "noise"))
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = Objective(model, "float32")(batches.draw(2, 2, 3, people), noise)[0]
            loss.backward()
            results.append((sum(kept), [p.grad.clone() for p in model.unet.parameters()]))
            model.zero_grad()
        (plain, gradients), (small, again) = results
        assert small < 0.6 * plain
        for one, other in zip(gradients, again, strict=True):
            assert torch.allclose(one, other, atol=1e-6 * float(one.abs().max()) + 1e-12)

    def test_bfloat16_is_used_where_it_is_asked_for(self):
        for precision, expected in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            with autocast(precision, CPU):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
