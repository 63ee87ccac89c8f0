"""The gate: how far the trained network's prediction can be trusted, measured on people it has not seen.

The closed form predicts v = 0. Where it is nearly exact, as for a person of whom every covariate is known, what is left to
learn is less than the error of a network that was trained for a finite time, and its prediction g = 1 can be worse than none. The
factor with the least squared error is <v_target, v_network> / <v_network, v_network>: a recalibration by what is known, number
of earlier visits and noise time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuro4d_lib.diffusion import predictions
from neuro4d_lib.model import GATE_KNOWN, GATE_TIMES, GATE_VISITS, TrajectoryModel, everything_known
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.simulated import SimulatedBatches

LARGEST = 1.2
# Earlier visits of each row; the last row stands for "four or more".
_EARLIER = ((0,), (1,), (2,), (3,), (4, 5, 6, 7))
_FUTURE = (1, 2, 3, 4, 5)
# With those of whom nothing happens to be hidden, about half of the people have every covariate known.
_ALL_KNOWN = 0.15
# People of the gate are drawn from a seed of their own: nobody of the training is among them.
_SEED = 2_000_003


@torch.no_grad()
def measure_gate(
    model: TrajectoryModel,
    batches: SimulatedBatches,
    device: torch.device,
    people: int = 2016,
    seed: int = 0,
    per_batch: int = 48,
    progress: Progress = silent,
) -> Tensor:
    """The least-squares factor by what is known, number of earlier visits and noise time, within 0 and 1.2: [2, 5, 10].

    Args:
        model: the averaged network; its own gate is left out of the measurement and left as it is.
        people: for each number of earlier visits, about half of them with every covariate known; all at every noise time.
    """
    generator = torch.Generator().manual_seed(seed + _SEED)
    kept = model.gate.clone()
    model.gate.fill_(1.0)
    times = torch.arange(1, GATE_TIMES + 1, device=device) / GATE_TIMES
    both, own = torch.zeros(2, GATE_KNOWN, GATE_VISITS, GATE_TIMES, dtype=torch.float64)
    rounds = -(-people // per_batch)
    try:
        for i in range(rounds):
            for row, earlier in enumerate(_EARLIER):
                size = min(per_batch, people - i * per_batch)
                batch = batches.draw(size, earlier[i % len(earlier)], _FUTURE[i % len(_FUTURE)], generator, _ALL_KNOWN)
                known = everything_known(batch.covariates).long()
                batch = batch.to(device)
                condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
                clean = condition.posterior.to_standard(batch.future.to(condition.anatomy)).clamp(-8, 8)
                for column, t in enumerate(times):
                    noise = torch.randn(clean.shape, generator=generator).to(clean)
                    alpha, sigma = model.denoiser.schedule(t)
                    target = predictions.target("v", clean, noise, alpha, sigma)
                    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                        predicted = model.predict(alpha * clean + sigma * noise, t.expand(size), condition)
                    predicted = predicted.double()
                    both[:, row, column].index_add_(0, known, (target * predicted).sum(dim=(1, 2)).cpu())
                    own[:, row, column].index_add_(0, known, predicted.square().sum(dim=(1, 2)).cpu())
            progress((i + 1) / rounds, "Measuring how far the network can be trusted")
    finally:
        model.gate.copy_(kept)
    # A network that predicts nothing has no factor: nothing is taken from it, and nothing is given to it.
    return torch.where(own > 0, both / own.clamp_min(1e-30), 1.0).clamp(0.0, LARGEST).float()


def gate_record(gate: Tensor, who: str = "simulated") -> dict[str, Any]:
    """What a model card says of the gate."""
    some, every = ([[round(value, 4) for value in row] for row in table] for table in gate.tolist())
    return {
        "what": "The network's prediction is multiplied by the least-squares factor of people not seen in training "
        f"({who}), by what is known of a person, number of earlier visits (rows) and noise time (columns).",
        "earlier_visits": ["0", "1", "2", "3", "4 or more"],
        "noise_times": [round((i + 1) / GATE_TIMES, 4) for i in range(GATE_TIMES)],
        "factors_where_a_covariate_is_unknown": some,
        "factors_where_all_are_known": every,
    }
