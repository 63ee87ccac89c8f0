"""Fitting the closed-form law: a first guess by regression, then maximum likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.networks.covariates import diagnosis_index, standardized
from neuro4d_lib.networks.gaussian_prior import GaussianPrior
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.simulated import SimulatedBatches

_RIDGE = 3.0


@torch.no_grad()
def guess(prior: GaussianPrior, covariates: Tensor, state: Tensor, target: Tensor) -> None:
    """Ridge regression of the mean of the future frames [N, K] on the features, by diagnosis; sets the group rates for good."""
    features = prior.features(covariates, state)
    d = diagnosis_index(covariates, prior.diagnoses)
    age = standardized(covariates)[0][:, :1]
    line = torch.cat([torch.ones_like(age), age], dim=1)
    for c in range(prior.diagnoses + 1):
        chosen = d == c
        if int(chosen.sum()) < 2:  # a diagnosis that nobody has: what holds for everybody
            chosen = torch.ones_like(chosen)
        weights = _ridge(features[chosen], target[chosen])
        prior.rate[c] = weights
        prior.group_rate[c] = _ridge(line[chosen], target[chosen])
        left = target[chosen] - features[chosen] @ weights
        prior.rate_root[c] = torch.linalg.cholesky(left.T @ left / len(left) + 1e-4 * torch.eye(prior.modes).to(left))


def fit(
    prior: GaussianPrior,
    batches: SimulatedBatches,
    device: torch.device,
    generator: torch.Generator,
    steps: int = 1500,
    people: int = 256,
    progress: Progress = silent,
) -> list[float]:
    """Maximize the likelihood of whole courses with 0 to 4 observed visits. Returns the loss of each step."""
    state_of = batches.deformation.state
    guess(prior, *(values.to(device) for values in _many_people(batches, generator)))
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=2e-5)
    losses = []
    for step in range(steps):
        batch = batches.draw(people, step % 5, 1 + step % 3, generator)
        state = state_of(batch.anatomy).double().to(device)
        batch = batch.to(device)
        loss = prior.negative_log_likelihood(batch.covariates, state, batch.years, batch.seen, batch.future)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress((step + 1) / steps, f"Fitting the closed form, loss {losses[-1]:.4f}")
    return losses


def _many_people(batches: SimulatedBatches, generator: torch.Generator, rounds: int = 20) -> tuple[Tensor, ...]:
    """Covariates [N, 5], what a scan shows [N, K] and mean of the future frames [N, K] of 20,000 people with one scan.

    A thousand at a time: the maps of all of them together would need gigabytes.
    """
    parts = []
    for _ in range(rounds):
        batch = batches.draw(1000, 0, 2, generator)
        parts.append((batch.covariates, batches.deformation.state(batch.anatomy).double(), batch.future.mean(dim=1)))
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def _ridge(features: Tensor, target: Tensor) -> Tensor:
    gram = features.T @ features + _RIDGE * torch.eye(features.shape[1]).to(features)
    return torch.linalg.solve(gram, features.T @ target)
