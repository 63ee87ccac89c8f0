"""The gentlest motion that gains and loses tissue where it is told to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuro4d_lib.geometry.separable import along_axes


def velocity_with_divergence(divergence: Tensor, spacing_mm: float) -> Tensor:
    """The irrotational velocity field of a given divergence, with no flow through the border of the grid.

    v = grad phi with laplace phi = divergence - mean: of all such fields the one of least energy. The grid is closed,
    so only what is gained elsewhere can be lost, and the mean is dropped.

    The derivatives are those of the cosine series through the samples (voxel centers, even at the borders, which lie
    half a voxel outside): div v = divergence - mean holds exactly for them, and for central differences to second order
    in the voxel size. Central or one-sided differences themselves would make v checkered or shift it half a voxel.

    Args:
        divergence: [B, 1, D, H, W], fraction of volume per unit of flow time; isotropic voxels.
        spacing_mm: voxel size.

    Returns:
        [B, 3, D, H, W], mm per unit of flow time.
    """
    waves = [_cosines(n, divergence.dtype, divergence.device) for n in divergence.shape[2:]]
    d, h, w = (_frequencies(n, spacing_mm, divergence.dtype, divergence.device) for n in divergence.shape[2:])
    squared = d[:, None, None] ** 2 + h[:, None] ** 2 + w**2
    squared[0, 0, 0] = 1
    potential = -along_axes(divergence, waves) / squared
    potential[..., 0, 0, 0] = 0

    back = [wave.T for wave in waves]
    components = []
    for axis, n in enumerate(divergence.shape[2:]):
        frequency = (d, h, w)[axis]
        slope = -_sines(n, divergence.dtype, divergence.device).T * frequency
        components.append(along_axes(potential, [slope if a == axis else back[a] for a in range(3)]))
    return torch.cat(components, dim=1)


def _frequencies(points: int, spacing_mm: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """pi k / length of the cosine waves: [points], radians per mm."""
    return torch.arange(points, dtype=dtype, device=device) * (math.pi / (points * spacing_mm))


def _phases(points: int, device: torch.device) -> Tensor:
    """pi k (i + 1/2) / n for wave k at voxel i: [k, i], float64."""
    index = torch.arange(points, dtype=torch.float64, device=device)
    return math.pi / points * index[:, None] * (index + 0.5)


def _scale(points: int, device: torch.device) -> Tensor:
    """What makes the cosines orthonormal: [k, 1]."""
    scale = torch.full((points, 1), math.sqrt(2 / points), dtype=torch.float64, device=device)
    scale[0] = math.sqrt(1 / points)
    return scale


def _cosines(points: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal cosine transform (DCT-II): [k, i]."""
    return (_phases(points, device).cos() * _scale(points, device)).to(dtype)


def _sines(points: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The sine waves of the same scale, which their derivatives are made of: [k, i]."""
    return (_phases(points, device).sin() * _scale(points, device)).to(dtype)
