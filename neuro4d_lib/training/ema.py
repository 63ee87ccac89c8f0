"""Moving average of the weights: smoother than the last step."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    """Averages over about 1 / (1 - decay) steps, fewer at the start."""

    def __init__(self, module: M, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, value in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(value.to(average.dtype), weight)
