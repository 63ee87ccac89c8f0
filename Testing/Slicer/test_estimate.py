"""What is told before a forecast is started: time, and memory of the worker and of Slicer."""

import numpy as np
import pytest


@pytest.fixture
def told(logic, head):
    """The estimate for a scan of 1.7 million voxels of 1 mm on the CPU."""
    from Neuro4DForecastLib import Entries, Machine

    scan = head(shape=(120, 120, 120))
    scan.SetSpacing(1, 1, 1)

    def estimate(device=None, years=(1.0, 2.0), futures=1, moving=False, **given):
        request = Entries.Request(years=years, futures=futures, movingVolume=moving)
        return logic.estimate(request, device or Machine.cpu(), scan, **given)

    estimate.scan = scan
    return estimate


class TestEstimate:
    def test_whatever_adds_work_is_estimated_longer(self, told):
        least = told().seconds
        for more in (
            {"years": (1.0, 2.0, 3.0)},
            {"futures": 8},
            {"earlier": [(told.scan, 1.0)]},
            {"others": [told.scan]},
            {"segmentation": told.scan},
        ):
            assert told(**more).seconds > least, more

    def test_one_moving_volume_takes_less_memory_in_slicer(self, told):
        years = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
        assert told(years=years, moving=True).slicerBytes < 0.3 * told(years=years).slicerBytes

    def test_the_sentence_warns_where_it_may_not_fit(self, told, monkeypatch):
        from Neuro4DForecastLib import Machine

        for free, warned in ((1e9, True), (50e9, False), (0, False)):
            monkeypatch.setattr(Machine, "freeMemoryBytes", lambda free=free: free)
            sentence = told().sentence()
            assert ("may not fit" in sentence) is warned
            assert ("are free" in sentence) is (free > 0)

    def test_it_learns_from_this_machine_each_kind_of_device_by_itself(self, told, logic):
        from Neuro4DForecastLib import Machine

        gpu = Machine.Device("cuda:1", "GPU 1")
        before, card = told(), told(gpu)
        logic.learn(before, 3 * before.seconds)
        assert told().seconds == pytest.approx(3 * before.seconds)
        assert told(gpu).seconds == pytest.approx(card.seconds)
        logic.learn(told(), told().seconds)  # as long as it was told: nothing changes
        assert told().seconds == pytest.approx(3 * before.seconds)


@pytest.mark.parametrize("moving", [False, True])
def test_slicer_holds_as_much_as_was_told(panel, head, wait, moving):
    """All images and transforms of the run that were not there before, byte by byte."""
    scan = head(shape=(60, 64, 68), dtype=np.float32)
    scan.SetSpacing(1.3125, 1.3125, 1.3125)  # the stand-in worker's transforms then have the real ones' 2.625 mm
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.movingVolumeCheck.checked = moving
    panel.ui.yearsEdit.text = "1-6"
    told = panel.run._estimate.slicerBytes
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running)
    run = panel.playback.run
    nodes = [node for node in run.nodes() if node.IsA("vtkMRMLScalarVolumeNode")] + [run.proxy("transform")]
    for role in ("frames", "change", "uncertainty", "transform"):
        if run.node(role) is not None:
            nodes += [run.node(role).GetNthDataNode(index) for index in range(7)]
    images = [image_of(node) for node in nodes]
    bytes_held = sum(1024 * image.GetActualMemorySize() for image in images)
    assert told == pytest.approx(bytes_held, rel=0.25)


def image_of(node):
    if node.IsA("vtkMRMLTransformNode"):
        return node.GetTransformFromParent().GetDisplacementGrid()
    return node.GetImageData()
