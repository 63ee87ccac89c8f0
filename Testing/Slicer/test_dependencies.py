"""Packages inside Slicer: found without importing, installed after one yes, torch through its extension only."""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
from signatures import SIGNATURES, recorded

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def dependencies(scene, forecast_module):
    from Neuro4DForecastLib import Dependencies

    return Dependencies


@pytest.fixture
def really_look(dependencies):
    """How packages are looked for, before `lacking` pretends."""
    return dependencies.look


@pytest.fixture
def lacking(dependencies, really_look, monkeypatch):
    """Pretend that these packages are not there yet; `installed` collects the ones that get installed."""
    state = {"torch": "missing", "nibabel": "missing", "safetensors": "present"}

    def look(name):
        return dependencies.Package(name, state[name], "1")

    monkeypatch.setattr(dependencies, "look", look)
    return state


class PyTorchExtension:
    """The PyTorch extension's logic with the signature that we rely on."""

    def __init__(self, state):
        self.state, self.calls = state, []

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        self.calls.append((askConfirmation, torchVersionRequirement))
        self.state["torch"] = "present"
        return types.ModuleType("torch")

    def uninstallTorch(self):
        self.calls.append("uninstall")


@pytest.fixture
def extension(monkeypatch, lacking):
    logic = PyTorchExtension(lacking)
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = lambda: logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return logic


@pytest.fixture
def pip(monkeypatch, lacking, dependencies):
    """Stands in for slicer.util.pip_install; Slicer 5.10 has no slicer.packaging."""
    import slicer

    calls = []

    def install(requirements):
        calls.append((requirements, Path(requirements[1]).read_text()))
        lacking["nibabel"] = "present"

    monkeypatch.setattr(dependencies, "_packaging", lambda: None)
    monkeypatch.setattr(slicer.util, "pip_install", install)
    return calls


class TestLooking:
    def test_opening_the_panel_imports_neither_torch_nor_nibabel(self, application):
        code = (
            "import sys; sys.path[:0]=[sys.argv[1]]\nimport stand_in\nfrom pathlib import Path\n"
            "from stand_in.application import *\napp=stand_in.install(temporary_folder())\n"
            "open_panel(load_module(Path(sys.argv[2])))\n"
            "print(sorted({'torch','nibabel','monai','safetensors','torchvision'} & set(sys.modules)))"
        )
        module = ROOT / "Neuro4DForecast" / "Neuro4DForecast.py"
        command = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), str(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "[]", done.stderr[-2000:]

    def test_a_half_installed_torch_is_told_from_a_whole_one(self, dependencies, tmp_path, monkeypatch):
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        assert dependencies.look("torch").state == "half"

    def test_what_is_not_there_is_missing(self, dependencies):
        assert dependencies.look("neuro4d_no_such_package").state == "missing"

    def test_requirements_name_nothing_that_slicer_owns(self, dependencies):
        names = [dependencies.nameOf(line) for line in dependencies.requirements()]
        assert names == ["nibabel", "safetensors"]
        assert not {"numpy", "SimpleITK", "torch", "torchvision"} & set(names)

    def test_nothing_starts_while_packages_are_missing(self, panel, head, lacking, application):
        from stand_in.application import answering

        panel.ui.scanSelector.setCurrentNode(head())
        with answering(False) as asked:
            panel.ui.forecastButton.click()
        assert len(asked) == 1
        assert not panel.run.running
        assert "nothing was started" in panel.ui.statusLabel.text


class TestInstalling:
    def test_one_question_names_packages_and_sizes(self, dependencies, lacking):
        asked = []
        assert dependencies.install(lambda text: asked.append(text)) is False
        (text,) = asked
        assert "torch (0.2 to 2.5 GB" in text
        assert "nibabel (4 MB)" in text
        assert "safetensors" not in text

    def test_torch_comes_from_the_extension_and_the_rest_from_pip(self, dependencies, lacking, extension, pip):
        assert dependencies.install(lambda text: True) is True
        assert extension.calls == [(False, ">=2.2")]
        ((arguments, constraints),) = pip
        assert arguments[2:] == ["nibabel>=5.2"]
        assert "numpy==" in constraints and "SimpleITK==" in constraints

    def test_a_half_torch_is_taken_out_first(self, dependencies, lacking, extension, pip):
        lacking["torch"] = "half"
        dependencies.install(lambda text: True)
        assert extension.calls[0] == "uninstall"

    def test_what_is_left_of_a_torch_is_recognized_said_and_repaired(
        self, panel, head, extension, pip, monkeypatch, tmp_path, dependencies, really_look
    ):
        """A real folder on Python's path, as an interrupted installation leaves it; nothing of it is imported."""
        from stand_in.application import answering

        (tmp_path / "rest" / "torch" / "lib").mkdir(parents=True)
        (tmp_path / "rest" / "torch" / "__init__.py").write_text("raise ImportError('half of torch was imported')")
        monkeypatch.setattr(dependencies, "look", really_look)
        monkeypatch.syspath_prepend(str(tmp_path / "rest"))
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        importlib.invalidate_caches()
        panel.ui.scanSelector.setCurrentNode(head())
        panel.enter()
        assert ": only half installed" in panel.ui.packagesLabel.text.splitlines()[0]
        assert panel.ui.repairButton.visible and not panel.ui.packagesButton.collapsed
        uninstall = extension.uninstallTorch

        def uninstallTorch():
            uninstall()
            shutil.rmtree(tmp_path / "rest" / "torch")
            sys.path.remove(str(tmp_path / "rest"))

        extension.uninstallTorch = uninstallTorch
        with answering(True) as asked:
            panel.ui.repairButton.click()
        assert "torch (only half installed" in asked[0] and "nibabel" not in asked[0]
        assert extension.calls[0] == "uninstall" and len(extension.calls) == 2 and pip == []
        assert panel.ui.statusLabel.text == "All packages are installed."
        assert not panel.ui.repairButton.visible

    def test_without_the_extension_it_asks_for_it(self, panel, dependencies, lacking, pip, application):
        from stand_in.application import answering

        lacking["nibabel"] = "present"
        panel.enter()
        with answering(True):
            panel.ui.installButton.click()
        assert "Get the PyTorch extension" in panel.ui.statusLabel.text
        assert panel.ui.pyTorchExtensionButton.visible
        assert not dependencies.resumes()  # the extension is still not there

    def test_the_button_gets_the_extension(self, panel, application, lacking):
        """By the two calls of Slicer's qSlicerExtensionsManagerModel."""
        asked = []
        model = types.SimpleNamespace(
            isExtensionInstalled=lambda name: False,
            installExtensionFromServer=lambda name, restart=True, update=False: asked.append(name) or True,
        )
        application.extensionsManagerModel = lambda: model
        panel.ui.pyTorchExtensionButton.click()
        assert asked == ["PyTorch"]

    @pytest.mark.parametrize("agreed", [True, False])
    def test_after_the_restart_the_installation_goes_on_by_itself(
        self, panel, forecast_module, dependencies, lacking, pip, extension, application, monkeypatch, agreed
    ):
        import slicer
        from stand_in.application import answering

        application.userSettings().setValue(dependencies.RESUME, "1")  # as the button left it before the restart
        opened = []
        monkeypatch.setattr(slicer.util, "mainWindow", lambda: panel.parent)
        monkeypatch.setattr(slicer.util, "selectModule", opened.append)
        with answering(agreed) as asked:
            forecast_module.startUp()
            forecast_module.startUp()  # the next start of Slicer does not ask again
        assert opened == ["Neuro4DForecast"] and len(asked) == 1
        assert (lacking["torch"], lacking["nibabel"]) == (("present",) * 2 if agreed else ("missing",) * 2)
        assert panel.ui.statusLabel.text == ("All packages are installed." if agreed else "Nothing was installed.")

    def test_a_start_without_that_installs_nothing(self, panel, forecast_module, lacking, monkeypatch):
        import slicer
        from stand_in.application import answering

        monkeypatch.setattr(slicer.util, "mainWindow", lambda: panel.parent)
        with answering(True) as asked:
            forecast_module.startUp()
        assert asked == [] and lacking["torch"] == "missing"

    def test_a_temporary_folder_that_cannot_be_written_is_a_sentence(
        self, panel, lacking, extension, pip, application, tmp_path
    ):
        from stand_in.application import answering

        (tmp_path / "file").write_text("")
        application.temporaryPath = str(tmp_path / "file" / "below")
        panel.enter()
        with answering(True):
            panel.ui.installButton.click()
        assert "temporary folder cannot be written" in panel.ui.statusLabel.text
        assert pip == [] and extension.calls == []

    def test_a_failing_pip_is_a_sentence(self, dependencies, lacking, extension, monkeypatch, pip):
        import slicer

        def fail(requirements):
            raise RuntimeError("non-zero exit status 1")

        monkeypatch.setattr(slicer.util, "pip_install", fail)
        from Neuro4DForecastLib.Problem import Problem

        with pytest.raises(Problem, match="Offline installation"):
            dependencies.install(lambda text: True)


def tiny_wheel(folder, name, files):
    """A wheel that pip accepts, of a package with these files."""
    about = f"{name}-9.0.dist-info"
    files = {f"{name}/{file}": "" for file in files} | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-9.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{about}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"]))


LOOK_AROUND = """
import sys, types
sys.modules["slicer"] = types.ModuleType("slicer")
from Neuro4DForecastLib import Dependencies
print(*(package.state for package in Dependencies.packages()))
"""


def test_the_offline_installation_of_the_documentation_is_all_that_a_forecast_needs(tmp_path):
    """The documented line with wheels of a folder and no index, into a Python that has none of the packages."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    for name, files in (("nibabel", ["__init__.py"]), ("safetensors", ["__init__.py"])):
        tiny_wheel(wheels, name, files)
    tiny_wheel(wheels, "torch", ["__init__.py", "_C.py", "nn/__init__.py"])
    text = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
    arguments = ast.literal_eval(re.search(r'slicer\.util\.pip_install\((\["--no-index".*\])\)', text)[1])
    arguments[arguments.index("--find-links") + 1] = str(wheels)
    paths = os.pathsep.join([str(site), str(ROOT / "Neuro4DForecast")])
    looking = [sys.executable, "-S", "-c", LOOK_AROUND]
    environment = {**os.environ, "PYTHONPATH": paths}
    states = lambda: subprocess.run(  # noqa: E731
        looking, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert states() == ["missing"] * 3
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*install, *arguments], check=True)
    assert states() == ["present"] * 3


class TestContracts:
    """Only what the called functions take; their recorded signatures are Slicer's own where its files are at hand."""

    def test_pip_ensure(self, dependencies, lacking, monkeypatch):
        calls = []
        packaging = types.SimpleNamespace(pip_ensure=recorded("pip_ensure", calls))
        monkeypatch.setattr(dependencies, "_packaging", lambda: packaging)
        dependencies._pip(["nibabel>=5.2"])
        (call,) = calls
        assert call["requirements"] == ["nibabel>=5.2"] and call["prompt_install"] is False
        assert {"constraints", "requester"} <= set(call)

    def test_pip_install_where_there_is_no_pip_ensure(self, dependencies, lacking, monkeypatch):
        import slicer

        calls = []
        monkeypatch.setattr(dependencies, "_packaging", lambda: None)
        monkeypatch.setattr(slicer.util, "pip_install", recorded("pip_install", calls))
        dependencies._pip(["nibabel>=5.2"])
        assert calls[0]["requirements"][0] == "--constraint" and calls[0]["requirements"][2:] == ["nibabel>=5.2"]

    def test_install_torch(self, dependencies, lacking, extension):
        calls = []
        extension.installTorch = recorded("installTorch", calls)
        dependencies._torch(repair=False)
        assert calls == [{"askConfirmation": False, "torchVersionRequirement": ">=2.2"}]

    def test_a_keyword_that_another_version_lacks_is_left_out(self, dependencies):
        wanted = {"askConfirmation": False, "torchVersionRequirement": ">=2.2"}
        assert dependencies.accepted(lambda askConfirmation=True: None, wanted) == {"askConfirmation": False}
        assert dependencies.accepted(lambda **anything: None, wanted) == wanted

    @pytest.mark.parametrize("name", ["pip_ensure", "pip_install"])
    def test_the_record_is_slicers_own_signature(self, dependencies, name):
        packaging = pytest.importorskip("slicer.packaging", reason="needs NEURO4D_SLICER_PYTHON")
        assert list(inspect.signature(getattr(packaging, name)).parameters) == SIGNATURES[name].split()


def test_every_known_failure_is_a_heading_of_the_documentation(scene, forecast_module):
    from Neuro4DForecastLib import Failures

    text = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
    headings = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    sentences = [sentence for _, sentence in Failures.KNOWN.values()] + [
        Failures.KILLED,
        Failures.FOLDER_GONE,
        Failures.UNKNOWN,
    ]
    for sentence in sentences:
        first = sentence.split(". ")[0].rstrip(".") + "."
        assert first in headings, first
