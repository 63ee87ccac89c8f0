"""How images differ where they should be alike, and how that changes with motion and brightness.

Every measure is a weighted sum of squares of residuals, each of one image against the mean of all, that are linear,
nearly, in what is sought: residual(v + dv) = residual(v) - slope . dv. That is all a Gauss-Newton step needs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from neuro4d_lib.geometry.jacobian import derivatives
from neuro4d_lib.geometry.separable import along_axes

# Local contrast below this part of the contrast of the whole image counts as noise.
NOISE_CONTRAST = 0.15


def local_difference(images: Tensor, mask: Tensor, window_vox: float) -> tuple[Tensor, Tensor]:
    """The difference from the mean after local normalization to mean 0 and variance 1.

    Blind to contrast and brightness. Of two images, the sum of the squares is 1 - LNCC. Avants et al., 2008,
    doi:10.1016/j.media.2007.06.004.

    Args:
        images: [N, 1, D, H, W], of about unit contrast.
        mask: [1, 1, D, H, W], what counts in the normalization.
        window_vox: standard deviation of its Gaussian window.

    Returns:
        Residuals [N, 1, D, H, W], and their common slope [1, 3, D, H, W] per voxel of motion of one image.
    """
    density = smooth(mask, window_vox).clamp_min(1e-3)
    normalized, slopes = [], []
    for image in images.split(1):
        mean = smooth(image * mask, window_vox) / density
        variance = smooth(image.square() * mask, window_vox) / density - mean.square()
        deviation = (variance.clamp_min(0) + NOISE_CONTRAST**2).sqrt()
        normalized.append((image - mean) / deviation)
        slopes.append(derivatives(image)[:, 0] / deviation)
    return _from_mean(torch.cat(normalized)), torch.stack(slopes).mean(dim=0)


def difference(images: Tensor, log_gain: Tensor) -> tuple[Tensor, Tensor]:
    """The plain difference from the mean once the images are equally bright.

    The gain of every image is sought together with the motion, because a difference of coil sensitivity would otherwise
    be taken for motion. Lewis and Fox, 2004, NeuroImage 23:75; Ashburner and Ridgway, 2013,
    doi:10.3389/fnins.2012.00197.

    Args:
        images: [N, 1, D, H, W].
        log_gain: [N, 1, D, H, W].

    Returns:
        Residuals [N, 1, D, H, W], and their common slope [1, 4, D, H, W] per voxel of motion and per unit of log gain.
    """
    images = images * log_gain.exp()
    mean = images.mean(dim=0, keepdim=True)
    return _from_mean(images), torch.cat([derivatives(mean)[:, 0], mean], dim=1)


def _from_mean(images: Tensor) -> Tensor:
    """What is left of each image, from the mean of all to the image: the mean minus the image, [N, 1, D, H, W]."""
    # From the pairs, not from the mean: the mean of equal numbers may be another by rounding.
    return torch.stack([(images - image).mean(dim=0) for image in images])


def smooth(image: Tensor, sigma_vox: float, stride: int = 1) -> Tensor:
    """Gaussian mean around every voxel, or every `stride`-th; at the border, of what lies inside: [B, C, D, H, W]."""
    matrices = [_gaussian(n, sigma_vox, stride, image.dtype, image.device) for n in image.shape[2:]]
    return along_axes(image, matrices)


@lru_cache(maxsize=32)
def _gaussian(points: int, sigma_vox: float, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rows of Gaussian weights that sum to one: [(points - 1) / stride + 1, points]."""
    with torch.inference_mode(False):
        index = torch.arange(points, dtype=torch.float64, device=device)
        weights = torch.exp(-((index[::stride, None] - index).square()) / (2 * sigma_vox**2))
        return (weights / weights.sum(dim=1, keepdim=True)).to(dtype)
