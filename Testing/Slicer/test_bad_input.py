"""Whatever is given: a sentence, no traceback, and the scene as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


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


class TestVolumes:
    def test_no_volume(self, logic, scene):
        refused(logic, scene, "Choose a scan", None, [1])

    def test_a_node_that_is_no_volume(self, logic, scene):
        refused(logic, scene, "not a volume", scene.AddNewNodeByClass("vtkMRMLModelNode"), [1])

    def test_an_empty_volume(self, logic, scene):
        refused(logic, scene, "empty", scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow"), [1])

    def test_a_label_map(self, logic, scene):
        from Neuro4DForecastLib import Nodes

        array = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
        node = scene.AddNode(Nodes.volumeNode(array, np.eye(4), "labels", "vtkMRMLLabelMapVolumeNode"))
        refused(logic, scene, "label map", node, [1])

    def test_a_color_volume(self, logic, scene):
        from Neuro4DForecastLib import Nodes

        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
        node.SetAndObserveImageData(Nodes.imageData(np.zeros((10, 10, 10, 3), np.uint8)))
        refused(logic, scene, "3 values in each voxel", node, [1])

    def test_one_slice(self, logic, scene, head):
        refused(logic, scene, "at least 8", head(shape=(24, 24, 1)), [1])

    def test_all_voxels_alike(self, logic, scene):
        from Neuro4DForecastLib import Nodes

        refused(logic, scene, "same value", scene.AddNode(Nodes.volumeNode(np.ones((9, 9, 9)), np.eye(4), "flat")), [1])

    def test_voxels_that_are_not_numbers(self, logic, scene, head):
        from Neuro4DForecastLib import Nodes

        array = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
        array[3, 3, 3] = np.inf
        refused(logic, scene, "not numbers", scene.AddNode(Nodes.volumeNode(array, np.eye(4), "inf")), [1])

    def test_a_geometry_that_cannot_be_inverted(self, logic, scene, head):
        import vtk

        node, matrix = head(), vtk.vtkMatrix4x4()
        matrix.SetElement(2, 2, 0)
        matrix.SetElement(2, 0, 1)
        node.SetIJKToRASMatrix(matrix)
        refused(logic, scene, "cannot be inverted", node, [1])

    def test_under_a_bending_transform(self, logic, scene, head):
        from Neuro4DForecastLib import Nodes

        node = head()
        bend = scene.AddNode(Nodes.gridTransformNode(np.ones((4, 4, 4, 3)), np.eye(4), "bend"))
        node.SetAndObserveTransformNodeID(bend.GetID())
        refused(logic, scene, "Harden", node, [1])


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

    @pytest.mark.parametrize("years", [[], [0], [-1], [50], list(range(1, 20))])
    def test_years(self, logic, scene, head, years):
        refused(logic, scene, "ear", head(), years)

    def test_ranges_of_years(self, scene):
        from Neuro4DForecastLib import Entries

        assert Entries.years("1-3") == (1, 2, 3)
        assert Entries.years("0.5-2:0.5, 5") == (0.5, 1, 1.5, 2, 5)
        assert Entries.years("3 1,2;2") == (1, 2, 3)

    def test_a_model_folder_without_card(self, logic, scene, head, tmp_path):
        refused(logic, scene, "no card.json", head(), [1], model=tmp_path)

    def test_a_model_folder_that_is_not_there(self, logic, scene, head, tmp_path):
        refused(logic, scene, "does not exist", head(), [1], model=tmp_path / "nowhere")

    def test_a_model_without_weights_is_explained_in_the_panel(self, panel, head, model_folder):
        panel.ui.scanSelector.setCurrentNode(head())
        (model_folder / "weights.safetensors").unlink()
        panel.inputs.update()
        assert "weights.safetensors" in panel.ui.modelProblem.text
        assert not panel.ui.forecastButton.enabled


class TestFolders:
    def test_a_temporary_folder_that_cannot_be_written(self, logic, scene, head, application, tmp_path):
        (tmp_path / "file").write_text("")
        application.temporaryPath = str(tmp_path / "file" / "below")
        refused(logic, scene, "cannot be written", head(), [1])

    def test_a_full_disk(self, logic, scene, head, monkeypatch):
        from Neuro4DForecastLib import Logic

        monkeypatch.setattr(Logic.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
        refused(logic, scene, "no space left", head(), [1])

    @pytest.mark.parametrize("name", ["Größe 空 и", "x" * 120 + "/" + "y" * 110])
    def test_foreign_and_long_paths_work(self, logic, scene, head, application, tmp_path, name):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        application.temporaryPath = str(folder)
        assert logic.forecast(head("Kopf ü 头"), [1, 2]).years == [0, 1, 2]
        assert list(folder.iterdir()) == []


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

    def test_removing_a_node_of_the_result_does_not_break_the_panel(self, panel, head, wait, scene):
        panel.ui.scanSelector.setCurrentNode(head())
        panel.ui.forecastButton.click()
        wait(lambda: not panel.run.running)
        scene.RemoveNode(panel.playback.run.browser)
        assert panel.playback.run is None
        panel.ui.playButton.click()
        panel.ui.forwardButton.click()
        panel.ui.yearSlider.value = 2
