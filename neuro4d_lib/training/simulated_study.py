"""Simulated people as a prepared study would show them: visits with scan errors, and nothing registered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from neuro4d_lib import __version__
from neuro4d_lib.data.population import Population, covariates_of
from neuro4d_lib.data.prepared import PreparedSubject, subject_path, write_about, write_subject
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.study_people import Person


def simulated_people(
    batches: SimulatedBatches,
    population: Population,
    count: int,
    visits: int,
    generator: torch.Generator,
    gap_years: tuple[float, float] = (1.0, 2.0),
    errors: bool = True,
) -> list[Person]:
    """`count` people with `visits` visits each, without what cannot be seen: the law is that of the last visit.

    Args:
        errors: of the scans; without them, the motion is the true one.
    """
    people = population.draw(count, generator)
    low, high = gap_years
    gaps = low + (high - low) * torch.rand(count, visits - 1, generator=generator, dtype=torch.float64)
    years = torch.cat([torch.zeros(count, 1, dtype=torch.float64), gaps.cumsum(dim=1)], dim=1)
    past = years[:, :-1] - years[:, -1:]
    rates = population.mean_velocity_rates(people, past, generator)
    change = torch.cat([rates * past[..., None], torch.zeros(count, 1, rates.shape[2], dtype=torch.float64)], dim=1)
    read = population.scan_error((count, visits), generator) if errors else torch.zeros_like(change)
    made = []
    for i in range(count):
        covariates = people.covariates[i].repeat(visits, 1)
        covariates[:, 0] += years[i] - years[i, -1]
        anatomy = batches.anatomy(people.seen_state[i] + change[i]).half()
        state = batches.deformation.state(anatomy.float()).double()
        made.append(Person(f"sub-{i + 1:04d}", years[i], covariates, change[i] + read[i], state, anatomy))
    return made


def write_simulated_study(batches: SimulatedBatches, people: Sequence[Person], folder: Path) -> None:
    """The same as a prepared study on disk."""
    fields = batches.deformation.fields.double()
    for person in people:
        known = []
        for values in person.covariates:
            # An age outside what a person may have is unknown.
            kept = values.clone()
            kept[0] = kept[0] if 18 <= kept[0] <= 100 else float("nan")
            known.append(covariates_of(kept))
        subject = PreparedSubject(
            person.id,
            tuple(f"ses-{v + 1:02d}" for v in range(len(person.years))),
            tuple(person.years.tolist()),
            tuple(known),
            torch.einsum("vk,kcdhw->vcdhw", person.place, fields).float(),
            person.anatomy[:, 0].float(),
            tuple({} for _ in person.years),
        )
        write_subject(subject_path(folder, person.id), subject)
    states = {person.id: {"state": "used", "reason": ""} for person in people}
    versions = {"neuro4d_lib": __version__}
    write_about(
        folder,
        {
            "study": "simulated",
            "settings": {},
            "versions": versions,
            "simulated": True,
            "complete": True,
            "subjects": states,
        },
    )
