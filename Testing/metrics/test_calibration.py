import numpy as np
import pytest
from scipy import integrate, stats

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.calibration import (
    LEVELS,
    coverage,
    crps_ensemble,
    crps_gaussian,
    crps_student_t,
    energy_score,
    ensemble_band,
    gaussian_band,
    interval_score,
    reliability_table,
    skill,
    variogram_score,
)

N = 40_000


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def crps_by_definition(cdf, truth):
    """The integral of (F(x) - 1[x >= y])^2."""
    below = integrate.quad(lambda x: cdf(x) ** 2, -60, truth, limit=400)[0]
    return below + integrate.quad(lambda x: (cdf(x) - 1) ** 2, truth, 60, limit=400)[0]


class TestCoverage:
    def test_binomial_error_of_a_90_percent_band(self):
        n = 64
        row = coverage(np.full(n, -1.0), np.full(n, 1.0), np.r_[np.zeros(n - 8), np.full(8, 2.0)], 0.9)
        assert (row.observed, row.width, row.n) == (pytest.approx(56 / 64), 2.0, 64)
        assert 1.96 * row.standard_error == pytest.approx(0.074, abs=6e-4)  # shared/metrics.md

    def test_a_true_gaussian_is_covered_as_claimed(self, rng):
        sd = rng.uniform(0.5, 3, N)
        rows = reliability_table(rng.normal(1, sd), mean=np.ones(N), sd=sd)
        assert [row.level for row in rows] == list(LEVELS)
        for row in rows:
            assert abs(row.observed - row.level) < 4 * row.standard_error

    def test_half_the_spread_covers_what_theory_says(self, rng):
        row = coverage(*gaussian_band(np.zeros(N), np.full(N, 0.5), 0.9), rng.normal(size=N), 0.9)
        assert row.observed == pytest.approx(2 * stats.norm.cdf(1.6449 / 2) - 1, abs=0.01)

    @pytest.mark.parametrize("members", [39, 50, 200])
    def test_bands_of_small_true_ensembles_are_not_too_narrow(self, rng, members):
        for row in reliability_table(rng.normal(size=N), samples=rng.normal(size=(members, N))):
            assert abs(row.observed - row.level) < 4 * row.standard_error + 0.002

    def test_too_few_draws_for_a_band_are_refused(self):
        with pytest.raises(InputError, match="at least 19"):
            ensemble_band(np.zeros((18, 1)), 0.9)
        ensemble_band(np.zeros((19, 1)), 0.9)

    def test_unknown_truths_do_not_count(self):
        assert coverage([0, 0], [1, 1], [0.5, np.nan], 0.9).n == 1


class TestCrps:
    def test_gaussian_matches_its_definition(self):
        for truth in (-2.0, 0.3, 4.0):
            exact = crps_by_definition(stats.norm(0.5, 1.7).cdf, truth)
            assert crps_gaussian(0.5, 1.7, truth) == pytest.approx(exact, rel=1e-6)

    def test_student_t_matches_its_definition(self):
        for freedom in (2.5, 7.0):
            exact = crps_by_definition(stats.t(freedom, 0.5, 1.7).cdf, 2.0)
            assert crps_student_t(0.5, 1.7, freedom, 2.0) == pytest.approx(exact, rel=2e-3)
        assert crps_student_t(0.5, 1.7, 1e6, 2.0) == pytest.approx(float(crps_gaussian(0.5, 1.7, 2.0)), rel=1e-5)

    def test_calibrated_gaussian_scores_sigma_over_root_pi(self, rng):
        scores = crps_gaussian(0.0, 2.0, rng.normal(0, 2, 400_000))
        assert scores.mean() == pytest.approx(2 / np.sqrt(np.pi), rel=0.005)

    def test_no_spread_is_the_absolute_error(self):
        assert crps_gaussian([0.0, 1.0], [0.0, 0.0], [0.7, 1.0]).tolist() == [0.7, 0.0]

    @pytest.mark.parametrize("members", [2, 5, 40])
    def test_an_ensemble_scores_as_its_law_whatever_its_size(self, rng, members):
        truth = rng.normal(0.4, 1.5, N)
        difference = crps_ensemble(rng.normal(0, 1, (members, N)), truth) - crps_gaussian(0.0, 1.0, truth)
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(N)

    def test_ensemble_equals_the_double_sum(self, rng):
        draws, truth = rng.normal(size=(6, 3)), rng.normal(size=3)
        pairs = np.abs(draws[:, None] - draws[None]).sum(axis=(0, 1)) / (2 * 6 * 5)
        np.testing.assert_allclose(crps_ensemble(draws, truth), np.abs(draws - truth).mean(axis=0) - pairs)

    def test_skill_over_a_wider_gaussian(self, rng):
        truth = rng.normal(0, 1, N)
        ours, theirs = crps_gaussian(0, 1, truth), crps_gaussian(0, 2, truth)
        # E CRPS of N(0, s) for truths of SD 1: sqrt(2 (1 + s^2) / pi) - s / sqrt(pi), here s = 2.
        expected = 1 - (1 / np.sqrt(np.pi)) / (np.sqrt(10 / np.pi) - 2 / np.sqrt(np.pi))
        assert skill(ours, theirs) == pytest.approx(expected, abs=0.01)
        assert skill(theirs, theirs) == 0


class TestIntervalScore:
    def test_by_hand(self):
        assert interval_score([0, 0, 0], [2, 2, 2], [1, 3, -0.5], 0.9) == pytest.approx([2, 2 + 20, 2 + 10])
        assert np.isnan(interval_score(0, 2, np.nan, 0.9))

    def test_the_true_quantiles_score_best(self, rng):
        truth = rng.normal(size=N)
        scores = [interval_score(*gaussian_band(0, sd, 0.9), truth, 0.9).mean() for sd in (0.7, 1.0, 1.4)]
        assert min(scores) == scores[1]


class TestVectorScores:
    def draws(self, rng, shape, rho=0.8):
        return rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], shape)

    def test_energy_score_of_one_component_is_the_crps(self, rng):
        samples, truth = rng.normal(size=(9, 50, 1)), rng.normal(size=(50, 1))
        np.testing.assert_allclose(energy_score(samples, truth), crps_ensemble(samples[..., 0], truth[..., 0]))

    def test_energy_score_of_the_truth_is_half_the_mean_distance_of_two_draws(self, rng):
        score = energy_score(self.draws(rng, (12, 5000)), self.draws(rng, 5000)).mean()
        distance = np.linalg.norm(self.draws(rng, 400_000) - self.draws(rng, 400_000), axis=1).mean()
        assert score == pytest.approx(distance / 2, rel=0.02)

    def test_variogram_score_has_no_bias_from_few_draws(self, rng):
        truth = self.draws(rng, 20_000)
        few, many = (variogram_score(self.draws(rng, (m, 20_000)), truth).mean() for m in (3, 60))
        assert few == pytest.approx(many, abs=0.004)

    def test_variogram_score_sees_a_wrong_correlation_that_crps_does_not(self, rng):
        truth, right, wrong = self.draws(rng, 5000), self.draws(rng, (40, 5000)), self.draws(rng, (40, 5000), 0.0)
        assert variogram_score(wrong, truth).mean() > 1.3 * variogram_score(right, truth).mean()
        assert crps_ensemble(wrong, truth).mean() == pytest.approx(crps_ensemble(right, truth).mean(), rel=0.03)
