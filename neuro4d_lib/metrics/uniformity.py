"""Where the truth falls in the predicted distribution: uniform on 0..1 if and only if the forecast is calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from neuro4d_lib.errors import InputError


def pit_gaussian(mean: ArrayLike, sd: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Probability integral transform: the predicted probability of a value below the truth."""
    from scipy.special import ndtr

    return np.asarray(
        ndtr((np.asarray(truth, dtype=float) - np.asarray(mean, dtype=float)) / np.asarray(sd, dtype=float))
    )


def pit_ensemble(samples: ArrayLike, truth: ArrayLike, generator: torch.Generator) -> np.ndarray:
    """(rank of the truth + U) / (M + 1) with U uniform on 0..1: uniform for M exchangeable draws, ties included.

    The rank histogram, made continuous so that it can be cut into any number of bins.

    Args:
        samples: [M, ...].
        truth: [...]; NaN gives NaN.
        generator: draws U, and the place among equals.
    """
    draws, value = np.asarray(samples, dtype=float), np.asarray(truth, dtype=float)
    below, equal = (draws < value).sum(axis=0), (draws == value).sum(axis=0)
    uniform = torch.rand(value.shape, generator=generator, dtype=torch.float64).numpy()
    return np.where(np.isfinite(value), (below + uniform * (equal + 1)) / (len(draws) + 1), np.nan)


@dataclass(frozen=True)
class Histogram:
    """A PIT histogram and the test against uniform.

    Attributes:
        counts: [bins] cases per bin.
        chi_square: sum (count - expected)^2 / expected, `bins` - 1 degrees of freedom.
        p_value: chance of so large a chi-square were the forecast calibrated and the cases independent.
        bias: mean PIT - 1/2: above 0, truths lie above the forecast.
        dispersion: variance of the PIT over 1/12: above 1 too narrow, below 1 too wide.
    """

    counts: np.ndarray
    chi_square: float
    p_value: float
    bias: float
    dispersion: float


def histogram(pit: ArrayLike, bins: int = 10) -> Histogram:
    """Histogram of PIT values of *independent* cases: one horizon, one region, one value a person."""
    from scipy.stats import chi2

    values = np.asarray(pit, dtype=float).ravel()
    values = values[np.isfinite(values)]
    if len(values) < 5 * bins:
        raise InputError(
            f"{len(values)} cases are too few for a test with {bins} bins; at least {5 * bins} are needed."
        )
    counts = np.histogram(values, bins=bins, range=(0.0, 1.0))[0]
    expected = len(values) / bins
    chi_square = float(np.square(counts - expected).sum() / expected)
    bias, dispersion = float(values.mean() - 0.5), float(12 * values.var())
    return Histogram(counts, chi_square, float(chi2.sf(chi_square, bins - 1)), bias, dispersion)
