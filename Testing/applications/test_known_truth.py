"""The exact forecaster against brute-force Monte Carlo of the population it is exact for."""

import math

import pytest
import torch

from neuro4d_lib.applications.exact_unknown import Draws, exact_forecast_of_unknown, exact_mixture, hidden
from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    Cases,
    closed_form_futures,
    exact_posterior,
    joint_covariance,
    joint_mean,
    model_futures,
    observations,
    simulate_cases,
)
from neuro4d_lib.checkpoint import load_model
from neuro4d_lib.data.population import COVARIATES, Population
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

CPU = torch.device("cpu")

POPULATION = Population()
REGIONS = len(DRIVEN)
HIPPOCAMPUS, VENTRICLE = (
    next(i for i, r in enumerate(DRIVEN) if r.group == g) for g in ("hippocampus", "lateral_ventricle")
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def alike(diagnosis, scans, people, seed):
    """People of the same covariates and the same visits, drawn as `simulate_cases` draws them."""
    d = DIAGNOSES.index(diagnosis)
    covariates = torch.tensor([72.0, 1.0, 12.0, 1.0, d], dtype=torch.float64).expand(people, -1)
    past = torch.tensor([-2.3, -1.1][3 - scans :], dtype=torch.float64).expand(people, -1)
    ahead, g = torch.tensor(HORIZONS, dtype=torch.float64).expand(people, -1), generator(seed)
    drawn = POPULATION.people_with(covariates, g)
    rates = POPULATION.mean_velocity_rates(drawn, torch.cat([past, ahead], dim=1), g)
    earlier, latest = POPULATION.scan_error((people, scans - 1), g), POPULATION.scan_error((people, 1), g)
    seen = rates[:, : scans - 1] + (earlier - latest) / past[..., None]
    return Cases(covariates, drawn.seen_state, past, seen, rates[:, scans - 1 :])


class TestJointLaw:
    def test_has_the_mean_and_covariance_of_the_drawn_people(self):
        cases = alike("AD", 3, 20_000, 1)
        drawn = torch.cat([observations(cases), cases.truth], dim=1).flatten(1)
        mean = joint_mean(POPULATION, cases.covariates[:1], cases.years()[:1]).flatten(1)[0]
        covariance = joint_covariance(POPULATION, cases.covariates[:1, 4].long(), cases.years()[:1], 2)[0]
        scale = covariance.diagonal().sqrt()
        assert float(((drawn.mean(dim=0) - mean) / scale).abs().max()) < 4.5 / 20_000**0.5
        difference = (torch.cov(drawn.T) - covariance) / torch.outer(scale, scale)
        assert float(difference.abs().max()) < 5.5 * 2**0.5 / 20_000**0.5


class TestKnown:
    @pytest.mark.parametrize("scans", [1, 2, 3])
    def test_is_the_regression_of_the_future_on_what_was_observed(self, scans):
        """Least squares on many drawn people finds the same forecast, without being told the law."""
        training, people = alike("MCI", scans, 30_000, 2), alike("MCI", scans, 200, 3)

        def design(cases):
            return torch.cat([torch.ones(len(cases.past), 1), observations(cases).flatten(1)], dim=1).double()

        target = training.truth.flatten(1)
        fit = torch.linalg.lstsq(design(training), target).solution
        left = target - design(training) @ fit
        posterior = exact_posterior(POPULATION, people)
        sd = posterior.root[0].square().sum(dim=1).sqrt()
        error = (design(people) @ fit - posterior.mean.flatten(1)) / sd
        features = (1 + scans * REGIONS) / len(training.past)
        assert float(error.square().mean()) == pytest.approx(features, rel=0.5)  # nothing but the error of the fit
        torch.testing.assert_close(left.std(dim=0) / (1 - features) ** 0.5, sd, rtol=0.025, atol=0)

    @pytest.mark.parametrize("scans", [1, 2, 5])
    def test_states_how_far_the_truth_will_be(self, scans):
        """In the posterior's own coordinates the truth is standard normal, whoever the people are."""
        cases = simulate_cases(POPULATION, 1500, scans, generator(4))
        z = exact_posterior(POPULATION, cases).to_standard(cases.truth).flatten(1)
        assert float(z.mean(dim=0).abs().max()) < 4.5 / 1500**0.5
        assert float(z.square().mean()) == pytest.approx(1, abs=4 * (2 / z.numel()) ** 0.5)
        off = torch.cov(z.T) - torch.eye(z.shape[1])
        assert float(off.abs().max()) < 5.5 * 2**0.5 / 1500**0.5


def importance_sampling(cases, i, hide, count=100_000):
    """Brute force: people drawn from the population, weighted by how well they explain what was observed of person i.

    Returns: probability of the diagnoses, mean and SD of the rates, and the effective number of people.
    """
    covariates = POPULATION.draw_covariates(count, generator(7))
    known = [c for c, name in enumerate(COVARIATES) if name not in hide]
    assert known in ([], [4])
    if known:
        covariates = covariates[covariates[:, 4] == cases.covariates[i, 4]]
    years, observed = cases.years()[i : i + 1], cases.past.shape[1]
    split = (1 + observed) * REGIONS
    weights, means, variances = [], [], []
    groups = covariates[:, 4].unique().long().tolist()
    for d in groups:
        here = covariates[covariates[:, 4] == d]
        covariance = joint_covariance(POPULATION, torch.tensor([d]), years, observed)[0]
        seen = torch.distributions.MultivariateNormal(torch.zeros(split).double(), covariance[:split, :split])
        mean = joint_mean(POPULATION, here, years.expand(len(here), -1)).flatten(1)
        difference = observations(cases)[i].flatten() - mean[:, :split]
        gain = torch.linalg.solve(covariance[:split, :split], covariance[:split, split:])
        weights.append(seen.log_prob(difference))
        means.append(mean[:, split:] + difference @ gain)
        left = covariance[split:, split:] - covariance[split:, :split] @ gain
        variances.append(left.diagonal().expand(len(here), -1))
    of_group = torch.cat([torch.full((len(part),), d) for d, part in zip(groups, weights, strict=True)])
    log = torch.cat(weights)
    weight = (log - log.max()).exp()
    weight /= weight.sum()
    mean, variance = torch.cat(means), torch.cat(variances)
    center = weight @ mean
    sd = (weight @ (variance + mean**2) - center**2).sqrt()
    probability = torch.zeros(len(DIAGNOSES)).double().index_add(0, of_group, weight)
    return (
        probability,
        center.reshape(len(HORIZONS), -1),
        sd.reshape(len(HORIZONS), -1),
        float(1 / weight.square().sum()),
    )


class TestUnknown:
    def test_with_everything_known_is_the_closed_form(self):
        cases = simulate_cases(POPULATION, 12, 2, generator(5))
        mixture, exact = exact_mixture(POPULATION, cases, 2, generator()), exact_posterior(POPULATION, cases)
        torch.testing.assert_close(mixture.mean, exact.mean)
        torch.testing.assert_close(mixture.sd.flatten(1), exact.root.square().sum(dim=2).sqrt())
        assert torch.equal(mixture.diagnosis.argmax(dim=1), cases.covariates[:, 4].long())

    @pytest.mark.parametrize("hide", [COVARIATES, COVARIATES[:4]], ids=["all", "all but the diagnosis"])
    @pytest.mark.parametrize("scans", [1, 2])
    def test_agrees_with_importance_sampling_of_the_population(self, hide, scans):
        cases = hidden(simulate_cases(POPULATION, 4, scans, generator(6)), hide)
        mixture = exact_mixture(POPULATION, cases, 2, generator())
        for i in range(len(cases.past)):
            probability, mean, sd, effective = importance_sampling(cases, i, hide)
            assert effective > 1500
            error = 5 / effective**0.5
            assert float((mixture.diagnosis[i] - probability).abs().max()) < 0.5 * error
            assert float(((mixture.mean[i] - mean) / sd).abs().max()) < error
            torch.testing.assert_close(mixture.sd[i], sd, rtol=error, atol=0)

    def test_draws_have_the_stated_moments(self):
        cases = hidden(simulate_cases(POPULATION, 3, 2, generator(8)))
        mixture = exact_mixture(POPULATION, cases, 20_000, generator(1))
        error = (mixture.samples.mean(dim=0) - mixture.mean) / mixture.sd
        assert float(error.abs().max()) < 4.5 / 20_000**0.5
        torch.testing.assert_close(mixture.samples.std(dim=0), mixture.sd, rtol=0.04, atol=0)

    @pytest.mark.parametrize("hide", [COVARIATES, ("diagnosis",), ("age", "apoe4")], ids="-".join)
    def test_is_true_of_people_drawn_by_the_simulation(self, hide):
        """The truth is as likely to fall below a draw as above it, at every level; diagnoses come as often as stated."""
        people, draws = 300, 99
        cases = simulate_cases(POPULATION, people, 2, generator(9))
        mixture = exact_mixture(POPULATION, hidden(cases, hide), draws, generator(2))
        for region in (HIPPOCAMPUS, VENTRICLE):
            rank = (mixture.samples[:, :, 1, region] < cases.truth[:, 1, region]).sum(dim=0)
            counts = torch.bincount(rank // 10, minlength=10).double()
            assert float(((counts - people / 10) ** 2 / (people / 10)).sum()) < 27.9  # chi-square of 9, 0.1 %
        stated = mixture.diagnosis
        came = torch.nn.functional.one_hot(cases.covariates[:, 4].long(), len(DIAGNOSES)).double()
        error = (came - stated).sum(dim=0) / (stated * (1 - stated)).sum(dim=0).clamp_min(1e-9).sqrt()
        assert float(error.abs().max()) < 4
        score = came.mul(stated.clamp_min(1e-300).log()).sum(dim=1)
        expected, spread = -torch.special.entr(stated).sum(dim=1), score.std()
        assert float((score - expected).mean().abs()) < 4 * float(spread) / math.sqrt(people) + 1e-9

    def test_knows_less_than_the_forecast_that_knows_everything(self):
        cases = simulate_cases(POPULATION, 300, 1, generator(10))
        known = exact_posterior(POPULATION, cases).mean - cases.truth
        unknown = exact_mixture(POPULATION, hidden(cases), 2, generator()).mean - cases.truth
        assert float(unknown[..., HIPPOCAMPUS].square().mean()) > 1.1 * float(known[..., HIPPOCAMPUS].square().mean())

    def test_as_a_forecast_of_sums_covers_what_it_claims(self):
        people = 500
        cases = simulate_cases(POPULATION, people, 2, generator(11))
        weights = torch.zeros(2, REGIONS, dtype=torch.float64)
        weights[0, HIPPOCAMPUS : HIPPOCAMPUS + 2], weights[1, VENTRICLE] = 0.5, 1.0
        forecast = exact_forecast_of_unknown(POPULATION, hidden(cases), weights, 400, generator(3))
        truth = ((cases.truth * torch.tensor(HORIZONS)[:, None]) @ weights.T).numpy()
        for level in (0.5, 0.9):
            lower, upper = forecast.band(level)
            covered = ((lower <= truth) & (truth <= upper)).mean(axis=0)
            assert abs(covered - level).max() < 4 * (level * (1 - level) / people) ** 0.5
        assert abs(forecast.pit(truth).mean(axis=0) - 0.5).max() < 4 * (1 / 12 / people) ** 0.5
        # The expected score of a forecast that is true is what its own draws would score.
        one, rest = forecast.samples[0], Draws(forecast.samples[1:], forecast.mean)
        difference = (rest.crps(truth) - rest.crps(one)).reshape(people, -1)
        assert abs(difference.mean(axis=0) / difference.std(axis=0)).max() < 4 / people**0.5


def test_the_closed_form_has_the_law_that_it_says():
    model = load_model(None, torch.device("cpu")).network
    batches = SimulatedBatches(Population(), model.deformation, state_maps(model.deformation.fields))
    cases = simulate_cases(Population(), 3, 2, torch.Generator().manual_seed(0))
    drawn, mean, root = closed_form_futures(model, batches, cases, 2000, torch.Generator().manual_seed(1), people=2)
    sd = root.square().sum(dim=-1).sqrt().reshape(mean.shape)
    assert ((drawn.mean(dim=0) - mean) / sd * 2000**0.5).abs().max() < 5
    assert (drawn.std(dim=0) / sd).sub(1).abs().max() < 0.08
    with_noise = model_futures(unmoved(model), batches, cases, 2, torch.Generator().manual_seed(1), CPU, people=2)
    same = closed_form_futures(model, batches, cases, 2, torch.Generator().manual_seed(1), people=2)[0]
    torch.testing.assert_close(with_noise.double(), same, rtol=0, atol=1e-5)


def unmoved(model):
    """The model with a network that adds nothing."""
    model.gate.zero_()
    return model
