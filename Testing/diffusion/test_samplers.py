"""Every sampler must return the mean and the covariance of a population that is known exactly."""

import pytest
import torch

from neuro4d_lib.diffusion.denoiser import Denoiser
from neuro4d_lib.diffusion.guidance import GuidedDenoiser
from neuro4d_lib.diffusion.predictions import PREDICTIONS, target, to_clean
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.diffusion.schedules import SCHEDULES

SAMPLES = 4000


class ExactDenoiser:
    """E[clean | x_t] of a Gaussian population, in closed form."""

    def __init__(self, mean, covariance, schedule):
        self.mean, self.covariance, self.schedule = mean, covariance, schedule

    def __call__(self, x_t, t, condition):
        alpha, sigma = self.schedule(t[0].double())
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=torch.float64)
        gain = alpha * torch.linalg.solve(noisy, self.covariance).T
        return self.mean + (x_t - alpha * self.mean) @ gain.T


def smooth_field(points, length, rough):
    """Covariance of a smooth random field on a line: most of its variance sits in a few modes."""
    place = torch.arange(points, dtype=torch.float64)
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * length**2)) + rough * torch.eye(
        points, dtype=torch.float64
    )


POPULATIONS = {
    "white": (torch.zeros(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)),
    "anisotropic": (
        torch.linspace(-2, 2, 6, dtype=torch.float64),
        torch.diag(torch.tensor([4, 1, 0.5, 0.2, 0.05, 0.01]).double()),
    ),
    "correlated field": (torch.ones(24, dtype=torch.float64), smooth_field(24, 8.0, 0.05)),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_returns_mean_and_covariance_of_the_population(name, population):
    mean, covariance = POPULATIONS[population]
    generator = torch.Generator().manual_seed(0)
    sampler = SAMPLERS[name](ExactDenoiser(mean, covariance, SCHEDULES["cosine"]))
    noise = torch.randn(SAMPLES, len(mean), generator=generator, dtype=torch.float64)
    drawn = sampler.sample(noise, None, 500 if name != "heun" else 200, generator)
    # In coordinates in which the population is standard normal every direction counts alike.
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (drawn - mean).T, upper=False).T
    values = torch.linalg.eigvalsh(torch.cov(white.T))
    assert white.mean(dim=0).abs().max() < 4 / SAMPLES**0.5 + 0.02
    # Eigenvalues of a sample covariance scatter by 2 sqrt(dimensions / samples). Marchenko and Pastur, 1967.
    scatter = 2.3 * (len(mean) / SAMPLES) ** 0.5 + 0.03
    assert 1 - scatter < values.min() and values.max() < 1 + scatter


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_strongly_correlated_field_is_exact_in_its_own_coordinates(name):
    """As the model draws: noise of the data's own covariance; 19 network calls of the second-order sampler. White noise needs thousands."""
    mean, covariance = torch.ones(24, dtype=torch.float64), smooth_field(24, 8.0, 1e-4)
    root = torch.linalg.cholesky(covariance)
    center = torch.linalg.solve_triangular(root, mean[:, None], upper=False)[:, 0]
    generator = torch.Generator().manual_seed(0)
    sampler = SAMPLERS[name](ExactDenoiser(center, torch.eye(24, dtype=torch.float64), SCHEDULES["cosine"]))
    noise = torch.randn(SAMPLES, 24, generator=generator, dtype=torch.float64)
    drawn = sampler.sample(noise, None, 10 if name == "heun" else 300, generator) @ root.T
    values = torch.linalg.eigvals(torch.linalg.solve(covariance, torch.cov(drawn.T))).real
    assert (drawn.mean(dim=0) - mean).abs().max() < 0.08
    assert (torch.cov(drawn.T) - covariance).abs().max() < 0.1
    assert values.min() > 0.8 and values.max() < 1.2


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_matched_noise_needs_no_steps_to_speak_of(steps):
    """Where the population is standard normal, as in the coordinates of the posterior, any number of steps is exact."""
    mean, covariance = POPULATIONS["white"]
    sampler = SAMPLERS["heun"](ExactDenoiser(mean, covariance, SCHEDULES["cosine"]))
    noise = torch.randn(SAMPLES, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(sampler.sample(noise, None, steps), noise)


def test_heun_is_more_exact_than_ddim_near_matched_noise():
    """At the same number of calls, where the closed form is somewhat wrong: what is left to the network."""
    mean, covariance = torch.zeros(6, dtype=torch.float64), torch.diag(torch.linspace(0.5, 1.6, 6, dtype=torch.float64))
    noise = torch.randn(SAMPLES, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = {}
    for name, steps in (("ddim", 19), ("heun", 10)):
        sampler = SAMPLERS[name](ExactDenoiser(mean, covariance, SCHEDULES["cosine"]))
        assert sampler.network_calls(steps) == 19
        drawn = sampler.sample(noise, None, steps)
        errors[name] = (
            (torch.cov(drawn.T).diagonal() / torch.cov(noise.T).diagonal() / covariance.diagonal()).log().abs().max()
        )
    assert errors["heun"] < errors["ddim"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_signal_and_noise_add_up_to_one(schedule):
    alpha, sigma = SCHEDULES[schedule](torch.linspace(0, 1, 11, dtype=torch.float64))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(11, dtype=torch.float64))
    assert alpha[0] == 1 and sigma[0] == 0 and alpha[-1] < 0.01
    assert (alpha.diff() < 0).all()


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_a_right_prediction_gives_the_clean_sample_back(kind):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, generator=generator).double()
    alpha, sigma = SCHEDULES["cosine"](torch.tensor(0.3, dtype=torch.float64))
    predicted = target(kind, clean, noise, alpha, sigma)
    assert torch.allclose(to_clean(kind, predicted, alpha * clean + sigma * noise, alpha, sigma), clean)


def test_loss_of_the_exact_prediction_is_the_variance_that_cannot_be_known():
    """For a standard normal population v = 0 is best, and its loss is the variance of v: 1."""
    zero = Denoiser(lambda x, t, condition: torch.zeros_like(x), SCHEDULES["cosine"], "v")
    clean = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    assert zero.loss(clean, None, torch.Generator().manual_seed(1)).mean() == pytest.approx(1.0, abs=0.03)


def test_guidance_of_weight_one_changes_nothing_and_more_moves_away_from_the_uninformed():
    class Means:
        schedule = staticmethod(SCHEDULES["cosine"])

        def __call__(self, x, t, condition):
            return torch.full_like(x, condition)

    x, t = torch.zeros(1, 2), torch.zeros(1)
    assert (GuidedDenoiser(Means(), 1.0, lambda c: 0.0)(x, t, 3.0) == 3).all()
    assert (GuidedDenoiser(Means(), 2.0, lambda c: 1.0)(x, t, 3.0) == 5).all()
