"""Training a model of image courses on simulated people who are kept in memory. One short loop for all representations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.config import documented
from neuro4d_lib.data.image_courses import Courses, Given
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.scanner import BRIGHTNESS, acquire
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.representations.base import Representation
from neuro4d_lib.representations.course_model import CourseModel
from neuro4d_lib.training.ema import MovingAverage


@dataclass(frozen=True)
class ImageTrainingConfig:
    """How a model of image courses is trained."""

    steps: int = documented(300, help="Steps of the network.")
    people: int = documented(4, help="People per step.")
    regression: bool = documented(True, help="Begin with what covariates say, by ridge regression in closed form.")
    learning_rate: float = documented(1e-3, help="Of AdamW; warmed up, then lowered along a cosine.")
    decay: float = documented(0.98, help="Of the moving average of the weights.")
    hidden: float = documented(0.1, help="Chance that a covariate is hidden.")
    scanned: float = documented(0.5, help="Chance that a scan is seen through a scanner: noise, shading, contrast.")
    scanner: ScannerSettings = documented(ScannerSettings(), help="What that scanner does.")
    years_jitter: float = documented(0.05, help="SD of the logarithm by which the years of a person are stretched.")
    held_out: int = documented(
        0, help="People who are not trained on, but watched; 0: nobody, the last weights are kept."
    )
    validate_every: int = documented(25, help="Steps between looks at them; the best average is kept.")
    patience: int = documented(4, help="Stop after so many looks without a better one.")
    seed: int = documented(0, help="Of weights, order and noise.")


@dataclass(frozen=True, eq=False)
class Trained:
    """The best averaged model, the loss of each step, that of the people held out by step, and the seconds it took.

    `held_out` begins at step 0: the regression on covariates alone.
    """

    model: CourseModel
    losses: list[float]
    held_out: dict[int, float]
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
    """Train on these people, in a random order that is the same for every representation; the last `held_out` are watched."""
    order = torch.Generator().manual_seed(config.seed)
    noise = torch.Generator(device).manual_seed(config.seed)
    model.to(device)
    numbers = encode_all(model.representation, courses, device)
    count = len(courses) - config.held_out
    if config.regression:
        model.fit_mean(numbers[:count].to(device), courses.given.covariates[:count].to(device))
    average = MovingAverage(model, config.decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, config.steps))
    losses: list[float] = []
    watched = {0: _held_out_loss(model, courses, numbers, config, device)} if config.held_out else {}
    best = _weights(average.module)
    started = time.monotonic()
    for step in range(config.steps):
        people = torch.randperm(count, generator=order)[: config.people]
        given = augmented(courses.chosen(people).given, config, order)
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
        if watched and ((step + 1) % config.validate_every == 0 or step + 1 == config.steps):
            watched[step + 1] = _held_out_loss(average.module, courses, numbers, config, device)
            least = min(watched, key=lambda at: watched[at])
            if least == step + 1:
                best = _weights(average.module)
            elif step + 1 - least >= config.patience * config.validate_every:
                break
    if watched:
        average.module.load_state_dict(best)
    return Trained(average.module, losses, watched, time.monotonic() - started)


def augmented(given: Given, config: ImageTrainingConfig, generator: torch.Generator) -> Given:
    """The same people as another scanner, a vaguer calendar and a shorter questionnaire would have shown them.

    Shapes are not changed: what is to be predicted would change with them.
    """
    scan, covariates, years = given.scan.clone(), given.covariates.clone(), given.years
    covariates[torch.rand(covariates.shape, generator=generator) < config.hidden] = float("nan")
    if config.scanned > 0:
        for i in torch.nonzero(torch.rand(len(scan), generator=generator) < config.scanned)[:, 0].tolist():
            scan[i, 0] = torch.from_numpy(acquire(scan[i, 0], config.scanner, generator) / np.float32(BRIGHTNESS))
    if config.years_jitter > 0:
        years = years * torch.exp(config.years_jitter * torch.randn(len(scan), 1, generator=generator))
    return Given(scan, given.shape_vox, covariates, years)


@torch.no_grad()
def _held_out_loss(
    model: CourseModel, courses: Courses, numbers: Tensor, config: ImageTrainingConfig, device: torch.device
) -> float:
    """Of the people at the end, one by one, whom nothing is hidden of; always with the same noise, at four noise times each."""
    noise = torch.Generator(device).manual_seed(config.seed + 1)
    losses = []
    for i in range(len(courses) - config.held_out, len(courses)):
        given, clean = courses.chosen([i]).given.to(device), numbers[i : i + 1].to(device).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses += [float(model.loss(clean, given, noise).mean()) for _ in range(4)]
    return sum(losses) / len(losses)


def _weights(model: CourseModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 20) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2)
