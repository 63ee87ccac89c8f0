"""The shipped model on a real human brain (MNI152, an average of 152 people), by way of the command line."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import neuro4d_lib
from neuro4d_lib import cli
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.regions import REGIONS

pytestmark = pytest.mark.slow

PERSON = ("--age", "74", "--sex", "F", "--education", "16", "--apoe4", "1")


def saved_brain(path, step):
    """MNI152 on every `step`-th millimeter, int16, as somebody may have it."""
    datasets = pytest.importorskip("nilearn.datasets")
    template = datasets.load_mni152_template(resolution=1)
    values = np.asarray(template.dataobj)[::step, ::step, ::step]
    array = np.rint(1000 * values / values.max()).astype(np.int16)
    image = nibabel.Nifti1Image(array, template.affine @ np.diag([step, step, step, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """At 2 mm, so that a forecast takes seconds."""
    return saved_brain(tmp_path_factory.mktemp("brain") / "T1w.nii.gz", 2)


@pytest.fixture(scope="module")
def shipped():
    """The folder of the shipped model."""
    (folder,) = (path for path in (Path(neuro4d_lib.__file__).parent / "models").iterdir() if path.is_dir())
    return folder


def run(*arguments):
    return cli.main(["forecast", *(str(argument) for argument in arguments), "--progress", "none"])


def volumes_mm3(folder):
    """{(region, year): row}, numbers where there are numbers."""
    with (folder / "volumes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        (row["region"], float(row["year"])): {k: float(v) for k, v in row.items() if k != "region" and v}
        for row in rows
    }


def stored(path):
    return np.asarray(nibabel.load(path).dataobj.get_unscaled())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The brain at 1 mm, T1w.nii.gz, and its forecast, out."""
    folder = tmp_path_factory.mktemp("whole")
    scan = saved_brain(folder / "T1w.nii.gz", 1)
    assert run(scan, *PERSON, "--diagnosis", "AD", "--years", 1, 5, "--futures", 2, "--output", folder / "out") == 0
    return folder


class TestOneMillimeter:
    def test_frame_0_is_the_scan_and_the_grid_is_the_scans(self, folder):
        scan, result = nibabel.load(folder / "T1w.nii.gz"), nibabel.load(folder / "out" / "forecast.nii.gz")
        np.testing.assert_array_equal(stored(folder / "out" / "forecast.nii.gz")[..., 0], stored(folder / "T1w.nii.gz"))
        np.testing.assert_allclose(result.affine, scan.affine, atol=1e-5)
        assert result.get_data_dtype() == scan.get_data_dtype() and result.shape[3] == 3

    def test_no_map_folds_on_the_delivered_voxels(self, folder):
        certificate = json.loads((folder / "out" / "forecast.json").read_text(encoding="utf-8"))["fold_certificate"]
        assert certificate["voxels"] == 197 * 233 * 189 * 2 * 3  # two years; two futures and the central one
        assert (certificate["determinants_per_voxel"], certificate["failed"]) == (10, 0)

    def test_ventricles_get_larger_and_the_skull_stays(self, folder):
        frames, change = stored(folder / "out" / "forecast.nii.gz"), stored(folder / "out" / "volume_change.nii.gz")
        volumes = volumes_mm3(folder / "out")
        for year in (1.0, 5.0):
            assert volumes["lateral_ventricle", year]["median_mm3"] > volumes["lateral_ventricle", year]["baseline_mm3"]
            assert volumes["hippocampus", year]["median_mm3"] < volumes["hippocampus", year]["baseline_mm3"]
        assert np.abs(change[:5]).max() < 0.5  # far outside
        # What is inside the skull keeps its volume. Voxels above 0 cannot be counted for that: reading between voxels
        # spreads the sharp rim of a stripped scan over its neighbors.
        assert np.abs(change[frames[..., 0] > 0].mean(axis=0)).max() < 0.5

    def test_too_little_memory_is_not_needed(self, folder):
        assert json.loads((folder / "out" / "forecast.json").read_text(encoding="utf-8"))["peak_memory_bytes"] < 4e9


def test_the_region_change_of_carried_labels_is_the_integral_of_the_map(tmp_path):
    """Within 1 % of the region's volume, at 1 mm, for every region: its voxels are carried along as a segmentation."""
    scan = read_image(saved_brain(tmp_path / "T1w.nii.gz", 1))
    person = Covariates(age=70, diagnosis="AD")
    result = neuro4d_lib.forecast(scan, person, (5,), futures=1, device="cpu")
    regions = dataclasses.replace(scan, array=result.aligned.labels, dtype=result.aligned.labels.dtype)
    result = dataclasses.replace(result, inputs=dataclasses.replace(result.inputs, segmentation=regions))
    carried, change_percent = result.segmentation(0), result.volume_change_percent(0)
    for region in REGIONS:
        here = regions.array == region.index
        counted = 100 * ((carried == region.index).sum() / here.sum() - 1)
        assert counted == pytest.approx(change_percent[here].mean(), abs=1), region.name


@pytest.fixture(scope="module")
def hippocampus(tmp_path_factory):
    """{name: {year: row}} of the hippocampus for people who differ in one thing; at 3 mm, and without files."""
    scan = saved_brain(tmp_path_factory.mktemp("people") / "T1w.nii.gz", 3)
    people = {
        "CN": Covariates(age=70, diagnosis="CN"),
        "MCI": Covariates(age=70, diagnosis="MCI"),
        "AD": Covariates(age=70, diagnosis="AD"),
        "old CN": Covariates(age=88, diagnosis="CN"),
    }
    rows: dict[str, dict[float, dict]] = {}
    for name, person in people.items():
        result = neuro4d_lib.forecast(scan, person, (1, 5), futures=4, device="cpu")
        rows[name] = {row["year"]: row for row in result.volumes.rows() if row["region"] == "hippocampus"}
    return rows


class TestPeople:
    def test_worse_diagnoses_lose_more(self, hippocampus):
        medians = [hippocampus[name][5.0]["median_mm3"] for name in ("AD", "MCI", "CN")]
        assert medians == sorted(medians) and len(set(medians)) == 3

    def test_older_healthy_people_lose_more(self, hippocampus):
        assert hippocampus["old CN"][5.0]["median_mm3"] < hippocampus["CN"][5.0]["median_mm3"]

    def test_bands_widen_with_the_horizon(self, hippocampus):
        for person in hippocampus.values():
            widths = [person[year]["high_90_mm3"] - person[year]["low_90_mm3"] for year in (1.0, 5.0)]
            assert widths[1] > 2 * widths[0]


def test_the_orientation_of_the_file_does_not_matter(brain, tmp_path):
    turned = nibabel.load(brain).as_reoriented(nibabel.orientations.axcodes2ornt("PIL"))
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    for name, scan in (("a", brain), ("b", tmp_path / "turned.nii.gz")):
        assert run(scan, *PERSON, "--years", 3, "--futures", 1, "--output", tmp_path / name) == 0
    there = nibabel.as_closest_canonical(nibabel.load(tmp_path / "b" / "forecast.nii.gz")).get_fdata()[..., 1]
    here = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a" / "forecast.nii.gz")).get_fdata()[..., 1]
    assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.999


def test_two_runs_with_one_seed_are_the_same(brain, tmp_path):
    for name in ("a", "b"):
        assert run(brain, *PERSON, "--years", 2, "--futures", 2, "--seed", 3, "--output", tmp_path / name) == 0
    for file in ("forecast.nii.gz", "volume_change.nii.gz", "volumes.csv", "forecast.seq.nrrd"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_each_future_is_the_single_future_of_the_next_seed(tmp_path):
    """With the shipped model: future i of seed s is what seed s + i draws alone, voxel for voxel."""
    scan = saved_brain(tmp_path / "T1w.nii.gz", 3)
    options = ("--years", 3, "--each-future")
    assert run(scan, *options, "--futures", 3, "--seed", 5, "--output", tmp_path / "all") == 0
    for i in (2, 3):
        single = tmp_path / f"single_{i}"
        assert run(scan, *options, "--futures", 1, "--seed", 5 + i - 1, "--output", single) == 0
        together = stored(tmp_path / "all" / f"future_{i}.nii.gz")
        np.testing.assert_array_equal(together, stored(single / "future_1.nii.gz"))


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize(
    ("when", "ending"),
    [
        ("Aligning", signal.SIGINT),
        ("Drawing", signal.SIGTERM),
        ("Following", signal.SIGINT),
        ("Carrying", signal.SIGTERM),
        ("Packing", signal.SIGINT),
    ],
)
def test_an_interrupt_leaves_no_file(brain, tmp_path, when, ending):
    command = [sys.executable, "-m", "neuro4d_lib", "forecast", str(brain), "--years", "1", "--futures", "1"]
    command += ["--output", str(tmp_path / "out"), "--progress", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if json.loads(line)["message"].startswith(when):
                process.send_signal(ending)
                break
        _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Nothing was written" in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


class TestBadModel:
    """A model folder that cannot be trusted: one message, exit code 2, nothing written."""

    @pytest.fixture
    def model(self, shipped, tmp_path):
        return shutil.copytree(shipped, tmp_path / "model")

    def check(self, brain, model, tmp_path, capsys, message):
        assert run(brain, "--model", model, "--output", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_missing(self, brain, tmp_path, capsys):
        self.check(brain, tmp_path / "nothing", tmp_path, capsys, "nothing")

    def test_incomplete(self, brain, model, tmp_path, capsys):
        next(model.glob("*.safetensors")).unlink()
        self.check(brain, model, tmp_path, capsys, str(model))

    def test_altered(self, brain, model, tmp_path, capsys):
        weights = next(model.glob("*.safetensors"))
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        self.check(brain, model, tmp_path, capsys, str(model))

    def test_a_pickle(self, brain, model, tmp_path, capsys):
        weights = next(model.glob("*.safetensors"))
        weights.rename(weights.with_suffix(".pt"))
        self.check(brain, model, tmp_path, capsys, str(model))


@pytest.mark.parametrize("years", [["0"], ["-1"], ["2", "1"], ["99"]])
def test_years_outside_the_models_range_are_refused_with_the_range(brain, tmp_path, capsys, years):
    assert run(brain, "--years", *years, "--output", tmp_path / "out") == 2
    assert "for this model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_scan_that_is_no_brain_is_not_forecast_from(tmp_path, capsys):
    places = np.indices((80, 90, 80)) - np.reshape([40, 45, 40], (3, 1, 1, 1))
    ball = np.where(np.square(places).sum(axis=0) < 35**2, np.random.default_rng(0).integers(300, 900, (80, 90, 80)), 0)
    nibabel.save(nibabel.Nifti1Image(ball.astype(np.int16), np.diag([2, 2, 2, 1.0])), tmp_path / "ball.nii.gz")
    assert run(tmp_path / "ball.nii.gz", "--output", tmp_path / "out") == 2
    assert "could not be matched" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
