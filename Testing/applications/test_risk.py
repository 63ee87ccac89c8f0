"""Risk: thresholds, the law of one person, centiles and the next scan, against simulated people and closed forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuro4d_lib.applications.known_truth import HORIZONS, exact_posterior, simulate_cases
from neuro4d_lib.applications.known_truth_scores import changes, changes_law
from neuro4d_lib.applications.risk.assessment import assess_volumes, probability_below
from neuro4d_lib.applications.risk.calibration import reliability
from neuro4d_lib.applications.risk.centiles import centile, measured_levels
from neuro4d_lib.applications.risk.next_scan import first_time, narrowings, noise_sd
from neuro4d_lib.applications.risk.person_law import PersonLaw, Seen, nothing_seen
from neuro4d_lib.applications.risk.thresholds import check_not_crossed, checked_thresholds, read_threshold
from neuro4d_lib.applications.risk.volume_file import (
    Volumes,
    as_seen,
    baseline_of,
    read_volumes,
    reference_mm3,
    weights_of,
)
from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.cli import main
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError

REGIONS = ("hippocampus", "lateral_ventricle", "whole_brain")
POPULATION = Population()


@pytest.fixture(scope="module")
def reference():
    return Reference.load(SHIPPED)


@pytest.fixture(scope="module")
def weights(reference):
    return weights_of(REGIONS, reference)


@pytest.fixture(scope="module")
def cases():
    return simulate_cases(POPULATION, 3000, 2, torch.Generator().manual_seed(3))


def person(cases, i, weights=None):
    """Person i, measured region by region or in the sums of `weights`."""
    if weights is None:
        weights = torch.eye(len(DRIVEN)).double()
    return Seen(weights, weights @ cases.seen_state[i], cases.past[i], cases.seen[i] @ weights.T, head_known=True)


class TestThresholds:
    @pytest.mark.parametrize(
        ("text", "kind", "value", "below"),
        [
            ("hippocampus < -10%", "change", -10, True),
            ("lateral ventricle > 50 ml", "volume", 50_000, False),
            ("left_hippocampus<3100 mm3", "volume", 3100, True),
            ("whole_brain < -1.5 %/year", "rate", -1.5, True),
            ("cortex < -1 % per year", "rate", -1, True),
        ],
    )
    def test_are_read_as_people_write_them(self, text, kind, value, below):
        read = read_threshold(text)
        assert (read.kind, read.value, read.below) == (kind, value, below)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("hippocampus < -10", "no unit"),
            ("hippocampus < -10 furlongs", "furlongs"),
            ("hippocampus < 5 ml%", "the unit"),
            ("amygdalus < -10%", "no region 'amygdalus'"),
            ("hippocampus -10%", "not understood"),
            ("hippocampus < 0 ml", "0 or less"),
            ("hippocampus < -100%", "loss of everything"),
        ],
    )
    def test_say_what_is_wrong(self, text, said):
        with pytest.raises(InputError, match=said):
            checked_thresholds([text])

    def test_in_volume_change_and_rate_agree(self):
        tenth = read_threshold("hippocampus < -10%").log_change(np.array([2.0]), 6000.0)
        assert read_threshold("hippocampus < 5.4 ml").log_change(np.array([2.0]), 6000.0) == pytest.approx(tenth)
        yearly = 100 * (0.9**0.5 - 1)
        assert read_threshold(f"hippocampus < {yearly:.9f} %/y").log_change(np.array([2.0]), 1.0) == pytest.approx(
            tenth
        )

    @pytest.mark.parametrize(
        "text", ["hippocampus < 5%", "hippocampus < 7 ml", "hippocampus > -3 %", "hippocampus > 5 ml"]
    )
    def test_crossed_by_everybody_are_refused(self, text):
        with pytest.raises(InputError, match="crossed already"):
            check_not_crossed(read_threshold(text), 6000.0)


class TestPersonLaw:
    def test_is_the_exact_posterior_of_who_is_known(self, cases, weights):
        posterior = exact_posterior(POPULATION, replace_first(cases, 5))
        expected = changes_law(posterior.mean, posterior.root, weights)
        for i in range(5):
            course = PersonLaw(POPULATION, cases.covariates[i], person(cases, i), weights).course(np.array(HORIZONS))
            assert np.allclose(course.mean[0], expected.mean[i], atol=1e-9)
            assert np.allclose(course.sd[0], expected.sd[i], rtol=1e-6)

    def test_stated_chances_are_true(self, cases, weights):
        """People of whom two regions were measured and neither sex, education nor APOE is known: chances meet frequencies."""
        limit = np.log([[0.92, 1.2, 0.97]])
        hit, stated = [], []
        truth = changes(cases.truth, weights)[:, HORIZONS.index(3.0)]
        for i in range(400):
            known = cases.covariates[i].clone()
            known[1:4] = np.nan
            law = PersonLaw(POPULATION, known, person(cases, i, weights[:2]), weights)
            stated.append(law.course(np.array([3.0])).below(limit)[0])
            hit.append(truth[i] < limit[0])
        stated, hit = np.array(stated), np.array(hit)
        error = (hit - stated).sum(axis=0) / np.sqrt((stated * (1 - stated)).sum(axis=0))
        assert np.abs(error).max() < 3  # standard errors
        skill = 1 - np.square(hit - stated).mean(axis=0) / (hit.mean(axis=0) * (1 - hit.mean(axis=0)))
        assert skill.min() > 0.3

    def test_finds_the_diagnosis_that_explains_what_was_seen(self, cases, weights):
        unknown = torch.full((5,), torch.nan).double()
        told = []
        for i in range(30):
            course = PersonLaw(POPULATION, unknown, person(cases, i), weights).course(np.array([1.0]))
            told.append(np.bincount(course.diagnosis, course.weights, minlength=5))
            assert course.weights.sum() == pytest.approx(1)
        right = np.array(told)[np.arange(30), cases.covariates[:30, 4].long().numpy()]
        assert np.mean(np.log(right + 1e-9)) > np.log(0.3) + 0.5  # far better than the largest share

    def test_quantiles_undo_chances(self, weights):
        unknown = torch.tensor([74.0, np.nan, np.nan, np.nan, np.nan]).double()
        course = PersonLaw(POPULATION, unknown, nothing_seen(len(DRIVEN)), weights).course(np.array([1.0, 4.0]))
        assert np.allclose(course.below(course.quantile(0.9)), 0.9, atol=1e-6)

    def test_probability_from_few_draws_is_true_on_average(self):
        """Eight draws and the truth of one Gaussian: the stated chance of lying below a limit is right for any limit."""
        generator = np.random.default_rng(0)
        draws, truth = generator.normal(size=(8, 20_000)), generator.normal(size=20_000)
        own_limit = draws.mean(axis=0) - draws.std(axis=0, ddof=1)
        stated = probability_below(draws, own_limit)
        assert np.ptp(stated) < 1e-12  # by symmetry one and the same
        assert (truth < own_limit).mean() == pytest.approx(stated[0], abs=3 * np.sqrt(0.2 * 0.8 / 20_000))


def replace_first(cases, count):
    return replace(
        cases, **{name: getattr(cases, name)[:count] for name in ("covariates", "seen_state", "past", "seen", "truth")}
    )


class TestCentiles:
    def test_of_simulated_people_are_uniform(self, cases, weights):
        """Everybody's own centile among people of their age, sex and diagnosis, sums made of volumes."""
        levels = (cases.seen_state.exp() @ weights.T).log()
        found = np.array(
            [
                centile(measured_levels(POPULATION, weights, x, x[:1].numpy(), True), level[None].numpy())[0]
                for x, level in zip(cases.covariates[:1500], levels[:1500], strict=True)
            ]
        )
        shares = np.array([(found < c).mean(axis=0) for c in (5, 25, 50, 75, 95)])
        expected = np.array([0.05, 0.25, 0.5, 0.75, 0.95])[:, None]
        assert (np.abs(shares - expected) < 3.5 * np.sqrt(expected * (1 - expected) / 1500)).all()

    def test_a_large_head_is_told_from_a_large_region(self, reference, weights):
        woman = torch.tensor([70.0, 0.0, np.nan, np.nan, 0.0]).double()
        at = np.array([70.0])
        median = measured_levels(POPULATION, weights, woman, at, True).quantile(0.5)
        assert centile(measured_levels(POPULATION, weights, woman, at, True), median)[0] == pytest.approx(50)
        without = centile(measured_levels(POPULATION, weights, woman, at, False), median)[0]
        assert (without > 50).all()  # a head as large as the reference's is large for a woman
        assert (centile(measured_levels(POPULATION, weights, woman * torch.tensor([1, 1, 1, 1, 1]), at, False), median + 3 * np.log(0.98)) == pytest.approx(50))  # fmt: skip


class TestNextScan:
    def test_noise_is_that_of_simulated_scans(self, weights):
        errors = POPULATION.scan_error((20_000,), torch.Generator().manual_seed(1)) @ weights.T
        assert np.allclose(errors.std(dim=0), noise_sd(POPULATION, weights), rtol=0.02)

    def test_narrows_the_band_as_brute_force_does(self, weights):
        """Simulate the next scan of many people, forecast again with it, and measure how far the truth lies off."""
        people, next_years, horizon = 4000, 1.5, 5.0
        generator = torch.Generator().manual_seed(8)
        covariates = torch.tensor([[74.0, 0.0, 15.0, 1.0, 1.0]]).double()
        drawn = POPULATION.people_with(covariates.expand(people, -1), generator)
        years = torch.tensor([-1.0, next_years, horizon]).double().expand(people, -1)
        rates = POPULATION.mean_velocity_rates(drawn, years, generator)
        errors = POPULATION.scan_error((people, 3), generator)  # of the past, the latest, the next scan
        past = rates[:, :1] + (errors[:, :1] - errors[:, 1:2]) / -1.0
        later = rates[:, 1:2] + (errors[:, 2:] - errors[:, 1:2]) / next_years
        truth = horizon * rates[:, 2] @ weights.T
        spread = {}
        for name, seen in (("now", past), ("then", torch.cat([past, later], dim=1))):
            told = torch.cat(
                [(seen @ weights.T).flatten(1), (drawn.seen_state @ weights.T), torch.ones(people, 1)], dim=1
            )
            fitted = told @ torch.linalg.lstsq(told, truth).solution  # the best linear forecast, by regression
            spread[name] = (truth - fitted).std(dim=0).numpy()
        seen = Seen(weights, torch.zeros(3).double(), torch.tensor([-1.0]).double(), torch.zeros(1, 3).double(), True)
        law = PersonLaw(POPULATION, covariates[0], seen, weights)
        assert np.allclose(law.sd_with_next_scan(None, horizon)[1], spread["now"], rtol=0.035)
        assert np.allclose(law.sd_with_next_scan(next_years, horizon)[1], spread["then"], rtol=0.035)
        stated = narrowings(law, np.eye(5)[1], np.array([next_years]), horizon)[0]
        assert np.allclose(stated, 1 - spread["then"] / spread["now"], atol=0.03)

    def test_tells_more_the_later_it_is(self, weights):
        law = PersonLaw(POPULATION, torch.tensor([74.0, 0, 15, 1, 2]).double(), nothing_seen(len(DRIVEN)), weights)
        law = PersonLaw(POPULATION, law.covariates, replace(nothing_seen(len(DRIVEN)), weights=torch.eye(len(DRIVEN)).double(), rates=torch.zeros(0, len(DRIVEN)).double()), weights)  # fmt: skip
        found = narrowings(law, np.eye(5)[2], np.array([0.5, 1.0, 2.0, 4.0, 6.0]), 5.0)
        assert (np.diff(found[:4], axis=0) > 0).all() and np.isnan(found[4]).all()

    def test_first_time_is_found_between_the_times(self):
        times = np.array([1.0, 2.0, 3.0])
        assert first_time(times, np.array([0.0, 0.4, 0.8]), 0.6) == pytest.approx(2.5)
        assert first_time(times, np.array([0.9, 0.9, 0.9]), 0.6) == 1.0
        assert first_time(times, np.array([0.1, np.nan, 0.2]), 0.6) is None


class TestReliability:
    def test_of_true_chances_is_that_of_chance_and_of_false_ones_is_not(self):
        generator = np.random.default_rng(1)
        chance = generator.uniform(size=(4000, 1))
        happened = generator.uniform(size=(4000, 1)) < chance
        base = np.full_like(chance, 0.5)
        true, false = reliability(chance, happened, base), reliability(chance**3, happened, base)
        assert true.error < 2.5 * true.noise < false.error
        assert true.brier == pytest.approx(1 / 6, abs=0.01) and true.base_brier == 0.25
        assert abs(true.skill - 1 / 3) < 3.5 * true.skill_error


class TestVolumeTable:
    def test_sums_and_units_are_understood(self, tmp_path, reference):
        path = tmp_path / "v.csv"
        path.write_text("age,left_hippocampus_ml,right_hippocampus_ml\n72,3.4,3.5\n70,3.6,3.7\n")
        volumes = read_volumes(path, reference)
        assert volumes.age == 72 and volumes.years.tolist() == [-2, 0]
        assert baseline_of("hippocampus", volumes.names, volumes.mm3[-1]) == pytest.approx(6900)
        seen = as_seen(volumes, reference)
        assert torch.allclose(seen.rates[0], torch.tensor([3.4 / 3.6, 3.5 / 3.7]).double().log() / 2)

    def test_a_sum_of_what_is_given_says_nothing_twice(self, reference):
        names = ("hippocampus", "left_hippocampus", "right_hippocampus")
        mm3 = reference_mm3(names, reference)[None]
        assert len(as_seen(Volumes(names, np.zeros(1), mm3), reference).weights) == 2

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("years,hippocampus_ml,thalamus_mm3\n0,6,12000\n", "mixes units"),
            ("years,hippocampus\n0,6\n", "has no unit"),
            ("years,hippocampus_ml\n0,6200\n", "Check the unit"),
            ("years,hippocampus_ml\n0,six\n", "expected a number"),
            ("years,hippocampi_ml\n0,6\n", "no region"),
            ("years,hippocampus_ml\n-1,6\n", "expected 0"),
            ("hippocampus_ml\n6\n6.1\n", "no column that says when"),
            ("years,hippocampus_ml\n", "no row"),
            ("years,hippocampus_ml\n0,6\n0,6\n", "less than 0.05 years apart"),
            ("years,hippocampus_ml,icv_ml\n0,6,15\n", "the skull holds"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path, reference, text, said):
        path = tmp_path / "v.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_volumes(path, reference)

    def test_rates_that_everybody_exceeds_are_refused(self, reference):
        volumes = Volumes(("hippocampus",), np.zeros(1), np.array([[6000.0]]))
        with pytest.raises(InputError, match="crossed by everybody"):
            assess_volumes(
                volumes, Covariates(age=74, diagnosis="AD"), checked_thresholds(["hippocampus < 30 %/year"]),
                np.array([2.0]), 5.0, POPULATION, reference,
            )  # fmt: skip


class TestCommand:
    def test_writes_tables_figures_and_a_page_that_says_no_advice(self, tmp_path, capsys):
        table, output = tmp_path / "v.csv", tmp_path / "out"
        table.write_text("years,hippocampus_ml,lateral_ventricle_ml,icv_ml\n-2,6.9,38,1490\n0,6.6,41,1490\n")
        arguments = [
            "risk",
            "--volumes",
            str(table),
            "--age",
            "74",
            "--sex",
            "F",
            "--diagnosis",
            "MCI",
            "--progress",
            "none",
        ]
        assert main([*arguments, "--threshold", "hippocampus < -10%", "--output", str(output)]) == 0
        assert "not advice" in (output / "risk.html").read_text(encoding="utf-8")
        result = json.loads((output / "risk.json").read_text(encoding="utf-8"))
        assert {row["threshold"] for row in result["crossings"]} == {"hippocampus < -10%"}
        chances = [row["probability"] for row in result["crossings"]]
        assert chances == sorted(chances) and 0 < result["centiles"]["hippocampus"] < 100
        assert main([*arguments, "--output", str(output)]) == 2  # nothing is overwritten

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--threshold", "hippocampus < 3%"], "crossed already"),
            (["--threshold", "thalamus < -3%"], "A volume of thalamus is needed"),
            (["--past", "a.nii:-1"], "rows of the table"),
            (["--horizon", "40"], "The horizon is 40"),
            (["--years", "30"], "has not learned"),
        ],
    )
    def test_bad_input_is_one_sentence_and_nothing_written(self, tmp_path, capsys, more, said):
        table, output = tmp_path / "v.csv", tmp_path / "out"
        table.write_text("years,hippocampus_ml\n0,6.6\n")
        assert main(["risk", "--volumes", str(table), "--age", "74", *more, "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error and not output.exists()
