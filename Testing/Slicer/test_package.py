"""CMake lists, the installed tree and the archive hold the same files, and what is installed works on its own."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import build_package
import list_library
import pytest

ROOT = Path(__file__).parent.parent.parent
CATEGORIES = {"Neuroimaging", "Sequences", "Image Synthesis"}
SCHEMA_KEYS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
USE_INSTALLED = """
import sys
from pathlib import Path
testing, installed = sys.argv[1:]
sys.path[:0] = [testing, installed]
import stand_in
from stand_in.application import load_module, open_panel, temporary_folder
app = stand_in.install(temporary_folder())
for name in ("Neuro4DForecast", "Neuro4DTraining"):
    widget = open_panel(load_module(Path(installed) / (name + ".py")))
    assert widget.ui is not None
import neuro4d_lib
import Neuro4DForecastLib
import Neuro4DTrainingLib
for package in (neuro4d_lib, Neuro4DForecastLib, Neuro4DTrainingLib):
    assert Path(package.__file__).is_relative_to(installed), package.__file__
from Neuro4DForecastLib import Library
assert Library.libraryParent() == Path(installed).resolve()
assert "torch" not in sys.modules and "nibabel" not in sys.modules
print("works")
"""


def wanted_files():
    """What has to be installed: every file of the library and the modules that is not a build file."""
    found = {}
    for module, prefix in (("Neuro4DForecast", ""), ("Neuro4DTraining", ""), ("neuro4d_lib", "neuro4d_lib/")):
        for path in (ROOT / module).rglob("*"):
            name = path.relative_to(ROOT / module).as_posix()
            if path.is_file() and path.name not in ("CMakeLists.txt", ".DS_Store") and "__pycache__" not in name:
                found[prefix + name] = path.read_bytes()
    return found


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differences(found, wanted):
    return {name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)}


def test_the_lists_of_files_are_up_to_date():
    for path, text in list_library.texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `make list`"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    build, prefix = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("prefix")
    configure = ["cmake", "-S", ROOT, "-B", build, f"-DSlicer_DIR={Path(__file__).parent / 'cmake'}"]
    for command in (configure, ["cmake", "--install", build, "--prefix", prefix]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return prefix / "lib" / "Slicer-5.12" / "qt-scripted-modules"


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
class TestCMake:
    def test_every_file_is_installed_unchanged(self, installed):
        assert differences(tree(installed), wanted_files()) == set()

    def test_the_installed_modules_open_from_there_alone(self, installed, application):
        command = [sys.executable, "-W", "ignore", "-c", USE_INSTALLED, str(Path(__file__).parent), str(installed)]
        done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)
        assert done.stdout.endswith("works\n"), done.stderr[-2000:]

    def test_a_file_that_is_listed_but_missing_is_refused(self, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(ROOT / "Neuro4DTraining", copy / "Neuro4DTraining")
        (copy / "Neuro4DTraining" / "Resources" / "UI" / "Neuro4DTraining.ui").unlink()
        text = (
            "cmake_minimum_required(VERSION 3.16)\nproject(P NONE)\nfind_package(Slicer "
            "REQUIRED)\ninclude(${Slicer_USE_FILE})\n"
        )
        (copy / "CMakeLists.txt").write_text(text + "add_subdirectory(Neuro4DTraining)\n")
        command = ["cmake", "-S", copy, "-B", tmp_path / "b", f"-DSlicer_DIR={Path(__file__).parent / 'cmake'}"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


class TestArchive:
    """The steps of Slicer's "Install extension from file", by what its source says, on our archive."""

    @pytest.mark.parametrize("system", ["linux", "win", "macosx"])
    def test_slicer_finds_one_extension_below_one_folder(self, tmp_path, system):
        path = build_package.build(tmp_path, system)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(tmp_path / "x")
        else:
            with tarfile.open(path) as archive:
                archive.extractall(tmp_path / "x", **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
        (top,) = (tmp_path / "x").iterdir()
        names = {found.stem for found in top.rglob("*.s4ext")}
        assert names == {"Neuro4D"}
        about = next(top.rglob("*.s4ext")).read_text(encoding="utf-8")
        assert re.search(r"^depends PyTorch$", about, re.M)
        assert all(re.match(r"\w+ \S", line) for line in about.splitlines())
        folders = sorted(top.rglob("qt-scripted-modules"))
        assert len(folders) == len(build_package.VERSIONS) - (system == "macosx")
        for folder in folders:
            assert differences(tree(folder), wanted_files()) == set()


class TestIndexEntry:
    """The rules that the Extensions Index checks by itself."""

    def test_the_entry_fits_the_schema(self):
        entry = json.loads((ROOT / "docs" / "Neuro4D.json").read_text(encoding="utf-8"))
        assert {"$schema", "category", "scm_url"} <= set(entry) <= set(SCHEMA_KEYS)
        for key, value in entry.items():
            assert type(value) is SCHEMA_KEYS[key], key
        assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
        assert entry["category"] in CATEGORIES
        assert entry["build_dependencies"] == ["PyTorch"]
        assert entry["scm_type"] in ("git", "local") and 1 <= entry["tier"] <= 5

    def test_it_agrees_with_cmake(self):
        entry = json.loads((ROOT / "docs" / "Neuro4D.json").read_text(encoding="utf-8"))
        about = build_package.metadata()
        assert about["category"] == entry["category"]
        assert about["depends"] == " ".join(entry["build_dependencies"])
        assert re.search(r"project\(Neuro4D\b", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
        assert entry["scm_url"].rpartition("/")[2].startswith("Slicer")

    def test_icon_and_screenshots_exist(self):
        from PIL import Image

        about = build_package.metadata()
        for url in (about["iconurl"], *about["screenshoturls"].split()):
            assert url.startswith("https://raw.githubusercontent.com/")
            assert (ROOT / url.partition("/main/")[2]).is_file(), url
        with Image.open(ROOT / about["iconurl"].partition("/main/")[2]) as icon:
            assert icon.size == (128, 128)

    def test_no_module_is_named_like_somebody_elses(self):
        top = {name.partition("/")[0] for name in build_package.contents()}
        allowed = {"Resources", "neuro4d_lib"}
        assert all(name.startswith("Neuro4D") for name in top - allowed)
        shared = [name for name in build_package.contents() if name.startswith("Resources/")]
        assert all("neuro4d" in name.lower() for name in shared)
