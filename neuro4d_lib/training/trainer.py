"""Training on simulated people: the closed form first, then the network on what it leaves."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from neuro4d_lib.config import documented
from neuro4d_lib.data.population import Population
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training import prior_fit
from neuro4d_lib.training.ema import MovingAverage
from neuro4d_lib.training.gate import measure_gate
from neuro4d_lib.training.simulated import SimulatedBatches

STATE_FILE = "training_state.pt"
WEIGHTS_FILE = "weights.safetensors"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    steps: int = documented(6000, help="Steps of the network.")
    people: int = documented(48, help="Simulated people per step.")
    learning_rate: float = documented(4e-4, help="Of AdamW; warmed up, then lowered along a cosine.")
    prior_steps: int = documented(1500, help="Steps of the closed form.")
    seconds: float = documented(0.0, help="Stop the network after so many seconds; 0 trains all steps.")
    save_every: int = documented(500, help="Steps between checkpoints.")
    seed: int = documented(0, help="Of the simulated people and the weights.")
    earlier_visits: tuple[int, ...] = documented(
        (0, 0, 1, 2, 3, 0, 1, 4, 7),
        help="Earlier visits of the people of each step, in turn. 0 is one scan only: a third of all steps, as most people have one scan.",
    )
    future_frames: tuple[int, ...] = documented(
        (4, 1, 2, 5, 3, 2, 4, 3, 1), help="Years ahead that are asked of them, in turn; as many as earlier_visits."
    )
    all_known: float = documented(
        0.0, help="Share of the people of whom no covariate is hidden, on top of those to whom that happens by chance."
    )
    gate_people: int = documented(
        2048, help="People on whom the gate (training/gate.py) is measured at the end; 0 leaves it out."
    )


def train(
    fields: Path,
    output: Path,
    model_config: ModelConfig,
    config: TrainingConfig,
    device: torch.device,
    progress: Progress = silent,
) -> TrajectoryModel:
    """Train, or go on where a run in `output` stopped.

    Args:
        fields: what `training_fields` wrote: velocity field, region share and smooth map of every region.
        output: folder of the run: weights, log and the state that a resumed run needs.
    """
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    population = Population()
    tensors = load_file(fields)
    deformation = Deformation.of(tensors["fields"], pooled_covariance(population, generator), tensors["pooling"])
    batches = SimulatedBatches(population, deformation, tensors["state_maps"])
    model = TrajectoryModel(model_config)
    model.deformation = Deformation.of(
        tensors["fields"], deformation.whitening @ deformation.whitening.T, tensors["pooling"]
    )
    model.to(device)

    parameters = [*model.unet.parameters(), *model.conditioner.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, config.steps))
    step, saved = 0, output / STATE_FILE
    if saved.exists():
        state = torch.load(saved, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average = MovingAverage(model)
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        step = average.steps = state["step"]
    else:
        prior_fit.fit(model.prior, batches, device, generator, config.prior_steps, progress=part(progress, 0, 0.2))
        model.prior.requires_grad_(False)
        average = MovingAverage(model)

    started = time.monotonic()
    with (output / LOG_FILE).open("a", encoding="utf-8") as log:
        while step < config.steps and not (config.seconds and time.monotonic() - started > config.seconds):
            kind = step % len(config.earlier_visits)
            batch = batches.draw(
                config.people, config.earlier_visits[kind], config.future_frames[kind], generator, config.all_known
            ).to(device)
            with torch.no_grad():
                condition = model.condition(batch.covariates, batch.anatomy, batch.years, batch.seen)
                clean = condition.posterior.to_standard(batch.future.to(condition.anatomy)).clamp(-8, 8)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = model.denoiser.loss(clean, condition).mean()
            if not math.isfinite(float(loss.detach())):
                raise FloatingPointError(
                    f"The loss of step {step} is not finite (batch kind {kind}, seed {config.seed})."
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            average.update(model)
            step += 1
            if step % 20 == 0:
                entry = {
                    "step": step,
                    "loss": float(loss.detach()),
                    "floor": float(clean.square().mean()),
                    "kind": kind,
                }
                print(json.dumps(entry), file=log, flush=True)
                progress(0.2 + 0.8 * step / config.steps, f"Step {step}, loss {float(loss.detach()):.4f}")
            if step % config.save_every == 0:
                _save(saved, model, average, optimizer, schedule, generator, step)
    _save(saved, model, average, optimizer, schedule, generator, step)
    if config.gate_people:
        gate = measure_gate(average.module, batches, device, config.gate_people, config.seed)
        average.module.gate.copy_(gate)
    save_weights(average.module, output / WEIGHTS_FILE)
    return average.module


def pooled_covariance(population: Population, generator: torch.Generator, count: int = 20_000) -> torch.Tensor:
    """Covariance of the rates over all diagnoses together: [R, R]."""
    return torch.cov(population.draw(count, generator).rate.T)


def save_weights(model: TrajectoryModel, path: Path) -> None:
    """Half precision for what is large, single for the closed form; atomic."""
    tensors = {
        name: (value.float() if name.startswith(("prior.", "deformation.w", "deformation.m", "gate")) else value.half())
        .cpu()
        .contiguous()
        for name, value in model.state_dict().items()
    }
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary)
    os.replace(temporary, path)


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2)


def _save(path: Path, model, average, optimizer, schedule, generator, step: int) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "generator": generator.get_state(),
        "step": step,
    }
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)
