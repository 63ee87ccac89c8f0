"""Commands that say how good a model is: known-truth, evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

from neuro4d_lib.cli_arguments import add_population_file, population_config
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import part

_FIGURE_REGIONS = ("hippocampus", "lateral_ventricle", "entorhinal_cortex", "whole_brain")


def add_known_truth(commands: Any) -> None:
    """known-truth: a model against the exact best forecast of simulated people."""
    parser = commands.add_parser(
        "known-truth",
        help="score a model against the exact best forecast of simulated people",
        description="Draw futures for simulated people whose law is known, and compare them with the exact best forecast "
        "and the simple ones. Futures that lie in the output folder are not drawn again.",
        epilog="On a bare GPU machine with PyTorch, safetensors and scipy alone: --draw-only or --compare-steps, with "
        "--fields FILE. Then score at home with the same --output.",
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the shipped model)")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for scores.csv, scores.md, scores.png and goals.json",
    )
    parser.add_argument("--people", type=int, default=1000, help="simulated people (default: 1000)")
    parser.add_argument("--draws", type=int, default=16, help="futures for each (default: 16)")
    parser.add_argument("--scans", type=int, nargs="+", default=[1, 2, 3, 5], help="scans a person (default: 1 2 3 5)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    parser.add_argument(
        "--courses", type=int, default=8, help="courses followed on the voxels of the reference (default: 8; 0: none)"
    )
    parser.add_argument(
        "--hide-covariates",
        action="store_true",
        help="of people of whom only the scans are known: no age, no diagnosis",
    )
    add_population_file(parser)
    parser.add_argument("--draw-only", action="store_true", help="draw the futures, and score them another time")
    parser.add_argument(
        "--compare-steps", type=int, nargs="+", metavar="STEPS", help="only print what so many denoising steps score"
    )
    parser.add_argument(
        "--fields", type=Path, metavar="FILE", help="fields.safetensors of a training run, to draw from"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.set_defaults(run=run_known_truth)


def run_known_truth(chosen: argparse.Namespace) -> None:
    """Draw, then score, or only one of the two."""
    if chosen.people < 10 or chosen.draws < 2 or not all(1 <= scans <= 8 for scans in chosen.scans):
        raise InputError("Expected at least 10 people, 2 draws, and 1 to 8 scans.")
    if any(steps < 1 for steps in [*(chosen.compare_steps or []), chosen.steps or 1]) or chosen.courses < 0:
        raise InputError("Expected 1 denoising step or more, and 0 courses or more.")
    from neuro4d_lib.applications import known_truth_scores
    from neuro4d_lib.devices import checked_device
    from neuro4d_lib.progress import TerminalBar

    device = checked_device(chosen.device)
    scans = tuple(sorted(set(chosen.scans)))
    request = known_truth_scores.Request(
        chosen.people, chosen.draws, scans, chosen.steps, chosen.hide_covariates, population_config(chosen.population)
    )
    draws_only = chosen.draw_only or chosen.compare_steps is not None
    if not draws_only:
        _need("scipy", "statsmodels", "matplotlib")
    model, network, sha256 = _model(chosen.model, chosen.fields if draws_only else None)
    network.to(device)
    progress = TerminalBar()
    if chosen.compare_steps is not None:
        _print_steps(network, request, sorted(set(chosen.compare_steps)), device, chosen.output, progress)
        return
    end = 1.0 if draws_only else 0.8
    try:
        known_truth_scores.draw_futures(network, sha256, chosen.output, request, device, part(progress, 0.0, end))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted. {chosen.output} keeps the futures of every number of scans that is finished; the same command "
            "goes on from there."
        ) from None
    if draws_only:
        print(f"Drew the futures in {chosen.output}. Score them with the same command without --draw-only.")
        return
    network.to("cpu")
    _score_known_truth(chosen, request, model, progress)


def _model(folder: Path | None, fields: Path | None) -> tuple[Any, Any, str]:
    """The model, its network and the hash of its weights, on the CPU. With `fields`, its regions come from there: no model."""
    import torch

    from neuro4d_lib import checkpoint

    if fields is None:
        model = checkpoint.load_model(folder, torch.device("cpu"))
        return model, model.network, model.sha256
    from safetensors.torch import load_file

    if not fields.is_file():
        raise InputError(f"There is no file {fields}. Name the fields.safetensors of a training run.")
    network, card = checkpoint.load_network(folder or checkpoint.SHIPPED)
    tensors = load_file(fields)
    if "pooling" not in tensors:
        raise InputError(f"{fields} holds no region shares ('pooling'). Name the fields.safetensors of a training run.")
    network.deformation.pooling.copy_(tensors["pooling"])
    return None, network, card["sha256"][checkpoint.WEIGHTS_FILE]


def _print_steps(network: Any, request: Any, steps: list[int], device: Any, output: Path, progress: Any) -> None:
    from neuro4d_lib.applications.evaluation_steps import compare_steps, render_steps
    from neuro4d_lib.files import write_whole

    text = render_steps(compare_steps(network, request, steps, device, progress), request)
    write_whole(output / "steps.md", text)
    print(f"\n{text}\nWrote {output / 'steps.md'}.")


def _score_known_truth(chosen: argparse.Namespace, request: Any, model: Any, progress: Any) -> None:
    from neuro4d_lib.applications import known_truth_scores
    from neuro4d_lib.applications.evaluation_courses import check_courses
    from neuro4d_lib.applications.evaluation_goals import assess, render_goals
    from neuro4d_lib.applications.figures import draw_scores
    from neuro4d_lib.applications.score_report import render_scores
    from neuro4d_lib.applications.score_table import write_scores
    from neuro4d_lib.files import write_whole

    output = chosen.output
    rows = known_truth_scores.score_futures(model, output, request, part(progress, 0.8, 0.9))
    courses = None
    if chosen.courses:
        rates = known_truth_scores.some_courses(model.sha256, output, request, chosen.courses)
        courses = check_courses(model.network.deformation, model.reference, rates, part(progress, 0.9, 1.0))
    goals = assess(rows, model.network_calls(request.steps), courses)
    table = render_goals(goals)
    write_scores(output / "scores.csv", rows)
    command = (
        f"python -m neuro4d_lib known-truth --people {request.people} --draws {request.draws} "
        f"--scans {' '.join(map(str, request.scans))} --courses {chosen.courses}"
    )
    if request.steps is not None:
        command += f" --steps {request.steps}"
    if request.hide_covariates:
        command += " --hide-covariates"
    if chosen.population is not None:
        command += f" --population {chosen.population.name}"
    reached = {"command": command, "goals": [dataclasses.asdict(goal) for goal in goals]}
    write_whole(output / "goals.json", json.dumps(reached, indent=1) + "\n")
    title = f"Known-truth benchmark: {request.people} simulated people"
    if request.hide_covariates:
        title += ", covariates hidden"
    preface = [
        f"Model {model.card['name']} {model.card.get('version', '')}, weights {model.sha256[:12]}. Simulated people; no "
        "evidence about real ones. The simple forecasts were fitted to "
        f"{known_truth_scores.TRAINING_PEOPLE} other simulated people with {known_truth_scores.TRAINING_SCANS} scans each.",
        "![Figures](scores.png)",
        "## Goals",
        "Cells are region x horizon x number of scans; sampling error is two standard errors.",
        table,
    ]
    write_whole(output / "scores.md", render_scores(rows, title, command, preface=preface))
    scans = 2 if 2 in request.scans else request.scans[0]
    draw_scores(rows, output / "scores.png", title, _FIGURE_REGIONS, scans=scans)
    progress(1.0, "Scored")
    print(f"\n{table}\n")
    print(f"Wrote scores.csv, scores.md and scores.png to {output}. Simulated people; no evidence about real ones.")


def add_evaluate(commands: Any) -> None:
    """evaluate: forecasts of a longitudinal study against its later scans."""
    parser = commands.add_parser(
        "evaluate",
        help="forecast the people of a longitudinal data set and compare with their later scans",
        description="Forecast everybody in a longitudinal BIDS data set, simulated or real, from the first one, two, ... "
        "scans and compare with the scans that came later. About a minute or two a scan on two cores. A run that was ended "
        "goes on where it stopped. Research use only.",
        epilog="LPIPS needs the weights of alex or resnet50, FID and KID those of MedicalNet; with a network named and no "
        "file they are downloaded.",
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help="BIDS folder: sub-*/ses-*/anat/*_T1w.nii.gz")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder, or that of the same run")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the shipped model)")
    parser.add_argument(
        "--subjects", nargs="+", default=[], metavar="ID", help="only these people (default: everybody)"
    )
    parser.add_argument(
        "--subjects-from", type=Path, metavar="RUN",
        help="only the people whom a run of `train PREPARED` kept for testing, by its model unless --model names another",
    )  # fmt: skip
    parser.add_argument(
        "--scans",
        type=int,
        nargs="+",
        metavar="K",
        help="numbers of past scans to forecast from (default: all there are)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="DIR",
        help="segmentations of all scans: sub-*/ses-*/anat/*_dseg.nii.gz, dseg.tsv",
    )
    parser.add_argument("--futures", type=int, default=16, metavar="N", help="futures to draw (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="future i is drawn with seed + i (default: 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the model's own choice)")
    parser.add_argument("--perceptual-network", choices=("alex", "resnet50"), help="for LPIPS of slices")
    parser.add_argument(
        "--perceptual-weights", type=Path, metavar="FILE", help="its weights (network: alex unless named)"
    )
    parser.add_argument(
        "--feature-network", choices=("medicalnet_resnet10", "medicalnet_resnet50"), help="for FID and KID of volumes"
    )
    parser.add_argument(
        "--feature-weights", type=Path, metavar="FILE", help="its weights (network: medicalnet_resnet10 unless named)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--progress", choices=("auto", "json", "none"), default="auto", help="as for forecast")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(chosen: argparse.Namespace) -> None:
    """Check the request, evaluate, name the files."""
    if chosen.futures < 2 or any(scans < 1 for scans in chosen.scans or []):
        raise InputError("Expected at least 2 futures, and 1 past scan or more.")
    _need("scipy", "statsmodels", "matplotlib", "monai")
    from neuro4d_lib.applications.evaluation import SUBJECTS_FILE, evaluate_study
    from neuro4d_lib.applications.evaluation_subject import Networks, Settings
    from neuro4d_lib.metrics.feature_networks import feature_network, perceptual_network
    from neuro4d_lib.progress import JsonLines, Progress, TerminalBar, silent

    perceptual = chosen.perceptual_network or (chosen.perceptual_weights and "alex")
    features = chosen.feature_network or (chosen.feature_weights and "medicalnet_resnet10")
    networks = Networks(
        (perceptual, perceptual_network(perceptual, chosen.perceptual_weights)) if perceptual else None,
        (features, feature_network(features, chosen.feature_weights)) if features else None,
    )
    scans = None if chosen.scans is None else tuple(sorted(set(chosen.scans)))
    wanted, model = chosen.subjects, chosen.model
    if chosen.subjects_from is not None:
        if wanted:
            raise InputError("--subjects and --subjects-from exclude each other. Leave out one.")
        from neuro4d_lib.training.study_run import read_split

        wanted, model = read_split(chosen.subjects_from)["test"], model or chosen.subjects_from / "model"
    settings = Settings(model, chosen.futures, chosen.seed, chosen.steps, scans, chosen.device, chosen.labels)
    command = f"python -m neuro4d_lib evaluate {chosen.study.name} --futures {chosen.futures} --seed {chosen.seed}"
    progress: Progress = silent if chosen.progress == "none" else TerminalBar()
    if chosen.progress == "json":
        progress = JsonLines()
    try:
        outcome = evaluate_study(chosen.study, chosen.output, settings, networks, wanted, command, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted. {chosen.output} keeps the people who are finished; the same command goes on from there."
        ) from None
    if isinstance(progress, JsonLines):
        unusable = {one.subject: one.reason for one in outcome.unusable}
        progress.event("done", folder=str(chosen.output), evaluated=list(outcome.evaluated), unusable=unusable)
        return
    for one in outcome.unusable:
        print(f"Not evaluated: {one.subject}: {one.reason}.")
    print(
        f"Evaluated {len(outcome.evaluated)} people. Wrote scores.csv, scores.md, scores.png and {SUBJECTS_FILE} to "
        f"{chosen.output}. Research use only."
    )


def _need(*packages: str) -> None:
    """Packages of the evaluation extra, asked for before the work begins."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The evaluation needs {', '.join(missing)}, which is not installed. Install it with: "
            "pip install 'neuro4d-lib[evaluation]'"
        )
