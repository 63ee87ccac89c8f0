"""From a study to a prepared study: start, watch, and open its quality control."""

import contextlib
from pathlib import Path

import qt
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Parameters
from Neuro4DTrainingLib.EstimateLine import EstimateLine
from Neuro4DTrainingLib.Work import State, Work
from Neuro4DTrainingLib.WorkControls import WorkControls


class PreparePanel:
    def __init__(self, ui, logic) -> None:
        self.ui, self.logic = ui, logic
        self._node = None
        self.controls = WorkControls(
            ui.prepareButton, ui.pausePrepareButton, ui.stopPrepareButton, ui.prepareBar, ui.prepareLabel, "Prepare"
        )
        self.controls.againWhenDone = True
        self.line = EstimateLine(ui.prepareEstimateLabel, logic.askPreparation)
        self.controls.start, self.controls.resume = self._start, logic.resume
        ui.qcButton.clicked.connect(lambda *_: self.openQualityControl())

    def setParameterNode(self, node) -> None:
        self._node = node
        self.folderChanged()

    def folderChanged(self) -> None:
        """Another folder was typed or chosen: show its work."""
        text = self._node.prepared.strip() if self._node is not None else ""
        folder = Path(text).expanduser() if text else None
        known = self.controls.work
        if folder is None or not folder.is_absolute():
            self.controls.watch(None)
        elif known is None or known.folder != folder:
            self.controls.watch(self.logic.preparationIn(folder))

    def _start(self) -> Work:
        return self.logic.startPreparation(Parameters.preparation(self._node))

    def update(self, problems: dict[str, str]) -> bool:
        """True when the state changed."""
        before = self.controls.state
        state = self.controls.update(problems)
        self.ui.qcButton.enabled = self.page() is not None
        wanted = None
        if state is State.NONE and not problems:
            with contextlib.suppress(Problem):  # a study that vanished meanwhile
                wanted = Parameters.preparation(self._node)
        self.line.want(wanted)
        return state is not before

    def page(self) -> Path | None:
        work = self.controls.work
        page = work.folder / "qc" / "index.html" if work is not None else None
        return page if page is not None and page.is_file() else None

    def openQualityControl(self) -> None:
        page = self.page()
        if page is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(page)))

    def close(self) -> None:
        """What belongs to the panel ends; the preparation goes on."""
        self.line.close()
