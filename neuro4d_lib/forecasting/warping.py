"""Pulling an image through a map without blurring it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting.native_grid import slabs
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.grids import sample

STILL_VOX = 1e-4
"""Motion below this is rounding."""


class WarpedImage:
    """An image that can be pulled through many maps: cubic interpolation in its own type and scaling.

    A cubic B-spline that passes through the voxels is read by eight linear look-ups (Ruijters & Thevenaz, 2012,
    doi:10.1093/comjnl/bxq086) and kept between the least and the greatest of the eight voxels around, so that there is
    neither the blur of linear interpolation nor a value that the scan does not have. A voxel that does not move keeps
    its value bit for bit.
    """

    def __init__(self, image: Image, device: torch.device) -> None:
        self.image = image
        values = torch.as_tensor(np.ascontiguousarray(image.array, dtype=np.float32), device=device)[None, None]
        coefficients = bspline.fit(values)
        # Ringing fades into denormal numbers where the background is empty, and those slow processors down.
        self.coefficients = torch.where(coefficients.abs() < 1e-7 * values.abs().max(), 0, coefficients)
        # Least and greatest of the cell whose lowest corner is voxel i, at i; the last cell of an axis is flat.
        padded = F.pad(values, (0, 1, 0, 1, 0, 1), mode="replicate")
        self.highest = F.max_pool3d(padded, kernel_size=2, stride=1)
        self.lowest = -F.max_pool3d(-padded, kernel_size=2, stride=1)

    def pulled(self, displacement_vox: Tensor) -> np.ndarray:
        """The image through x + u(x), in the image's type: [D, H, W] for u [1, 3, D, H, W] in its voxels."""
        shape = self.image.array.shape
        out = np.empty(shape, dtype=self.image.dtype)
        last = torch.tensor([n - 1 for n in shape], device=displacement_vox.device).view(1, 3, 1, 1, 1)
        for slab in slabs(shape):
            places = places_of(displacement_vox, slab)
            places = torch.minimum(places.clamp_(min=0), last.to(places.dtype))
            cell = places.floor()
            values = _cubic(self.coefficients, places, cell)
            values = torch.minimum(values, sample(self.highest, cell, mode="nearest"))
            values = torch.maximum(values, sample(self.lowest, cell, mode="nearest"))
            still = (displacement_vox[0, :, slab].abs().amax(dim=0) < STILL_VOX).cpu().numpy()
            moved = _as_type(values[0, 0].cpu().numpy(), self.image.dtype)
            out[slab] = np.where(still, self.image.array[slab], moved)
        return out


def places_of(displacement_vox: Tensor, slab: slice) -> Tensor:
    """x + u(x) for the voxels x of a slab: [1, 3, slab, H, W]."""
    places = displacement_vox[:, :, slab].clone()
    for axis, points in enumerate(places.shape[2:]):
        first = slab.start if axis == 0 else 0
        line = torch.arange(first, first + points, device=places.device, dtype=places.dtype)
        places[:, axis] += line.view([-1 if a == axis else 1 for a in range(3)])
    return places


def _cubic(coefficients: Tensor, places: Tensor, cell: Tensor) -> Tensor:
    """A cubic B-spline read at `places` [1, 3, d, h, w], whose integer parts are `cell`: [1, 1, d, h, w]."""
    t = places - cell
    weights_before = ((1 - t) ** 3 + 4 - 6 * t**2 + 3 * t**3) / 6  # of the two points at or before the place
    place_before = cell - 1 + (4 - 6 * t**2 + 3 * t**3) / (6 * weights_before)
    place_after = cell + 1 + t**3 / (6 * (1 - weights_before))
    total = torch.zeros_like(places[:, :1])
    for corner in range(8):
        after = [bool(corner >> axis & 1) for axis in range(3)]
        spots = torch.stack([(place_after if after[a] else place_before)[:, a] for a in range(3)], dim=1)
        weight = torch.ones_like(total[:, 0])
        for axis in range(3):
            weight = weight * ((1 - weights_before[:, axis]) if after[axis] else weights_before[:, axis])
        total += weight * sample(coefficients, spots, padding="zeros")
    return total


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floating-point values in an image's own type; whole numbers are rounded and cut to the type's range."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    # float32 does not hold the largest int32, and casting what is beyond it would wrap around.
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)
