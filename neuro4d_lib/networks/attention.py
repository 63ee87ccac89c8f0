"""Attention over all places of all visits at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuro4d_lib.networks.layers import sinusoids


class SpatioTemporalAttention(nn.Module):
    """Every place of every frame looks at every other: T*S tokens, fused attention, never a T*S x T*S matrix in memory.

    Queries and keys are normalized (arXiv:2302.05442) and know where they stand; values are not normalized, so that
    the size of an observed change passes through. Starts as the identity. The time of a frame comes with its features.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads.")
        self.heads = heads
        self.norm = nn.GroupNorm(1, channels)
        self.query_key = nn.Linear(channels, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.place = nn.Linear(48, channels)
        self.output = nn.Linear(channels, channels)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x: [B, T, C, D, H, W]; present: [B, T] bool, frames that exist. Returns the shape of x."""
        b, t, c, d, h, w = x.shape
        tokens = x.movedim(2, -1).reshape(b, t * d * h * w, c)
        normed = self.norm(x.flatten(0, 1)).reshape(x.shape).movedim(2, -1)
        normed = (normed + self.place(_places(d, h, w, x))).reshape(b, t * d * h * w, c)
        query, key = self.query_key(normed).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (query, key, self.value(tokens)))
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        mask = None
        if present is not None and not bool(present.all()):
            mask = present.repeat_interleave(d * h * w, dim=1)[:, None, None]  # [B, 1, 1, T*S]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=8.0)
        attended = self.output(attended.transpose(1, 2).reshape(b, t * d * h * w, c))
        return x + attended.reshape(b, t, d, h, w, c).movedim(-1, 2)

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, heads, N, C / heads]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()


def _places(d: int, h: int, w: int, like: Tensor) -> Tensor:
    """Where each voxel stands in the volume, 0 to 1 along each axis, as sinusoids: [D, H, W, 48]."""
    lines = [(torch.arange(n, device=like.device, dtype=torch.float32) + 0.5) / n for n in (d, h, w)]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    return sinusoids(grid, 16, longest=4.0).flatten(-2).to(like.dtype)
