"""From several drawn futures to one number with bands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

COVERAGES = (50, 80, 90, 95)
"""Central bands that are reported, in %."""


def predictive_bands(values: np.ndarray) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """The median of the next draw and the bands that hold it, from n independent draws of positive quantities.

    The logarithms are taken as Gaussian with unknown mean and spread. The next draw then lies within
    mean +- t_{n-1} s sqrt(1 + 1/n), exactly as often as claimed however few the draws; few draws cost width, not truth.
    Hahn & Meeker, Statistical Intervals, 1991, section 4.7.

    Args:
        values: [n, ...], positive.

    Returns:
        Median [...], and for each coverage in % its low and high end [...]; no bands for fewer than two draws.
    """
    draws = len(values)
    logarithms = np.log(np.asarray(values, dtype=np.float64))
    mean = logarithms.mean(axis=0)
    if draws < 2:
        return np.exp(mean), {}
    width = logarithms.std(axis=0, ddof=1) * math.sqrt(1 + 1 / draws)
    bands = {}
    for coverage in COVERAGES:
        reach = student_t_quantile(0.5 + coverage / 200, draws - 1) * width
        bands[coverage] = (np.exp(mean - reach), np.exp(mean + reach))
    return np.exp(mean), bands


@lru_cache(maxsize=256)
def student_t_quantile(probability: float, freedom: int) -> float:
    """The value below which Student's t with `freedom` degrees of freedom lies with this probability (0.5 to 1)."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"No quantile for probability {probability} (0.5 to 1) and {freedom} degrees of freedom.")
    low, high = 0.0, 1.0
    while _student_t_cdf(high, freedom) < probability:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if _student_t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0, by the finite sums for whole degrees of freedom: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine_squared = freedom / (freedom + t * t)
    term = total = 1.0 if freedom > 1 else 0.0
    for k in range(freedom % 2 + 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine_squared
        total += term
    if freedom % 2:
        return 0.5 + (angle + math.sin(angle) * math.cos(angle) * total) / math.pi
    return 0.5 + math.sin(angle) * total / 2


@dataclass(frozen=True)
class VolumeTable:
    """Volumes of every region at every year.

    Attributes:
        names: R regions and sums of regions.
        years: T years after the scan.
        baseline_mm3: [R], at the scan; what a forecast of no change says for every year.
        futures_mm3: [n, T, R], of each future drawn.
        group_rate_mm3: [T, R], if the person changed like the average of their group.
    """

    names: tuple[str, ...]
    years: tuple[float, ...]
    baseline_mm3: np.ndarray
    futures_mm3: np.ndarray
    group_rate_mm3: np.ndarray

    @cached_property
    def median_and_bands(self) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
        """Median [T, R] and the low and high end [T, R] of each band: see `predictive_bands`."""
        return predictive_bands(self.futures_mm3)

    def rows(self) -> Iterator[dict[str, float | str | None]]:
        """One row per region and year; the ends of bands are None where there is only one future."""
        median, bands = self.median_and_bands
        for region, name in enumerate(self.names):
            for time, year in enumerate(self.years):
                row: dict[str, float | str | None] = {
                    "region": name,
                    "year": year,
                    "baseline_mm3": self.baseline_mm3[region],
                    "median_mm3": median[time, region],
                }
                for coverage in COVERAGES:
                    low, high = bands.get(coverage, (None, None))
                    row[f"low_{coverage}_mm3"] = None if low is None else low[time, region]
                    row[f"high_{coverage}_mm3"] = None if high is None else high[time, region]
                row["copy_last_mm3"] = self.baseline_mm3[region]
                row["group_rate_mm3"] = self.group_rate_mm3[time, region]
                yield row
