"""Which schedule, duration and enrichment buys the asked power for the least cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from neuro4d_lib.applications.trials.cohort import recruit
from neuro4d_lib.applications.trials.design import MIXED, MIXED_VISITS, Optimization, Range
from neuro4d_lib.applications.trials.law import Law
from neuro4d_lib.applications.trials.run import Workers, run_trials
from neuro4d_lib.applications.trials.simulation import generator_of, one_thread, pilot
from neuro4d_lib.applications.trials.sizes import needed_n
from neuro4d_lib.applications.trials.summary import significant
from neuro4d_lib.progress import Progress, part

PILOT_PEOPLE = 3000
_QUANTILE_PEOPLE = 20_000
_PILOT, _QUANTILES = -3, -2
_MOST_PEOPLE = 20_000


@dataclass(frozen=True)
class Candidate:
    """One plan: the people (all arms), screenings and scans that it needs for the asked power, and what it costs.

    `threshold_percent` is the limit of enrichment, percent of the reference; n_per_arm is of the smallest arm and by
    closed form; `power` is simulated, for the cheapest plan alone, NaN for the others.
    """

    duration_years: float
    visits: int
    enriched_share: float
    threshold_percent: float
    effect: float
    n_per_arm: float
    people: float
    screened: float
    scans: float
    cost: float
    power: float = math.nan
    power_error: float = math.nan


def optimize(law: Law, trials: int, folder: Path, workers: Workers, progress: Progress) -> list[Candidate]:
    """All plans, the cheapest first; that one's power is checked by simulation."""
    chosen = law.design.optimization
    assert chosen is not None
    plans = list(_plans(law, chosen))
    judged = []
    for i, (share, threshold, planned) in enumerate(plans):
        progress(0.5 * i / len(plans), f"Comparing {len(plans)} plans")
        judged.append((_judged(planned, chosen, share, threshold), planned))
    judged.sort(key=lambda pair: (not math.isfinite(pair[0].cost), pair[0].cost))
    best, planned = judged[0]
    if best.n_per_arm <= _MOST_PEOPLE:
        best = _checked(best, planned, chosen, trials, folder, workers, part(progress, 0.5, 1.0))
    return [best, *(candidate for candidate, _ in judged[1:])]


def _plans(law: Law, chosen: Optimization) -> Iterator[tuple[float, float, Law]]:
    """Share let in, its threshold, and the law of each plan."""
    design = law.design
    marker = {chosen.biomarker: design.biomarkers[chosen.biomarker]}
    kept = {**marker, **{name: m for name, m in design.biomarkers.items() if name == chosen.enrich_by}}
    for name in (*design.criteria.baseline_percent, *design.criteria.run_in_percent_per_year):
        kept[name] = design.biomarkers[name]
    for share in dict.fromkeys(chosen.enrich_shares if chosen.enrich_by else (1.0,)):
        threshold, criteria = math.nan, design.criteria
        if share < 1:
            threshold, limit = _threshold(law, chosen.enrich_by, share)
            limits = {**criteria.baseline_percent, chosen.enrich_by: limit}
            criteria = replace(criteria, baseline_percent=limits)
        for visits in chosen.schedules():
            if chosen.analysis == MIXED and len(visits) < MIXED_VISITS:
                continue
            planned = replace(
                design,
                visits_years=visits,
                analyses=(chosen.analysis,),
                biomarkers=kept,
                criteria=criteria,
                arms=design.arms[:2],
                optimization=None,
            )
            yield share, threshold, replace(law, design=planned)


def _threshold(law: Law, marker: str, share: float) -> tuple[float, Range]:
    """The value beyond which the most diseased `share` of those who qualify lie; stricter than the design's own limit."""
    with one_thread():
        enrolled = recruit(law, _QUANTILE_PEOPLE, generator_of(law.design.seed, _QUANTILES))
    volumes_mm3 = law.volumes_mm3 * (enrolled.people.seen_state + enrolled.first_error).exp()
    values = law.values(volumes_mm3)[:, law.markers.index(marker)]
    own = law.design.criteria.baseline_percent.get(marker, Range())
    if law.grows(marker):
        limit = round(float(torch.quantile(values, 1 - share)), 3)
        return limit, Range(limit, own.max)
    limit = round(float(torch.quantile(values, share)), 3)
    return limit, Range(own.min, limit)


def _judged(law: Law, chosen: Optimization, share: float, threshold: float) -> Candidate:
    design, cost = law.design, chosen.cost
    moments = pilot(law, PILOT_PEOPLE, _PILOT)
    q = law.markers.index(chosen.biomarker)
    effect = moments["effect"][0, 0, 0, 0, q] - moments["null_effect"][0, 0, 0, 0, q]
    error = moments["standard_error"][0, 0, 0, 0, q]
    needed = float(needed_n(PILOT_PEOPLE, error, effect, design.alpha, design.power))
    n = math.ceil(needed) if math.isfinite(needed) else math.inf
    people = sum(design.people()) / min(design.people()) * n
    screened = people * float(moments["screened"][0] / moments["enrolled"][0])
    scans = people * float(moments["counts"].sum() / moments["enrolled"][0])
    years = design.duration_years
    total = screened * cost.per_screened + people * (cost.per_person + years * cost.per_person_year)
    total += scans * cost.per_scan + years * cost.per_year
    visits = len(design.visits_years)
    return Candidate(years, visits, share, threshold, float(effect), n, people, screened, scans, total)


def _checked(
    best: Candidate, law: Law, chosen: Optimization, trials: int, folder: Path, workers: Workers, progress: Progress
) -> Candidate:
    """The candidate with its simulated power."""
    planned = law.design.people()
    size = [math.ceil(best.n_per_arm * n / min(planned)) for n in planned]
    arms = tuple(replace(arm, people=n) for arm, n in zip(law.design.arms, size, strict=True))
    found = run_trials(replace(law, design=replace(law.design, arms=arms)), [size], trials, folder, workers, progress)
    rejected = significant(found, law.design.alpha)[0, 0, :, 0, law.markers.index(chosen.biomarker)]
    power = float(rejected.mean())
    return replace(best, power=power, power_error=math.sqrt(power * (1 - power) / trials))
