"""Which regions answer to which covariate: linear models within each diagnosis, corrected for many regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuro4d_lib.applications.cohorts.rates import REGIONS, Cohort
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.errors import InputError

NUMBERS = ("age", "sex", "education", "apoe4")
"""Effect per 10 years of age, of men against women, per 4 years of education, per e4 allele."""
UNITS = np.array([10.0, 1.0, 4.0, 1.0])
REFERENCE = np.array([73.0, 0.0, 15.0, 0.0])
"""Diagnoses are compared at this age, sex, education and APOE e4 count."""
_SPARE_PEOPLE = 10
LEVEL = 0.05


@dataclass(frozen=True)
class Effect:
    """What one covariate does to the rate of one region, % of the volume per year.

    Attributes:
        diagnosis: among whom; "" for a comparison of diagnoses.
        covariate: one of NUMBERS, or such as "AD - CN".
        low, high: 95 % interval. p: two-sided. p_holm, p_fdr: corrected over all regions of this covariate and diagnosis.
        truth: of the law that simulated the people; None where it is not known.
    """

    region: str
    diagnosis: str
    covariate: str
    people: int
    estimate: float
    standard_error: float
    low: float
    high: float
    p: float
    p_holm: float
    p_fdr: float
    truth: float | None


@dataclass(frozen=True, eq=False)
class Fit:
    """Least squares of R regions at once: coefficients [C, R], their variances, degrees of freedom; truth [C, R] or None."""

    names: tuple[str, ...]
    estimate: np.ndarray
    variance: np.ndarray
    freedom: int
    truth: np.ndarray | None


def fit_group(covariates: np.ndarray, rates: np.ndarray, expected: np.ndarray | None) -> tuple[Fit, int] | None:
    """The model of people of one diagnosis: level at REFERENCE and an effect per covariate that varies. None: too few people."""
    known = ~np.isnan(covariates[:, :4]).any(axis=1)
    varies = np.array([len(np.unique(column[~np.isnan(column)])) > 1 for column in covariates[:, :4].T])
    if known.sum() < _SPARE_PEOPLE + 1 + varies.sum():
        return None
    design = np.column_stack([np.ones(known.sum()), ((covariates[known, :4] - REFERENCE) / UNITS)[:, varies]])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    inverse = np.linalg.inv(design.T @ design)
    solve = inverse @ design.T
    estimate = solve @ rates[known]
    freedom = len(design) - design.shape[1]
    residual = np.square(rates[known] - design @ estimate).sum(axis=0) / freedom
    names = ("level", *(name for name, chosen in zip(NUMBERS, varies, strict=True) if chosen))
    truth = None if expected is None else solve @ expected[known]
    return Fit(names, estimate, np.diag(inverse)[:, None] * residual, freedom, truth), int(known.sum())


def cohort_effects(cohort: Cohort) -> list[Effect]:
    """All effects: of the numbers within each diagnosis, and of every diagnosis against the first one that is there."""
    diagnosis = cohort.covariates[:, 4]
    fits: dict[str, tuple[Fit, int]] = {}
    for d, name in enumerate(DIAGNOSES):
        here = diagnosis == d
        expected = None if cohort.expected is None else cohort.expected[here]
        fitted = fit_group(cohort.covariates[here], cohort.rates[here], expected) if here.any() else None
        if fitted is not None:
            fits[name] = fitted
    if not fits:
        raise InputError(
            f"No diagnosis of {cohort.name} has enough people with known age, sex, education and APOE: at least "
            f"{_SPARE_PEOPLE + 1}, and one more for every covariate that varies."
        )
    if float(np.ptp(cohort.rates, axis=0).max()) == 0:
        raise InputError(f"Everybody in {cohort.name} changes alike: without variance nothing can be explained.")
    effects: list[Effect] = []
    for name, (fit, people) in fits.items():
        for k, covariate in enumerate(fit.names[1:], start=1):
            truth = None if fit.truth is None else fit.truth[k]
            effects += _effects(
                name, covariate, people, fit.estimate[k], fit.variance[k], np.full(len(REGIONS), fit.freedom), truth
            )
    first, *others = fits
    for name in others:
        (a, n), (b, m) = fits[first], fits[name]
        variance = a.variance[0] + b.variance[0]
        freedom = variance**2 / (
            a.variance[0] ** 2 / a.freedom + b.variance[0] ** 2 / b.freedom
        )  # Welch and Satterthwaite
        truth = None if a.truth is None or b.truth is None else b.truth[0] - a.truth[0]
        effects += _effects("", f"{name} - {first}", n + m, b.estimate[0] - a.estimate[0], variance, freedom, truth)
    return effects


def _effects(
    diagnosis: str, covariate: str, people: int, estimate: np.ndarray, variance: np.ndarray, freedom: np.ndarray,
    truth: np.ndarray | None,
) -> list[Effect]:  # fmt: skip
    from scipy import stats

    error = np.sqrt(variance)
    p = 2 * stats.t.sf(np.abs(estimate) / error, freedom)
    reach = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    holm, fdr = holm_corrected(p), stats.false_discovery_control(p)
    return [
        Effect(
            region, diagnosis, covariate, people, 100 * estimate[r], 100 * error[r], 100 * (estimate[r] - reach[r]),
            100 * (estimate[r] + reach[r]), p[r], holm[r], fdr[r], None if truth is None else 100 * float(truth[r]),
        )
        for r, region in enumerate(REGIONS)
    ]  # fmt: skip


def holm_corrected(p: np.ndarray) -> np.ndarray:
    """P values [R] that hold for all R tests together. Holm, 1979. (statsmodels does the same, and takes half a second.)"""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return np.asarray(steps[np.argsort(order)])


@dataclass(frozen=True)
class Recovery:
    """How estimates meet the truth.

    Attributes:
        cells: effects with a known truth; held: share whose interval holds it.
        clear: those whose truth exceeds three standard errors; right_sign: share of them estimated with its sign.
        found: share of the clear ones with p_fdr below LEVEL; false: share of the findings whose truth is 0.
    """

    cells: int
    held: float
    clear: int
    right_sign: float
    found: float
    false: float


def recovery(effects: Sequence[Effect]) -> Recovery | None:
    """Of all effects whose truth is known; None where there is none."""
    known = [effect for effect in effects if effect.truth is not None]
    if not known:
        return None
    truth = np.array([effect.truth for effect in known])
    estimate, error = (np.array([getattr(e, name) for e in known]) for name in ("estimate", "standard_error"))
    held = np.array([e.low <= t <= e.high for e, t in zip(known, truth, strict=True)])
    clear = np.abs(truth) > 3 * error
    found = np.array([effect.p_fdr < LEVEL for effect in known])
    zero = np.abs(truth) < 1e-9
    return Recovery(
        len(known), float(held.mean()), int(clear.sum()),
        float((np.sign(estimate) == np.sign(truth))[clear].mean()) if clear.any() else np.nan,
        float(found[clear].mean()) if clear.any() else np.nan, float(zero[found].mean()) if found.any() else 0.0,
    )  # fmt: skip
