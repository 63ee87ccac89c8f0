"""The 4D U-Net: a U-Net over the three axes of space whose frames look at each other through attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuro4d_lib.networks.attention import SpatioTemporalAttention
from neuro4d_lib.networks.layers import Embedding, ResidualBlock


class FourDUNet(nn.Module):
    """[B, T, C_in, D, H, W] -> [B, T, C_out, D, H, W]; D, H, W divisible by patch * 2 ** (levels - 1).

    Frames are carried through the convolutions as one batch; attention joins them on the coarser levels. The last layer
    starts at zero, so an untrained network predicts nothing. Ronneberger et al., 2015, arXiv:1505.04597; frames as in Ho et al., 2022, arXiv:2204.03458.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition: int = 128,
        widths: tuple[int, ...] = (24, 48, 72),
        patch: int = 2,
        head_width: int = 24,
        attention_from: int = 1,
    ) -> None:
        super().__init__()
        self.noise_time = Embedding(condition, longest=4.0)
        self.activation = nn.SiLU()
        self.stem = nn.Conv3d(channels_in, widths[0], patch, stride=patch)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        self.attention_down = nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(ResidualBlock(width, width, condition))
            attends = level >= attention_from
            self.attention_down.append(
                SpatioTemporalAttention(width, max(1, width // head_width)) if attends else nn.Identity()
            )
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv3d(width, widths[level + 1], 2, stride=2))
                self.grow.append(nn.ConvTranspose3d(widths[level + 1], width, 2, stride=2))
                self.up.append(ResidualBlock(2 * width, width, condition))
        self.middle = ResidualBlock(widths[-1], widths[-1], condition)
        self.head = nn.ConvTranspose3d(widths[0], channels_out, patch, stride=patch)
        self.divisor = patch * 2 ** (len(widths) - 1)
        # Keep the input of each block alone, and compute the rest again for the gradient. Chen et al., 2016, arXiv:1604.06174.
        self.checkpointing = False
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, present: Tensor | None = None) -> Tensor:
        """Predict for all frames together.

        Args:
            x: [B, T, C_in, D, H, W].
            t: [B, T] noise time of each frame; 0 for the observed ones.
            condition: [B, T, E], from DiseaseConditioner.
            present: [B, T] bool, False for frames that only fill up the batch.
        """
        if any(size % self.divisor for size in x.shape[3:]):
            raise ValueError(f"The lattice {tuple(x.shape[3:])} must be divisible by {self.divisor} along every axis.")
        b, frames = x.shape[:2]
        embedding = self.activation(condition + self.noise_time(t)).flatten(0, 1)
        h = self.stem(x.flatten(0, 1))
        skips = []
        for level, block in enumerate(self.down):
            h = self._attend(self.attention_down[level], self._run(block, h, embedding), b, frames, present)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h)
        h = self._run(self.middle, h, embedding)
        for level in reversed(range(len(self.up))):
            h = self._run(self.up[level], torch.cat([self.grow[level](h), skips[level]], dim=1), embedding)
        return self.head(h).unflatten(0, (b, frames))

    def _attend(self, layer: nn.Module, h: Tensor, b: int, frames: int, present: Tensor | None) -> Tensor:
        if isinstance(layer, nn.Identity):
            return h
        return self._run(layer, h.unflatten(0, (b, frames)), present).flatten(0, 1)

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        return layer(*inputs)
