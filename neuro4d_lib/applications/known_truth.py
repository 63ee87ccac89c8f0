"""The known-truth benchmark: simulated people, what the model draws for them, and the exact best forecast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.data.population import Population
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.model import Condition, TrajectoryModel
from neuro4d_lib.networks.gaussian_prior import Posterior, conditioned, kron
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.simulated import SimulatedBatches

HORIZONS = (1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True, eq=False)
class Cases:
    """N people with K scans each, R regions, H years ahead. Rates are mean log-volume change per year from the latest scan.

    Attributes:
        covariates: [N, 5], nothing unknown; seen_state: [N, R].
        past: [N, K - 1] years, ascending; seen: [N, K - 1, R] measured rates; truth: [N, H, R].
    """

    covariates: Tensor
    seen_state: Tensor
    past: Tensor
    seen: Tensor
    truth: Tensor

    def years(self) -> Tensor:
        ahead = torch.tensor(HORIZONS, dtype=torch.float64).expand(len(self.past), -1)
        return torch.cat([self.past, ahead], dim=1)


def simulate_cases(population: Population, people: int, scans: int, generator: torch.Generator) -> Cases:
    """The same people for every number of scans where the generator starts with the same seed: visits about a year apart."""
    drawn = population.draw(people, generator)
    gaps = 0.6 + 0.8 * torch.rand(people, 7, generator=generator, dtype=torch.float64)
    truth_years = torch.tensor(HORIZONS, dtype=torch.float64).expand(people, -1)
    truth = population.mean_velocity_rates(drawn, truth_years, generator)
    past_all = -gaps.cumsum(dim=1)
    rates = population.mean_velocity_rates(drawn, past_all, generator)
    latest, earlier = population.scan_error((people, 1), generator), population.scan_error((people, 7), generator)
    seen = rates + (earlier - latest) / past_all[..., None]
    chosen = torch.arange(scans - 1).flip(0)
    return Cases(drawn.covariates, drawn.seen_state, past_all[:, chosen], seen[:, chosen], truth)


def exact_posterior(population: Population, cases: Cases) -> Posterior:
    """The best possible forecast, given exactly what the model is given: the true law, conditioned. Mean [N, H, R]."""
    config, correlation = population.config, population.correlation
    d = cases.covariates[:, 4].long()
    sd = population.rate_sd[d]
    # What the scan shows of the rate: deviations [R] from the mean in units of the spread, were they fully correlated.
    kappa = population.state_correlation[d]
    shown = torch.diag(population.state_sd) @ correlation
    spread = torch.diag(population.state_sd) @ correlation @ torch.diag(population.state_sd)
    spread = spread + torch.diag(population.state_error_sd**2)
    gain = torch.linalg.solve(spread, shown).T
    deviation = kappa[:, None] * ((cases.seen_state - population.state_given(cases.covariates)) @ gain.T)
    left = correlation - kappa[:, None, None] ** 2 * (gain @ shown)
    years = cases.years()
    frames, observed = years.shape[1], cases.past.shape[1]
    rate = population.rate_given(cases.covariates) + sd * deviation
    mean = rate[:, None] + population.mean_acceleration[d][:, None] * years[..., None] / 2

    def scaled(matrix: Tensor) -> Tensor:
        return sd[:, :, None] * matrix * sd[:, None]

    eye = torch.eye(frames, dtype=torch.float64)
    measured = (torch.arange(frames) < observed).double() / years
    products = years[:, :, None] * years[:, None]
    covariance = kron(torch.ones_like(products), scaled(left))
    covariance += kron(products / 4 * config.acceleration_sd**2, scaled(correlation))
    covariance += kron((config.unevenness**2 * eye).expand_as(products), scaled(correlation))
    scans = measured[:, :, None] * measured[:, None] * (1 + eye)
    covariance += kron(scans, population.noise_covariance().expand(len(years), -1, -1))
    return conditioned(mean, covariance, cases.seen)


@torch.no_grad()
def model_futures(
    model: TrajectoryModel,
    batches: SimulatedBatches,
    cases: Cases,
    draws: int,
    generator: torch.Generator,
    device: torch.device,
    steps: int | None = None,
    people: int = 48,
    progress: Progress = silent,
) -> Tensor:
    """Rates that the model draws: [draws, N, H, R]."""
    config = model.config
    sampler = SAMPLERS[config.sampler](model.denoiser)
    futures = []
    for start in range(0, len(cases.past), people):
        part = slice(start, start + people)
        condition = known_condition(model, batches, cases, part, device)
        of_part = []
        for _ in range(draws):
            noise = torch.randn(condition.posterior.mean.shape, generator=generator).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                z = sampler.sample(noise, condition, steps or config.steps)
            of_part.append(model.deformation.rates(condition.posterior.from_standard(z)).cpu())
        futures.append(torch.stack(of_part))
        progress(min(1.0, (start + people) / len(cases.past)), "Drawing futures")
    return torch.cat(futures, dim=1)


def known_condition(
    model: TrajectoryModel, batches: SimulatedBatches, cases: Cases, part: slice, device: torch.device
) -> Condition:
    """The condition of some of the people."""
    anatomy = batches.anatomy(cases.seen_state[part]).to(device)
    seen = batches.deformation.from_rates(cases.seen[part]).to(device)
    return model.condition(cases.covariates[part].to(device), anatomy, cases.years()[part].to(device), seen)
