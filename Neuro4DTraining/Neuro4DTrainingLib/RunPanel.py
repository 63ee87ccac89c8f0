"""The training itself: start, pause, stop, resume; its curves, its examples, its model."""

from pathlib import Path

import slicer
from Neuro4DForecastLib import Dependencies
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Example, Parameters
from Neuro4DTrainingLib.Curves import Curves, RunLog
from Neuro4DTrainingLib.Logic import REQUIREMENTS
from Neuro4DTrainingLib.Work import State, Work
from Neuro4DTrainingLib.WorkControls import WorkControls


class RunPanel:
    def __init__(self, ui, logic, packages) -> None:
        self.ui, self.logic, self.packages = ui, logic, packages
        self._node = None
        self.log: RunLog | None = None
        self.curves: Curves | None = None
        self.example: Example.Example | None = None
        self._lastExample = None
        self._exampleOfStep = 0
        self.controls = WorkControls(
            ui.trainButton, ui.pauseButton, ui.stopButton, ui.progressBar, ui.statusLabel, "Start training"
        )
        self.controls.start, self.controls.resume = self._start, self._resume
        self.controls.onProblem = packages.show
        ui.chartButton.clicked.connect(lambda *_: self.showCurves())
        ui.exampleButton.clicked.connect(lambda *_: self.pressExample())
        ui.useModelButton.clicked.connect(lambda *_: self.useModel())

    @property
    def run(self) -> Path | None:
        return self.controls.work.folder if self.controls.work is not None else None

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, which keeps its settings."""
        return self.controls.state is not State.NONE

    def setParameterNode(self, node) -> None:
        self._node = node
        self.folderChanged()

    def folderChanged(self) -> None:
        """Another folder was typed or chosen: show the run that is in it, alive or not."""
        text = self._node.output.strip() if self._node is not None else ""
        folder = Path(text).expanduser() if text else None
        if folder is None or not folder.is_absolute():
            self._watch(None)
        elif self.run != folder:
            self._watch(Work(folder))

    def _watch(self, work: Work | None) -> None:
        self.close()
        self.controls.watch(work)
        self.log = RunLog(work.folder) if work is not None else None
        self.curves = Curves(work.folder) if work is not None else None
        self._exampleOfStep = 0
        self.ui.exampleLabel.text = ""

    def close(self) -> None:
        """What belongs to the panel ends; the training goes on."""
        if self.example is not None:
            self.example.cancel()
            self.example = None

    # training

    def _ready(self) -> None:
        if Dependencies.lacking(REQUIREMENTS) and not self.packages.install():
            raise Problem("Nothing was installed, so nothing was started.", kind="packages")

    def _start(self) -> Work:
        self._ready()
        return self.logic.startTraining(Parameters.training(self._node))

    def _resume(self, work: Work) -> None:
        self._ready()
        self.logic.resume(work)

    def update(self, problems: dict[str, str]) -> bool:
        """Poll the run and show it; True while there is more to read right away."""
        state = self.controls.update(problems)
        known = self.run is not None
        behind = False
        if known:
            changed = self.log.read()
            behind = not self.log.complete
            if changed and not behind and self.log.steps:
                self.curves.show(self.log)
            self._showScores()
            self._driveExample(state)
        self.ui.chartButton.enabled = known and bool(self.log.steps)
        self.ui.useModelButton.enabled = self.model() is not None
        weights = known and (self.run / "weights.safetensors").is_file()
        self.ui.exampleButton.enabled = bool(weights)
        return behind

    def _showScores(self) -> None:
        last, best = self.log.last, self.log.best
        words = []
        if last:
            words.append(f"Step {last['step']}: loss {last['loss']:.3f}")
        if best is not None:
            words.append(f"best validation {best['validation_loss']:.4f} at step {best['step']}")
            if "validation_without_network" in best:
                words.append(f"without the network {best['validation_without_network']:.4f}")
        text = "; ".join(words)
        if self.ui.scoreLabel.text != text:
            self.ui.scoreLabel.text = text

    def showCurves(self) -> None:
        if self.curves is not None and self.log.steps:
            self.curves.show(self.log)
            slicer.modules.plots.logic().ShowChartInLayout(self.curves.chart)

    # examples

    def pressExample(self) -> None:
        if self.example is not None and self.example.active:
            self.example.cancel()
            self.ui.exampleLabel.text = "The example was canceled."
            self.ui.exampleButton.text = "Forecast an example"
            return
        best = self.log.best
        try:
            self.example = self.logic.example(self.run, (best or self.log.last or {}).get("step", 0))
        except Problem as problem:
            self.ui.exampleLabel.text = problem.sentence
            return
        self.ui.exampleButton.text = "Cancel the example"

    def _driveExample(self, state: State) -> None:
        if self.example is not None and self.example.active:
            self._pollExample()
        elif self._node.examples and state is State.RUNNING and self._newBest():
            self._exampleOfStep = self.log.best["step"]
            self.pressExample()

    def _newBest(self) -> bool:
        """Whether there is a better validation since the last example, and weights that were saved after it."""
        best = self.log.best
        return best is not None and best["step"] != self._exampleOfStep and (self.run / "weights.safetensors").is_file()

    def _pollExample(self) -> None:
        stage = self.example.poll()
        if stage is Example.Stage.DONE:
            Example.remember(self.example)
            if self._lastExample is not None:
                self._lastExample.remove()
            self._lastExample = self.example.result
            self.ui.exampleLabel.text = (
                f"The slice views play the sample brain as of step {self.example.step}, simulated. Its volume change is "
                "kept in the sequence of examples."
            )
        elif stage is Example.Stage.FAILED:
            self.ui.exampleLabel.text = self.example.problem.sentence
        else:
            self.ui.exampleLabel.text = f"Example of step {self.example.step}: {stage.value}"
            return
        self.ui.exampleButton.text = "Forecast an example"

    # the model

    def model(self) -> Path | None:
        """The finished model folder of the run."""
        folder = self.run / "model" if self.run is not None else None
        return folder if folder is not None and (folder / "card.json").is_file() else None

    def useModel(self) -> None:
        try:
            self.logic.useModel(self.model())
        except Problem as problem:
            self.ui.statusLabel.text = problem.sentence
