"""Is a forecast one course through time? No standard measure exists: these four are defined here, and all reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.deformation import compose


@dataclass(frozen=True)
class SemigroupError:
    """Distance in mm between going 0 -> a -> b and going 0 -> b, over the voxels of a mask."""

    mean_mm: float
    percentile_95_mm: float
    max_mm: float


def semigroup_error(
    first_vox: Tensor, second_vox: Tensor, whole_vox: Tensor, spacing_mm: ArrayLike, mask: Tensor
) -> SemigroupError:
    """Compose 0 -> a with a -> b and compare with 0 -> b.

    Args:
        first_vox, second_vox, whole_vox: pull displacements [1, 3, D, H, W], voxels: phi_0a makes frame a out of frame
            0, phi_ab frame b out of frame a, phi_0b frame b out of frame 0. Then phi_0b = phi_0a o phi_ab.
        spacing_mm: [3] voxel size along D, H, W.
        mask: [D, H, W] where it counts, in the space of frame b. Leave out the border of the grid, beyond which
            displacements are not known.
    """
    difference = (compose(first_vox, second_vox) - whole_vox)[0]
    spacing = torch.as_tensor(np.asarray(spacing_mm), dtype=difference.dtype, device=difference.device)
    distance = (difference * spacing[:, None, None, None]).square().sum(dim=0).sqrt()[mask.bool()]
    if distance.numel() == 0:
        raise InputError("The mask of the semigroup error is empty.")
    # torch.quantile refuses more than 2^24 values, fewer than a 1 mm grid may hold.
    distances = distance.double().cpu().numpy()
    return SemigroupError(float(distances.mean()), float(np.percentile(distances, 95)), float(distances.max()))


def log_determinant_curvature(log_determinants: ArrayLike, years: ArrayLike, mask: ArrayLike) -> float:
    """Mean absolute second time-difference of log det J, 1/year^2: 0 for a constant rate, large for a jittering one.

    2 [(L3 - L2) / (t3 - t2) - (L2 - L1) / (t2 - t1)] / (t3 - t1) over every three frames in a row, so visits may be
    at any times.

    Args:
        log_determinants: L [T, D, H, W] of the frames of one course, T >= 3; the last scan is a frame with L = 0.
        years: [T], increasing.
        mask: [D, H, W] where it counts.
    """
    inside = np.asarray(log_determinants, dtype=float)[:, np.asarray(mask, dtype=bool)]
    times = np.asarray(years, dtype=float)
    if len(times) < 3 or np.any(np.diff(times) <= 0):
        raise InputError(f"A second time-difference needs at least 3 increasing times; found {times.tolist()}.")
    rates = np.diff(inside, axis=0) / np.diff(times)[:, None]
    return float(np.abs(2 * np.diff(rates, axis=0) / (times[2:] - times[:-2])[:, None]).mean())


@dataclass(frozen=True)
class Share:
    """A share of `n` cases; NaN if none counts."""

    value: float
    n: int


def wrong_sign_share(log_volumes: ArrayLike, expected_sign: ArrayLike) -> Share:
    """Share of region-visits whose rate of change has the wrong sign. A rate of zero has none, so is not wrong.

    Args:
        log_volumes: [N, T, R] of N courses at T times; NaN where there is no visit. A rate is that between two
            neighboring times.
        expected_sign: broadcast to [N, T - 1, R]: the sign of the true rate where the truth is known, else of the
            group's mean rate. 0 where it is not known or too small to be measured (`change.measurable`): not counted.
    """
    rates = np.diff(np.asarray(log_volumes, dtype=float), axis=1)
    expected = np.broadcast_to(np.asarray(expected_sign, dtype=float), rates.shape)
    n = int((np.isfinite(rates) & (expected != 0)).sum())
    return Share(int((rates * expected < 0).sum()) / n if n else float("nan"), n)


def adjacent_change_ratio(predicted: ArrayLike, true: ArrayLike, mask: ArrayLike) -> float:
    """Change between neighboring frames, over the true one: 1 right, 0 frozen, above 1 flicker.

    sum |x_(t+1) - x_t| of the prediction over that of the truth, in the mask; a ratio of sums.

    Args:
        predicted, true: frames [T, D, H, W] at the same times and in the same intensity units.
        mask: [D, H, W].
    """
    inside = np.asarray(mask, dtype=bool)
    moved, should = (
        np.abs(np.diff(np.asarray(frames, dtype=float)[:, inside], axis=0)).sum() for frames in (predicted, true)
    )
    return float(moved / should) if should > 0 else float("nan")
