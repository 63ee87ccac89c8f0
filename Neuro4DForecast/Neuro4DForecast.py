"""The Slicer module: forecast the loaded brain scan and play its future."""

import sys

import slicer
from Neuro4DForecastLib import Dependencies, SampleScan
from Neuro4DForecastLib.InputsPanel import InputsPanel
from Neuro4DForecastLib.Library import makeImportable
from Neuro4DForecastLib.Logic import Neuro4DForecastLogic
from Neuro4DForecastLib.PackagesPanel import PackagesPanel
from Neuro4DForecastLib.PlaybackPanel import PlaybackPanel
from Neuro4DForecastLib.RunPanel import RunPanel
from Neuro4DForecastLib.Tests import Neuro4DForecastTestCases
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

__all__ = ["Neuro4DForecast", "Neuro4DForecastLogic", "Neuro4DForecastTest", "Neuro4DForecastWidget"]


class Neuro4DForecast(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Neuro4D Forecast")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Neuroimaging")]
        parent.dependencies = ["Sequences"]
        parent.contributors = ["The Neuro4D developers"]
        parent.helpText = _(
            "Forecasts a brain scan through the coming years and plays it as a sequence, with volume change, "
            "uncertainty and "
            "regional volumes. Research use only. "
            '<a href="https://github.com/neuro4d/SlicerNeuro4D/blob/main/docs/slicer.md">Tutorial, troubleshooting</a>'
        )
        parent.acknowledgementText = _("Method: Jayakumar et al. 2026, arXiv:2604.22700.")
        slicer.app.startupCompleted.connect(startUp)


def startUp():
    """When Slicer has started: offer the sample, and go on with an installation that waited for the restart."""
    makeImportable()
    SampleScan.register()
    if slicer.util.mainWindow() is not None and Dependencies.resumes():
        slicer.util.selectModule("Neuro4DForecast")
        slicer.modules.Neuro4DForecastWidget.packages.tryInstall()


class Neuro4DForecastWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Ties the parts of the panel to the parameter node and to Slicer's life cycle."""

    def __init__(self, parent=None):
        self.logic = None
        self._parameterNode = None
        self._guiTag = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        makeImportable()
        panel = slicer.util.loadUI(self.resourcePath("UI/Neuro4DForecast.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = Neuro4DForecastLogic()
        self.inputs = InputsPanel(self.ui, self.logic)
        self.playback = PlaybackPanel(self.ui)
        self.packages = PackagesPanel(self.ui)
        self.run = RunPanel(self.ui, self.logic, self.inputs, self.playback, self.packages)
        self.inputs.onChanged = self.run.update
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneImported)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        slicer.app.aboutToQuit.connect(self.run.stop)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        """The module is unloaded or reloaded, or Slicer ends; once is enough."""
        if self.logic is None:
            return
        self.logic = None
        self.run.close()
        self.playback.close()
        self.inputs.close()
        self.setParameterNode(None)
        self.removeObservers()
        slicer.app.aboutToQuit.disconnect(self.run.stop)

    def onReload(self):
        """Reload the parts too: Slicer reloads only the module's own file."""
        self.run.close()
        for name in [name for name in sys.modules if name.partition(".")[0] == "Neuro4DForecastLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        if self._parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())
        self.inputs.refresh()
        self.packages.update()
        self.playback.refresh()
        self.run.update()

    def exit(self):
        """A running forecast goes on while another module is open."""

    def onSceneStartClose(self, caller, event):
        self.run.stop()
        self.playback.close()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.playback.refresh()
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())

    def onSceneImported(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())
        self.playback.refresh()

    def onNodeRemoved(self, caller, event):
        self.playback.forgetRemoved()
        self.inputs.update()

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, "ModifiedEvent", self.inputs.update)
        self._parameterNode = parameterNode
        self.inputs.setParameterNode(parameterNode)
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, "ModifiedEvent", self.inputs.update)
            self.inputs.update()


class Neuro4DForecastTest(Neuro4DForecastTestCases, ScriptedLoadableModuleTest):
    """Reload and Test in developer mode runs these in any Slicer."""
