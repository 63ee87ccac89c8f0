import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.data.records import Covariates
from neuro4d_lib.devices import checked_device
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import inputs

RANGES = {"age": [40, 95], "years": [0.25, 10], "past_years": [-6, -0.25], "diagnosis": ["CN", "MCI", "AD"]}


class TestYears:
    def test_within_the_models_range_are_taken(self):
        assert inputs.checked_years([0.25, 1, 10], RANGES) == (0.25, 1.0, 10.0)

    @pytest.mark.parametrize(
        ("years", "found"),
        [
            ([], "No years"),
            ([0], "contain 0"),
            ([-1, 2], "contain -1"),
            ([float("nan")], "contain nan"),
            ([float("inf")], "contain inf"),
            ([1, 11], "contain 11"),
            ([0.1], "contain 0.1"),
            ([2, 1], "2 1 are not ascending"),
            ([1, 1], "1 1 are not ascending"),
        ],
    )
    def test_others_are_refused_with_the_range(self, years, found):
        with pytest.raises(InputError, match=found) as refusal:
            inputs.checked_years(years, RANGES)
        assert "0.25 to 10" in str(refusal.value)


class TestDevice:
    def test_auto_is_what_there_is(self):
        assert checked_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    def test_cuda_that_is_missing_is_said(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(InputError, match="no CUDA GPU"):
            checked_device("cuda")

    def test_unknown_names_are_refused(self):
        with pytest.raises(InputError, match="expected auto, cpu or cuda"):
            checked_device("gpu")


@pytest.mark.parametrize("count", [0, -1, 1001, 2.5, True])
def test_a_number_of_futures_that_is_none_is_refused(count):
    with pytest.raises(InputError, match="futures"):
        inputs.checked_count("futures", count, 1, inputs.MOST_FUTURES)


class TestPast:
    @pytest.fixture
    def earlier(self, scan):
        return dataclasses.replace(scan, array=scan.array + 1, path="earlier.nii.gz")

    def test_is_put_in_order_of_time(self, scan, earlier):
        third = dataclasses.replace(scan, array=scan.array + 2)
        assert [years for _, years in inputs.checked_past([(earlier, -1), (third, -3.5)], scan)] == [-3.5, -1]

    @pytest.mark.parametrize("years", [0, 1.5, float("nan")])
    def test_after_the_scan_is_refused(self, scan, earlier, years):
        with pytest.raises(InputError, match=r"earlier\.nii\.gz.*negative"):
            inputs.checked_past([(earlier, years)], scan)

    def test_twice_at_one_time_is_refused(self, scan, earlier):
        with pytest.raises(InputError, match="Two past scans"):
            inputs.checked_past([(earlier, -1), (earlier, -1)], scan)

    def test_that_is_the_scan_itself_is_refused(self, scan):
        with pytest.raises(InputError, match="same image as the scan"):
            inputs.checked_past([(scan, -1)], scan)


class TestSegmentation:
    def test_on_the_scans_voxels_is_taken(self, scan, aligned):
        labels = dataclasses.replace(scan, array=aligned.labels)
        assert inputs.checked_segmentation(labels, scan) is labels
        assert inputs.checked_segmentation(None, scan) is None

    def test_of_another_shape_is_refused(self, scan, aligned):
        with pytest.raises(InputError, match=r"52 x 60 x 53 voxels, the scan has 52 x 60 x 54"):
            inputs.checked_segmentation(dataclasses.replace(scan, array=aligned.labels[..., 1:]), scan)

    def test_beside_the_scan_is_refused(self, scan):
        shifted = scan.affine.copy()
        shifted[0, 3] += 1.5
        with pytest.raises(InputError, match=r"1\.50 mm beside the scan"):
            inputs.checked_segmentation(dataclasses.replace(scan, affine=shifted), scan)

    def test_turned_about_the_first_voxel_is_refused(self, scan):
        turned = scan.affine.copy()
        turned[:3, :3] = turned[:3, :3] @ np.array([[1, 0.01, 0], [-0.01, 1, 0], [0, 0, 1]])
        with pytest.raises(InputError, match="beside the scan"):
            inputs.checked_segmentation(dataclasses.replace(scan, affine=turned), scan)


class TestOutsideRanges:
    def test_says_nothing_of_what_the_model_knows_or_nobody_knows(self, scan):
        assert inputs.outside_ranges(Covariates(age=70, diagnosis="AD"), [(scan, -2.0)], RANGES) == []
        assert inputs.outside_ranges(Covariates(), [], RANGES) == []

    def test_names_each_thing_that_is_new_to_the_model(self, scan):
        warnings = inputs.outside_ranges(Covariates(age=30, diagnosis="MS"), [(scan, -9.0)], RANGES)
        assert len(warnings) == 3
        assert "age 30 is outside the 40 to 95" in warnings[0]
        assert "diagnosis MS is new" in warnings[1]
        assert "head.nii.gz at -9 years" in warnings[2]


@pytest.mark.parametrize("seed", [2**62, -(2**70), 1.5])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(InputError, match="The seed is"):
        inputs.checked_seed(seed)


def test_years_of_the_same_day_are_refused():
    with pytest.raises(InputError, match=r"closer than 0\.01"):
        inputs.checked_years([1, 1.0000001], {"years": [0.25, 10]})


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="1 GPUs"):
        checked_device("cuda:7")
    with pytest.raises(InputError, match="'cudaX'"):
        checked_device("cudaX")


def test_a_past_scan_of_the_same_week_is_refused(scan):
    earlier = dataclasses.replace(scan, array=scan.array + 1)
    with pytest.raises(InputError, match=r"expected -0\.05 or earlier"):
        inputs.checked_past([(earlier, -0.0001)], scan)
