"""The training panel with the real command line: a run to its end, killed on the way; a real study, read."""

import json
import os
import shutil
import signal
import sys

import pytest

pytestmark = pytest.mark.slow

SETTINGS = {
    "training": {
        "prior_steps": 1,
        "validation_people": 9,
        "gate_people": 0,
        "earlier_visits": [0],
        "future_frames": [1],
    },
    "model": {"lattice": [8, 8, 8], "widths": [8, 16], "condition": 16},
}


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """The file that `training_fields` writes, of random fields on a small lattice."""
    import torch
    from safetensors.torch import save_file

    from neuro4d_lib.data.regions import DRIVEN

    generator, shape = torch.Generator().manual_seed(0), (len(DRIVEN), 8, 8, 8)
    pooling = torch.rand(shape, generator=generator)
    tensors = {
        "fields": torch.randn(len(DRIVEN), 3, 8, 8, 8, generator=generator),
        "pooling": pooling / pooling.flatten(1).sum(1)[:, None, None, None],
        "state_maps": torch.randn(shape, generator=generator),
    }
    path = tmp_path_factory.mktemp("fields") / "fields.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def real_panel(training_panel):
    training_panel.logic.worker = training_panel.logic.asker = [sys.executable, "-m", "neuro4d_lib"]
    return training_panel


def choose(panel, run, fields, steps):
    run.mkdir()
    shutil.copy(fields, run / "fields.safetensors")
    (run.parent / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    ui = panel.ui
    ui.sourceCombo.setCurrentIndex(1)
    ui.startCombo.setCurrentIndex(1)
    ui.settingsFileEdit.text = str(run.parent / "settings.json")
    ui.stepsSpin.value, ui.peopleSpin.value, ui.validateSpin.value, ui.saveSpin.value = steps, 4, 40, 10
    ui.deviceCombo.setCurrentIndex(1)
    ui.deviceCombo.activated.emit(1)
    ui.outputEdit.text = str(run)
    assert ui.trainButton.enabled, ui.trainButton.toolTip


def state(panel):
    return panel.run.controls.state.value


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as Linux and macOS do")
def test_a_run_that_is_paused_and_killed_goes_on_to_its_model(real_panel, fields, tmp_path, wait):
    from Neuro4DForecastLib import Models, VolumesTable

    panel, run, steps = real_panel, tmp_path / "run", 80
    choose(panel, run, fields, steps)
    panel.ui.trainButton.click()
    wait(lambda: panel.run.log.last.get("step", 0) > 12, 300)
    panel.ui.pauseButton.click()
    assert state(panel) == "paused"
    panel.ui.pauseButton.click()
    os.kill(panel.run.controls.work.record.pid, signal.SIGKILL)
    wait(lambda: state(panel) == "failed")
    assert 12 < lines(run)[-1]["step"] < steps
    panel.ui.trainButton.click()
    wait(lambda: state(panel) in ("done", "failed"), 300)
    assert state(panel) == "done", panel.log()
    assert [line["step"] for line in lines(run)] == list(range(1, steps + 1))
    assert json.loads((run / "sessions.jsonl").read_text().splitlines()[1])["from_step"] >= 10
    table = panel.run.curves.node("validation", "vtkMRMLTableNode")
    wait(lambda: VolumesTable.column(table, "step") == [40, 80])
    assert VolumesTable.column(table, "validation_loss") == [
        line["validation_loss"] for line in lines(run) if "validation_loss" in line
    ]
    assert Models.load(panel.run.model()).card["training"]["steps"] == steps


def test_what_the_command_line_refuses_is_said_in_its_words(real_panel, fields, tmp_path, wait):
    choose(real_panel, tmp_path / "run", fields, 5)
    (tmp_path / "settings.json").write_text(json.dumps({**SETTINGS, "training": {"stepps": 3}}), encoding="utf-8")
    real_panel.ui.trainButton.click()
    wait(lambda: state(real_panel) == "failed", 300)
    assert "training.stepps: unknown setting" in real_panel.ui.statusLabel.text
    assert "Traceback" not in real_panel.ui.statusLabel.text


def test_the_weights_of_a_moment_become_a_model_that_forecasts_load(training_module, tmp_path):
    """What an example of the panel is made of, by the program that makes it."""
    from Neuro4DForecastLib import Models
    from Neuro4DTrainingLib import UnfinishedModel

    from neuro4d_lib.checkpoint import load_network
    from neuro4d_lib.config import to_dict
    from neuro4d_lib.model import ModelConfig, TrajectoryModel
    from neuro4d_lib.training.trainer import save_weights

    run, config = tmp_path / "run", ModelConfig(widths=(8, 16), condition=16)
    run.mkdir()
    save_weights(TrajectoryModel(config), run / "weights.safetensors")
    (run / "config.json").write_text(json.dumps({"training": {}, "model": to_dict(config), "study": {}}))
    UnfinishedModel.main(run, tmp_path / "model", Models.shipped()[0].folder)
    _, card = load_network(tmp_path / "model")
    assert card["name"] == "run (unfinished)" and card["model"]["widths"] == [8, 16]
