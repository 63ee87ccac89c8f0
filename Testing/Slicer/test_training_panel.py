"""The real training panel: choose, click, pause, resume, stop, kill; closed and opened again while it runs."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="looks at processes as Linux and macOS list them")
OWN, SIMULATED = 0, 1


def choose(panel, tmp_path, steps=60):
    """A run on simulated people in a new folder; its path."""
    run = tmp_path / "run"
    panel.ui.sourceCombo.setCurrentIndex(SIMULATED)
    panel.ui.outputEdit.text = str(run)
    panel.ui.stepsSpin.value = steps
    return run


def prepared_study(panel, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "prepared.json").write_text('{"format": 1, "complete": true, "subjects": {}}')
    panel.ui.preparedEdit.text = str(tmp_path / "prepared")


def steps_of(run):
    log = run / "log.jsonl"
    return (
        [json.loads(line)["step"] for line in log.read_text().splitlines() if line.endswith("}")]
        if log.exists()
        else []
    )


def state(panel):
    return panel.run.controls.state.value


def begin(panel, tmp_path, wait, steps=60, least=15):
    """Start, and wait until it has made some steps."""
    run = choose(panel, tmp_path, steps)
    panel.ui.trainButton.click()
    assert state(panel) == "running", panel.ui.statusLabel.text
    wait(lambda: len(steps_of(run)) >= least)
    return run


class TestBefore:
    def test_a_disabled_button_says_what_is_missing(self, training_panel):
        ui = training_panel.ui
        assert not ui.trainButton.enabled and "Choose a folder for the run" in ui.trainButton.toolTip
        assert not ui.prepareButton.enabled and "Choose the folder or the table of a study" in ui.prepareButton.toolTip
        shown = [name for name in dir(ui) if name.endswith("Problem") and getattr(ui, name).visible]
        assert shown == []  # nothing is wrong yet

    def test_simulated_people_need_a_folder_only(self, training_panel, tmp_path):
        choose(training_panel, tmp_path)
        assert training_panel.ui.trainButton.enabled, training_panel.ui.trainButton.toolTip

    @pytest.mark.parametrize(
        ("field", "text", "says"),
        [
            ("output", "run", "whole path"),
            ("output", "FILE", "is a file"),
            ("settingsFile", "/no/such/file.json", "does not exist"),
            ("settingsFile", "FILE", "cannot be read as JSON"),
            ("study", "/no/such/study", "does not exist"),
            ("prepared", "FILE", "is a file"),
        ],
    )
    def test_what_cannot_be_is_explained_beside_the_field(self, training_panel, tmp_path, field, text, says):
        (tmp_path / "file").write_text("no JSON")
        ui = training_panel.ui
        if field in ("output", "settingsFile"):
            choose(training_panel, tmp_path)
        else:
            ui.studyEdit.text = str(tmp_path)
        getattr(ui, f"{field}Edit").text = text.replace("FILE", str(tmp_path / "file"))
        label = getattr(ui, f"{field}Problem")
        assert label.visible and says in label.text and label.text.endswith(".")
        assert not ui.trainButton.enabled

    def test_people_that_cannot_be_parted(self, training_panel, tmp_path):
        choose(training_panel, tmp_path)
        training_panel.ui.peopleSpin.value, training_panel.ui.partsSpin.value = 10, 3
        assert "10 people cannot be computed in 3 equal parts" in training_panel.ui.partsProblem.text
        assert not training_panel.ui.trainButton.enabled

    def test_another_model_must_be_one(self, training_panel, tmp_path):
        prepared_study(training_panel, tmp_path)
        training_panel.ui.outputEdit.text = str(tmp_path / "run")
        training_panel.ui.startCombo.setCurrentIndex(2)
        assert training_panel.ui.startFolderArea.visible
        training_panel.ui.startFolderEdit.text = str(tmp_path)
        assert "has no card.json" in training_panel.ui.startProblem.text
        training_panel.ui.startCombo.setCurrentIndex(1)
        assert not training_panel.ui.startProblem.visible and training_panel.ui.trainButton.enabled

    @pytest.mark.parametrize("source", [OWN, SIMULATED])
    def test_the_defaults_are_those_of_the_command_line(self, training_panel, source):
        from neuro4d_lib.training.config import TrainingConfig
        from neuro4d_lib.training.study_config import StudyTrainingConfig

        training_panel.ui.sourceCombo.setCurrentIndex(source)
        node = training_panel.logic.getParameterNode()
        defaults = TrainingConfig() if source == SIMULATED else StudyTrainingConfig()
        assert (node.steps, node.people, node.parts, node.seed, node.hours, node.validateEvery, node.saveEvery) == (
            defaults.steps, defaults.people, defaults.parts, defaults.seed, defaults.seconds,
            defaults.validate_every, defaults.save_every,
        )  # fmt: skip
        assert (node.precision, node.saveMemory) == (defaults.precision, defaults.checkpointing)

    def test_what_was_chosen_stays_when_the_source_changes(self, training_panel):
        training_panel.ui.peopleSpin.value = 7
        training_panel.ui.sourceCombo.setCurrentIndex(SIMULATED)
        assert (training_panel.ui.peopleSpin.value, training_panel.ui.stepsSpin.value) == (7, 6000)
        training_panel.ui.sourceCombo.setCurrentIndex(OWN)
        assert (training_panel.ui.peopleSpin.value, training_panel.ui.stepsSpin.value) == (7, 1000)

    def test_time_memory_and_disk_are_estimated_before_it_starts(self, training_panel, tmp_path, wait):
        prepared_study(training_panel, tmp_path)
        training_panel.ui.outputEdit.text = str(tmp_path / "run")
        wait(lambda: training_panel.settings.line.estimate)
        said = training_panel.ui.estimateLabel.text
        assert said.startswith(
            "Learns from 30 people, is validated with 6 and scored on 5 others. About 2.0 h, 3.2 GB of"
        )
        assert "400 MB of disk (" in said and "are free)" in said
        assert not (tmp_path / "run").exists()

    def test_what_does_not_fit_is_said(self, training_module):
        from Neuro4DTrainingLib.EstimateLine import sentence

        estimate = {"seconds": 60, "memory_bytes": 4e9, "disk_bytes": 1e9}
        assert "there is too little memory" in sentence(estimate, 3e9, 2e9)
        assert "there is too little disk" in sentence(estimate, 5e9, 0.5e9)
        assert "too little" not in sentence(estimate, 0, 2e9)

    def test_simulated_people_are_trained_on_anew(self, training_panel, tmp_path):
        choose(training_panel, tmp_path)
        assert not training_panel.ui.startCombo.enabled
        assert "once the run has begun" in training_panel.ui.estimateLabel.text

    def test_a_folder_without_permission_is_said(self, training_panel, tmp_path):
        if not Path("/sys/kernel").exists():
            pytest.skip("needs a folder that nobody may write")
        choose(training_panel, tmp_path)
        training_panel.ui.outputEdit.text = "/sys/neuro4d"
        training_panel.ui.trainButton.click()
        assert "/sys/neuro4d cannot be written" in training_panel.ui.statusLabel.text
        assert state(training_panel) == "not started"


class TestTraining:
    def test_from_start_to_the_model_in_the_forecast_panel(self, training_panel, tmp_path, wait, monkeypatch):
        import slicer
        from Neuro4DForecastLib.Logic import Neuro4DForecastLogic

        panel = training_panel
        run = begin(panel, tmp_path, wait)
        wait(lambda: "left" in panel.ui.statusLabel.text)
        assert panel.ui.progressBar.visible
        assert not panel.ui.useModelButton.enabled
        wait(lambda: state(panel) == "done")
        settings = json.loads((run / "config.json").read_text())["training"]
        assert settings["steps"] == 60 and settings["people"] == 48
        wait(lambda: panel.ui.useModelButton.enabled)
        selected = []
        monkeypatch.setattr(slicer.util, "mainWindow", lambda: True)
        monkeypatch.setattr(slicer.util, "selectModule", selected.append)
        panel.ui.useModelButton.click()
        assert Neuro4DForecastLogic().getParameterNode().model == str(run / "model")
        assert selected == ["Neuro4DForecast"]

    def test_curves_are_plot_nodes_that_follow_the_log(self, training_panel, tmp_path, wait):
        from Neuro4DForecastLib import VolumesTable

        run = begin(training_panel, tmp_path, wait)
        wait(lambda: state(training_panel) == "done" and training_panel.log())
        curves = training_panel.run.curves
        wait(lambda: VolumesTable.column(curves.node("loss", "vtkMRMLTableNode"), "step") == steps_of(run))
        validation = curves.node("validation", "vtkMRMLTableNode")
        assert VolumesTable.column(validation, "step") == [10, 20, 30, 40, 50, 60]
        assert VolumesTable.column(validation, "validation_loss")[1] == pytest.approx(0.55)
        chart = curves.chart
        titles = [chart.GetNthPlotSeriesNode(i).GetName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
        assert titles == [
            "Training loss", "Training loss, smoothed", "Validation loss", "Validation without the network",
        ]  # fmt: skip
        for index in range(4):
            series = chart.GetNthPlotSeriesNode(index)
            assert series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName()) is not None
        assert "best validation 0.5167 at step 60" in training_panel.ui.scoreLabel.text

    def test_curves_that_a_person_deleted_come_back(self, training_panel, tmp_path, wait):
        import slicer

        begin(training_panel, tmp_path, wait, steps=10_000)
        curves = training_panel.run.curves
        for role, kind in (("loss", "vtkMRMLTableNode"), ("chart", "vtkMRMLPlotChartNode")):
            wait(lambda role=role, kind=kind: curves.node(role, kind) is not None)
            slicer.mrmlScene.RemoveNode(curves.node(role, kind))
            wait(lambda role=role, kind=kind: curves.node(role, kind) is not None)
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 4

    def test_pause_holds_it_and_continue_goes_on(self, training_panel, tmp_path, wait):
        run = begin(training_panel, tmp_path, wait, steps=400)
        training_panel.ui.pauseButton.click()
        assert training_panel.ui.pauseButton.text == "Continue" and "Paused" in training_panel.ui.statusLabel.text
        time.sleep(0.05)
        held = len(steps_of(run))
        time.sleep(0.2)
        assert len(steps_of(run)) == held
        training_panel.ui.pauseButton.click()
        wait(lambda: len(steps_of(run)) > held + 5)
        assert state(training_panel) == "running"

    def test_stop_and_resume_give_every_step_once(self, training_panel, tmp_path, wait):
        run = begin(training_panel, tmp_path, wait, steps=50, least=25)
        training_panel.ui.stopButton.click()
        wait(lambda: state(training_panel) == "stopped")
        assert training_panel.ui.trainButton.text == "Resume" and training_panel.ui.trainButton.enabled
        stopped_at = steps_of(run)[-1]
        assert stopped_at < 50
        training_panel.ui.stepsSpin.value = 7  # the run keeps its own settings
        training_panel.ui.trainButton.click()
        wait(lambda: state(training_panel) == "done")
        assert steps_of(run) == list(range(1, 51))

    @NO_SIGNALS
    def test_a_killed_worker_is_noticed_and_resumed(self, training_panel, tmp_path, wait):
        run = begin(training_panel, tmp_path, wait)
        os.kill(training_panel.run.controls.work.record.pid, signal.SIGKILL)
        wait(lambda: state(training_panel) == "failed")
        assert "ended from outside" in training_panel.ui.statusLabel.text
        training_panel.ui.trainButton.click()
        wait(lambda: state(training_panel) == "done")
        assert steps_of(run) == list(range(1, 61))

    @pytest.mark.parametrize(
        ("behavior", "words"),
        [
            ("memory", "ran out of memory"),
            ("gpu", "graphics card ran out of memory"),
            ("space", "no space left on the disk"),
            ("package", "The Python package nilearn is missing"),
            ("strange", "stopped without saying why"),
            ("input", "The prepared study holds 1 subject"),
            pytest.param("killed", "ended from outside", marks=NO_SIGNALS),
        ],
    )
    def test_a_failure_gives_a_sentence(self, training_panel, tmp_path, wait, fake_worker, behavior, words):
        fake_worker(behavior)
        choose(training_panel, tmp_path)
        training_panel.ui.trainButton.click()
        wait(lambda: state(training_panel) == "failed")
        said = training_panel.ui.statusLabel.text
        assert words in said and "Traceback" not in said and said.rstrip(")").endswith(".")
        training_panel.ui.logButton.collapsed = False
        assert "--output" in training_panel.ui.logText.plainText

    def test_a_folder_in_which_a_command_line_trains_is_left_alone(self, training_panel, tmp_path):
        run = choose(training_panel, tmp_path)
        run.mkdir()
        (run / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
        training_panel.ui.trainButton.click()
        assert "a command line seems to train there" in training_panel.ui.statusLabel.text


class TestThePanelComesAndGoes:
    def test_closed_during_the_run_and_opened_again(self, training_panels, tmp_path, wait):
        """As when Slicer was closed: another widget, an empty scene; only the folder and the settings are left."""
        import slicer
        from stand_in.application import close_panel, new_scene

        first = training_panels()
        run = begin(first, tmp_path, wait, steps=10_000)
        close_panel(first)
        new_scene(slicer.app)
        seen = len(steps_of(run))
        wait(lambda: len(steps_of(run)) > seen + 5)
        second = training_panels()
        assert second.ui.outputEdit.text == str(run) and state(second) == "running"
        wait(lambda: second.run.log.steps and second.run.log.steps[-1] > seen)
        second.ui.stopButton.click()
        wait(lambda: state(second) == "stopped")

    def test_one_that_is_paused_stays_so(self, training_panels, tmp_path, wait):
        from stand_in.application import close_panel

        first = training_panels()
        run = begin(first, tmp_path, wait, steps=10_000)
        first.ui.pauseButton.click()
        close_panel(first)
        time.sleep(0.05)
        held = len(steps_of(run))
        second = training_panels()
        assert state(second) == "paused" and second.ui.pauseButton.text == "Continue"
        assert len(steps_of(run)) == held
        second.ui.pauseButton.click()
        wait(lambda: len(steps_of(run)) > held)

    def test_closing_the_scene_does_not_end_it(self, training_panel, tmp_path, wait):
        import slicer

        run = begin(training_panel, tmp_path, wait, steps=10_000)
        slicer.mrmlScene.Clear(0)
        wait(lambda: state(training_panel) == "running")
        assert training_panel.ui.outputEdit.text == str(run)
        curves = training_panel.run.curves
        wait(lambda: curves.chart is not None)

    def test_two_panels_on_one_run_show_the_same(self, training_panels, tmp_path, wait):
        first, second = training_panels(), training_panels()
        begin(first, tmp_path, wait, steps=10_000)
        wait(lambda: state(second) == "running")
        assert not second.ui.trainButton.enabled and "running" in second.ui.trainButton.toolTip
        second.ui.pauseButton.click()
        wait(lambda: first.ui.pauseButton.text == "Continue")
        first.ui.pauseButton.click()
        wait(lambda: state(second) == "running")
        second.ui.stopButton.click()
        wait(lambda: state(first) == "stopped" and first.ui.trainButton.text == "Resume")

    def test_reloading_loads_the_parts_anew(self, training_panel):
        kept = {name: module for name, module in sys.modules.items() if name.startswith("Neuro4DTraining")}
        try:
            training_panel.onReload()
            assert sys.modules["Neuro4DTrainingLib.Entries"] is not kept["Neuro4DTrainingLib.Entries"]
            import slicer

            slicer.modules.Neuro4DTrainingWidget.cleanup()
        finally:
            sys.modules.update(kept)


class TestPreparing:
    @pytest.fixture
    def chosen(self, training_panel, tmp_path):
        (tmp_path / "study").mkdir()
        training_panel.ui.studyEdit.text = str(tmp_path / "study")
        training_panel.ui.preparedEdit.text = str(tmp_path / "prepared")
        assert training_panel.ui.prepareButton.enabled, training_panel.ui.prepareButton.toolTip
        return training_panel

    def ended(self, panel):
        return panel.preparation.controls.state.value == "done"

    def test_leads_to_training_and_to_the_page_of_quality(self, chosen, tmp_path, wait, monkeypatch):
        import qt

        ui = chosen.ui
        ui.outputEdit.text = str(tmp_path / "run")
        assert not ui.trainButton.enabled and "holds no prepared study yet" in ui.trainButton.toolTip
        assert not ui.qcButton.enabled
        ui.prepareButton.click()
        wait(lambda: "sub-" in ui.prepareLabel.text)
        wait(lambda: self.ended(chosen) and ui.trainButton.enabled)
        assert ui.prepareLabel.text == "Done: 29 people prepared, 1 left out with a reason."
        opened = []
        monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
        ui.qcButton.click()
        assert opened == [str(tmp_path / "prepared" / "qc" / "index.html")]

    def test_stops_and_goes_on(self, chosen, tmp_path, wait, fake_worker):
        fake_worker("slow")
        chosen.ui.prepareButton.click()
        wait(lambda: "sub-" in chosen.ui.prepareLabel.text)
        chosen.ui.pausePrepareButton.click()
        assert chosen.ui.pausePrepareButton.text == "Continue"
        chosen.ui.stopPrepareButton.click()
        wait(lambda: chosen.ui.prepareButton.text == "Resume")
        chosen.ui.outputEdit.text = str(tmp_path / "run")
        assert "not prepared to the end yet" in chosen.ui.trainButton.toolTip
        fake_worker("")
        chosen.ui.prepareButton.click()
        wait(lambda: self.ended(chosen))

    def test_never_into_the_study(self, chosen, tmp_path):
        chosen.ui.preparedEdit.text = str(tmp_path / "study" / "prepared")
        chosen.ui.prepareButton.click()
        assert "to which nothing is written" in chosen.ui.prepareLabel.text
        assert list((tmp_path / "study").iterdir()) == []


class TestExamples:
    @pytest.fixture
    def small_sample(self, tmp_path, monkeypatch, training_module):
        import nibabel
        from Neuro4DForecastLib import SampleScan

        path = tmp_path / "sample.nii"
        image = np.random.default_rng(0).integers(0, 400, (24, 26, 22)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)
        monkeypatch.setattr(SampleScan, "path", lambda: path)

    def test_each_plays_and_is_kept_in_a_sequence_over_the_steps(self, small_sample, training_panel, tmp_path, wait):
        from Neuro4DForecastLib import Results
        from Neuro4DTrainingLib import Example

        panel = training_panel
        run = begin(panel, tmp_path, wait, steps=10_000)
        for count in (1, 2):
            wait(lambda: panel.ui.exampleButton.enabled)
            panel.ui.exampleButton.click()
            wait(lambda: panel.run.example is not None and not panel.run.example.active)
            assert panel.run.example.problem is None, panel.run.example.problem.sentence
            sequence = Example.sequenceOf(run)
            assert sequence.GetNumberOfDataNodes() == count
            assert int(sequence.GetNthIndexValue(count - 1)) == panel.run.example.step
        (shown,) = Results.runs()  # the older one made room
        assert shown.years == [0, 1, 2, 3, 4, 5]
        assert sequence.GetIndexName() == "step"
        assert f"step {panel.run.example.step}" in panel.ui.exampleLabel.text

    def test_they_come_by_themselves_with_every_new_best(self, small_sample, training_panel, tmp_path, wait):
        from Neuro4DTrainingLib import Example

        training_panel.ui.examplesBox.checked = True
        run = begin(training_panel, tmp_path, wait, steps=10_000)
        wait(lambda: Example.sequenceOf(run) is not None, 40)

    def test_before_the_first_checkpoint_there_is_none(self, training_panel, tmp_path):
        choose(training_panel, tmp_path)
        assert not training_panel.ui.exampleButton.enabled


class TestFromPython:
    def test_a_study_becomes_a_model_without_the_panel(self, scene, training_module, tmp_path, wait):
        """The calls of docs/training_panel.md."""
        from Neuro4DForecastLib.Logic import Neuro4DForecastLogic

        logic = training_module.Neuro4DTrainingLogic()
        logic.worker = [sys.executable, str(Path(__file__).parent / "fake_trainer.py")]
        (tmp_path / "study").mkdir()
        prepared = logic.prepare(tmp_path / "study", tmp_path / "prepared", workers=4)
        wait(lambda: prepared.poll().value == "done")
        run = logic.train(tmp_path / "run", prepared=tmp_path / "prepared", steps=40)
        assert run.record.command[2:5] == ["train", str(tmp_path / "prepared"), "--output"]
        wait(lambda: run.poll().value == "running" and run.fraction > 0.2)
        run.pause()
        assert run.state.value == "paused"
        run.goOn()
        run.stop()
        wait(lambda: run.poll().value == "stopped")
        logic.resume(run)
        wait(lambda: run.poll().value == "done")
        logic.useModel(tmp_path / "run" / "model")
        assert Neuro4DForecastLogic().getParameterNode().model == str(tmp_path / "run" / "model")

    def test_a_missing_package_is_said_before_anything_is_written(self, scene, training_module, tmp_path, monkeypatch):
        from Neuro4DForecastLib import Dependencies
        from Neuro4DForecastLib.Problem import Problem

        known = Dependencies.look
        missing = Dependencies.Package("nilearn", "missing")
        monkeypatch.setattr(Dependencies, "look", lambda name: missing if name == "nilearn" else known(name))
        with pytest.raises(Problem, match="The Python package nilearn is missing"):
            training_module.Neuro4DTrainingLogic().train(tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestLongRuns:
    def test_the_curve_of_a_long_run_is_its_mean_in_few_points(self, training_module, tmp_path):
        from Neuro4DTrainingLib import Curves

        losses = np.random.default_rng(0).random(20_000)
        (tmp_path / "log.jsonl").write_text(
            "".join(f'{{"step": {i + 1}, "loss": {v}}}\n' for i, v in enumerate(losses))
        )
        log = Curves.RunLog(tmp_path)
        while log.read() and not log.complete:
            pass
        width = log.steps[1] - log.steps[0]
        assert Curves.MOST_POINTS <= len(log.steps) < 2 * Curves.MOST_POINTS
        whole = len(log.steps) * width
        assert np.allclose(log.losses, losses[:whole].reshape(-1, width).mean(axis=1))
        assert log.steps == list(range(width, whole + 1, width))

    def test_the_event_loop_is_never_held_up_for_a_tenth_of_a_second(self, training_panel, tmp_path, wait):
        """While a run of 30,000 steps is opened and goes on."""
        from stand_in.heartbeat import Heartbeat

        choose(training_panel, tmp_path, steps=40_000)
        entry = '{"step": %d, "loss": 0.7312345678901234, "floor": 0.9311605095863342, "kind": 0, "seconds": 0.161}\n'
        longest = []
        while len(longest) < 3 and min(longest, default=1) >= 0.1:
            other = tmp_path / f"run{len(longest)}"
            other.mkdir()
            (other / "log.jsonl").write_text("".join(entry % step for step in range(1, 30_001)))
            (other / "training_state.json").write_text('{"step": 30000}')
            past = time.time() - 3600
            os.utime(other / "log.jsonl", (past, past))
            heartbeat = Heartbeat()
            wait(lambda: heartbeat.ticks)  # noqa: B023
            training_panel.ui.outputEdit.text = str(other)
            training_panel.ui.trainButton.click()
            wait(lambda: training_panel.run.log.last.get("step", 0) > 30_020, 60)
            training_panel.ui.pauseButton.click()
            training_panel.ui.stopButton.click()
            wait(lambda: state(training_panel) == "stopped")
            longest.append(heartbeat.longest_seconds())
        assert min(longest) < 0.1, f"held up for {1000 * min(longest):.0f} ms"
