"""A scene, an application and open panels for the tests; skips with a reason where Slicer's pieces cannot run."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "Neuro4DForecast"), str(ROOT / "Neuro4DTraining")]

PROBE = (
    "import os; os.environ['QT_QPA_PLATFORM']='offscreen'; from PySide6 import QtUiTools, QtWidgets; "
    "QtWidgets.QApplication([])"
)
OBLIQUE = np.array([[1.9, 0.3, -0.1, -20], [-0.3, 1.9, 0.2, -30], [0.12, -0.2, 2.5, -25], [0, 0, 0, 1.0]])
GEOMETRIES = {
    "axis-aligned": np.diag([2.0, 2.0, 2.0, 1.0]),
    "oblique": OBLIQUE,
    "left-handed": OBLIQUE @ np.diag([-1.0, 1, 1, 1]),
    "anisotropic": np.array([[0, 0, 4.0, -30], [0.9, 0, 0, -20], [0, 1.1, 0, -10], [0, 0, 0, 1]]),
}


def why_not() -> str:
    """Why Slicer's pieces cannot run here; empty when they can."""
    for package in ("slicer", "PySide6", "PIL", "nibabel"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install -e '.[slicer-tests]'"
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if probe.returncode:
        last = (probe.stderr.strip() or f"exit code {probe.returncode}").splitlines()[-1]
        return (
            f"Qt cannot start here ({last}); on Debian: apt-get install libegl1 libgl1 libxkbcommon0 "
            "libfontconfig1 libdbus-1-3"
        )
    return ""


@pytest.fixture(scope="session")
def application(tmp_path_factory):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    from stand_in import install

    app = install(str(tmp_path_factory.mktemp("slicer")))
    return app


@pytest.fixture(autouse=True)
def nothing_raised_in_a_slot(monkeypatch):
    """Qt prints an error in a slot and goes on; a test must not."""
    raised = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    yield
    if raised:
        raise raised[0]


@pytest.fixture
def scene(application, tmp_path):
    """A fresh scene and an empty temporary folder of the application."""
    import slicer
    from stand_in.application import new_scene

    folder = tmp_path / "Slicer"
    folder.mkdir()
    application.temporaryPath = str(folder)
    application._settings.clear()
    new_scene(application)
    application.extensionsManagerModel = lambda: None
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)


@pytest.fixture(scope="session")
def forecast_module(application):
    from stand_in.application import load_module

    return load_module(ROOT / "Neuro4DForecast" / "Neuro4DForecast.py")


@pytest.fixture(scope="session")
def training_module(forecast_module):
    from stand_in.application import load_module

    return load_module(ROOT / "Neuro4DTraining" / "Neuro4DTraining.py")


@pytest.fixture
def training_panels(scene, training_module):
    """Opens training panels whose worker is replaced: training_panels(). Their work ends with the test."""
    from Neuro4DTrainingLib.Work import State
    from stand_in.application import close_panel, open_panel

    opened = []

    def open_one():
        widget = open_panel(training_module)
        widget.logic.worker = widget.logic.asker = [sys.executable, str(HERE / "fake_trainer.py")]
        widget.logic.modelMaker = [*widget.logic.worker, "model"]
        opened.append(widget)
        return widget

    yield open_one
    for widget in opened:
        for part in (widget.run, widget.preparation):
            work = part.controls.work
            if work is not None and work.poll() in (State.RUNNING, State.PAUSED):
                work.stop()
                wait_until(lambda work=work: work.poll() is State.STOPPED)
        close_panel(widget)


@pytest.fixture
def training_panel(training_panels):
    return training_panels()


@pytest.fixture
def model_folder(tmp_path):
    """A folder with everything that a model has, except a network that works."""
    folder = tmp_path / "model"
    folder.mkdir()
    card = '{"name": "test model", "training_data": "simulated", "limits": "tests only", "license": "CC0"}'
    (folder / "card.json").write_text(card)
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def fake_worker(monkeypatch):
    """Tell how the stand-in worker behaves: behave("slow")."""
    return lambda behavior: monkeypatch.setenv("NEURO4D_FAKE", behavior)


@pytest.fixture
def logic(scene, forecast_module):
    made = forecast_module.Neuro4DForecastLogic()
    made.worker = [sys.executable, str(HERE / "fake_worker.py")]
    yield made
    if made.job:
        made.job.cancel()


@pytest.fixture
def panel(scene, forecast_module, model_folder):
    """The open panel, its worker replaced and a model chosen."""
    from stand_in.application import close_panel, open_panel

    widget = open_panel(forecast_module)
    widget.logic.worker = [sys.executable, str(HERE / "fake_worker.py")]
    widget.logic.getParameterNode().model = str(model_folder)
    yield widget
    close_panel(widget)


@pytest.fixture
def geometries():
    """Name -> matrix from voxels to RAS mm of the heads that `head` makes."""
    return GEOMETRIES


@pytest.fixture
def head(scene):
    """Makes a volume with a head-like image: head("name", "oblique")."""

    def make(name="head", geometry="axis-aligned", dtype=np.int16, shape=(24, 26, 22)):
        import slicer.util

        grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
        radius = np.sqrt(sum(axis**2 for axis in grid))
        texture = np.random.default_rng(3).normal(0, 20, shape)
        array = np.where(radius < 0.9, 400 - 200 * radius + texture, 0).astype(dtype)
        # By Slicer's own way, not by ours, which is under test.
        node = slicer.util.addVolumeFromArray(array.transpose(), ijkToRAS=GEOMETRIES[geometry], name=name)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(500, 210)
        return node

    return make


def wait_until(condition, seconds=20.0):
    """Let the application run until something is true."""
    import slicer

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        slicer.app.processEvents()
        time.sleep(0.002)


@pytest.fixture
def wait():
    return wait_until
