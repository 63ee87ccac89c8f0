"""A forecast of the sample brain with the weights of a run, while it trains."""

import enum
from pathlib import Path

import slicer
from Neuro4DForecastLib import Entries as ForecastEntries
from Neuro4DForecastLib import RunFolder, SampleScan
from Neuro4DForecastLib.BackgroundRun import State as RunState
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib.Question import Question

YEARS = (1.0, 2.0, 3.0, 4.0, 5.0)
SEQUENCE = "Neuro4D.TrainingExamples"


class Stage(enum.Enum):
    MODEL = "making a model of the weights"
    FORECAST = "forecasting the sample brain"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


class Example:
    """`poll` drives it and never holds up its caller.

    Attributes:
        step: of the training.
        result: the forecast in the scene, once it is there.
    """

    def __init__(
        self, maker: list[str], worker: list[str], forecastLogic, run: Path, step: int, reference: Path
    ) -> None:
        weights = run / "weights.safetensors"
        if not weights.is_file():
            raise Problem("The run has no weights yet. An example is possible after its first checkpoint.", "output")
        self.run, self.step = run, step
        self.stage, self.result, self.problem = Stage.MODEL, None, None
        self._logic = forecastLogic
        self._logic.worker = worker
        self._job = None
        self._folder = RunFolder.make(slicer.app.temporaryPath)
        self._model = Question([*maker, str(run), str(self._folder / "model"), str(reference)])
        self._model.start()

    @property
    def active(self) -> bool:
        return self.stage in (Stage.MODEL, Stage.FORECAST)

    def poll(self) -> Stage:
        try:
            if self.stage is Stage.MODEL:
                self._pollModel()
            elif self.stage is Stage.FORECAST and not self._pollForecast():
                self._end(Stage.DONE)
        except Problem as problem:
            self.problem = problem
            self._end(Stage.FAILED)
        return self.stage

    def _pollModel(self) -> None:
        state = self._model.poll()
        if state is RunState.FAILED:
            raise self._model.problem
        if state is RunState.SUCCEEDED:
            person = SampleScan.PERSON
            request = ForecastEntries.Request(
                years=YEARS,
                covariates=ForecastEntries.covariates(
                    person["age"], person["sex"], person["education"], person["apoe4"], person["diagnosis"]
                ),
                futures=1,
                model=str(self._folder / "model"),
                device="cpu",
            )
            self._job = self._logic.start(request, SampleScan.load())
            self.stage = Stage.FORECAST

    def _pollForecast(self) -> bool:
        """Whether it still goes on."""
        self._job.poll()
        if self._job.active:
            return True
        if self._job.problem is not None:
            raise self._job.problem
        self.result = self._job.result
        return False

    def cancel(self) -> None:
        if self.active:
            if self._job is not None:
                self._job.cancel()
            self._end(Stage.CANCELED)

    def _end(self, stage: Stage) -> None:
        self.stage = stage
        self._model.close()
        RunFolder.remove(self._folder)


def remember(example: Example) -> None:
    """Keep the volume change of the furthest year in a sequence over the steps of training, one item an example."""
    change = example.result.node("change")
    if change is None:
        return
    sequence = sequenceOf(example.run)
    if sequence is None:
        name = f"{example.run.name}: examples through training, {YEARS[-1]:g} years ahead, volume change (%)"
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        sequence.SetIndexName("step")
        sequence.SetIndexUnit("")
        sequence.SetAttribute(SEQUENCE, str(example.run))
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{example.run.name}: examples")
        browser.SetAttribute(SEQUENCE, str(example.run))
        browser.SetPlaybackRateFps(2)
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    sequence.SetDataNodeAtValue(change.GetNthDataNode(change.GetNumberOfDataNodes() - 1), str(example.step))


def sequenceOf(run: Path):
    """The sequence of a run's examples in the scene; None before the first one."""
    scene = slicer.mrmlScene
    nodes = [
        scene.GetNthNodeByClass(i, "vtkMRMLSequenceNode")
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode"))
    ]
    return next((node for node in nodes if node.GetAttribute(SEQUENCE) == str(run)), None)
