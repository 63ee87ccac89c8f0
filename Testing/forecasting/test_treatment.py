"""The same futures with and without a treatment."""

import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.checkpoint import SHIPPED, load_model
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.treatment import Treatment
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.treatment import treated, treated_velocities, velocity_rates

NAMES = [region.name for region in DRIVEN]
HIPPOCAMPI = [NAMES.index(f"{side}_hippocampus") for side in ("left", "right")]


@pytest.fixture(scope="module")
def model():
    return load_model(SHIPPED, torch.device("cpu"))


@pytest.fixture(scope="module")
def drawn(example, model):
    """A forecast whose velocities are the model's: 2 futures of 2 years, rates of some percent per year."""
    deformation = model.network.deformation
    rates = 0.03 * torch.randn(2, 2, len(NAMES), generator=torch.Generator().manual_seed(3))
    velocities = deformation.decode(deformation.from_rates(rates))
    return dataclasses.replace(example, drawn_mm=velocities, model_sha256=model.sha256), rates


def with_treatment(forecast, treatment, model):
    """Without measuring it anew, which takes its time."""
    return dataclasses.replace(forecast, drawn_mm=treated_velocities(forecast, treatment, model))


class TestTreated:
    def test_no_effect_is_the_same_forecast_voxel_for_voxel(self, drawn, model):
        forecast, _ = drawn
        nothing = Treatment({"hippocampus": 0.0, "whole_brain": 0.0}, added_ml={"caudate": 0.0})
        same = with_treatment(forecast, nothing, model)
        assert torch.equal(same.drawn_mm, forecast.drawn_mm)
        np.testing.assert_array_equal(same.image(1, future=1), forecast.image(1, future=1))

    def test_full_slowing_everywhere_leaves_the_scan_as_it_is(self, drawn, model):
        forecast, _ = drawn
        everything = {"whole_brain": 1.0, "lateral_ventricle": 1.0, "third_ventricle": 1.0}
        still = with_treatment(forecast, Treatment(everything), model)
        assert np.abs(still.volume_change_percent(1)).max() < 1e-3
        np.testing.assert_array_equal(still.image(1), forecast.scan.array)

    def test_only_the_named_region_is_slowed_by_the_share_after_the_onset(self, drawn, model):
        forecast, rates = drawn
        slowed = treated_velocities(forecast, Treatment({"hippocampus": 0.4}, onset_years=0.5), model)
        factor = torch.ones(2, len(NAMES))
        for time, year in enumerate(forecast.years):  # 1 and 4
            factor[time, HIPPOCAMPI] = 1 - 0.4 * (year - 0.5) / year
        torch.testing.assert_close(velocity_rates(model, slowed).float(), rates * factor, atol=2e-6, rtol=0)

    def test_volumes_are_measured_anew_and_the_treatment_is_named(self, drawn, aligned, scan):
        forecast, _ = drawn
        first = dataclasses.replace(forecast, years=(1.0,), drawn_mm=forecast.drawn_mm[:1, :1])
        found = treated(first, Treatment(added_ml={"lateral_ventricle": 0.5}))
        ratio = 1 + found.volume_change_percent(0, future=0) / 100
        ventricles = [NAMES.index(f"{side}_lateral_ventricle") + 1 for side in ("left", "right")]
        voxel_mm3 = abs(np.linalg.det(scan.affine[:3, :3]))
        integral_mm3 = ratio[np.isin(aligned.labels, ventricles)].sum() * voxel_mm3
        place = forecast.volumes.names.index("lateral_ventricle")
        assert found.volumes.futures_mm3[0, 0, place] == pytest.approx(integral_mm3, rel=1e-5)
        sentence = (
            "With a hypothetical treatment, not a real one: lateral ventricle gains 0.5 mL in 1 year, from 0 years on."
        )
        assert found.warnings[0] == sentence

    def test_another_model_is_refused(self, example, model):
        with pytest.raises(InputError, match="another model"):
            treated_velocities(example, Treatment({"hippocampus": 0.2}), model)


class TestTreatment:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"slowing": {"hippocampus": 25.0}}, "0.25 is 25 % slower"),
            ({"slowing": {"hipocampus": 0.2}}, "there is no such region"),
            ({"added_ml": {"moon": 1.0}}, "added_ml.moon: there is no such region"),
            ({"onset_years": -1.0}, "expected 0 or more years"),
            ({"added_over_years": 0.0}, "expected more than 0 years"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, settings, said):
        with pytest.raises(SettingError, match=said):
            Treatment(**settings)

    def test_refuses_to_take_more_than_there_is(self):
        rates, years = np.zeros((1, len(NAMES))), np.array([1.0])
        with pytest.raises(SettingError, match="more is taken than left_hippocampus has"):
            Treatment(added_ml={"hippocampus": -8.0}).rates(rates, years, np.full(len(NAMES), 3000.0))
