"""How well two images agree that should show the same anatomy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WINDOW_VOX = 7
_LEAST_VARIANCE = 1e-5


def local_agreement(one: Tensor, other: Tensor, mask: Tensor) -> float:
    """Mean correlation of two images in cubes of 7 voxels around every voxel of a mask, -1 to 1.

    Blind to shading and to the overall contrast, but not to its direction: bright must meet bright.

    Args:
        one, other: [1, 1, D, H, W], from 0 to 1.
        mask: [1, 1, D, H, W], weights from 0 to 1.
    """
    share = _mean(mask).clamp_min(1e-6)
    mean_one, mean_other = _mean(one * mask) / share, _mean(other * mask) / share
    variance_one = (_mean(one.square() * mask) / share - mean_one.square()).clamp_min(0)
    variance_other = (_mean(other.square() * mask) / share - mean_other.square()).clamp_min(0)
    covariance = _mean(one * other * mask) / share - mean_one * mean_other
    correlation = covariance / (variance_one * variance_other + _LEAST_VARIANCE).sqrt()
    counted = (mask > 0.5) & (share > 0.5)
    return float(correlation[counted].mean()) if counted.any() else 0.0


def _mean(image: Tensor) -> Tensor:
    return F.avg_pool3d(image, WINDOW_VOX, 1, WINDOW_VOX // 2, count_include_pad=False)
