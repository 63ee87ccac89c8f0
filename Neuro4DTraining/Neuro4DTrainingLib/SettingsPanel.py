"""How to train: the folder of the run, settings with their problems, and what it will take."""

from Neuro4DForecastLib.DeviceChoice import DeviceChoice
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Entries, Parameters
from Neuro4DTrainingLib.EstimateLine import EstimateLine
from Neuro4DTrainingLib.StudyPanel import choosePath

SIMULATED = "Simulated people: the time is measured once the run has begun."
BEGUN = "This folder holds a run; it keeps the settings that it was started with."


class SettingsPanel:
    def __init__(self, ui, logic) -> None:
        self.ui, self.logic = ui, logic
        self._node = None
        self.line = EstimateLine(ui.estimateLabel, logic.askEstimate)
        self.device = DeviceChoice(ui.deviceCombo)
        self.device.onChosen = self._deviceChosen
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
        """Show what belongs to the choices, and what they will take.

        Args:
            begun: the folder holds a run.
        """
        ui = self.ui
        own = self._node.source == Entries.OWN_STUDY
        ui.startFolderArea.visible = own and self._node.start == Entries.OTHER_MODEL
        fields = (ui.startCombo, ui.startFolderArea, ui.stepsSpin, ui.hoursSpin, ui.deviceCombo, ui.saveMemoryBox)
        for widget in (*fields, ui.moreArea):
            widget.enabled = not begun
        ui.startCombo.enabled = own and not begun
        wanted = None
        if own and not problems and not begun:
            try:
                wanted = Parameters.training(self._node)
            except Problem:
                wanted = None
        self.line.want(wanted, BEGUN if begun else "" if own else SIMULATED)

    def close(self) -> None:
        self.line.close()
        self.device.close()
