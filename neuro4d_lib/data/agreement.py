"""How well two images agree that should show the same anatomy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WINDOW_VOX = 7
# Local variance below this part of the whole brain's counts as noise.
NOISE_VARIANCE = 0.01


def local_agreement(one: Tensor, other: Tensor, mask: Tensor) -> float:
    """Mean correlation of two images in cubes of 7 voxels around every voxel of a mask, -1 to 1.

    Blind to shading and to the overall contrast, but not to its direction: bright must meet bright.

    Args:
        one, other: [1, 1, D, H, W].
        mask: [1, 1, D, H, W], weights from 0 to 1.
    """
    one, other = _standardized(one, mask), _standardized(other, mask)
    share = _mean(mask).clamp_min(1e-6)
    mean_one, mean_other = _mean(one * mask) / share, _mean(other * mask) / share
    variance_one = (_mean(one.square() * mask) / share - mean_one.square()).clamp_min(0)
    variance_other = (_mean(other.square() * mask) / share - mean_other.square()).clamp_min(0)
    covariance = _mean(one * other * mask) / share - mean_one * mean_other
    correlation = covariance / ((variance_one + NOISE_VARIANCE) * (variance_other + NOISE_VARIANCE)).sqrt()
    counted = (mask > 0.5) & (share > 0.5)
    return float(correlation[counted].mean()) if counted.any() else 0.0


def _standardized(image: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 inside the mask."""
    mean = (image * mask).sum() / mask.sum()
    variance = ((image - mean).square() * mask).sum() / mask.sum()
    return (image - mean) / variance.sqrt().clamp_min(1e-12)


def _mean(image: Tensor) -> Tensor:
    return F.avg_pool3d(image, WINDOW_VOX, 1, WINDOW_VOX // 2, count_include_pad=False)
