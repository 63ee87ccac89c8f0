"""People of the population as subjects whose scans can be simulated: when they are scanned, and what is known of them."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.data.population import Population, covariates_of
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.simulation import Subject

_VENTRICLES = [i for i, region in enumerate(DRIVEN) if region.group == "lateral_ventricle"]


def simulated_subjects(count: int, most_visits: int, seed: int, population: Population | None = None) -> list[Subject]:
    """`count` people with 1 to `most_visits` scans at irregular times, some covariates unknown. The first scan is at years 0.

    Subject i is the same however many others there are.
    """
    population = population or Population()
    return [
        _subject(i, most_visits, population, torch.Generator().manual_seed(seed * 1_000_003 + 250_007 + i))
        for i in range(count)
    ]


def visit_years(config: PopulationConfig, diagnosis: int, most: int, generator: torch.Generator) -> tuple[float, ...]:
    """Times of 1 to `most` planned visits, without those that are missed or come after the person left."""

    def uniform(number: int) -> Tensor:
        return torch.rand(number, generator=generator, dtype=torch.float64)

    planned = 1 + int(torch.randint(most, (), generator=generator))
    least, longest = config.visit_gap_years
    later = (least + (longest - least) * uniform(planned - 1)).cumsum(dim=0)
    missed = uniform(planned - 1) < config.missed_visit
    leaves = -torch.log1p(-uniform(1)) / config.dropout_per_year[diagnosis]
    kept = later[~missed & (later < leaves) & (later <= config.longest_years)]
    return (0.0, *(round(years, 3) for years in kept.tolist()))


def _subject(i: int, most_visits: int, population: Population, generator: torch.Generator) -> Subject:
    config = population.config
    people = population.draw(1, generator)
    while float(people.state[0, _VENTRICLES].max()) > config.largest_ventricles:  # no room for the brain
        people = population.draw(1, generator)
    sex, diagnosis = int(people.covariates[0, 1]), int(people.covariates[0, 4])
    years = visit_years(config, diagnosis, most_visits, generator)
    spread = config.head_size_sd * float(torch.randn((), generator=generator, dtype=torch.float64))
    known = covariates_of(population.hide(people.covariates, generator)[0])
    times = torch.tensor(years, dtype=torch.float64)[:, None]
    change = population.mean_velocity_rates(people, times.T, generator)[0] * times
    fits = (people.state + change)[:, _VENTRICLES].amax(dim=1) <= config.largest_ventricles
    course = people.rate * times + people.acceleration * times**2 / 2
    return Subject(
        id=f"{i + 1:04d}",
        covariates=covariates_of(people.covariates[0]),
        known=known,
        state=people.state[0].numpy(),
        rate=people.rate[0].numpy(),
        acceleration=people.acceleration[0].numpy(),
        visit_years=tuple(year for year, room in zip(years, fits.tolist(), strict=True) if room),
        uneven=(change - course)[fits].numpy(),
        head_size=config.head_size[sex] + spread,
    )
