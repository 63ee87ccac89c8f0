"""The small parts of the networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(values: Tensor, width: int, longest: float) -> Tensor:
    """Sines and cosines of geometrically spaced wavelengths up to `longest`. Vaswani et al., 2017, arXiv:1706.03762.

    Args:
        values: [...].

    Returns:
        [..., width].
    """
    exponents = torch.arange(width // 2, device=values.device, dtype=values.dtype) / max(width // 2 - 1, 1)
    angles = values[..., None] * (2 * math.pi / longest) * 64**exponents
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class Embedding(nn.Module):
    """A number, such as noise time or years, as a vector: [...] -> [..., width]."""

    def __init__(self, width: int, longest: float) -> None:
        super().__init__()
        self.width, self.longest = width, longest
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(sinusoids(values, self.width, self.longest))


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions around a scale and shift by the condition; starts as the identity. He et al., 2015.

    Works on frames: [B*T, C, D, H, W] with a condition [B*T, E].
    """

    def __init__(self, channels_in: int, channels_out: int, condition: int, groups: int = 8) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, channels_in)
        self.conv_in = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * channels_out)
        self.norm_out = nn.GroupNorm(groups, channels_out)
        self.conv_out = nn.Conv3d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_in(nn.functional.silu(self.norm_in(x)))
        scale, shift = self.modulation(condition)[..., None, None, None].chunk(2, dim=1)
        h = self.conv_out(nn.functional.silu(self.norm_out(h) * (1 + scale) + shift))
        return self.shortcut(x) + h
