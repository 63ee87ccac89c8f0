"""What a scanner does to an anatomy: where the voxels lie, how large they are, contrast, shading, noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

BRIGHTNESS = 1000
"""Stored value of white matter in an even scan."""


def scan_grid(
    anatomy: Grid, settings: ScannerSettings, head_size: float, generator: torch.Generator
) -> tuple[Grid, np.ndarray]:
    """The voxels of a scan, and where the head lies in it.

    Args:
        anatomy: the box that holds the anatomy.
        head_size: length relative to the anatomy.

    Returns:
        Grid of the scan, and 4x4 from its RAS mm to aligned space's RAS mm.
    """
    angles = torch.randn(3, generator=generator) * math.radians(settings.rotation_degrees)
    shift_mm = torch.randn(3, generator=generator).double().numpy() * settings.shift_mm
    center = anatomy.affine @ [*((n - 1) / 2 for n in anatomy.shape), 1]
    to_scan = np.eye(4)
    to_scan[:3, :3] = _rotation(angles.tolist()) * head_size
    to_scan[:3, 3] = center[:3] - to_scan[:3, :3] @ center[:3] + shift_mm

    try:
        target = nibabel.orientations.axcodes2ornt(settings.orientation)
    except (KeyError, ValueError) as error:
        raise InputError(f"The orientation is {settings.orientation!r}; expected three letters such as RAS.") from error
    extent_mm = np.array(anatomy.shape) * anatomy.spacing_mm * head_size
    shape = [math.ceil(extent / spacing) for extent, spacing in zip(extent_mm, settings.spacing_mm, strict=True)]
    axes = _rotation([math.radians(settings.oblique_degrees), 0, 0]) * settings.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = center[:3] - axes @ [(n - 1) / 2 for n in shape]
    reorder = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), target)
    affine = affine @ nibabel.orientations.inv_ornt_aff(reorder, shape)
    depth, height, width = (shape[int(np.flatnonzero(reorder[:, 0] == axis)[0])] for axis in range(3))
    return Grid((depth, height, width), affine), np.linalg.inv(to_scan)


def subgrid(grid: Grid) -> tuple[Grid, Callable[[Tensor], Tensor]]:
    """A grid of about 1 mm that divides the voxels, and the mean over each voxel of values [D, H, W] on it."""
    parts = [max(1, round(spacing)) for spacing in grid.spacing_mm]
    affine = grid.affine.copy()
    affine[:3, :3] /= parts
    affine[:3, 3] -= affine[:3, :3] @ [(n - 1) / 2 for n in parts]
    depth, height, width = (n * part for n, part in zip(grid.shape, parts, strict=True))
    return Grid((depth, height, width), affine), lambda values: F.avg_pool3d(values[None, None], parts)[0, 0]


def acquire(signal: Tensor, settings: ScannerSettings, generator: torch.Generator) -> np.ndarray:
    """Measure a signal [D, H, W], 0 in air and 1 in white matter: contrast, shading, Rician noise, whole numbers.

    Where the signal is exactly 0 the scan stays 0, as in a brain that was stripped of its skull.
    """
    gamma = math.exp(settings.contrast * float(torch.randn(1, generator=generator)))
    shading = _smooth_field(signal.shape, generator)
    real = signal.clamp(min=0) ** gamma * torch.exp(settings.shading * shading)
    real_noise = settings.noise * torch.randn(signal.shape, generator=generator)
    imaginary_noise = settings.noise * torch.randn(signal.shape, generator=generator)
    measured = torch.hypot(real + real_noise, imaginary_noise) * (signal > 0)
    return (measured * BRIGHTNESS).round().clamp(0, np.iinfo(np.int16).max).numpy().astype(np.int16)


def _smooth_field(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Long cosine waves of random size: [D, H, W], mean 0 and SD 1 over the box."""
    coefficients = torch.randn(3, 3, 3, generator=generator)
    coefficients[0, 0, 0] = 0
    field = coefficients
    for axis, points in enumerate(shape):
        phase = math.pi * (torch.arange(points) + 0.5) / points
        waves = torch.cos(phase[:, None] * torch.arange(3))
        field = torch.tensordot(waves, field, dims=([1], [axis])).movedim(0, axis)
    return field / field.std()


def _rotation(angles: list[float]) -> np.ndarray:
    """3x3, turns about the axes R, A and S, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix
