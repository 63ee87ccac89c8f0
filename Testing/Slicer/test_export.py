"""The forecast as files, and a 4D NIfTI back as a sequence."""

import csv
import itertools
import os
import shutil
import sys

import numpy as np
import pytest


@pytest.fixture
def run(logic, head):
    return logic.forecast(head("Scan", "oblique", np.float32), years=[0.5, 1.25, 3], age=74)


class TestNifti:
    def test_what_is_written_comes_back_as_the_same_sequence(self, run, tmp_path):
        from Neuro4DForecastLib import Export, Nodes

        Export.export(run, tmp_path / "forecast.nii.gz")
        browser = Export.loadSequence(tmp_path / "forecast.nii.gz")
        sequence = browser.GetMasterSequenceNode()
        assert [sequence.GetNthIndexValue(i) for i in range(4)] == ["0", "0.5", "1.25", "3"]
        assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "year")
        for item in range(4):
            mine, back = run.sequence.GetNthDataNode(item), sequence.GetNthDataNode(item)
            assert np.array_equal(Nodes.arrayOf(mine), Nodes.arrayOf(back))
            assert np.allclose(Nodes.matrixOf(mine), Nodes.matrixOf(back), atol=1e-4)

    def test_the_years_survive_without_the_file_beside_it(self, run, tmp_path):
        from Neuro4DForecastLib import Export, FourD

        Export.export(run, tmp_path / "forecast.nii.gz")
        (tmp_path / "forecast.json").unlink()
        assert FourD.timesOf(tmp_path / "forecast.nii.gz") == ([0, 0.5, 1.25, 3], "year")

    @pytest.mark.parametrize(
        ("written", "unit", "times"),
        [("sec", "s", ["0", "2.5", "5"]), ("usec", "s", ["0", "2.5e-06", "5e-06"]), (None, "step", ["0", "2.5", "5"])],
    )
    def test_a_stranger_is_read_by_its_time_step(self, scene, tmp_path, written, unit, times):
        import nibabel
        from Neuro4DForecastLib import Export, Nodes

        array = np.random.default_rng(1).integers(0, 1000, (7, 8, 9, 3)).astype(np.int16)
        image = nibabel.Nifti1Image(array, np.diag([-1, 1, 2, 1.0]))
        image.header["pixdim"][4] = 2.5
        image.header.set_xyzt_units("mm", written)
        image.header.set_slope_inter(0.5, 10)
        nibabel.save(image, tmp_path / "other.nii")
        sequence = Export.loadSequence(tmp_path / "other.nii").GetMasterSequenceNode()
        assert [sequence.GetNthIndexValue(i) for i in range(3)] == times
        assert sequence.GetIndexUnit() == unit
        expected = np.asarray(nibabel.load(tmp_path / "other.nii").dataobj)
        for item in range(3):
            assert np.allclose(Nodes.arrayOf(sequence.GetNthDataNode(item)), expected[..., item])

    @pytest.mark.parametrize("kind", ["3D", "text", "cut", "missing"])
    def test_what_is_none_is_refused_with_a_sentence(self, scene, run, tmp_path, kind):
        import nibabel
        from Neuro4DForecastLib import Export
        from Neuro4DForecastLib.Problem import Problem

        path = tmp_path / "file.nii.gz"
        if kind == "3D":
            nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
        elif kind == "text":
            path.write_text("nothing")
        elif kind == "cut":
            Export.export(run, path)
            path.write_bytes(path.read_bytes()[:-3000])
        before = scene.GetNumberOfNodes()
        with pytest.raises(Problem):
            Export.loadSequence(path)
        assert scene.GetNumberOfNodes() == before


class TestOtherFormats:
    def test_a_slicer_sequence_reads_back(self, run, scene, tmp_path):
        import slicer
        from Neuro4DForecastLib import Export, Nodes

        Export.export(run, tmp_path / "forecast.seq.nrrd")
        storage, again = slicer.vtkMRMLVolumeSequenceStorageNode(), scene.AddNewNodeByClass("vtkMRMLSequenceNode")
        storage.SetFileName(str(tmp_path / "forecast.seq.nrrd"))
        assert storage.ReadData(again)
        assert [again.GetNthIndexValue(i) for i in range(4)] == ["0", "0.5", "1.25", "3"]
        assert again.GetIndexUnit() == "year"
        assert again.GetNthDataNode(1).GetAttribute("Neuro4D.Kind") == "forecast"
        assert np.array_equal(Nodes.arrayOf(again.GetNthDataNode(3)), Nodes.arrayOf(run.sequence.GetNthDataNode(3)))

    def test_a_gif_has_a_different_picture_for_every_year(self, run, tmp_path):
        from Neuro4DForecastLib import Export
        from PIL import Image

        Export.export(run, tmp_path / "forecast.gif")
        with Image.open(tmp_path / "forecast.gif") as gif:
            assert gif.n_frames == 4
            frames = []
            for index in range(4):
                gif.seek(index)
                frames.append(np.asarray(gif.convert("L"), int))
        assert all(np.abs(a - b).mean() > 0.2 for a, b in itertools.pairwise(frames))

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
    def test_a_film(self, run, tmp_path):
        from Neuro4DForecastLib import Export

        Export.export(run, tmp_path / "forecast.mp4")
        assert (tmp_path / "forecast.mp4").read_bytes()[4:8] == b"ftyp"

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
    def test_the_film_is_made_without_slicers_own_libraries(self, run, tmp_path, monkeypatch, application):
        from Neuro4DForecastLib import Export

        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\nfor last; do :; done\necho "$WHOSE_LIBRARIES" > "$last"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        monkeypatch.setenv("WHOSE_LIBRARIES", "the system's")
        started = application.startupEnvironment()
        monkeypatch.setattr(application, "startupEnvironment", lambda: started, raising=False)
        monkeypatch.setenv("WHOSE_LIBRARIES", "Slicer's")
        Export.export(run, tmp_path / "forecast.mp4")
        assert (tmp_path / "forecast.mp4").read_text() == "the system's\n"

    def test_no_ffmpeg_gives_a_sentence(self, run, tmp_path, monkeypatch):
        from Neuro4DForecastLib import Export
        from Neuro4DForecastLib.Problem import Problem

        monkeypatch.setenv("PATH", "")
        with pytest.raises(Problem, match="ffmpeg"):
            Export.export(run, tmp_path / "forecast.mp4")
        assert list(tmp_path.glob("*.mp4")) == []

    def test_the_table(self, run, tmp_path):
        from Neuro4DForecastLib import Export

        Export.export(run, tmp_path / "volumes.csv")
        with open(tmp_path / "volumes.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 6
        assert float(rows[0]["median"]) == 3500 * (1 - 0.02 * 0.5)

    def test_the_report(self, panel, run, tmp_path):
        panel.playback.refresh(run)
        panel.playback.export(str(tmp_path / "report.html"))
        assert "Research use only" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert panel.ui.statusLabel.text == "Written: report.html"

    @pytest.mark.parametrize("place", ["file/volumes.csv", f"{'x' * 300}.csv", "nowhere/forecast.nii.gz"])
    def test_a_place_that_cannot_be_written(self, panel, run, tmp_path, place):
        (tmp_path / "file").write_text("")
        panel.playback.refresh(run)
        panel.playback.export(str(tmp_path / place))
        assert "could not be written" in panel.ui.statusLabel.text


class TestDialogs:
    """The buttons, with the file that a person would choose in the dialog."""

    @pytest.fixture
    def choose(self, monkeypatch):
        import qt

        def chosen(path):
            asked = []
            for name in ("getSaveFileName", "getOpenFileName"):
                monkeypatch.setattr(qt.QFileDialog, name, lambda *given: asked.append(given) or path)
            return asked

        return chosen

    def test_the_export_button_adds_the_ending_of_the_chosen_format(self, panel, run, tmp_path, choose):
        from Neuro4DForecastLib import Export

        panel.playback.refresh(run)
        for index, ending in enumerate(Export.FORMATS.values()):
            if ending == ".mp4":
                continue
            asked = choose(str(tmp_path / "mine"))
            panel.ui.exportCombo.setCurrentIndex(index)
            panel.ui.exportButton.click()
            assert len(asked) == 1 and (tmp_path / f"mine{ending}").is_file()
            assert f"mine{ending}" in panel.ui.statusLabel.text

    @pytest.mark.parametrize("agreed", [True, False])
    def test_what_the_dialog_did_not_ask_about_is_replaced_only_after_a_question(
        self, panel, run, tmp_path, choose, agreed
    ):
        """The ending that the button adds, and the file with the years beside a 4D NIfTI."""
        from Neuro4DForecastLib import Export
        from stand_in.application import answering

        panel.playback.refresh(run)
        for ending, chosen, at_risk in ((".csv", "mine", "mine.csv"), (".nii.gz", "forecast.nii.gz", "forecast.json")):
            (tmp_path / at_risk).write_text("precious")
            choose(str(tmp_path / chosen))
            panel.ui.exportCombo.setCurrentIndex(list(Export.FORMATS.values()).index(ending))
            with answering(agreed) as asked:
                panel.ui.exportButton.click()
            assert len(asked) == 1 and at_risk in asked[0]
            assert ((tmp_path / at_risk).read_text(encoding="utf-8") == "precious") is not agreed
        with answering(False) as asked:  # the dialog itself has asked about the file that was chosen
            (tmp_path / "forecast.csv").write_text("old")
            choose(str(tmp_path / "forecast.csv"))
            panel.ui.exportCombo.setCurrentIndex(list(Export.FORMATS.values()).index(".csv"))
            panel.ui.exportButton.click()
        assert asked == [] and (tmp_path / "forecast.csv").read_text(encoding="utf-8") != "old"

    def test_a_script_has_to_allow_it(self, run, tmp_path):
        from Neuro4DForecastLib import Export
        from Neuro4DForecastLib.Problem import Problem

        (tmp_path / "forecast.json").write_text("precious")
        with pytest.raises(Problem, match=r"has forecast\.json already"):
            Export.export(run, tmp_path / "forecast.nii.gz")
        assert [path.name for path in tmp_path.glob("forecast*")] == ["forecast.json"]
        Export.export(run, tmp_path / "forecast.nii.gz", overwrite=True)
        assert (tmp_path / "forecast.json").read_text() != "precious"

    def test_a_canceled_dialog_writes_nothing(self, panel, run, tmp_path, choose):
        panel.playback.refresh(run)
        choose("")
        panel.ui.exportButton.click()
        assert list(tmp_path.glob("mine*")) == []

    def test_a_4d_nifti_is_loaded_and_shown(self, panel, run, scene, tmp_path, choose):
        import slicer
        from Neuro4DForecastLib import Export

        Export.export(run, tmp_path / "forecast.nii.gz")
        run.remove()
        choose(str(tmp_path / "forecast.nii.gz"))
        panel.ui.loadSequenceButton.click()
        browser = slicer.util.getNode("forecast browser")
        assert browser.GetMasterSequenceNode().GetNumberOfDataNodes() == 4
        red = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        assert red.GetBackgroundVolumeID() == browser.GetProxyNode(browser.GetMasterSequenceNode()).GetID()

    def test_without_nibabel_it_says_what_to_install(self, panel, scene, tmp_path, choose, monkeypatch):
        import sys

        import slicer

        said = []
        monkeypatch.setattr(slicer.util, "errorDisplay", said.append)
        monkeypatch.setitem(sys.modules, "nibabel", None)
        choose(str(tmp_path / "4d.nii"))
        panel.ui.loadSequenceButton.click()
        assert "press “Install”" in said[0]

    def test_a_file_that_is_none_gives_a_sentence(self, panel, scene, tmp_path, choose, monkeypatch):
        import slicer

        (tmp_path / "text.nii").write_text("nothing")
        said = []
        monkeypatch.setattr(slicer.util, "errorDisplay", said.append)
        choose(str(tmp_path / "text.nii"))
        before = scene.GetNumberOfNodes()
        panel.ui.loadSequenceButton.click()
        assert scene.GetNumberOfNodes() == before
        assert "text.nii cannot be read" in said[0]
