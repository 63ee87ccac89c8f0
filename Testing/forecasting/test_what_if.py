"""One person under other covariates: identical where they are the same, and different by what the model says."""

import json

import nibabel
import numpy as np
import pytest

from neuro4d_lib.applications.what_if import (
    checked_changes,
    difference_map,
    differences_percent,
    read_change,
    write_what_if,
)
from neuro4d_lib.cli import main
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError

MCI = Covariates(age=74, diagnosis="MCI")


class TestForecasts:
    def test_of_the_same_covariates_are_identical_voxel_for_voxel(self, own_same_other):
        own, same, _ = own_same_other
        assert np.array_equal(own.volumes.futures_mm3, same.volumes.futures_mm3)
        assert np.array_equal(own.image(0), same.image(0))
        assert not difference_map(own, same, 0).any()

    def test_of_other_covariates_differ_by_their_rates_under_the_same_noise(self, own_same_other):
        """The known model's rate is by diagnosis times a drawn factor: AD 5, MCI 3, so every pair is in that proportion."""
        own, _, other = own_same_other
        region = own.volumes.names.index("left_hippocampus")
        ratio = np.log(other.volumes.futures_mm3[:, 0, region] / own.volumes.baseline_mm3[region])
        ratio /= np.log(own.volumes.futures_mm3[:, 0, region] / own.volumes.baseline_mm3[region])
        assert np.allclose(ratio, 5 / 3, rtol=0.05)  # of logarithms of volumes within a mask, not of one place
        mean, low, high = differences_percent(own, other)
        assert (low[:, region] < mean[:, region]).all() and (mean[:, region] < 0).all() and (high >= mean).all()

    def test_paired_differences_spread_less_than_the_futures(self, own_same_other):
        own, _, other = own_same_other
        region = own.volumes.names.index("left_hippocampus")
        single = np.log(other.volumes.futures_mm3[:, 0, region]).std()
        paired = np.log(other.volumes.futures_mm3[:, 0, region] / own.volumes.futures_mm3[:, 0, region]).std()
        assert paired < 0.5 * single


class TestChanges:
    def test_are_made_on_top_of_what_is_known(self):
        assert read_change("diagnosis=ad,apoe4=2", MCI).covariates == Covariates(age=74, diagnosis="AD", apoe4=2)
        assert read_change("age=unknown", MCI).covariates == Covariates(diagnosis="MCI")

    @pytest.mark.parametrize(
        ("texts", "said"),
        [
            ([], "Nothing is changed"),
            (["apoe=2"], "not understood"),
            (["apoe4"], "not understood"),
            (["apoe4=two"], "expected a number"),
            (["apoe4=3"], "expected one of 0, 1, 2"),
            (["age=10"], "expected 18 to 100"),
            (["age=70,age=71"], "twice"),
            (["apoe4=2", "apoe4 = 2"], "the same"),
        ],
    )
    def test_say_what_is_wrong(self, texts, said):
        with pytest.raises(InputError, match=said):
            checked_changes(texts, MCI)


class TestFiles:
    def test_maps_table_and_page(self, own_same_other, tmp_path):
        own, _, other = own_same_other
        (change,) = checked_changes(["diagnosis=AD"], MCI)
        write_what_if([own, other], [change], tmp_path / "out")
        image = nibabel.load(tmp_path / "out" / "difference_diagnosis-AD.nii.gz")
        assert image.shape == (*own.scan.array.shape, 1) and np.allclose(image.affine, own.scan.affine, atol=1e-4)
        assert np.allclose(image.get_fdata()[..., 0], difference_map(own, other, 0), atol=1e-4)
        hippocampus = own.aligned.labels == own.volumes.names.index("left_hippocampus") + 1
        assert image.get_fdata()[hippocampus, 0].mean() < -0.5
        text = (tmp_path / "out" / "what_if.html").read_text(encoding="utf-8")
        assert "not advice" in text and "diagnosis=AD" in text
        assert (
            json.loads((tmp_path / "out" / "what_if.json").read_text())["changes"]["diagnosis=AD"]["diagnosis"] == "AD"
        )

    def test_bad_input_is_one_sentence_and_nothing_written(self, tmp_path, capsys):
        output = tmp_path / "out"
        assert main(["what-if", "scan.nii.gz", "--change", "apoe4=7", "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert "expected one of 0, 1, 2" in error and "Traceback" not in error and not output.exists()
