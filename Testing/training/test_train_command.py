"""`python -m neuro4d_lib train`: a whole run of a tiny network, and what it refuses."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuro4d_lib import cli

SETTINGS = {
    "training": {
        "steps": 30,
        "people": 4,
        "prior_steps": 1,
        "validate_every": 15,
        "validation_people": 9,
        "gate_people": 8,
    },
    "model": {"lattice": [8, 8, 8], "widths": [8, 16], "condition": 16},
}


@pytest.fixture
def run(fields, tmp_path):
    """A folder in which the anatomy has been prepared, and the settings of a run."""
    output = tmp_path / "run"
    output.mkdir()
    shutil.copy(fields, output / "fields.safetensors")
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return output


def train(run, *more, config="settings.json"):
    return cli.main(["train", "--output", str(run), "--config", str(run.parent / config), "--device", "cpu", *more])


class TestARun:
    def test_ends_with_a_model_folder_that_records_all_and_tells_every_step(self, run, capsys):
        (run.parent / "people.json").write_text('{"missing": 0.2}', encoding="utf-8")
        people = str(run.parent / "people.json")
        assert train(run, "--seed", "3", "--population", people, "--progress", "json") == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        steps = [event for event in events if event["event"] == "step"]
        assert [event["step"] for event in steps] == list(range(1, 31)) and "seconds_left" in steps[0]
        assert steps[14]["validation_loss"] > 0 and events[-1] == {"event": "done", "folder": str(run / "model")}
        fractions = [event["fraction"] for event in events if event["event"] == "progress"]
        assert fractions == sorted(fractions)
        card = json.loads((run / "model" / "card.json").read_text(encoding="utf-8"))
        assert card["training"]["seed"] == 3 and card["training"]["steps"] == 30 and card["model"]["widths"] == [8, 16]
        assert card["population"]["missing"] == 0.2 and card["population"]["rates"]["hippocampus"]["mean"][0] == -1.41
        gate = load_file(run / "model" / "weights.safetensors")["gate"]
        factors = [
            card["recalibration"][f"factors_where_{what}"] for what in ("a_covariate_is_unknown", "all_are_known")
        ]
        assert torch.allclose(torch.tensor(factors), gate, atol=1e-4)
        # A folder can be made of the weights again; the settings are those that lie beside them.
        assert (
            cli.main(["train", "--weights", str(run / "weights.safetensors"), "--output", str(run.parent / "again")])
            == 0
        )
        again = json.loads((run.parent / "again" / "model" / "card.json").read_text(encoding="utf-8"))
        assert again == card

    def test_with_other_settings_is_not_continued(self, run, capsys):
        config = {**SETTINGS, "training": {**SETTINGS["training"], "steps": 1, "gate_people": 0}}
        (run.parent / "settings.json").write_text(json.dumps(config), encoding="utf-8")
        from neuro4d_lib.training import model_folder

        with pytest.MonkeyPatch.context() as patch:  # the folder is not what this is about
            patch.setattr(model_folder, "make_model_folder", lambda *_: run)
            assert train(run, "--progress", "none") == 0
        assert train(run, "--people", "8") == 2
        said = capsys.readouterr().err
        assert "training.people = 4, now it is 8" in said and "Traceback" not in said
        (run.parent / "population.json").write_text('{"missing": 0.3}', encoding="utf-8")
        assert train(run, "--population", str(run.parent / "population.json")) == 2
        assert "population.missing = 0.15, now it is 0.3" in capsys.readouterr().err


class TestRefuses:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{\n"training": {"stepps": 3}}', "settings.json, line 2: training.stepps: unknown setting"),
            ('{"training":\n{"steps": "3"}}', "settings.json, line 2: training.steps: expected int, found '3'"),
            ("steps = 3", "settings.json, line 1: no valid JSON"),
        ],
    )
    def test_a_file_that_is_wrong_by_its_line(self, run, capsys, text, says):
        (run.parent / "settings.json").write_text(text, encoding="utf-8")
        assert train(run) == 2
        said = capsys.readouterr().err
        assert said.startswith("Error: ") and says in said and "Traceback" not in said
        assert [path.name for path in run.iterdir()] == ["fields.safetensors"]

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--steps", "-1"], "--steps: expected 0 or more, found -1"),
            (["--people", "9", "--parts", "2"], "--parts: 9 people cannot be drawn in 2 equal parts"),
            (["--device", "tpu"], "expected auto, cpu or cuda"),
        ],
    )
    def test_options_that_cannot_be(self, run, capsys, more, says):
        assert train(run, *more) == 2
        assert says in capsys.readouterr().err

    def test_files_that_are_not_what_they_should_be(self, run, capsys):
        assert train(run, config="none.json") == 2
        assert "no configuration file" in capsys.readouterr().err
        (run / "fields.safetensors").write_bytes(b"no tensors")
        assert train(run) == 2
        assert "holds no velocity fields" in capsys.readouterr().err
        save_file({"unet.head.bias": torch.zeros(3)}, run / "other.safetensors")
        out = str(run.parent / "made")
        assert cli.main(["train", "--weights", str(run / "other.safetensors"), "--output", out]) == 2
        assert "holds no weights of a model with these settings" in capsys.readouterr().err
        assert cli.main(["train", "--weights", str(run / "none.safetensors"), "--output", out]) == 2
        assert "There is no file" in capsys.readouterr().err
        assert not (run.parent / "made").exists()


class TestAnInterruption:
    def interrupted(self, run, monkeypatch, error):
        def broken(*_, **__):
            raise error

        from neuro4d_lib.training import trainer

        monkeypatch.setattr(trainer, "train", broken)
        return train(run)

    def test_says_that_the_run_goes_on(self, run, monkeypatch, capsys):
        assert self.interrupted(run, monkeypatch, KeyboardInterrupt()) == 130
        assert "keeps the last checkpoint; the same command goes on from there" in capsys.readouterr().err

    def test_for_want_of_memory_says_what_needs_less(self, run, monkeypatch, capsys):
        assert self.interrupted(run, monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")) == 2
        assert "--parts" in capsys.readouterr().err
