"""The known-truth benchmark: simulated people, what the model draws for them, and the exact best forecast."""

from __future__ import annotations

from dataclasses import dataclass, fields

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


def exact_posterior(population: Population, cases: Cases, people_at_once: int = 200) -> Posterior:
    """The best possible forecast, given exactly what the model is given: the true law, conditioned. Mean [N, H, R].

    Every covariate must be known; see `exact_unknown` for people of whom some are not.
    """
    parts = [
        _known_posterior(population, some_people(cases, start, start + people_at_once))
        for start in range(0, len(cases.past), people_at_once)
    ]
    mean, root, innovations = (torch.cat([getattr(p, name) for p in parts]) for name in ("mean", "root", "innovations"))
    return Posterior(mean, root, innovations)


def some_people(cases: Cases, start: int, end: int) -> Cases:
    """The cases from `start` up to `end`, which is left out."""
    return Cases(*(getattr(cases, field.name)[start:end] for field in fields(Cases)))


def _known_posterior(population: Population, cases: Cases) -> Posterior:
    years, diagnosis = cases.years(), cases.covariates[:, 4].long()
    mean = joint_mean(population, cases.covariates, years)
    covariance = joint_covariance(population, diagnosis, years, cases.past.shape[1])
    return conditioned(mean, covariance, observations(cases))


def observations(cases: Cases) -> Tensor:
    """What is observed of the joint law: the state that the latest scan shows, then measured rates. [N, K, R]."""
    return torch.cat([cases.seen_state[:, None], cases.seen], dim=1)


def joint_mean(population: Population, covariates: Tensor, years: Tensor) -> Tensor:
    """Mean of what the latest scan shows, and of the rates at `years` [N, T], of people with these covariates: [N, 1 + T, R]."""
    bend = population.mean_acceleration[covariates[:, 4].long()][:, None] * years[..., None] / 2
    rates = population.rate_given(covariates)[:, None] + bend
    return torch.cat([population.state_given(covariates)[:, None], rates], dim=1)


def joint_covariance(population: Population, diagnosis: Tensor, years: Tensor, observed: int) -> Tensor:
    """Of the same, [N, (1 + T) R, (1 + T) R]; the first `observed` rates are measured from the latest scan."""
    config, correlation = population.config, population.correlation
    sd, kappa, state_sd = population.rate_sd[diagnosis], population.state_correlation[diagnosis], population.state_sd
    people, frames, regions = len(years), years.shape[1], len(state_sd)
    between = sd[:, :, None] * correlation * sd[:, None]
    eye = torch.eye(frames, dtype=torch.float64)
    # A rate: the person's own, which all frames share; acceleration; unevenness, new in every frame; scan errors, of which
    # that of the latest scan is shared.
    bent = years[:, :, None] * years[:, None] / 4 * config.acceleration_sd**2
    measured = (torch.arange(frames) < observed).double() / years
    scans = measured[:, :, None] * measured[:, None] * (1 + eye)
    rates = kron(1 + bent + config.unevenness**2 * eye, between)
    rates += kron(scans, population.noise_covariance().expand(people, -1, -1))
    shown = state_sd[:, None] * correlation * state_sd + torch.diag(population.state_error_sd**2)
    with_rate = kappa[:, None, None] * state_sd[:, None] * correlation * sd[:, None]
    joint = torch.empty(people, (1 + frames) * regions, (1 + frames) * regions, dtype=torch.float64)
    joint[:, :regions, :regions] = shown
    joint[:, :regions, regions:] = with_rate.repeat(1, 1, frames)
    joint[:, regions:, :regions] = joint[:, :regions, regions:].mT
    joint[:, regions:, regions:] = rates
    return joint


PEOPLE_AT_A_TIME = 48


@torch.no_grad()
def model_futures(
    model: TrajectoryModel,
    batches: SimulatedBatches,
    cases: Cases,
    draws: int,
    generator: torch.Generator,
    device: torch.device,
    steps: int | None = None,
    people: int = PEOPLE_AT_A_TIME,
    progress: Progress = silent,
) -> Tensor:
    """Rates that the model draws: [draws, N, H, R]. The noise depends on the generator, `draws` and `people` alone."""
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


@torch.no_grad()
def closed_form_futures(
    model: TrajectoryModel,
    batches: SimulatedBatches,
    cases: Cases,
    draws: int,
    generator: torch.Generator,
    people: int = PEOPLE_AT_A_TIME,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the model's closed form makes of the noise of `model_futures`, and its law.

    Returns:
        Rates [draws, N, H, R] and their mean [N, H, R] and root [N, H * R, H * K]: root root' is their covariance.
    """
    futures, means, roots = [], [], []
    modes = torch.eye(model.config.modes)[:, None]
    to_rates = (model.deformation.rates(modes) - model.deformation.rates(0 * modes))[:, 0].double()  # [K, R]
    for start in range(0, len(cases.past), people):
        posterior = known_condition(model, batches, cases, slice(start, start + people), torch.device("cpu")).posterior
        noise = [torch.randn(posterior.mean.shape, generator=generator) for _ in range(draws)]
        futures.append(torch.stack([model.deformation.rates(posterior.from_standard(z)) for z in noise]))
        mean = model.deformation.rates(posterior.mean)
        root = posterior.root.double().unflatten(1, posterior.mean.shape[1:])
        means.append(mean.double())
        roots.append(torch.einsum("kr,nfkj->nfrj", to_rates, root).flatten(1, 2))
    return torch.cat(futures, dim=1).double(), torch.cat(means), torch.cat(roots)


def known_condition(
    model: TrajectoryModel, batches: SimulatedBatches, cases: Cases, part: slice, device: torch.device
) -> Condition:
    """The condition of some of the people."""
    anatomy = batches.anatomy(cases.seen_state[part]).to(device)
    seen = batches.deformation.from_rates(cases.seen[part]).to(device)
    return model.condition(cases.covariates[part].to(device), anatomy, cases.years()[part].to(device), seen)
