"""The layout of the library, held by tests."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "neuro4d_lib"

# A file imports from the layers below it or from its own folder; folders of one layer do not know each other.
LAYERS = [
    "errors progress version files",
    "config devices",
    "geometry",
    "diffusion networks data metrics",
    "representations",
    "model",
    "checkpoint",
    "training forecasting preparation",
    "applications cli_arguments",
    "cli_models cli_evaluation cli_training cli_population cli_preparation cli_study cli_study_truth cli_representations cli_trials cli_person cli_compare",
    "cli __init__",
    "__main__",
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
FORBIDDEN = {"slicer", "qt", "ctk", "vtk", "torchvision"}
# What a forecast may import at the top of a file: the run-time dependencies and the standard library.
OPTIONAL = {
    "monai",
    "dask",
    "pandas",
    "scipy",
    "statsmodels",
    "matplotlib",
    "nilearn",
    "ancpbids",
    "distributed",
    "tomli",
}


def python_files():
    return sorted(LIBRARY.rglob("*.py"))


def part(path):
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full, as 'from neuro4d_lib...'."
            yield node.module
            if node.module == "neuro4d_lib":
                yield from (f"neuro4d_lib.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
class TestImports:
    def test_point_down(self, path):
        importer = part(path)
        assert importer in RANK, f"{importer} has no layer: add it to LAYERS."
        for name in imports(path):
            pieces = name.split(".")
            if pieces[0] != "neuro4d_lib" or len(pieces) == 1:
                continue
            imported = pieces[1]
            if imported in RANK:
                assert imported == importer or RANK[imported] < RANK[importer], (
                    f"{path.name} imports {name}, which is not below it. Move the shared part down a layer."
                )

    def test_nothing_of_slicer_in_the_library(self, path):
        assert not FORBIDDEN & {name.split(".")[0] for name in imports(path)}

    def test_optional_packages_are_imported_where_they_are_used(self, path):
        assert not OPTIONAL & {name.split(".")[0] for name in imports(path, top_level_only=True)}, (
            f"{path.name} imports an optional package at the top; a forecast must run without it."
        )


def test_importing_the_library_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, neuro4d_lib; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_library_file_is_installed_into_slicer():
    listed = (LIBRARY / "CMakeLists.txt").read_text(encoding="utf-8").split()
    for path in python_files():
        assert str(path.relative_to(LIBRARY)).replace("\\", "/") in listed, f"{path} is missing in CMakeLists.txt"
