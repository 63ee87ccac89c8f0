"""The three representations on the same simulated people: train each, forecast the same others, one table."""

from __future__ import annotations

import csv
import io
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from neuro4d_lib.applications.representation_scores import Row, Scores, score_person, table
from neuro4d_lib.config import documented
from neuro4d_lib.data.image_courses import Courses, CourseSimulator, Given, irregular_years
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.rate_fields import RateFields, rate_fields
from neuro4d_lib.data.reference import build_reference
from neuro4d_lib.files import write_whole
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.representations.base import Frames
from neuro4d_lib.representations.course_model import REPRESENTATIONS, CourseModel, CourseModelConfig
from neuro4d_lib.representations.deformed_scan import DeformedScan
from neuro4d_lib.training.image_training import ImageTrainingConfig, Trained, train_courses

FIELDS_FILE = "rate_fields.safetensors"
SIMPLE = ("copy_last", "group_rate", "true_motion")
REGRESSION = "regression"
"""What covariates say by themselves, learned from the same people, as a deformation."""
COLUMNS = (
    ("change skill, 1 y", "change_skill_score", "brain", "1"),
    ("3 y", "change_skill_score", "brain", "3"),
    ("5 y", "change_skill_score", "brain", "5"),
    ("all", "change_skill_score", "brain", "all"),
    ("SSIM", "ssim", "brain", "all"),
    ("PSNR, dB", "psnr", "brain", "all"),
)
VOLUME_COLUMNS = (
    ("hippocampus by map, %", "volume_error_percent", "hippocampus", "all"),
    ("ventricles by map, %", "volume_error_percent", "lateral_ventricle", "all"),
    ("ventricles by darkness, %", "fluid_error_percent", "lateral_ventricle", "all"),
    ("voxels that may fold", "fold_failures", "brain", "all"),
)
LESION_COLUMNS = (
    ("lesion change skill, 1 y", "lesion_change_skill", "lesions", "1"),
    ("3 y", "lesion_change_skill", "lesions", "3"),
    ("5 y", "lesion_change_skill", "lesions", "5"),
    ("lesion load skill", "lesion_load_skill", "white_matter", "all"),
)


@dataclass(frozen=True)
class ComparisonConfig:
    """People, training and forecasts of a comparison of representations."""

    people: int = documented(48, help="Simulated people to learn from, two follow-ups each.")
    test_people: int = documented(24, help="Other people to be forecast.")
    horizons: tuple[float, ...] = documented((1.0, 3.0, 5.0), help="Years ahead in the test.")
    draws: int = documented(4, help="Futures drawn for each; their mean is scored.")
    diagnosis_shares: tuple[float, ...] = documented(
        (0.2, 0.15, 0.15, 0.1, 0.4), help="CN, MCI, AD, PD, MS; many with MS, for the lesions."
    )
    seed: int = documented(0, help="Of people, training and forecasts.")
    model: CourseModelConfig = field(default_factory=CourseModelConfig)
    training: ImageTrainingConfig = field(default_factory=ImageTrainingConfig)


def compare(config: ComparisonConfig, output: Path, device: torch.device, progress: Progress = silent) -> str:
    """Run the comparison; writes the trained weights and `representations.csv`; returns the tables (Markdown)."""
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    progress(0.0, "Building the reference anatomy and its velocity fields")
    reference = build_reference()
    fields = _fields(output, reference)
    population = Population(replace(PopulationConfig(), diagnosis_shares=config.diagnosis_shares))
    simulator = CourseSimulator(reference, fields, population)
    generator = torch.Generator().manual_seed(config.seed)
    train = simulator.simulate(irregular_years(config.people, 2, generator), generator, part(progress, 0.05, 0.25))
    horizons = torch.tensor(config.horizons).expand(config.test_people, -1)
    held_out = torch.Generator().manual_seed(config.seed + 1_000_003)
    test = simulator.simulate(horizons, held_out, part(progress, 0.25, 0.4))
    simulated_seconds = time.monotonic() - started

    trained = {}
    for i, (name, make) in enumerate(REPRESENTATIONS.items()):
        torch.manual_seed(config.seed)
        model = CourseModel(make(fields.control, train), config.model)
        here = part(progress, 0.4 + 0.15 * i, 0.4 + 0.15 * (i + 1))
        trained[name] = train_courses(model, train, replace(config.training, seed=config.seed), device, here)
        weights = {key: value.cpu().contiguous() for key, value in trained[name].model.state_dict().items()}
        save_file(weights, output / f"{name}.safetensors")

    scores = Scores()
    simple = DeformedScan.of(fields.control, train)
    seconds = dict.fromkeys(trained, 0.0)
    for i in range(config.test_people):
        progress(0.85 + 0.15 * i / config.test_people, f"Scoring person {i + 1} of {config.test_people}")
        truth = test.chosen([i])
        score_person(scores, "copy_last", _unchanged(truth), truth)
        group = population.rate_given(test.given.covariates[i : i + 1]).float()
        for name, rates in (("group_rate", group[:, None].expand_as(truth.rates)), ("true_motion", truth.rates)):
            score_person(scores, name, simple.decode(simple.deformation.from_rates(rates), truth.given), truth)
        if config.training.regression:
            of_covariates = trained["deformation"].model
            numbers = of_covariates.mean_numbers(truth.given.to(device)).expand(-1, len(config.horizons), -1)
            score_person(scores, REGRESSION, _decoded(of_covariates, numbers, truth.given.to(device)), truth)
        for name, made in trained.items():
            begun = time.monotonic()
            mean, drawn = _forecast(made.model, truth.given, config, i, device)
            seconds[name] += (time.monotonic() - begun) / config.test_people
            score_person(scores, name, mean, truth, drawn)
    rows = scores.rows()
    _write(rows, output / "representations.csv")
    return _report(rows, config, trained, seconds, simulated_seconds, test, device)


def _unchanged(truth: Courses) -> Frames:
    still_vox = truth.given.shape_vox.new_zeros(*truth.frames.shape[:2], 3, *truth.frames.shape[3:])
    return Frames(truth.given.scan[:, None].expand_as(truth.frames), still_vox)


def _forecast(
    model: CourseModel, given: Given, config: ComparisonConfig, person: int, device: torch.device
) -> tuple[Frames, Frames]:
    """The frames of the mean of all futures, and of the first one."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + person)
    on_device = given.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        numbers = model.forecast(on_device, config.draws, generator)
    return _decoded(model, numbers.mean(dim=0), on_device), _decoded(model, numbers[0], on_device)


@torch.no_grad()
def _decoded(model: CourseModel, numbers: Tensor, given: Given) -> Frames:
    frames = model.representation.decode(numbers.float(), given)
    moved = frames.displacement_vox
    return Frames(frames.images.cpu(), None if moved is None else moved.cpu())


def _fields(output: Path, reference) -> RateFields:
    """The velocity fields, kept in the output folder for the next run."""
    path = output / FIELDS_FILE
    if not path.is_file():
        made = rate_fields(reference)
        made.save(temporary := path.with_suffix(".part"))
        os.replace(temporary, path)
    return RateFields.load(path, reference)


def _write(rows: list[Row], path: Path) -> None:
    """Long form, the columns of scores.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = "metric region horizon_years diagnosis scans method value standard_error n"
    writer.writerow(header.split())
    for metric, region, horizon, method, value, error, count in rows:
        writer.writerow([metric, region, horizon, "all", 1, method, f"{value:.6g}", f"{error:.3g}", count])
    write_whole(path, text.getvalue())


def _report(
    rows: list[Row],
    config: ComparisonConfig,
    trained: dict[str, Trained],
    seconds: dict[str, float],
    simulated_seconds: float,
    test: Courses,
    device: torch.device,
) -> str:
    methods = (*SIMPLE, *([REGRESSION] if config.training.regression else []), *trained)
    ill = sum(bool(lesions.any()) for lesions in test.lesions)
    place = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    times = [
        "| method | training, s | forecast of a person, s | steps made | kept those of step | loss of people held out: regression | kept |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, made in trained.items():
        line = f"| {name} | {made.seconds:.0f} | {seconds[name]:.1f} | {len(made.losses)} |"
        if made.held_out:
            least = min(made.held_out, key=lambda step: made.held_out[step])
            line += f" {least} | {made.held_out[0]:.4f} | {made.held_out[least]:.4f} |"
        times.append(line)
    horizons = ", ".join(f"{years:g}" for years in config.horizons)
    return "\n".join(
        [
            f"Simulated people: {config.people} to learn from, {config.test_people} others to forecast {horizons} years "
            f"from one scan; {ill} of those have lesions. {config.training.steps} steps of {config.training.people} "
            f"people, {config.draws} futures each, images of 2.6 mm, seed {config.seed}. Value ± standard error by person.",
            "",
            table(rows, methods, COLUMNS),
            "",
            table(rows, methods, VOLUME_COLUMNS),
            "",
            "People with lesions:",
            "",
            table(rows, methods, LESION_COLUMNS),
            "",
            *times,
            "",
            f"On {place}; simulation {simulated_seconds:.0f} s.",
        ]
    )
