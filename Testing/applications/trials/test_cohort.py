import numpy as np
import pytest
import torch

from neuro4d_lib.applications.trials.cohort import check_criteria, recruit
from neuro4d_lib.applications.trials.courses import simulate_arm
from neuro4d_lib.applications.trials.design import Arm, Biomarker, Criteria, Range
from neuro4d_lib.applications.trials.simulation import generator_of
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.regions import DRIVEN

NAMES = [region.name for region in DRIVEN]
HIPPOCAMPI = [NAMES.index(f"{side}_hippocampus") for side in ("left", "right")]


def criteria(**values):
    return Criteria(**{"diagnoses": ("MCI", "AD"), **values})


class TestRecruit:
    def test_everybody_meets_all_criteria(self, law):
        drawn = law(
            criteria=criteria(
                age_years=Range(60, 75),
                sexes=("F",),
                apoe4=(1, 2),
                education_years=Range(12, None),
                volume_ml={"hippocampus": Range(None, 5.5)},
                baseline_percent={"lateral_ventricle": Range(0, None)},
            )
        )
        found = recruit(drawn, 300, generator_of(0, 0))
        age, male, education, apoe4, diagnosis = found.people.covariates.T
        assert age.min() >= 60 and age.max() <= 75
        assert (male == 0).all() and set(apoe4.tolist()) == {1, 2} and education.min() >= 12
        assert set(diagnosis.tolist()) == {1, 2}
        volumes_mm3 = drawn.volumes_mm3 * (found.people.seen_state + found.first_error).exp()
        assert volumes_mm3[:, HIPPOCAMPI].sum(dim=1).max() <= 5500
        assert drawn.values(volumes_mm3)[:, 1].min() >= 0
        assert len(age) == 300

    def test_the_number_screened_agrees_with_the_share_who_qualify(self, law):
        drawn = law(criteria=criteria(age_years=Range(60, 75), volume_ml={"hippocampus": Range(None, 5.5)}))
        share = check_criteria(drawn, generator_of(0, 1))
        found = recruit(drawn, 4000, generator_of(0, 2))
        error = np.sqrt(share * (1 - share)) * np.sqrt(1 / found.screened + 1 / 20_000)
        assert 4000 / found.screened == pytest.approx(share, abs=4 * error)

    def test_a_run_in_lets_in_those_who_decline_fast(self, law):
        slow, fast = (
            recruit(law(criteria=criteria(**limits)), 2000, generator_of(0, 3)).people.rate[:, HIPPOCAMPI].mean()
            for limits in ({}, {"run_in_years": 1.0, "run_in_percent_per_year": {"hippocampus": Range(None, -4)}})
        )
        assert fast < slow - 0.005

    def test_criteria_that_nobody_meets_name_how_many_each_excludes(self, law):
        drawn = law(criteria=criteria(diagnoses=("AD",), age_years=Range(18, 20), apoe4=(2,)))
        with pytest.raises(SettingError) as refused:
            check_criteria(drawn, generator_of(0, 4))
        message = str(refused.value)
        assert "nobody meets all criteria" in message
        assert "age_years 20000" in message and "apoe4 1" in message and "sexes" not in message


class TestCourses:
    def one(self, law, arm, **settings):
        return simulate_arm(law(treated=arm, **settings), arm, 2, 400, generator_of(0, 5))

    def test_no_effect_is_no_difference(self, law):
        arm = Arm(name="treated", slowing={"hippocampus": 0.0})
        data = self.one(law, arm)
        assert data.treated is data.untreated and (data.true_effect == 0).all()

    @pytest.mark.parametrize("effect", ["proportional", "shift"])
    def test_slowing_spares_its_share_of_the_change(self, law, effect):
        arm = Arm(name="treated", slowing={"whole_brain": 0.4, "lateral_ventricle": 0.4}, effect=effect)
        data = self.one(law, arm)
        change = (data.untreated[..., -1, :] - data.untreated[..., 0, :]).mean(dim=(0, 1))
        np.testing.assert_allclose(data.true_effect, -0.4 * change, rtol=0.06)
        difference = data.treated - data.untreated
        assert (difference[..., 0, :].abs() < 1e-9).all(), "the first visit comes before any treatment"
        if effect == "shift":  # people of the same covariates are spared alike
            assert difference[..., -1, 0].std() < 0.25 * difference[..., -1, 0].mean()

    def test_full_slowing_leaves_scan_error_alone(self, law):
        arm = Arm(name="treated", slowing={"whole_brain": 1.0})
        data = self.one(law, arm, noise_factor=0.0)
        np.testing.assert_allclose(
            data.treated[..., 0], data.treated[..., :1, 0].expand_as(data.treated[..., 0]), atol=1e-9
        )

    def test_before_its_onset_nothing_is_different(self, law):
        arm = Arm(name="treated", slowing={"whole_brain": 0.5}, onset_years=0.5)
        early, late = self.one(law, arm), self.one(law, Arm(name="treated", slowing={"whole_brain": 0.5}))
        assert torch.equal(early.treated[:, :, :2], early.untreated[:, :, :2])
        ratio = float(early.true_effect[0] / late.true_effect[0])
        assert ratio == pytest.approx(2 / 3, abs=0.02)  # one of one and a half years

    def test_a_negative_effect_enlarges_ventricles(self, law):
        data = self.one(law, Arm(name="treated", slowing={"lateral_ventricle": -0.387}))
        change = (data.untreated[..., -1, 1] - data.untreated[..., 0, 1]).mean()
        assert float(data.true_effect[1] / change) == pytest.approx(0.387, rel=0.1)
        assert abs(float(data.true_effect[0])) < 1e-9

    def test_added_volume_is_added_in_ml(self, law):
        arm = Arm(name="treated", added_ml={"lateral_ventricle": 2.1}, added_over_years=1.5)
        data = self.one(law, arm, noise_factor=0.0)
        reference_ml = (
            float(law().volumes_mm3 @ torch.tensor([float("lateral_ventricle" in n) for n in NAMES]).double()) / 1000
        )
        grown_ml = reference_ml * ((data.treated[..., 1] / 100).exp() - (data.untreated[..., 1] / 100).exp())
        for visit, added in enumerate((0.0, 0.7, 1.4, 2.1)):
            np.testing.assert_allclose(grown_ml[..., visit], added, atol=1e-9)

    def test_taking_more_than_there_is_is_refused(self, law):
        with pytest.raises(
            SettingError, match=r"takes 9 mL from hippocampus, of which somebody has .* would be negative"
        ):
            self.one(law, Arm(name="treated", added_ml={"hippocampus": -9.0}))

    def test_a_biomarker_of_ones_own_has_the_stated_law(self, law):
        own = {"mine": Biomarker(mean_percent_per_year=-2.0, sd_percent_per_year=1.5, noise_percent=0.5)}
        arm = Arm(name="treated", slowing={"mine": 0.5})
        data = simulate_arm(law(treated=arm, biomarkers=own), arm, 10, 1000, generator_of(0, 6))
        change = (data.untreated[..., -1, 0] - data.untreated[..., 0, 0]) / 1.5
        assert float(change.mean()) == pytest.approx(-2.0, abs=0.06)
        assert float(change.std()) == pytest.approx(np.sqrt(1.5**2 + 2 * 0.5**2 / 1.5**2), rel=0.03)
        assert float(data.true_effect[0]) == pytest.approx(1.5, rel=0.03)

    def test_people_leave_at_the_stated_rate_and_miss_visits(self, law):
        data = self.one(law, Arm(name="treated"), dropout_per_year=0.3, missed_visit=0.1)
        stayed = np.exp(-0.3 * np.array([0, 0.5, 1, 1.5])) * np.array([1, 0.9, 0.9, 0.9])
        np.testing.assert_allclose(data.present.double().mean(dim=(0, 1)), stayed, atol=0.05)
