"""The panel with the real worker and the shipped model: the same forecast as the command line's, to the voxel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
CARDS = sorted((ROOT / "neuro4d_lib" / "models").glob("*/card.json"))
SCANS = [path for card in CARDS for path in sorted(card.parent.glob("*T1*.nii.gz"))]

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


def test_panel_python_call_and_command_line_give_the_same_voxels(command_line, scan, panel, wait):
    import nibabel
    from Neuro4DForecastLib import Nodes

    panel.logic.worker = [sys.executable, "-m", "neuro4d_lib"]
    panel.logic.getParameterNode().model = ""
    panel.ui.scanSelector.setCurrentNode(scan)
    for edit, text in (("ageEdit", "74"), ("yearsEdit", "2 5")):
        getattr(panel.ui, edit).text = text
    panel.ui.sexCombo.setCurrentIndex(1)
    panel.ui.futuresSpin.value, panel.ui.seedSpin.value = 2, 3
    panel.ui.forecastButton.click()
    wait(lambda: not panel.run.running, 600)
    run = panel.playback.run
    assert run is not None, panel.ui.logText.plainText
    assert json.loads(run.browser.GetAttribute("Neuro4D.FoldCertificate"))["failed"] == 0
    file = nibabel.load(command_line / "forecast.nii.gz")
    voxels = np.asarray(file.dataobj)
    for item in range(3):
        mine = run.sequence.GetNthDataNode(item)
        # Slicer turns left-handed images over while reading: follow the voxels through space.
        way = np.rint(np.linalg.inv(file.affine) @ Nodes.matrixOf(mine)).astype(int)
        assert np.abs(np.linalg.inv(file.affine) @ Nodes.matrixOf(mine) - way).max() < 1e-3
        array = voxels[..., item]
        flips = tuple(slice(None, None, way[axis, axis]) for axis in range(3))
        assert np.array_equal(Nodes.arrayOf(mine), array[flips])


def test_the_transform_moves_the_scan_as_the_frames_show(scan, logic):
    """The scan under the last year's grid transform is the last frame, to a few percent of its contrast."""
    import slicer
    from Neuro4DForecastLib import SlicePictures

    logic.worker = [sys.executable, "-m", "neuro4d_lib"]
    frames = logic.forecast(scan, years=[5], futures=2, age=74)
    pictures = [pixels for _, pixels in SlicePictures.throughTheYears(frames, ["Red", "Green"])]
    change = np.abs(pictures[0].astype(int) - pictures[1]).mean()
    scan.SetAndObserveTransformNodeID(frames.proxy("transform").GetID())
    slicer.util.setSliceViewerLayers(background=scan)
    frames.browser.SetSelectedItemNumber(1)
    moved = SlicePictures.row(["Red", "Green"])
    assert np.abs(pictures[1].astype(int) - moved).mean() < 0.35 * change
