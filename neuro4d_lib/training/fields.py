"""What training needs of the reference anatomy, worked out once: one file of tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor

from neuro4d_lib.data.rate_fields import RateFields, rate_fields
from neuro4d_lib.data.reference import Reference, build_reference
from neuro4d_lib.data.region_pooling import region_pooling
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.progress import Progress
from neuro4d_lib.training.run_state import write_whole


def state_maps(control: Tensor) -> Tensor:
    """Divergence of each region's field on the lattice, a smooth map of the region: [R, 3, ...] -> [R, 32, 40, 32]."""
    slopes = bspline.gradient(control, 1)
    return torch.stack([slopes[:, axis, axis] for axis in range(3)]).sum(dim=0) / LATTICE.spacing_mm[0]


def write_training_fields(reference: Reference, path: Path, fields: RateFields | None = None) -> None:
    """Velocity field, pooling weights and a smooth map of every driven region."""
    control = (fields or rate_fields(reference)).control.float()
    tensors = {"fields": control, "pooling": region_pooling(reference), "state_maps": state_maps(control)}
    write_whole(path, safetensors.save({name: value.contiguous() for name, value in tensors.items()}))


def training_fields(path: Path, progress: Progress) -> Path:
    """The file, written where it is missing: about a minute on two cores."""
    if not path.is_file():
        progress(0.0, "Building the reference anatomy and its velocity fields")
        write_training_fields(build_reference(), path)
    return path
