"""When another scan tells something: after change exceeds what two scans of one day differ by, and what it narrows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.risk.person_law import Course, PersonLaw
from neuro4d_lib.data.population import Population

_TWO_SIDED_95 = 1.959963984540054
TIMES = tuple(np.arange(0.25, 10.01, 0.25).tolist())
WORTH = 0.2
"""A next scan is called worth making for the forecast once it narrows the band by this share."""
_LAST_BEFORE_HORIZON = 0.9


@dataclass(frozen=True)
class Schedule:
    """What the next scan is good for, of one region.

    Attributes:
        noise_percent: SD of the error of one scan.
        detectable_percent: smallest change of two scans that is no noise, at 95 %: 1.96 sqrt(2) noise.
        times: [G] years from now of the next scan; shown: [G] chance that its change exceeds that, in either direction.
        detectable_years: when that chance reaches one half; None: not within the longest of `times`.
        expected_years: when the expected true change reaches the detectable one; None likewise.
        horizon: years ahead whose band is narrowed.
        narrowing: [G] share by which the band at the horizon is narrower, NaN from the horizon on.
        worth_years: when the narrowing reaches WORTH; None: never.
        next_years: the earlier of worth_years and detectable_years; None where there is neither.
    """

    region: str
    noise_percent: float
    detectable_percent: float
    times: np.ndarray
    shown: np.ndarray
    detectable_years: float | None
    expected_years: float | None
    horizon: float
    narrowing: np.ndarray
    worth_years: float | None
    next_years: float | None


def noise_sd(population: Population, weights: Tensor) -> np.ndarray:
    """SD [B] of the error of one measured log-volume, weights [B, R]."""
    return torch.einsum("br,rs,bs->b", weights, population.noise_covariance(), weights).sqrt().numpy()


def schedules(law: PersonLaw, names: tuple[str, ...], horizon: float, longest: float = TIMES[-1]) -> list[Schedule]:
    """Of every region that the law was asked about, in its order; nothing later than `longest` years from now."""
    times = np.array([time for time in TIMES if time <= longest + 1e-9])
    course = law.course(times)
    noise = noise_sd(law.population, law.asked)
    probability = np.bincount(course.diagnosis, course.weights, minlength=5)
    narrowing = narrowings(law, probability, times, horizon)
    found = []
    for b, name in enumerate(names):
        detectable = _TWO_SIDED_95 * np.sqrt(2) * noise[b]
        measured = Course(
            times, course.weights, course.diagnosis, course.mean[..., b : b + 1],
            np.sqrt(course.sd[..., b : b + 1] ** 2 + 2 * noise[b] ** 2),
        )  # fmt: skip
        limit = np.full((len(times), 1), detectable)
        shown = (measured.below(-limit) + 1 - measured.below(limit))[:, 0]
        detected = first_time(times, shown, 0.5)
        worth = first_time(times, narrowing[:, b], WORTH)
        known = [time for time in (detected, worth) if time is not None]
        found.append(
            Schedule(
                name,
                100 * float(noise[b]),
                100 * float(np.expm1(detectable)),
                times,
                shown,
                detected,
                first_time(times, np.abs(course.expected()[:, b]), detectable),
                horizon,
                narrowing[:, b],
                worth,
                min(known) if known else None,
            )
        )
    return found


def narrowings(law: PersonLaw, probability: np.ndarray, times: np.ndarray, horizon: float) -> np.ndarray:
    """Share [G, B] by which a scan at each time narrows the band at the horizon; the mean over diagnoses [5] that are possible."""
    weights = probability[:, None] / probability.sum()
    without = (weights * law.sd_with_next_scan(None, horizon)).sum(axis=0)
    result = np.full((len(times), len(law.asked)), np.nan)
    for i, time in enumerate(times.tolist()):
        if time <= _LAST_BEFORE_HORIZON * horizon:
            result[i] = 1 - (weights * law.sd_with_next_scan(time, horizon)).sum(axis=0) / without
    return result


def first_time(times: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """When values reach a level for the first time, by linear interpolation; the first time of all where they start above it."""
    above = np.flatnonzero(np.nan_to_num(values, nan=-np.inf) >= level)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(times[0])
    share = (level - values[i - 1]) / (values[i] - values[i - 1])
    return float(times[i - 1] + share * (times[i] - times[i - 1]))
