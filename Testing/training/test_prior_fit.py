"""The fitted closed form against the law that the people were drawn from."""

import torch

from neuro4d_lib.applications.known_truth import exact_posterior, simulate_cases
from neuro4d_lib.networks.gaussian_prior import GaussianPrior
from neuro4d_lib.training import prior_fit

CPU = torch.device("cpu")


def fitted(batches, steps):
    prior = GaussianPrior(29).double()
    losses = prior_fit.fit(prior, batches, CPU, torch.Generator().manual_seed(1), steps=steps, people=48)
    return prior, losses


def test_its_likelihood_grows(model_and_batches):
    _, losses = fitted(model_and_batches[1], steps=60)
    # Numbers of observed and of future frames take turns, all of them in 15 steps.
    assert sum(losses[45:]) < 0.8 * sum(losses[:15])


def test_its_first_guess_is_near_the_best_possible_forecast_of_people_with_one_scan(model_and_batches):
    _, batches = model_and_batches
    prior, _ = fitted(batches, steps=0)
    cases = simulate_cases(batches.population, 400, 1, torch.Generator().manual_seed(2))
    exact = exact_posterior(batches.population, cases)
    deformation = batches.deformation
    state = deformation.state(batches.anatomy(cases.seen_state)).double()
    with torch.no_grad():
        closed = prior.posterior(cases.covariates, state, cases.years(), deformation.from_rates(cases.seen))
    lost = mean_square(deformation.rates(closed.mean.float()).double() - exact.mean)
    unknowable = mean_square(cases.truth - exact.mean)
    of_group = mean_square(batches.population.rate_given(cases.covariates)[:, None] - exact.mean)
    assert (lost / unknowable).mean() < 0.03
    assert (lost / of_group).mean() < 0.35  # most of what the scan says beyond diagnosis and age is there


def mean_square(errors):
    """By region: [N, H, R] -> [R]."""
    return errors.square().mean(dim=(0, 1))


def test_a_diagnosis_that_nobody_has_gets_what_holds_for_everybody():
    generator = torch.Generator().manual_seed(0)
    prior = GaussianPrior(3).double()
    covariates = torch.tensor([[70.0, 0, 14, 0, 2]]).double().repeat(200, 1)
    covariates[:, 0] += 5 * torch.randn(200, generator=generator)
    state, target = (torch.randn(200, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    prior_fit.guess(prior, covariates, state, target)
    assert torch.isfinite(prior.rate).all() and torch.allclose(prior.rate[0], prior.rate[2])
