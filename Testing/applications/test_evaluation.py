"""Evaluating a study: rows from forecasts whose errors are known, and the way through a data set with bad people in it."""

import csv
import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from neuro4d_lib import cli
from neuro4d_lib.applications import baselines, evaluation, evaluation_scores
from neuro4d_lib.applications.evaluation import evaluate_study
from neuro4d_lib.applications.evaluation_baselines import measured_people, study_predictions
from neuro4d_lib.applications.evaluation_scores import horizon_bin, past_of, score_study
from neuro4d_lib.applications.evaluation_subject import Networks, Settings
from neuro4d_lib.applications.known_truth_scores import SCORED
from neuro4d_lib.applications.line_law import Prediction
from neuro4d_lib.applications.score_table import ALL, read_scores, select
from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.errors import InputError

SETTINGS = Settings(None, futures=8, seed=0, steps=None, scans=None, device="cpu")
REGIONS = len(SCORED)


def group_rate(past, years, target="change"):
    """-1 % a year with an SD of 1 %."""
    mean = -0.01 * years[:, :, None] * np.ones(REGIONS)
    return Prediction(mean, np.full_like(mean, 0.01))


def extrapolation(past, years, target="change"):
    mean = -0.02 * years[:, :, None] * np.ones(REGIONS)
    return Prediction(np.where((past.years < 0).any(axis=1)[:, None, None], mean, np.nan))


FITTED = {"group_rate": group_rate, "registration_extrapolation": extrapolation}


def case(rng, scans=1, years=2.0, diagnosis="AD", true=-0.04, offset=0.01, futures=8, features=None):
    """Futures around the truth + `offset`; the follow-up scan shows 1 % less change than is true."""
    draws = true + offset + 0.01 * rng.normal(size=(futures, REGIONS))
    return {
        "scans": scans,
        "session": "ses-02",
        "years": years,
        "age": 75.0,
        "diagnosis": diagnosis,
        "past_years": [-1.0] * (scans - 1) + [0.0],
        "past": [[0.0] * REGIONS] * scans,
        "brain_share": [0.1] * REGIONS,
        "futures": draws.tolist(),
        "measured": [true + 0.01] * REGIONS,
        "true": [true] * REGIONS,
        "true_power": 4.0,
        "images": {
            "model": {"ssim": 0.9, "psnr": 25.0, "predicted_power": 1.0, "product": 1.5},
            "copy_last": {"ssim": 0.8, "psnr": 24.0, "predicted_power": 0.0, "product": 0.0},
        },
        "features": features or {},
        "feature_network": "net",
    }


def consistency(scans=1, years=2.0, folds=0):
    return {"scans": scans, "diagnosis": "AD", "years": years, "fold_failures": folds, "semigroup_mean_mm": 0.02,
            "wrong_sign": 0.25, "adjacent_change_ratio": None}  # fmt: skip


def people(rng, count=30, **changes):
    return [
        {"subject": f"sub-{i:02d}", "cases": [case(rng, **changes)], "forecasts": [consistency()]} for i in range(count)
    ]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def value(rows, metric, method="model", region="hippocampus", years=2.0, diagnosis=ALL, scans=None):
    (row,) = select(
        rows, metric=metric, method=method, region=region, horizon_years=years, diagnosis=diagnosis, scans=scans
    )
    return row.value


class TestScores:
    def test_errors_against_the_scan_and_against_the_truth(self, rng):
        rows = score_study(people(rng, offset=0.01, futures=400), FITTED)
        # The model says -3 %, the scan shows -3 %, the truth is -4 %.
        assert value(rows, "volume_error_percent") == pytest.approx(0, abs=0.05)
        assert value(rows, "true_volume_error_percent") == pytest.approx(
            100 * (np.exp(-0.03) - np.exp(-0.04)), abs=0.05
        )
        assert value(rows, "true_rate_error_percent_per_year") == pytest.approx(0.5, abs=0.03)
        own = value(rows, "true_volume_error_percent")
        assert value(rows, "true_volume_error_percent_of_brain") == pytest.approx(own / 10, rel=1e-4)
        assert value(rows, "true_change_skill_score") == pytest.approx(1 - 1 / 16, abs=0.01)
        assert value(rows, "volume_error_percent", "group_rate") == pytest.approx(100 * (np.exp(-0.02) - np.exp(-0.03)))

    def test_the_study_forecasts_its_people_by_the_others(self, rng):
        """People who lose 3 % a year, one of them 30 %: nobody's forecast knows that one but those of others."""
        found = []
        for i in range(40):
            rate = -0.3 if i == 7 else -0.03 + 0.005 * rng.normal()
            level = 0.1 * rng.normal(size=REGIONS)
            first = {**case(rng, years=1.0), "past": [level.tolist()], "true": None}
            for years in (1.0, 2.0):
                measured = rate * years + 0.002 * rng.normal(size=REGIONS)
                found.append({**first, "subject": f"sub-{i:02d}", "years": years, "measured": measured.tolist()})
        people, names = measured_people(found)
        assert names[7] == "sub-07" and people.years.shape == (40, 3)
        years = np.array([[one["years"]] for one in found])
        predicted = study_predictions(found, past_of(found), years, ["group_rate"])["study_group_rate"].mean
        assert predicted[14] == pytest.approx(np.full((1, REGIONS), -0.03), abs=0.004)
        others = baselines.fit("group_rate", people.only(np.arange(40) % 5 != 2))
        assert predicted[14:15] == pytest.approx(others(past_of(found).only(np.array([14])), years[14:15]).mean)
        with pytest.raises(InputError, match="Too few people with three or more visits"):
            study_predictions(found[:20], past_of(found[:20]), years[:20])

    def test_its_forecasters_stand_beside_the_others(self, rng, monkeypatch):
        known = Prediction(np.full((30, 1, REGIONS), -0.03), np.full((30, 1, REGIONS), 0.01))
        monkeypatch.setattr(evaluation_scores, "study_predictions", lambda *_: {"study_group_rate": known})
        rows = score_study(people(rng), FITTED)
        assert value(rows, "volume_error_percent", "study_group_rate") == pytest.approx(0, abs=1e-9)
        assert value(rows, "true_change_skill_score", "study_group_rate") == pytest.approx(1 - 1 / 16)

    def test_segmentations_that_came_with_the_data(self, rng):
        found = people(rng, 12)
        for i, person in enumerate(found):  # half of them have the regions in another order, and one more
            names = ["a", "b"] if i % 2 else ["b", "a", "c"]
            true = {"a": -0.1, "b": 0.2, "c": 0.0}
            person["cases"][0]["labels"] = {
                "names": names, "true": [true[n] for n in names], "personal_slope": None, "brain_share": [0.5] * len(names),
                "futures": [[true[n] / 2 + e for n in names] for e in (-0.01, 0.01)],
                "others": {"group_rate": [true[n] for n in names]},
            }  # fmt: skip
        rows = score_study(found, FITTED)
        assert value(rows, "own_change_skill_score", region="a") == pytest.approx(0.75)
        assert value(rows, "own_change_skill_score", "group_rate", "b") == pytest.approx(1)
        assert value(rows, "own_volume_error_percent", "copy_last", "b") == pytest.approx(100 * (np.exp(0.2) - 1))
        own = value(rows, "own_volume_error_percent", region="a")
        assert value(rows, "own_volume_error_percent_of_brain", region="a") == pytest.approx(own / 2)
        assert {row.n for row in select(rows, metric="own_crps", region="c")} == {6}
        assert not select(rows, metric="own_crps", method="personal_slope")

    def test_voxels(self, rng):
        rows = score_study(people(rng), FITTED)
        # sum d_true^2 = 4, d_pred^2 = 1, product 1.5: skill 1 - (4 + 1 - 3) / 4
        assert value(rows, "image_change_skill_score", region="brain") == pytest.approx(0.5)
        assert value(rows, "image_change_skill_score", "copy_last", "brain") == 0
        r, m = (value(rows, f"image_{name}", region="brain") for name in ("pattern_correlation", "amplitude_ratio"))
        assert (r, m) == (pytest.approx(0.75), pytest.approx(0.5))
        assert value(rows, "ssim", region="brain") == pytest.approx(0.9)
        assert value(rows, "ssim", "copy_last", "brain") == pytest.approx(0.8)

    def test_folds_and_consistency(self, rng):
        found = people(rng, 4)
        found[0]["forecasts"][0]["fold_failures"] = 2
        rows = score_study(found, FITTED)
        assert value(rows, "fold_failures", region="brain") == 0.5
        assert value(rows, "semigroup_error_mm", region="brain") == pytest.approx(0.02)
        assert not select(rows, metric="adjacent_change_ratio")

    def test_horizons_are_binned_and_scans_kept_apart(self, rng):
        assert [horizon_bin(years) for years in (0.3, 1.4, 1.6, 2.4, 3.9, 4.1, 9)] == [0, 0, 1, 1, 2, 3, 3]
        found = people(rng, 6)
        for person in found:
            person["cases"] += [case(rng, scans=2, years=0.8), case(rng, scans=2, years=5.2)]
        rows = score_study(found, FITTED)
        horizons = select(rows, metric="ssim", method="model", diagnosis=ALL, scans=2)
        assert [row.horizon_years for row in horizons] == [1.0, 5.0]
        assert {row.n for row in horizons} == {6}
        # With one scan there is nothing to extrapolate.
        assert {row.scans for row in select(rows, method="registration_extrapolation")} == {2, None}

    def test_one_number_of_scans_is_not_told_twice(self, rng):
        assert {row.scans for row in score_study(people(rng, 3), FITTED)} == {None}

    def test_regions_that_a_scan_lacks_do_not_count(self, rng):
        found = people(rng, 5)
        for person in found[:2]:
            person["cases"][0]["futures"] = [[None, *row[1:]] for row in person["cases"][0]["futures"]]
        rows = score_study(found, FITTED)
        (one,) = select(rows, metric="crps", method="model", region=SCORED[0])[:1]
        (other,) = select(rows, metric="crps", method="model", region=SCORED[1])[:1]
        assert (one.n, other.n) == (3, 5)

    def test_without_truth_there_are_no_true_rows(self, rng):
        found = people(rng, 3)
        for person in found:
            person["cases"][0]["true"] = None
        assert not [row for row in score_study(found, FITTED) if row.metric.startswith("true_")]

    def test_unknown_diagnosis_has_rows_of_its_own(self, rng):
        rows = score_study(people(rng, 3, diagnosis=None), FITTED)
        assert {row.diagnosis for row in rows if row.metric == "ssim"} == {"unknown", ALL}

    def test_fid_and_kid_of_sets_that_are_alike_and_that_are_not(self, rng):
        pytest.importorskip("monai")
        found = people(rng, 60)
        for person in found:
            real = rng.normal(size=12)
            person["cases"][0]["features"] = {
                "real": real.tolist(), "model": (real + 1e-3).tolist(), "copy_last": (real + 2).tolist()
            }  # fmt: skip
        rows = select(score_study(found, FITTED), region="brain", horizon_years=None)
        at = {(row.metric, row.method): row.value for row in rows}
        assert abs(at["fid_net", "model"]) < 0.01 < 40 < at["fid_net", "copy_last"]
        assert at["kid_net", "model"] < 0.05 < at["kid_net", "copy_last"]


class FakeModel:
    sha256 = "a" * 64
    card = {"name": "fake", "version": "1", "ranges": {"years": [0.25, 10]}}  # noqa: RUF012
    reference = None


@pytest.fixture
def study(tmp_path, monkeypatch, rng):
    """Three people on disk, and an evaluation of each that is a stand-in: it notes who was asked for."""
    folder = tmp_path / "bids"
    for name, times in (("sub-01", (0, 400)), ("sub-02", (0, 800)), ("sub-03", (0,)), ("sub-04", (0, 500))):
        lines = ["session_id\tdays_since_first"]
        for i, time in enumerate(times, start=1):
            anat = folder / name / f"ses-{i:02d}" / "anat"
            anat.mkdir(parents=True)
            image = nib.Nifti1Image(rng.integers(0, 1000, (4, 4, 4), np.int16), np.eye(4))
            nib.save(image, anat / f"{name}_ses-{i:02d}_T1w.nii.gz")
            lines.append(f"ses-{i:02d}\t{time}")
        (folder / name / f"{name}_sessions.tsv").write_text("\n".join(lines) + "\n")
    asked = []

    def evaluate(folder, subject, model, settings, networks, progress):
        asked.append(subject.id)
        if subject.id == "sub-04":
            raise InputError("The scan could not be matched with the reference brain.")
        return {"subject": subject.id, "cases": [case(rng)], "forecasts": [consistency()]}

    monkeypatch.setattr(evaluation, "load_model", lambda folder, device: FakeModel())
    monkeypatch.setattr(evaluation, "evaluate_subject", evaluate)
    monkeypatch.setattr(evaluation, "_score", lambda found, model, progress: score_study(found, FITTED))
    return SimpleNamespace(folder=folder, output=tmp_path / "out", asked=asked)


@pytest.mark.usefixtures("study")
class TestStudy:
    def test_writes_table_page_figures_and_who_was_left_out(self, study):
        pytest.importorskip("matplotlib")
        outcome = evaluate_study(study.folder, study.output, SETTINGS, Networks())
        assert outcome.evaluated == ("sub-01", "sub-02")
        assert value(read_scores(study.output / "scores.csv"), "ssim", region="brain") == pytest.approx(0.9)
        assert (study.output / "scores.png").read_bytes().startswith(b"\x89PNG")
        page = (study.output / "scores.md").read_text()
        assert "## Not evaluated: 2 of 4 people" in page
        assert "- sub-03: only one visit with a T1w scan; expected at least 2." in page
        with (study.output / "subjects.csv").open() as file:
            rows = {row["subject"]: row for row in csv.DictReader(file)}
        assert [row["evaluated"] for row in rows.values()] == ["yes", "yes", "no", "no"]
        assert rows["sub-04"]["reason"] == "The scan could not be matched with the reference brain"

    def test_goes_on_where_it_was_ended(self, study, monkeypatch):
        evaluate = evaluation.evaluate_subject

        def ended(folder, subject, *rest):
            if subject.id == "sub-02":
                raise KeyboardInterrupt
            return evaluate(folder, subject, *rest)

        monkeypatch.setattr(evaluation, "evaluate_subject", ended)
        with pytest.raises(KeyboardInterrupt):
            evaluate_study(study.folder, study.output, SETTINGS, Networks())
        monkeypatch.setattr(evaluation, "evaluate_subject", evaluate)
        evaluate_study(study.folder, study.output, SETTINGS, Networks())
        assert study.asked == ["sub-01", "sub-02", "sub-04"]
        assert len(json.loads((study.output / "subjects" / "sub-01.json").read_text())["cases"]) == 1

    def test_refuses_to_go_on_with_other_settings(self, study):
        evaluate_study(study.folder, study.output, SETTINGS, Networks())
        before = (study.output / "scores.csv").read_bytes()
        other = Settings(None, futures=9, seed=0, steps=None, scans=None, device="cpu")
        with pytest.raises(InputError, match="another number of futures: 8, now 9"):
            evaluate_study(study.folder, study.output, other, Networks())
        assert (study.output / "scores.csv").read_bytes() == before

    def test_refuses_a_folder_of_something_else(self, study):
        study.output.mkdir()
        (study.output / "thesis.doc").write_text("x")
        with pytest.raises(InputError, match="holds files of something else"):
            evaluate_study(study.folder, study.output, SETTINGS, Networks())


class TestCommandLine:
    def run(self, study, *arguments):
        for package in ("monai", "statsmodels", "scipy", "matplotlib"):
            pytest.importorskip(package)
        options = ["--output", study.output, "--progress", "none", "--device", "cpu", *arguments]
        return cli.main(["evaluate", str(study.folder), *map(str, options)])

    def test_says_who_was_evaluated(self, study, capsys):
        assert self.run(study, "--futures", 8) == 0
        out = capsys.readouterr().out
        assert "Evaluated 2 people." in out and "Not evaluated: sub-03: only one visit" in out

    @pytest.mark.parametrize("wanted", ["sub-03", "sub-04"])
    def test_nobody_usable_is_exit_code_2_and_one_sentence(self, study, capsys, wanted):
        assert self.run(study, "--subjects", wanted) == 2
        error = capsys.readouterr().err
        assert error.startswith("Error: Nobody in ") and f"({wanted}: " in error and "Traceback" not in error

    def test_people_whom_a_run_kept_for_testing(self, study, capsys, tmp_path):
        run = tmp_path / "run"
        assert self.run(study, "--subjects-from", run) == 2
        assert "holds no split.json" in capsys.readouterr().err
        run.mkdir()
        split = {"train": ["sub-01"], "validation": ["sub-02"], "test": ["sub-03"]}
        (run / "split.json").write_text(json.dumps(split), encoding="utf-8")
        assert self.run(study, "--subjects-from", run, "--model", SHIPPED) == 2
        assert "(sub-03: " in capsys.readouterr().err  # who has one visit, and nobody else was asked for

    def test_an_interrupted_run_says_what_it_keeps(self, study, capsys, monkeypatch):
        def ended(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(evaluation, "evaluate_subject", ended)
        assert self.run(study) == 130
        assert "keeps the people who are finished; the same command goes on" in capsys.readouterr().err

    def test_no_study(self, study, capsys):
        study.folder = study.folder / "nowhere"
        assert self.run(study) == 2
        assert "There is no folder" in capsys.readouterr().err

    def test_weights_that_are_not_there(self, study, capsys):
        assert self.run(study, "--feature-weights", study.folder / "gone.safetensors") == 2
        assert "There is no weights file" in capsys.readouterr().err
