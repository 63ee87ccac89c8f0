"""The command that trains: train."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from neuro4d_lib.cli_arguments import add_population_file, population_config
from neuro4d_lib.config import SettingError, read_settings, to_dict
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, Progress, TerminalBar, part, silent

if TYPE_CHECKING:
    from neuro4d_lib.training.config import RunConfig

_ABOUT: dict[str, Any] = {
    "name": "simulated-ageing",
    "version": "0.1.0",
    "license": "Apache-2.0; reference image and regions under the ICBM 152 notice in NOTICE.txt",
    "use": "Research use only. Not for diagnosis, treatment or advice.",
    "training_data": "Simulated people only (docs/population.md): published mean rates; spreads assumed, those of brain and ventricles set by group statistics of OASIS-2. No real scan was used.",
    "limits": [
        "Learned from simulated rates of region volumes; says nothing that the published rates do not contain.",
        "Earlier scans enter by registration, whose errors are larger than the simulated scan noise.",
        "Lesions, tumours, strokes and growth in childhood are not modelled.",
    ],
    "ranges": {"age": [18, 100], "years": [0.25, 10], "past_years": [-8, -0.25]},
}
_COMMAND = "python -m neuro4d_lib train --output RUN --config SETTINGS, where SETTINGS holds the training, model and population of this card"
_EXAMPLES = """\
examples:
  With the default settings; after an interruption the same command goes on:
    python -m neuro4d_lib train --output run

  With settings of your own, such as {"training": {"steps": 2000, "people": 24}, "model": {"widths": [16, 32, 48]}}:
    python -m neuro4d_lib train --output run --config settings.json

  On two GPUs of one machine, each with half of the people of every step:
    torchrun --nproc_per_node 2 -m neuro4d_lib train --output run --parts 2

  On a study of your own that was prepared, starting from the shipped model; first what it will take:
    python -m neuro4d_lib train prepared --output run --from shipped --estimate
    python -m neuro4d_lib train prepared --output run --from shipped

  docs/training.md explains the settings and the log. Research use only."""


def add_train(commands: Any) -> None:
    """train: a model on a study, or on simulated people."""
    parser = commands.add_parser(
        "train",
        help="train a model on a prepared study, or on simulated people",
        description="Train a model on a prepared study, or on simulated people where none is named, and write a model "
        "folder. Run it again to go on where it stopped.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prepared", type=Path, nargs="?", metavar="PREPARED", help="what `prepare` wrote of a study")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the run; model/ in it at the end"
    )
    parser.add_argument(
        "--from", dest="start", metavar="MODEL",
        help="with PREPARED: model folder to start from, or shipped (default: from scratch, which needs many people)",
    )  # fmt: skip
    parser.add_argument(
        "--estimate", action="store_true", help="with PREPARED: only say whom and what the run would take"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings of training, model and population, as JSON"
    )
    add_population_file(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the network, instead of training.steps")
    parser.add_argument("--people", type=int, metavar="N", help="people per step, instead of training.people")
    parser.add_argument("--parts", type=int, metavar="N", help="parts of a step, instead of training.parts")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of training.seed")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="make the folder of these weights of a run, without training"
    )
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="with --weights: goals.json of known-truth, for the model's card"
    )
    parser.add_argument(
        "--progress", choices=("auto", "json", "none"), default="auto",
        help="auto: a bar; json: one JSON object a line on the standard output, with the log of every step; none (default: auto)",
    )  # fmt: skip
    parser.set_defaults(run=run_train)


def run_train(chosen: argparse.Namespace) -> None:
    from neuro4d_lib.training.trainer import WEIGHTS_FILE

    if chosen.prepared is None and (chosen.start is not None or chosen.estimate):
        raise InputError(
            "--from and --estimate go with a prepared study. Name its folder: train PREPARED --output RUN."
        )
    if chosen.prepared is not None and chosen.weights is not None:
        raise InputError("--weights makes a folder of a run on simulated people. Leave out PREPARED.")
    settings = _settings(chosen)
    if chosen.weights is not None:
        if not chosen.weights.is_file():
            raise InputError(f"There is no file {chosen.weights}. Name the {WEIGHTS_FILE} of a run.")
        _finish(chosen.weights, chosen.output, settings, scores=_scores(chosen.scores))
        return
    try:
        if chosen.prepared is None:
            _train(chosen, settings)
        else:
            _train_on_study(chosen, settings)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted. {chosen.output} keeps the last checkpoint; the same command goes on from there."
        ) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            "The memory is full. Start a new run with more --parts, with training.checkpointing, or with fewer people."
        ) from None


def _train(chosen: argparse.Namespace, settings: RunConfig) -> None:
    from neuro4d_lib.devices import checked_device
    from neuro4d_lib.training.distributed import joined
    from neuro4d_lib.training.fields import training_fields
    from neuro4d_lib.training.trainer import WEIGHTS_FILE, train

    with joined(checked_device(chosen.device)) as group:
        progress: Progress = silent
        if group.first and chosen.progress != "none":
            progress = JsonLines() if chosen.progress == "json" else TerminalBar()
        fields = chosen.output / "fields.safetensors"
        if group.first:
            chosen.output.mkdir(parents=True, exist_ok=True)
            training_fields(fields, progress)
        group.wait()
        train(
            fields, chosen.output, settings.model, settings.training, group.device,
            progress=part(progress, 0.01, 0.98),
            on_step=(lambda entry: progress.event("step", **entry)) if isinstance(progress, JsonLines) else None,
            group=group, population=settings.population,
        )  # fmt: skip
        if group.first:
            _finish(chosen.output / WEIGHTS_FILE, chosen.output, settings, progress)


def _train_on_study(chosen: argparse.Namespace, settings: Any) -> None:
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.devices import checked_device
    from neuro4d_lib.training.distributed import joined
    from neuro4d_lib.training.study_run import counted
    from neuro4d_lib.training.study_training import estimated, opened, train_on_study

    start = None if chosen.start is None else SHIPPED if chosen.start == "shipped" else Path(chosen.start)
    if start is not None and settings.model != type(settings.model)():
        raise InputError("A model that is started from has its own sizes. Leave `model` out of the settings.")
    with joined(checked_device(chosen.device)) as group:
        progress: Progress = silent
        if group.first and chosen.progress != "none":
            progress = JsonLines() if chosen.progress == "json" else TerminalBar()
        if chosen.estimate:
            begun, study = opened(chosen.prepared, chosen.output, settings, start, progress, group)
            found = estimated(begun, study, settings, chosen.output, group.device)
            if isinstance(progress, JsonLines):
                progress.event("estimate", people=counted(study), **found.as_dict())
            elif group.first:
                print(f"\n{_listed(counted(study))}\n{found.sentence()}")
            return
        told = isinstance(progress, JsonLines)
        folder = train_on_study(
            chosen.prepared, chosen.output, settings, start, group.device, progress,
            on_step=(lambda entry: progress.event("step", **entry)) if isinstance(progress, JsonLines) else None,
            group=group,
            on_begin=None if told or chosen.progress == "none" else lambda study: print(_listed(counted(study))),
        )  # fmt: skip
        if group.first and isinstance(progress, JsonLines):
            progress.event("done", folder=str(folder))
        elif group.first:
            print(f"Wrote the model folder {folder}. Forecast with it: --model {folder}")


def _listed(parts: dict[str, Any]) -> str:
    lines = []
    for name, part_of in parts.items():
        diagnoses = ", ".join(f"{count} {diagnosis}" for diagnosis, count in part_of["diagnoses"].items())
        lines.append(f"{name:>10}: {part_of['people']} people, {part_of['visits']} visits ({diagnoses})")
    return "\n".join(lines)


def _settings(chosen: argparse.Namespace) -> RunConfig:
    """Of the file, or of the run whose weights are named, or the defaults; with what the command line changes."""
    from neuro4d_lib.training.config import RunConfig
    from neuro4d_lib.training.study_config import StudyRunConfig
    from neuro4d_lib.training.trainer import CONFIG_FILE

    file = chosen.config
    if file is None and chosen.weights is not None and (chosen.weights.parent / CONFIG_FILE).is_file():
        file = chosen.weights.parent / CONFIG_FILE
    kind = RunConfig if chosen.prepared is None else StudyRunConfig
    settings: RunConfig = kind() if file is None else read_settings(file, kind)
    if chosen.population is not None:
        settings = dataclasses.replace(settings, population=population_config(chosen.population))
    given = {name: getattr(chosen, name) for name in ("steps", "people", "parts", "seed")}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **changes))
    except SettingError as error:
        raise InputError(f"--{error.key}: {error.problem}") from None


def _scores(file: Path | None) -> dict[str, Any]:
    """What known-truth says of the model, for its card."""
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        goals = {f"{goal['what']}: {goal['goal']}": goal["reached"] for goal in found["goals"]}
        return {"scores": {"command": found["command"], **goals}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds no scores ({error}). Name the goals.json of known-truth.") from None


def _finish(
    weights: Path,
    output: Path,
    settings: RunConfig,
    progress: Progress = silent,
    scores: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    from neuro4d_lib.training.model_folder import make_model_folder

    parts = {"training": to_dict(settings.training), "population": to_dict(settings.population)}
    about = {**_ABOUT, "command": _COMMAND, **parts, **scores}
    folder = make_model_folder(weights, output / "model", settings.model, about)
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(folder))
        return
    print(f"Wrote the model folder {folder}. Forecast with it: --model {folder}")
