"""The simple forecasts that must be beaten, or tied with and said so: arrays in, predicted change out, no images.

| method | what it says |
| --- | --- |
| copy_last | nothing changes |
| group_rate | the last scan changes at the mean rate of diagnosis and age, accelerating as the group does |
| personal_slope | least-squares line through the person's own scans; needs two |
| registration_extrapolation | the change between the last two scans goes on; needs two |
| shrunk_slope | personal line, drawn to the group's rate as far as its noise deserves (empirical Bayes) |
| mixed_effects | linear mixed effects (statsmodels), level and rate random, group x age fixed |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuro4d_lib.applications.line_law import (
    EVERYBODY,
    GroupLaw,
    LineLaw,
    People,
    Prediction,
    Target,
    check_past,
    describe_ages,
    inverse_2x2,
    visit_sums,
)
from neuro4d_lib.applications.mixed_effects import mixed_effects_law
from neuro4d_lib.errors import InputError

LEAST_FREEDOM = 20
"""Fewer residual degrees of freedom than this do not tell the noise of a scan."""


class Forecaster(Protocol):
    """Predicts the change of regions from past scans; see `LineLaw.forecast` for the arguments."""

    def __call__(self, past: People, years_future: np.ndarray, target: Target = "change") -> Prediction: ...


def fit(method: str, training: People) -> Forecaster:
    """Learn one of METHODS from people with several visits each.

    Where year 0 lies in their course matters as far as rates change along it: put it where it will lie in the people
    whose future is asked for, at a visit with others before and after.
    """
    if method not in METHODS:
        raise InputError(f"Unknown baseline {method!r}; known: {', '.join(METHODS)}.")
    return METHODS[method](training)


def copy_last(past: People, years_future: np.ndarray, target: Target = "change") -> Prediction:
    """Nothing changes, with no statement of uncertainty."""
    check_past(past, years_future)
    zero = np.zeros((*years_future.shape, past.log_volumes.shape[2]))
    return Prediction(np.where(np.isnan(years_future)[:, :, None], np.nan, zero))


@dataclass(frozen=True)
class LineForecaster:
    """The exact forecast under a law, of the last `scans` scans only if that is given."""

    law: LineLaw
    scans: int | None = None

    def __call__(self, past: People, years_future: np.ndarray, target: Target = "change") -> Prediction:
        seen = past if self.scans is None else past.latest(self.scans)
        return self.law.forecast(seen, years_future, target)


def empirical_law(training: People) -> LineLaw:
    """Rates of the groups by moments; of levels nothing is assumed. See `person_slopes` and `rates_of_group`."""
    members = training.members()
    acceleration = np.tile(mean_acceleration(training), (len(training.age), 1))
    for here in (here for name, here in members.items() if name != EVERYBODY):
        acceleration[here] = mean_acceleration(training.only(here))
    bend = acceleration[:, None] * np.square(training.years)[:, :, None] / 2
    straight = People(training.years, training.log_volumes - bend, training.age, training.diagnosis)
    slopes = person_slopes(straight)
    groups = {
        name: rates_of_group(
            training.age[here], slopes.slope[here], slopes.variance[here], acceleration[here].mean(axis=0)
        )
        for name, here in members.items()
    }
    return LineLaw(groups, slopes.noise_variance)


def mean_acceleration(people: People) -> np.ndarray:
    """Mean curvature [R] of people's courses about their own lines, 1/year^2.

    The square of the years carries an error far, so what is not sure is left out: an estimate is drawn to zero, by the
    factor 1 - (2 SE / estimate)^2, and is zero within two standard errors of it.
    """
    years, volumes = people.years, people.log_volumes - _mean_volumes(people)
    present = np.isfinite(volumes) & np.isfinite(years)[:, :, None]
    square = np.where(present, np.square(years)[:, :, None] / 2, np.nan)
    sums = visit_sums(years, square)
    line = np.einsum("nijr,njr->nir", inverse_2x2(sums.design), sums.response)
    curve = np.nan_to_num(square - line[:, None, 0] - years[:, :, None] * line[:, None, 1])
    product = (curve * np.nan_to_num(volumes)).sum(axis=1)
    power = np.square(curve).sum(axis=1)
    total = np.maximum(power.sum(axis=0), 1e-12)
    estimate = product.sum(axis=0) / total
    variance = np.square(product - estimate * power).sum(axis=0) / total**2
    return estimate * np.maximum(1 - 4 * variance / np.maximum(estimate**2, 1e-30), 0)


@dataclass(frozen=True)
class Slopes:
    """Least-squares rate of everybody [N, R], its variance by noise alone [N, R], and that of a scan's noise [R].

    NaN for people with fewer than two visits.
    """

    slope: np.ndarray
    variance: np.ndarray
    noise_variance: np.ndarray


def person_slopes(people: People) -> Slopes:
    """Everybody's own line; the noise is that of the pooled residuals, so it needs people with three or more visits."""
    sums = visit_sums(people.years, people.log_volumes - _mean_volumes(people))
    spread = inverse_2x2(sums.design)
    line = np.einsum("nijr,njr->nir", spread, sums.response)
    residual = sums.square - np.einsum("nir,nir->nr", line, sums.response)
    freedom = np.where(np.isfinite(line[:, 1]), sums.design[:, 0, 0] - 2, 0).sum(axis=0)
    if np.any(freedom < LEAST_FREEDOM):
        raise InputError("Too few people with three or more visits to tell noise from change; train on more.")
    noise = np.nansum(residual, axis=0) / freedom
    return Slopes(line[:, 1], spread[:, 1, 1] * noise, noise)


def _flat(law: LineLaw) -> LineLaw:
    """The same noise, and nothing known of anybody's level and rate: least squares."""
    regions = len(law.noise_variance)
    infinite = np.zeros((2, 2, regions))
    infinite[[0, 1], [0, 1]] = np.inf
    nothing = GroupLaw(np.zeros((2, 2, regions)), infinite, 0.0, 0.0, np.zeros(regions))
    return LineLaw({EVERYBODY: nothing}, law.noise_variance)


METHODS: dict[str, Callable[[People], Forecaster]] = {
    "copy_last": lambda training: copy_last,
    "group_rate": lambda training: LineForecaster(empirical_law(training), scans=1),
    "personal_slope": lambda training: LineForecaster(_flat(empirical_law(training))),
    "registration_extrapolation": lambda training: LineForecaster(_flat(empirical_law(training)), scans=2),
    "shrunk_slope": lambda training: LineForecaster(empirical_law(training)),
    "mixed_effects": lambda training: LineForecaster(mixed_effects_law(training)),
}


def _mean_volumes(training: People) -> np.ndarray:
    """[N, 1, R]; 0 for regions that a person lacks at every visit."""
    present = np.isfinite(training.log_volumes)
    total = np.where(present, training.log_volumes, 0.0).sum(axis=1, keepdims=True)
    return total / np.maximum(present.sum(axis=1, keepdims=True), 1)


def rates_of_group(age: np.ndarray, slope: np.ndarray, variance: np.ndarray, acceleration: np.ndarray) -> GroupLaw:
    """Mean rate, its dependence on age, and the spread of rates between people.

    Mean and age: weighted least squares of the slopes. Spread: the value that makes the weighted residuals as large as
    they should be (Paule & Mandel, 1982, doi:10.6028/jres.087.022), which allows for the noise of each slope.

    Args:
        age: [n] years; NaN where unknown.
        slope, variance: [n, R] of the group's people; NaN does not count.
        acceleration: [R] of the group.
    """
    mean_age, age_variance, older = describe_ages(age)
    used = np.isfinite(slope) & np.isfinite(variance)
    if used.sum(axis=0).min() < 3:
        raise InputError("Fewer than 3 people of a group have two visits of every region; train on more.")
    y, noise = np.where(used, slope, 0.0), np.where(used, variance, 1.0)
    columns = 2 if older.any() else 1
    design = np.stack([np.ones_like(older), older], axis=1)[:, :columns]

    def regression(between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [columns, R], and the weighted residual sum of squares [R], at a variance between people."""
        weights = used / (between + noise)
        normal = np.einsum("ni,nr,nj->rij", design, weights, design)
        fitted = np.linalg.solve(normal, np.einsum("ni,nr->ri", design, weights * y)[..., None])[..., 0]
        return fitted.T, (weights * np.square(y - design @ fitted.T)).sum(axis=0)

    low, high = np.zeros(slope.shape[1]), np.nanvar(np.where(used, slope, np.nan), axis=0) * 4
    for _ in range(60):  # the residual sum falls as the variance grows
        middle = (low + high) / 2
        too_small = regression(middle)[1] > used.sum(axis=0) - columns
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    coefficients = regression(high)[0]
    fixed, covariance = np.zeros((2, 2, slope.shape[1])), np.zeros((2, 2, slope.shape[1]))
    fixed[1, :columns] = coefficients
    covariance[0, 0], covariance[1, 1] = np.inf, np.maximum(high, 1e-12)
    return GroupLaw(fixed, covariance, mean_age, age_variance, acceleration)
