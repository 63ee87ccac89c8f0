"""What goes into a forecast: scan, person, years, model, device; each with its problem beside the field."""

import qt
import slicer

from Neuro4DForecastLib import Entries, Export, Machine, Models, Nodes, Parameters, SampleScan
from Neuro4DForecastLib.DeviceChoice import DeviceChoice
from Neuro4DForecastLib.EarlierScans import EarlierScans
from Neuro4DForecastLib.Problem import Problem

FIELDS = ("scan", "earlierScans", "segmentation", "otherVolumes", "age", "education", "years", "model")
OTHER_FOLDER = "Another folder…"


class InputsPanel:
    """Attributes:
    problems: field -> sentence; empty when a forecast can start.
    """

    def __init__(self, ui, logic) -> None:
        self.ui, self.logic = ui, logic
        self.onChanged = lambda: None
        self.problems: dict[str, str] = {}
        self._node = None
        self._updating = False
        self._models: list[Models.Model] = []
        self._device = DeviceChoice(ui.deviceCombo)
        self._device.onChosen = lambda _: self._deviceChosen()
        self._device.onLooked = lambda: self.onChanged()
        self.earlierScans = EarlierScans(ui.earlierScansArea, self._earlierChanged)
        ui.sampleButton.clicked.connect(lambda *_: self.loadSample())
        ui.loadSequenceButton.clicked.connect(lambda *_: self.chooseSequence())
        ui.otherVolumesSelector.checkedNodesChanged.connect(lambda *_: self._othersChanged())
        ui.modelCombo.activated.connect(lambda *_: self._modelChosen())
        ui.modelPath.currentPathChanged.connect(lambda *_: self._modelChosen())
        self._showModels()

    def close(self) -> None:
        self._device.close()

    def setParameterNode(self, node) -> None:
        self._node = node
        self.earlierScans.setVolumes([], [])
        if node is not None:
            self.earlierScans.setVolumes(list(node.earlierScans), list(node.earlierYears), node.scan)
            self._preselect()
            self._showOthers()
            self._device.setKey(node.device)

    def refresh(self) -> None:
        """On entering the module: a scan to begin with, what processors are free."""
        self._preselect()
        self._device.look()
        self.update()

    def _preselect(self) -> None:
        if self._node is None or self._node.scan is not None:
            return
        scene = slicer.mrmlScene
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
            volume = scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode")
            if Nodes.problemWith(volume) is None:
                self._node.scan = volume
                return

    def request(self):
        return Parameters.request(self._node)

    def volumes(self) -> dict:
        """Nodes of a forecast, as keywords of Logic.start."""
        node = self._node
        others = [volume for volume in node.otherVolumes if volume is not None and volume is not node.scan]
        return {
            "scan": node.scan,
            "earlier": Parameters.earlier(node),
            "segmentation": node.segmentation,
            "others": others,
        }

    # problems beside the fields

    def update(self, *_) -> None:
        """Read everything again; show what is wrong beside the field."""
        if self._node is None or self._updating:
            return
        self._updating = True
        try:
            self._hideForecasts()
            if self.earlierScans.setScan(self._node.scan):
                self._node.earlierYears = self.earlierScans.texts()
            self.problems = self._find()
            for field in FIELDS:
                label = getattr(self.ui, f"{field}Problem")
                label.text = self.problems.get(field, "")
                label.visible = field in self.problems
            self._showModel()
        finally:
            self._updating = False
        self.onChanged()

    def _find(self) -> dict[str, str]:
        node = self._node
        found = Parameters.entryProblems(node)
        for field, volumes in (
            ("scan", [node.scan]),
            ("earlierScans", node.earlierScans),
            ("otherVolumes", node.otherVolumes),
        ):
            for volume in volumes:
                sentence = Nodes.problemWith(volume, field)
                if sentence:
                    found.setdefault(field, sentence)
        sentence = Nodes.problemWithLabels(node.segmentation)
        if sentence:
            found["segmentation"] = sentence
        if any(volume is node.scan for volume in node.earlierScans):
            found.setdefault("earlierScans", "The scan itself is listed as an earlier scan. Choose another volume.")
        try:
            model = Models.load(node.model) if node.model else self._shipped()
        except Problem as problem:
            found["model"] = problem.sentence
        else:
            if "years" not in found:
                found |= model.problemsWithYears(Entries.years(node.years))
        return found

    def _shipped(self) -> Models.Model:
        if not self._models:
            raise Problem(
                f"No model comes with this installation. Choose “{OTHER_FOLDER}” and a model folder.", "model"
            )
        return self._models[0]

    # scan and what rides along

    def loadSample(self) -> None:
        with slicer.util.tryWithErrorDisplay("The sample could not be loaded.", waitCursor=True):
            self._node.scan = SampleScan.load()
            for name, value in SampleScan.PERSON.items():
                setattr(self._node, name, value)
            self.update()

    def chooseSequence(self) -> None:
        path = qt.QFileDialog.getOpenFileName(None, "Load a 4D NIfTI as a sequence", "", "NIfTI (*.nii *.nii.gz)")
        path = path[0] if isinstance(path, tuple) else path
        if path:
            try:
                Export.loadSequence(path)
            except Problem as problem:
                slicer.util.errorDisplay(problem.sentence)

    def _earlierChanged(self) -> None:
        if self._node is None or self._updating:
            return
        self._node.earlierScans = self.earlierScans.volumes()
        self._node.earlierYears = self.earlierScans.texts()
        self.update()

    def _hideForecasts(self) -> None:
        """A forecast is neither a scan nor another image of the head: its volumes are not offered. Nor is the scan
        offered as its own companion.
        """
        found, ui = Nodes.forecastVolumes(), self.ui
        others = found if self._node.scan is None else [*found, self._node.scan.GetID()]
        single = [ui.scanSelector, ui.segmentationSelector, *self.earlierScans.selectors()]
        for selector, identifiers in [(ui.otherVolumesSelector, others), *((one, found) for one in single)]:
            offered = selector.sortFilterProxyModel()
            if list(offered.hiddenNodeIDs) != identifiers:
                offered.hiddenNodeIDs = identifiers

    def _showOthers(self) -> None:
        """Tick the volumes of an opened scene."""
        selector, wanted = self.ui.otherVolumesSelector, list(self._node.otherVolumes)
        self._updating = True
        try:
            for volume in [*selector.checkedNodes(), *selector.uncheckedNodes()]:
                selector.setCheckState(volume, qt.Qt.Checked if volume in wanted else qt.Qt.Unchecked)
        finally:
            self._updating = False

    def _othersChanged(self) -> None:
        opening = slicer.mrmlScene.IsBatchProcessing()  # a list that fills up is not a choice
        if self._node is not None and not self._updating and not opening:
            self._node.otherVolumes = list(self.ui.otherVolumesSelector.checkedNodes())

    # model

    def _showModels(self) -> None:
        self._models = Models.shipped()
        self.ui.modelCombo.clear()
        for model in self._models:
            self.ui.modelCombo.addItem(model.name)
        self.ui.modelCombo.addItem(OTHER_FOLDER)

    def _showModel(self) -> None:
        folders = [str(model.folder) for model in self._models]
        chosen = self._node.model
        known = not chosen or chosen in folders
        index = (folders.index(chosen) if chosen else 0) if known and folders else len(folders)
        self.ui.modelCombo.setCurrentIndex(index)
        self.ui.modelPath.visible = index == len(folders)
        if not known and self.ui.modelPath.currentPath != chosen:
            self.ui.modelPath.setCurrentPath(chosen)
        try:
            model = self._models[index] if known and folders else Models.load(chosen)
            self.ui.modelCard.setHtml(model.summary())
        except Problem:
            self.ui.modelCard.setHtml("")

    def _modelChosen(self) -> None:
        if self._node is None or self._updating:
            return
        index = self.ui.modelCombo.currentIndex
        if index < len(self._models):
            self._node.model = "" if index == 0 else str(self._models[index].folder)
        else:
            self._node.model = self.ui.modelPath.currentPath or "(no folder chosen)"
        self.update()

    # device

    def device(self) -> Machine.Device:
        return self._device.device

    def setDevice(self, key: str) -> None:
        if self._node is not None:
            self._node.device = key
            self._device.setKey(key)

    def _deviceChosen(self) -> None:
        if self._node is not None:
            self._node.device = self._device.key
            self.onChanged()
