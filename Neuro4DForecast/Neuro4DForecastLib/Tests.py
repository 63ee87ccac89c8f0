"""What "Reload and Test" checks in any Slicer, without a model and without torch."""

import numpy as np
import slicer

from Neuro4DForecastLib import Entries, Nodes
from Neuro4DForecastLib.Problem import Problem


class Neuro4DForecastTestCases:
    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self, **_):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            getattr(self, name)()

    def test_panelOpens(self):
        from Neuro4DForecast import Neuro4DForecastWidget

        widget = Neuro4DForecastWidget()
        try:
            assert not widget.ui.forecastButton.enabled
            assert "Choose a scan" in widget.ui.forecastButton.toolTip
        finally:
            widget.cleanup()
            widget.parent.deleteLater()

    def test_geometrySurvivesTheWayIntoANodeAndBack(self):
        affine = np.array([[0.0, -1.2, 0.1, 40], [1.0, 0, 0, -30], [0, 0.2, 2.5, 7], [0, 0, 0, 1]])
        array = np.arange(10 * 11 * 12, dtype=np.int16).reshape(10, 11, 12)
        node = slicer.mrmlScene.AddNode(Nodes.volumeNode(array, affine, "oblique"))
        assert np.array_equal(Nodes.arrayOf(node), array)
        assert np.allclose(Nodes.matrixOf(node), affine)

    def test_aWordInANumberFieldIsExplained(self):
        try:
            Entries.number("seventy", 18, 100, "age", "years", "age")
        except Problem as problem:
            assert "seventy" in problem.sentence
        else:
            raise AssertionError("a word was taken as a number")
