"""Whatever is given: a sentence, no traceback, and the scene as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HAS_OPEN_FILES = pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")


def nodes(scene):
    return {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}


def refused(logic, scene, words, *arguments, **keywords):
    """The call raises a Problem with these words, leaves the scene and no file."""
    import slicer
    from Neuro4DForecastLib.Problem import Problem

    before = nodes(scene)
    with pytest.raises(Problem) as caught:
        logic.forecast(*arguments, **keywords)
    assert words in caught.value.sentence
    assert caught.value.sentence.rstrip(")").endswith(".")
    assert nodes(scene) == before
    folder = Path(slicer.app.temporaryPath)
    assert not folder.is_dir() or list(folder.iterdir()) == []


def no_volume(scene, head):
    return None


def a_model(scene, head):
    return scene.AddNewNodeByClass("vtkMRMLModelNode")


def an_empty_volume(scene, head):
    return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")


def a_label_map(scene, head):
    from Neuro4DForecastLib import Nodes

    array = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    return scene.AddNode(Nodes.volumeNode(array, np.eye(4), "labels", "vtkMRMLLabelMapVolumeNode"))


def a_color_volume(scene, head):
    from Neuro4DForecastLib import Nodes

    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    node.SetAndObserveImageData(Nodes.imageData(np.zeros((10, 10, 10, 3), np.uint8)))
    return node


def one_slice(scene, head):
    return head(shape=(24, 24, 1))


def all_voxels_alike(scene, head):
    from Neuro4DForecastLib import Nodes

    return scene.AddNode(Nodes.volumeNode(np.ones((9, 9, 9)), np.eye(4), "flat"))


def voxels_that_are_not_numbers(scene, head):
    from Neuro4DForecastLib import Nodes

    array = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    array[3, 3, 3] = np.inf
    return scene.AddNode(Nodes.volumeNode(array, np.eye(4), "inf"))


def a_geometry_that_cannot_be_inverted(scene, head):
    import vtk

    node, matrix = head(), vtk.vtkMatrix4x4()
    matrix.SetElement(2, 2, 0)
    matrix.SetElement(2, 0, 1)
    node.SetIJKToRASMatrix(matrix)
    return node


def under_a_bending_transform(scene, head):
    from Neuro4DForecastLib import Nodes

    node = head()
    bend = scene.AddNode(Nodes.gridTransformNode(np.ones((4, 4, 4, 3)), np.eye(4), "bend"))
    node.SetAndObserveTransformNodeID(bend.GetID())
    return node


NOT_OFFERED = {a_model: "not a volume", a_label_map: "label map", a_color_volume: "3 values in each voxel"}
BAD = {
    no_volume: "Choose a scan",
    an_empty_volume: "empty",
    one_slice: "at least 8",
    all_voxels_alike: "same value",
    voxels_that_are_not_numbers: "not numbers",
    a_geometry_that_cannot_be_inverted: "cannot be inverted",
    under_a_bending_transform: "Harden",
}


def name_of(value):
    return getattr(value, "__name__", None)


class TestVolumes:
    @pytest.mark.parametrize(("make", "words"), (BAD | NOT_OFFERED).items(), ids=name_of)
    def test_the_python_call_says_what_is_wrong(self, logic, scene, head, make, words):
        refused(logic, scene, words, make(scene, head), [1])

    @pytest.mark.parametrize(("make", "words"), BAD.items(), ids=name_of)
    def test_the_panel_says_it_beside_the_field(self, panel, scene, head, make, words):
        panel.ui.scanSelector.setCurrentNode(make(scene, head))
        explained(panel, scene, "scan", words)

    @pytest.mark.parametrize("make", NOT_OFFERED, ids=name_of)
    def test_the_panel_does_not_offer_what_is_no_scan(self, panel, scene, head, make):
        panel.ui.scanSelector.setCurrentNode(make(scene, head))
        assert panel.ui.scanSelector.currentNode() is None
        explained(panel, scene, "scan", "Choose a scan")

    def test_an_earlier_scan(self, panel, scene, head):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.inputs.earlierScans.addButton.click()
        row = panel.inputs.earlierScans.rows[0]
        row.years.text = "2"
        row.selector.setCurrentNode(all_voxels_alike(scene, head))
        explained(panel, scene, "earlierScans", "same value")
        row.selector.setCurrentNode(panel.ui.scanSelector.currentNode())
        explained(panel, scene, "earlierScans", "itself")
        row.removeButton.click()
        assert panel.ui.forecastButton.enabled

    def test_another_modality(self, panel, scene, head):
        import qt

        panel.ui.scanSelector.setCurrentNode(head())
        hollow = an_empty_volume(scene, head)
        panel.ui.otherVolumesSelector.setCheckState(hollow, qt.Qt.Checked)
        explained(panel, scene, "otherVolumes", "empty")
        panel.ui.otherVolumesSelector.setCheckState(hollow, qt.Qt.Unchecked)
        assert panel.ui.forecastButton.enabled

    @pytest.mark.parametrize("kind", ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"])
    def test_an_empty_segmentation(self, panel, scene, head, kind):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.segmentationSelector.setCurrentNode(scene.AddNewNodeByClass(kind, "nothing"))
        explained(panel, scene, "segmentation", "Choose another segmentation, or none")
        panel.ui.segmentationSelector.setCurrentNode(None)
        assert panel.ui.forecastButton.enabled


def explained(panel, scene, field, words):
    """The sentence stands beside the field and in the button's tool tip; pressing the button does nothing."""
    import slicer

    label = getattr(panel.ui, f"{field}Problem")
    assert label.visible and words in label.text and label.text.endswith(".")
    assert not panel.ui.forecastButton.enabled
    assert label.text in panel.ui.forecastButton.toolTip
    before = nodes(scene)
    panel.ui.forecastButton.click()
    assert panel.logic.job is None and nodes(scene) == before
    assert list(Path(slicer.app.temporaryPath).iterdir()) == []


class TestEntries:
    @pytest.mark.parametrize(
        ("keywords", "words"),
        [
            ({"age": "seventy"}, "not a number"),
            ({"age": 12}, "18 to 100"),
            ({"education": -1}, "0 to 30"),
            ({"sex": "female"}, "Expected one of"),
            ({"apoe4": 3}, "0, 1 or 2"),
            ({"diagnosis": "sad"}, "Expected one of"),
            ({"weight": 70}, "not known"),
        ],
    )
    def test_covariates(self, logic, scene, head, keywords, words):
        refused(logic, scene, words, head(), [1], **keywords)

    @pytest.mark.parametrize("years", [[], [0], [-1], [50], list(range(1, 20)), [1, 1.001]])
    def test_years(self, logic, scene, head, years):
        refused(logic, scene, "ear", head(), years)

    def test_ranges_of_years(self, scene):
        from Neuro4DForecastLib import Entries

        assert Entries.years("1-3") == (1, 2, 3)
        assert Entries.years("0.5-2:0.5, 5") == (0.5, 1, 1.5, 2, 5)
        assert Entries.years("3 1,2;2") == (1, 2, 3)
        assert Entries.years("1 - 3 : 1, 5") == (1, 2, 3, 5)

    def test_a_model_folder_without_card(self, logic, scene, head, tmp_path):
        refused(logic, scene, "no card.json", head(), [1], model=tmp_path)

    def test_a_model_folder_that_is_not_there(self, logic, scene, head, tmp_path):
        refused(logic, scene, "does not exist", head(), [1], model=tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda folder: (folder / "card.json").unlink(), "no card.json"),
            (lambda folder: (folder / "card.json").write_text("{"), "cannot be read"),
            (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors"),
        ],
    )
    def test_a_model_folder_chosen_in_the_panel(self, panel, scene, head, tmp_path, spoil, words):
        folder = tmp_path / "chosen"
        folder.mkdir()
        (folder / "card.json").write_text('{"name": "chosen"}')
        (folder / "weights.safetensors").write_bytes(b"")
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.modelPath.setCurrentPath(str(folder))
        assert panel.ui.forecastButton.enabled and "chosen" in panel.ui.modelCard.toPlainText()
        spoil(folder)
        panel.enter()  # as on coming back to the module
        explained(panel, scene, "model", words)

    def test_years_that_the_model_has_not_learned(self, panel, scene, head, model_folder):
        (model_folder / "card.json").write_text('{"name": "short", "ranges": {"years": [0.25, 10]}}')
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.yearsEdit.text = "5 12"
        explained(panel, scene, "years", "learned 0.25 to 10 years ahead; 12")
        panel.ui.yearsEdit.text = "5 10"
        assert panel.ui.forecastButton.enabled


class TestFolders:
    def stays(self, panel, scene, head, wait, words):
        """A click on Forecast starts nothing, says why and leaves the scene."""
        panel.ui.scanSelector.setCurrentNode(head())
        before = nodes(scene)
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        assert words in panel.ui.statusLabel.text and panel.ui.statusLabel.text.rstrip(")").endswith(".")
        assert not panel.run.running and panel.ui.forecastButton.text == "Forecast"
        assert nodes(scene) == before

    def test_a_temporary_folder_that_cannot_be_written(self, panel, scene, head, wait, application, tmp_path):
        (tmp_path / "file").write_text("")
        application.temporaryPath = str(tmp_path / "file" / "below")
        self.stays(panel, scene, head, wait, "cannot be written")

    def test_a_full_disk(self, panel, scene, head, wait, application, monkeypatch):
        from Neuro4DForecastLib import Logic

        monkeypatch.setattr(Logic.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
        self.stays(panel, scene, head, wait, "no space left")
        assert list(Path(application.temporaryPath).iterdir()) == []

    def test_a_disk_that_fills_up_while_the_files_are_written(self, panel, scene, head, wait, application, monkeypatch):
        from Neuro4DForecastLib import Nodes

        def full(path, array, affine):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Nodes, "writeNifti", full)
        self.stays(panel, scene, head, wait, "no space left")
        assert list(Path(application.temporaryPath).iterdir()) == []

    @pytest.mark.parametrize("name", ["Größe 空 и", "x" * 120 + "/" + "y" * 110])
    def test_foreign_and_long_paths_work(self, panel, scene, head, wait, application, tmp_path, model_folder, name):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        application.temporaryPath = str(folder)
        moved = model_folder.rename(tmp_path / name.partition("/")[0] / "Modell ü 头")
        panel.ui.modelPath.setCurrentPath(str(moved))
        panel.ui.scanSelector.setCurrentNode(head("Kopf ü 头"))
        panel.ui.yearsEdit.text = "1 2"
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        assert panel.playback.run is not None, panel.ui.statusLabel.text
        assert panel.playback.run.years == [0, 1, 2]
        assert panel.playback.run.browser.GetAttribute("Neuro4D.Scan") == "Kopf ü 头"
        assert {path.name for path in folder.rglob("*")} <= {"Modell ü 头", "card.json", "weights.safetensors"}


class TestLeftBehind:
    """Folders of runs that neither Slicer nor the worker could remove, after a power cut."""

    def test_only_those_of_a_slicer_that_is_gone_are_removed(self, panel, head, wait, application):
        from Neuro4DForecastLib import RunFolder

        base = Path(application.temporaryPath)
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            ended.wait()
        for name, owner in (("n4d-gone", ended.pid), ("n4d-mine", "1"), ("n4d-making", ""), ("other", ended.pid)):
            (base / name).mkdir()
            (base / name / RunFolder.OWNER).write_text(str(owner))
            (base / name / "scan.nii").write_bytes(b"a person")
        (base / "n4d-stranger").mkdir()
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        assert panel.playback.run is not None, panel.ui.statusLabel.text
        left = {path.name for path in base.iterdir()}
        assert left == {"n4d-mine", "n4d-making", "n4d-stranger", "other"}


class TestMeanwhile:
    def start(self, panel, head, fake_worker, behavior="slow"):
        fake_worker(behavior)
        node = head()
        panel.ui.scanSelector.setCurrentNode(node)
        panel.ui.forecastButton.click()
        assert panel.run.running
        return node

    def test_a_second_forecast_is_refused_with_a_sentence(self, panel, head, fake_worker, scene):
        node = self.start(panel, head, fake_worker)
        refused_first = pytest.raises(Exception, match="already running")
        with refused_first:
            panel.logic.forecast(node, [1])
        assert panel.run.running

    def test_the_scan_may_be_deleted_while_its_forecast_runs(self, panel, head, wait, scene, fake_worker):
        node = self.start(panel, head, fake_worker, "")
        scene.RemoveNode(node)
        wait(lambda: not panel.run.running)
        assert panel.playback.run.years == [0, 1, 2, 3, 5]
        assert "Choose a scan" in panel.ui.forecastButton.toolTip

    def test_the_scene_may_be_saved_while_a_forecast_runs(self, panel, head, scene, tmp_path, application, fake_worker):
        import slicer
        from stand_in.application import new_scene

        self.start(panel, head, fake_worker)
        assert scene.WriteToMRB(str(tmp_path / "s.mrb"), None)
        assert panel.run.running
        panel.ui.forecastButton.click()
        panel.setParameterNode(None)
        new_scene(application)
        assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "s.mrb"), True, slicer.vtkMRMLMessageCollection())
        assert slicer.mrmlScene.GetFirstNodeByName("head") is not None

    def test_two_slicers_use_one_model_at_a_time(self, logic, head, model_folder, tmp_path, scene):
        """Another process forecasts with the same model folder meanwhile; both finish."""
        import nibabel

        image = nibabel.Nifti1Image(np.random.default_rng(0).random((20, 20, 20)).astype(np.float32), np.eye(4))
        nibabel.save(image, tmp_path / "scan.nii")
        worker = [
            sys.executable,
            str(Path(__file__).parent / "fake_worker.py"),
            "forecast",
            "scan.nii",
            "--output",
            "out",
        ]
        options = ["--years", "1", "--progress", "json", "--model", str(model_folder)]
        with subprocess.Popen([*worker, *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as other:
            run = logic.forecast(head(), [1], model=model_folder)
            assert other.wait(30) == 0
        assert run.years == [0, 1]

    @HAS_OPEN_FILES
    def test_the_temporary_folder_may_be_emptied_while_a_forecast_runs(self, panel, head, wait, scene, fake_worker):
        import shutil

        from Neuro4DForecastLib import ProcessTree

        self.start(panel, head, fake_worker)
        before = nodes(scene)
        wait(lambda: panel.ui.progressBar.value > 0)
        pid = panel.logic.job.pid
        shutil.rmtree(panel.logic.job.folder)
        wait(lambda: not panel.run.running)
        assert panel.ui.statusLabel.text.startswith("The temporary folder of the forecast was removed")
        assert not ProcessTree.alive(pid) and nodes(scene) == before

    def test_removing_a_node_of_the_result_does_not_break_the_panel(self, panel, head, wait, scene):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        scene.RemoveNode(panel.playback.run.browser)
        assert panel.playback.run is None
        panel.ui.playButton.click()
        panel.ui.forwardButton.click()
        panel.ui.yearSlider.value = 2
