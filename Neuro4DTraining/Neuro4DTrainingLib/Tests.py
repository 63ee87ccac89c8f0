"""What "Reload and Test" checks in any Slicer, without a model and without torch."""

import os
import tempfile
from pathlib import Path

import slicer

from Neuro4DTrainingLib import ProcessMark
from Neuro4DTrainingLib.Curves import Curves, RunLog


class Neuro4DTrainingTestCases:
    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self, **_):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            getattr(self, name)()

    def test_panelOpens(self):
        from Neuro4DTraining import Neuro4DTrainingWidget

        widget = Neuro4DTrainingWidget()
        try:
            widget.logic.getParameterNode().output = ""
            assert not widget.ui.trainButton.enabled
            assert "Choose a folder for the run" in widget.ui.trainButton.toolTip
        finally:
            widget.cleanup()
            widget.parent.deleteLater()

    def test_thisProcessHasAMarkAndAnEndedOneHasNone(self):
        assert ProcessMark.of(os.getpid()) and ProcessMark.of(os.getpid()) == ProcessMark.of(os.getpid())
        assert ProcessMark.of(0) == ""

    def test_aLogBecomesCurves(self):
        with tempfile.TemporaryDirectory() as folder:
            lines = [f'{{"step": {step}, "loss": {1 / step}}}' for step in range(1, 9)]
            (Path(folder) / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            log, curves = RunLog(Path(folder)), Curves(Path(folder))
            log.read()
            curves.show(log)
            table = curves.node("loss", "vtkMRMLTableNode").GetTable()
            assert table.GetNumberOfRows() == 8
            assert table.GetColumnByName("loss").GetValue(3) == 0.25
