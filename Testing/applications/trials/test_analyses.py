"""Every analysis against statsmodels or scipy, trial by trial."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from neuro4d_lib.applications.trials.analyses import Measured, analyze
from neuro4d_lib.applications.trials.check import level_design, mixed_model_differences
from neuro4d_lib.applications.trials.law import law_of
from neuro4d_lib.applications.trials.mixed_model import fit_mixed, pattern_sums

YEARS = (0.0, 0.5, 1.2, 2.0)
TRIALS, PEOPLE, MARKERS, ENDS = 3, 25, 2, [12, 25]


def arm(seed, effect):
    draw = np.random.default_rng(seed)
    level = 300 + draw.normal(0, 12, (TRIALS, PEOPLE, 1, MARKERS))
    slope = draw.normal(-4 + effect, (2.0, 1.0), (TRIALS, PEOPLE, 1, MARKERS))
    noise = draw.normal(0, 1.7, (TRIALS, PEOPLE, 4, MARKERS))
    present = draw.random((TRIALS, PEOPLE, 4)) > 0.2
    present[..., 0] = True
    return Measured(level + slope * np.array(YEARS)[:, None] + noise, present, ENDS)


@pytest.fixture(scope="module")
def arms():
    return arm(0, 0.0), arm(1, 1.0)


def each(arms):
    """Values [N, V] and present [N, V] of both arms for every trial, number of people and biomarker."""
    for b in range(TRIALS):
        for k, n in enumerate(ENDS):
            for q in range(MARKERS):
                yield (b, k, q), [(one.values[b, :n, :, q], one.present[b, :n]) for one in arms]


def t_of(estimates, cell):
    return estimates.effect[cell] / estimates.standard_error[cell]


def test_change_is_welchs_test_of_those_who_came_to_both_visits(arms):
    found = analyze("change", *arms, YEARS)
    for cell, data in each(arms):
        control, treated = ((y[:, -1] - y[:, 0])[p[:, -1]] for y, p in data)
        truth = ttest_ind(treated, control, equal_var=False)
        assert t_of(found, cell) == pytest.approx(truth.statistic, rel=1e-9)
        assert found.freedom[cell] == pytest.approx(truth.df, rel=1e-9)
        assert found.effect[cell] == pytest.approx(treated.mean() - control.mean(), rel=1e-9)


def test_slope_is_welchs_test_of_everybodys_own_line(arms):
    found = analyze("slope", *arms, YEARS)
    years = np.array(YEARS)
    for cell, data in each(arms):
        slopes = [
            np.array([np.polyfit(years[p], y[p], 1)[0] for y, p in zip(*one, strict=True) if p.sum() > 1])
            for one in data
        ]
        truth = ttest_ind(slopes[1], slopes[0], equal_var=False)
        assert t_of(found, cell) == pytest.approx(truth.statistic, rel=1e-7)
        assert found.effect[cell] == pytest.approx(2.0 * (slopes[1].mean() - slopes[0].mean()), rel=1e-7)


def test_ancova_is_least_squares_with_the_first_value(arms):
    import statsmodels.api as sm

    found = analyze("ancova", *arms, YEARS)
    for cell, data in each(arms):
        change = np.concatenate([(y[:, -1] - y[:, 0])[p[:, -1]] for y, p in data])
        first = np.concatenate([y[p[:, -1], 0] for y, p in data])
        group = np.concatenate([np.full(p[:, -1].sum(), float(i)) for i, (_, p) in enumerate(data)])
        truth = sm.OLS(change, sm.add_constant(np.column_stack([group, first]))).fit()
        assert found.effect[cell] == pytest.approx(truth.params[1], rel=1e-7)
        assert found.standard_error[cell] == pytest.approx(truth.bse[1], rel=1e-7)
        assert found.freedom[cell] == truth.df_resid


class TestMixedModel:
    def test_is_that_of_statsmodels(self):
        """Estimate, standard error and restricted likelihood of trials with dropout and missed visits."""
        worst = mixed_model_differences(law_of(level_design(2)), 2, 40)
        assert worst["fits"] >= 8
        assert worst["effect"] < 1e-3
        assert worst["standard_error"] < 1e-3
        assert worst["likelihood"] < 1e-3  # statsmodels nowhere finds a better fit

    def test_without_missing_visits_the_effect_is_the_difference_of_mean_slopes_given_a_common_start(self):
        """Balanced data: the estimate follows from two means by arm, in closed form, whatever the covariance."""
        control, treated = (Measured(one.values, np.ones_like(one.present), [PEOPLE]) for one in (arm(2, 0), arm(3, 2)))
        found = analyze("mixed", control, treated, YEARS)
        time = np.array(YEARS) / YEARS[-1]
        sums = [pattern_sums(time, one.values, one.present, [PEOPLE]) for one in (control, treated)]
        fit = fit_mixed(*sums)
        basis = np.stack([np.ones(4), time], axis=1)
        for f in range(TRIALS * MARKERS):
            b, q = divmod(f, MARKERS)
            lines = [
                np.linalg.lstsq(basis, one.values[b, :, :, q].mean(axis=0), rcond=None)[0] for one in (control, treated)
            ]
            variance = fit.covariance[f] + fit.noise_variance[f] * np.linalg.inv(basis.T @ basis)
            apart = lines[1] - lines[0]
            expected = apart[1] - variance[0, 1] / variance[0, 0] * apart[0]
            assert found.effect[b, 0, q] == pytest.approx(expected, rel=1e-6)

    def test_two_fits_do_not_know_each_other(self, arms):
        together = analyze("mixed", *arms, YEARS)
        alone = analyze("mixed", *(Measured(a.values[1:2, ..., :1], a.present[1:2], ENDS) for a in arms), YEARS)
        np.testing.assert_allclose(together.effect[1:2, :, :1], alone.effect, rtol=1e-6)


def test_a_trial_whose_people_all_left_has_no_result(arms):
    gone = arms[1].present.copy()
    gone[0, :, 1:] = False
    found = analyze("change", arms[0], Measured(arms[1].values, gone, ENDS), YEARS)
    assert np.isnan(found.effect[0]).all() and np.isfinite(found.effect[1:]).all()
