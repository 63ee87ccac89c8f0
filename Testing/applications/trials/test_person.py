"""One person in every arm, with the forecaster's own parts replaced: what it computes is tested with them."""

import csv

import nibabel
import numpy as np
import pytest

from neuro4d_lib import cli
from neuro4d_lib.applications.trials import person
from neuro4d_lib.applications.trials.design import Arm, Biomarker, TrialDesign
from neuro4d_lib.applications.trials.person import treat_person, treatment_of
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import silent


def design(*arms, **settings):
    return TrialDesign(arms=(Arm(name="Placebo"), *arms), visits_years=(0.0, 0.5, 1.0), **settings)


class Drawn:
    """A forecast of 3 futures whose hippocampus loses 2, 4 and 6 % a year, times a factor."""

    years = (0.5, 1.0)

    class scan:
        affine = np.eye(4)

    def __init__(self, factor):
        self.factor = factor
        change = -factor * np.array([2.0, 4, 6])[:, None, None] * np.array(self.years)[:, None]

        class volumes:
            names, years, baseline_mm3 = ("hippocampus",), self.years, np.array([6000.0])
            futures_mm3 = 6000 * (1 + change / 100)

        self.volumes = volumes

    def volume_change_percent(self, time):
        return np.full((2, 3, 4), -4 * self.factor * self.years[time])

    def save(self, folder, **_):
        folder.mkdir()
        (folder / "report.html").write_text(f"{self.factor}", encoding="utf-8")


@pytest.fixture
def drawn(monkeypatch):
    asked = []

    def forecast(scan, years, progress, **options):
        asked.append((scan, years, options))
        return Drawn(1.0)

    monkeypatch.setattr(person, "forecast", forecast)
    monkeypatch.setattr(person, "treated", lambda base, treatment, *_: Drawn(1 - treatment.slowing["hippocampus"]))
    return asked


class TestTreatPerson:
    def test_one_forecast_for_every_arm_and_their_differences(self, drawn, tmp_path):
        arms = Arm(name="Drug A", slowing={"hippocampus": 0.5}), Arm(name="Drug B", slowing={"hippocampus": -0.5})
        written = treat_person(design(*arms), "scan.nii", tmp_path / "out", silent, futures=3)
        assert drawn == [("scan.nii", (0.5, 1.0), {"futures": 3})]
        assert set(written) == {
            "placebo", "drug_a", "drug_b", "drug_a_difference.nii.gz", "drug_b_difference.nii.gz", "differences.csv"
        }  # fmt: skip
        assert {entry.name for entry in (tmp_path / "out").iterdir()} == set(written)
        rows = list(csv.DictReader((tmp_path / "out" / "differences.csv").read_text(encoding="utf-8").splitlines()))
        last = rows[1]
        assert (last["arm"], last["region"], float(last["years"])) == ("Drug A", "hippocampus", 1.0)
        assert float(last["untreated_percent"]) == -4 and float(last["treated_percent"]) == -2
        assert float(last["difference_percent"]) == pytest.approx(2)
        assert 1 < float(last["difference_low_90"]) < 1.2 and 2.8 < float(last["difference_high_90"]) < 3
        change = nibabel.load(tmp_path / "out" / "drug_b_difference.nii.gz").get_fdata()
        assert change.shape == (2, 3, 4, 2)
        np.testing.assert_allclose(change[..., 1], -2)

    def test_by_the_command(self, drawn, tmp_path, capsys):
        path = tmp_path / "design.toml"
        path.write_text(
            'seed = 7\n[[arms]]\nname = "placebo"\n[[arms]]\nname = "drug"\nslowing = { hippocampus = 0.5 }\n',
            encoding="utf-8",
        )
        arguments = ["--person", "scan.nii", "--age", "74", "--futures", "3", "--progress", "none"]
        assert cli.main(["trial", str(path), "--output", str(tmp_path / "out"), *arguments]) == 0
        ((scan, years, options),) = drawn
        assert (scan, years) == ("scan.nii", (0.5, 1.0, 1.5))
        assert options["covariates"] == Covariates(age=74) and options["seed"] == 7 and options["futures"] == 3
        assert "hypothetical treatment" in capsys.readouterr().out
        assert (tmp_path / "out" / "differences.csv").exists()

    def test_nothing_is_left_of_what_fails(self, drawn, tmp_path, monkeypatch):
        def fail(*_):
            raise InputError("No.")

        monkeypatch.setattr(person, "treated", fail)
        with pytest.raises(InputError):
            treat_person(design(Arm(name="Drug", slowing={"hippocampus": 0.5})), "scan.nii", tmp_path / "out", silent)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_there_is_left_alone(self, drawn, tmp_path):
        with pytest.raises(InputError, match="is there already"):
            treat_person(design(Arm(name="Drug")), "scan.nii", tmp_path, silent)
        assert drawn == []


def test_of_an_arm_only_what_regions_get_is_taken():
    arm = Arm(name="Drug", slowing={"hippocampus": 0.2, "mine": 0.4}, onset_years=0.5, added_ml={"caudate": 0.1})
    planned = design(arm, biomarkers={"mine": Biomarker(mean_percent_per_year=-1.0, sd_percent_per_year=1.0)})
    treatment = treatment_of(arm, planned)
    assert treatment.slowing == {"hippocampus": 0.2} and treatment.onset_years == 0.5
    assert treatment.added_ml == {"caudate": 0.1} and treatment_of(planned.arms[0], planned) is None
    with pytest.raises(SettingError, match="only proportional"):
        treatment_of(Arm(name="Drug", slowing={"hippocampus": 0.2}, effect="shift"), planned)
