"""Smooth fields from few numbers: separable uniform cubic B-splines. Control points outside the lattice are zero.

Unser, 1999, doi:10.1109/79.799930. A matrix per axis does the work: for lattices of some tens of points that is
faster than any filter, runs anywhere and differentiates itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.geometry.separable import along_axes


def refine(control: Tensor, factor: int) -> Tensor:
    """Evaluate the spline on the grid `factor` times finer; see `spaces.Grid.refined`.

    Args:
        control: [B, C, d, h, w].

    Returns:
        [B, C, (d - 1) * factor + 1, ...]: point i * factor lies on control point i.
    """
    return along_axes(control, [_matrix("value", n, factor, control.dtype, control.device) for n in control.shape[2:]])


def refine_adjoint(field: Tensor, factor: int) -> Tensor:
    """The transpose of `refine`: <refine(c, factor), f> = <c, refine_adjoint(f, factor)>.

    Args:
        field: [B, C, (d - 1) * factor + 1, ...].

    Returns:
        [B, C, d, h, w].
    """
    points = [(n - 1) // factor + 1 for n in field.shape[2:]]
    return along_axes(field, [_matrix("value", n, factor, field.dtype, field.device).T for n in points])


def fit(samples: Tensor) -> Tensor:
    """The control points whose spline takes these values at the lattice points: refine(fit(s), 1) = s.

    Args:
        samples: [B, C, d, h, w].
    """
    return along_axes(samples, [_matrix("inverse", n, 1, samples.dtype, samples.device) for n in samples.shape[2:]])


def gradient(control: Tensor, factor: int) -> Tensor:
    """Exact derivatives of the spline on the refined grid, per lattice step (divide by its spacing for "per mm").

    Args:
        control: [B, C, d, h, w].

    Returns:
        [B, C, 3, (d - 1) * factor + 1, ...]: third axis, derivative along D, H, W.
    """
    values = [_matrix("value", n, factor, control.dtype, control.device) for n in control.shape[2:]]
    slopes = [_matrix("slope", n, factor, control.dtype, control.device) for n in control.shape[2:]]
    along = [[slopes[a] if a == axis else values[a] for a in range(3)] for axis in range(3)]
    return torch.stack([along_axes(control, matrices) for matrices in along], dim=2)


@lru_cache(maxsize=64)
def _matrix(kind: str, points: int, factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[(points - 1) * factor + 1, points]: "value" or "slope" of each control point's spline; "inverse" of "value"."""
    places = np.arange((points - 1) * factor + 1) / factor
    offset = places[:, None] - np.arange(points)
    weights = _cubic_slope(offset) if kind == "slope" else _cubic(offset)
    if kind == "inverse":
        weights = np.linalg.inv(weights)
    with torch.inference_mode(False):  # a cached tensor must be fit for autograd, whoever asks for it first
        return torch.tensor(weights, dtype=dtype, device=device)


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic B-spline: 2/3 at 0, 1/6 at distance 1, 0 from distance 2."""
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.clip(2 - x, 0, None) ** 3 / 6)


def _cubic_slope(x: np.ndarray) -> np.ndarray:
    """The derivative of the cubic B-spline."""
    distance = np.abs(x)
    return np.sign(x) * np.where(
        distance < 1, -2 * distance + 1.5 * distance**2, -(np.clip(2 - distance, 0, None) ** 2) / 2
    )
