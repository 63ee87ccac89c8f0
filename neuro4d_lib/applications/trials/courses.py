"""What the scans of an arm show: every person treated and, with the same chances, untreated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.applications.trials.cohort import Enrolled, recruit
from neuro4d_lib.applications.trials.design import Arm
from neuro4d_lib.applications.trials.law import Law, region_sum
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.treatment import by_region


@dataclass(frozen=True, eq=False)
class ArmData:
    """B trials of one arm of N people, V visits, Q biomarkers, in percent (100 ln ratio).

    Attributes:
        untreated, treated: [B, N, V, Q] as measured; the same object where the arm has no effect.
        present: [B, N, V] which visits took place.
        true_effect: [Q] mean of treated minus untreated at the last visit, without errors of scans and whoever left.
        screened: people who were looked at to fill the arm.
    """

    untreated: Tensor
    treated: Tensor
    present: Tensor
    true_effect: Tensor
    screened: int


def simulate_arm(law: Law, arm: Arm, trials: int, people: int, generator: torch.Generator) -> ArmData:
    """Recruit, scan and lose the people of an arm."""
    enrolled = recruit(law, trials * people, generator)
    years = torch.tensor(law.design.visits_years, dtype=torch.float64)
    untreated, treated, effect = _drawn(law, arm, enrolled, years, generator)
    own = _stated(law, arm, len(untreated), years, generator)
    parts = [
        torch.cat([drawn, stated], dim=-1).reshape(trials, people, len(years), -1)
        for drawn, stated in ((untreated, own[0]), (treated, own[1]))
    ]
    present = _present(law, arm, enrolled, years, generator).reshape(trials, people, -1)
    return ArmData(
        parts[0], parts[1] if arm.has_effect else parts[0], present, torch.cat([effect, own[2]]), enrolled.screened
    )


def _drawn(
    law: Law, arm: Arm, enrolled: Enrolled, years: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Biomarkers of the population: untreated and treated [N, V, D], true effect at the last visit [D]."""
    population, people = law.population, enrolled.people
    count, t = len(people.rate), years[:, None]
    if len(law.markers) == len(law.stated):
        nothing = torch.zeros(count, len(years), 0, dtype=torch.float64)
        return nothing, nothing, nothing[0, 0]
    d = people.covariates[:, 4].long()
    change = population.mean_velocity_rates(people, years.expand(count, -1), generator) * t
    error = population.scan_error((count, len(years)), generator)
    error[:, 0] = enrolled.first_error
    level_mm3 = law.volumes_mm3 * people.seen_state.exp()

    def measured(true_mm3: Tensor) -> Tensor:
        return law.values(true_mm3 * error.exp())

    course_mm3 = level_mm3[:, None] * change.exp()
    untreated = measured(course_mm3)
    if not arm.has_effect:
        return untreated, untreated, torch.zeros(untreated.shape[-1], dtype=torch.float64)

    onset = t.clamp_max(arm.onset_years)
    if arm.effect == "shift":
        rate, bend = population.rate_given(people.covariates)[:, None], population.mean_acceleration[d][:, None] / 2
        spared = rate * (t - onset) + bend * (t**2 - onset**2)
    else:
        begun = people.rate[:, None] * onset + people.acceleration[:, None] * onset**2 / 2
        spared = torch.where(t > arm.onset_years, change - begun, 0.0)
    slowing = {name: share for name, share in arm.slowing.items() if name not in law.stated}
    treated_mm3 = level_mm3[:, None] * (change - torch.from_numpy(by_region(slowing)) * spared).exp()
    treated_mm3 = treated_mm3 + _added_mm3(arm, level_mm3, years)
    _check_positive(arm, treated_mm3, level_mm3)
    effect = law.values(treated_mm3[:, -1]) - law.values(course_mm3[:, -1])
    return untreated, measured(treated_mm3), effect.mean(dim=0)


def _added_mm3(arm: Arm, level_mm3: Tensor, years: Tensor) -> Tensor:
    """What the treatment adds to every region by every visit, divided by their size at the first: [N, V, R]."""
    share = ((years - arm.onset_years) / arm.added_over_years).clamp(0, 1)[:, None]
    total = torch.zeros_like(level_mm3)
    for name, added_ml in arm.added_ml.items():
        part_mm3 = level_mm3 * torch.from_numpy(region_sum(name))
        total = total + 1000 * added_ml * part_mm3 / part_mm3.sum(dim=1, keepdim=True)
    return total[:, None] * share


def _check_positive(arm: Arm, treated_mm3: Tensor, level_mm3: Tensor) -> None:
    for name, added_ml in arm.added_ml.items():
        inside = torch.from_numpy(region_sum(name))
        least = (treated_mm3 @ inside).amin(dim=1)
        if added_ml < 0 and least.min() <= 0:
            who = int(least.argmin())
            raise SettingError(
                "arms",
                f"added_ml of {arm.name!r} takes {-added_ml:g} mL from {name}, of which somebody has "
                f"{float(level_mm3[who] @ inside) / 1000:.2f} mL: the volume would be negative. Take less.",
            )


def _stated(law: Law, arm: Arm, count: int, years: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The same of biomarkers with a law of their own: [N, V, S], [N, V, S], [S]."""
    markers = list(law.stated.items())

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(marker, name) or 0.0 for _, marker in markers], dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, len(markers), generator=generator, dtype=torch.float64)

    mean, treated_years = column("mean_percent_per_year"), (years - arm.onset_years).clamp_min(0)[:, None]
    rate = mean + column("sd_percent_per_year") * normal(count)
    level = column("level_sd_percent") * normal(count)[:, None] + column("noise_percent") * normal(count, len(years))
    course = rate[:, None] * years[:, None]
    slowing = torch.tensor([arm.slowing.get(name, 0.0) for name, _ in markers], dtype=torch.float64)
    spared = slowing * (mean if arm.effect == "shift" else rate[:, None]) * treated_years
    spared = spared.expand_as(course)
    return level + course, level + course - spared, -spared[:, -1].mean(dim=0)


def _present(law: Law, arm: Arm, enrolled: Enrolled, years: Tensor, generator: torch.Generator) -> Tensor:
    """[N, V] which visits take place: people leave for good, and miss single visits; all come to the first."""
    design, config = law.design, law.config
    given = design.dropout_per_year if arm.dropout_per_year is None else arm.dropout_per_year
    of_diagnosis: Sequence[float] = config.dropout_per_year if given is None else [given] * len(config.dropout_per_year)
    rate = torch.tensor(of_diagnosis, dtype=torch.float64)[enrolled.people.covariates[:, 4].long()]
    uniform = torch.rand(len(rate), 1 + len(years), generator=generator, dtype=torch.float64)
    leaves = -torch.log1p(-uniform[:, :1]) / rate[:, None]
    missed = uniform[:, 1:] < (config.missed_visit if design.missed_visit is None else design.missed_visit)
    return (years == 0) | ((years < leaves) & ~missed)
