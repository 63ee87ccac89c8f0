"""How well the change since the last scan is predicted: what copying the last scan gets a zero for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neuro4d_lib.errors import InputError

MEASURABLE_SIGMAS = 3.0
"""A region whose change is smaller than this many noise SDs is skipped, never imputed."""


@dataclass(frozen=True)
class ChangeScore:
    """Persistence skill of predicted changes d_pred of true changes d_true, and the two parts that it consists of.

    skill = 1 - sum (d_true - d_pred)^2 / sum d_true^2: 1 perfect, 0 as good as copying the last scan, < 0 harmful
    (Nash & Sutcliffe, 1970, with persistence as the reference). With the *uncentered* pattern correlation r and the
    amplitude ratio m below, skill = r^2 - (r - m)^2 exactly; with Pearson's (centered) correlation it holds only if
    both means are zero.

    Attributes:
        skill: all arrays have the shape of the input without the axes that were summed.
        correlation: r = sum d_true d_pred / sqrt(sum d_true^2 sum d_pred^2); NaN where nothing is predicted to change.
        amplitude: m = sqrt(sum d_pred^2 / sum d_true^2).
        ceiling: expected skill of a perfect forecaster, given that `d_true` was measured with noise; 1 without noise.
        n: number of changes that count.
    """

    skill: np.ndarray
    correlation: np.ndarray
    amplitude: np.ndarray
    ceiling: np.ndarray
    n: np.ndarray


def change_score(
    predicted: ArrayLike, true: ArrayLike, axis: int | tuple[int, ...] | None = None, noise_sd: ArrayLike = 0.0
) -> ChangeScore:
    """Score predicted changes, summed over `axis` (all axes if None). NaN in either array: that change does not count.

    Args:
        predicted, true: changes since the last scan, any unit and shape (voxels, or people x horizons x regions).
        noise_sd: SD of the measurement noise of `true` (of the difference of two scans), broadcast to its shape.
    """
    d_pred, d_true = _paired(predicted, true)
    counted = np.isfinite(d_pred) & np.isfinite(d_true)
    d_pred, d_true = np.where(counted, d_pred, 0.0), np.where(counted, d_true, 0.0)
    noise = np.where(counted, np.square(np.broadcast_to(np.asarray(noise_sd, dtype=float), d_true.shape)), 0.0)
    true_power, predicted_power = np.square(d_true).sum(axis), np.square(d_pred).sum(axis)
    product = (d_true * d_pred).sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ChangeScore(
            skill=np.asarray(1 - np.square(d_true - d_pred).sum(axis) / true_power),
            correlation=np.asarray(product / np.sqrt(true_power * predicted_power)),
            amplitude=np.asarray(np.sqrt(predicted_power / true_power)),
            ceiling=np.asarray(1 - noise.sum(axis) / true_power),
            n=np.asarray(counted.sum(axis)),
        )


def measurable(true: ArrayLike, noise_sd: ArrayLike, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Which regions change enough to be scored: root mean square change over `axis` of at least three noise SDs.

    Args:
        true: measured changes, such as [people, regions].
        noise_sd: SD of their measurement noise, broadcast to the result.
    """
    root_mean_square = np.sqrt(np.nanmean(np.square(np.asarray(true, dtype=float)), axis=axis))
    return root_mean_square >= MEASURABLE_SIGMAS * np.asarray(noise_sd, dtype=float)


def delta_rmae(predicted: ArrayLike, true: ArrayLike, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Relative mean absolute error of change, 0 to 2; secondary, for comparison with Delta-LFM (ICLR 2026) only.

    sum |d_true - d_pred| / sum (|d_true| + |d_pred|) / 2, a ratio of sums. No change and reversed change both score
    2, uncorrelated Gaussian noise of the right size the square root of 2. Which voxels or regions Delta-LFM summed
    over is not known.
    """
    d_pred, d_true = _paired(predicted, true)
    counted = np.isfinite(d_pred) & np.isfinite(d_true)
    error = np.where(counted, np.abs(d_true - d_pred), 0.0).sum(axis)
    size = np.where(counted, (np.abs(d_true) + np.abs(d_pred)) / 2, 0.0).sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(error / size)


def _paired(predicted: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    d_pred, d_true = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    if d_pred.shape != d_true.shape:
        raise InputError(f"Predicted changes {d_pred.shape} and true changes {d_true.shape} must have one shape.")
    return d_pred, d_true
