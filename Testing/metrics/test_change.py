import numpy as np
import pytest

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.change import change_score, delta_rmae, measurable

RNG = np.random.default_rng(3)


class TestChangeScore:
    def test_copying_the_last_scan_scores_zero_and_the_truth_scores_one(self):
        true = RNG.normal(-2, 1, (50, 4))
        assert change_score(np.zeros_like(true), true).skill == 0
        assert change_score(true, true).skill == 1
        assert change_score(-true, true).skill == -3

    @pytest.mark.parametrize("mean", [0.0, -3.0])
    def test_equals_r_squared_minus_the_squared_amplitude_error_exactly(self, mean):
        true = RNG.normal(mean, 1, (200, 5))
        predicted = 0.6 * true + RNG.normal(0.3, 0.8, true.shape)
        score = change_score(predicted, true, axis=0)
        np.testing.assert_allclose(
            score.skill, score.correlation**2 - (score.correlation - score.amplitude) ** 2, rtol=1e-12
        )
        centered = [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, true.T, strict=True)]
        wrong = np.square(centered) - (centered - score.amplitude) ** 2
        if mean:  # with Pearson's correlation the identity is lost
            assert np.all(np.abs(wrong - score.skill) > 0.05)

    def test_a_perfect_forecaster_reaches_the_noise_ceiling(self):
        change, noise_sd = RNG.normal(-1, 1, 200_000), 0.5
        measured = change + RNG.normal(0, noise_sd, change.shape)
        score = change_score(change, measured, noise_sd=noise_sd)
        assert score.skill == pytest.approx(float(score.ceiling), abs=0.002)
        assert score.ceiling == pytest.approx(1 - 0.25 / 2.25, abs=0.002)

    def test_unknown_changes_do_not_count(self):
        true = np.array([[1.0, np.nan], [2.0, 5.0]])
        score = change_score(np.array([[1.0, 1.0], [0.0, np.nan]]), true, noise_sd=[0.1, 9.0])
        assert score.n == 2
        assert score.skill == pytest.approx(1 - 4 / 5)
        assert score.ceiling == pytest.approx(1 - 0.02 / 5)

    def test_arrays_that_do_not_match_are_refused(self):
        with pytest.raises(InputError, match="one shape"):
            change_score(np.zeros(3), np.zeros(4))


class TestMeasurable:
    def test_skips_regions_below_three_sigma(self):
        changes = np.array([[0.29, 0.31], [-0.29, -0.31], [np.nan, np.nan]])
        assert measurable(changes, 0.1).tolist() == [False, True]


class TestDeltaRmae:
    def test_reference_values(self):
        true = RNG.normal(0, 1, 400_000)
        assert delta_rmae(np.zeros_like(true), true) == 2
        assert delta_rmae(-true, true) == 2
        assert delta_rmae(true, true) == 0
        assert delta_rmae(RNG.permutation(true), true) == pytest.approx(np.sqrt(2), abs=0.01)
