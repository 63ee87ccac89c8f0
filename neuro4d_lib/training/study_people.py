"""The people of a prepared study as training needs them: how far each region is at every visit, and the anatomy.

A visit may be the latest one, from which is forecast: those before it have been observed, those after it lie ahead. That is
a `Moment`; a person has several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuro4d_lib.data.population import covariate_values
from neuro4d_lib.data.prepared import PreparedSubject, read_about, read_subject, subject_path
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, silent

LEAST_YEARS = 0.25
"""Visits that lie closer show no change; a forecast takes no such past scan either."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person with V visits and K regions.

    Attributes:
        years: [V] since the first visit.
        covariates: [V, 5], NaN where unknown; see population.COVARIATES.
        place: [V, K] log-volume of each region against where the visits meet, to first order; float64.
        state: [V, K], what each scan shows; see Deformation.state.
        anatomy: [V, 1, D, H, W] float16.
    """

    id: str
    years: Tensor
    covariates: Tensor
    place: Tensor
    state: Tensor
    anatomy: Tensor

    @property
    def diagnosis(self) -> str:
        """At the last visit; "unknown" where it is."""
        value = float(self.covariates[-1, 4])
        return "unknown" if value != value else DIAGNOSES[int(value)]


@dataclass(frozen=True)
class Moment:
    """A visit as the latest one: its place, those of the visits before it, nearest last, and of those after it."""

    latest: int
    past: tuple[int, ...]
    future: tuple[int, ...]


def person_of(subject: PreparedSubject, measure: Tensor, pooling: Tensor) -> Person:
    """measure [K, 3 * D * H * W] and pooling [K, D, H, W] as in Deformation."""
    anatomy = subject.anatomy.float()
    return Person(
        subject.id,
        torch.tensor(subject.years, dtype=torch.float64),
        torch.stack([covariate_values(known) for known in subject.covariates]),
        (subject.motion.flatten(1).float() @ measure.T).double(),
        (10 * anatomy.flatten(1) @ pooling.flatten(1).T).clamp(-10, 10).double(),
        anatomy[:, None].half(),
    )


def read_people(folder: Path, measure: Tensor, pooling: Tensor, progress: Progress = silent) -> list[Person]:
    """Everybody who is used in a prepared study, one after the other: what is large is not kept."""
    states = read_about(folder)["subjects"]
    used = sorted(name for name, state in states.items() if state["state"] == "used")
    people = []
    for i, name in enumerate(used):
        progress(i / len(used), f"Reading {name}")
        people.append(person_of(read_subject(subject_path(folder, name)), measure, pooling))
    return people


def moments(person: Person) -> list[Moment]:
    """Every visit that has another one far enough away."""
    found = []
    for latest, now in enumerate(person.years.tolist()):
        apart = [year - now for year in person.years.tolist()]
        past = tuple(i for i, gap in enumerate(apart) if gap <= -LEAST_YEARS)
        future = tuple(i for i, gap in enumerate(apart) if gap >= LEAST_YEARS)
        if past or future:
            found.append(Moment(latest, past, future))
    return found


def usable(people: Iterable[Person]) -> list[Person]:
    """Those with two visits far enough apart."""
    return [person for person in people if moments(person)]


def mean_rates(person: Person, latest: int, others: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Years [T] and mean log-volume rates [T, K] from the latest visit to others."""
    years = person.years[list(others)] - person.years[latest]
    return years, (person.place[list(others)] - person.place[latest]) / years[:, None]


def mirrored(person: Person) -> Person:
    """With left and right exchanged."""
    order = sides_exchanged()
    return Person(
        person.id,
        person.years,
        person.covariates,
        person.place[:, order],
        person.state[:, order],
        person.anatomy.flip(2),
    )


def sides_exchanged() -> list[int]:
    """For every driven region the place of that of the other side."""
    names = [region.name for region in DRIVEN]

    def other(name: str) -> str:
        for side, opposite in (("left_", "right_"), ("right_", "left_")):
            if name.startswith(side):
                return opposite + name.removeprefix(side)
        return name

    return [names.index(other(name)) for name in names]


def split(people: Sequence[Person], validation: float, test: float, generator: torch.Generator) -> dict[str, list[str]]:
    """Ids of whom is trained on, validated with and tested with; every diagnosis has its share in each, as far as it goes."""
    order = torch.randperm(len(people), generator=generator).tolist()
    left = sorted((people[i] for i in order), key=lambda person: person.diagnosis)
    parts: dict[str, list[str]] = {}
    for name, share in (("test", test), ("validation", validation)):
        count = max(1, round(share * len(people)))
        # Every n-th of a list that is ordered by diagnosis.
        start = float(torch.rand((), generator=generator, dtype=torch.float64))
        chosen = {int((i + start) * len(left) / count) for i in range(count)}
        parts[name] = sorted(person.id for i, person in enumerate(left) if i in chosen)
        left = [person for i, person in enumerate(left) if i not in chosen]
    return {"train": sorted(person.id for person in left), "validation": parts["validation"], "test": parts["test"]}


def check_enough(found: Sequence[Person], kept: Sequence[Person], folder: Path, least: int, start: bool) -> None:
    """An InputError where a study is too small."""
    if len(kept) >= least:
        return
    close = len(found) - len(kept)
    why = f", {close} more with visits less than {LEAST_YEARS:g} years apart" if close else ""
    hint = "" if start else " Or start from a model (--from shipped), which needs fewer."
    raise InputError(
        f"{folder} holds {len(kept)} people with two usable visits{why}; training needs at least {least}. Prepare more people.{hint}"
    )
