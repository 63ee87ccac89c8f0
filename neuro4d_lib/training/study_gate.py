"""The gate of a model that was trained on a study: measured on its held-out people, and doubted where they are few."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.diffusion import predictions
from neuro4d_lib.model import GATE_KNOWN, GATE_TIMES, GATE_VISITS, TrajectoryModel
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.study_batches import StudyBatches

LARGEST = 1.2
_FUTURE = 2
_SEED = 3_000_017


@torch.no_grad()
def measure_study_gate(
    model: TrajectoryModel,
    held_out: StudyBatches,
    device: torch.device,
    people: int,
    seed: int = 0,
    progress: Progress = silent,
) -> Tensor:
    """The least-squares factor by number of earlier visits and noise time, drawn towards 0: [2, 5, 10].

    A factor g whose standard error between people is e becomes g * g^2 / (g^2 + e^2): what a few people show by chance is not
    believed. Both tables (something unknown, all known) are the same, and rows beyond the visits of the study repeat the last.
    """
    generator = torch.Generator().manual_seed(seed + _SEED)
    kept = model.gate.clone()
    model.gate.fill_(1.0)
    count = len(held_out.people)
    rows = min(held_out.most_observed, GATE_VISITS - 1) + 1
    both, own = torch.zeros(2, count, rows, GATE_TIMES, dtype=torch.float64)
    try:
        for row in range(rows):
            for n in range(people):
                # One after the other, so that what each of them says is known.
                one = held_out.only(n % count, row)
                if one is None:
                    continue
                batch = one.draw(1, row, _FUTURE, generator).to(device)
                condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
                clean = condition.posterior.to_standard(batch.future.to(condition.anatomy)).clamp(-8, 8)
                times = torch.arange(1, GATE_TIMES + 1, device=device) / GATE_TIMES
                for column, t in enumerate(times):
                    noise = torch.randn(clean.shape, generator=generator).to(clean)
                    alpha, sigma = model.denoiser.schedule(t)
                    target = predictions.target("v", clean, noise, alpha, sigma)
                    predicted = model.predict(alpha * clean + sigma * noise, t.expand(1), condition).double()
                    both[n % count, row, column] += float((target * predicted).sum())
                    own[n % count, row, column] += float(predicted.square().sum())
                progress((row * people + n + 1) / (rows * people), "Measuring how far the network can be trusted")
    finally:
        model.gate.copy_(kept)
    table = doubted_factor(both, own)
    more = table[-1:].expand(GATE_VISITS - rows, -1)
    return torch.cat([table, more]).float().expand(GATE_KNOWN, -1, -1).clone()


def doubted_factor(both: Tensor, own: Tensor) -> Tensor:
    """Sums over people [N, ...] of <v_target, v_network> and <v_network, v_network> -> factor [...], 0 to 1.2."""
    total = own.sum(dim=0)
    factor = both.sum(dim=0) / total.clamp_min(1e-30)
    people = (own > 0).sum(dim=0).clamp_min(2)
    # Standard error of a ratio of sums (Cochran, Sampling Techniques, 1977, section 6.4).
    error = ((both - factor * own).square().sum(dim=0) * people / (people - 1)).sqrt() / total.clamp_min(1e-30)
    held = factor.clamp_min(0) * factor.square() / (factor.square() + error.square()).clamp_min(1e-30)
    few = (own > 0).sum(dim=0) < 2
    return torch.where((total > 0) & ~few, held, 0.0).clamp(0, LARGEST)
