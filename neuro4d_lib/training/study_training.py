"""Training on a prepared study, from the folder to the model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from neuro4d_lib.config import to_dict
from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.distributed import Group
from neuro4d_lib.training.fields import training_fields
from neuro4d_lib.training.model_folder import make_model_folder
from neuro4d_lib.training.study_config import StudyRunConfig
from neuro4d_lib.training.study_estimate import Estimate, estimate
from neuro4d_lib.training.study_run import (
    Start,
    StudyOfRun,
    about_study_model,
    start_from,
    start_from_scratch,
    study_of_run,
    study_task,
)
from neuro4d_lib.training.study_scores import score_held_out
from neuro4d_lib.training.task import Task
from neuro4d_lib.training.trainer import WEIGHTS_FILE, run_task

FIELDS_FILE = "fields.safetensors"


def train_on_study(
    prepared: Path,
    output: Path,
    config: StudyRunConfig,
    start_folder: Path | None,
    device: torch.device,
    progress: Progress = silent,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    group: Group | None = None,
    on_begin: Callable[[StudyOfRun], None] | None = None,
) -> Path | None:
    """Train, or go on where a run in `output` stopped; see `trainer.run_task`.

    Args:
        start_folder: model folder to start from; None trains from scratch.
        on_begin: is given the people of the run before the work begins.

    Returns:
        The model folder; None in all processes but the first.
    """
    group = group or Group(device=device)
    start, study = opened(prepared, output, config, start_folder, part(progress, 0.0, 0.05), group)

    def task() -> Task:
        return study_task(start, study, config, output)

    if on_begin and group.first:
        on_begin(study)
    model = run_task(task, output, config.training, device, part(progress, 0.05, 0.93), on_step, group)
    if not group.first:
        return None
    return _finished(model, start, study, config, output, device, part(progress, 0.93, 1.0))


def opened(
    prepared: Path,
    output: Path,
    config: StudyRunConfig,
    start_folder: Path | None,
    progress: Progress = silent,
    group: Group | None = None,
) -> tuple[Start, StudyOfRun]:
    """What a run starts with, and its people. Where the start is from scratch, the anatomy is worked out in `output` first."""
    if start_folder is not None:
        start = start_from(start_folder)
    else:
        # Refuse before a minute is spent on the anatomy.
        from neuro4d_lib.data.prepared import read_about

        read_about(prepared)
        if group is None or group.first:
            output.mkdir(parents=True, exist_ok=True)
            training_fields(output / FIELDS_FILE, progress)
        if group is not None:
            group.wait()
        start = start_from_scratch(output / FIELDS_FILE)
    return start, study_of_run(prepared, start, config, progress)


def estimated(start: Start, study: StudyOfRun, config: StudyRunConfig, output: Path, device: torch.device) -> Estimate:
    """What the run will take."""
    task = study_task(start, study, config, output)
    task.model.prior.requires_grad_(False)
    return estimate(task.model, task.batches, config, device)


def _finished(
    model: TrajectoryModel,
    start: Start,
    study: StudyOfRun,
    config: StudyRunConfig,
    output: Path,
    device: torch.device,
    progress: Progress,
) -> Path:
    model.eval()
    scores = score_held_out(model, study.of("test"), device, config.training.seed, progress)
    about = about_study_model(start, study, output, scores) | {
        "command": "python -m neuro4d_lib train PREPARED --output RUN --config SETTINGS"
        + ("" if start.card is None else " --from MODEL"),
        "training": to_dict(config.training),
        "study": to_dict(config.study),
        "population": to_dict(config.population),
    }
    return make_model_folder(output / WEIGHTS_FILE, output / "model", model.config, about, start.reference)
