"""How many people a trial needs: closed forms, and what simulated powers say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_LADDER = 9


def closed_form_n(
    effect: float, sd_control: float, sd_treated: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """People per arm for a difference of means, by the normal approximation.

    (z(1 - alpha/2) + z(power))^2 (sd_control^2 + sd_treated^2) / effect^2.
    """
    return (_z(1 - alpha / 2) + _z(power)) ** 2 * (sd_control**2 + sd_treated**2) / effect**2


def needed_n(people: float, standard_error: np.ndarray, effect: np.ndarray, alpha: float, power: float) -> np.ndarray:
    """The same from the standard error that so many people give: it shrinks with their square root."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return people * ((_z(1 - alpha / 2) + _z(power)) * standard_error / np.abs(effect)) ** 2


def expected_power(people: np.ndarray, at: float, standard_error: float, effect: float, alpha: float) -> np.ndarray:
    """Power at other numbers of people, by the normal approximation, from the standard error at one of them."""
    ratio = np.abs(effect) / standard_error * np.sqrt(np.asarray(people) / at)
    critical = _z(1 - alpha / 2)
    return _phi(ratio - critical) + _phi(-ratio - critical)


def simulated_n(people: Sequence[int], powers: Sequence[float], trials: int, power: float, alpha: float) -> float:
    """The number of people at which simulated powers reach what is asked: NaN where they do not reach it.

    Powers follow Phi(c sqrt(n) - z): c is estimated from the sizes around the target, weighed by their Monte Carlo error.
    """
    n, p = np.asarray(people, dtype=float), np.asarray(powers, dtype=float)
    if p.size == 0 or p.max() < power:
        return math.nan
    near = (p > 0.3) & (p < 0.97)
    if not near.any():
        return float(n[p >= power].min())
    from scipy.stats import norm

    n, p = n[near], p[near]
    steepness = norm.pdf(norm.ppf(p))
    weight = trials * steepness**2 / (p * (1 - p)) * n
    slope = float((weight * (norm.ppf(p) + _z(1 - alpha / 2)) / np.sqrt(n)).sum() / weight.sum())
    return float(((_z(power) + _z(1 - alpha / 2)) / slope) ** 2)


def ladder(planned: Sequence[int], wanted: np.ndarray, most: int) -> list[list[int]]:
    """Numbers of people to simulate, [K, A]: the planned ones, and steps that span what is needed as far as allowed.

    Args:
        planned: [A]; the others keep their proportion.
        wanted: numbers needed in the smallest arm, not finite where there is no effect.
        most: in the largest arm.
    """
    least = min(planned)
    top = max(int(most * least / max(planned)), least)
    reached = wanted[np.isfinite(wanted) & (wanted < 4 * top)]
    low, high = (reached.min() * 0.4, reached.max() * 1.25) if reached.size else (least / 2, least)
    steps = np.geomspace(max(min(low, least), 8), min(max(high, least), top), _LADDER)
    smallest = sorted({least, *(max(4, round(step)) for step in steps)})
    scaled = [[max(4, round(n * arm / least)) for arm in planned] for n in smallest]
    return [list(planned) if n == least else size for n, size in zip(smallest, scaled, strict=True)]


def _z(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))


def _phi(values: np.ndarray) -> np.ndarray:
    from scipy.stats import norm

    return np.asarray(norm.cdf(values))
