"""The Slicer module: learn from a longitudinal study, watch the training, forecast with what was learned."""

import sys

import qt
import slicer
from Neuro4DForecastLib.Library import makeImportable
from Neuro4DForecastLib.PackagesPanel import PackagesPanel
from Neuro4DTrainingLib import Entries, LastFolders, Parameters
from Neuro4DTrainingLib.Logic import REQUIREMENTS, Neuro4DTrainingLogic
from Neuro4DTrainingLib.PreparePanel import PreparePanel
from Neuro4DTrainingLib.RunPanel import RunPanel
from Neuro4DTrainingLib.SettingsPanel import SettingsPanel
from Neuro4DTrainingLib.StudyPanel import StudyPanel
from Neuro4DTrainingLib.Tests import Neuro4DTrainingTestCases
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

__all__ = ["Neuro4DTraining", "Neuro4DTrainingLogic", "Neuro4DTrainingTest", "Neuro4DTrainingWidget"]

POLL_MS = 300
FIELDS = ("study", "columns", "prepared", "output", "start", "parts", "settingsFile")


class Neuro4DTraining(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Neuro4D Training")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Neuroimaging")]
        parent.dependencies = ["Neuro4DForecast"]
        parent.contributors = ["The Neuro4D developers"]
        parent.helpText = _(
            "Learns from a longitudinal study of your own how brains change: reads it, prepares it, trains, and hands the "
            "model to Neuro4D Forecast. The work goes on when Slicer is closed. Research use only. "
            '<a href="https://github.com/neuro4d/SlicerNeuro4D/blob/main/docs/training_panel.md">How to use it</a>'
        )
        parent.acknowledgementText = _("Method: Jayakumar et al. 2026, arXiv:2604.22700.")


class Neuro4DTrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Ties the parts of the panel to the parameter node and to Slicer's life cycle.

    No training ends with the panel, the scene or Slicer: whoever opens the panel on its folder again sees it live.
    """

    def __init__(self, parent=None):
        self.logic = None
        self._parameterNode = None
        self._guiTag = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        makeImportable()
        panel = slicer.util.loadUI(self.resourcePath("UI/Neuro4DTraining.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = Neuro4DTrainingLogic()
        self.packages = PackagesPanel(self.ui, REQUIREMENTS)
        self.study = StudyPanel(self.ui, self.logic)
        self.preparation = PreparePanel(self.ui, self.logic)
        self.settings = SettingsPanel(self.ui, self.logic)
        self.run = RunPanel(self.ui, self.logic, self.packages)
        self.problems, self.studyProblems, self._source = {}, {}, ""
        self.ui.logButton.contentsCollapsed.connect(lambda *_: self.showLog())
        self.ui.copyLogButton.clicked.connect(lambda *_: self.copyLog())
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneImported)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.poll)
        self.setParameterNode(self.logic.getParameterNode())
        self._timer.start()

    def cleanup(self):
        """The module is unloaded or reloaded, or Slicer ends; once is enough. A training goes on."""
        if self.logic is None:
            return
        self._timer.stop()
        for part in (self.run, self.settings, self.preparation, self.study):
            part.close()
        self.logic.close()
        self.logic = None
        self.setParameterNode(None)
        self.removeObservers()

    def onReload(self):
        """Reload the parts too: Slicer reloads only the module's own file."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "Neuro4DTrainingLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        if self._parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())
        self.settings.device.look()
        self.packages.update()
        self.update()

    def exit(self):
        """Curves and states go on while another module is open."""

    def onSceneStartClose(self, caller, event):
        self.run.close()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())

    def onSceneImported(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, "ModifiedEvent", self.update)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            LastFolders.restore(parameterNode)
            self._source = parameterNode.source
            self.showSections()
        for part in (self.study, self.preparation, self.settings, self.run):
            part.setParameterNode(parameterNode)
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, "ModifiedEvent", self.update)
            self.update()

    def showSections(self):
        """Simulated people need no preparation."""
        self.ui.preparationButton.collapsed = self._source == Entries.SIMULATED

    def update(self, *_):
        """Something was chosen: read everything again; what is wrong is shown beside the field."""
        node = self._parameterNode
        if node is None:
            return
        self.problems, self.studyProblems = Parameters.entryProblems(node), Parameters.studyProblems(node)
        shown = {**self.studyProblems, **self.problems}
        for field in FIELDS:
            problem = shown.get(field)
            label = getattr(self.ui, f"{field}Problem")
            label.visible = problem is not None and problem.kind != Entries.MISSING
            label.text = problem.sentence if label.visible else ""
        if node.source != self._source:
            before, self._source = self._source, node.source
            Parameters.changeDefaults(node, before)
            self.showSections()
        LastFolders.keep(node)
        self.study.update()
        self.preparation.folderChanged()
        self.run.folderChanged()
        self.poll()

    def poll(self):
        """Look at the processes and files of the work; never waits for them."""
        if self._parameterNode is None:
            return
        if self.preparation.update(sentences(self.studyProblems)):
            self.problems = Parameters.entryProblems(self._parameterNode)  # a prepared study may have appeared
        behind = self.run.update(sentences(self.problems))
        self.settings.update(sentences(self.problems), begun=self.run.begun)
        self._timer.setInterval(0 if behind else POLL_MS)

    def showLog(self):
        if not self.ui.logButton.collapsed:
            self.ui.logText.setPlainText(self.log())

    def log(self):
        """What the training said, else the preparation."""
        works = [part.controls.work for part in (self.run, self.preparation)]
        return next((work.log() for work in works if work is not None and work.record is not None), "")

    def copyLog(self):
        self.showLog()
        qt.QApplication.clipboard().setText(self.log())


def sentences(problems):
    return {field: problem.sentence for field, problem in problems.items()}


class Neuro4DTrainingTest(Neuro4DTrainingTestCases, ScriptedLoadableModuleTest):
    """Reload and Test in developer mode runs these in any Slicer."""
