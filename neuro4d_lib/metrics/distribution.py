"""Do the forecasts, as a set, look like the real scans, as a set? FID (by monai) and KID of features."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from neuro4d_lib.errors import InputError

LEAST_IMAGES = 50
"""FID of fewer images than this is mostly bias; KID has none."""


def extract_features(volumes: Iterable[Tensor], network: nn.Module) -> np.ndarray:
    """Features [N, F] of volumes [D, H, W], each scaled to mean 0 and SD 1 as MedicalNet was trained.

    Args:
        volumes: one at a time, so that they need not all be in memory; on one grid, treated alike.
        network: [1, 1, D, H, W] to [1, F], such as `feature_networks.feature_network`.
    """
    rows = []
    with torch.no_grad():
        for volume in volumes:
            spread = volume.std()
            if not spread > 0:
                raise InputError("A volume is constant, or holds NaN: it has no features.")
            features = network(((volume - volume.mean()) / spread)[None, None].float())
            rows.append(features.reshape(-1).double().cpu().numpy())
    return np.stack(rows)


def frechet_distance(predicted: ArrayLike, true: ArrayLike) -> float:
    """Fréchet distance of Gaussians fitted to two sets of features (FID), by monai.

    Heusel et al., 2017, arXiv:1706.08500. Biased upward, the more the fewer images; never compare across networks or
    numbers of images.

    Args:
        predicted, true: [N, F], at least LEAST_IMAGES each.
    """
    from monai.metrics import FIDMetric

    ours, theirs = _features(predicted, true, LEAST_IMAGES)
    with warnings.catch_warnings():
        # monai 1.6 passes an argument that SciPy 1.17 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return float(FIDMetric()(torch.from_numpy(ours), torch.from_numpy(theirs)))


def kernel_distance(predicted: ArrayLike, true: ArrayLike) -> tuple[float, float]:
    """Kernel inception distance and its standard error: unbiased squared MMD with the kernel (x . y / F + 1)^3.

    Bińkowski et al., 2018, arXiv:1801.01401; around 0, so also below it, where the sets are alike. The standard
    error is the jackknife over images.

    Args:
        predicted, true: [N, F], any number of images, not necessarily equal.
    """
    ours, theirs = _features(predicted, true, 3)
    n, m, size = len(ours), len(theirs), ours.shape[1]
    xx, yy, xy = ((a @ b.T / size + 1) ** 3 for a, b in ((ours, ours), (theirs, theirs), (ours, theirs)))
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    sum_x, sum_y, sum_xy = xx.sum(), yy.sum(), xy.sum()

    def distance(x: ArrayLike, y: ArrayLike, cross: ArrayLike, n: int, m: int) -> np.ndarray:
        return np.asarray(x) / (n * (n - 1)) + np.asarray(y) / (m * (m - 1)) - 2 * np.asarray(cross) / (n * m)

    without_x = distance(sum_x - 2 * xx.sum(axis=1), sum_y, sum_xy - xy.sum(axis=1), n - 1, m)
    without_y = distance(sum_x, sum_y - 2 * yy.sum(axis=1), sum_xy - xy.sum(axis=0), n, m - 1)
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return float(distance(sum_x, sum_y, sum_xy, n, m)), float(np.sqrt(variance))


def _features(predicted: ArrayLike, true: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
        raise InputError(f"Expected two arrays [images, features] of one network; found {ours.shape}, {theirs.shape}.")
    if min(len(ours), len(theirs)) < least:
        raise InputError(f"At least {least} images a side are needed; found {len(ours)} and {len(theirs)}.")
    return ours, theirs
