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


def network_that_is_right(mean, covariance, schedule, kind):
    """The best network for a Gaussian population, by way of what the model itself uses: a Denoiser."""
    exact = ExactDenoiser(mean, covariance, schedule)

    def network(x_t, t, condition):
        alpha, sigma = schedule(t[0].double())
        clean = exact(x_t, t, condition)
        return target(kind, clean, (x_t - alpha * clean) / sigma, alpha, sigma)

    return Denoiser(network, schedule, kind)


def law(sampler, size, steps, monkeypatch):
    """Mean [n] and covariance [n, n] of what a sampler draws, without sampling error.

    On a Gaussian every step is linear in the noise, so each unit vector of each noise is followed on its own.
    """
    fresh = size * steps if isinstance(sampler, SAMPLERS["ddpm"]) else 0
    noise = torch.zeros(1 + size + fresh, size, dtype=torch.float64)
    noise[1 : 1 + size] = torch.eye(size)
    places = iter(range(1 + size, 1 + size + fresh, size))

    def unit_vectors(shape, **options):
        values = torch.zeros(shape, dtype=torch.float64)
        place = next(places)
        values[place : place + size] = torch.eye(size)
        return values

    monkeypatch.setattr(torch, "randn", unit_vectors)
    drawn = sampler.sample(noise, None, steps)
    root = drawn[1:] - drawn[0]
    return drawn[0], root.T @ root


def relative_error(mean, covariance, found_mean, found):
    """In coordinates in which the population is standard normal: of the mean (in SD) and of the variances."""
    root = torch.linalg.cholesky(covariance)
    half = torch.linalg.solve_triangular(root, found, upper=False)
    variances = torch.linalg.eigvalsh(torch.linalg.solve_triangular(root, half.T, upper=False))
    apart = torch.linalg.solve_triangular(root, (found_mean - mean)[:, None], upper=False)
    return apart.abs().max(), (variances - 1).abs().max()


EXACT = {
    "uneven": (torch.linspace(-1, 1, 6).double(), torch.diag(torch.tensor([4, 1, 0.5, 0.3, 0.2, 0.1]).double())),
    "correlated": (torch.ones(6).double(), smooth_field(6, 8.0, 0.1)),
}


@pytest.mark.parametrize("population", EXACT)
@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "steps"), [("ddim", 1000), ("ddpm", 1300), ("heun", 400)])
def test_the_law_of_a_gaussian_population_is_exact(name, steps, schedule, kind, population, monkeypatch):
    mean, covariance = EXACT[population]
    sampler = SAMPLERS[name](network_that_is_right(mean, covariance, SCHEDULES[schedule], kind))
    of_mean, of_variance = relative_error(mean, covariance, *law(sampler, 6, steps, monkeypatch))
    # The linear schedule leaves alpha = 0.0066 of the mean at t = 1, from where samplers start without it.
    assert of_mean < (0.02 if schedule == "linear" else 0.001)
    assert of_variance < 0.02


def test_a_noise_prediction_works_from_pure_noise_in_single_precision():
    """There the cosine schedule's alpha is exactly 0 at t = 1. The population is standard normal: noise comes back as it was."""
    schedule = SCHEDULES["cosine"]
    sampler = SAMPLERS["heun"](Denoiser(lambda x, t, condition: schedule(t)[1][:, None] * x, schedule, "noise"))
    noise = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sampler.sample(noise, None, 5), noise, atol=2e-3)


def test_the_shipped_setting_is_exact_to_two_percent_near_matched_noise(monkeypatch):
    """Five steps of heun, cosine schedule, v; the closed form wrong by up to a quarter of a variance."""
    turn = torch.linalg.qr(smooth_field(6, 1.0, 0.1))[0]
    mean = 0.2 * torch.linspace(-1, 1, 6).double()
    covariance = turn @ torch.diag(torch.linspace(0.8, 1.25, 6).double()) @ turn.T
    sampler = SAMPLERS["heun"](network_that_is_right(mean, covariance, SCHEDULES["cosine"], "v"))
    of_mean, of_variance = relative_error(mean, covariance, *law(sampler, 6, 5, monkeypatch))
    assert of_mean < 0.02 and of_variance < 0.02


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
