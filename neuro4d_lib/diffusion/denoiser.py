"""Network + schedule + prediction = an estimate of the clean sample; and the loss that trains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neuro4d_lib.diffusion import predictions
from neuro4d_lib.diffusion.schedules import Schedule

Network = Callable[[Tensor, Tensor, Any], Tensor]
"""(x_t [B, ...], t [B], condition) -> prediction of the shape of x_t."""


def _like(values: Tensor, x: Tensor) -> Tensor:
    """[B] -> [B, 1, ...], to broadcast over x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


class Denoiser:
    """Estimates the clean sample behind x_t."""

    def __init__(self, network: Network, schedule: Schedule, prediction: str = "v") -> None:
        self.network = network
        self.schedule = schedule
        self.prediction = prediction

    def __call__(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        """x_t: [B, ...]; t: [B]. Returns E[clean | x_t, condition], of the shape of x_t."""
        if self.prediction == "noise":
            t = t.clamp_max(predictions.LATEST_FOR_NOISE)
        alpha, sigma = (_like(value, x_t) for value in self.schedule(t))
        return predictions.to_clean(self.prediction, self.network(x_t, t, condition), x_t, alpha, sigma)

    def loss(
        self,
        clean: Tensor,
        condition: Any,
        generator: torch.Generator | None = None,
        weights: Tensor | float = 1.0,
    ) -> Tensor:
        """Squared error of the prediction, times `weights`, at one random noise time each: [B] (mean over all other axes).

        Noise times are stratified over the batch, which lowers the variance of the loss. Kingma et al., 2021, arXiv:2107.00630, app. I.
        """
        batch = clean.shape[0]
        offset = torch.rand((), generator=generator, device=clean.device)
        t = (torch.arange(batch, device=clean.device) / batch + offset) % 1.0
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        alpha, sigma = (_like(value, clean) for value in self.schedule(t))
        x_t = alpha * clean + sigma * noise
        error = self.network(x_t, t, condition) - predictions.target(self.prediction, clean, noise, alpha, sigma)
        return (error.square() * weights).flatten(1).mean(1)
