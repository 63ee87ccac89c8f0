"""Classifier-free guidance, wrapped around any denoiser. Ho and Salimans, 2022, arXiv:2207.12598."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from neuro4d_lib.diffusion.samplers import CleanEstimate


class GuidedDenoiser:
    """Moves the estimate away from the one that knows less: 1 is plain, above 1 exaggerates what the condition says.

    A forecast is drawn with weight 1: any other weight gives futures that are no longer calibrated. It serves to look at what a condition does.
    """

    def __init__(self, denoiser: CleanEstimate, weight: float, without: Callable[[Any], Any]) -> None:
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.weight = weight
        self.without = without

    def __call__(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        informed = self.denoiser(x_t, t, condition)
        if self.weight == 1.0:
            return informed
        uninformed = self.denoiser(x_t, t, self.without(condition))
        return uninformed + self.weight * (informed - uninformed)
