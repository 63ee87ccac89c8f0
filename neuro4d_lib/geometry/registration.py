"""The motion between two or more images of one brain: stationary velocity fields found by registration.

Every image n has a velocity v_n, a cubic B-spline with control points on a lattice. Their sum is zero, and all images
n o exp(v_n) look like their mean: they meet in the middle. None is favored, which would bias the change that is measured
(Reuter et al., 2012, doi:10.1016/j.neuroimage.2012.02.084), and exchanging images exchanges their motions.

The images are compared with their mean, and the v_n follow by Gauss-Newton steps with its gradient (for two images,
Vercauteren et al., 2009, doi:10.1016/j.neuroimage.2008.10.040), held smooth by an energy of their third derivatives. As
all images share the gradient and the velocities sum to zero, the steps of N images are those of N - 1 orthonormal
contrasts between them, each on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import exponentiate
from neuro4d_lib.geometry.grids import warp
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.geometry.separable import along_axes
from neuro4d_lib.geometry.similarity import difference, local_difference, smooth
from neuro4d_lib.geometry.spaces import LATTICE, Grid
from neuro4d_lib.progress import Progress, part, silent

Similarity = Literal["lncc", "ssd"]

# Of a few values a decade apart or less, the best for regional volumes on one simulated pair of each kind.
REGULARIZATION: dict[Similarity, float] = {"lncc": 1e-2, "ssd": 3e-4}
# Energy of the second derivatives of the log gain, which is smooth by nature; its size is a part, not mm.
GAIN_STIFFNESS = 1.0
SMALLEST_WINDOW_VOX = 1.5
LONGEST_STEP_VOX = 1.0
SOLVER_STEPS = 12
# Steps end when the energy falls by less than this part of it.
SMALLEST_GAIN = 2e-3


@dataclass(frozen=True)
class _Level:
    """The images at one resolution, [N, 1, D, H, W] on the lattice refined by `factor`.

    Attributes:
        mask: [1, 1, D, H, W], what counts.
        mask_of: the image with which the mask moves; where None, it stays where the images meet.
    """

    images: Tensor
    mask: Tensor
    mask_of: int | None
    factor: int
    voxel_mm: float
    window_vox: float


class GroupMotion(NamedTuple):
    """What brings N images together.

    Attributes:
        motion_mm: control points [N, 3, d, h, w], mm, of v_n: images[n] o exp(v_n) are alike. Their sum is zero but for
            rounding; no flow on the finest grid used folds.
        log_gain: control points [N, 1, d, h, w]: what to multiply the images by then, as a logarithm, once each has
            variance 1 inside the mask; zero for "lncc".
    """

    motion_mm: Tensor
    log_gain: Tensor


@torch.no_grad()
def register(
    fixed: Tensor,
    moving: Tensor,
    mask: Tensor | None = None,
    *,
    lattice: Grid = LATTICE,
    initial: Tensor | None = None,
    similarity: Similarity = "lncc",
    iterations: tuple[int, ...] = (12, 8),
    regularization: float | None = None,
    window_mm: float = 6.0,
    progress: Progress = silent,
) -> Tensor:
    """The velocity field whose flow carries `moving` onto `fixed`: moving o exp(v) is like fixed.

    Args:
        fixed, moving: [1, 1, D, H, W] on the same refinement of the lattice, smoothed to their voxel size; intensities
            of any scale, near zero where there is no signal.
        mask: [1, 1, D, H, W], weights from 0 to 1 of the voxels of `fixed` that count, such as a brain mask.
        lattice: of the control points; isotropic.
        initial: control points to start from.
        similarity: "lncc" for two people, or scans of different contrast; "ssd" for scans of one person with one
            sequence, where it finds small changes better (differences of coil sensitivity are estimated with v).
        iterations: at most so many steps on the lattice refined by 1, 2, 4, ...; images may be finer than the last.
        regularization: larger is smoother; left out, what suits `similarity`.
        window_mm: standard deviation of the window of "lncc".

    Returns:
        Control points of v [3, d, h, w], mm. Its flow on the finest grid used does not fold.
    """
    whole = _whole_level((fixed, moving), mask, 0, lattice, window_mm)
    halves = None if initial is None else torch.stack([-initial / 2, initial / 2])
    control, level = _optimized_coarse_to_fine(whole, halves, similarity, iterations, regularization, progress)
    return _without_folds(control[1:, :3] - control[:1, :3], level)[0]


@torch.no_grad()
def register_group(
    images: Sequence[Tensor],
    mask: Tensor | None = None,
    *,
    lattice: Grid = LATTICE,
    similarity: Similarity = "ssd",
    iterations: tuple[int, ...] = (12, 8, 2),
    regularization: float | None = None,
    window_mm: float = 6.0,
    progress: Progress = silent,
) -> GroupMotion:
    """The velocity fields that bring images of one brain together where their motions sum to zero.

    Args:
        images: two or more [1, 1, D, H, W]; otherwise see `register`.
        mask: [1, 1, D, H, W], what counts, where the images meet.
    """
    whole = _whole_level(images, mask, None, lattice, window_mm)
    control, level = _optimized_coarse_to_fine(whole, None, similarity, iterations, regularization, progress)
    log_gain = control[:, 3:] if similarity == "ssd" else torch.zeros_like(control[:, :1])
    return GroupMotion(_without_folds(control[:, :3], level), log_gain)


def _whole_level(
    images: Sequence[Tensor], mask: Tensor | None, mask_of: int | None, lattice: Grid, window_mm: float
) -> _Level:
    first = images[0]
    factor = max((first.shape[2] - 1) // (lattice.shape[0] - 1), 1)
    expected = (1, 1, *lattice.refined(factor).shape)
    if any(image.shape != expected for image in images):
        raise InputError(
            f"The images to register have the shapes {', '.join(str(tuple(image.shape)) for image in images)}; "
            f"expected a refinement of the lattice, such as {expected}."
        )
    dtype = torch.promote_types(first.dtype, torch.float32)
    mask = torch.ones_like(first, dtype=dtype) if mask is None else mask.to(dtype)
    if not mask.any():
        raise InputError("The mask of the registration is empty. Give one that covers the brain, or none.")
    voxel_mm = lattice.spacing_mm[0] / factor
    scaled = torch.cat([_scaled(image.to(dtype), mask) for image in images])
    return _Level(scaled, mask, mask_of, factor, voxel_mm, window_mm / voxel_mm)


def _scaled(image: Tensor, mask: Tensor) -> Tensor:
    """Variance 1 inside the mask; zero stays zero."""
    mean = (image * mask).sum() / mask.sum()
    variance = ((image - mean).square() * mask).sum() / mask.sum()
    if not variance > 0:
        raise InputError("An image to register is the same everywhere inside the mask. Does it show the brain?")
    return image / variance.sqrt()


def _coarsened(level: _Level, factor: int) -> _Level:
    """The level on the lattice refined by `factor` only: smoothed, then thinned out."""
    stride = level.factor // factor
    if stride == 1:
        return level
    images, mask = (smooth(x, stride / 2, stride) for x in (level.images, level.mask))
    window_vox = max(level.window_vox / stride, SMALLEST_WINDOW_VOX)
    return _Level(images, mask, level.mask_of, factor, level.voxel_mm * stride, window_vox)


def _optimized_coarse_to_fine(
    whole: _Level,
    initial: Tensor | None,
    similarity: Similarity,
    iterations: tuple[int, ...],
    regularization: float | None,
    progress: Progress,
) -> tuple[Tensor, _Level]:
    """Control points [N, 3, d, h, w], for "ssd" [N, 4, ...] with the log gain of every image, and the finest level."""
    if 2 ** (len(iterations) - 1) > whole.factor:
        raise InputError(f"Images on the lattice refined by {whole.factor} do not have {len(iterations)} resolutions.")
    lattice_shape = ((n - 1) // whole.factor + 1 for n in whole.images.shape[2:])
    control = whole.images.new_zeros(len(whole.images), 4 if similarity == "ssd" else 3, *lattice_shape)
    if initial is not None:
        control[:, :3] = initial
    if regularization is None:
        regularization = REGULARIZATION[similarity]
    level = whole
    for number, steps in enumerate(iterations):
        level = _coarsened(whole, 2**number)
        start, end = number / len(iterations), (number + 1) / len(iterations)
        control = _optimized(control, level, steps, regularization, part(progress, start, end))
    progress(1.0, "Registering")
    return control, level


def _optimized(control: Tensor, level: _Level, steps: int, regularization: float, progress: Progress) -> Tensor:
    """Gauss-Newton steps; one that makes things worse is halved until it does not."""
    best, least_energy = control, math.inf
    stiffness = _stiffness(control, regularization)
    contrasts = _contrasts(control)
    voxels = 1 / level.factor**3  # in cells of the lattice
    for step in range(steps + 1):
        progress(step / (steps + 1), "Registering")
        residual, slope, mask = _compared(control, level)
        force = _in_waves(control, stiffness)
        energy = float((mask * residual.square()).sum() * voxels + (control * force).sum())
        if energy >= least_energy:
            control = (best + control) / 2
            continue
        gain, best, least_energy = 1 - energy / least_energy, control, energy
        if gain < SMALLEST_GAIN or step == steps:
            break
        weighted = slope * mask * voxels

        def curvature(x: Tensor, slope: Tensor = slope, weighted: Tensor = weighted) -> Tensor:
            along = (slope * bspline.refine(x, level.factor)).sum(dim=1, keepdim=True)
            return bspline.refine_adjoint(weighted * along, level.factor) + _in_waves(x, stiffness)

        target = bspline.refine_adjoint(weighted * _mixed(contrasts, residual), level.factor) - _mixed(contrasts, force)
        typical = (slope * weighted).sum(dim=(0, 2, 3, 4)).view(-1, 1, 1, 1) / (voxels * mask.sum())
        change = _mixed(contrasts.T, _conjugate_gradient(curvature, target, 1 / (typical + stiffness)))
        longest_mm = float(change[:, :3].square().sum(dim=1).max().sqrt())
        control = best + change * min(1.0, LONGEST_STEP_VOX * level.voxel_mm / max(longest_mm, 1e-12))
    return best


def _compared(control: Tensor, level: _Level) -> tuple[Tensor, Tensor, Tensor]:
    """Where the images meet: residuals [N, 1, ...], slope of all [1, 3 or 4, ...] per mm (and log gain), the mask."""
    field = bspline.refine(control, level.factor)
    warped, mask = torch.empty_like(level.images), level.mask
    for n, velocity_mm in enumerate(field[:, :3]):
        displacement_vox = exponentiate(velocity_mm[None] / level.voxel_mm)
        warped[n] = warp(level.images[n : n + 1], displacement_vox)[0]
        if n == level.mask_of:
            mask = warp(level.mask, displacement_vox)
    if control.shape[1] == 4:
        residual, slope = difference(warped, field[:, 3:])
    else:
        residual, slope = local_difference(warped, mask, level.window_vox)
    slope[:, :3] /= level.voxel_mm
    return residual, slope, mask


def _contrasts(control: Tensor) -> Tensor:
    """Orthonormal differences between N images that sum to zero (Helmert): [N - 1, N]."""
    count = len(control)
    matrix = torch.zeros(count - 1, count, dtype=control.dtype, device=control.device)
    for row in range(1, count):
        matrix[row - 1, :row] = -1 / math.sqrt(row * (row + 1))
        matrix[row - 1, row] = math.sqrt(row / (row + 1))
    return matrix


def _mixed(matrix: Tensor, fields: Tensor) -> Tensor:
    """Linear combinations of images or fields [N, ...]: [rows of the matrix, ...]."""
    return (matrix @ fields.flatten(1)).unflatten(1, fields.shape[1:])


def _without_folds(control: Tensor, level: _Level) -> Tensor:
    """The fields [N, 3, d, h, w], all smoothed just as far as it takes for no flow to fold."""
    smoothed, weight = control, 1e-3
    while any(_folds(velocity_mm, level) for velocity_mm in smoothed):
        smoothed = _in_waves(control, 1 / (1 + _stiffness(control, weight)))
        weight *= 4
    return smoothed


def _folds(velocity_mm: Tensor, level: _Level) -> bool:
    velocity_vox = bspline.refine(velocity_mm[None], level.factor) / level.voxel_mm
    return count_fold_failures(exponentiate(velocity_vox)).failed > 0


def _conjugate_gradient(apply: Callable[[Tensor], Tensor], target: Tensor, preconditioner: Tensor) -> Tensor:
    """x of apply(x) = target, nearly, for a positive definite map; `preconditioner` multiplies the sine waves."""
    x, residual = torch.zeros_like(target), target
    direction = preconditioned = _in_waves(residual, preconditioner)
    product = (residual * preconditioned).sum()
    for _ in range(SOLVER_STEPS):
        applied = apply(direction)
        length = product / (direction * applied).sum().clamp_min(1e-30)
        x, residual = x + length * direction, residual - length * applied
        preconditioned = _in_waves(residual, preconditioner)
        previous, product = product, (residual * preconditioned).sum()
        direction = preconditioned + product / previous.clamp_min(1e-30) * direction
    return x


def _stiffness(control: Tensor, regularization: float) -> Tensor:
    """What the energy weighs every sine wave of the control points with: [3 or 4, d, h, w]."""
    d, h, w = (
        2 - 2 * (math.pi / (n + 1) * torch.arange(1, n + 1, dtype=control.dtype, device=control.device)).cos()
        for n in control.shape[2:]
    )
    laplacian = d[:, None, None] + h[:, None] + w  # per squared lattice step
    motion = regularization * laplacian**3
    return torch.stack([motion] * 3 + [GAIN_STIFFNESS * laplacian**2] * (control.shape[1] - 3))


def _in_waves(control: Tensor, factors: Tensor) -> Tensor:
    """Multiply the sine waves of a field of control points, zero beyond the lattice, by `factors` [C, d, h, w]."""
    waves = [_sine_waves(n, control.dtype, control.device) for n in control.shape[2:]]
    return along_axes(along_axes(control, waves) * factors, waves)


@lru_cache(maxsize=16)
def _sine_waves(points: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal sine transform (DST-I), its own inverse: [points, points]."""
    with torch.inference_mode(False):
        index = torch.arange(1, points + 1, dtype=torch.float64, device=device)
        waves = (math.pi / (points + 1) * index[:, None] * index).sin()
        return (math.sqrt(2 / (points + 1)) * waves).to(dtype)
