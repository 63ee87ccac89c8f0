"""`python -m neuro4d_lib train PREPARED`: a whole run, on the full lattice, of people who were simulated without scans."""

import json

import pytest
import torch

from neuro4d_lib import cli
from neuro4d_lib.checkpoint import SHIPPED, load_model
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.simulated_study import simulated_people, write_simulated_study
from neuro4d_lib.training.study_run import read_split, start_from

SETTINGS = {
    "training": {
        "steps": 1, "people": 2, "validate_every": 1, "validation_people": 9, "gate_people": 2,
        "earlier_visits": [1], "future_frames": [1],
    },
    "study": {"strengths": [1.0], "law_steps": 3, "folds": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Nine people with three visits each."""
    folder, start, population = tmp_path_factory.mktemp("study") / "prepared", start_from(SHIPPED), Population()
    batches = SimulatedBatches(population, start.network.deformation, state_maps(start.fields))
    people = simulated_people(batches, population, 9, 3, torch.Generator().manual_seed(0))
    write_simulated_study(batches, people, folder)
    return folder


def train(prepared, output, *more):
    settings = output.parent / "settings.json"
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    return cli.main(
        ["train", str(prepared), "--output", str(output), "--config", str(settings), "--device", "cpu", *more]
    )


def test_a_run_from_the_shipped_model_ends_with_a_model_that_forecasts(prepared, tmp_path, capsys):
    assert train(prepared, tmp_path / "run", "--from", "shipped", "--progress", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == [1]
    folder = tmp_path / "run" / "model"
    assert events[-1] == {"event": "done", "folder": str(folder)}
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    model = load_model(folder, torch.device("cpu"))
    card = model.card
    parts = read_split(tmp_path / "run")
    assert parts == card["split"] and sorted(map(len, parts.values())) == [1, 1, 7]
    assert card["people"]["train"] == {**card["people"]["train"], "people": 7, "visits": 21}
    assert card["ranges"]["years"] == [0.25, 10] and "Started from simulated-ageing" in card["training_data"]
    assert card["scores"]["people"] == 1 and set(card["closed_form"]["loss_by_strength"]) == {"1", "inf"}
    # The study changed the law, and what it says of a person is finite.
    shipped = load_model(None, torch.device("cpu"))
    assert not torch.equal(model.network.prior.rate, shipped.network.prior.rate)
    known = model.condition(Covariates(age=75), torch.zeros(1, 32, 40, 32), [])
    assert torch.isfinite(model.draw(known, [2.0], torch.Generator().manual_seed(0), steps=1)).all()


def test_an_estimate_names_people_time_memory_and_disk_and_trains_nothing(prepared, tmp_path, capsys):
    assert train(prepared, tmp_path / "run", "--from", "shipped", "--estimate", "--progress", "json") == 0
    (found,) = [e for line in capsys.readouterr().out.splitlines() if (e := json.loads(line))["event"] == "estimate"]
    assert found["steps"] == 1 and found["people"]["train"]["people"] == 7
    assert found["seconds"] > 0 and 5e8 < found["memory_bytes"] < 1e10 and found["disk_bytes"] > 1e7
    assert not (tmp_path / "run").exists()


class TestRefuses:
    def refused(self, capsys, *arguments):
        assert cli.main(["train", *map(str, arguments), "--device", "cpu"]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    def test_too_few_people(self, prepared, tmp_path, capsys):
        about = json.loads((prepared / "prepared.json").read_text(encoding="utf-8"))
        small = tmp_path / "small"
        small.mkdir()
        (small / "subjects").symlink_to(prepared / "subjects")
        for number, state in enumerate(about["subjects"].values()):
            state["state"] = "used" if number < 5 else "excluded"
        (small / "prepared.json").write_text(json.dumps(about), encoding="utf-8")
        said = self.refused(capsys, small, "--output", tmp_path / "run", "--from", "shipped")
        assert "holds 5 people with two usable visits" in said and "needs at least 8" in said
        assert not (tmp_path / "run").exists()

    def test_what_is_no_prepared_study(self, tmp_path, capsys):
        said = self.refused(capsys, tmp_path, "--output", tmp_path / "run")
        assert "is no prepared study" in said and "python -m neuro4d_lib prepare" in said

    def test_sizes_of_a_model_that_is_started_from(self, prepared, tmp_path, capsys):
        (tmp_path / "s.json").write_text('{"model": {"widths": [8, 16]}}', encoding="utf-8")
        more = ["--output", tmp_path / "run", "--from", "shipped", "--config", tmp_path / "s.json"]
        assert "has its own sizes" in self.refused(capsys, prepared, *more)

    def test_options_of_a_study_without_one(self, tmp_path, capsys):
        assert "go with a prepared study" in self.refused(capsys, "--output", tmp_path / "run", "--from", "shipped")
