"""A run on a study: whom it learns from, what it starts with, and what is said of it in the end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuro4d_lib.checkpoint import load_network
from neuro4d_lib.config import to_dict
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.prepared import ABOUT_FILE, read_about
from neuro4d_lib.data.rate_fields import measure_regions
from neuro4d_lib.data.reference import Reference, build_reference
from neuro4d_lib.data.region_pooling import region_pooling
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.objective import random_stream
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.study_batches import StudyBatches
from neuro4d_lib.training.study_config import LEAST_PEOPLE, LEAST_PEOPLE_FROM_SCRATCH, StudyRunConfig
from neuro4d_lib.training.study_gate import measure_study_gate
from neuro4d_lib.training.study_law import designs, fit_law, regressed_law, shrunk_covariance
from neuro4d_lib.training.study_people import (
    Person,
    check_enough,
    mean_rates,
    moments,
    read_people,
    split,
    usable,
)
from neuro4d_lib.training.task import Task

SPLIT_FILE, LAW_FILE = "split.json", "law.json"
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Start:
    """What a run starts with: a model's card and the hash of its weights, or neither; and its anatomy."""

    network: TrajectoryModel | None
    card: dict[str, Any] | None
    reference: Reference
    fields: Tensor
    measure: Tensor
    pooling: Tensor


@dataclass(frozen=True, eq=False)
class StudyOfRun:
    """The people of a run, by what they are for.

    Attributes:
        folder: of the prepared study; about: what its prepared.json holds.
        parts: ids for "train", "validation" and "test".
    """

    folder: Path
    about: dict[str, Any]
    people: tuple[Person, ...]
    parts: dict[str, list[str]]

    def of(self, part: str) -> list[Person]:
        chosen = set(self.parts[part])
        return [person for person in self.people if person.id in chosen]


def start_from(folder: Path) -> Start:
    """A model folder to start from."""
    network, card = load_network(folder)
    reference = Reference.load(folder)
    if network.config.lattice != LATTICE.shape or network.config.modes != len(DRIVEN):
        raise InputError(
            f"The model {folder} has another lattice or other regions than prepared studies. Start from another."
        )
    pooling = region_pooling(reference)
    network.deformation.pooling.copy_(pooling)
    measure = measure_regions(reference)[0][: len(DRIVEN)]
    return Start(network.requires_grad_(True).train(), card, reference, network.deformation.fields, measure, pooling)


def start_from_scratch(fields: Path) -> Start:
    """The anatomy alone; fields: see `fields.training_fields`."""
    from safetensors.torch import load_file

    reference, tensors = build_reference(), load_file(fields)
    measure = measure_regions(reference)[0][: len(DRIVEN)]
    return Start(None, None, reference, tensors["fields"], measure, tensors["pooling"])


def study_of_run(folder: Path, start: Start, config: StudyRunConfig, progress: Progress = silent) -> StudyOfRun:
    """Read a prepared study and divide its people."""
    about = read_about(folder)
    found = read_people(folder, start.measure, start.pooling, progress)
    people = usable(found)
    least = LEAST_PEOPLE_FROM_SCRATCH if start.network is None else LEAST_PEOPLE
    check_enough(found, people, folder, least, start.network is not None)
    generator = random_stream(_CPU, config.training.seed, "split")
    parts = split(people, config.study.validation_share, config.study.test_share, generator)
    return StudyOfRun(folder, about, tuple(people), parts)


def study_task(start: Start, study: StudyOfRun, config: StudyRunConfig, output: Path) -> Task:
    """What the loop trains; writes SPLIT_FILE and LAW_FILE when the law is fitted."""
    seed, settings = config.training.seed, config.study
    training, validation = study.of("train"), study.of("validation")
    population = Population(config.population)
    model = _model(start, training, config)
    deformation = model.deformation
    simulated = (
        SimulatedBatches(population, deformation, state_maps(start.fields)) if settings.simulated_share else None
    )
    shown = (model.prior, deformation, population, settings)
    batches = StudyBatches(training, *shown, simulated)
    held_out = StudyBatches(validation, *shown)

    def fit_prior(model: TrajectoryModel, device: torch.device, progress: Progress) -> None:
        write_split(study, output)
        stream = random_stream(_CPU, seed, "designs")
        of_people = designs(
            training, deformation, lambda known: population.hide(known, stream), settings.mirrored_share > 0
        )
        if start.network is None:
            regressed_law(model.prior, of_people)
        folds = random_stream(_CPU, seed, "folds")
        choice = fit_law(model.prior, of_people, len(training), settings, device, folds, progress)
        write_whole(output / LAW_FILE, json.dumps(choice.record(), indent=1) + "\n")

    def gate(model: TrajectoryModel, device: torch.device, progress: Progress) -> Tensor:
        return measure_study_gate(model, held_out, device, config.training.gate_people, seed, progress)

    return Task(
        model,
        batches,
        held_out,
        to_dict(config) | {"model": to_dict(model.config)},
        {"split": study.parts, "study": fingerprint(study.people), "start": _start_hash(start)},
        fit_prior,
        gate,
        trained_before=start.network is not None,
    )


def fingerprint(people: Sequence[Person]) -> str:
    """Of all that is learned from; equal for equal people."""
    digest = hashlib.sha256()
    for person in people:
        digest.update(person.id.encode())
        for name in ("years", "covariates", "place", "anatomy"):
            digest.update(getattr(person, name).numpy().tobytes())
    return digest.hexdigest()


def write_split(study: StudyOfRun, output: Path) -> None:
    """Who is trained on, validated with and tested with."""
    about = {"study": study.about.get("study"), "prepared": study.folder.resolve().name, **study.parts}
    write_whole(output / SPLIT_FILE, json.dumps(about, indent=1) + "\n")


def read_split(run: Path) -> dict[str, list[str]]:
    """What `write_split` wrote."""
    path = run / SPLIT_FILE
    if not path.is_file():
        raise InputError(f"{run} holds no {SPLIT_FILE}. Name the folder of a run of `train PREPARED`.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(name) for name in found[part]] for part in ("train", "validation", "test")}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path} cannot be read as the split of a run ({problem}).") from None


def counted(study: StudyOfRun) -> dict[str, Any]:
    """People and visits by part and diagnosis, for card and report."""
    table: dict[str, Any] = {}
    for part in study.parts:
        people = study.of(part)
        table[part] = {
            "people": len(people),
            "visits": sum(len(person.years) for person in people),
            "diagnoses": dict(sorted(Counter(person.diagnosis for person in people).items())),
        }
    return table


def about_study_model(start: Start, study: StudyOfRun, output: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """What the card of the model says, but for settings and files."""
    states = Counter(state["state"] for state in study.about["subjects"].values())
    parts = counted(study)
    n, visits = parts["train"]["people"], parts["train"]["visits"]
    spans = [float(person.years[-1] - person.years[0]) for person in study.people]
    ages = torch.cat([person.covariates[:, 0] for person in study.people])
    ages = ages[~torch.isnan(ages)]
    diagnoses = sorted({person.diagnosis for person in study.people} - {"unknown"})
    longest = round(max(spans), 2)
    ranges: dict[str, Any] = {"years": [0.25, longest], "past_years": [-longest, -0.25]}
    limits = [
        f"Learned from {n} people with {visits} visits; who differs from them is an extrapolation.",
        f"The longest course in the study is {longest:g} years.",
        "Errors of registration that all visits share, such as change that it smooths away, are learned as if true.",
        "Research use only; not validated clinically.",
    ]
    origin = "No model was started from."
    if start.card is not None:
        earlier = start.card["ranges"]["years"]
        ranges = {"years": [0.25, max(earlier[1], longest)], "past_years": [-max(earlier[1], longest), -0.25]}
        limits.append(f"Beyond {longest:g} years the forecast rests on the model that was started from.")
        origin = f"Started from {start.card['name']} {start.card.get('version', '')}".rstrip() + "."
    if len(ages):
        ranges["age"] = [int(ages.min()), int(ages.max()) + 1]
    if diagnoses:
        ranges["diagnosis"] = diagnoses
    simulated = " The scans of the study are simulated." if study.about.get("simulated") else ""
    law = json.loads((output / LAW_FILE).read_text(encoding="utf-8")) if (output / LAW_FILE).is_file() else {}
    return {
        "name": f"{study.about.get('study') or study.folder.name}-model",
        "version": "1",
        "license": "That of the study's data decides who may have this model; see NOTICE.txt for the reference image and regions.",
        "use": "Research use only. Not for diagnosis, treatment or advice.",
        "training_data": f"{n} people with {visits} visits of {study.about.get('study')}, prepared by registration; "
        f"{states.get('excluded', 0)} people of the study could not be used. {origin}{simulated}",
        "limits": limits,
        "ranges": ranges,
        "people": parts,
        "split": study.parts,
        "closed_form": law,
        "scores": scores,
        "started_from": None
        if start.card is None
        else {"name": start.card["name"], "sha256": start.card["sha256"].get("weights.safetensors")},
        "prepared": {key: study.about.get(key) for key in ("study", "settings", "versions")} | {"file": ABOUT_FILE},
    }


def _model(start: Start, training: Sequence[Person], config: StudyRunConfig) -> TrajectoryModel:
    if start.network is not None:
        start.network.gate.fill_(1.0)
        return start.network
    if config.model.lattice != tuple(start.fields.shape[2:]) or config.model.modes != len(start.fields):
        raise InputError(
            f"model.lattice and model.modes are {list(config.model.lattice)} and {config.model.modes}; prepared studies have "
            f"{list(start.fields.shape[2:])} and {len(start.fields)}."
        )
    try:
        model = TrajectoryModel(config.model)
    except ValueError as problem:
        raise InputError(f"No network can be built as the settings of the model say: {problem}") from None
    slopes = []
    for person in training:
        first = min(moment.latest for moment in moments(person))
        _, rates = mean_rates(person, first, [len(person.years) - 1])
        slopes.append(rates[0])
    rates = torch.stack(slopes)
    covariance = shrunk_covariance(rates - rates.mean(dim=0), torch.ones(len(rates), dtype=torch.float64))
    model.deformation = Deformation.of(start.fields, covariance, start.pooling)
    return model


def _start_hash(start: Start) -> str | None:
    return None if start.card is None else str(start.card["sha256"].get("weights.safetensors"))
