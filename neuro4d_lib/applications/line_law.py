"""People whose log-volumes follow straight lines, bent alike within a group: the exact forecast given such a law.

A person's log-volume of a region is level + rate * years + acceleration * years^2 / 2 + noise. Level and rate are
Gaussian around the mean of the person's group, which is linear in age; the acceleration is the group's. Given a few
noisy scans, the posterior of level and rate has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from neuro4d_lib.errors import InputError

EVERYBODY = ""
"""The group of people whose diagnosis is unknown, or was too rare to learn from: a mixture of all groups."""

LEAST_PEOPLE = 10
"""A group of fewer people than this has no law of its own."""

Target = Literal["change", "measured"]


@dataclass(frozen=True)
class People:
    """Measured regional volumes of N people at up to V visits, and what else is known of them.

    Attributes:
        years: [N, V] from year 0, which is the latest scan of people whose future is asked for; NaN where absent.
        log_volumes: [N, V, R] natural logarithm of mm3; NaN where absent.
        age: [N] years at year 0; NaN where unknown.
        diagnosis: [N] names of groups; "" where unknown.
    """

    years: np.ndarray
    log_volumes: np.ndarray
    age: np.ndarray
    diagnosis: np.ndarray

    def __post_init__(self) -> None:
        people, visits = self.years.shape
        shapes = (self.log_volumes.shape[:2], self.age.shape, self.diagnosis.shape)
        if shapes != ((people, visits), (people,), (people,)):
            raise InputError(f"People of {people} x {visits} visits have volumes, ages, diagnoses of shapes {shapes}.")

    def only(self, chosen: np.ndarray) -> People:
        """Some of the people, by index or by mask."""
        return People(self.years[chosen], self.log_volumes[chosen], self.age[chosen], self.diagnosis[chosen])

    def latest(self, scans: int) -> People:
        """Only the last so many scans of everybody."""
        order = np.argsort(np.argsort(-np.where(np.isnan(self.years), -np.inf, self.years), axis=1), axis=1)
        years = np.where(order < scans, self.years, np.nan)
        return People(years, self.log_volumes, self.age, self.diagnosis)

    def members(self) -> dict[str, np.ndarray]:
        """Which people [N] belong to each group that is large enough, and to everybody."""
        names, counts = np.unique(self.diagnosis[self.diagnosis != EVERYBODY], return_counts=True)
        large = names[counts >= LEAST_PEOPLE].tolist()
        return {**{name: self.diagnosis == name for name in large}, EVERYBODY: np.ones(len(self.age), dtype=bool)}


@dataclass(frozen=True)
class Prediction:
    """Predicted log-volume change since the last scan.

    Attributes:
        mean: [N, H, R]; NaN where the method has no answer (a slope of one scan).
        sd: [N, H, R], or None where the method states no uncertainty.
    """

    mean: np.ndarray
    sd: np.ndarray | None = None


@dataclass(frozen=True)
class GroupLaw:
    """Level and rate of one group.

    Attributes:
        fixed: [2, 2, R]: (level, rate) x (at the mean age, per year of age), 1 and 1/year.
        covariance: [2, 2, R] of a person's (level, rate) around that. A variance of infinity says: nothing is known.
        age: mean age, years, and its variance, of which an unknown age is drawn.
        acceleration: [R] change of everybody's rate, 1/year^2.
    """

    fixed: np.ndarray
    covariance: np.ndarray
    age: float
    age_variance: float
    acceleration: np.ndarray


@dataclass(frozen=True)
class LineLaw:
    """Laws of the groups, and the variance [R] of the noise of one scan's log-volume."""

    groups: dict[str, GroupLaw]
    noise_variance: np.ndarray

    def forecast(self, past: People, years_future: np.ndarray, target: Target = "change") -> Prediction:
        """The exact forecast of people of this law, region by region.

        Args:
            past: visits at years <= 0, the last at 0.
            years_future: [N, H], positive; NaN where nothing is asked.
            target: "change" of the brain since year 0, or "measured": what a scan then will show, minus what the last
                scan showed. The latter also corrects the last scan's noise, and includes the later scan's.
        """
        check_past(past, years_future)
        bend = self._accelerations(past) / 2
        mean, covariance = self._posterior(past, bend)
        years = years_future[:, :, None]
        change = years * mean[:, None, 1] + years**2 * bend[:, None]
        if target == "change":
            return Prediction(change, np.abs(years) * np.sqrt(covariance[:, None, 1, 1]))
        level = mean[:, None, 0] - last_measured(past)[:, None]
        variance = covariance[:, None, 0, 0] + 2 * years * covariance[:, None, 0, 1]
        variance = variance + years**2 * covariance[:, None, 1, 1] + self.noise_variance
        return Prediction(level + change, np.sqrt(variance))

    def _group_names(self, past: People) -> np.ndarray:
        """The group [N] whose law serves each person."""
        return np.array([name if name in self.groups else EVERYBODY for name in past.diagnosis.tolist()])

    def _accelerations(self, past: People) -> np.ndarray:
        """[N, R]."""
        return np.array([self.groups[name].acceleration for name in self._group_names(past).tolist()])

    def _posterior(self, past: People, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean [N, 2, R] and covariance [N, 2, 2, R] of everybody's (level, rate), half the accelerations given."""
        prior_mean, prior_precision = self._prior(past)
        # Levels are stated from the last scan: so a flat prior costs no digits.
        reference = np.nan_to_num(last_measured(past))
        prior_mean[:, 0] -= reference
        straight = past.log_volumes - reference[:, None] - bend[:, None] * np.square(past.years)[:, :, None]
        sums = visit_sums(past.years, straight)
        precision = prior_precision + sums.design / self.noise_variance
        information = np.einsum("nijr,njr->nir", prior_precision, prior_mean) + sums.response / self.noise_variance
        covariance = inverse_2x2(precision)
        mean = np.einsum("nijr,njr->nir", covariance, information)
        mean[:, 0] += reference
        return mean, covariance

    def _prior(self, past: People) -> tuple[np.ndarray, np.ndarray]:
        people, regions = len(past.age), past.log_volumes.shape[2]
        mean, precision = np.zeros((people, 2, regions)), np.zeros((people, 2, 2, regions))
        group_of = self._group_names(past)
        for name in np.unique(group_of).tolist():
            group, here = self.groups[name], group_of == name
            age = past.age[here]
            known = np.isfinite(age)
            older = np.where(known, age - group.age, 0.0)
            mean[here] = group.fixed[:, 0] + older[:, None, None] * group.fixed[:, 1]
            slope = group.fixed[:, 1]
            of_age = group.covariance + group.age_variance * slope[:, None] * slope[None, :]
            certain, uncertain = (_precision(covariance) for covariance in (group.covariance, of_age))
            precision[here] = np.where(known[:, None, None, None], certain, uncertain)
        return mean, precision


@dataclass(frozen=True)
class VisitSums:
    """Sums over a person's visits: of (1, t; t, t^2) [N, 2, 2, R], of (y, t y) [N, 2, R], and of y^2 [N, R]."""

    design: np.ndarray
    response: np.ndarray
    square: np.ndarray = field(repr=False)


def visit_sums(years: np.ndarray, values: np.ndarray) -> VisitSums:
    """Sufficient statistics of straight lines through values [N, V, R] at years [N, V]; NaN does not count."""
    present = np.isfinite(values) & np.isfinite(years)[:, :, None]
    t = np.where(present, np.nan_to_num(years)[:, :, None], 0.0)
    y = np.where(present, np.nan_to_num(values), 0.0)
    one, first, second = present.sum(axis=1).astype(float), t.sum(axis=1), (t * t).sum(axis=1)
    design = np.stack([np.stack([one, first], axis=1), np.stack([first, second], axis=1)], axis=1)
    return VisitSums(design, np.stack([y.sum(axis=1), (t * y).sum(axis=1)], axis=1), (y * y).sum(axis=1))


def describe_ages(age: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Mean age, its variance, and everybody's deviation [N] from the mean: 0 where the age is unknown."""
    known = np.isfinite(age)
    if not known.any():
        return 0.0, 0.0, np.zeros(len(age))
    mean = float(age[known].mean())
    return mean, float(age[known].var()), np.where(known, age - mean, 0.0)


def inverse_2x2(matrix: np.ndarray) -> np.ndarray:
    """Inverse of symmetric [N, 2, 2, R] matrices; NaN where there is none."""
    a, b, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]
    determinant = a * d - b * b
    determinant = np.where(determinant > 1e-10 * a * d, determinant, np.nan)
    return np.stack([np.stack([d, -b], axis=1), np.stack([-b, a], axis=1)], axis=1) / determinant[:, None, None]


def last_measured(past: People) -> np.ndarray:
    """Log-volumes [N, R] at year 0."""
    at_zero = np.nanargmax(past.years, axis=1)
    return np.take_along_axis(past.log_volumes, at_zero[:, None, None], axis=1)[:, 0]


def check_past(past: People, years_future: np.ndarray) -> None:
    """Refuse a past that reaches into the future, and a future that lies in the past."""
    if len(past.years) != len(years_future):
        raise InputError(f"{len(past.years)} people have a past and {len(years_future)} a future.")
    if np.isnan(past.years).all(axis=1).any():
        raise InputError(f"Person {int(np.isnan(past.years).all(axis=1).argmax())} has no scan.")
    last = np.nanmax(past.years, axis=1)
    if np.any(last != 0):
        worst = int(np.abs(last).argmax())
        raise InputError(
            f"Years count from the latest scan, which must be at 0; person {worst} has it at {last[worst]:g}."
        )
    if np.any(years_future <= 0):
        raise InputError(
            f"A forecast was asked for {np.nanmin(years_future):g} years; it must be later than the last scan."
        )


def _precision(covariance: np.ndarray) -> np.ndarray:
    """Inverse [2, 2, R] of prior covariances, where infinite variances (uncorrelated with the rest) become 0."""
    flat = np.isinf(covariance[[0, 1], [0, 1]])
    finite = np.where(flat[:, None] | flat[None, :], 0.0, covariance)
    finite[[0, 1], [0, 1]] = np.where(flat, 1.0, finite[[0, 1], [0, 1]])
    precision = inverse_2x2(finite[None])[0]
    return np.where(flat[:, None] | flat[None, :], 0.0, precision)
