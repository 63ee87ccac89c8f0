"""People of the population as subjects whose scans can be simulated."""

from __future__ import annotations

import torch

from neuro4d_lib.data.population import Population, covariates_of
from neuro4d_lib.data.simulation import Subject


def simulated_subjects(count: int, most_visits: int, seed: int) -> list[Subject]:
    """`count` people with 1 to `most_visits` scans, about a year apart with irregular gaps. The first scan is at years 0."""
    generator = torch.Generator().manual_seed(seed)
    people = Population().draw(count, generator)
    visits = torch.randint(1, most_visits + 1, (count,), generator=generator)
    gaps = 0.5 + torch.rand(count, most_visits, generator=generator)
    subjects = []
    for i in range(count):
        years = [0.0, *gaps[i].cumsum(0).tolist()][: int(visits[i])]
        subjects.append(
            Subject(
                id=f"{i + 1:04d}",
                covariates=covariates_of(people.covariates[i]),
                state=people.state[i].numpy(),
                rate=people.rate[i].numpy(),
                acceleration=people.acceleration[i].numpy(),
                visit_years=tuple(round(year, 3) for year in years),
            )
        )
    return subjects
