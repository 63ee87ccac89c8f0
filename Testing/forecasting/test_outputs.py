import csv
import dataclasses
import json
import os
import re
import shutil
import sys
import threading
from collections import namedtuple
from time import sleep

import nibabel
import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.frames import Frames
from neuro4d_lib.forecasting.native_grid import displacement_ras_mm
from neuro4d_lib.geometry.grids import sample
from neuro4d_lib.geometry.spaces import Grid, voxel_to_voxel

FILES = {
    "also_flair.nii.gz",
    "forecast.json",
    "forecast.nii.gz",
    "forecast.png",
    "forecast.seq.nrrd",
    "report.html",
    "segmentation.nii.gz",
    "volume_change.nii.gz",
    "volume_change_spread.nii.gz",
    "volumes.csv",
}


@pytest.fixture(scope="module")
def folder(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs") / "out"
    example.save(folder, displacement=True, each_future=True)
    return folder


def stored(path):
    return np.asarray(nibabel.load(path).dataobj.get_unscaled())


class TestImages:
    def test_frame_0_is_the_scan_bit_for_bit_and_the_others_are_the_forecast(self, folder, example, scan):
        frames = stored(folder / "forecast.nii.gz")
        assert frames.dtype == scan.array.dtype and frames.shape == (*scan.array.shape, 3)
        assert frames[..., 0].tobytes() == np.ascontiguousarray(scan.array).tobytes()
        for year in range(2):
            np.testing.assert_array_equal(frames[..., year + 1], example.image(year))
        np.testing.assert_allclose(nibabel.load(folder / "forecast.nii.gz").affine, scan.affine, atol=1e-5)

    def test_volume_change_is_in_percent_of_the_scan_to_a_thousandth(self, folder, example):
        change = stored(folder / "volume_change.nii.gz")
        assert change.dtype == np.float32
        for year in range(2):
            np.testing.assert_allclose(change[..., year], example.volume_change_percent(year), atol=1e-3)
        assert stored(folder / "volume_change_spread.nii.gz").min() >= 0

    def test_the_segmentation_and_the_other_modality_ride_along_on_their_own_voxels(self, folder, example, stained):
        segmentation = stored(folder / "segmentation.nii.gz")
        np.testing.assert_array_equal(segmentation[..., 0], example.inputs.segmentation.array)
        np.testing.assert_array_equal(segmentation[..., 2], example.segmentation(1))
        flair, image = stored(folder / "also_flair.nii.gz"), example.inputs.also[0]
        assert flair.shape == (*image.array.shape, 3) and flair.dtype == np.float32
        np.testing.assert_array_equal(flair[..., 0], image.array)
        # It is a stain, of which there is less as the tissue under it shrinks.
        left = 1 + (stained * example.volume_change_percent(1)).sum() / stained.sum() / 100
        assert left < 0.92
        assert flair[..., 2].sum() / flair[..., 0].sum() == pytest.approx(left, abs=0.005)

    def test_each_future_is_written_on_request(self, folder, example):
        np.testing.assert_array_equal(stored(folder / "future_2.nii.gz")[..., 2], example.image(1, future=1))

    def test_displacement_fields_are_the_map_in_ras_mm(self, folder, example, scan):
        field = nibabel.load(folder / "displacement_4y.nii.gz")
        assert field.shape[3:] == (1, 3) and field.header["intent_code"] == 1006
        np.testing.assert_allclose(nibabel.affines.voxel_sizes(field.affine), 2.625, atol=1e-5)
        grid = Grid(field.shape[:3], field.affine)
        truth_mm = displacement_ras_mm(grid, example.displacement_vox(example.flow(1), grid))[0]
        np.testing.assert_allclose(np.moveaxis(field.dataobj[..., 0, :], -1, 0), truth_mm, atol=1e-4)

    def test_between_its_points_a_displacement_field_is_read_as_the_map_that_made_the_frames(
        self, folder, example, scan
    ):
        """Linearly, as 3D Slicer reads a grid transform at worst, at every voxel of the scan."""
        field = nibabel.load(folder / "displacement_4y.nii.gz")
        moved_mm = torch.tensor(np.moveaxis(field.dataobj[..., 0, :], -1, 0).copy())[None]
        way = voxel_to_voxel(scan.grid, Grid(field.shape[:3], field.affine))
        places = np.tensordot(way[:3, :3], np.indices(scan.array.shape), 1) + way[:3, 3].reshape(3, 1, 1, 1)
        last = np.reshape(field.shape[:3], (3, 1, 1, 1)) - 1
        assert places.min() > -1e-4 and (places - last).max() < 1e-4  # no voxel lies outside, where nothing would move
        read_mm = sample(moved_mm, torch.as_tensor(places, dtype=torch.float32)[None])
        truth_mm = displacement_ras_mm(scan.grid, example.displacement_vox(example.flow(1)))
        error_mm = (read_mm - truth_mm)[0].square().sum(dim=0).sqrt()
        assert truth_mm.square().sum(dim=1).sqrt().max() > 1
        assert error_mm.max() < 0.12 and error_mm.mean() < 0.005


class TestTables:
    def test_volumes_have_a_row_per_region_and_year(self, folder, example):
        with (folder / "volumes.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 2 * len(example.volumes.names)
        row = next(row for row in rows if row["region"] == "hippocampus" and row["year"] == "4.0")
        order = ["low_95", "low_90", "low_80", "low_50", "median", "high_50", "high_80", "high_90", "high_95"]
        values = [float(row[f"{name}_mm3"]) for name in order]
        assert values == sorted(values)
        assert float(row["median_mm3"]) < float(row["copy_last_mm3"]) == float(row["baseline_mm3"])

    def test_the_record_has_what_is_needed_to_trust_and_repeat_it(self, folder, example, scan):
        record = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
        assert record["schema_version"] == 1
        assert record["years"] == [1, 4] and record["frame_years"] == [0, 1, 4]
        assert (record["futures"], record["seed"], record["network_calls"]) == (3, 0, 20)
        assert record["model"] == {"name": "known", "version": "1", "sha256": "0" * 64}
        assert record["fold_certificate"]["voxels"] == example.folds.voxels
        assert (record["fold_certificate"]["determinants_per_voxel"], record["fold_certificate"]["failed"]) == (10, 0)
        assert record["registration"] == {"correlation": 0.95, "past": []}
        assert record["seconds"] > 0 and record["covariates"]["diagnosis"] == "AD"
        assert record["peak_memory_bytes"] > 50_000_000 or sys.platform == "win32"
        assert "Research use only" in record["notice"] and "Simulated" in record["training_data"]
        assert set(record["outputs"]) == {path.name for path in folder.iterdir()}
        assert record["inputs"]["scan"]["shape"] == list(scan.array.shape)
        assert len(record["inputs"]["scan"]["sha256"]) == 64
        assert record["inputs"]["also"][0]["file"] == "flair.nii.gz"  # a path may name a person

    def test_the_files_are_hashed_where_there_are_files(self, example, tmp_path):
        import hashlib

        (tmp_path / "scan.nii.gz").write_bytes(b"voxels")
        given = dataclasses.replace(
            example.inputs, scan=dataclasses.replace(example.scan, path=str(tmp_path / "scan.nii.gz")), also=()
        )
        dataclasses.replace(example, inputs=given).save(tmp_path / "out")
        record = json.loads((tmp_path / "out" / "forecast.json").read_text(encoding="utf-8"))
        assert record["inputs"]["scan"]["sha256"] == hashlib.sha256(b"voxels").hexdigest()


class TestReport:
    def test_needs_no_other_file_and_says_what_it_is_for(self, folder):
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"""(src|href)=['"](?!data:)""", page) and "http" not in page
        assert "Research use only" in page and "Simulated people." in page
        assert "$" not in page
        assert page.count("class='frame'") == 3
        assert "0 of" in page and "Hippocampus" in page and "90 % band" in page

    def test_escapes_what_comes_from_outside(self, example, tmp_path):
        dataclasses.replace(example, warnings=("<script>x</script>",)).save(tmp_path / "out")
        assert "<script>x" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_without_matplotlib_only_the_figure_is_missing_and_that_is_said(self, example, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
        example.save(tmp_path / "out")
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"forecast.png"}
        assert (
            "pip install matplotlib"
            in json.loads((tmp_path / "out" / "forecast.json").read_text(encoding="utf-8"))["warnings"][-1]
        )
        assert "pip install matplotlib" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_many_years_and_one_future_are_drawn_too(self, example, tmp_path):
        times = [0] * 6 + [1] * 6
        many = dataclasses.replace(
            example,
            years=tuple(float(year) for year in range(1, 13)),
            drawn_mm=example.drawn_mm[:1, times],
            spread_percent=example.spread_percent[times],
            volumes=dataclasses.replace(
                example.volumes,
                years=tuple(float(year) for year in range(1, 13)),
                futures_mm3=example.volumes.futures_mm3[:1, times],
                group_rate_mm3=example.volumes.group_rate_mm3[times],
            ),
        )
        many.save(tmp_path / "out")
        assert (tmp_path / "out" / "forecast.png").stat().st_size > 10_000


class TestAllOrNothing:
    def test_the_files_are_those_that_are_named(self, example, tmp_path):
        written = example.save(tmp_path / "out")
        assert set(written) == FILES == {path.name for path in (tmp_path / "out").iterdir()}

    @pytest.mark.parametrize(
        "when", ["Carrying", "Packing", "Packing the images, 2 of", "Writing future 2", "Writing tables", "Done"]
    )
    def test_an_interrupt_at_any_point_leaves_nothing(self, example, tmp_path, when):
        def interrupting(fraction, message):
            if message.startswith(when):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            example.save(tmp_path / "out", each_future=True, progress=interrupting)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_cannot_be_packed_stops_the_others_and_leaves_nothing(self, example, tmp_path, monkeypatch):
        begun = []

        def failing(*_, **__):
            raise ValueError("no such type")

        def slow(*_, **__):
            begun.append(1)
            sleep(0.2)

        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        monkeypatch.setattr(Frames, "write_sequence", failing)
        monkeypatch.setattr(Frames, "write_nifti", slow)
        with pytest.raises(ValueError, match="no such type"):
            example.save(tmp_path / "out")
        assert len(begun) <= 1  # of five, that which was taken up at the same moment
        assert list(tmp_path.iterdir()) == []

    def test_no_more_than_four_files_are_packed_at_a_time(self, example, tmp_path, monkeypatch):
        lock, running, most = threading.Lock(), [0], [0]

        def watched(*_, **__):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            sleep(0.1)
            with lock:
                running[0] -= 1

        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(Frames, "write_sequence", watched)
        monkeypatch.setattr(Frames, "write_nifti", watched)
        example.save(tmp_path / "out")
        assert most[0] == 4

    def test_every_packed_file_is_told(self, example, tmp_path):
        told = []
        example.save(tmp_path / "out", progress=lambda fraction, message: told.append((fraction, message)))
        assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
        assert [message for _, message in told if "done" in message] == [
            f"Packing the images, {count} of 6 done" for count in range(1, 7)
        ]

    def test_a_disk_that_is_too_small_is_said_before_anything_is_written(self, example, tmp_path, monkeypatch):
        usage = namedtuple("usage", "total used free")(10**9, 10**9, 5_000_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(InputError, match="this forecast may need"):
            example.save(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_the_room_that_is_asked_for_is_enough(self, example, tmp_path, monkeypatch):
        """The most that ever lies on the disk stays below what was asked for."""
        from neuro4d_lib.forecasting import outputs

        asked, most = [], [0]
        monkeypatch.setattr(outputs, "check_space", lambda folder, needed_bytes: asked.append(needed_bytes))

        def watching(fraction, message):
            most[0] = max(most[0], sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))

        example.save(tmp_path / "out", each_future=True, displacement=True, progress=watching)
        assert most[0] < asked[0]

    def test_the_earlier_forecast_stays_until_the_new_one_is_complete(self, example, tmp_path):
        example.save(tmp_path / "out")
        before = (tmp_path / "out" / "forecast.json").read_text(encoding="utf-8")
        with pytest.raises(InputError, match="--overwrite"):
            example.save(tmp_path / "out")

        def interrupting(fraction, message):
            if message.startswith("Writing tables"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            example.save(tmp_path / "out", overwrite=True, progress=interrupting)
        assert (tmp_path / "out" / "forecast.json").read_text(encoding="utf-8") == before
        dataclasses.replace(example, seed=5).save(tmp_path / "out", overwrite=True)
        assert json.loads((tmp_path / "out" / "forecast.json").read_text(encoding="utf-8"))["seed"] == 5


def test_two_modalities_of_one_name_do_not_overwrite_each_other(example, tmp_path):
    image = example.inputs.also[0]
    given = dataclasses.replace(example.inputs, also=(image, dataclasses.replace(image, path="/other/flair.nii")))
    written = dataclasses.replace(example, inputs=given).save(tmp_path / "out")
    assert {"also_flair.nii.gz", "also_flair_2.nii.gz"} < set(written)
