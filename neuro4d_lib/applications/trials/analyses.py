"""The analyses of a trial: two arms in, effect at the last visit with its standard error out, for many trials at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuro4d_lib.applications.trials.design import ANCOVA, CHANGE, MIXED, SLOPE
from neuro4d_lib.applications.trials.mixed_model import fit_mixed, pattern_sums

_FEWEST = 3
"""In each arm; with fewer whose data count, a trial has no result (NaN)."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One arm: values [B, N, V, Q] in percent, present [B, N, V], and the K numbers of people that are analyzed."""

    values: np.ndarray
    present: np.ndarray
    ends: list[int]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Effect at the last visit, treated minus control, percent; its standard error; degrees of freedom of its t: [B, K, Q]."""

    effect: np.ndarray
    standard_error: np.ndarray
    freedom: np.ndarray


def analyze(name: str, control: Measured, treated: Measured, years: Sequence[float]) -> Estimates:
    """One of the analyses of a design.

    change: Welch's t-test of the change from the first visit to the last, of those who came to both.
    ancova: the same change, adjusted for the value at the first visit.
    slope: Welch's t-test of everybody's own least-squares slope, times the duration; of those with two visits or more.
    mixed: random level and slope, one mean level for both arms, all visits; the difference of slopes times the duration.
    """
    if name == MIXED:
        return _mixed(control, treated, np.asarray(years, dtype=float))
    if name == ANCOVA:
        return _ancova(control, treated)
    scores = {CHANGE: _change, SLOPE: _slope}[name]
    return _welch(*(_moments(*scores(arm, np.asarray(years, dtype=float)), arm.ends) for arm in (control, treated)))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Number, mean and sum of squared deviations of scores: [B, K, Q]."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def _change(arm: Measured, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change of those who have the last visit: [B, N, Q], who has it [B, N]."""
    return arm.values[:, :, -1] - arm.values[:, :, 0], arm.present[:, :, -1]


def _slope(arm: Measured, years: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares slope times the duration: [B, N, Q], who has two visits or more [B, N]."""
    weight = arm.present.astype(float)
    count = weight.sum(axis=2)
    time = (years - (weight @ years / count)[:, :, None]) * weight
    spread = np.square(time).sum(axis=2)
    slope = np.einsum("bnv,bnvq->bnq", time, arm.values) / np.where(spread > 0, spread, 1)[:, :, None]
    return slope * years[-1], count >= 2


def _sums(values: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """[B, N, ...] -> [B, K, ...]: over the first so many people."""
    return np.cumsum(values, axis=1)[:, np.asarray(ends) - 1]


def _moments(scores: np.ndarray, counted: np.ndarray, ends: Sequence[int]) -> _Moments:
    weight = counted[:, :, None].astype(float)
    center = (weight * scores).sum(axis=(0, 1)) / weight.sum(axis=(0, 1)).clip(1)  # else the squares lose digits
    away = (scores - center) * weight
    count = _sums(weight, ends)
    count = np.where(count < _FEWEST, np.nan, count)
    total = _sums(away, ends)
    return _Moments(count, center + total / count, _sums(np.square(away), ends) - np.square(total) / count)


def _welch(control: _Moments, treated: _Moments) -> Estimates:
    """Welch, 1947, doi:10.1093/biomet/34.1-2.28."""
    parts = [arm.squares / (arm.count - 1) / arm.count for arm in (control, treated)]
    variance = parts[0] + parts[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = variance**2 / (parts[0] ** 2 / (control.count - 1) + parts[1] ** 2 / (treated.count - 1))
    return Estimates(treated.mean - control.mean, np.sqrt(variance), freedom)


def _ancova(control: Measured, treated: Measured) -> Estimates:
    """Least squares of the change on arm and first value, from the squares within the arms."""
    (n0, y0, x0, yy0, xx0, xy0), (n1, y1, x1, yy1, xx1, xy1) = _cross_moments(control), _cross_moments(treated)
    of_first, cross = xx0 + xx1, xy0 + xy1
    per_first = cross / of_first
    freedom = n0 + n1 - 3
    variance = (yy0 + yy1 - per_first * cross) / freedom
    error = np.sqrt(variance * (1 / n0 + 1 / n1 + (x1 - x0) ** 2 / of_first))
    effect = y1 - y0 - per_first * (x1 - x0)
    return Estimates(effect, error, np.broadcast_to(freedom, error.shape))


def _cross_moments(arm: Measured) -> tuple[np.ndarray, ...]:
    """Number, means of change and first value, sums of squared deviations and of their product: [B, K, Q]."""
    change, counted = _change(arm, np.empty(0))
    weight = counted[:, :, None].astype(float)
    everybody = weight.sum(axis=(0, 1)).clip(1)
    centers = [(weight * shown).sum(axis=(0, 1)) / everybody for shown in (change, arm.values[:, :, 0])]
    y, x = (weight * (shown - center) for shown, center in zip((change, arm.values[:, :, 0]), centers, strict=True))
    n, sum_y, sum_x = (_sums(values, arm.ends) for values in (weight, y, x))
    n = np.where(n < _FEWEST, np.nan, n)
    yy, xx, xy = (
        _sums(a * b, arm.ends) - p * q / n
        for a, b, p, q in ((y, y, sum_y, sum_y), (x, x, sum_x, sum_x), (x, y, sum_x, sum_y))
    )
    return n, centers[0] + sum_y / n, centers[1] + sum_x / n, yy, xx, xy


def _mixed(control: Measured, treated: Measured, years: np.ndarray) -> Estimates:
    trials, _, _, markers = control.values.shape
    shape = (trials, len(control.ends), markers)
    center = control.values[:, :, 0].mean(axis=(0, 1))
    time = years / years[-1]
    sums = [pattern_sums(time, arm.values - center, arm.present, arm.ends) for arm in (control, treated)]
    fit = fit_mixed(*sums)
    freedom = np.asarray(control.ends) + np.asarray(treated.ends) - 3.0
    return Estimates(
        fit.effect.reshape(shape),
        fit.standard_error.reshape(shape),
        np.broadcast_to(freedom[:, None], shape),
    )
