"""The panel with the real worker and the shipped model: the same forecast as the command line's, to the voxel."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
CARDS = sorted((ROOT / "neuro4d_lib" / "models").glob("*/card.json"))
SCANS = [path for card in CARDS for path in sorted(card.parent.glob("*T1*.nii.gz"))]


def worker():
    """What the panel runs outside of tests."""
    from Neuro4DForecastLib.Logic import workerCommand

    return workerCommand()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CARDS and SCANS), reason="no model with a reference T1 is shipped yet"),
    pytest.mark.skipif(not (ROOT / "neuro4d_lib" / "cli.py").is_file(), reason="the command line is not written yet"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Whole numbers without a scale factor: a scaled file is float in Slicer and is rounded elsewhere than in the file."""
    import nibabel

    path = tmp_path_factory.mktemp("scan") / "T1w.nii"
    image = nibabel.load(SCANS[0])
    stored = np.asarray(image.dataobj.get_unscaled()).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, image.affine), path)
    return path


@pytest.fixture(scope="module")
def command_line(file, tmp_path_factory):
    """Forecast of that scan by the command line alone: folder of results."""
    folder = tmp_path_factory.mktemp("command-line")
    options = ["--years", "2", "5", "--futures", "2", "--seed", "3", "--age", "74", "--sex", "F", "--output", "out"]
    command = [sys.executable, "-m", "neuro4d_lib", "forecast", str(file), *options, "--progress", "json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return folder / "out"


@pytest.fixture
def scan(scene, file):
    import slicer

    node = slicer.modules.volumes.logic().AddArchetypeVolume(str(file), "scan", 0)
    node.CreateDefaultDisplayNodes()
    return node


def same_voxels(run, folder):
    """Every frame of a run against the command line's file, bit for bit."""
    import nibabel
    from Neuro4DForecastLib import Nodes

    assert json.loads(run.browser.GetAttribute("Neuro4D.FoldCertificate"))["failed"] == 0
    file = nibabel.load(folder / "forecast.nii.gz")
    voxels = np.asarray(file.dataobj)
    assert voxels.shape[3] == len(run.years) == 3
    for item in range(3):
        mine = run.sequence.GetNthDataNode(item)
        # Slicer turns left-handed images over while reading: follow the voxels through space.
        way = np.rint(np.linalg.inv(file.affine) @ Nodes.matrixOf(mine)).astype(int)
        assert np.abs(np.linalg.inv(file.affine) @ Nodes.matrixOf(mine) - way).max() < 1e-3
        flips = tuple(slice(None, None, way[axis, axis]) for axis in range(3))
        assert np.array_equal(Nodes.arrayOf(mine), voxels[..., item][flips])
    assert not np.array_equal(voxels[..., 1], voxels[..., 2])


def test_the_panel_gives_the_voxels_of_the_command_line(command_line, scan, panel, wait):
    panel.logic.worker = worker()
    panel.logic.getParameterNode().model = ""
    panel.ui.scanSelector.setCurrentNode(scan)
    for edit, text in (("ageEdit", "74"), ("yearsEdit", "2 5")):
        getattr(panel.ui, edit).text = text
    panel.ui.sexCombo.setCurrentIndex(1)
    panel.ui.futuresSpin.value, panel.ui.seedSpin.value = 2, 3
    estimate = panel.run._estimate
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running, 600)
    assert panel.playback.run is not None, panel.ui.logText.plainText
    same_voxels(panel.playback.run, command_line)
    if sys.platform != "win32":  # which does not tell
        assert 0.7 < estimate.workerBytes / panel.logic.job.facts["peak_memory_bytes"] < 1.5


@pytest.mark.skipif(sys.platform == "win32", reason="looks at processes as Linux and macOS list them")
def test_cancel_in_the_middle_of_the_work_leaves_no_process_and_no_file(scan, panel, wait, application):
    from Neuro4DForecastLib import ProcessTree

    panel.logic.worker = worker()
    panel.logic.getParameterNode().model = ""
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.forecastButton.click()
    wait(lambda: panel.ui.progressBar.value > 20 or not panel.run.running, 120)
    family = {panel.logic.job.pid, *ProcessTree.descendants(panel.logic.job.pid)}
    assert family <= set(ProcessTree.parents())
    started = time.monotonic()
    panel.ui.forecastButton.click()
    assert time.monotonic() - started < 3
    assert not family & set(ProcessTree.parents())
    assert list(Path(application.temporaryPath).iterdir()) == []
    assert panel.playback.run is None


CRASH = """
import os, sys, time
from pathlib import Path
testing, module, scan, temporary = sys.argv[1:]
sys.path[:0] = [testing]
import stand_in
from stand_in.application import load_module, open_panel
app = stand_in.install(temporary)
panel = open_panel(load_module(Path(module)))
import slicer
panel.ui.scanSelector.setCurrentNode(slicer.modules.volumes.logic().AddArchetypeVolume(scan, "scan", 0))
panel.ui.forecastButton.click()
said = panel.logic.job.folder / "events.jsonl"
while panel.run.running and not (said.is_file() and said.stat().st_size):
    app.processEvents()
    time.sleep(0.01)
print(panel.logic.job.pid, panel.logic.job.folder, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="looks at processes as Linux and macOS list them")
def test_when_slicer_crashes_the_worker_ends_and_takes_its_files_along(file, application, tmp_path):
    from Neuro4DForecastLib import ProcessTree

    module = ROOT / "Neuro4DForecast" / "Neuro4DForecast.py"
    (tmp_path / "Slicer").mkdir()
    command = [sys.executable, "-W", "ignore", "-c", CRASH, Path(__file__).parent, module, file, tmp_path / "Slicer"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    pid, folder = done.stdout.split()
    assert Path(folder).parent == tmp_path / "Slicer"
    until = time.monotonic() + 5
    while (ProcessTree.alive(int(pid)) or Path(folder).exists()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not ProcessTree.alive(int(pid))
    assert [path.name for path in (tmp_path / "Slicer").iterdir() if path.name != "Slicer.ini"] == []


def test_what_the_library_refuses_is_said_in_its_words_with_the_nodes_name(panel, head, wait, scene):
    panel.logic.worker = worker()
    panel.logic.getParameterNode().model = ""
    panel.ui.scanSelector.setCurrentNode(head("thumb"))
    before = scene.GetNumberOfNodes()
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running, 120)
    assert "“thumb” covers" in panel.ui.statusLabel.text
    assert "too little to hold a brain" in panel.ui.statusLabel.text
    assert scene.GetNumberOfNodes() == before


def test_so_does_the_python_call_and_its_transform_plays_the_same_motion(command_line, scan, logic):
    """The scan, pulled through the grid transform of a year, against the frame of that year.

    The difference of the two, over how steep the frame is there, is how far apart in mm they show the same tissue.
    """
    import torch
    from Neuro4DForecastLib import Nodes

    from neuro4d_lib.data.records import Image
    from neuro4d_lib.forecasting.warping import WarpedImage

    logic.worker = worker()
    run = logic.forecast(scan, years=[2, 5], futures=2, seed=3, age=74, sex="F")
    same_voxels(run, command_line)
    run.browser.SetSelectedItemNumber(2)
    frame, affine = Nodes.arrayOf(run.proxy("frames")).astype(np.float32), Nodes.matrixOf(scan)
    displacement_mm = displacement_of(run.proxy("transform"), frame.shape, affine)
    displacement_vox = np.tensordot(np.linalg.inv(affine[:3, :3]), displacement_mm, 1).astype(np.float32)
    array = np.ascontiguousarray(Nodes.arrayOf(scan))
    pulled = WarpedImage(Image(array, affine, array.dtype), torch.device("cpu")).pulled(
        torch.as_tensor(displacement_vox)[None]
    )
    steep = np.sqrt(sum(part**2 for part in np.gradient(frame, *np.linalg.norm(affine[:3, :3], axis=0))))
    edges = steep > np.percentile(steep[frame > 0], 75)
    apart_mm = np.abs(pulled - frame)[edges] / steep[edges]
    moved_mm = np.linalg.norm(displacement_mm, axis=0)
    assert moved_mm.max() > 0.5
    assert np.percentile(apart_mm, 99) < 0.05 and apart_mm.mean() < 0.01, (apart_mm.mean(), np.percentile(apart_mm, 99))


def displacement_of(transform, shape, affine):
    """What a transform node does to each voxel center of a frame: [3, I, J, K], RAS mm."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    places = np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    start, end, way = vtk.vtkPoints(), vtk.vtkPoints(), vtk.vtkGeneralTransform()
    for points in (start, end):
        points.SetDataTypeToDouble()
    start.SetData(numpy_to_vtk(np.ascontiguousarray(places.reshape(3, -1).T), deep=1))
    transform.GetTransformFromWorld(way)
    way.TransformPoints(start, end)
    return vtk_to_numpy(end.GetData()).T.reshape(places.shape) - places
