"""Are the stated uncertainties true, and how good is the predicted distribution as a whole?

Samples come first: an ensemble is [M, ...] of M draws, the truth [...]. Scores are per case, smaller is better, in the
unit of the truth; average them over people. NaN in the truth gives a NaN score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neuro4d_lib.errors import InputError

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Coverage:
    """How often a central band held the truth.

    Attributes:
        level: what it claims, 0..1.
        observed: share of cases inside.
        standard_error: binomial, of independent cases, at the *claimed* level (so that it is not 0 at 100 %).
        width: mean width of the band, unit of the truth.
        n: cases.
    """

    level: float
    observed: float
    standard_error: float
    width: float
    n: int


def coverage(lower: ArrayLike, upper: ArrayLike, truth: ArrayLike, level: float) -> Coverage:
    """Count how often lower <= truth <= upper. One case a person: horizons of one person are not independent."""
    low, high, value = (np.asarray(a, dtype=float) for a in (lower, upper, truth))
    counted = np.isfinite(low) & np.isfinite(high) & np.isfinite(value)
    n = int(counted.sum())
    if n == 0:
        return Coverage(level, float("nan"), float("nan"), float("nan"), 0)
    inside = float(((low <= value) & (value <= high))[counted].mean())
    return Coverage(level, inside, float(np.sqrt(level * (1 - level) / n)), float((high - low)[counted].mean()), n)


def ensemble_band(samples: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central band of an ensemble [M, ...], such that one more draw lies inside with probability `level`.

    Quantiles at the plotting positions k / (M + 1): with the usual (k - 1) / (M - 1) a perfect ensemble of 20 covers
    81 % by its 90 % band. A band needs M >= 2 / (1 - level) - 1 draws (19 at 90 %, 39 at 95 %).
    """
    draws = np.asarray(samples, dtype=float)
    needed = int(np.ceil(2 / (1 - level) - 1 - 1e-9))
    if len(draws) < needed:
        raise InputError(f"A {100 * level:g} % band needs at least {needed} draws; found {len(draws)}.")
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0, method="weibull")
    return low, high


def gaussian_band(mean: ArrayLike, sd: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central band of a Gaussian forecast."""
    from scipy.special import ndtri

    center, reach = np.asarray(mean, dtype=float), ndtri((1 + level) / 2) * np.asarray(sd, dtype=float)
    return center - reach, center + reach


def reliability_table(
    truth: ArrayLike,
    *,
    samples: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    sd: ArrayLike | None = None,
    levels: tuple[float, ...] = LEVELS,
) -> list[Coverage]:
    """Claimed against observed coverage, of an ensemble (`samples` [M, N]) or a Gaussian (`mean`, `sd` [N])."""
    if (samples is None) == (mean is None or sd is None):
        raise InputError("A reliability table needs either samples, or a mean and an SD.")
    rows = []
    for level in levels:
        if samples is not None:
            low, high = ensemble_band(samples, level)
        else:
            low, high = gaussian_band(np.asarray(mean), np.asarray(sd), level)
        rows.append(coverage(low, high, truth, level))
    return rows


def crps_ensemble(samples: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Continuous ranked probability score of an ensemble [M, ...], without bias from its finite size.

    mean |x - y| - sum_ij |x_i - x_j| / (2 M (M - 1)), the "fair" CRPS: Ferro, 2014, doi:10.1002/qj.2270. Its
    expectation is that of an infinite ensemble, so ensembles and closed forms compare.
    """
    draws = np.sort(np.asarray(samples, dtype=float), axis=0)
    members = len(draws)
    if members < 2:
        raise InputError(f"The CRPS of an ensemble needs at least 2 draws; found {members}.")
    # Of sorted draws, sum_ij |x_i - x_j| = 2 sum_k (2k - M - 1) x_k: no M x M array.
    weights = 2 * np.arange(1, members + 1) - members - 1
    spread = 2 * np.tensordot(weights, draws, axes=(0, 0))
    distance = np.abs(draws - np.asarray(truth, dtype=float)).mean(axis=0)
    return np.asarray(distance - spread / (2 * members * (members - 1)))


def crps_gaussian(mean: ArrayLike, sd: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """CRPS of N(mean, sd^2); the absolute error where sd is 0. Its calibrated mean is sd / sqrt(pi).

    Gneiting & Raftery, 2007, doi:10.1198/016214506000001437, equation 21.
    """
    from scipy.special import ndtr

    error, spread = np.asarray(truth, dtype=float) - np.asarray(mean, dtype=float), np.asarray(sd, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = error / spread
        score = spread * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    return np.where(spread == 0, np.abs(error), score)


def crps_student_t(mean: ArrayLike, scale: ArrayLike, freedom: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """CRPS of mean + scale * T, T Student's t with `freedom` > 1 degrees of freedom.

    Jordan, Krüger & Lerch, 2019, doi:10.18637/jss.v090.i12, appendix A.
    """
    from scipy import special, stats

    spread, nu = np.asarray(scale, dtype=float), np.asarray(freedom, dtype=float)
    z = (np.asarray(truth, dtype=float) - np.asarray(mean, dtype=float)) / spread
    constant = 2 * np.sqrt(nu) / (nu - 1) * special.beta(0.5, nu - 0.5) / special.beta(0.5, nu / 2) ** 2
    inner = z * (2 * stats.t.cdf(z, nu) - 1) + 2 * stats.t.pdf(z, nu) * (nu + z**2) / (nu - 1)
    return np.asarray(spread * (inner - constant))


def skill(scores: ArrayLike, reference: ArrayLike) -> float:
    """1 - mean score / mean reference score, over the cases where both are known: 1 perfect, 0 as the reference."""
    ours, theirs = np.asarray(scores, dtype=float), np.asarray(reference, dtype=float)
    counted = np.isfinite(ours) & np.isfinite(theirs)
    if not counted.any():
        return float("nan")
    return float(1 - ours[counted].mean() / theirs[counted].mean())


def interval_score(lower: ArrayLike, upper: ArrayLike, truth: ArrayLike, level: float) -> np.ndarray:
    """Width of the band plus 2 / (1 - level) times the distance by which the truth misses it.

    Gneiting & Raftery, 2007, doi:10.1198/016214506000001437, equation 43.
    """
    low, high, value = (np.asarray(a, dtype=float) for a in (lower, upper, truth))
    missed = np.maximum(low - value, 0) + np.maximum(value - high, 0)
    # np.maximum hands NaN on, so an unknown truth gives an unknown score.
    return np.asarray(high - low + 2 / (1 - level) * missed)


def energy_score(samples: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """The CRPS of vectors: mean |x - y| - mean |x - x'| / 2 over different draws. Scale the components first.

    Gneiting & Raftery, 2007, doi:10.1198/016214506000001437, section 4.3; unbiased in M like `crps_ensemble`.

    Args:
        samples: [M, N, R].
        truth: [N, R].

    Returns:
        [N].
    """
    draws, value = np.asarray(samples, dtype=float), np.asarray(truth, dtype=float)
    members = len(draws)
    if members < 2:
        raise InputError(f"The energy score needs at least 2 draws; found {members}.")
    between = np.zeros(draws.shape[1])
    for i in range(1, members):  # a row of pairs at a time: M x M x N x R would not fit in memory
        between += np.linalg.norm(draws[i:] - draws[:-i], axis=-1).sum(axis=0)
    return np.linalg.norm(draws - value, axis=-1).mean(axis=0) - between / (members * (members - 1))


def variogram_score(samples: ArrayLike, truth: ArrayLike, order: float = 0.5) -> np.ndarray:
    """Score of how the components go together, which CRPS and energy score hardly see.

    sum_(i<j) (|y_i - y_j|^p - E |x_i - x_j|^p)^2: Scheuerer & Hamill, 2015, doi:10.1175/MWR-D-14-00269.1; the variance
    of the ensemble's mean is subtracted, so that the number of draws makes no bias. Scale the components first.

    Args:
        samples: [M, N, R].
        truth: [N, R].
        order: p.

    Returns:
        [N].
    """
    draws, value = np.asarray(samples, dtype=float), np.asarray(truth, dtype=float)
    members, regions = len(draws), value.shape[-1]
    if members < 2 or regions < 2:
        raise InputError(f"The variogram score needs at least 2 draws of 2 regions; found {members} of {regions}.")
    score = np.zeros(len(value))
    for i, j in zip(*np.triu_indices(regions, 1), strict=True):
        predicted = np.abs(draws[:, :, i] - draws[:, :, j]) ** order
        observed = np.abs(value[:, i] - value[:, j]) ** order
        score += np.square(observed - predicted.mean(axis=0)) - predicted.var(axis=0, ddof=1) / members
    return score
