"""Images on voxel grids: reading them between voxels, warping, going to another grid.

Positions are voxel indices in D, H, W order; only here do they become the W, H, D in -1..1 of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.geometry.spaces import Grid, voxel_to_voxel

Mode = Literal["linear", "nearest"]
Padding = Literal["border", "zeros"]

# A slab of positions is read at a time where no gradient is wanted, so that a scan's own grid fits in memory.
SLAB_VOXELS = 1_000_000


def identity(
    shape: tuple[int, int, int], device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The index of every voxel: [1, 3, D, H, W], components in D, H, W order."""
    axes = [torch.arange(n, device=device, dtype=dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def sample(image: Tensor, coordinates_vox: Tensor, mode: Mode = "linear", padding: Padding = "border") -> Tensor:
    """Read an image at any positions.

    Args:
        image: [B, C, D, H, W], floating point.
        coordinates_vox: [B, 3, d, h, w], voxels of `image`; either batch may be 1.
        mode: "nearest" for labels.
        padding: outside the image, its nearest border value or zero.

    Returns:
        [B, C, d, h, w].
    """
    images, channels = image.shape[:2]
    if len(coordinates_vox) == 1:  # the same positions in every image: each becomes channels of one
        image = image.flatten(0, 1)[None]
    sizes = torch.tensor([max(n - 1, 1) for n in image.shape[2:]], device=image.device, dtype=image.dtype)
    places = coordinates_vox.flip(1).movedim(1, -1).to(image.dtype) * (2 / sizes.flip(0)) - 1
    depth = places.shape[1]
    # On a CPU grid_sample works on one batch entry per core: a single image is shared out as two halves in depth.
    halves = 2 if len(places) == 1 and depth > 1 and image.device.type == "cpu" else 1
    even = depth - depth % halves
    bulk = places[:, :even].reshape(len(places) * halves, even // halves, *places.shape[2:])
    values = _grid_sample(image, bulk, mode, padding)
    if halves == 2:
        values = torch.cat(values.split(1), dim=2)
    if even < depth:
        values = torch.cat([values, _grid_sample(image, places[:, even:], mode, padding)], dim=2)
    return values.view(max(images, len(places)), channels, *values.shape[2:])


def _grid_sample(image: Tensor, places: Tensor, mode: Mode, padding: Padding) -> Tensor:
    method = "bilinear" if mode == "linear" else "nearest"
    image = image.expand(len(places), -1, -1, -1, -1)
    return F.grid_sample(image, places, mode=method, padding_mode=padding, align_corners=True)


def warp(image: Tensor, displacement_vox: Tensor, mode: Mode = "linear", padding: Padding = "border") -> Tensor:
    """Pull an image through a map: out(x) = image(x + u(x)).

    Args:
        image: [B, C, D, H, W], any type; the result has the same.
        displacement_vox: u [B, 3, D, H, W], voxels; either batch may be 1.
    """
    readable = _readable(image)
    batch = max(len(image), len(displacement_vox))
    shape = (batch, image.shape[1], *displacement_vox.shape[2:])
    if torch.is_grad_enabled() and (image.requires_grad or displacement_vox.requires_grad):
        return sample(readable, _shifted(displacement_vox, slice(0, shape[2])), mode, padding).to(image.dtype)
    out = image.new_empty(shape)
    for slab in _slabs(shape[2], shape[3] * shape[4]):
        out[:, :, slab] = _cast(sample(readable, _shifted(displacement_vox, slab), mode, padding), out.dtype)
    return out


def resample(
    image: Tensor, from_grid: Grid, to_grid: Grid, mode: Mode = "linear", padding: Padding = "zeros"
) -> Tensor:
    """Bring an image to another grid; nothing is smoothed first.

    Args:
        image: [B, C, D, H, W] on `from_grid`.

    Returns:
        [B, C, ...] on `to_grid`, of the image's type.
    """
    readable = _readable(image)
    matrix = torch.as_tensor(voxel_to_voxel(to_grid, from_grid), dtype=readable.dtype, device=image.device)
    along_d, along_h, along_w, origin = matrix[:3, :, None, None].unbind(dim=1)
    depth, height, width = to_grid.shape
    rows, columns = torch.arange(height, device=image.device), torch.arange(width, device=image.device)
    plane = origin + along_h * rows[:, None] + along_w * columns
    out = image.new_empty(*image.shape[:2], *to_grid.shape)
    for slab in _slabs(depth, height * width):
        depths = torch.arange(slab.start, slab.stop, device=image.device)
        coordinates = (plane[:, None] + along_d[:, None] * depths[:, None, None])[None]
        out[:, :, slab] = _cast(sample(readable, coordinates, mode, padding), out.dtype)
    return out


def _shifted(displacement_vox: Tensor, slab: slice) -> Tensor:
    """x + u(x) for the voxels x of a slab: [B, 3, slab, H, W]."""
    coordinates = displacement_vox[:, :, slab].clone()
    shape = (slab.stop - slab.start, *displacement_vox.shape[3:])
    for axis, n in enumerate(shape):
        first = slab.start if axis == 0 else 0
        line = torch.arange(first, first + n, device=coordinates.device, dtype=coordinates.dtype)
        coordinates[:, axis] += line.view([-1 if a == axis else 1 for a in range(3)])
    return coordinates


def _slabs(depth: int, plane_voxels: int) -> Iterator[slice]:
    """Consecutive pieces of the first axis, of an even number of planes."""
    step = max(2, SLAB_VOXELS // plane_voxels // 2 * 2)
    for start in range(0, depth, step):
        yield slice(start, min(start + step, depth))


def _readable(image: Tensor) -> Tensor:
    """The image in a type that can be interpolated."""
    return image.to(torch.promote_types(image.dtype, torch.float32))


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if dtype.is_floating_point else values.round().to(dtype)
