"""Effects of covariates over a cohort, against the law that simulated the people and against statsmodels."""

import json

import numpy as np
import pytest
import torch

from neuro4d_lib.applications.cohorts.effects import (
    UNITS,
    cohort_effects,
    fit_group,
    holm_corrected,
    recovery,
)
from neuro4d_lib.applications.cohorts.effects_check import beliefs, repeated_recovery
from neuro4d_lib.applications.cohorts.rates import REGIONS, Cohort, draw_cohort, read_cohort, slopes
from neuro4d_lib.checkpoint import SHIPPED, load_model
from neuro4d_lib.cli import main
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.prepared import PreparedSubject, subject_path, write_about, write_subject
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.progress import silent

POPULATION = Population()


@pytest.fixture(scope="module")
def cohort():
    generator = torch.Generator().manual_seed(5)
    return draw_cohort(POPULATION, POPULATION.draw_covariates(1500, generator), generator)


class TestCohorts:
    def test_slopes_are_those_of_least_squares(self):
        years = np.array([-3.0, -1.0, 0.0, 0.5])
        values = np.random.default_rng(0).normal(size=(4, 3))
        assert np.allclose(slopes(years, values), np.polyfit(years, values, 1)[0])

    def test_expected_rates_are_the_mean_of_measured_ones(self):
        covariates = torch.tensor([[74.0, 1.0, 12.0, 2.0, 1.0]]).double().expand(20_000, -1)
        drawn = draw_cohort(POPULATION, covariates, torch.Generator().manual_seed(0))
        error = drawn.rates.std(axis=0) / np.sqrt(20_000)
        assert (np.abs(drawn.rates.mean(axis=0) - drawn.expected[0]) < 4 * error).all()

    def test_a_shift_is_added_where_it_is_asked_for(self):
        reference = Reference.load(SHIPPED)
        plain, shifted = (read_cohort(f"simulated:50:seed=2{more}", reference) for more in ("", ":hippocampus=-1"))
        difference = shifted.rates - plain.rates
        assert np.allclose(difference[:, :2], -0.01) and np.allclose(difference[:, 2:], 0)

    def test_a_prepared_study_gives_the_rates_of_its_motion(self, tmp_path):
        """A field that changes one region by a known rate, at three visits a year apart."""
        model = load_model(None, torch.device("cpu"))
        field = model.network.deformation.fields[0]
        for name in ("sub-01", "sub-02"):
            motion = torch.stack([-0.03 * year * field for year in (0.0, 1.0, 2.0)])
            subject = PreparedSubject(
                name, ("ses-01", "ses-02", "ses-03"), (0.0, 1.0, 2.0), (Covariates(age=70),) * 3, motion,
                torch.zeros(3, *LATTICE.shape), ({}, {}, {}),
            )  # fmt: skip
            write_subject(subject_path(tmp_path, name), subject)
        write_about(tmp_path, {"study": "s", "settings": {}, "versions": {}, "subjects": {n: {"state": "used"} for n in ("sub-01", "sub-02")}})  # fmt: skip
        found = read_cohort(str(tmp_path), model.reference)
        assert found.rates[0, 0] == pytest.approx(-0.03, rel=0.02) and np.abs(found.rates[0, 1:]).max() < 0.002
        assert found.maps.shape == (2, int(np.prod(LATTICE.shape)))
        inside = model.network.deformation.pooling[0].flatten().numpy()
        assert found.maps[0] @ inside == pytest.approx(-0.03, rel=0.25)  # the map is smooth, the region small

    def test_a_simulated_data_set_gives_the_slopes_of_its_true_volumes(self, tmp_path):
        for k, rate in enumerate((-0.01, -0.03)):
            visits = {
                f"ses-0{i + 1}": {"years": year, "volumes_mm3": {name: 3000 * np.exp(rate * year) for name in REGIONS}}
                for i, year in enumerate((-2.0, -0.5, 0.0))
            }
            folder = tmp_path / "derivatives" / "truth" / f"sub-{k}"
            folder.mkdir(parents=True)
            truth = {"visits": visits, "covariates_at_years_0": {"age": 70 + k, "sex": "F", "diagnosis": "CN"}}
            (folder / f"sub-{k}_truth.json").write_text(json.dumps(truth), encoding="utf-8")
        found = read_cohort(str(tmp_path), Reference.load(SHIPPED))
        assert np.allclose(found.rates, np.array([[-0.01], [-0.03]])) and found.covariates[:, 0].tolist() == [70, 71]

    @pytest.mark.parametrize(
        "text", ["nowhere", "simulated:1", "simulated:many", "simulated:9:diagnosis=XX", "simulated:9:nose=1"]
    )
    def test_that_are_none_are_refused(self, text):
        with pytest.raises(InputError):
            read_cohort(text, Reference.load(SHIPPED))


class TestEffects:
    def test_are_those_of_ordinary_least_squares(self, cohort):
        import statsmodels.api as sm

        here = cohort.covariates[:, 4] == 1
        fitted, people = fit_group(cohort.covariates[here], cohort.rates[here], None)
        design = sm.add_constant((cohort.covariates[here, :4] - [73, 0, 15, 0]) / UNITS)
        expected = sm.OLS(cohort.rates[here, 3], design).fit()
        assert people == here.sum() and fitted.freedom == expected.df_resid
        assert np.allclose(fitted.estimate[:, 3], expected.params)
        assert np.allclose(np.sqrt(fitted.variance[:, 3]), expected.bse)

    def test_truth_is_the_populations_own_coefficients(self, cohort):
        effects = {(e.diagnosis, e.covariate, e.region): e.truth for e in cohort_effects(cohort)}
        hippocampus = REGIONS[0]
        assert effects["CN", "age", hippocampus] == pytest.approx(10 * -0.05)
        assert effects["CN", "apoe4", hippocampus] == pytest.approx(0.1 * -1.41)
        assert effects["MCI", "sex", hippocampus] == pytest.approx(-0.05 * -2.55)
        assert effects["AD", "education", hippocampus] == pytest.approx(4 * -0.01 * -4.66)
        assert effects["AD", "apoe4", hippocampus] == pytest.approx(0, abs=1e-12)
        assert effects["CN", "apoe4", "brainstem"] == pytest.approx(0, abs=1e-12)

    def test_recover_the_simulators_at_the_stated_rate(self):
        """Intervals of 95 % hold the truth in 95 %; whatever exceeds its noise has the right sign."""
        found = repeated_recovery(20, 600)
        assert found.held == pytest.approx(0.95, abs=0.012)  # effects of one cohort go together
        assert found.clear > 400 and found.right_sign > 0.998 and found.false < 0.05

    def test_intervals_would_fail_if_they_were_a_fifth_narrower(self, cohort):
        effects = [e for seed in range(8) for e in cohort_effects(_again(seed))]
        held = np.mean([abs(e.estimate - e.truth) < 0.8 * (e.high - e.low) / 2 for e in effects])
        assert held < 0.92

    def test_holm_is_that_of_statsmodels(self):
        from statsmodels.stats.multitest import multipletests

        p = np.random.default_rng(3).uniform(size=12) ** 3
        assert np.allclose(holm_corrected(p), multipletests(p, method="holm")[1])

    def test_without_anybody_or_variance_are_refused(self, cohort):
        few = Cohort("few", cohort.ids[:5], cohort.covariates[:5], cohort.rates[:5])
        with pytest.raises(InputError, match="enough people"):
            cohort_effects(few)
        alike = Cohort("alike", cohort.ids, cohort.covariates, np.zeros_like(cohort.rates))
        with pytest.raises(InputError, match="without variance"):
            cohort_effects(alike)


def _again(seed):
    generator = torch.Generator().manual_seed(100 + seed)
    return draw_cohort(POPULATION, POPULATION.draw_covariates(500, generator), generator)


def test_the_model_believes_in_the_simulators_effects():
    """The closed form's answer to a changed covariate, the scan staying as it is, against the exact law."""
    for belief in beliefs(load_model(None, torch.device("cpu")), 60, 1, 0, 1, silent):
        clear = np.abs(belief.exact) > 0.05
        assert clear.sum() >= 6
        assert (np.sign(belief.model) == np.sign(belief.exact))[clear].all(), belief.change
        slope = belief.model[clear] @ belief.exact[clear] / np.square(belief.exact[clear]).sum()
        assert 0.75 < slope < 1.25, belief.change


def test_recovery_is_unknown_of_real_people(cohort):
    real = Cohort("real", cohort.ids, cohort.covariates, cohort.rates)
    assert recovery(cohort_effects(real)) is None


def test_command_writes_a_page_and_bad_input_nothing(tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["effects", "simulated:400", "--progress", "none", "--output", str(output)]) == 0
    page = (output / "effects.html").read_text(encoding="utf-8")
    assert "not advice" in page and "truth" in page and (output / "effects.csv").is_file()
    assert main(["effects", str(tmp_path / "none"), "--output", str(tmp_path / "out2")]) == 2
    error = capsys.readouterr().err
    assert "is no cohort" in error and "Traceback" not in error and not (tmp_path / "out2").exists()
