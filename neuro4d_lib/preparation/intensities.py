"""Scans of one person made alike in contrast, without any of them being the standard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuro4d_lib.geometry.jacobian import derivatives
from neuro4d_lib.geometry.similarity import smooth

# A curve through zero, I -> a I + b I^2 + c I^3, tells sequences apart whose contrast differs, such as by a gamma.
_POWERS = (1, 2, 3)
_SIGMA_VOX = 1.0
_STEEP = 0.05
_ROUNDS = 2


def matched_curves(images: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
    """For every image the coefficients [3] of the curve that takes its intensities to the mean image's.

    Least squares over places where the brain is even, so that neither motion nor noise bends the curves.

    Args:
        images: [1, 1, D, H, W] each, about in place; 0 is air.
        mask: [1, 1, D, H, W], the brain.
    """
    smoothed = [smooth(image, _SIGMA_VOX) for image in images]
    steepness = torch.stack([derivatives(image).square().sum(dim=2) for image in smoothed]).mean(dim=0)
    weights = (mask / (1 + steepness / _STEEP**2))[mask > 0.5].double()
    values = [image[mask > 0.5].double() for image in smoothed]
    columns = [torch.stack([v**power for power in _POWERS], dim=1) for v in values]
    coefficients = [torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) for _ in values]
    for _ in range(_ROUNDS):
        mean = torch.stack([c @ a for c, a in zip(columns, coefficients, strict=True)]).mean(dim=0)
        coefficients = [_least_squares(c, mean, weights) for c in columns]
    return coefficients


def on_curve(image: Tensor, coefficients: Tensor) -> Tensor:
    """The image with its intensities taken along a curve: [1, 1, D, H, W]."""
    a, b, c = coefficients.to(image)
    return image * (a + image * (b + image * c))


def _least_squares(columns: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    weighted = columns * weights[:, None]
    curvature = columns.T @ weighted
    curvature += 1e-9 * curvature.diagonal().mean() * torch.eye(len(curvature), dtype=curvature.dtype)
    return torch.linalg.solve(curvature, weighted.T @ target)
