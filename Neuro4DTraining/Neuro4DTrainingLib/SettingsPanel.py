"""How to train: the folder of the run, settings with their problems, and what it will take."""

import qt
from Neuro4DForecastLib.BackgroundRun import State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Entries, Parameters
from Neuro4DTrainingLib.DeviceChoice import DeviceChoice
from Neuro4DTrainingLib.Question import Question
from Neuro4DTrainingLib.StudyPanel import choosePath
from Neuro4DTrainingLib.Words import duration, size

SETTLE_MS, POLL_MS = 1000, 100


class SettingsPanel:
    def __init__(self, ui, logic) -> None:
        self.ui, self.logic = ui, logic
        self._node = None
        self._question: Question | None = None
        self._asked: Entries.Training | None = None
        self.estimate: dict = {}
        self.device = DeviceChoice(ui.deviceCombo, self._deviceChosen)
        self._settle, self._timer = qt.QTimer(), qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._ask)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        folders = {
            "prepared": ui.preparedFolderButton,
            "output": ui.outputFolderButton,
            "startFolder": ui.startFolderButton,
        }
        for field, button in folders.items():
            button.clicked.connect(lambda *_, field=field: self._choose(field))
        ui.settingsFileButton.clicked.connect(lambda *_: self._choose("settingsFile", "JSON (*.json)"))

    def _choose(self, field: str, kinds: str = "") -> None:
        path = choosePath(getattr(self._node, field), kinds, folder=not kinds)
        if path:
            setattr(self._node, field, path)

    def setParameterNode(self, node) -> None:
        self._node = node
        if node is not None:
            self.device.setKey(node.device)

    def _deviceChosen(self, key: str) -> None:
        self._node.device = key

    def update(self, problems: dict[str, str], begun: bool) -> None:
        """Show what belongs to the choices; ask for an estimate when they have settled.

        Args:
            begun: the folder holds a run, which keeps the settings that it was started with.
        """
        self.ui.startFolderArea.visible = self._node.start == Entries.OTHER_MODEL
        wanted = None
        if not problems and not begun:
            try:
                wanted = Parameters.training(self._node)
            except Problem:
                wanted = None
        if wanted == self._asked:
            return
        self._stopAsking()
        self._asked = wanted
        self.ui.estimateLabel.text = (
            "This folder holds a run; it keeps the settings that it was started with." if begun else ""
        )
        if wanted is not None:
            self._settle.start()

    def _ask(self) -> None:
        try:
            self._question = self.logic.askEstimate(self._asked)
        except Problem as problem:
            self.ui.estimateLabel.text = problem.sentence
            return
        self.ui.estimateLabel.text = "Estimating time, memory and disk…"
        self._timer.start()

    def _poll(self) -> None:
        state = self._question.poll()
        if state is State.RUNNING:
            return
        question = self._question
        self._stopAsking()
        if state is State.FAILED:
            self.ui.estimateLabel.text = f"No estimate: {question.problem.sentence}"
            return
        self.estimate = question.answer
        self.ui.estimateLabel.text = estimateSentence(question.answer)

    def _stopAsking(self) -> None:
        self._settle.stop()
        self._timer.stop()
        self.estimate = {}
        if self._question is not None:
            self._question.close()
            self._question = None

    def close(self) -> None:
        self._stopAsking()
        self._asked = None
        self.device.close()


def estimateSentence(estimate: dict) -> str:
    """Time, memory and disk as the command line estimates them."""
    parts = []
    if estimate.get("seconds") is not None:
        parts.append(duration(float(estimate["seconds"])))
    if estimate.get("memory_bytes") is not None:
        parts.append(f"{size(float(estimate['memory_bytes']))} of memory")
    if estimate.get("disk_bytes") is not None:
        parts.append(f"{size(float(estimate['disk_bytes']))} of disk")
    return f"About {', '.join(parts)}." if parts else "No estimate."
