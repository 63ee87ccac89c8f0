"""What is minimized, and the same on people who are never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from neuro4d_lib.diffusion.denoiser import Denoiser
from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.simulated import Batch
from neuro4d_lib.training.task import Batches

_STREAMS = ("people", "noise", "population", "prior", "validation people", "validation noise",
            "split", "folds", "designs")  # fmt: skip


def random_stream(device: torch.device, seed: int, stream: str, *place: int) -> torch.Generator:
    """Random numbers that depend on nothing but the seed, what they are for, and the place (step, part) where they are used.

    So a resumed run, and any process of several, draws what an undisturbed single one would have drawn.
    """
    words = np.random.SeedSequence([seed, _STREAMS.index(stream), *place]).generate_state(2, np.uint32).tolist()
    return torch.Generator(device).manual_seed(words[0] << 31 | words[1] >> 1)


class Objective(nn.Module):
    """Denoising loss of one batch. A module, so that DistributedDataParallel can wrap it."""

    def __init__(self, model: TrajectoryModel, precision: str) -> None:
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Loss [], and the mean square of what is to be denoised, 1 where the closed form is right: []."""
        with torch.no_grad():
            condition = self.model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
            clean = condition.posterior.to_standard(batch.future.to(condition.anatomy)).clamp(-8, 8)
        with autocast(self.precision, clean.device):
            loss = self.model.denoiser.loss(clean, condition, generator).mean()
        return loss, clean.square().mean()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bfloat16 where it helps: it needs no scaling of the loss, and a CPU is no faster with it."""
    enabled = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@dataclass(frozen=True)
class Validation:
    """loss: of the network; without: of predicting v = 0, which is the closed form alone, on the same people and noise."""

    loss: float
    without: float
    gain_by_visits: dict[int, float]
    """By number of earlier visits: the share of the closed form's loss that the network takes away; below 0 it does harm."""


@torch.no_grad()
def validate(model: TrajectoryModel, batches: Batches, config: TrainingConfig, device: torch.device) -> Validation:
    """The same people, noise times and noise whenever it is called with the same configuration; as many of each kind of step."""
    kinds = len(config.earlier_visits)
    nothing = Denoiser(lambda x, t, condition: torch.zeros_like(x), model.denoiser.schedule)
    losses: dict[int, list[tuple[float, float]]] = {}
    for kind, (earlier, future) in enumerate(zip(config.earlier_visits, config.future_frames, strict=True)):
        people = random_stream(torch.device("cpu"), config.seed, "validation people", kind)
        batch = batches.draw(config.validation_people // kinds, earlier, future, people, config.all_known).to(device)
        condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
        clean = condition.posterior.to_standard(batch.future.to(condition.anatomy)).clamp(-8, 8)
        both = []
        for denoiser in (model.denoiser, nothing):
            noise = random_stream(device, config.seed, "validation noise", kind)
            with autocast(config.precision, device):
                both.append(float(denoiser.loss(clean, condition, noise).mean()))
        # A study may have nobody with so many earlier visits.
        losses.setdefault(batch.seen.shape[1], []).append((both[0], both[1]))
    means = {earlier: np.mean(pairs, axis=0) for earlier, pairs in sorted(losses.items())}
    loss, without = np.mean([pair for pairs in losses.values() for pair in pairs], axis=0).tolist()
    gains = {earlier: float(1 - pair[0] / pair[1]) for earlier, pair in means.items()}
    return Validation(loss, without, gains)
