"""What a finished forecast leaves in the scene: sequences, table, chart, provenance, folder; and how it plays."""

import itertools
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def scan(head):
    return head("Scan", "oblique")


@pytest.fixture
def run(logic, scan):
    return logic.forecast(scan, years=[1, 2, 3, 5], age=74, sex="F", diagnosis="MCI", seed=4)


def logic_request():
    from Neuro4DForecastLib import Entries

    return Entries.Request(years=(1.0,))


class TestNodes:
    def test_the_sequence_is_named_in_years(self, run):
        assert (run.sequence.GetIndexName(), run.sequence.GetIndexUnit()) == ("time", "year")
        assert run.years == [0, 1, 2, 3, 5]

    def test_every_other_sequence_follows_the_browser(self, run):
        for role in ("change", "uncertainty", "transform"):
            assert run.node(role).GetNumberOfDataNodes() == 5, role
            assert run.browser.IsSynchronizedSequenceNode(run.node(role), False), role
        from Neuro4DForecastLib import Nodes

        for item, year in enumerate(run.years):
            run.browser.SetSelectedItemNumber(item)
            assert np.unique(Nodes.arrayOf(run.proxy("change"))).tolist() == [-year]
            assert np.unique(Nodes.arrayOf(run.proxy("uncertainty"))).tolist() == [year / 2]

    def test_it_plays_three_frames_a_second_and_loops(self, run):
        assert run.browser.GetPlaybackRateFps() == 3
        assert run.browser.GetPlaybackLooped()

    def test_the_look_of_the_scan_is_kept_through_the_years(self, run, scan):
        for item in range(5):
            run.browser.SetSelectedItemNumber(item)
            display = run.proxy("frames").GetDisplayNode()
            assert not display.GetAutoWindowLevel()
            assert (display.GetWindow(), display.GetLevel()) == (500, 210)

    def test_everything_lies_in_one_folder(self, run, scene):
        import slicer

        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        for role in ("frames", "change", "uncertainty", "transform", "volumes", "chart", "browser", "report"):
            item = hierarchy.GetItemByDataNode(run.node(role))
            assert item and hierarchy.GetItemParent(item) == run.folderItem, role
        for role in ("frames", "change", "uncertainty", "transform"):
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(run.proxy(role))) == run.folderItem, role

    def test_the_scans_own_folder_may_have_gone_meanwhile(self, logic, scan, scene):
        """The run's folder lies beside the scan; without the patient's folder it lies at the top."""
        import slicer

        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        parents = []
        for removed in (False, True):
            patient = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "patient")
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(scan) or hierarchy.CreateItem(patient, scan), patient)
            job = logic.start(logic_request(), scan)
            if removed:
                hierarchy.RemoveItem(patient, False, False)
            while job.active:
                job.poll()
                time.sleep(0.002)
            assert job.result is not None, job.problem
            parents.append(hierarchy.GetItemParent(job.result.folderItem) == patient)
        assert parents == [True, False]
        assert hierarchy.GetItemParent(job.result.folderItem) == hierarchy.GetSceneItemID()

    def test_one_button_removes_all_of_it(self, panel, head, wait, scene):
        nodes = lambda: {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}  # noqa: E731
        panel.ui.scanSelector.setCurrentNode(head())
        before = nodes()
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        panel.ui.sideBySideButton.click()
        assert len(nodes()) > len(before) + 20
        panel.ui.removeButton.click()
        assert nodes() == before
        assert not panel.ui.playSection.enabled
        import slicer

        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        assert hierarchy.GetItemByName("head forecast") == 0

    def test_a_copy_that_a_person_made_of_a_frame_stays(self, run, scene):
        import slicer

        copy = slicer.vtkMRMLScalarVolumeNode()
        copy.Copy(run.proxy("frames"))  # with its attributes, as "Clone" does
        scene.AddNode(copy)
        loaded = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "loaded back")
        loaded.SetDataNodeAtValue(run.proxy("frames"), "0")
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "of it")
        browser.SetAndObserveMasterSequenceNodeID(loaded.GetID())
        run.remove()
        assert scene.IsNodePresent(copy) and scene.IsNodePresent(browser.GetProxyNode(loaded))
        assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 1

    def test_two_runs_stay_apart(self, logic, scan, run):
        from Neuro4DForecastLib import Results

        second = logic.forecast(scan, years=[2], seed=9)
        assert [one.identifier for one in Results.runs()] == [run.identifier, second.identifier]
        run.remove()
        assert second.years == [0, 2]
        assert second.browser.GetAttribute("Neuro4D.Seed") == "9"

    def test_the_transform_makes_the_frames(self, run, scan):
        """The scan under the grid transform, sampled at a frame's voxels, is that frame (away from the border)."""
        import vtk
        from Neuro4DForecastLib import Nodes

        for item in (1, 4):
            run.browser.SetSelectedItemNumber(item)
            shift = round(run.years[item])
            transform = vtk.vtkGeneralTransform()
            run.proxy("transform").GetTransformFromWorld(transform)
            affine = Nodes.matrixOf(scan)
            for index in ((8, 12, 10), (10, 13, 11), (13, 9, 8)):
                place = affine @ [*index, 1]
                source = np.linalg.inv(affine) @ [*transform.TransformPoint(place[:3]), 1]
                assert np.allclose(source[:3], np.add(index, (shift, 0, 0)), atol=0.02)


class TestSavingMemory:
    def test_one_moving_volume_shows_the_same_picture(self, logic, scan, run):
        from Neuro4DForecastLib import SlicePictures

        frames = [pixels for _, pixels in SlicePictures.throughTheYears(run, ["Red", "Green"])]
        run.remove()
        moving = logic.forecast(scan, years=[1, 2, 3, 5], movingVolume=True)
        assert moving.sequence is None
        assert moving.node("moving") is not None
        assert moving.proxy("change").GetImageData().GetDimensions() == (12, 13, 11)  # every second voxel
        pictures = [pixels for _, pixels in SlicePictures.throughTheYears(moving, ["Red", "Green"])]
        for whole, moved in zip(frames, pictures, strict=True):
            middle = (slice(96, 160), slice(96, 160))  # the border differs: a shift brings in what lies outside
            assert np.abs(whole[middle].astype(int) - moved[middle]).mean() < 6
        assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 3


class TestChart:
    def test_the_table_holds_every_row_of_the_worker(self, run):
        from Neuro4DForecastLib import VolumesTable

        table = run.node("volumes")
        assert table.GetNumberOfRows() == 8
        assert VolumesTable.regions(table) == ["hippocampus_left", "lateral_ventricle"]

    def test_the_chart_has_bands_simple_forecasts_and_a_marker(self, run):
        chart = run.node("chart")
        names = [chart.GetNthPlotSeriesNode(i).GetName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
        assert {"No change", "Group rate", "Median of the futures", "Current year"} <= set(names)
        assert "simulated" in chart.GetTitle()

    def test_the_marker_follows_the_year(self, run):
        from Neuro4DForecastLib import Playback, VolumesTable

        follower = Playback.Follower(run)
        for item, year in enumerate(run.years):
            run.browser.SetSelectedItemNumber(item)
            assert VolumesTable.column(run.node("markerTable"), "year") == [year, year]
        follower.close()

    def test_another_region_can_be_chosen(self, panel, head, wait):
        from Neuro4DForecastLib import VolumesTable

        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        panel.ui.regionCombo.setCurrentIndex(1)
        panel.ui.regionCombo.activated.emit(1)
        plot = panel.playback.run.node("plotTable")
        assert VolumesTable.column(plot, "median") == [20000, 19600, 19200, 18800, 18000]
        assert VolumesTable.column(plot, "copy_last") == [20000] * 5


class TestPlaying:
    def test_play_shows_every_year_and_comes_round(self, panel, head, wait):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        seen = []
        panel.playback._follower.changed = lambda item, year: seen.append(item)
        panel.playback.run.browser.SetPlaybackItemSkippingEnabled(False)
        panel.ui.speedSpin.value = 20
        wait(lambda: len(seen) >= 7)
        assert set(seen) == {0, 1, 2, 3, 4}
        panel.ui.playButton.click()
        assert not panel.playback.run.browser.GetPlaybackActive()

    def test_slider_buttons_and_label_agree(self, panel, head, wait):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        panel.ui.yearSlider.value = 3
        assert panel.ui.yearLabel.text == "+3 years"
        panel.ui.forwardButton.click()
        assert (panel.ui.yearSlider.value, panel.ui.yearLabel.text) == (4, "+5 years")
        panel.ui.backButton.click()
        assert panel.playback.run.browser.GetSelectedItemNumber() == 3

    def test_the_slice_views_change_with_the_years(self, run):
        from Neuro4DForecastLib import SlicePictures

        pictures = [pixels for _, pixels in SlicePictures.throughTheYears(run, ["Red", "Yellow", "Green"])]
        assert pictures[0].max() > 100
        for earlier, later in itertools.pairwise(pictures):
            assert np.abs(earlier.astype(int) - later).mean() > 0.5

    def test_the_overlay_colors_the_loss(self, run):
        from Neuro4DForecastLib import Playback, SlicePictures

        assert Playback.overlays(run) == ["None", "Volume change (%)", "Uncertainty (%)"]
        Playback.showOverlay(run, "Volume change (%)", 1.0)
        (_, scan), *_rest, (_, last) = SlicePictures.throughTheYears(run, ["Red"])
        colorfulness = lambda pixels: (pixels[..., 0].astype(int) - pixels[..., 2]).mean()  # noqa: E731
        assert abs(colorfulness(scan)) < 3
        assert colorfulness(last) > 20  # five percent lost: red
        Playback.showOverlay(run, "None")
        assert abs(colorfulness(SlicePictures.picture("Red"))) < 1

    def test_the_panel_says_what_the_colors_mean(self, panel, run):
        panel.playback.refresh(run)
        shown = {}
        for title in ("Volume change (%)", "Uncertainty (%)", "None"):
            panel.ui.overlayCombo.setCurrentText(title)
            panel.ui.overlayCombo.activated.emit(panel.ui.overlayCombo.currentIndex)
            shown[title] = panel.ui.overlayLegend.text if panel.ui.overlayLegend.visible else ""
        # The stand-in worker's last year has lost 5 %, with a spread of 2.5.
        assert "loss of 5 % or more" in shown["Volume change (%)"] and "growth of 5 %" in shown["Volume change (%)"]
        assert "3 % or more" in shown["Uncertainty (%)"]
        assert shown["None"] == ""

    def test_the_scale_is_that_of_the_loss_in_the_head(self, run):
        """Fluid spaces may double in size, and air may shrink: tissue that shrinks by a tenth still has to show."""
        from types import SimpleNamespace

        from Neuro4DForecastLib import Colors

        scan = np.full((60, 60, 60), 500, np.int16)
        scan[:, :12] = 3
        importer = SimpleNamespace(run=run, scan=SimpleNamespace(array=scan))
        for step in (1, 2):  # as with one moving volume, whose maps keep every second voxel
            frame = np.full([60 // step] * 3, -10, np.float32)
            frame[: 12 // step] = 100
            frame[:, : 12 // step] = -60
            Colors.showChange(importer, run.proxy("change"), frame, signed=True)
            assert run.proxy("change").GetScalarVolumeDisplayNode().GetWindowLevelMax() == 10

    def test_side_by_side_keeps_the_scan_on_the_left(self, run):
        from Neuro4DForecastLib import Playback, SlicePictures

        now, _then = Playback.sideBySide(run)
        run.browser.SetSelectedItemNumber(0)
        left, right = SlicePictures.picture("Red"), SlicePictures.picture("Yellow")
        run.browser.SetSelectedItemNumber(4)
        assert np.array_equal(SlicePictures.picture("Red"), left)
        assert not np.array_equal(SlicePictures.picture("Yellow"), right)
        assert now is not run.proxy("frames")


class TestProvenance:
    def test_every_frame_says_where_it_comes_from(self, run):
        for item, year in enumerate(run.years):
            frame = run.sequence.GetNthDataNode(item)
            assert frame.GetAttribute("Neuro4D.Years") == f"{year:g}"
            assert frame.GetAttribute("Neuro4D.Kind") == ("observed" if year == 0 else "forecast")
            assert "Research use only" in frame.GetAttribute("Neuro4D.Note")
            assert json.loads(frame.GetAttribute("Neuro4D.FoldCertificate"))["failed"] == 0
            assert json.loads(frame.GetAttribute("Neuro4D.Covariates"))["age"] == 74
            assert frame.GetAttribute("Neuro4D.Seed") == "4"

    def test_all_of_it_survives_an_mrb_and_plays_there(self, run, application, tmp_path):
        import slicer
        from Neuro4DForecastLib import Nodes, Results
        from stand_in.application import new_scene

        run.browser.SetSelectedItemNumber(3)
        expected = [Nodes.arrayOf(run.sequence.GetNthDataNode(i)).copy() for i in range(5)]
        matrix, file = Nodes.matrixOf(run.sequence.GetNthDataNode(0)), str(tmp_path / "scene.mrb")
        assert slicer.mrmlScene.WriteToMRB(file, None)
        new_scene(application)
        assert slicer.mrmlScene.ReadFromMRB(file, True, slicer.vtkMRMLMessageCollection())
        (again,) = Results.runs()
        assert again.years == run.years
        assert again.browser.GetSelectedItemNumber() == 3
        assert again.browser.GetAttribute("Neuro4D.Model") == "fake"
        for item, array in enumerate(expected):
            again.browser.SetSelectedItemNumber(item)
            for shown in (again.proxy("frames"), again.sequence.GetNthDataNode(item)):
                assert np.array_equal(Nodes.arrayOf(shown), array)
                assert np.allclose(Nodes.matrixOf(shown), matrix, atol=1e-9)
        assert again.sequence.GetNthDataNode(2).GetAttribute("Neuro4D.Kind") == "forecast"
        assert again.node("volumes").GetNumberOfRows() == 8
        assert again.node("chart") is not None
        assert again.node("transform").GetNumberOfDataNodes() == 5
        assert again.browser.GetNodeReference(Results.SCAN).GetName() == "Scan"
        scene = slicer.mrmlScene
        again.remove()
        assert Results.runs() == []
        left = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
        assert [node.GetName() for node in left if node.GetAttribute(Results.RUN)] == []

    def test_what_rides_along_still_does_in_a_reopened_scene(self, run, scan, application, tmp_path):
        """The worker shows at voxel i what was at i + year, so a point of the tissue moves down by as many voxels."""
        import slicer
        from Neuro4DForecastLib import Nodes, Results
        from stand_in.application import new_scene

        affine = Nodes.matrixOf(scan)
        point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "landmark")
        point.AddControlPoint(*(affine @ [12, 13, 10, 1])[:3])
        point.SetAndObserveTransformNodeID(run.proxy("transform").GetID())
        assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
        new_scene(application)
        opened = slicer.vtkMRMLMessageCollection()
        assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, opened)
        (again,) = Results.runs()
        point = slicer.mrmlScene.GetFirstNodeByName("landmark")
        for item, year in enumerate(again.years):
            again.browser.SetSelectedItemNumber(item)
            place = [0.0] * 3
            point.GetNthControlPointPositionWorld(0, place)
            assert (np.linalg.inv(affine) @ [*place, 1])[:3] == pytest.approx([12 - year, 13, 10], abs=0.02)
        assert point.GetParentTransformNode() is again.proxy("transform")

    def test_the_panel_finds_the_runs_of_an_opened_scene(self, panel, run, tmp_path, application):
        panel.playback.refresh()
        assert panel.ui.runCombo.currentText == "Scan forecast"
        assert "Research use only" in panel.ui.provenanceLabel.text


def test_one_python_call_gives_what_the_panel_gives(panel, head, wait, logic):
    from Neuro4DForecastLib import Nodes

    scan = head()
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running)
    started = time.monotonic()
    call = logic.forecast(scan, years=[1, 2, 3, 5])
    assert time.monotonic() - started < 20
    for item in range(5):
        one, other = (run.sequence.GetNthDataNode(item) for run in (panel.playback.run, call))
        assert np.array_equal(Nodes.arrayOf(one), Nodes.arrayOf(other))


def test_the_python_of_the_documentation_runs_as_it_stands(scene, forecast_module, head, monkeypatch):
    """In Slicer's console, where `getNode` is at hand."""
    import slicer
    from Neuro4DForecastLib import Logic, Results

    worker = [sys.executable, str(Path(__file__).parent / "fake_worker.py")]
    monkeypatch.setattr(Logic, "workerCommand", lambda: worker)
    text = (Path(__file__).parents[2] / "docs" / "slicer.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    head("MRHead")
    *lines, last = code.strip().splitlines()
    assert last == "run.remove()"
    console = {"getNode": slicer.util.getNode}
    exec("\n".join(lines), console)
    assert console["run"].years == [0, 1, 2, 3, 5]
    assert json.loads(console["run"].browser.GetAttribute("Neuro4D.Covariates"))["age"] == 74
    exec(last, console)
    assert Results.runs() == []
