"""A virtual cohort: people of the population who meet the entry criteria."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.applications.trials.design import Range
from neuro4d_lib.applications.trials.law import Law, region_sum
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.population import OLDEST, YOUNGEST, People
from neuro4d_lib.data.records import DIAGNOSES, SEXES

_BATCH = 2000
_MOST_BATCH = 200_000
CANDIDATES = 20_000
"""So many are looked at to find out who qualifies, and why not."""
LEAST_SHARE = 0.001
"""Criteria that fewer meet are refused: the simulation would draw people for ever."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """People who entered.

    Attributes:
        people: N of them.
        first_error: [N, R] error of the scan of the first visit, by which they were let in.
        screened: how many were looked at to find them.
    """

    people: People
    first_error: Tensor
    screened: int


def recruit(law: Law, count: int, generator: torch.Generator) -> Enrolled:
    """Draw people until `count` have qualified."""
    found: list[tuple[People, Tensor]] = []
    enrolled, screened = 0, 0
    while enrolled < count:
        share = max(enrolled / screened, LEAST_SHARE) if screened else 1.0
        batch = min(max(int(1.1 * (count - enrolled) / share) + 50, 200), _MOST_BATCH)
        people, error, checks = _candidates(law, batch, generator, lazily=True)
        met = torch.stack(list(checks.values())).all(dim=0)
        excess = enrolled + int(met.sum()) - count
        if excess > 0:  # nobody is screened once the last has entered
            last = int(met.nonzero()[-1 - excess, 0])
            met[last + 1 :] = False
            batch = round(batch * (last + 1) / len(met))
        screened, enrolled = screened + batch, enrolled + int(met.sum())
        found.append((_only(people, met), error[met]))
    joined = People(
        *(torch.cat([getattr(people, name) for people, _ in found]) for name in People.__dataclass_fields__)
    )
    return Enrolled(joined, torch.cat([error for _, error in found]), screened)


def check_criteria(law: Law, generator: torch.Generator) -> float:
    """The share of people with an allowed diagnosis who qualify; refused with the reasons where it is nearly none."""
    _, _, checks = _candidates(law, CANDIDATES, generator, lazily=False)
    met = torch.stack(list(checks.values())).all(dim=0)
    share = float(met.double().mean())
    if share < LEAST_SHARE:
        names = " or ".join(law.design.criteria.diagnoses)
        reasons = ", ".join(f"{name} {int((~passed).sum())}" for name, passed in checks.items() if not passed.all())
        who = "nobody meets" if share == 0 else f"only {int(met.sum())} meet"
        raise SettingError(
            "criteria",
            f"of {CANDIDATES} simulated people with {names} {who} all criteria. Each for itself excludes: {reasons}. "
            "Widen them.",
        )
    return share


def _candidates(
    law: Law, count: int, generator: torch.Generator, lazily: bool
) -> tuple[People, Tensor, dict[str, Tensor]]:
    """People with an allowed diagnosis, the error of their first scan, and which of them meet each criterion [N].

    Lazily: volumes are drawn, and returned, only of those who meet the criteria that need no scan.
    """
    population, criteria = law.population, law.design.criteria
    shares = torch.tensor(law.config.diagnosis_shares, dtype=torch.float64)
    shares = torch.where(torch.tensor([name in criteria.diagnoses for name in DIAGNOSES]), shares, 0.0)
    if shares.sum() == 0:
        raise SettingError("criteria.diagnoses", f"the population has nobody with {' or '.join(criteria.diagnoses)}.")
    d = torch.multinomial(shares, count, replacement=True, generator=generator)
    mean, sd = population.mean_age[d].unbind(1)
    age = (mean + sd * torch.randn(count, generator=generator, dtype=torch.float64)).clamp(YOUNGEST, OLDEST)
    covariates = population.draw_covariates_of(age, d, generator)
    checks = {
        "age_years": _inside(age, criteria.age_years),
        "sexes": _one_of(covariates[:, 1], [SEXES.index(sex) for sex in criteria.sexes]),
        "education_years": _inside(covariates[:, 2], criteria.education_years),
        "apoe4": _one_of(covariates[:, 3], criteria.apoe4),
    }
    if lazily:
        kept = torch.stack(list(checks.values())).all(dim=0)
        covariates, checks = covariates[kept], {name: passed[kept] for name, passed in checks.items()}
    people = population.people_with(covariates, generator)
    error = population.scan_error((len(covariates),), generator)
    return people, error, {**checks, **_scan_checks(law, people, error, generator)}


def _scan_checks(law: Law, people: People, error: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Which people meet each criterion that needs a scan."""
    criteria, population = law.design.criteria, law.population
    volumes_mm3 = law.volumes_mm3 * (people.seen_state + error).exp()
    checks = {}
    for name, allowed in criteria.volume_ml.items():
        inside = torch.from_numpy(region_sum(name))
        checks[f"volume_ml.{name}"] = _inside(volumes_mm3 @ inside / 1000, allowed)
    values = law.values(volumes_mm3)
    for name, allowed in criteria.baseline_percent.items():
        checks[f"baseline_percent.{name}"] = _inside(values[:, law.markers.index(name)], allowed)
    if criteria.run_in_years:
        years = torch.full((len(error), 1), -criteria.run_in_years, dtype=torch.float64)
        change = (population.mean_velocity_rates(people, years, generator) * years[..., None])[:, 0]
        earlier = people.seen_state + change + population.scan_error((len(error),), generator)
        seen = (values - law.values(law.volumes_mm3 * earlier.exp())) / criteria.run_in_years
        for name, allowed in criteria.run_in_percent_per_year.items():
            checks[f"run_in_percent_per_year.{name}"] = _inside(seen[:, law.markers.index(name)], allowed)
    return checks


def _inside(values: Tensor, allowed: Range) -> Tensor:
    low, high = allowed.bounds
    return (values >= low) & (values <= high)


def _one_of(values: Tensor, allowed: object) -> Tensor:
    return torch.isin(values, torch.tensor(list(allowed), dtype=torch.float64))  # type: ignore[call-overload]


def _only(people: People, chosen: Tensor) -> People:
    return People(*(getattr(people, name)[chosen] for name in People.__dataclass_fields__))
