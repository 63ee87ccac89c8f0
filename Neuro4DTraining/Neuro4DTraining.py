"""The Slicer module for training. Today it only says how to train from the command line."""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

COMMAND = "python -m neuro4d_lib train --help"


class Neuro4DTraining(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Neuro4D Training")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Neuroimaging")]
        parent.dependencies = []
        parent.contributors = ["The Neuro4D developers"]
        parent.helpText = _("Training from this panel comes later; the command line trains today: {}").format(COMMAND)
        parent.acknowledgementText = _("Method: Jayakumar et al. 2026, arXiv:2604.22700.")


class Neuro4DTrainingLogic(ScriptedLoadableModuleLogic):
    pass


class Neuro4DTrainingWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Neuro4DTraining.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.ui.commandEdit.text = COMMAND


class Neuro4DTrainingTest(ScriptedLoadableModuleTest):
    def runTest(self, **_):
        self.setUp()
        self.test_panelShowsTheCommand()

    def test_panelShowsTheCommand(self):
        widget = Neuro4DTrainingWidget()
        try:
            assert widget.ui.commandEdit.text == COMMAND
        finally:
            widget.parent.deleteLater()
