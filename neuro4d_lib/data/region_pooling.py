"""The mean of a map over each region, as weights on the lattice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import LATTICE, Grid

_WIDTH = 5  # voxels of the reference: about a lattice step
_ROOM = _WIDTH // 2 + 1  # around a region, so that its smoothed share ends inside


def region_pooling(reference: Reference) -> Tensor:
    """Weights of each driven region on the lattice: [R, 32, 40, 32], each sums to 1."""
    labels, weights = torch.from_numpy(reference.labels), []
    for region in DRIVEN:
        box = reference.boxes[region.index - 1]
        inside = pad((labels[box] == region.index).float()[None, None], (_ROOM,) * 6)
        affine = reference.grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start - _ROOM for part in box]
        depth, height, width = inside.shape[2:]
        smoothed, around = avg_pool3d(inside, _WIDTH, 1, _WIDTH // 2), Grid((depth, height, width), affine)
        share = resample(smoothed, around, LATTICE)[0, 0]
        weights.append(share / share.sum())
    return torch.stack(weights)
