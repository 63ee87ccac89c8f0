"""The mean of a map over each region, as weights on the lattice."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import LATTICE


def region_pooling(reference: Reference) -> Tensor:
    """Weights of each driven region on the lattice: [R, 32, 40, 32], each sums to 1."""
    weights = []
    for region in DRIVEN:
        inside = torch.from_numpy((reference.labels == region.index).astype("float32"))[None, None]
        share = resample(torch.nn.functional.avg_pool3d(inside, 5, 1, 2), reference.grid, LATTICE)[0, 0]
        weights.append(share / share.sum())
    return torch.stack(weights)
