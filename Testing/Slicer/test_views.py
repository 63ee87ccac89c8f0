"""What a person looks at: the forecast as soon as it has a frame; after Cancel, a failure or removal what was there."""

import pytest


def shown(scene):
    """Of each slice view: layers, opacity, compositing, field of view and place."""
    import slicer

    found = []
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        view = scene.GetNodeByID(f"vtkMRMLSliceNode{composite.GetLayoutName()}")
        matrix = view.GetSliceToRAS()
        found.append(
            (
                composite.GetBackgroundVolumeID(),
                composite.GetForegroundVolumeID(),
                composite.GetLabelVolumeID(),
                composite.GetForegroundOpacity(),
                composite.GetCompositing(),
                view.GetFieldOfView(),
                [matrix.GetElement(row, column) for row in range(4) for column in range(4)],
            )
        )
    return found


def backgrounds(scene):
    return {layers[0] for layers in shown(scene)}


@pytest.fixture
def looking(panel, head, scene, monkeypatch):
    """A person who looks at two scans over each other, somewhere off the middle, and forecasts a third."""
    import slicer
    from Neuro4DForecastLib import Logic

    monkeypatch.setattr(Logic, "SLICE_SECONDS", 0.001)  # one step of loading at a time, however small the volume

    scan = head("scan", shape=(64, 64, 64))
    slicer.util.setSliceViewerLayers(background=head("back"), foreground=head("fore"), foregroundOpacity=0.3)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.SetSliceOffset(7)
        view.SetFieldOfView(80, 80, 1)
    panel.ui.scanSelector.setCurrentNode(scan)
    return shown(scene)


def wait_for_a_frame(panel, scene, wait):
    panel.ui.forecastButton.click()
    wait(lambda: panel.logic.job.secondsToFirstFrame > 0 or not panel.run.running)
    assert panel.run.running


class TestFirstFrame:
    def test_it_is_in_the_views_long_before_the_last(self, panel, looking, scene, wait):
        from Neuro4DForecastLib import Nodes, Results

        scan = panel.ui.scanSelector.currentNode()
        wait_for_a_frame(panel, scene, wait)
        proxy = panel.logic.job.result.proxy("frames")
        assert backgrounds(scene) == {proxy.GetID()}
        assert (Nodes.arrayOf(proxy) == Nodes.arrayOf(scan)).all()
        assert panel.logic.job.result.sequence.GetNumberOfDataNodes() < 5
        wait(lambda: not panel.run.running)
        assert 0 < panel.logic.job.secondsToFirstFrame < panel.logic.job.seconds
        assert backgrounds(scene) == {proxy.GetID()} and len(Results.runs()) == 1


class TestAfterwards:
    def test_cancel_while_the_forecast_is_shown_brings_the_views_back(self, panel, looking, scene, wait):
        wait_for_a_frame(panel, scene, wait)
        panel.ui.forecastButton.click()
        assert panel.logic.job.stage.value == "canceled"
        assert shown(scene) == looking

    def test_so_does_a_forecast_that_cannot_be_loaded(self, panel, looking, scene, wait, fake_worker):
        fake_worker("broken")
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        assert "not complete" in panel.ui.statusLabel.text
        assert shown(scene) == looking

    def test_a_browser_that_is_removed_while_loading_ends_it_with_a_sentence(self, panel, looking, scene, wait):
        before = {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
        wait_for_a_frame(panel, scene, wait)
        scene.RemoveNode(panel.logic.job.result.browser)
        wait(lambda: not panel.run.running)
        assert panel.ui.statusLabel.text.startswith("The forecast was removed from the scene")
        assert {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())} == before
        assert shown(scene) == looking

    @pytest.mark.parametrize("kept", [True, False])
    def test_removing_a_forecast_shows_its_scan_again_while_there_is_one(self, panel, looking, scene, wait, kept):
        import slicer

        scan = panel.ui.scanSelector.currentNode()
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        panel.ui.overlayCombo.setCurrentText("Volume change (%)")
        panel.ui.overlayCombo.activated.emit(panel.ui.overlayCombo.currentIndex)
        if not kept:
            scene.RemoveNode(scan)
        panel.ui.removeButton.click()
        for layers in shown(scene):
            assert layers[:3] == (scan.GetID() if kept else None, None, None)
            assert layers[4] == slicer.vtkMRMLSliceCompositeNode.Alpha  # overlays had been added

    def test_choosing_another_forecast_shows_it(self, panel, looking, scene, wait):
        runs = []
        for _ in range(2):
            panel.ui.forecastButton.click()
            wait(lambda: not panel.run.running)
            runs.append(panel.playback.run)
        assert backgrounds(scene) == {runs[1].proxy("frames").GetID()}
        panel.ui.runCombo.setCurrentIndex(0)
        panel.ui.runCombo.activated.emit(0)
        assert backgrounds(scene) == {runs[0].proxy("frames").GetID()}
