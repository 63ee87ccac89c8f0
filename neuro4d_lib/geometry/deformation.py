"""Diffeomorphisms: the flow of a velocity field, composition, inverse, and carrying a flow to another space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuro4d_lib.geometry.grids import warp
from neuro4d_lib.geometry.jacobian import derivatives

FIRST_STEP_VOX = 0.25


def exponentiate(velocity_vox: Tensor, squarings: int | None = None) -> Tensor:
    """Integrate a stationary velocity field over one unit of flow time.

    Scaling and squaring: Arsigny et al., 2006, doi:10.1007/11866565_113. The first step is a midpoint step, so its
    error falls with the square of its length. Zero velocity gives exactly zero.

    Args:
        velocity_vox: [B, 3, D, H, W], voxels per unit of flow time.
        squarings: the field is cut into 2**squarings small steps; by itself enough of them (at least 4) that none is
            longer than a quarter of a voxel.

    Returns:
        Displacement field u of phi(x) = x + u(x): [B, 3, D, H, W], voxels.
    """
    if squarings is None:
        fastest = float(velocity_vox.detach().square().sum(dim=1).max().sqrt())
        squarings = max(4, math.ceil(math.log2(max(fastest, 1e-6) / FIRST_STEP_VOX)))
    # Every squaring doubles the rounding error, so integration stays in float32 even under mixed precision.
    step_vox = velocity_vox.to(torch.promote_types(velocity_vox.dtype, torch.float32)) / 2**squarings
    displacement_vox = warp(step_vox, step_vox / 2)
    for _ in range(squarings):
        displacement_vox = compose(displacement_vox, displacement_vox)
    return displacement_vox


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The displacement of outer o inner: u(x) = inner(x) + outer(x + inner(x)).

    Args:
        outer, inner: [B, 3, D, H, W], voxels. Outside the grid, `outer` goes on as at its border.
    """
    return warp(outer, inner) + inner


def invert(displacement_vox: Tensor, tolerance_vox: float = 1e-3, iterations: int = 100) -> Tensor:
    """The displacement w of the inverse map: w(x) + u(x + w(x)) = 0 to within a tolerance.

    Fixed point of Chen et al., 2008, doi:10.1118/1.2816107. Of a flow exp(v) the inverse is exp(-v), which is faster.

    Args:
        displacement_vox: u [B, 3, D, H, W], voxels; must be invertible.
    """
    inverse = -displacement_vox
    residual, step = math.inf, 1.0
    for _ in range(iterations):
        error = compose(displacement_vox, inverse)
        previous, residual = residual, float(error.square().sum(dim=1).max().sqrt())
        if residual <= tolerance_vox:
            return inverse
        if residual > previous:  # steep maps overshoot; shorter steps still arrive
            step = max(step / 2, 1 / 16)
        inverse = inverse - step * error
    raise ValueError(f"No inverse: {residual:.3g} voxels off after {iterations} iterations. Does the map fold?")


def transport(velocity: Tensor, displacement_vox: Tensor) -> Tensor:
    """Carry a velocity field from the reference grid to the aligned grid along psi(x) = x + u(x).

    v(x) = (D psi(x))^-1 v_ref(psi(x)), so that exp(v) = psi^-1 o exp(v_ref) o psi. The inverse of psi carries back.

    Args:
        velocity: v_ref [B, 3, D, H, W] on the reference grid, any unit of length; the grid is isotropic.
        displacement_vox: u of psi [B, 3, D, H, W] on the aligned grid, voxels; the two grids have the same voxel size
            and origin. Either batch may be 1.

    Returns:
        v [B, 3, D, H, W] on the aligned grid, in the unit of `velocity`.
    """
    arrived = warp(velocity, displacement_vox)
    columns = list(derivatives(displacement_vox).unbind(dim=2))
    for axis in range(3):
        columns[axis][:, axis] += 1
    # (D psi)^-1 by Cramer's rule: the rows of the inverse are cross products of the columns.
    first, second, third = columns
    rows = [torch.linalg.cross(*pair, dim=1) for pair in ((second, third), (third, first), (first, second))]
    determinant = (first * rows[0]).sum(dim=1, keepdim=True)
    return torch.stack([(row * arrived).sum(dim=1) for row in rows], dim=1) / determinant
