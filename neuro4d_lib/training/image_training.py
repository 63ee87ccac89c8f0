"""Training a model of image courses on simulated people who are kept in memory. One short loop for all representations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.config import documented
from neuro4d_lib.data.image_courses import Courses
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.representations.base import Representation
from neuro4d_lib.representations.course_model import CourseModel
from neuro4d_lib.training.ema import MovingAverage


@dataclass(frozen=True)
class ImageTrainingConfig:
    """How a model of image courses is trained."""

    steps: int = documented(300, help="Steps of the network.")
    people: int = documented(4, help="People per step.")
    learning_rate: float = documented(1e-3, help="Of AdamW; warmed up, then lowered along a cosine.")
    decay: float = documented(0.98, help="Of the moving average of the weights.")
    hidden: float = documented(0.1, help="Chance that a covariate is hidden.")
    seed: int = documented(0, help="Of weights, order and noise.")


@dataclass(frozen=True, eq=False)
class Trained:
    """The averaged model, the loss of each step and the seconds that the steps took."""

    model: CourseModel
    losses: list[float]
    seconds: float


def encode_all(representation: Representation, courses: Courses, device: torch.device) -> Tensor:
    """The numbers of all people, worked out once: [N, T, numbers], half precision."""
    encoded = []
    for i in range(len(courses)):
        encoded.append(representation.encode(courses.chosen([i]).to(device))[0].half().cpu())
    return torch.stack(encoded)


def train_courses(
    model: CourseModel,
    courses: Courses,
    config: ImageTrainingConfig,
    device: torch.device,
    progress: Progress = silent,
) -> Trained:
    """Train on these people, in a random order that is the same for every representation."""
    order = torch.Generator().manual_seed(config.seed)
    noise = torch.Generator(device).manual_seed(config.seed)
    model.to(device)
    numbers = encode_all(model.representation, courses, device)
    average = MovingAverage(model, config.decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, config.steps))
    losses: list[float] = []
    started = time.monotonic()
    for step in range(config.steps):
        people = torch.randperm(len(courses), generator=order)[: config.people]
        given = courses.chosen(people).given
        hide = torch.rand(given.covariates.shape, generator=order) < config.hidden
        given.covariates[hide] = float("nan")
        clean = numbers[people].to(device).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model.loss(clean, given.to(device), noise).mean()
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(
                f"The loss of step {step} is not finite (people {people.tolist()}, seed {config.seed})."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update(model)
        losses.append(float(loss.detach()))
        progress((step + 1) / config.steps, f"Step {step + 1} of {config.steps}, loss {losses[-1]:.3f}")
    return Trained(average.module, losses, time.monotonic() - started)


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 20) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2)
