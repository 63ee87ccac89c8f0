"""Play, step, compare, export and remove the runs in the scene."""

import os

import qt
import slicer

from Neuro4DForecastLib import Export, Playback, Results, VolumesTable
from Neuro4DForecastLib.Problem import Problem


class PlaybackPanel:
    def __init__(self, ui) -> None:
        self.ui = ui
        self.run: Results.Run | None = None
        self._runs: list[Results.Run] = []
        self._follower: Playback.Follower | None = None
        ui.runCombo.activated.connect(lambda *_: self._chosen())
        ui.playButton.toggled.connect(lambda *_: self._played())
        ui.backButton.clicked.connect(lambda *_: self._step(-1))
        ui.forwardButton.clicked.connect(lambda *_: self._step(1))
        ui.yearSlider.valueChanged.connect(lambda *_: self._slid())
        ui.speedSpin.valueChanged.connect(lambda *_: self.run and Playback.setSpeed(self.run, ui.speedSpin.value))
        ui.overlayCombo.activated.connect(lambda *_: self._overlay())
        ui.overlaySlider.valueChanged.connect(lambda *_: self._overlay())
        ui.regionCombo.activated.connect(lambda *_: self._region())
        ui.sideBySideButton.clicked.connect(lambda *_: self.run and Playback.sideBySide(self.run))
        ui.chartButton.clicked.connect(lambda *_: self._chart())
        ui.exportButton.clicked.connect(lambda *_: self.chooseExport())
        ui.removeButton.clicked.connect(lambda *_: self.remove())
        for title in Export.FORMATS:
            ui.exportCombo.addItem(title)
        self.refresh()

    def refresh(self, chosen: Results.Run | None = None) -> None:
        """Look for runs in the scene again; show the chosen one, else the last."""
        self._runs = Results.runs()
        self.ui.runCombo.clear()
        for run in self._runs:
            self.ui.runCombo.addItem(run.browser.GetName())
        identifiers = [run.identifier for run in self._runs]
        wanted = chosen or self.run
        last = len(identifiers) - 1
        self._choose(identifiers.index(wanted.identifier) if wanted and wanted.identifier in identifiers else last)

    def forgetRemoved(self) -> None:
        """A node left the scene: drop a run whose browser it was."""
        if self.run is not None and self.run.browser is None:
            self.close()
            self.refresh()

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._follower, self.run = None, None

    def play(self) -> None:
        self.ui.playButton.setChecked(True)

    def _chosen(self) -> None:
        self._choose(self.ui.runCombo.currentIndex)
        if self.run is not None:
            Playback.showOverlay(self.run, "None")

    def _choose(self, index: int) -> None:
        self.close()
        self.run = self._runs[index] if 0 <= index < len(self._runs) else None
        self.ui.runCombo.setCurrentIndex(index)
        for widget in (self.ui.playSection, self.ui.resultSection):
            widget.enabled = self.run is not None
        self.ui.playButton.setChecked(False)
        self.ui.yearLabel.text = self.ui.provenanceLabel.text = ""
        if self.run is None:
            return
        self.ui.yearSlider.setRange(0, len(self.run.years) - 1)
        self.ui.speedSpin.setValue(self.run.browser.GetPlaybackRateFps())
        self.ui.provenanceLabel.text = Export.provenance(self.run)
        self.ui.overlayLegend.visible = False
        self.ui.overlayCombo.clear()
        for title in Playback.overlays(self.run):
            self.ui.overlayCombo.addItem(title)
        self.ui.regionCombo.clear()
        for region in VolumesTable.regions(self.run.node("volumes")):
            self.ui.regionCombo.addItem(region.replace("_", " "), region)
        self._follower = Playback.Follower(self.run, self._moved)

    def _moved(self, item: int, year: float) -> None:
        self.ui.yearSlider.blockSignals(True)
        self.ui.yearSlider.setValue(item)
        self.ui.yearSlider.blockSignals(False)
        self.ui.yearLabel.text = "scan" if year == 0 else f"+{year:g} years"

    def _played(self) -> None:
        active = self.ui.playButton.checked
        self.ui.playButton.text = "❚❚" if active else "▶"
        if self.run is not None and self.run.browser is not None:
            Playback.play(self.run, active)

    def _step(self, frames: int) -> None:
        if self.run is not None:
            self.ui.playButton.setChecked(False)
            Playback.step(self.run, frames)

    def _slid(self) -> None:
        if self.run is not None:
            self.ui.playButton.setChecked(False)
            Playback.showItem(self.run, self.ui.yearSlider.value)

    def _overlay(self) -> None:
        if self.run is not None and self.ui.overlayCombo.currentText:
            title = self.ui.overlayCombo.currentText
            Playback.showOverlay(self.run, title, self.ui.overlaySlider.value / 100)
            self.ui.overlayLegend.text = Playback.legend(self.run, title)
            self.ui.overlayLegend.visible = bool(self.ui.overlayLegend.text)

    def _region(self) -> None:
        if self.run is not None and self.ui.regionCombo.currentText:
            VolumesTable.showRegion(self.run, self.ui.regionCombo.currentData)

    def _chart(self) -> None:
        chart = self.run.node("chart") if self.run is not None else None
        if chart is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)

    def chooseExport(self) -> None:
        if self.run is None:
            return
        title = self.ui.exportCombo.currentText
        ending = Export.FORMATS[title]
        path = qt.QFileDialog.getSaveFileName(None, "Export the forecast", f"forecast{ending}", title)
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.export(path if path.endswith(ending) else path + ending, asked=path)

    def export(self, path: str, asked: str = "") -> None:
        """Write the run, after a question if that replaces a file other than the one `asked` about in the dialog."""
        there = [one.name for one in Export.targets(path) if os.path.exists(one) and str(one) != asked]
        if there and not slicer.util.confirmOkCancelDisplay(f"{' and '.join(there)}: there already. Replace?"):
            return
        try:
            written = Export.export(self.run, path, overwrite=True)
            self.ui.statusLabel.text = "Written: " + ", ".join(one.name for one in written)
        except Problem as problem:
            self.ui.statusLabel.text = problem.sentence
            slicer.util.errorDisplay(problem.sentence)

    def remove(self) -> None:
        if self.run is not None:
            run = self.run
            self.close()
            run.remove()
            self.refresh()
