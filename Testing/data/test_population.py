"""Drawn people against the law that the configuration states, within sampling error."""

import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.config import from_dict, read_settings, to_dict
from neuro4d_lib.data.population import Population, covariate_values, covariates_of
from neuro4d_lib.data.population_config import PopulationConfig, RegionRate
from neuro4d_lib.data.population_volumes import PopulationVolumes
from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

N = 20_000
CONFIG = PopulationConfig()
POPULATION = Population()
GROUPS = [region.group for region in DRIVEN]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def alike(diagnosis, age=None, male=0.0, education=15.0, apoe4=0.0, count=N):
    """People of the same covariates; at the mean age where none is given."""
    age = CONFIG.ages[DIAGNOSES.index(diagnosis)][0] if age is None else age
    row = torch.tensor([age, male, education, apoe4, DIAGNOSES.index(diagnosis)], dtype=torch.float64)
    return row.expand(count, -1)


def drawn(diagnosis, **known):
    return POPULATION.people_with(alike(diagnosis, **known), generator())


def place(group):
    return GROUPS.index(group)


def correlation(a, b):
    return np.corrcoef(a.numpy(), b.numpy())[0, 1]


class TestRates:
    @pytest.mark.parametrize("diagnosis", DIAGNOSES)
    def test_have_the_configured_mean_and_spread_in_every_region(self, diagnosis):
        rate, d = 100 * drawn(diagnosis).rate, DIAGNOSES.index(diagnosis)
        for r, group in enumerate(GROUPS):
            law = CONFIG.rates[group]
            assert float(rate[:, r].mean()) == pytest.approx(law.mean[d], abs=4 * law.sd[d] / N**0.5)
            assert float(rate[:, r].std()) == pytest.approx(law.sd[d], rel=4 / (2 * N) ** 0.5)

    def test_correlate_as_configured(self):
        rate = drawn("MCI").rate
        shared, side = CONFIG.region_correlation, CONFIG.side_correlation
        left, right, fluid = place("hippocampus"), place("hippocampus") + 1, place("lateral_ventricle")
        assert correlation(rate[:, left], rate[:, right]) == pytest.approx(shared + (1 - shared) * side, abs=0.02)
        assert correlation(rate[:, left], rate[:, place("thalamus")]) == pytest.approx(shared, abs=0.03)
        assert correlation(rate[:, left], rate[:, fluid]) == pytest.approx(-shared, abs=0.03)

    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            (dict(age=83.0), {"hippocampus": -0.05 * 10, "occipital_cortex": -0.005 * 10}),
            (dict(apoe4=2.0), {"hippocampus": 2 * 0.1 * -1.41, "occipital_cortex": 0.0}),
            (dict(male=1.0), {"hippocampus": -0.05 * -1.41, "occipital_cortex": -0.05 * -0.35}),
            (dict(education=20.0), {"hippocampus": -0.01 * 5 * -1.41, "occipital_cortex": -0.01 * 5 * -0.35}),
        ],
        ids=["age", "apoe4", "sex", "education"],
    )
    def test_differ_by_covariates_as_configured(self, changed, expected):
        difference = 100 * (POPULATION.rate_given(alike("CN", **changed)) - POPULATION.rate_given(alike("CN")))[0]
        for group, value in expected.items():
            assert float(difference[place(group)]) == pytest.approx(value, abs=1e-9)

    def test_apoe4_does_nothing_in_dementia(self):
        torch.testing.assert_close(POPULATION.rate_given(alike("AD", apoe4=2.0)), POPULATION.rate_given(alike("AD")))

    def test_accelerate_as_configured(self):
        acceleration = 100 * drawn("AD").acceleration
        sd = CONFIG.acceleration_sd * 7.0
        ventricle = acceleration[:, place("lateral_ventricle")]
        assert float(ventricle.mean()) == pytest.approx(0.6, abs=4 * sd / N**0.5)
        assert float(ventricle.std()) == pytest.approx(sd, rel=0.02)

    def test_bend_the_course_by_half_the_acceleration(self):
        people = drawn("MCI", count=2000)
        years = torch.tensor([1.0, 4.0], dtype=torch.float64).expand(2000, -1)
        rates = POPULATION.mean_velocity_rates(people, years, generator(1))
        left = rates - people.rate[:, None] - people.acceleration[:, None] * years[..., None] / 2
        uneven = CONFIG.unevenness * POPULATION.rate_sd[1]
        assert float((left.mean(dim=(0, 1)) / uneven).abs().max()) < 4.5 / 4000**0.5
        torch.testing.assert_close(left.flatten(0, 1).std(dim=0), uneven, rtol=0.06, atol=0)


class TestState:
    @pytest.mark.parametrize("diagnosis", ["CN", "AD"])
    def test_is_smaller_in_tissue_and_larger_in_fluid_where_the_rate_is_faster(self, diagnosis):
        people, kappa = drawn(diagnosis), CONFIG.state_correlation[DIAGNOSES.index(diagnosis)]
        for group in ("hippocampus", "lateral_ventricle", "frontal_cortex"):
            r = place(group)
            assert correlation(people.state[:, r], people.rate[:, r]) == pytest.approx(kappa, abs=0.03)

    def test_has_the_configured_mean_and_spread(self):
        people = drawn("AD", age=70.0)
        r, sd = place("hippocampus"), CONFIG.state_sd["hippocampus"]
        assert float(people.state[:, r].mean()) == pytest.approx(-0.2 - 0.006 * 10, abs=4 * sd / N**0.5)
        assert float(people.state[:, r].std()) == pytest.approx(sd, rel=0.02)
        error = people.seen_state - people.state
        assert float(error.std()) == pytest.approx(CONFIG.state_error, rel=0.01)


class TestScanError:
    def test_has_the_stated_covariance(self):
        error = POPULATION.scan_error((N,), generator())
        stated = POPULATION.noise_covariance()
        scale = stated.diagonal().sqrt()
        difference = (torch.cov(error.T) - stated) / torch.outer(scale, scale)
        assert float(difference.abs().max()) < 5 * 2**0.5 / N**0.5


class TestCovariates:
    def test_have_the_configured_shares(self):
        table = POPULATION.draw_covariates(N, generator())
        d = table[:, 4].long()
        for i, share in enumerate(CONFIG.diagnosis_shares):
            here = table[d == i]
            assert len(here) / N == pytest.approx(share, abs=4 * (share * (1 - share) / N) ** 0.5)
            assert float(here[:, 0].mean()) == pytest.approx(CONFIG.ages[i][0], abs=0.6)
            assert float(here[:, 1].mean()) == pytest.approx(CONFIG.male_shares[i], abs=0.04)
            for alleles, of_allele in enumerate(CONFIG.apoe4_shares[i]):
                assert float((here[:, 3] == alleles).double().mean()) == pytest.approx(of_allele, abs=0.04)

    def test_are_hidden_as_often_as_configured(self):
        hidden = POPULATION.hide(POPULATION.draw_covariates(N, generator()), generator(1)).isnan()
        chance = 1 - (1 - CONFIG.missing) * (1 - CONFIG.nothing_known)
        assert float(hidden.double().mean()) == pytest.approx(chance, abs=0.01)
        assert float(hidden.all(dim=1).double().mean()) == pytest.approx(CONFIG.nothing_known, abs=0.006)

    def test_survive_the_way_into_a_table_and_back(self):
        for person in (Covariates(), Covariates(71.5, "M", 12.0, 2, "PD"), Covariates(apoe4=0, sex="F")):
            assert covariates_of(covariate_values(person)) == person


class TestConfiguration:
    def test_every_assumption_has_help_and_a_source(self):
        for field in dataclasses.fields(PopulationConfig):
            assert field.metadata["help"] and field.metadata["source"], field.name
        assert all(rate.source for rate in CONFIG.rates.values())

    def test_survives_the_way_through_json(self):
        assert from_dict(PopulationConfig, to_dict(CONFIG)) == CONFIG

    def test_another_value_gives_another_population(self):
        faster = RegionRate((-3.0,) * 5, (1.0,) * 5, "test")
        changed = dataclasses.replace(CONFIG, rates={**CONFIG.rates, "thalamus": faster})
        difference = Population(changed).mean_rate - POPULATION.mean_rate
        assert set(np.flatnonzero(difference.abs().sum(dim=0))) == {place("thalamus"), place("thalamus") + 1}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scan_noise": {"hipocampus": 1.0}}, "scan_noise.hipocampus: there is no such region"),
            ({"rates": {}}, "the region 'amygdala' is missing"),
            ({"age_effect": {"thalamus": (0.1, 0.2)}}, "age_effect.thalamus: found 2 values; expected 5"),
            ({"male_shares": (0.5,)}, "male_shares: found 1 values; expected 5"),
            ({"diagnosis_shares": (0.5, 0.5, 0.5, 0.0, 0.0)}, "diagnosis_shares: .* the sum 1.5; expected 1"),
            ({"state_correlation": (0.0, 1.5, 0.0, 0.0, 0.0)}, "state_correlation: .* between -1 and 1"),
            ({"region_correlation": -0.5}, "region_correlation: found -0.5; expected 0 to less than 1"),
            ({"missing": 3.0}, "missing: found 3; expected 0 to 1"),
            ({"scan_noise": {"hippocampus": -1.0}}, "scan_noise.hippocampus: found -1; expected 0 or more"),
            (
                {"dropout_per_year": (0.1, 0.1, -0.1, 0.1, 0.1)},
                r"dropout_per_year\[2\]: found -0.1; expected 0 or more",
            ),
            ({"visit_gap_years": (2.5, 0.25)}, "visit_gap_years: found 2.5 to 0.25; expected more than 0, ascending"),
            ({"ages": ((730.0, 8.0),) * 5}, r"ages\[0\]: found mean 730, SD 8; expected a mean of 18 to 100"),
            ({"apoe4_shares": ((0.5, 0.5),) * 5}, r"apoe4_shares\[0\]: found 2 shares; expected 3"),
        ],
    )
    def test_refuses_what_does_not_fit(self, change, message):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(CONFIG, **change)

    def test_from_a_file_names_the_line_of_what_does_not_fit(self, tmp_path):
        file = tmp_path / "population.json"
        file.write_text('{"unevenness": 0.1,\n "male_shares": [0.5]}', encoding="utf-8")
        with pytest.raises(InputError, match=r"population.json, line 2: male_shares: found 1 values"):
            read_settings(file, PopulationConfig)
        file.write_text('{"rates": {\n "thalamus": {"mean": [1, 1, 1, 1, 1]}}}', encoding="utf-8")
        with pytest.raises(InputError, match=r"line 2: rates.thalamus: sd is missing; expected mean, sd, source"):
            read_settings(file, PopulationConfig)
        file.write_text('{"missing": 0.1,\n "lesions": {\n "growing_share": 2}}', encoding="utf-8")
        with pytest.raises(InputError, match=r"line 3: lesions.growing_share: found 2; expected 0 to 1"):
            read_settings(file, PopulationConfig)
        file.write_text('{"unevenness": 0.1}', encoding="utf-8")
        assert read_settings(file, PopulationConfig) == dataclasses.replace(CONFIG, unevenness=0.1)


@pytest.fixture(scope="module")
def volumes():
    """Regions of 1, 2, 3, ... voxels of 8 mm3."""
    labels = np.repeat(np.arange(1, len(DRIVEN) + 2), np.arange(1, len(DRIVEN) + 2))
    labels = labels.reshape(1, 1, -1).astype(np.uint8)
    return PopulationVolumes(
        POPULATION, Reference(labels.astype(np.float32), labels, Grid(labels.shape, np.diag([2, 2, 2, 1.0])))
    )


class TestVolumes:
    def test_change_by_the_rates_of_their_regions(self, volumes):
        age, years = np.full(4000, 75.0), np.tile([0.0, 2.0, np.nan], (4000, 1))
        log = volumes.log_volumes(age, np.full(4000, "AD"), years, ["left_thalamus", "thalamus"], generator())
        assert log.shape == (4000, 3, 2) and np.isnan(log[:, 2]).all() and np.isfinite(log[:, :2]).all()
        per_year = 100 * (log[:, 1] - log[:, 0]) / 2
        # Men and schooling: shares of the mean rate.
        expected = -1.1 * (1 - 0.05 * CONFIG.male_shares[2])
        np.testing.assert_allclose(per_year.mean(axis=0), expected, atol=0.06)
        assert per_year[:, 1].std() < per_year[:, 0].std()

    def test_of_a_sum_are_the_sums(self, volumes):
        ages, still = np.full(3, 70.0), np.zeros((3, 1))
        names = ["left_caudate", "right_caudate", "caudate"]
        left, right, both = np.exp(volumes.log_volumes(ages, np.full(3, "CN"), still, names, generator()))[:, 0].T
        np.testing.assert_allclose(both, left + right)

    def test_noise_of_a_sum_is_that_of_its_scan_errors(self, volumes):
        error = POPULATION.scan_error((N,), generator()).numpy()
        mm3 = volumes.reference_mm3.numpy() * np.array([group == "hippocampus" for group in GROUPS])
        measured = np.log1p(error @ (mm3 / mm3.sum())).std()
        single, both = volumes.noise_sd(["left_hippocampus", "hippocampus"])
        assert both == pytest.approx(measured, rel=0.03)
        assert single == pytest.approx((0.017**2 + 0.0015**2) ** 0.5)

    def test_name_what_has_no_rate(self, volumes):
        with pytest.raises(InputError, match="no rate of 'sulcal_csf'"):
            volumes.noise_sd(["sulcal_csf"])
