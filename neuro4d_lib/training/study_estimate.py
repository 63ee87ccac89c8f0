"""What a run on a study will take, before it starts: one small step is made and measured, and scaled up."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.training.objective import Objective, random_stream
from neuro4d_lib.training.study_config import StudyRunConfig
from neuro4d_lib.training.task import Batches


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes.

    Attributes:
        steps, seconds_per_step: of the network; validations are part of `seconds`, which is for all steps.
        memory_bytes: of weights, optimizer and the largest step; of the GPU where there is one.
        disk_bytes: of the folder of the run.
    """

    steps: int
    seconds_per_step: float
    seconds: float
    memory_bytes: int
    disk_bytes: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        hours = self.seconds / 3600
        span = f"{hours:.1f} hours" if hours >= 1.5 else f"{self.seconds / 60:.0f} minutes"
        return (
            f"On {self.device}, {self.steps} steps of about {self.seconds_per_step:.1f} s: at most about {span} with their "
            f"validations (it stops earlier where nothing is gained), {self.memory_bytes / 1e9:.1f} GB of memory, "
            f"{self.disk_bytes / 1e9:.2f} GB of disk."
        )


def estimate(model: TrajectoryModel, batches: Batches, config: StudyRunConfig, device: torch.device) -> Estimate:
    """Measure a step of one person with two frames; the model is left as it is, on the CPU."""
    training = config.training
    model.to(device).unet.checkpointing = training.checkpointing
    objective = Objective(model, training.precision)
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    seconds = float("inf")
    for i in range(2):
        kept = 0
        batch = batches.draw(1, 0, 2, random_stream(torch.device("cpu"), training.seed, "people", i, 0)).to(device)
        started = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss, _ = objective(batch, random_stream(device, training.seed, "noise", i, 0))
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = min(seconds, time.perf_counter() - started)
    model.zero_grad(set_to_none=True)
    frames = [a + b for a, b in zip(training.earlier_visits, training.future_frames, strict=True)]
    mean_frames, most_frames = sum(frames) / len(frames), max(frames)
    per_step = seconds / 2 * mean_frames * training.people
    # A validation has no backward pass: about a third of a step of as many people.
    rounds = training.steps / training.validate_every if training.validate_every else 0
    validations = rounds * seconds / 2 * mean_frames * training.validation_people / 3
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    learned = sum(value.numel() * 4 for value in model.parameters())
    activations = kept / 2 * most_frames * training.people / training.parts
    model.to("cpu")
    return Estimate(
        training.steps,
        round(per_step, 3),
        round(training.steps * per_step + validations, 1),
        int(600e6 + 2 * weights + 4 * learned + activations),
        int(2 * weights + 6 * learned + 30e6),
        str(device),
    )
