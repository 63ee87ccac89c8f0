"""Two cohorts: nothing is found where there is nothing, a known difference is, and scipy finds the same."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from scipy import stats

from neuro4d_lib.applications.cohorts.compare import ageing_curve, compare
from neuro4d_lib.applications.cohorts.compare_check import SHIFT, detection, false_positives, pair
from neuro4d_lib.applications.cohorts.harmonization import combat, scanner_effect
from neuro4d_lib.applications.cohorts.permutation import permuted_difference
from neuro4d_lib.applications.cohorts.rates import draw_cohort
from neuro4d_lib.cli import main
from neuro4d_lib.data.population import Population
from neuro4d_lib.errors import InputError

ADJUST = ("age", "sex", "diagnosis")


class TestPermutation:
    def test_t_is_that_of_ordinary_least_squares(self):
        import statsmodels.api as sm

        generator = np.random.default_rng(0)
        values, nuisance, second = generator.normal(size=(40, 3)), generator.normal(size=(40, 2)), np.arange(40) >= 15
        found = permuted_difference(values, second, nuisance, 99, generator)
        for v in range(3):
            fitted = sm.OLS(values[:, v], np.column_stack([np.ones(40), second, nuisance])).fit()
            assert found.t[v] == pytest.approx(fitted.tvalues[1])
            assert found.standard_error[v] == pytest.approx(fitted.bse[1])
            assert found.freedom == fitted.df_resid

    def test_p_is_that_of_scipy(self):
        generator = np.random.default_rng(4)
        values = generator.normal(size=(24, 1))
        values[12:] += 0.7
        second = np.arange(24) >= 12
        found = permuted_difference(values, second, np.zeros((24, 0)), 9999, generator)
        reference = stats.permutation_test(
            (values[12:, 0], values[:12, 0]),
            lambda a, b: stats.ttest_ind(a, b).statistic,
            n_resamples=999,
            rng=generator,
        )
        assert found.p[0] == pytest.approx(reference.pvalue, abs=0.02)
        assert found.p_max[0] == found.p[0]  # of one place

    def test_permuting_the_design_is_permuting_the_residuals(self):
        """The shortcut against Freedman and Lane's own words, for one permutation."""
        generator = np.random.default_rng(1)
        values, nuisance, second = generator.normal(size=(30, 1)), generator.normal(size=(30, 2)), np.arange(30) >= 10
        one = permuted_difference(values, second, nuisance, 1, np.random.default_rng(7))
        order = np.random.default_rng(7).permutation(30)
        constant = np.column_stack([np.ones(30), nuisance])
        residual = values - constant @ np.linalg.lstsq(constant, values, rcond=None)[0]
        dealt = np.empty_like(residual)
        dealt[order] = residual  # person order[i] gets what person i had left
        design = np.column_stack([constant, second])
        beta = np.linalg.lstsq(design, dealt, rcond=None)[0]
        rss = np.square(dealt - design @ beta).sum()
        t = beta[-1] / np.sqrt(rss / (30 - 4) * np.linalg.inv(design.T @ design)[-1, -1])
        assert one.p[0] == (1 + (abs(t[0]) >= abs(one.t[0]))) / 2

    def test_largest_t_corrects_for_correlated_places(self):
        """Fifty copies of one place cost nothing; fifty independent ones nearly Bonferroni."""
        generator = np.random.default_rng(2)
        values = np.repeat(generator.normal(size=(30, 1)), 50, axis=1)
        second = np.arange(30) >= 15
        copies = permuted_difference(values, second, np.zeros((30, 0)), 499, np.random.default_rng(0))
        assert np.allclose(copies.p, copies.p_max)
        own = permuted_difference(
            generator.normal(size=(30, 50)), second, np.zeros((30, 0)), 499, np.random.default_rng(0)
        )
        assert own.p_max.min() > 5 * own.p.min()


class TestCompare:
    def test_finds_nothing_where_there_is_nothing(self):
        everywhere, alone = false_positives(150, 40)
        assert everywhere < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 150)
        assert alone == pytest.approx(0.05, abs=0.03)  # regions go together

    def test_finds_a_known_difference_and_its_size(self):
        hit, estimate, held, other = detection(40, 150)
        assert hit > 0.75 and estimate == pytest.approx(SHIFT, rel=0.1)
        assert held == pytest.approx(0.95, abs=0.08) and other < 0.2

    def test_maps_are_tested_place_by_place(self):
        first, second = pair(Population(), 30, torch.Generator().manual_seed(0))
        noise = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
        noise[30:, :10] += 3
        first, second = replace(first, maps=noise[:30]), replace(second, maps=noise[30:])
        mask = np.arange(200) < 150
        found = compare(first, second, ADJUST, mask=mask, permutations=199)
        assert (found.maps.p_max[:10] < 0.05).all() and (found.maps.p_max[10:] < 0.05).sum() <= 2
        assert len(found.maps.p_max) == 150

    def test_says_what_cannot_be_adjusted_for(self):
        population, generator = Population(), torch.Generator().manual_seed(1)
        covariates = population.draw_covariates(40, generator)
        cohorts = []
        for d in (0.0, 2.0):
            covariates = covariates.clone()
            covariates[:, 4] = d
            cohorts.append(draw_cohort(population, covariates, generator))
        found = compare(*cohorts, ADJUST, permutations=99)
        assert found.adjusted == ("age", "sex") and "tells the cohorts apart" in found.left_out[0]

    def test_without_people_or_variance_is_refused(self):
        first, second = pair(Population(), 20, torch.Generator().manual_seed(0))
        few = replace(second, ids=second.ids[:3], covariates=second.covariates[:3], rates=second.rates[:3])
        with pytest.raises(InputError, match="needs 5 or more"):
            compare(first, few, ADJUST)
        with pytest.raises(InputError, match="without variance"):
            compare(first, replace(second, rates=np.zeros_like(second.rates)), ADJUST)

    def test_normal_ageing_holds_the_truth(self):
        generator = torch.Generator().manual_seed(3)
        cohort = draw_cohort(Population(), Population().draw_covariates(3000, generator), generator)
        curve = ageing_curve(cohort, np.eye(29)[:1])
        inside = (curve.low <= curve.truth) & (curve.truth <= curve.high)
        assert curve.people > 700 and inside.mean() > 0.6
        assert curve.truth[-1, 0] < curve.truth[0, 0] - 0.005  # -0.05 % a year per year of age in the hippocampus


class TestHarmonization:
    def test_takes_the_scanner_away_and_keeps_what_is_known(self):
        pytest.importorskip("neuroCombat")
        generator = np.random.default_rng(0)
        second, keep = np.arange(200) >= 100, generator.normal(size=(200, 1))
        values = generator.normal(size=(200, 29)) + 0.8 * keep
        values[100:] = 1.5 * values[100:] + 1 - 0.4 * keep[100:]
        harmonized = combat(values, second, keep)
        effect = scanner_effect(values, harmonized, second, keep)
        assert effect.shift_before.mean() > 0.6 and np.abs(effect.shift_after).mean() < 0.1
        assert effect.ratio_before.mean() > 1.4 and effect.ratio_after.mean() == pytest.approx(1, abs=0.1)
        slopes = np.linalg.lstsq(np.column_stack([np.ones(200), keep]), harmonized, rcond=None)[0][1]
        assert slopes.mean() == pytest.approx(0.8, abs=0.12)


class TestCommand:
    def test_writes_tables_maps_and_a_page(self, tmp_path, capsys):
        output = tmp_path / "out"
        cohorts = ["simulated:40:diagnosis=CN", "simulated:40:diagnosis=AD:seed=1"]
        arguments = ["compare", *cohorts, "--permutations", "199", "--progress", "none"]
        assert main([*arguments, "--output", str(output)]) == 0
        assert "tells the cohorts apart" in capsys.readouterr().out
        assert "not advice" in (output / "compare.html").read_text(encoding="utf-8")
        image = nibabel.load(output / "progression_difference.nii.gz")
        assert image.shape == (32, 40, 32) and image.get_fdata().min() < -1  # AD loses more

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["simulated:40", "simulated:40"], "the same"),
            (["simulated:40", "simulated:3:seed=1"], "needs 5 or more"),
            (["simulated:40", "simulated:40:seed=1", "--adjust", "height"], "height"),
            (["simulated:40", "simulated:40:seed=1", "--permutations", "3"], "permutations"),
        ],
    )
    def test_bad_input_is_one_sentence_and_nothing_written(self, tmp_path, capsys, arguments, said):
        output = tmp_path / "out"
        assert main(["compare", *arguments, "--progress", "none", "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error and not output.exists()
