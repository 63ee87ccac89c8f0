"""What a run of training is about: the model that it starts with, the people that it learns from, and those who judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.progress import Progress
from neuro4d_lib.training.simulated import Batch


class Batches(Protocol):
    """Where people come from: simulated.SimulatedBatches, study_batches.StudyBatches."""

    def draw(self, size: int, observed: int, future: int, generator: torch.Generator, all_known: float = 0.0) -> Batch:
        """`size` people with `future` years ahead and `observed` earlier visits, or as many of these as there are."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """Everything about a run but how it is trained.

    Attributes:
        model: on the CPU; its network is trained, its closed form fitted by `fit_prior`.
        batches, held_out: of people to learn from, and to validate with.
        settings: what config.json of the run holds.
        identity: whatever else changes the result, such as the hash of a file.
        fit_prior: brings the closed form of the model to the people; called once, before the first step.
        gate: of a trained model, see gate.py.
        trained_before: the network is no worse than what it starts with, so a run that never improves on it keeps it.
    """

    model: TrajectoryModel
    batches: Batches
    held_out: Batches
    settings: dict[str, Any]
    identity: dict[str, Any]
    fit_prior: Callable[[TrajectoryModel, torch.device, Progress], None]
    gate: Callable[[TrajectoryModel, torch.device, Progress], Tensor]
    trained_before: bool = False
