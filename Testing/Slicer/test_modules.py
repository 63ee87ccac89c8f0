"""Both modules as Slicer sees them: their own tests; dates of scans, devices, the sample."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from signatures import recorded

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", ["Neuro4DForecast", "Neuro4DTraining"])
def test_reload_and_test_passes(scene, name):
    from stand_in.application import load_module

    module = load_module(ROOT / name / f"{name}.py")
    getattr(module, f"{name}Test")().runTest()


def test_a_module_says_what_it_is(forecast_module):
    parent = forecast_module.instance.parent
    assert parent.title == "Neuro4D Forecast"
    assert parent.categories == ["Neuroimaging"]
    assert "Research use only" in parent.helpText
    assert not parent.icon.isNull()


def test_both_modules_say_so(training_module):
    parent = training_module.instance.parent
    assert parent.title == "Neuro4D Training"
    assert parent.dependencies == ["Neuro4DForecast"]
    assert "Research use only" in parent.helpText
    assert not parent.icon.isNull()


def test_the_training_module_finds_the_library_of_its_neighbor(tmp_path):
    """In a source tree Slicer knows the module's own folder only; alone, the module says what it lacks."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import Neuro4DTrainingLib, Neuro4DForecastLib; print('found')"
    )
    folder = ROOT / "Neuro4DTraining"
    command = [sys.executable, "-c", program]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "found\n", done.stderr
    shutil.copytree(folder / "Neuro4DTrainingLib", tmp_path / "Neuro4DTraining" / "Neuro4DTrainingLib")
    alone = str(tmp_path / "Neuro4DTraining")
    done = subprocess.run([*command, alone], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "needs the module Neuro4DForecast of the same extension" in done.stderr


def test_the_packages_of_each_module_are_those_of_the_library(training_module):
    """The lists in Resources say what pyproject.toml says; torch, numpy and SimpleITK come another way."""
    import re

    from Neuro4DForecastLib import Dependencies

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    def listed(name):
        return re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*?)\]", text, re.M | re.S)[1])

    owned = ("torch", *Dependencies.OWNED_BY_SLICER)
    needed = [line for line in listed("dependencies") if Dependencies.nameOf(line) not in owned]
    assert Dependencies.requirements() == needed
    assert Dependencies.requirements(training_module.REQUIREMENTS) == [*needed, *listed("training")]


def test_the_forecast_module_does_not_know_the_training_module():
    files = (ROOT / "Neuro4DForecast").rglob("*.py")
    assert [path.name for path in files if "Neuro4DTraining" in path.read_text(encoding="utf-8")] == []


def test_reloading_loads_the_parts_anew(panel):
    kept = {name: module for name, module in sys.modules.items() if name.startswith("Neuro4DForecast")}
    try:
        panel.onReload()
        assert sys.modules["Neuro4DForecastLib.Entries"] is not kept["Neuro4DForecastLib.Entries"]
        import slicer

        again = slicer.modules.Neuro4DForecastWidget
        assert again is not panel
        assert "Choose a scan" in again.ui.forecastButton.toolTip
        again.cleanup()
    finally:
        sys.modules.update(kept)


def key_press(text):
    import qt

    return qt.QKeyEvent(qt.QEvent.KeyPress, 0, qt.Qt.NoModifier, text)


class TestScanDates:
    def volume(self, scene, path, name):
        import slicer
        from Neuro4DForecastLib import Nodes

        node = scene.AddNode(Nodes.volumeNode(np.random.default_rng(0).random((10, 10, 10)), np.eye(4), name))
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(path))
        scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        return node

    def bids(self, folder, session, date, how):
        anat = folder / "sub-1" / session / "anat"
        anat.mkdir(parents=True)
        file = anat / f"sub-1_{session}_T1w.nii.gz"
        if how == "sidecar":
            (anat / f"sub-1_{session}_T1w.json").write_text(f'{{"AcquisitionDateTime": "{date}T10:00:00"}}')
        elif how == "scans":
            rows = f"filename\tacq_time\nanat/{file.name}\t{date}T10:00:00\n"
            (anat.parent / f"sub-1_{session}_scans.tsv").write_text(rows)
        else:
            table = folder / "sub-1" / "sub-1_sessions.tsv"
            text = table.read_text() if table.exists() else "session_id\tacq_time\n"
            table.write_text(f"{text}{session}\t{date}\n")
        return file

    @pytest.mark.parametrize("how", ["sidecar", "scans", "sessions"])
    def test_bids_dates_fill_in_the_years(self, panel, scene, tmp_path, how):
        earlier = self.volume(scene, self.bids(tmp_path, "ses-1", "2020-01-01", how), "earlier")
        scan = self.volume(scene, self.bids(tmp_path, "ses-2", "2021-07-02", how), "scan")
        panel.ui.scanSelector.setCurrentNode(scan)
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(earlier)
        assert float(row.years.text) == pytest.approx(1.5, abs=0.01)
        assert row.source.text == "from BIDS"
        assert panel.logic.getParameterNode().earlierYears == [row.years.text]

    def test_days_since_the_first_session_do_where_a_data_set_tells_no_dates(self, panel, scene, tmp_path):
        for session in ("ses-1", "ses-2"):
            (tmp_path / "sub-1" / session / "anat").mkdir(parents=True)
        table = "session_id\tdays_since_first\tacq_time\nses-1\t40\tn/a\nses-2\t588\tn/a\n"
        (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text(table)
        earlier, scan = (
            self.volume(scene, tmp_path / "sub-1" / name / "anat" / f"sub-1_{name}_T1w.nii.gz", name)
            for name in ("ses-1", "ses-2")
        )
        panel.ui.scanSelector.setCurrentNode(scan)
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(earlier)
        assert float(row.years.text) == pytest.approx(548 / 365.25, abs=0.001)
        assert row.source.text == "from BIDS"
        panel.ui.scanSelector.setCurrentNode(earlier)
        row.selector.setCurrentNode(scan)  # a later scan is no earlier one
        assert (row.years.text, row.source.text) == ("", "")
        assert "no date" in panel.ui.earlierScansProblem.text

    def test_dicom_dates_fill_in_the_years(self, panel, scene, head, monkeypatch):
        import slicer

        class Database:
            def instanceValue(self, uid, tag):
                return {"1.2": "20200101", "1.3": "20230101"}[uid] if tag == "0008,0022" else ""

        monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
        earlier, scan = head("earlier"), head("scan")
        earlier.SetAttribute("DICOM.instanceUIDs", "1.2 1.2.9")
        scan.SetAttribute("DICOM.instanceUIDs", "1.3")
        panel.ui.scanSelector.setCurrentNode(scan)
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(earlier)
        assert float(row.years.text) == pytest.approx(3, abs=0.01)
        assert row.source.text == "from DICOM"

    def test_years_that_a_person_types_are_the_persons(self, panel, scene, tmp_path):
        import qt

        earlier, scan, undated = (
            self.volume(scene, self.bids(tmp_path, name, f"{year}-01-01", "sidecar"), name) if year else
            self.volume(scene, tmp_path / "other.nii", name)
            for name, year in (("ses-1", 2020), ("ses-2", 2021), ("undated", 0))
        )  # fmt: skip
        panel.ui.scanSelector.setCurrentNode(scan)
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(earlier)
        row.years.setFocus()
        row.years.selectAll()
        qt.QApplication.sendEvent(row.years, key_press("7"))
        assert (row.years.text, row.source.text) == ("7", "")
        row.selector.setCurrentNode(undated)
        assert row.years.text == "7"

    def test_the_years_follow_the_scan_whichever_is_chosen_first(self, panel, scene, tmp_path):
        first, second, third = (
            self.volume(scene, self.bids(tmp_path, f"ses-{year}", f"{year}-01-01", "sidecar"), f"{year}")
            for year in (2020, 2021, 2023)
        )
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(first)
        for scan, years in ((second, 1), (third, 3)):
            panel.ui.scanSelector.setCurrentNode(scan)
            ((volume, before),) = panel.inputs.volumes()["earlier"]
            assert volume is first and before == pytest.approx(years, abs=0.01)
            assert "earlierScans" not in panel.inputs.problems
            assert float(row.years.text) == before

    def test_nothing_known_is_left_to_the_person(self, panel, head):
        panel.ui.scanSelector.setCurrentNode(head("scan"))
        row = panel.inputs.earlierScans.add()
        row.selector.setCurrentNode(head("earlier"))
        assert row.years.text == ""


class TestMachine:
    def test_the_drivers_answer_is_read(self, scene, forecast_module):
        from Neuro4DForecastLib import Machine

        (first, second) = Machine.parseGpus("0, NVIDIA RTX A4000, 15000\n1, NVIDIA T4, [N/A]\n")
        assert first.key == "cuda:0"
        assert first.label() == "GPU 0: NVIDIA RTX A4000, 15.7 GB free"
        assert second.label() == "GPU 1: NVIDIA T4"

    def test_the_device_combo_names_the_cpu_with_its_memory(self, panel):
        texts = [panel.ui.deviceCombo.itemText(index) for index in range(panel.ui.deviceCombo.count)]
        assert texts[0] == "Automatic"
        assert "CPU" in texts[-1] and "GB free" in texts[-1]

    def test_a_graphics_card_that_a_scene_asks_for_but_is_not_here_is_seen(self, panel):
        node = panel.logic.getParameterNode()
        node.device = "cuda:7"
        panel.setParameterNode(node)
        assert panel.ui.deviceCombo.currentText == "GPU 7 (not found here)"
        panel.ui.deviceCombo.setCurrentIndex(0)
        panel.ui.deviceCombo.activated.emit(0)
        assert node.device == "auto"

    def test_the_driver_is_asked_without_waiting(self, panel, tmp_path, monkeypatch, wait):
        """A program that answers like nvidia-smi after half a second."""
        import os
        import time

        if sys.platform == "win32":
            pytest.skip("needs a shell script")
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\nsleep 0.5\necho '0, Test GPU, 8000'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        started = time.monotonic()
        panel.inputs.refresh()
        assert time.monotonic() - started < 0.4
        wait(lambda: panel.ui.deviceCombo.count == 3)
        panel.ui.deviceCombo.setCurrentIndex(1)
        panel.ui.deviceCombo.activated.emit(1)
        assert panel.logic.getParameterNode().device == "cuda:0"
        from Neuro4DForecastLib import Library

        assert Library.workerEnvironment(tmp_path, "cuda:0")["CUDA_VISIBLE_DEVICES"] == "0"
        assert (
            Library.workerEnvironment(tmp_path, "cuda:0")["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        )  # as the driver counts
        assert Library.workerEnvironment(tmp_path, "cpu")["CUDA_VISIBLE_DEVICES"] == "-1"


def test_the_shipped_model_shows_its_card(panel):
    from Neuro4DForecastLib import Models

    (model, *_) = Models.shipped()
    panel.logic.getParameterNode().model = ""
    shown = panel.ui.modelCard.toPlainText()
    for part in (model.name, "Training data: Simulated people", "Limits:", "Scores:", "License: Apache-2.0"):
        assert part in shown
    assert "not stated" in Models.Model(model.folder, {"name": "bare"}).summary()


class TestSample:
    @pytest.fixture
    def shipped(self, tmp_path, monkeypatch, scene, forecast_module):
        """A library with one model and its reference image."""
        import nibabel
        from Neuro4DForecastLib import Library

        folder = tmp_path / "neuro4d_lib" / "models" / "shipped"
        folder.mkdir(parents=True)
        (tmp_path / "neuro4d_lib" / "__init__.py").write_text("")
        (folder / "card.json").write_text('{"name": "shipped"}')
        (folder / "weights.safetensors").write_bytes(b"")
        image = nibabel.Nifti1Image(np.random.default_rng(0).random((20, 20, 20)).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / "reference_t1.nii.gz")
        monkeypatch.setattr(Library, "libraryParent", lambda: tmp_path)
        return folder

    def test_one_click_and_no_network(self, shipped, panel):
        panel.logic.getParameterNode().model = ""
        panel.inputs._showModels()
        panel.ui.sampleButton.click()
        node = panel.ui.scanSelector.currentNode()
        assert node.GetName() == "Neuro4DSampleBrain"
        assert panel.ui.ageEdit.text == "74"
        assert panel.ui.forecastButton.enabled, panel.ui.forecastButton.toolTip

    def test_it_is_registered_with_the_sample_data_module(self, shipped, monkeypatch):
        import types

        from Neuro4DForecastLib import SampleScan
        from PIL import Image

        registered = []
        module = types.ModuleType("SampleData")
        register = recorded("registerCustomSampleDataSource", registered)
        module.SampleDataLogic = type("SampleDataLogic", (), {"registerCustomSampleDataSource": staticmethod(register)})
        monkeypatch.setitem(sys.modules, "SampleData", module)
        SampleScan.register()
        (given,) = registered
        assert given["sampleName"] == given["nodeNames"] == "Neuro4DSampleBrain"
        assert given["uris"].startswith("file:")
        with Image.open(given["thumbnailFileName"]) as picture:
            assert picture.size == (260, 280) and len(picture.getcolors()) > 100

    def test_slicers_own_module_takes_it_without_a_network(self, scene, forecast_module, application, monkeypatch):
        """Slicer's SampleData.py out of a checkout: it copies the file, checks it and puts it into its cache."""
        own = os.environ.get("NEURO4D_SLICER_PYTHON")
        folder = Path(own).parents[2] / "Modules" / "Scripted" / "SampleData" if own else None
        if folder is None or not folder.is_dir():
            pytest.skip("needs NEURO4D_SLICER_PYTHON in a whole checkout")
        import slicer
        from Neuro4DForecastLib import SampleScan

        monkeypatch.syspath_prepend(str(folder))
        import SampleData

        SampleScan.register()
        (source,) = slicer.modules.sampleDataSources["Neuro4D"]
        said = []
        logic = SampleData.SampleDataLogic(logMessage=lambda text, *_: said.append(text))
        (copied,) = logic.downloadSourceIntoCache(source)
        assert Path(copied).read_bytes() == SampleScan.path().read_bytes()
        assert any("Checksum OK" in text for text in said), said
