"""What is known of one person's risk: from a forecast of scans, or from a table of volumes by the exact law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.risk.centiles import CENTILES, centile, measured_levels
from neuro4d_lib.applications.risk.next_scan import Schedule, schedules
from neuro4d_lib.applications.risk.person_law import Course, PersonLaw, Seen, nothing_seen
from neuro4d_lib.applications.risk.thresholds import Threshold, check_not_crossed
from neuro4d_lib.applications.risk.volume_file import Volumes, as_seen, baseline_of, reference_mm3, weights_of
from neuro4d_lib.data.population import Population, covariate_values
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.ensemble import predictive_bands
from neuro4d_lib.forecasting.result import Forecast

SHOWN = ("hippocampus", "lateral_ventricle", "cortex", "whole_brain")
_EVERYBODY = 0.999
_BACK, _AHEAD = 15.0, 10.0
"""Years of age around the person's that the centile curves cover."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """Chance that a threshold is crossed at each year: of this person, and of people with the same covariates."""

    threshold: Threshold
    years: np.ndarray
    person: np.ndarray
    group: np.ndarray


@dataclass(frozen=True, eq=False)
class RegionCourse:
    """A region's volume: measured, forecast, and among others of the same sex and diagnosis.

    Attributes:
        past_years, past_mm3: [V] as measured; the last one is the scan.
        years: [F]; forecast_mm3: [F, 3] at the 5th, 50th and 95th centile.
        centile: of the scan, 0 to 100; NaN where the age is unknown.
        ages: [E]; curves_mm3: [E, 5] at CENTILES; both empty where the age is unknown.
    """

    region: str
    past_years: np.ndarray
    past_mm3: np.ndarray
    years: np.ndarray
    forecast_mm3: np.ndarray
    centile: float
    ages: np.ndarray
    curves_mm3: np.ndarray


@dataclass(frozen=True, eq=False)
class Assessment:
    """Everything that is reported."""

    covariates: Covariates
    source: str
    head_known: bool
    crossings: tuple[Crossing, ...]
    courses: tuple[RegionCourse, ...]
    schedules: tuple[Schedule, ...]
    warnings: tuple[str, ...]


def assess_volumes(
    volumes: Volumes, covariates: Covariates, thresholds: Sequence[Threshold], years: np.ndarray, horizon: float,
    population: Population, reference: Reference,
) -> Assessment:  # fmt: skip
    """By the exact law of the simulated people; no network, no images."""
    latest = volumes.mm3[-1]
    for threshold in thresholds:
        check_not_crossed(threshold, baseline_of(threshold.region, volumes.names, latest))
    regions = _regions([name for name in SHOWN if _has(name, volumes)] or list(volumes.names[:4]), thresholds)
    asked = weights_of(regions, reference)
    values = covariate_values(covariates)
    law = PersonLaw(population, values, as_seen(volumes, reference), asked)
    group = PersonLaw(population, values, nothing_seen(len(DRIVEN)), asked)
    baseline = np.array([baseline_of(name, volumes.names, latest) for name in regions])
    course, of_group = law.course(years), group.course(years)
    _check_somebody_has_not(thresholds, regions, of_group, baseline)
    crossings = [
        Crossing(t, years, *(_crossed(law_of, t, regions.index(t.region), baseline) for law_of in (course, of_group)))
        for t in thresholds
    ]
    bands = np.stack([course.quantile(p) for p in (0.05, 0.5, 0.95)], axis=-1)  # [F, B, 3]
    measured = np.array([[baseline_of(name, volumes.names, row) for name in regions] for row in volumes.mm3])
    head = None if volumes.icv_mm3 is None else math.log(volumes.icv_mm3 / float(reference.volumes_mm3.sum()))
    courses = _courses(
        regions, volumes.years, measured, years, baseline[None, :, None] * np.exp(bands), population, values, asked,
        reference_mm3(regions, reference), head,
    )  # fmt: skip
    source = f"{len(volumes.years)} table row{'s' if len(volumes.years) > 1 else ''} of volumes, by the exact law of the simulated people"
    return Assessment(
        covariates, source, head is not None, tuple(crossings), tuple(courses), tuple(schedules(law, regions, horizon)),
        _warnings(covariates, head is not None),
    )  # fmt: skip


def assess_forecast(
    forecast: Forecast, thresholds: Sequence[Threshold], horizon: float, population: Population, reference: Reference
) -> Assessment:
    """From the drawn futures; centiles, base rate and schedule from the law of the simulated people."""
    table, covariates = forecast.volumes, forecast.inputs.covariates
    of_name = dict(zip(table.names, table.baseline_mm3.tolist(), strict=True))
    check_seen(thresholds, of_name)
    regions = _regions([name for name in SHOWN if name in of_name], thresholds)
    places = [table.names.index(name) for name in regions]
    baseline, years = table.baseline_mm3[places], np.array(table.years)
    asked, values = weights_of(regions, reference), covariate_values(covariates)
    group = PersonLaw(population, values, nothing_seen(len(DRIVEN)), asked)
    of_group = group.course(years)
    _check_somebody_has_not(thresholds, regions, of_group, baseline)
    crossings = []
    for t in thresholds:
        b = regions.index(t.region)
        limit = t.log_change(years, float(baseline[b]))
        below = probability_below(np.log(table.futures_mm3[:, :, places[b]] / baseline[b]), limit)
        crossings.append(Crossing(t, years, below if t.below else 1 - below, _crossed(of_group, t, b, baseline)))
    median, bands = predictive_bands(table.futures_mm3[:, :, places])
    low, high = bands[90]
    # Aligned space has the size of the reference's head.
    head = -math.log(abs(float(np.linalg.det(forecast.aligned.affine[:3, :3]))))
    past = torch.tensor([when for _, when in forecast.inputs.past], dtype=torch.float64)
    seen = Seen(torch.eye(len(DRIVEN)).double(), None, past, torch.zeros(len(past), len(DRIVEN)).double())
    # How wide the law is does not depend on what was seen, only on when: the rates stand at what was expected.
    law = _ExpectedLaw(population, values, seen, asked)
    courses = _courses(
        regions, np.zeros(1), baseline[None], years, np.stack([low, median, high], axis=-1), population, values, asked,
        reference_mm3(regions, reference), head,
    )  # fmt: skip
    source = f"{forecast.futures} futures drawn by the model {forecast.model['name']} from {1 + len(past)} scan{'s' if len(past) else ''}"
    return Assessment(
        covariates, source, True, tuple(crossings), tuple(courses), tuple(schedules(law, regions, horizon)),
        (*forecast.warnings, *_warnings(covariates, True)),
    )  # fmt: skip


class _ExpectedLaw(PersonLaw):
    """The mean course of the covariates alone, the spread that is left after the scans that there are."""

    def course(self, years: np.ndarray) -> Course:
        alone = PersonLaw(self.population, self.covariates, nothing_seen(self.asked.shape[1]), self.asked)
        expected = alone.course(years)
        sd = np.stack([self.sd_with_next_scan(None, year) for year in years.tolist()], axis=1)  # [5, F, B]
        return Course(expected.years, expected.weights, expected.diagnosis, expected.mean, sd[expected.diagnosis])


def check_seen(thresholds: Sequence[Threshold], baseline_mm3: dict[str, float]) -> None:
    """Refuse thresholds of regions that the scan does not show, and those crossed already."""
    for threshold in thresholds:
        if threshold.region not in baseline_mm3:
            raise InputError(f"The scan does not show {threshold.region}. Ask about another region.")
        check_not_crossed(threshold, baseline_mm3[threshold.region])


def probability_below(log_changes: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """P(next draw < limit [F]) from n independent Gaussian draws [n, F]: Student's t, as `predictive_bands`."""
    from scipy.stats import t

    draws = len(log_changes)
    mean, sd = log_changes.mean(axis=0), log_changes.std(axis=0, ddof=1)
    return np.asarray(t.cdf((limit - mean) / (sd * math.sqrt(1 + 1 / draws)), draws - 1))


def _regions(first: Sequence[str], thresholds: Sequence[Threshold]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *(threshold.region for threshold in thresholds)]))


def _has(name: str, volumes: Volumes) -> bool:
    try:
        return baseline_of(name, volumes.names, volumes.mm3[-1]) > 0
    except InputError:
        return False


def _crossed(course: Course, threshold: Threshold, place: int, baseline_mm3: np.ndarray) -> np.ndarray:
    limit = np.zeros(course.mean.shape[1:])
    limit[:, place] = threshold.log_change(course.years, float(baseline_mm3[place]))
    below = course.below(limit)[:, place]
    return below if threshold.below else 1 - below


def _check_somebody_has_not(
    thresholds: Sequence[Threshold], regions: tuple[str, ...], of_group: Course, baseline_mm3: np.ndarray
) -> None:
    for threshold in thresholds:
        if threshold.kind == "rate":
            share = _crossed(of_group, threshold, regions.index(threshold.region), baseline_mm3)
            if share.min() > _EVERYBODY:
                raise InputError(
                    f"The threshold {threshold.text!r} is crossed by everybody: more than {100 * _EVERYBODY:g} % of people "
                    "with these covariates change so fast at any time. Choose another one."
                )


def _courses(
    regions: tuple[str, ...], past_years: np.ndarray, past_mm3: np.ndarray, years: np.ndarray, forecast_mm3: np.ndarray,
    population: Population, covariates: Tensor, weights: Tensor, expected_mm3: np.ndarray, log_head: float | None,
) -> list[RegionCourse]:  # fmt: skip
    """past_mm3: [V, B]; forecast_mm3: [F, B, 3]; log_head: of the volume of the head against the reference."""
    age = float(covariates[0])
    ages, curves = np.zeros(0), np.zeros((0, len(regions), len(CENTILES)))
    now = np.full(len(regions), np.nan)
    if not math.isnan(age):
        ages = np.linspace(max(18.0, age - _BACK), min(100.0, age + _AHEAD), 26)
        levels = measured_levels(population, weights, covariates, ages, log_head is not None)
        scale = expected_mm3 * math.exp(log_head or 0.0)
        curves = np.stack([scale * np.exp(levels.quantile(c / 100)) for c in CENTILES], axis=-1)
        at_scan = measured_levels(population, weights, covariates, np.array([age]), log_head is not None)
        now = centile(at_scan, np.log(past_mm3[-1:] / scale))[0]
    return [
        RegionCourse(name, past_years, past_mm3[:, b], years, forecast_mm3[:, b], float(now[b]), ages, curves[:, b])
        for b, name in enumerate(regions)
    ]


def _warnings(covariates: Covariates, head_known: bool) -> tuple[str, ...]:
    notes = []
    if covariates.age is None:
        notes.append("The age is unknown, so there are no centiles.")
    if not head_known:
        notes.append("The size of the head is unknown (column icv_ml): centiles are those of people of any head size.")
    if covariates.diagnosis is None:
        notes.append("The diagnosis is unknown: what is said of people like this one is a mixture of all diagnoses.")
    return tuple(notes)
