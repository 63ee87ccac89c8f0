"""People who follow straight lines exactly: the best possible forecast is known, and the baselines must reach it."""

import numpy as np
import pytest

from neuro4d_lib.applications.baselines import METHODS, fit, mean_acceleration
from neuro4d_lib.applications.line_law import GroupLaw, LineLaw, People
from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.calibration import crps_gaussian, gaussian_band

# Two regions; % and %/year. The noise differs, so does the spread of rates between the groups' means.
LEVEL_SD, NOISE_SD = np.array([9.0, 12.0]), np.array([0.4, 1.3])
RATE_SD = np.array([0.7, 1.8])
MEAN_RATE = {"CN": np.array([-0.65, -1.4]), "AD": np.array([-1.8, -4.7])}
RATE_PER_YEAR_OF_AGE = {"CN": -0.05, "AD": 0.05}
MEAN_AGE = 74.0
PERSONAL = ("personal_slope", "registration_extrapolation")


def simulate(rng, people, visits, past=True):
    """People, their true rates [N, R] in 1/year, and their true levels."""
    diagnosis, age = rng.choice(["CN", "AD"], people), rng.normal(MEAN_AGE, 7, people)
    years = np.full((people, visits), np.nan)
    for row in years:
        n = rng.integers(1 if past else 2, visits + 1)
        row[:n] = np.sort(rng.uniform(-6, 0, n))
        row -= np.nanmax(row)
    mean = np.array(
        [MEAN_RATE[d] + RATE_PER_YEAR_OF_AGE[d] * (a - MEAN_AGE) for d, a in zip(diagnosis, age, strict=True)]
    )
    rate = mean + rng.normal(size=(people, 2)) * RATE_SD
    level = 800 + rng.normal(size=(people, 2)) * LEVEL_SD
    measured = level[:, None] + rate[:, None] * years[:, :, None]
    measured += rng.normal(size=measured.shape) * NOISE_SD
    return People(years, measured / 100, age, diagnosis), rate / 100, level / 100


def exact_by_conditioning(past, person, region, years, level_known):
    """Mean and SD of rate * years by textbook conditioning of the joint Gaussian of everything; no shared formula."""
    seen = np.isfinite(past.years[person])
    t, y = past.years[person, seen], 100 * past.log_volumes[person, seen, region]
    diagnosis = past.diagnosis[person]
    mean_rate = MEAN_RATE[diagnosis][region] + RATE_PER_YEAR_OF_AGE[diagnosis] * (past.age[person] - MEAN_AGE)
    level_variance = LEVEL_SD[region] ** 2 if level_known else 1e7
    rate_variance = RATE_SD[region] ** 2
    scans = level_variance + rate_variance * np.outer(t, t) + NOISE_SD[region] ** 2 * np.eye(len(t))
    gain = np.linalg.solve(scans, rate_variance * t)
    mean = mean_rate + gain @ (y - 800 - mean_rate * t)
    variance = rate_variance - gain @ (rate_variance * t)
    return mean * years / 100, np.sqrt(variance) * years / 100


@pytest.fixture(scope="module")
def training():
    return simulate(np.random.default_rng(1), 1200, 5, past=False)[0]


@pytest.fixture(scope="module")
def test_people():
    return simulate(np.random.default_rng(2), 1500, 4)


@pytest.fixture(scope="module")
def forecasters(training):
    return {name: fit(name, training) for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["change", "measured"])
class TestEveryBaseline:
    YEARS = np.array([1.0, 2.5, np.nan])

    def forecast(self, forecasters, method, target, past):
        return forecasters[method](past, np.tile(self.YEARS, (len(past.age), 1)), target)

    def test_answers_for_every_person_horizon_and_region_it_can(self, forecasters, test_people, method, target):
        past = test_people[0]
        found = self.forecast(forecasters, method, target, past)
        scans = np.isfinite(past.years).sum(axis=1)
        can = (scans >= (2 if method in PERSONAL else 1))[:, None, None] & np.isfinite(self.YEARS)[:, None]
        np.testing.assert_array_equal(np.isfinite(found.mean), np.broadcast_to(can, found.mean.shape))
        if method == "copy_last":
            assert found.sd is None
        else:
            assert np.all(found.sd[np.isfinite(found.mean)] > 0)

    def test_looks_at_nobody_else(self, forecasters, test_people, method, target):
        past = test_people[0]
        some = np.array([7, 3, 200])
        chosen = past.only(some)
        np.testing.assert_allclose(
            self.forecast(forecasters, method, target, chosen).mean,
            self.forecast(forecasters, method, target, past).mean[some],
        )

    def test_ignores_the_order_of_the_visits(self, forecasters, test_people, method, target):
        past = test_people[0]
        turned = People(past.years[:, ::-1], past.log_volumes[:, ::-1], past.age, past.diagnosis)
        np.testing.assert_allclose(
            self.forecast(forecasters, method, target, turned).mean,
            self.forecast(forecasters, method, target, past).mean,
            atol=1e-12,
        )

    def test_lives_with_unknown_age_diagnosis_and_volumes(self, forecasters, test_people, method, target):
        past = test_people[0]
        volumes = past.log_volumes.copy()
        volumes[:, :-1, 1] = np.nan  # the second region is known at most at the last column, which is rarely a visit
        unknown = People(
            past.years, volumes, np.full_like(past.age, np.nan), np.where(past.age > 74, "", "never seen before")
        )
        found = self.forecast(forecasters, method, target, unknown)
        enough = np.isfinite(past.years).sum(axis=1) >= 2
        assert np.isfinite(found.mean[enough, :2, 0]).all()

    def test_refuses_a_past_that_reaches_into_the_future(self, forecasters, test_people, method, target):
        past = test_people[0]
        late = People(past.years + 1, past.log_volumes, past.age, past.diagnosis)
        with pytest.raises(InputError, match="must be at 0; person 0 has it at 1"):
            self.forecast(forecasters, method, target, late)
        with pytest.raises(InputError, match="later than the last scan"):
            forecasters[method](past, np.full((len(past.age), 1), -1.0), target)


class TestAgainstTheExactForecast:
    @pytest.mark.parametrize(("method", "level_known"), [("shrunk_slope", False), ("mixed_effects", True)])
    def test_learned_laws_reach_the_exact_posterior(self, forecasters, test_people, method, level_known):
        past, rate, _ = test_people
        years = 3.0
        exact = np.array(
            [
                [exact_by_conditioning(past, person, region, years, level_known) for region in range(2)]
                for person in range(len(rate))
            ]
        )
        found = forecasters[method](past, np.full((len(rate), 1), years))
        mean, sd = found.mean[:, 0], found.sd[:, 0]
        # Sampling error of 1,200 training people: a few percent of the spread of what is being predicted.
        off = np.sqrt(np.mean(np.square((mean - exact[..., 0]) / exact[..., 1]), axis=0))
        assert np.all(off < 0.08)
        np.testing.assert_allclose(sd, exact[..., 1], rtol=0.05)
        truth = years * rate
        crps, best = (crps_gaussian(*law, truth).mean(axis=0) for law in ((mean, sd), (exact[..., 0], exact[..., 1])))
        assert np.all(crps < 1.01 * best)
        reference = forecasters["group_rate"](past, np.full((len(rate), 1), years))
        of_reference = crps_gaussian(reference.mean[:, 0], reference.sd[:, 0], truth).mean(axis=0)
        assert np.all((of_reference - crps) / (of_reference - best) > 0.985)  # share of attainable skill

    @pytest.mark.parametrize("method", ["group_rate", "shrunk_slope", "mixed_effects", *PERSONAL])
    @pytest.mark.parametrize("target", ["change", "measured"])
    def test_bands_cover_what_they_claim(self, forecasters, test_people, method, target):
        past, rate, level = test_people
        horizon = np.full((len(rate), 1), 2.0)
        truth = 2 * rate
        if target == "measured":
            noise = np.random.default_rng(3).normal(size=rate.shape) * NOISE_SD / 100
            last = np.take_along_axis(past.log_volumes, np.nanargmax(past.years, axis=1)[:, None, None], axis=1)[:, 0]
            truth = level + 2 * rate + noise - last
        found = forecasters[method](past, horizon, target)
        low, high = gaussian_band(found.mean[:, 0], found.sd[:, 0], 0.9)
        known = np.isfinite(low)
        inside = ((low <= truth) & (truth <= high))[known].mean()
        assert abs(inside - 0.9) < 4 * np.sqrt(0.09 / known.sum()) + 0.005

    def test_unknown_diagnosis_and_age_widen_the_band_and_it_still_covers(self, forecasters, test_people):
        past, rate, _ = test_people
        horizon = np.full((len(rate), 1), 2.0)
        unknown = People(past.years, past.log_volumes, np.full_like(past.age, np.nan), np.full_like(past.diagnosis, ""))
        for method in ("group_rate", "shrunk_slope", "mixed_effects"):
            blind, seeing = (forecasters[method](p, horizon) for p in (unknown, past))
            assert blind.sd.mean() > 1.05 * seeing.sd.mean()
            low, high = gaussian_band(blind.mean[:, 0], blind.sd[:, 0], 0.9)
            assert ((low <= 2 * rate) & (2 * rate <= high)).mean() == pytest.approx(0.9, abs=0.02)

    def test_with_one_scan_the_shrunk_slope_is_the_group_rate(self, forecasters, test_people):
        past, horizon = test_people[0].latest(1), np.full((1500, 1), 2.0)
        np.testing.assert_allclose(
            forecasters["shrunk_slope"](past, horizon).mean, forecasters["group_rate"](past, horizon).mean
        )

    def test_personal_lines_are_least_squares(self, forecasters, test_people):
        past = test_people[0]
        horizon = np.full((len(past.age), 1), 2.0)
        slope = forecasters["personal_slope"](past, horizon).mean[:, 0] / 2
        last_two = forecasters["registration_extrapolation"](past, horizon).mean[:, 0] / 2
        for person in range(30):
            seen = np.isfinite(past.years[person])
            if seen.sum() >= 2:
                t, y = past.years[person, seen], past.log_volumes[person, seen]
                np.testing.assert_allclose(slope[person], np.polyfit(t, y, 1)[0], rtol=1e-6)
                np.testing.assert_allclose(last_two[person], (y[-1] - y[-2]) / (t[-1] - t[-2]), rtol=1e-6)


# shared/atrophy-rates.md, section 4: mean rate, SD of rates, SD of a scan's noise (% and %/year), and the reduction of
# error in % by 2, 3 and 5 annual scans, of the posterior and (second) of the unshrunk line, at +2 years.
TABLE = {
    "whole brain CN": (-0.65, 0.63, 0.37, (19, 38, 55), (-1, 35, 55)),
    "whole brain MCI": (-1.15, 1.09, 0.37, (44, 61, 72), (38, 60, 72)),
    "whole brain AD": (-1.84, 1.22, 0.37, (49, 65, 75), (45, 64, 75)),
    "hippocampus CN, CV 1 %": (-1.41, 1.0, 1.0, (3, 15, 33), (-53, 1, 32)),
    "hippocampus CN, CV 2 %": (-1.41, 1.0, 2.0, (2, 3, 12), (-116, -39, 3)),
    "hippocampus MCI, CV 1 %": (-2.55, 1.6, 1.0, (17, 35, 53), (-7, 31, 52)),
    "hippocampus MCI, CV 2 %": (-2.55, 1.6, 2.0, (0, 8, 25), (-75, -13, 22)),
    "hippocampus AD, CV 1 %": (-4.66, 2.0, 1.0, (26, 46, 61), (12, 43, 61)),
    "hippocampus AD, CV 2 %": (-4.66, 2.0, 2.0, (3, 15, 33), (-53, 1, 32)),
}


class TestWhatPastScansCanBuy:
    @pytest.mark.parametrize("case", TABLE)
    def test_table_of_atrophy_rates(self, case):
        _, sd, noise, shrunk, unshrunk = TABLE[case]
        for scans, of_law, of_line in zip((2, 3, 5), shrunk, unshrunk, strict=True):
            assert round(self.reduction(sd, noise, scans)) == of_law
            assert round(self.reduction(np.inf, noise, scans, prior_sd=sd)) == of_line

    @pytest.mark.parametrize("case", ["whole brain CN", "hippocampus MCI, CV 1 %", "hippocampus CN, CV 2 %"])
    def test_learned_forecasters_earn_it(self, case):
        """The same reduction, of the mean absolute error of forecasts by laws that were learned from other people."""
        mean, sd, noise, shrunk, unshrunk = TABLE[case]
        rng = np.random.default_rng(8)
        annual = -np.arange(5.0)[::-1]

        def people(n):
            rate, level = rng.normal(mean, sd, n), rng.normal(0, 10, n)
            scans = level[:, None] + rate[:, None] * annual + rng.normal(0, noise, (n, 5))
            later = level + 2 * rate + rng.normal(0, noise, n)
            years = np.tile(annual, (n, 1))
            return People(years, scans[..., None] / 100, np.full(n, np.nan), np.full(n, "")), (
                later - scans[:, -1]
            ) / 100

        training = people(3000)[0]
        past, truth = people(40_000)
        horizon = np.full((len(truth), 1), 2.0)

        def error(method, scans):
            found = fit(method, training)(past.latest(scans), horizon, "measured").mean[:, 0, 0]
            return np.abs(found - truth).mean()

        reference = error("group_rate", 1)
        for scans, of_law, of_line in zip((2, 3, 5), shrunk, unshrunk, strict=True):
            assert 100 * (1 - error("shrunk_slope", scans) / reference) == pytest.approx(of_law, abs=1.5)
            assert 100 * (1 - error("personal_slope", scans) / reference) == pytest.approx(of_line, abs=2.5)

    @staticmethod
    def reduction(sd, noise, scans, prior_sd=None):
        """Reduction in % of the SD of the forecast of a scan at +2 years, against one scan and the mean rate."""

        def spread(rate_sd, scans):
            covariance = np.array([[[np.inf], [0.0]], [[0.0], [rate_sd**2]]])
            law = GroupLaw(np.zeros((2, 2, 1)), covariance, 0.0, 0.0, np.zeros(1))
            past = People(-np.arange(float(scans))[None], np.zeros((1, scans, 1)), np.full(1, np.nan), np.array([""]))
            return LineLaw({"": law}, np.array([noise**2])).forecast(past, np.array([[2.0]]), "measured").sd.item()

        return 100 * (1 - spread(sd, scans) / spread(prior_sd or sd, 1))


class TestAcceleration:
    """Hippocampus in MCI: 0.22 %/year^2 (Leung 2013), beside a group that does not accelerate."""

    @staticmethod
    def bent(people):
        """The same people, of whom the second group accelerates in the second region; and the acceleration [N, R]."""
        acceleration = np.where(people.diagnosis == "AD", -0.0022, 0.0)[:, None] * [0.0, 1.0]
        bend = acceleration[:, None] * np.square(people.years)[:, :, None] / 2
        return People(people.years, people.log_volumes + bend, people.age, people.diagnosis), acceleration

    @pytest.mark.parametrize("method", ["group_rate", "shrunk_slope"])
    def test_of_the_group_is_learned_and_carried_on(self, test_people, method):
        training = simulate(np.random.default_rng(5), 6000, 5, past=False)[0]
        past, acceleration = self.bent(test_people[0])
        years = 5.0
        truth = years * test_people[1] + acceleration * years**2 / 2
        found = fit(method, self.bent(training)[0])(past, np.full((len(truth), 1), years))
        error = (found.mean[:, 0] - truth)[past.diagnosis == "AD", 1]
        # A straight line would be 2.75 % off, and more as its slope is that of years gone by.
        assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error)) + 0.003
        low, high = gaussian_band(found.mean[:, 0], found.sd[:, 0], 0.9)
        assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.9, abs=0.02)

    def test_is_left_out_where_it_is_not_sure(self, training):
        for diagnosis in ("CN", "AD"):
            assert np.all(mean_acceleration(training.only(training.diagnosis == diagnosis)) == 0)

    def test_estimate(self):
        training, acceleration = self.bent(simulate(np.random.default_rng(5), 6000, 5, past=False)[0])
        here = training.diagnosis == "AD"
        np.testing.assert_allclose(mean_acceleration(training.only(here)), acceleration[here][0], atol=4e-4)


class TestTraining:
    def test_a_rare_group_is_served_by_everybody(self, training):
        diagnosis = training.diagnosis.astype(object)
        diagnosis[:5] = "PD"
        rare = People(training.years, training.log_volumes, training.age, diagnosis.astype(str))
        past = People(np.zeros((1, 1)), np.full((1, 1, 2), 8.0), np.array([74.0]), np.array(["PD"]))
        forecaster = fit("group_rate", rare)
        unknown = People(past.years, past.log_volumes, past.age, np.array([""]))
        horizon = np.array([[1.0]])
        np.testing.assert_allclose(forecaster(past, horizon).mean, forecaster(unknown, horizon).mean)
        assert -0.04 < forecaster(past, horizon).mean[0, 0, 1] < -0.02  # between the groups

    def test_two_visits_each_cannot_tell_noise_from_change(self, training):
        with pytest.raises(InputError, match="three or more visits"):
            fit("shrunk_slope", training.latest(2))

    def test_an_unknown_method_is_named(self, training):
        with pytest.raises(InputError, match=r"'magic'.*copy_last"):
            fit("magic", training)
