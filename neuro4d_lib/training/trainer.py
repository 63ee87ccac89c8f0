"""Training: the closed form first, then the network on what it leaves."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from neuro4d_lib.config import to_dict
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training import prior_fit
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.distributed import Group
from neuro4d_lib.training.ema import MovingAverage
from neuro4d_lib.training.gate import measure_gate
from neuro4d_lib.training.objective import Objective, random_stream, validate
from neuro4d_lib.training.run_state import (
    LOG_FILE,
    SESSIONS_FILE,
    STATE_FILE,
    RunLog,
    Standing,
    learned,
    load_state,
    record_session,
    save_state,
    write_whole,
)
from neuro4d_lib.training.simulated import Batch, SimulatedBatches
from neuro4d_lib.training.task import Batches, Task

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"
_CPU = torch.device("cpu")


def train(
    fields: Path,
    output: Path,
    model_config: ModelConfig,
    config: TrainingConfig,
    device: torch.device,
    progress: Progress = silent,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    group: Group | None = None,
    population: PopulationConfig | None = None,
) -> TrajectoryModel:
    """Train on simulated people; see `run_task`.

    Args:
        fields: what `training_fields` wrote: velocity field, region share and smooth map of every region.
        population: what the simulated people are like.
    """

    def task() -> Task:
        return simulated_task(fields, model_config, config, population or PopulationConfig())

    return run_task(task, output, config, device, progress, on_step, group)


def simulated_task(
    fields: Path, model_config: ModelConfig, config: TrainingConfig, population: PopulationConfig
) -> Task:
    """A fresh model and simulated people."""
    model, batches = _build(fields, model_config, config, population)
    settings = {"training": to_dict(config), "model": to_dict(model_config), "population": to_dict(population)}

    def fit_prior(model: TrajectoryModel, device: torch.device, progress: Progress) -> None:
        people = random_stream(_CPU, config.seed, "prior")
        prior_fit.fit(model.prior, batches, device, people, config.prior_steps, progress=progress)

    def gate(model: TrajectoryModel, device: torch.device, progress: Progress) -> Tensor:
        return measure_gate(model, batches, device, config.gate_people, config.seed, progress=progress)

    return Task(model, batches, batches, settings, {"fields": _hash(fields)}, fit_prior, gate)


def run_task(
    make_task: Callable[[], Task],
    output: Path,
    config: TrainingConfig,
    device: torch.device,
    progress: Progress = silent,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    group: Group | None = None,
) -> TrajectoryModel:
    """Train, or go on where a run in `output` stopped: to the same result, on a CPU bit by bit.

    Args:
        make_task: called once the folder is known to be usable.
        output: folder of the run: settings, weights, log and the state that a resumed run needs.
        on_step: is given the line of the log of each step.
        group: the processes that train together; each of them calls this function.

    Returns:
        The averaged model with its gate. Of several processes, only the first one's is finished.
    """
    group = group or Group(device=device)
    saved = output / STATE_FILE
    fresh = _is_fresh(output)
    if config.parts % group.size:
        raise InputError(
            f"{group.size} processes cannot share the people of a step in training.parts = {config.parts} parts. "
            f"Set it to a multiple of {group.size}."
        )
    torch.manual_seed(config.seed)
    task = make_task()
    model, batches, identity = task.model, task.batches, {**task.settings, **task.identity}
    model.to(device).unet.checkpointing = config.checkpointing
    group.wait()  # No process writes before all have looked.

    if fresh and group.first:
        task.fit_prior(model, device, part(progress, 0, 0.2))
    model.prior.requires_grad_(False)
    average = MovingAverage(model)
    parameters = [*model.unet.parameters(), *model.conditioner.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    if fresh and group.first:
        write_whole(output / CONFIG_FILE, (json.dumps(task.settings, indent=1) + "\n").encode())
        standing, best = Standing(), {}
        if task.trained_before and config.validate_every:
            standing.best = validate(average.module, task.held_out, config, device).loss
            best = _kept(average.module)
        save_state(saved, identity, standing, model, average.module, best, optimizer)
    group.wait()
    # A new run starts from its own state, too: so there is one way to start, and all processes hold the same weights.
    standing, best = load_state(saved, identity, model, average.module, optimizer)
    average.steps = standing.step
    if group.first:
        record_session(output / SESSIONS_FILE, device, group.size, standing.step)

    def keep() -> None:
        save_state(saved, identity, standing, model, average.module, best, optimizer)
        write_weights({**average.module.state_dict(), **best}, output / WEIGHTS_FILE)

    objective = group.wrapped(Objective(model, config.precision))
    mine = group.share(config.parts)
    started, first_step = time.monotonic(), standing.step
    stop = 0 < config.patience <= standing.waited
    upcoming = _draw(batches, config, standing.step, mine)
    with RunLog(output / LOG_FILE if group.first else None, standing.step) as log:
        while standing.step < config.steps and not stop:
            step, people_of_step = standing.step, upcoming
            optimizer.param_groups[0]["lr"] = config.learning_rate * _pace(step, config.steps)
            optimizer.zero_grad()
            values = torch.zeros(config.parts, 2, device=device)
            for i, batch in people_of_step.items():
                noise = random_stream(device, config.seed, "noise", step, i)
                with nullcontext() if i == mine[-1] else group.keeping_to_itself(objective):
                    loss, floor = objective(batch.to(device), noise)
                    (loss / len(mine)).backward()
                values[i] = torch.stack([loss.detach().float(), floor.float()])
            upcoming = _draw(batches, config, step + 1, mine)  # while a GPU still computes
            values = group.total(values)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
            _check_finite(values[:, 0], norm, config, step, saved)
            optimizer.step()
            average.update(model)
            standing.step = step + 1

            elapsed = time.monotonic() - started
            left = elapsed * (config.steps - standing.step) / (standing.step - first_step)
            entry = {
                "step": standing.step,
                "loss": float(values[:, 0].mean()),
                "floor": float(values[:, 1].mean()),
                "kind": step % len(config.earlier_visits),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "gradient_norm": norm,
                "seconds": round(elapsed, 3),
                "seconds_left": round(left, 1),
            }
            due = config.validate_every and standing.step % config.validate_every == 0
            if group.first and (due or (config.validate_every and standing.step == config.steps)):
                checked = validate(average.module, task.held_out, config, device)
                better = checked.loss < standing.best
                if better:
                    best = _kept(average.module)
                    standing.best, standing.best_step = checked.loss, standing.step
                standing.waited = 0 if better else standing.waited + 1
                entry |= {
                    "validation_loss": checked.loss,
                    "validation_without_network": checked.without,
                    "validation_gain_by_visits": checked.gain_by_visits,
                    "best_step": standing.best_step,
                }
            if group.first:
                log.write(entry)
                if on_step:
                    on_step(entry)
                if standing.step % 20 == 0 or standing.step == config.steps:
                    message = f"Step {standing.step} of {config.steps}, loss {entry['loss']:.4f}"
                    progress(0.2 + 0.75 * standing.step / config.steps, message)
                if standing.step % config.save_every == 0:
                    keep()
            late = bool(config.seconds) and elapsed > config.seconds
            stop = group.first_says(late or 0 < config.patience <= standing.waited)
    if not group.first:
        return average.module

    keep()
    # A run that its time ended was last validated some steps ago.
    if best and standing.step < config.steps:
        now = validate(average.module, task.held_out, config, device)
        best = {} if now.loss < standing.best else best
    average.module.load_state_dict({**average.module.state_dict(), **best})
    if config.gate_people:
        gate = task.gate(average.module, device, part(progress, 0.95, 1))
        average.module.gate.copy_(gate)
    save_weights(average.module, output / WEIGHTS_FILE)
    progress(1.0, "Trained")
    return average.module


def pooled_covariance(population: Population, generator: torch.Generator, count: int = 20_000) -> Tensor:
    """Covariance of the rates over all diagnoses together: [R, R]."""
    return torch.cov(population.draw(count, generator).rate.T)


def save_weights(model: TrajectoryModel, path: Path) -> None:
    """Half precision for what is large, single for the closed form and the gate; atomic."""
    write_weights(model.state_dict(), path)


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """See `save_weights`."""
    single = ("prior.", "deformation.w", "deformation.m", "gate")
    stored = {
        name: (value.float() if name.startswith(single) else value.half()).cpu().contiguous()
        for name, value in tensors.items()
    }
    write_whole(path, safetensors.save(stored))


def _kept(model: TrajectoryModel) -> dict[str, Tensor]:
    """What was learned, as it is now."""
    return {name: value.cpu().clone() for name, value in learned(model).items()}


def _is_fresh(output: Path) -> bool:
    """Whether a run starts here; a folder with weights of something else is left alone."""
    output.mkdir(parents=True, exist_ok=True)
    if (output / STATE_FILE).exists():
        return False
    if (output / WEIGHTS_FILE).exists():
        raise InputError(f"{output} holds {WEIGHTS_FILE}, but no run to go on with. Name a new folder.")
    return True


def _build(
    fields: Path, model_config: ModelConfig, config: TrainingConfig, population_config: PopulationConfig
) -> tuple[TrajectoryModel, SimulatedBatches]:
    """The untrained model and the people that it is trained on, both on the CPU."""
    try:
        read = safetensors.load_file(fields)
        tensors = {name: read[name] for name in ("fields", "pooling", "state_maps")}
    except (SafetensorError, KeyError) as problem:
        raise InputError(f"{fields} holds no velocity fields ({problem}). Delete it; it is made again.") from None
    expected = (model_config.modes, 3, *model_config.lattice)
    if tensors["fields"].shape != expected:
        raise InputError(
            f"The velocity fields of {fields} are {tuple(tensors['fields'].shape)}; model.modes and model.lattice ask for {expected}."
        )
    try:
        model = TrajectoryModel(model_config)
    except ValueError as problem:
        raise InputError(f"No network can be built as the settings of the model say: {problem}") from None
    population = Population(population_config)
    covariance = pooled_covariance(population, random_stream(_CPU, config.seed, "population"))
    deformation = Deformation.of(tensors["fields"], covariance, tensors["pooling"])
    model.deformation = Deformation.of(
        tensors["fields"], deformation.whitening @ deformation.whitening.T, tensors["pooling"]
    )
    return model, SimulatedBatches(population, deformation, tensors["state_maps"])


def _draw(batches: Batches, config: TrainingConfig, step: int, mine: range) -> dict[int, Batch]:
    """The parts of a step that are this process's."""
    kind = step % len(config.earlier_visits)
    earlier, future, size = config.earlier_visits[kind], config.future_frames[kind], config.people // config.parts
    return {
        i: batches.draw(size, earlier, future, random_stream(_CPU, config.seed, "people", step, i), config.all_known)
        for i in mine
    }


def _check_finite(losses: Tensor, gradient_norm: float, config: TrainingConfig, step: int, saved: Path) -> None:
    """Stop before a broken step reaches the weights, and name the batch."""
    if bool(torch.isfinite(losses).all()) and math.isfinite(gradient_norm):
        return
    bad = [str(i) for i in range(len(losses)) if not math.isfinite(float(losses[i]))]
    what = f"loss of step {step + 1}, part {', '.join(bad)}," if bad else f"gradient of step {step + 1}"
    kind = step % len(config.earlier_visits)
    raise InputError(
        f"The {what} is not finite: {config.people // config.parts} people with {config.earlier_visits[kind]} earlier visits "
        f"and {config.future_frames[kind]} years ahead, seed {config.seed}. {saved} holds the last good state. "
        "Start a new run with a lower training.learning_rate, or with training.precision float32."
    )


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
