"""Likeness of a forecast image to the follow-up scan: SSIM, PSNR, LPIPS. Needs monai.

Copying the last scan nearly maximizes all of them, so SSIM and PSNR are only given beside its score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from neuro4d_lib.errors import InputError

WINDOW = 11
WINDOW_SIGMA = 1.5


@dataclass(frozen=True)
class ImageQuality:
    """SSIM (-1..1) and PSNR (dB) inside the mask, of the forecast and of the last scan, against the follow-up."""

    ssim: float
    psnr: float
    ssim_copy_last: float
    psnr_copy_last: float


def image_quality(
    predicted: np.ndarray, true: np.ndarray, last: np.ndarray, mask: np.ndarray, data_range: float | None = None
) -> ImageQuality:
    """Compare a forecast, and the last scan, with the follow-up scan inside a brain mask.

    SSIM has a 3D Gaussian window of 11 voxels, SD 1.5 (Wang et al., 2004, doi:10.1109/TIP.2003.819861), on images
    that are zero outside the mask, averaged over the mask.

    Args:
        predicted, true, last: [D, H, W] on one grid, in the same intensity units.
        mask: [D, H, W], the union of the brain at the last scan and at the follow-up.
        data_range: of intensities, for both forecasts; by itself that of `true` in the mask.
    """
    from monai.metrics import PSNRMetric

    inside = np.asarray(mask, dtype=bool)
    if not inside.any() or any(image.shape != inside.shape for image in (predicted, true, last)):
        shapes = [image.shape for image in (predicted, true, last)]
        raise InputError(f"Expected images on the grid of a mask that is not empty {inside.shape}; found {shapes}.")
    intensity_range = float(np.ptp(true[inside])) if data_range is None else data_range
    if intensity_range <= 0:
        raise InputError("The follow-up scan is constant inside the mask: there is nothing to compare.")
    forecasts = torch.stack([_column(image, inside) for image in (predicted, last)]) / intensity_range
    target = (_column(true, inside) / intensity_range).expand_as(forecasts)
    psnr = torch.as_tensor(PSNRMetric(max_val=1.0, reduction="none")(forecasts, target)).flatten().tolist()
    similarities = [_ssim(image / intensity_range, true / intensity_range, inside) for image in (predicted, last)]
    return ImageQuality(similarities[0], psnr[0], similarities[1], psnr[1])


def lpips_2_5d(predicted: Tensor, true: Tensor, network: nn.Module, data_range: float) -> float:
    """Learned perceptual distance, 2.5D: over all slices of three axes, the three means added (as monai does).

    Zhang et al., 2018, arXiv:1801.03924; monai.losses.PerceptualLoss. Always name the network beside the number.

    Args:
        predicted, true: [D, H, W], background 0, on one grid.
        network: of slices, two [n, 1, h, w] in -1..1 to n distances, such as `feature_networks.perceptual_network`.
        data_range: the intensity that becomes +1; 0 becomes -1.
    """
    from monai.losses import PerceptualLoss

    class SlicesOfThreeAxes(PerceptualLoss):
        """monai's 2.5D loss around a network that is handed in, where monai would download one."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.spatial_dims, self.is_fake_3d, self.channel_wise = 3, True, False
            self.fake_3d_ratio = 1.0  # every slice: below 1, monai picks slices by the global random state
            self.perceptual_function = network

    scaled = [(2 * image.float() / data_range - 1).clamp(-1, 1)[None, None] for image in (predicted, true)]
    with torch.no_grad():
        return float(SlicesOfThreeAxes()(*scaled))


def _column(image: np.ndarray, inside: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32)[inside])[None]


def _ssim(predicted: np.ndarray, true: np.ndarray, inside: np.ndarray) -> float:
    """Mean SSIM over the mask, of images whose intensity range is 1."""
    from monai.metrics.regression import compute_ssim_and_cs

    margin = WINDOW // 2
    where = np.nonzero(inside)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in where)
    # The window shrinks the map by a margin on every side; zeros there are what lies outside the mask anyway.
    ours, theirs = (
        torch.from_numpy(np.pad(np.where(inside, image, 0)[box].astype(np.float32), margin))[None, None]
        for image in (predicted, true)
    )
    similarity, _ = compute_ssim_and_cs(ours, theirs, 3, (WINDOW,) * 3, (WINDOW_SIGMA,) * 3)
    return float(similarity[0, 0][torch.from_numpy(inside[box])].double().mean())
