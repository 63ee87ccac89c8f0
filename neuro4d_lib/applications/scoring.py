"""From forecasts of one method, and the truth, to rows of the table: the same for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuro4d_lib.applications.score_table import Cases, Score
from neuro4d_lib.forecasting.ensemble import student_t_quantile
from neuro4d_lib.metrics import calibration

LEVELS = calibration.LEVELS
PIT_BINS = 10


class Distribution(Protocol):
    """Predicted log-volume change since the last scan of N cases, H horizons, R regions."""

    @property
    def mean(self) -> np.ndarray:
        """[N, H, R]; NaN where the method says nothing."""
        ...

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """[N, H, R] -> [N, H, R]."""
        ...

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The central band, two [N, H, R], if the method states its uncertainty."""
        ...

    def pit(self, truth: np.ndarray) -> np.ndarray | None:
        """The predicted probability of a value below the truth, [N, H, R], if the method states its uncertainty."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """mean and sd [N, H, R]; without sd, a method that states no uncertainty, whose CRPS is its absolute error."""

    mean: np.ndarray
    sd: np.ndarray | None = None

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return np.abs(truth - self.mean) if self.sd is None else calibration.crps_gaussian(self.mean, self.sd, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.sd is None else calibration.gaussian_band(self.mean, self.sd, level)

    def pit(self, truth: np.ndarray) -> np.ndarray | None:
        from neuro4d_lib.metrics.uniformity import pit_gaussian

        return None if self.sd is None else pit_gaussian(self.mean, self.sd, truth)


@dataclass(frozen=True)
class Futures:
    """samples [M, N, H, R]: M futures of every case, with the bands that a forecast states, Student's t around their mean.

    See `forecasting.ensemble.predictive_bands`. The CRPS is that of the futures themselves, without bias from their
    number. NaN where a case lacks a region.
    """

    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.samples.mean(axis=0)

    @property
    def spread(self) -> np.ndarray:
        """[N, H, R]: of the next draw around the mean of these."""
        return self.samples.std(axis=0, ddof=1) * math.sqrt(1 + 1 / len(self.samples))

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return calibration.crps_ensemble(self.samples, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        if len(self.samples) < 2:
            return None
        reach = student_t_quantile((1 + level) / 2, len(self.samples) - 1) * self.spread
        return self.mean - reach, self.mean + reach

    def pit(self, truth: np.ndarray) -> np.ndarray | None:
        from scipy.special import stdtr

        if len(self.samples) < 2:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(stdtr(len(self.samples) - 1, (truth - self.mean) / self.spread))


@dataclass(frozen=True)
class ControlledFutures(Futures):
    """Futures beside those that a known law makes of the same random numbers: a control variate for the CRPS.

    What the few futures of a case add by chance is nearly the same in both, and of the law it is known: the CRPS has the
    same expectation, and far less noise. Glasserman, Monte Carlo Methods in Financial Engineering, 2003, section 4.1.

    Attributes:
        twins: [M, N, H, R], futures of the law.
        law: of the twins.
    """

    twins: np.ndarray
    law: Gaussian

    def crps(self, truth: np.ndarray) -> np.ndarray:
        by_chance = calibration.crps_ensemble(self.twins, truth) - self.law.crps(truth)
        return super().crps(truth) - by_chance


def score_changes(
    cases: Cases,
    method: str,
    forecast: Distribution,
    truth: np.ndarray,
    reference: Distribution,
    exact: Distribution | None = None,
    *,
    years: np.ndarray | None = None,
    share_of_brain: np.ndarray | None = None,
    noise_sd: np.ndarray | None = None,
    prefix: str = "",
) -> list[Score]:
    """All scores of predicted log-volume changes.

    Args:
        cases: who they are.
        method: name in the table.
        forecast: of this method.
        truth: [N, H, R], NaN where there is no follow-up.
        reference: the group rate, over which skill is counted.
        exact: the best possible forecast, where the law is known: then `crps_share_of_exact` is the share of the
            attainable gain. It means little where almost nothing can be gained, as its standard error shows.
        years: [N, H] from the last scan to the follow-up, for the error of the yearly rate; by itself the horizons.
        share_of_brain: volume of each region per volume of the brain at the last scan, [R] or [N, R], for the error
            in percent of the brain.
        noise_sd: [R], of the measured changes `truth`: the skill of changes below three of them says nothing, and is
            left out.
        prefix: of the names of the metrics.
    """
    mean, crps, of_reference = forecast.mean, forecast.crps(truth), reference.crps(truth)
    error = truth - mean
    years = np.broadcast_to(np.asarray(cases.horizons), truth.shape[:2]) if years is None else years
    own = 100 * np.abs(np.exp(truth) - np.exp(mean))
    rows = cases.means(prefix + "volume_error_percent", method, own)
    if share_of_brain is not None:
        whole = np.broadcast_to(share_of_brain, (len(truth), truth.shape[2]))[:, None]
        rows += cases.means(prefix + "volume_error_percent_of_brain", method, own * whole)
    rows += cases.means(prefix + "rate_error_percent_per_year", method, 100 * np.abs(error) / years[..., None])
    skill = cases.ratios(prefix + "change_skill_score", method, truth**2 - error**2, truth**2)
    skill += cases.patterns(prefix, method, truth**2, np.square(mean), truth * mean)
    rows += skill if noise_sd is None else _measured(cases, skill, truth, noise_sd)
    rows += cases.means(prefix + "crps", method, 100 * crps)
    rows += cases.ratios(prefix + "crps_skill", method, of_reference - crps, of_reference)
    if exact is not None:
        gain = of_reference - exact.crps(truth)
        rows += cases.ratios(prefix + "crps_share_of_exact", method, of_reference - crps, gain)
    for level in LEVELS:
        band = forecast.band(level)
        if band is None:
            continue
        low, high = band
        known = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
        inside = np.where(known, (low <= truth) & (truth <= high), np.nan)
        rows += cases.means(f"{prefix}coverage_{100 * level:g}", method, inside, claimed=level)
        if level == 0.9:
            score = calibration.interval_score(low, high, truth, level)
            rows += cases.means(prefix + "interval_score_90", method, 100 * score)
    return rows


def noise_ceiling(cases: Cases, truth: np.ndarray, noise_sd: np.ndarray, prefix: str = "") -> list[Score]:
    """The change skill score that a perfect forecaster is expected to reach: 1 - noise variance / mean square of `truth`."""
    squared = np.square(truth)
    rows = cases.ratios(prefix + "change_skill_score", "noise_ceiling", squared - np.square(noise_sd), squared)
    return _measured(cases, rows, truth, noise_sd)


def _measured(cases: Cases, rows: list[Score], truth: np.ndarray, noise_sd: np.ndarray) -> list[Score]:
    """Rows of cells whose change can be told from noise."""
    small = cases.unmeasurable(truth, noise_sd)
    return [row for row in rows if row.cell not in small]


def score_pit(cases: Cases, method: str, forecast: Distribution, truth: np.ndarray, prefix: str = "") -> list[Score]:
    """The PIT histogram: share of truths in each tenth of the predicted distribution, and what its shape says.

    `pit_bias` is mean - 1/2: above 0, truths lie above the forecast. `pit_dispersion` is 12 times the mean squared
    distance from 1/2: 1 is right, above 1 bands are too narrow (or biased), below 1 too wide.
    """
    pit = forecast.pit(truth)
    if pit is None:
        return []
    rows = cases.means(prefix + "pit_bias", method, pit - 0.5)
    rows += cases.means(prefix + "pit_dispersion", method, 12 * np.square(pit - 0.5))
    tenth = np.minimum(np.floor(PIT_BINS * pit), PIT_BINS - 1)
    for i in range(PIT_BINS):
        inside = np.where(np.isfinite(tenth), tenth == i, np.nan)
        rows += cases.means(f"{prefix}pit_tenth_{i + 1}", method, inside, claimed=1 / PIT_BINS)
    return rows
