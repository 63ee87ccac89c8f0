"""What is measured of every prepared visit: numbers and one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.flow_volumes import FINE, FlowVolumes, flow_vox, volume_ratio
from neuro4d_lib.data.png import png
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.preparation.within_person import Followed

MEASURED = ("whole_brain", "cortex", "hippocampus", "lateral_ventricle")
"""Groups of regions whose change of volume is kept."""

# Where the planes of a picture lie in aligned space, mm: through the ventricles, through the hippocampi.
_AXIAL_S_MM, _CORONAL_A_MM = 13.0, -22.0
_DIFFERENCE_RANGE, _JACOBIAN_RANGE = 0.3, 0.10


@torch.no_grad()
def measures(images: Sequence[Tensor], followed: Followed, volumes: FlowVolumes) -> list[dict[str, float]]:
    """For every visit: how well it agrees with the others before and after, and how far it is from where they meet.

    `agreement_before` and `agreement` are mean local correlations with the mean of the others, `difference_before` and
    `difference` root mean squares in parts of the contrast of the brain. `largest_log_jacobian` is that inside the brain.
    `folds` counts voxels of 2.6 mm that fail the test of `geometry.jacobian`. `log_*`: log-volume against where they meet.
    """
    brain = followed.brain
    shape_ratio = volume_ratio(flow_vox(-followed.psi_mm))
    contrast = _deviation(followed.template, brain)
    before, after = torch.cat(list(images)), followed.warped
    found = []
    for n in range(len(images)):
        flow = flow_vox(followed.in_aligned_mm[n])
        inside = volume_ratio(flow)[brain > 0.5].clamp_min(1e-3).log()
        change = volumes.log_change(followed.motion_mm[n], shape_ratio)
        numbers = {
            "agreement_before": _agreement(before[n : n + 1], _others(before, n), brain),
            "agreement": _agreement(after[n : n + 1], _others(after, n), brain),
            "difference_before": float(_size(before[n : n + 1] - _others(before, n), brain) / contrast),
            "difference": float(_size(after[n : n + 1] - _others(after, n), brain) / contrast),
            "largest_log_jacobian": float(inside.abs().max()),
            "folds": count_fold_failures(flow).failed,
            **{f"log_{name}": float(change[volumes.names.index(name)]) for name in MEASURED},
        }
        found.append({key: round(value, 6) for key, value in numbers.items()})
    return found


@torch.no_grad()
def picture(images: Sequence[Tensor], followed: Followed, visit: int) -> bytes:
    """One visit as a PNG: it, where all meet, their difference before and after, change of volume; axial over coronal.

    In the difference, orange is brighter at the visit. In the change, blue is less volume at the visit, red more, full
    color at 10 %.
    """
    template, brain = followed.template, followed.brain
    inside = template[brain > 0.5]
    white = float(inside.quantile(0.98)) if inside.numel() < 1 << 24 else float(inside.max())
    before, after = images[visit] - template, followed.warped[visit : visit + 1] - template
    log_ratio = volume_ratio(flow_vox(followed.in_aligned_mm[visit])).clamp_min(1e-3).log() * (brain > 0.5)
    rows = []
    for cut in (_axial, _coronal):
        gray = cut(template) / white
        rows.append(
            np.concatenate(
                [
                    _gray(cut(images[visit]) / white),
                    _gray(gray),
                    _two_colors(
                        cut(before) / white / _DIFFERENCE_RANGE, np.zeros_like(gray), (0.2, 0.6, 1), (1, 0.6, 0.1)
                    ),
                    _two_colors(
                        cut(after) / white / _DIFFERENCE_RANGE, np.zeros_like(gray), (0.2, 0.6, 1), (1, 0.6, 0.1)
                    ),
                    _two_colors(cut(log_ratio) / _JACOBIAN_RANGE, 0.7 * gray, (0.1, 0.4, 1), (1, 0.15, 0.1)),
                ],
                axis=1,
            )
        )
    return png(np.clip(np.concatenate(rows), 0, 1))


def _agreement(one: Tensor, other: Tensor, mask: Tensor) -> float:
    """At 2.6 mm, where a cube of seven voxels is as wide as a gyrus and its neighbors."""
    return local_agreement(*(image[:, :, ::2, ::2, ::2] for image in (one, other, mask)))


def _others(images: Tensor, n: int) -> Tensor:
    """The mean of all but one: [1, 1, D, H, W]."""
    return torch.cat([images[:n], images[n + 1 :]]).mean(dim=0, keepdim=True)


def _size(image: Tensor, mask: Tensor) -> Tensor:
    return ((image.square() * mask).sum() / mask.sum()).sqrt()


def _deviation(image: Tensor, mask: Tensor) -> Tensor:
    return _size(image - (image * mask).sum() / mask.sum(), mask)


def _axial(image: Tensor) -> np.ndarray:
    return _turned(image[0, 0, :, :, round((_AXIAL_S_MM - FINE.affine[2, 3]) / FINE.spacing_mm[2])])


def _coronal(image: Tensor) -> np.ndarray:
    return _turned(image[0, 0, :, round((_CORONAL_A_MM - FINE.affine[1, 3]) / FINE.spacing_mm[1]), :])


def _turned(plane: Tensor) -> np.ndarray:
    """[right, up] -> rows from top to bottom, columns from the person's right to left."""
    return plane.numpy()[::-1, ::-1].T


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values, 0, 1)[..., None], 3, axis=2)


def _two_colors(
    values: np.ndarray, gray: np.ndarray, negative: tuple[float, float, float], positive: tuple[float, float, float]
) -> np.ndarray:
    """Values from -1 to 1 as two colors over gray: [rows, columns, 3]."""
    strength = np.clip(np.abs(values), 0, 1)[..., None]
    color = np.where((values < 0)[..., None], np.array(negative), np.array(positive))
    return strength * color + (1 - strength) * _gray(gray)
