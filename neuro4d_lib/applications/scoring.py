"""From forecasts of one method, and the truth, to rows of the table: the same for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuro4d_lib.applications.score_table import Cases, Score
from neuro4d_lib.metrics import calibration

LEVELS = calibration.LEVELS


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


@dataclass(frozen=True)
class Gaussian:
    """mean and sd [N, H, R]; without sd, a method that states no uncertainty, whose CRPS is its absolute error."""

    mean: np.ndarray
    sd: np.ndarray | None = None

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return np.abs(truth - self.mean) if self.sd is None else calibration.crps_gaussian(self.mean, self.sd, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.sd is None else calibration.gaussian_band(self.mean, self.sd, level)


@dataclass(frozen=True)
class Ensemble:
    """samples [M, N, H, R]: M futures of every case."""

    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.samples.mean(axis=0)

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return calibration.crps_ensemble(self.samples, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        return calibration.ensemble_band(self.samples, level)


def score_changes(
    cases: Cases,
    method: str,
    forecast: Distribution,
    truth: np.ndarray,
    reference: Distribution,
    exact: Distribution | None = None,
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
    """
    mean, crps, of_reference = forecast.mean, forecast.crps(truth), reference.crps(truth)
    error = truth - mean
    rows = cases.means("volume_error_percent", method, 100 * np.abs(np.exp(truth) - np.exp(mean)))
    rows += cases.ratios("change_skill_score", method, truth**2 - error**2, truth**2)
    rows += cases.means("crps", method, 100 * crps)
    rows += cases.ratios("crps_skill", method, of_reference - crps, of_reference)
    if exact is not None:
        rows += cases.ratios("crps_share_of_exact", method, of_reference - crps, of_reference - exact.crps(truth))
    for level in LEVELS:
        band = forecast.band(level)
        if band is None:
            continue
        low, high = band
        known = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
        inside = np.where(known, (low <= truth) & (truth <= high), np.nan)
        rows += cases.means(f"coverage_{100 * level:g}", method, inside, claimed=level)
        if level == 0.9:
            score = calibration.interval_score(low, high, truth, level)
            rows += cases.means("interval_score_90", method, 100 * score)
    return rows
