"""The command `sample`: a file that is whole or not there, and a sentence where nilearn is missing."""

import os
import sys
from types import ModuleType

import nibabel
import numpy as np
import pytest

from neuro4d_lib import cli

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
VALUES = np.linspace(0, 1, 60).reshape(3, 4, 5)


@pytest.fixture
def nilearn(monkeypatch):
    """A small brain in the place of the large one."""
    datasets = ModuleType("nilearn.datasets")
    datasets.load_mni152_template = lambda resolution: nibabel.Nifti1Image(VALUES, AFFINE)
    monkeypatch.setitem(sys.modules, "nilearn", ModuleType("nilearn"))
    monkeypatch.setitem(sys.modules, "nilearn.datasets", datasets)


def run(path):
    return cli.main(["sample", "--output", str(path)])


def test_the_brain_is_written_in_thousandths(nilearn, tmp_path):
    assert run(tmp_path / "sample.nii.gz") == 0
    image = nibabel.load(tmp_path / "sample.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), np.rint(VALUES * 1000))
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.get_data_dtype() == np.int16


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "Nothing was written"),
        (OSError(28, "No space left on device"), 2, "No space is left"),
    ],
    ids=["interrupt", "full disk"],
)
def test_a_file_that_is_half_written_goes(nilearn, tmp_path, monkeypatch, capsys, error, code, message):
    def failing(*_):
        raise error

    monkeypatch.setattr(os, "replace", failing)
    monkeypatch.setattr("pathlib.Path.replace", failing)
    assert run(tmp_path / "sample.nii.gz") == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_nilearn_the_way_to_get_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    assert run(tmp_path / "sample.nii.gz") == 2
    assert "pip install 'neuro4d-lib[training]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
