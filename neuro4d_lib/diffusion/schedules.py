"""Noise schedules: how much signal (alpha) and noise (sigma) there is at noise time t, with alpha^2 + sigma^2 = 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]


def cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2). Pure noise at t = 1, exactly. Nichol and Dhariwal, 2021, arXiv:2102.09672.

    Args:
        t: noise time in 0..1, any shape.

    Returns:
        alpha and sigma, of the shape of t.
    """
    return torch.cos(t * math.pi / 2).clamp_min(0.0), torch.sin(t * math.pi / 2)


def linear(t: Tensor, beta_min: float = 0.1, beta_max: float = 20.0) -> tuple[Tensor, Tensor]:
    """Variance-preserving schedule whose noise rate beta grows linearly. Song et al., 2021, arXiv:2011.13456, eq. 32-33.

    A trace of the signal (alpha = 0.0066) is left at t = 1; samplers start from pure noise all the same.
    """
    alpha = torch.exp(-0.25 * t**2 * (beta_max - beta_min) - 0.5 * t * beta_min)
    return alpha, torch.sqrt((1 - alpha**2).clamp_min(0.0))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear}
