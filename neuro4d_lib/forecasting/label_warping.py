"""Pulling a label map through a map so that every label changes its volume as the map says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting.native_grid import slabs
from neuro4d_lib.forecasting.warping import places_of

_CORNERS = tuple(tuple(corner >> axis & 1 for axis in range(3)) for corner in range(8))
_MOST_ROUNDS = 25
# Volumes may be off by so much of a label's own, or by a few voxels.
_TOLERANCE, _TOLERANCE_VOXELS = 1e-3, 2
# A label that has less than a tenth of a voxel never wins it, and one that has more than nine tenths never loses it.
_MOST_ADVANTAGE = 0.4
_LONGEST_STEP = 0.08
_MOST_LABELS = 2000


@dataclass(frozen=True)
class _Border:
    """Voxels that may belong to several labels.

    Attributes:
        voxels: [M], flat index.
        candidates: [8, M], the labels at the corners of the cell that is read.
        shares: [8, M], the share that each of them has in the linear interpolation.
    """

    voxels: Tensor
    candidates: Tensor
    shares: Tensor


class WarpedLabels:
    """A label map that can be pulled through many maps.

    A voxel gets the label with the greatest share in a linear interpolation. That alone keeps borders where they are
    until they have moved by half a voxel, and thin structures lose: regions at 1 mm were found up to 3 % beside the
    change of their tissue. So at each label's border it is given a small advantage or handicap, such that its voxels
    add up to the integral of the volume change over the label.
    """

    def __init__(self, image: Image, device: torch.device) -> None:
        """Take a label map of whole numbers, any and as many as there are."""
        self.image = image
        self.names, numbers = np.unique(image.array, return_inverse=True)
        self.numbers = torch.as_tensor(numbers.reshape(-1).astype(np.int64), device=device)

    def pulled(self, displacement_vox: Tensor, volume_ratio: Tensor) -> np.ndarray:
        """The labels through x + u(x), in the image's type: [D, H, W].

        Args:
            displacement_vox: u [1, 3, D, H, W], voxels of the image.
            volume_ratio: [D, H, W], later volume per present volume at every voxel, as `Flow.volume_ratio` says.
        """
        wanted = torch.bincount(self.numbers, volume_ratio.reshape(-1).double(), minlength=len(self.names))
        winners, border = self._read(displacement_vox)
        certain = winners.clone()
        certain[border.voxels] = len(self.names)
        counted = torch.bincount(certain, minlength=len(self.names) + 1)[:-1]
        winners[border.voxels] = _assigned(border, wanted - counted, wanted)
        return self.names[winners.cpu().numpy()].astype(self.image.dtype).reshape(self.image.array.shape)

    def _read(self, displacement_vox: Tensor) -> tuple[Tensor, _Border]:
        """For every voxel the label at a corner of the cell that is read there, [voxels]; and where corners differ."""
        shape = self.image.array.shape
        strides = (shape[1] * shape[2], shape[2], 1)
        steps = [
            sum(c * stride for c, stride, n in zip(corner, strides, shape, strict=True) if n > 1) for corner in _CORNERS
        ]
        winners, borders = [], []
        for slab in slabs(shape):
            places = places_of(displacement_vox, slab)[0].flatten(1)
            last = torch.tensor([[max(n - 2, 0)] for n in shape], device=places.device)
            cell = torch.minimum(places.floor().clamp_(min=0), last.to(places.dtype)).long()
            first = sum(cell[axis] * stride for axis, stride in enumerate(strides))
            corners = torch.stack([self.numbers[first + step] for step in steps])
            mixed = (corners != corners[0]).any(dim=0).nonzero()[:, 0]
            shares = _shares(corners[:, mixed], (places[:, mixed] - cell[:, mixed]).clamp_(0, 1))
            winners.append(corners[0])
            borders.append(_Border(mixed + slab.start * strides[0], corners[:, mixed], shares))
        return torch.cat(winners), _Border(
            torch.cat([border.voxels for border in borders]),
            torch.cat([border.candidates for border in borders], dim=1),
            torch.cat([border.shares for border in borders], dim=1),
        )


def _shares(corners: Tensor, inside: Tensor) -> Tensor:
    """The linear weight of each corner's label, equal labels together: [8, M] for places [3, M] inside the cells."""
    weights = torch.ones_like(corners, dtype=inside.dtype)
    for corner, ends in enumerate(_CORNERS):
        for axis, end in enumerate(ends):
            weights[corner] *= inside[axis] if end else 1 - inside[axis]
    return torch.stack([(weights * (corners == label)).sum(dim=0) for label in corners])


def _assigned(border: _Border, missing: Tensor, wanted: Tensor) -> Tensor:
    """A label for each border voxel, [M], such that as many voxels as are missing fall to each.

    Args:
        missing: [labels], voxels that the border has to give to each label.
        wanted: [labels], voxels that each label is to have in all.
    """
    labels = len(wanted)
    advantage = torch.zeros(labels, dtype=border.shares.dtype, device=border.shares.device)
    rest = int(wanted.argmax())  # the largest label, mostly the background, takes what the others leave
    tolerance = (_TOLERANCE * wanted).clamp_min(_TOLERANCE_VOXELS)
    best, least = border.candidates[0], float("inf")
    for _ in range(_MOST_ROUNDS):
        scores = border.shares + advantage[border.candidates]
        winners = border.candidates.gather(0, scores.argmax(dim=0, keepdim=True))[0]
        error = missing - torch.bincount(winners, minlength=labels)
        error[rest] -= error.sum()
        worst = float((error.abs() / tolerance).max())
        if worst < least:
            best, least = winners, worst
        if least <= 1 or labels > _MOST_LABELS:
            break
        seconds = scores.masked_fill(border.candidates == winners, -torch.inf).argmax(dim=0, keepdim=True)
        step = _advantages(winners, border.candidates.gather(0, seconds)[0], error)
        step = step * (_LONGEST_STEP / step.abs().max()).clamp_max(1)
        advantage = (advantage + step.to(advantage.dtype)).clamp(-_MOST_ADVANTAGE, _MOST_ADVANTAGE)
    return best


def _advantages(winners: Tensor, seconds: Tensor, error: Tensor) -> Tensor:
    """The advantages [labels] that move borders so far that each label gains `error` voxels, to first order.

    A border one voxel thick between two labels moves by half the difference of their advantages, so the voxels that
    change hands are a graph Laplacian times the advantages.
    """
    labels = len(error)
    shared = torch.bincount(winners * labels + seconds, minlength=labels**2).view(labels, labels).double() / 2
    shared = shared + shared.T
    laplacian = torch.diag(shared.sum(dim=1)) - shared
    # What keeps it solvable: a common advantage changes nothing, and a label may have no border.
    return torch.linalg.solve(laplacian + torch.eye(labels, device=error.device) * 0.5, error.double())
