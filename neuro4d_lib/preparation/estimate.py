"""What preparing a study will take, before it starts: time, memory and disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from neuro4d_lib.data.study import Study
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.deformation import exponentiate
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.preparation.config import PreparationConfig

# Seconds of one core for a person with V visits: at once, per visit; and per step of each resolution and visit.
# Measured in seconds of computing, as PROBE_SECONDS was on the same machine (AMD EPYC).
PERSON_SECONDS, VISIT_SECONDS = 8.0, 9.0
STEP_SECONDS = (0.035, 0.3, 2.6)
PROBE_SECONDS = 0.1
WORKER_BYTES, BYTES_PER_VISIT_IN_MEMORY = 1_100_000_000, 60_000_000
SUBJECT_BYTES, VISIT_BYTES = 4_000, 4 * LATTICE.shape[0] * LATTICE.shape[1] * LATTICE.shape[2] * 4 + 250_000


@dataclass(frozen=True)
class Estimate:
    """What a preparation takes.

    Attributes:
        seconds: with all workers at work.
        memory_bytes: of all workers together.
        disk_bytes, free_bytes: to be written, and free at the output.
    """

    people: int
    unusable: int
    visits: int
    workers: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    free_bytes: int

    def sentence(self) -> str:
        """For a person to read."""
        return (
            f"{self.people} people with {self.visits} visits ({self.unusable} people cannot be used): about "
            f"{_duration(self.seconds)} with {self.workers} worker{'s' if self.workers > 1 else ''}, "
            f"{self.memory_bytes / 1e9:.1f} GB of memory, {self.disk_bytes / 1e9:.2f} GB of disk "
            f"({self.free_bytes / 1e9:.0f} GB are free)."
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def check_disk(self) -> None:
        """An InputError where the disk is too small."""
        if self.disk_bytes > self.free_bytes:
            raise InputError(
                f"The prepared study needs about {self.disk_bytes / 1e9:.2f} GB of disk; {self.free_bytes / 1e9:.2f} GB are "
                "free at the output. Choose a place on another disk, or make room."
            )


def estimate(study: Study, config: PreparationConfig, output: Path, workers: int) -> Estimate:
    """What preparing all of a study takes on this machine, of which one small computation is timed."""
    counts = [len(person.visits) for person in study.subjects]
    each = VISIT_SECONDS + sum(steps * seconds for steps, seconds in zip(config.iterations, STEP_SECONDS, strict=False))
    alone = sum(PERSON_SECONDS + each * count for count in counts) * _slowness()
    workers = max(1, min(workers, len(counts)))
    longest = max(counts, default=0)
    existing = output.resolve()
    while not existing.exists():
        existing = existing.parent
    return Estimate(
        people=len(counts),
        unusable=len(study.unusable),
        visits=sum(counts),
        workers=workers,
        seconds=round(alone / workers, 1),
        memory_bytes=workers * (WORKER_BYTES + longest * BYTES_PER_VISIT_IN_MEMORY),
        disk_bytes=sum(SUBJECT_BYTES + VISIT_BYTES * count for count in counts),
        free_bytes=shutil.disk_usage(existing).free,
    )


def _slowness() -> float:
    """Time of one core of this machine against the one on which the numbers above were measured."""
    velocity = torch.ones(1, 3, *LATTICE.refined(2).shape)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        exponentiate(velocity, squarings=4)
        times.append(time.perf_counter() - started)
    return min(times) / PROBE_SECONDS


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
