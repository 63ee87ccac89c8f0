"""What goes with the scan: segmentations, label maps, other modalities, any other node; and a scan out of a sequence."""

import numpy as np
import pytest


def finished(panel, wait, years="1 2"):
    """Click Forecast and wait; the run."""
    panel.ui.yearsEdit.text = years
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running)
    assert panel.playback.run is not None, panel.ui.statusLabel.text
    return panel.playback.run


@pytest.fixture
def scan(panel, head):
    node = head("Scan", "oblique")
    panel.ui.scanSelector.setCurrentNode(node)
    return node


@pytest.fixture
def labels(scan):
    from Neuro4DForecastLib import Nodes

    return (Nodes.arrayOf(scan) > 250).astype(np.int16)


def label_map(scene, labels, affine):
    from Neuro4DForecastLib import Nodes

    return scene.AddNode(Nodes.volumeNode(labels, affine, "labels", "vtkMRMLLabelMapVolumeNode"))


def carried(run, labels, year):
    """The stand-in worker shifts by a voxel a year."""
    from Neuro4DForecastLib import Nodes

    run.browser.SetSelectedItemNumber(run.years.index(year))
    expected = np.zeros_like(labels)
    expected[: len(labels) - year] = labels[year:]
    return np.array_equal(Nodes.arrayOf(run.proxy("segmentation")), expected)


class TestLabels:
    def test_a_segmentation_keeps_names_and_colors(self, panel, scan, labels, scene, wait):
        import slicer
        from Neuro4DForecastLib import Nodes, Playback

        segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        source = label_map(scene, labels, Nodes.matrixOf(scan))
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(source, segmentation)
        segment = segmentation.GetSegmentation().GetNthSegment(0)
        segment.SetName("core")
        segment.SetColor(0.25, 0.5, 0.75)
        panel.ui.segmentationSelector.setCurrentNode(segmentation)
        run = finished(panel, wait)
        assert carried(run, labels, 2)
        colors, color = run.proxy("segmentation").GetDisplayNode().GetColorNode(), [0.0] * 4
        colors.GetColor(1, color)
        assert colors.GetColorName(1) == "core" and color[:3] == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
        assert "Segmentation" in Playback.overlays(run)

    def test_many_segments_leave_nothing_else_in_the_scene(self, panel, scan, scene, fake_worker):
        import slicer
        from Neuro4DForecastLib import Nodes

        labels = np.zeros(Nodes.arrayOf(scan).shape, np.int16)
        for label in range(1, 13):
            labels[2 * label - 2 : 2 * label, 3 * (label % 5) :] = label
        segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        source = label_map(scene, labels, Nodes.matrixOf(scan))
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(source, segmentation)
        before = scene.GetNumberOfNodes()
        array, names = Nodes.labelSnapshot(segmentation, Nodes.snapshot(scan))
        assert np.array_equal(array, labels) and list(names) == list(range(1, 13))
        panel.ui.segmentationSelector.setCurrentNode(segmentation)
        fake_worker("slow")
        panel.ui.forecastButton.click()
        panel.ui.forecastButton.click()
        assert panel.logic.job.stage.value == "canceled"
        assert scene.GetNumberOfNodes() == before

    def test_a_label_map_on_the_scans_voxels(self, panel, scan, labels, scene, wait):
        from Neuro4DForecastLib import Nodes

        panel.ui.segmentationSelector.setCurrentNode(label_map(scene, labels, Nodes.matrixOf(scan)))
        assert carried(finished(panel, wait), labels, 1)

    def test_a_label_map_on_other_voxels_is_brought_to_the_scans(self, panel, scan, labels, scene, wait):
        """Twice as fine, another order of axes and another origin: the nearest label at each voxel of the scan."""
        from Neuro4DForecastLib import Nodes

        fine = np.pad(labels.repeat(2, 0).repeat(2, 1).repeat(2, 2), 6).transpose(2, 0, 1)[:, ::-1]
        # Voxel (a, b, c) of `fine` lies at ((last - b) / 2, c / 2, a / 2) of the scan, but for the padding and for half
        # a fine voxel, since two fine voxels share the place of one.
        way = np.array([[0, -0.5, 0, (fine.shape[1] - 1 - 6) / 2], [0, 0, 0.5, -3], [0.5, 0, 0, -3], [0, 0, 0, 1.0]])
        way[:3, 3] -= 0.25
        panel.ui.segmentationSelector.setCurrentNode(label_map(scene, fine, Nodes.matrixOf(scan) @ way))
        assert carried(finished(panel, wait), labels, 1)


def test_another_modality_rides_along(panel, scan, head, wait):
    import qt
    from Neuro4DForecastLib import Nodes

    flair = head("FLAIR", "oblique", np.float32)
    panel.ui.otherVolumesSelector.setCheckState(flair, qt.Qt.Checked)
    run = finished(panel, wait, "3")
    run.browser.SetSelectedItemNumber(1)
    assert run.proxy("other0").GetName() == "FLAIR forecast"
    assert np.array_equal(Nodes.arrayOf(run.proxy("other0"))[:-3], Nodes.arrayOf(flair)[3:])


def test_a_marked_point_rides_along_by_the_transform(panel, scan, scene, wait):
    """The worker shows at voxel i what was at i + 2, so a point of the tissue moves two voxels down."""
    from Neuro4DForecastLib import Nodes

    run = finished(panel, wait)
    affine = Nodes.matrixOf(scan)
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "landmark")
    points.AddControlPoint(*(affine @ [12, 13, 10, 1])[:3])
    points.SetAndObserveTransformNodeID(run.proxy("transform").GetID())
    for year in (0, 1, 2):
        run.browser.SetSelectedItemNumber(year)
        place = [0.0] * 3
        points.GetNthControlPointPositionWorld(0, place)
        assert (np.linalg.inv(affine) @ [*place, 1])[:3] == pytest.approx([12 - year, 13, 10], abs=0.02)


def test_a_time_point_of_a_sequence_is_a_scan_like_any_other(panel, head, scene, wait):
    """The volume that moves with the browser: what it showed when Forecast was pressed is what was forecast."""
    import slicer
    from Neuro4DForecastLib import Nodes

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "visits")
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    arrays = []
    for visit in range(3):
        node = head(f"visit {visit}")
        Nodes.arrayOf(node)[:] += np.int16(visit)
        arrays.append(Nodes.arrayOf(node).copy())
        sequence.SetDataNodeAtValue(node, f"{visit}")
        scene.RemoveNode(node)
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    browser.SetSelectedItemNumber(1)
    panel.ui.scanSelector.setCurrentNode(browser.GetProxyNode(sequence))
    panel.ui.yearsEdit.text = "1"
    panel.ui.forecastButton.click()
    browser.SetSelectedItemNumber(2)
    wait(lambda: not panel.run.running)
    run = panel.playback.run
    assert np.array_equal(Nodes.arrayOf(run.sequence.GetNthDataNode(0)), arrays[1])
    assert browser.GetSelectedItemNumber() == 2


def test_volumes_of_a_forecast_are_not_offered_for_the_next(panel, scan, head, labels, scene, wait):
    from Neuro4DForecastLib import Nodes
    from Neuro4DForecastLib.Problem import Problem

    head("FLAIR", "oblique")
    panel.ui.segmentationSelector.setCurrentNode(label_map(scene, labels, Nodes.matrixOf(scan)))
    panel.inputs.earlierScans.addButton.click()
    run = finished(panel, wait, "1")
    earlier = panel.inputs.earlierScans.rows[0].selector
    for selector in (panel.ui.scanSelector, earlier):
        assert {node.GetName() for node in selector.nodes()} == {"Scan", "FLAIR"}
    assert {node.GetName() for node in panel.ui.otherVolumesSelector.nodes()} == {"FLAIR"}
    assert [node.GetName() for node in panel.ui.segmentationSelector.nodes()] == ["labels"]
    assert panel.ui.scanSelector.currentNode() is scan
    with pytest.raises(Problem, match="part of a forecast"):
        panel.logic.forecast(run.proxy("frames"), [1])
    with pytest.raises(Problem, match="part of a forecast"):
        panel.logic.forecast(scan, [1], segmentation=run.proxy("segmentation"))


def test_choices_come_back_with_the_scene(panel, scan, head, application, tmp_path):
    """What rides along is seen to be ticked, or it would ride along unasked."""
    import qt
    import slicer
    from stand_in.application import new_scene

    flair, earlier = head("FLAIR", "oblique"), head("earlier", "oblique")
    panel.ui.otherVolumesSelector.setCheckState(flair, qt.Qt.Checked)
    panel.inputs.earlierScans.addButton.click()
    panel.inputs.earlierScans.rows[0].selector.setCurrentNode(earlier)
    panel.inputs.earlierScans.rows[0].years.text = "2.5"
    panel.ui.deviceCombo.setCurrentIndex(1)
    panel.ui.deviceCombo.activated.emit(1)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "s.mrb"), None)
    slicer.mrmlScene.Clear(0)
    assert panel.ui.otherVolumesSelector.checkedNodes() == [] and panel.ui.deviceCombo.currentIndex == 0
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "s.mrb"), True, slicer.vtkMRMLMessageCollection())
    assert panel.ui.scanSelector.currentNode().GetName() == "Scan"
    assert [node.GetName() for node in panel.ui.otherVolumesSelector.checkedNodes()] == ["FLAIR"]
    assert [node.GetName() for node in panel.inputs.volumes()["others"]] == ["FLAIR"]
    assert panel.ui.deviceCombo.currentText.startswith("CPU")
    ((volume, years),) = panel.inputs.volumes()["earlier"]
    assert (volume.GetName(), years) == ("earlier", 2.5)
    panel.setParameterNode(None)
    new_scene(application)
