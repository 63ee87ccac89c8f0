"""The log of a run as curves: loss of training, loss on held-out people, in two tables under one plot chart."""

import json
from pathlib import Path

import slicer
from Neuro4DForecastLib import VolumesTable

from Neuro4DTrainingLib.Tail import Tail

MOST_POINTS = 300
RUN, ROLE = "Neuro4D.TrainingRun", "Neuro4D.TrainingRole"
NAN = float("nan")
LOSS = {  # column: (title, color, line style, width)
    "loss": ("Training loss", (0.55, 0.65, 0.85), "solid", 1),
    "smooth": ("Training loss, smoothed", (0.1, 0.3, 0.8), "solid", 3),
}
VALIDATION = {
    "validation_loss": ("Validation loss", (0.85, 0.35, 0.1), "solid", 3),
    "validation_without_network": ("Validation without the network", (0.5, 0.5, 0.5), "dash", 2),
}


class RunLog:
    """log.jsonl of a run, read as it grows.

    Attributes:
        steps, losses: ends of the bins and mean loss in each; bins grow so that a long run stays a plot.
        validations: lines of the log with a validation.
    """

    def __init__(self, run: Path) -> None:
        self._tail = Tail(Path(run) / "log.jsonl")
        self._forget()

    def _forget(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.validations: list[dict] = []
        self.last: dict = {}
        self._width, self._sum, self._count = 1, 0.0, 0

    def read(self) -> bool:
        """Take in what is new, a few milliseconds of it; True where there was something."""
        lines, anew = self._tail.lines()
        if anew:
            self._forget()
        for line in lines:
            try:
                entry = json.loads(line)
                step, loss = int(entry["step"]), float(entry["loss"])
            except (ValueError, KeyError, TypeError):
                continue
            self.last = entry
            self._add(step, loss)
            if "validation_loss" in entry:
                self.validations.append(entry)
        return bool(lines) or anew

    @property
    def complete(self) -> bool:
        """Whether all that is in the file has been read."""
        return self._tail.atEnd

    def _add(self, step: int, loss: float) -> None:
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count < self._width:
            return
        self.steps.append(step)
        self.losses.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.steps) >= 2 * MOST_POINTS:
            self.losses = [sum(pair) / 2 for pair in zip(self.losses[::2], self.losses[1::2], strict=True)]
            self.steps = self.steps[1::2]
            self._width *= 2

    def smoothed(self) -> list[float]:
        """Moving average with a forgetting of a tenth of the curve, corrected at its start."""
        keep = 1 - 1 / max(2.0, len(self.losses) / 10)
        average, weight, found = 0.0, 0.0, []
        for loss in self.losses:
            average, weight = keep * average + (1 - keep) * loss, keep * weight + (1 - keep)
            found.append(average / weight)
        return found

    @property
    def best(self) -> dict | None:
        """The validation with the lowest loss."""
        return min(self.validations, key=lambda entry: entry["validation_loss"], default=None)


class Curves:
    """The nodes of a run's curves; those that the scene already has of this run are used again."""

    def __init__(self, run: Path) -> None:
        self.run = Path(run)

    def _nodes(self, kind: str) -> list:
        scene = slicer.mrmlScene
        nodes = [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]
        return [node for node in nodes if node.GetAttribute(RUN) == str(self.run)]

    def node(self, role: str, kind: str):
        return next((node for node in self._nodes(kind) if node.GetAttribute(ROLE) == role), None)

    @property
    def chart(self):
        return self.node("chart", "vtkMRMLPlotChartNode")

    def show(self, log: RunLog) -> None:
        """Bring tables and chart up to what the log says."""
        parts = [self.chart, *(self.node(role, "vtkMRMLTableNode") for role in ("loss", "validation"))]
        if any(part is None for part in parts):
            self._make()
        loss, validation = self.node("loss", "vtkMRMLTableNode"), self.node("validation", "vtkMRMLTableNode")
        VolumesTable.fill(loss, {"step": log.steps, "loss": log.losses, "smooth": log.smoothed()})
        columns = {name: [float(line.get(name, NAN)) for line in log.validations] for name in VALIDATION}
        VolumesTable.fill(validation, {"step": [line["step"] for line in log.validations], **columns})

    def _make(self) -> None:
        for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):  # of a half-deleted set
            for left in self._nodes(kind):
                slicer.mrmlScene.RemoveNode(left)
        chart = self._add("vtkMRMLPlotChartNode", "chart", f"{self.run.name}: training")
        chart.SetTitle(f"{self.run.name}: training")
        chart.SetXAxisTitle("Step")
        chart.SetYAxisTitle("Loss (predicting nothing gives about 1)")
        for role, looks in (("loss", LOSS), ("validation", VALIDATION)):
            table = self._add("vtkMRMLTableNode", role, f"{self.run.name}: {role}")
            VolumesTable.fill(table, {"step": [], **{column: [] for column in looks}})
            for column, look in looks.items():
                series = VolumesTable.seriesNode(chart, table, column, *look, x="step")
                series.SetAttribute(RUN, str(self.run))

    def _add(self, kind: str, role: str, name: str):
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetAttribute(RUN, str(self.run))
        node.SetAttribute(ROLE, role)
        return node
