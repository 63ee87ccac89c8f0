"""The closed form against conditioning by the textbook."""

import torch

from neuro4d_lib.networks.gaussian_prior import GaussianPrior


def case(observed=2):
    torch.manual_seed(0)
    prior = GaussianPrior(4).double()
    with torch.no_grad():
        prior.rate.normal_()
        prior.acceleration.normal_()
    covariates = torch.tensor([[70.0, 0, 12, 1, 2], [float("nan")] * 5], dtype=torch.float64)
    years = torch.tensor([[-2.0, -0.5, 1, 3], [-4, -1.5, 2, 8]], dtype=torch.float64)[:, 2 - observed :]
    return (
        prior,
        covariates,
        torch.randn(2, 4, dtype=torch.float64),
        years,
        torch.randn(2, observed, 4, dtype=torch.float64),
    )


def test_posterior_is_the_textbook_one():
    prior, covariates, state, years, seen = case()
    mean, covariance = prior.joint(covariates, state, years, 2)
    posterior = prior.posterior(covariates, state, years, seen)
    for i in range(2):
        seen_block, cross, own = covariance[i, :8, :8], covariance[i, 8:, :8], covariance[i, 8:, 8:]
        gain = cross @ torch.linalg.inv(seen_block)
        expected = mean[i, 2:].flatten() + gain @ (seen[i] - mean[i, :2]).flatten()
        assert torch.allclose(posterior.mean[i].flatten(), expected)
        assert torch.allclose(posterior.root[i] @ posterior.root[i].T, own - gain @ cross.T)


def test_standard_coordinates_lead_there_and_back():
    prior, covariates, state, years, seen = case()
    posterior = prior.posterior(covariates, state, years, seen)
    x = torch.randn(2, 2, 4, dtype=torch.float64)
    assert torch.allclose(posterior.from_standard(posterior.to_standard(x)), x)


def test_without_observed_visits_it_is_the_prior():
    prior, covariates, state, years, seen = case(0)
    mean, covariance = prior.joint(covariates, state, years, 0)
    posterior = prior.posterior(covariates, state, years, seen)
    assert torch.equal(posterior.mean, mean) and torch.allclose(posterior.root @ posterior.root.mT, covariance)


def test_asking_for_more_years_does_not_change_the_law_of_the_others():
    prior, covariates, state, years, seen = case()
    both = prior.posterior(covariates, state, years, seen)
    first = prior.posterior(covariates, state, years[:, :3], seen)
    assert torch.allclose(both.mean[:, 0], first.mean[:, 0]) and torch.allclose(both.root[:, :4, :4], first.root)


def test_a_visit_long_ago_says_more_than_one_of_yesterday():
    prior, covariates, state, _, _ = case()
    spreads = []
    for past in (-0.25, -1.0, -4.0):
        years = torch.tensor([[past, 2.0]] * 2, dtype=torch.float64)
        seen = torch.zeros(2, 1, 4, dtype=torch.float64)
        root = prior.posterior(covariates, state, years, seen).root
        spreads.append((root @ root.mT).diagonal(dim1=1, dim2=2).sum())
    assert spreads[0] > spreads[1] > spreads[2]
