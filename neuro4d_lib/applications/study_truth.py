"""What is lost where a model learns from scans that were prepared, and not from the true motion.

The same simulated people are learned from twice (study_truth_cohort.py), and both laws forecast other simulated people,
beside the exact best forecast and the group rate. Only the closed form is fitted: the network starts as one that says
nothing, and on a processor it would not learn from so few.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.known_truth import Cases, closed_form_futures, simulate_cases
from neuro4d_lib.applications.known_truth_scores import (
    SCORED,
    as_people,
    changes,
    changes_law,
    exact_forecast,
    region_shares,
    training_people,
)
from neuro4d_lib.applications.scoring import Gaussian
from neuro4d_lib.applications.study_truth_cohort import PREPARED, TRUE, VISITS, studied_population
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.prepared import read_about
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.simulated_study import simulated_people
from neuro4d_lib.training.study_config import LEAST_PEOPLE_FROM_SCRATCH, StudyConfig, StudyRunConfig
from neuro4d_lib.training.study_people import Person, read_people
from neuro4d_lib.training.study_run import Start, StudyOfRun, start_from, study_task

SCANS = (1, 2, 3)
LAW = StudyConfig(strengths=(0.3, 3.0), law_steps=100, folds=2)
REFERENCES = ("group_rate", "copy_last")
"""What a skill is measured against: the mean rate of the diagnosis and age, and no change at all."""
ROWS_FILE = "rows.json"
_BOOTSTRAPS = 200
_PEOPLE_OF_GROUP_RATE = 1000


@dataclass(frozen=True, eq=False)
class MotionErrors:
    """How prepared motion differs from the true one, of N people with V visits and K regions.

    Attributes:
        slope: [K] prepared change per true change, both sides together.
        left: [N, V, K] what is left, log-volume against the last visit.
    """

    slope: Tensor
    left: Tensor


@dataclass(frozen=True)
class Share:
    """One row: whom a law was learned from, how, and what share of the exact forecast's skill it has, with its error."""

    learned_from: str
    start: str
    people: int
    strength: float
    shares: dict[str, dict[int, tuple[float, float]]]
    """By reference, see REFERENCES, and number of scans."""


def paired(output: Path, start: Start) -> tuple[list[Person], list[Person]]:
    """The people of `make_studies`, as prepared and as they truly are."""
    prepared = read_people(output / PREPARED, start.measure, start.pooling)
    states = read_about(output / PREPARED)["subjects"]
    if not prepared:
        raise InputError(f"None of the {len(states)} simulated people of {output} could be prepared.")
    true = {person.id: person for person in read_people(output / TRUE, start.measure, start.pooling)}
    # Visits that the preparation left out are left out of the truth, too.
    same = []
    for person in prepared:
        whole = true[person.id]
        offset = whole.years - whole.years[-1]
        kept = [int((offset - year).abs().argmin()) for year in person.years - person.years[-1]]
        fields = ("years", "covariates", "place", "state", "anatomy")
        same.append(replace(whole, **{name: getattr(whole, name)[kept] for name in fields}))
    return prepared, same


def motion_errors(prepared: Sequence[Person], true: Sequence[Person]) -> MotionErrors:
    """Of people with all visits."""
    both = [
        (one.place - one.place[-1:], other.place - other.place[-1:])
        for one, other in zip(prepared, true, strict=True)
        if len(one.years) == VISITS
    ]
    found, truth = (torch.stack(parts) for parts in zip(*both, strict=True))
    slope = torch.zeros(len(DRIVEN), dtype=torch.float64)
    for group in {region.group for region in DRIVEN}:
        sides = [i for i, region in enumerate(DRIVEN) if region.group == group]
        slope[sides] = (found[..., sides] * truth[..., sides]).sum() / truth[..., sides].square().sum()
    return MotionErrors(slope, found - slope * truth)


def with_errors(people: Sequence[Person], errors: MotionErrors, generator: torch.Generator) -> list[Person]:
    """People whose motion is known, as if prepared: with the measured slope, and what was left of somebody."""
    chosen = torch.randint(len(errors.left), (len(people),), generator=generator)
    return [
        replace(person, place=errors.slope * (person.place - person.place[-1:]) + errors.left[i])
        for person, i in zip(people, chosen.tolist(), strict=True)
    ]


def read_by_scans(people: Sequence[Person], generator: torch.Generator) -> list[Person]:
    """People whose motion is known, read with the scan errors of the population, as those who are forecast are."""
    population = studied_population()
    return [
        replace(person, place=person.place + population.scan_error((len(person.years),), generator))
        for person in people
    ]


def learned(
    people: Sequence[Person], start: Start, output: Path, seed: int, progress: Progress
) -> tuple[TrajectoryModel, float]:
    """A model whose closed form was fitted to everybody, and the strength that was chosen."""
    ids = [person.id for person in people]
    study = StudyOfRun(output, {"subjects": {}}, tuple(people), {"train": ids, "validation": ids, "test": []})
    config = StudyRunConfig(study=LAW, model=ModelConfig())
    config = replace(config, training=replace(config.training, seed=seed))
    torch.manual_seed(seed)
    task = study_task(start, study, config, output / "laws")
    task.fit_prior(task.model, torch.device("cpu"), progress)
    strength = json.loads((output / "laws" / "law.json").read_text(encoding="utf-8"))["strength"]
    return task.model.requires_grad_(False), float(strength)


@dataclass(frozen=True, eq=False)
class Exam:
    """People who are forecast, the truth, and the CRPS [N, H, R] of the exact forecast and of the references, by number of scans."""

    weights: Tensor
    cases: dict[int, Cases]
    exact: dict[int, np.ndarray]
    simple: dict[str, dict[int, np.ndarray]]

    @staticmethod
    def of(weights: Tensor, people: int, seed: int) -> Exam:
        population = studied_population()
        training = training_people(weights, _PEOPLE_OF_GROUP_RATE, population)
        fitted = {name: baselines.fit(name, training) for name in REFERENCES}
        cases = {n: simulate_cases(population, people, n, torch.Generator().manual_seed(seed)) for n in SCANS}
        truth = {n: changes(cases[n].truth, weights) for n in SCANS}
        exact = {n: exact_forecast(cases[n], weights, population).crps(truth[n]) for n in SCANS}
        simple = {
            name: {n: _by_reference(fitted[name], cases[n], weights).crps(truth[n]) for n in SCANS}
            for name in REFERENCES
        }
        return Exam(weights, cases, exact, simple)


def skill_shares(model: TrajectoryModel, fields: Tensor, exam: Exam) -> dict[str, dict[int, tuple[float, float]]]:
    """Share of the exact forecast's gain in CRPS over a reference that the model's closed form has, by number of scans.

    Every region and horizon counts the same. The error is the standard error between the people who are forecast.
    """
    batches = SimulatedBatches(studied_population(), model.deformation, state_maps(fields))
    shares: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in REFERENCES}
    for n, cases in exam.cases.items():
        _, mean, root = closed_form_futures(model, batches, cases, 1, torch.Generator().manual_seed(0))
        own = changes_law(mean, root, exam.weights).crps(changes(cases.truth, exam.weights))
        for name in REFERENCES:
            shares[name][n] = _share(own, exam.exact[n], exam.simple[name][n], 0)
    return shares


def _by_reference(forecaster: baselines.Forecaster, cases: Cases, weights: Tensor) -> Gaussian:
    years = np.tile(cases.years()[0, cases.past.shape[1] :].numpy(), (len(cases.past), 1))
    found = forecaster(as_people(cases, weights), years)
    return Gaussian(found.mean, found.sd)


def _share(own: np.ndarray, exact: np.ndarray, simple: np.ndarray, seed: int) -> tuple[float, float]:
    """CRPS [N, H, R] of three forecasts -> share and its standard error."""
    scale = simple.mean(axis=0)
    gain, best = (((simple - one) / scale).mean(axis=(1, 2)) for one in (own, exact))
    random = np.random.default_rng(seed)
    drawn = random.integers(len(gain), size=(_BOOTSTRAPS, len(gain)))
    return float(gain.sum() / best.sum()), float((gain[drawn].sum(axis=1) / best[drawn].sum(axis=1)).std())


def study_truth(
    output: Path,
    model_folder: Path,
    test_people: int = 600,
    larger: Sequence[int] = (60,),
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[MotionErrors, list[Share]]:
    """Learn from the people of `make_studies` as prepared and as they are, and from more people with the errors measured.

    Args:
        model_folder: whose anatomy and fields are used, and from which one of the fits starts.
        larger: numbers of further simulated people, without scans, that carry the measured errors of the motion.
    """
    began = start_from(model_folder)
    weights, fields = region_shares(began.reference), began.fields.clone()
    prepared, true = paired(output, began)
    errors = motion_errors(prepared, true)
    scratch = replace(began, network=None, card=None)
    read = torch.Generator().manual_seed(seed + 2)
    sets: list[tuple[str, list[Person]]] = [("scans, prepared", prepared), ("true motion", read_by_scans(true, read))]
    for count in larger:
        more = _more_people(count, began, fields, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        sets += [("measured errors", with_errors(more, errors, generator)), ("true motion", read_by_scans(more, read))]
    jobs = [
        (name, people, how)
        for name, people in sets
        for how in ("shipped model", "scratch")
        if how == "shipped model" or len(people) >= LEAST_PEOPLE_FROM_SCRATCH
    ]
    exam = Exam.of(weights, test_people, 777)
    kept = _rows_of(output)
    rows = []
    for i, (name, people, how) in enumerate(jobs):
        key = f"{name}, {how}, {len(people)} people, {len(prepared)} scanned, {test_people} tested, seed {seed}"
        if key not in kept:
            told = part(progress, i / len(jobs), (i + 1) / len(jobs))
            start = scratch if how == "scratch" else start_from(model_folder)
            model, strength = learned(people, start, output, seed, told)
            kept[key] = {"strength": strength, "shares": skill_shares(model, fields, exam)}
            write_whole(output / ROWS_FILE, json.dumps(kept, indent=1) + "\n")
            kept = _rows_of(output)
        shares = {r: {int(n): (v[0], v[1]) for n, v in of.items()} for r, of in kept[key]["shares"].items()}
        rows.append(Share(name, how, len(people), float(kept[key]["strength"]), shares))
    progress(1.0, "Scored")
    return errors, rows


def _rows_of(output: Path) -> dict[str, Any]:
    """Rows that were made before; a file that cannot be read is made anew."""
    try:
        return dict(json.loads((output / ROWS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def render(errors: MotionErrors, rows: Sequence[Share], command: str) -> str:
    """Markdown."""
    heads = [f"{n} scan{'s' * (n > 1)}" for n in SCANS]
    lines = [
        "# Learning from prepared scans against learning from the true motion",
        "",
        f"Simulated people only; made by `{command}`. Each row: a closed form fitted to so many people with {VISITS} visits, and its "
        "share of the exact forecast's gain in CRPS over a reference, on other people whose scans are read with the population's scan "
        "errors. Where it is negative, the reference is better. +- is the standard error between the people who are forecast, not "
        "between cohorts. *scans, prepared*: scans that were simulated (2 mm, brain only) and went through `prepare`. *true motion*: the "
        "same people's true motion, read with the population's scan errors. *measured errors*: people without scans whose motion carries "
        "the errors that were measured on the former. The shipped model was trained on the law that the people come from, up to their "
        "diagnoses; *scratch* knows nothing of it.",
    ]
    names = {"group_rate": "the group rate (fitted to 1,000 other people with true volumes)", "copy_last": "no change"}
    for reference in REFERENCES:
        lines += ["", f"## Share of the exact gain over {names[reference]}", ""]
        lines += ["| learned from | start | people | strength | " + " | ".join(heads) + " |"]
        lines += ["| --- | --- | --- | --- | " + " | ".join("---" for _ in SCANS) + " |"]
        for row in rows:
            cells = [f"{100 * share:.1f} +- {100 * error:.1f} %" for share, error in row.shares[reference].values()]
            lines.append(
                f"| {row.learned_from} | {row.start} | {row.people} | {row.strength:g} | {' | '.join(cells)} |"
            )
        lines += ["", "Of what the same people's true motion gives (goal: 90 %):", ""]
        lines += ["| learned from | start | people | " + " | ".join(heads) + " |"]
        lines += ["| --- | --- | --- | " + " | ".join("---" for _ in SCANS) + " |"]
        for row in rows:
            same = [one for one in rows if (one.people, one.start) == (row.people, row.start)]
            best = [one.shares[reference] for one in same if one.learned_from == "true motion"]
            if row.learned_from != "true motion" and best:
                cells = [_part_of(row.shares[reference][n][0], best[0][n][0]) for n in SCANS]
                lines.append(f"| {row.learned_from} | {row.start} | {row.people} | {' | '.join(cells)} |")
    people = len(errors.left)
    lines += ["", "## Errors of the prepared motion", "", f"Measured on {people} people, {VISITS - 1} changes each, both sides together.", "",
              "| region | prepared per true change | SD of what is left, % of the volume |", "| --- | --- | --- |"]  # fmt: skip
    for group in dict.fromkeys(region.group for region in DRIVEN):
        sides = [i for i, region in enumerate(DRIVEN) if region.group == group]
        sd = 100 * float(errors.left[:, :-1, sides].square().mean().sqrt())
        lines.append(f"| {group} | {float(errors.slope[sides[0]]):.2f} | {sd:.2f} |")
    return "\n".join(lines) + f"\n\nRegions that are scored: {', '.join(SCORED)}. Research use only.\n"


def _part_of(share: float, best: float) -> str:
    return f"{100 * share / best:.1f} %" if best > 0.05 else "the true motion has no skill"


def _more_people(count: int, start: Start, fields: Tensor, seed: int) -> list[Person]:
    population: Population = studied_population()
    assert start.network is not None
    batches = SimulatedBatches(population, start.network.deformation, state_maps(fields))
    generator = torch.Generator().manual_seed(seed + 9000 + count)
    return simulated_people(batches, population, count, VISITS, generator, errors=False)
