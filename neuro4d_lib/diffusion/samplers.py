"""From noise to a sample: one step() each, one loop for all.

A denoiser is any callable (x_t [B, ...], t [B], condition) -> clean estimate that has a `schedule`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from neuro4d_lib.diffusion.schedules import Schedule
from neuro4d_lib.progress import Progress, silent


class CleanEstimate(Protocol):
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor: ...


class Sampler:
    """Walks the noise time from 1 to 0 in equal steps; a subclass says how one step is made."""

    calls_per_step = 1

    def __init__(self, denoiser: CleanEstimate) -> None:
        self.denoiser = denoiser

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, condition: Any, generator: torch.Generator | None) -> Tensor:
        """From x at noise time t ([]) to x at the earlier noise time s ([])."""
        raise NotImplementedError

    def sample(
        self,
        noise: Tensor,
        condition: Any,
        steps: int,
        generator: torch.Generator | None = None,
        progress: Progress = silent,
    ) -> Tensor:
        """noise: [B, ...], standard normal. Returns a sample of the same shape."""
        times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64).to(noise)
        x = noise
        for i in range(steps):
            x = self.step(x, times[i], times[i + 1], condition, generator)
            progress((i + 1) / steps, "Denoising")
        return x

    def network_calls(self, steps: int) -> int:
        """How often the network is evaluated for one sample."""
        return self.calls_per_step * steps

    def _clean(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        return self.denoiser(x_t, t.expand(x_t.shape[0]), condition)


class DDIMSampler(Sampler):
    """Deterministic: the same noise gives the same sample. Song et al., 2021, arXiv:2010.02502, eq. 12 with no added noise."""

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, condition: Any, generator: torch.Generator | None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.denoiser.schedule(t), self.denoiser.schedule(s)
        clean = self._clean(x_t, t, condition)
        return alpha_s * clean + sigma_s * (x_t - alpha_t * clean) / sigma_t


class DDPMSampler(Sampler):
    """Ancestral: fresh noise in every step. Ho et al., 2020, arXiv:2006.11239, eq. 6-7, for any pair of noise times."""

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, condition: Any, generator: torch.Generator | None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.denoiser.schedule(t), self.denoiser.schedule(s)
        clean = self._clean(x_t, t, condition)
        decay = alpha_t / alpha_s
        variance = sigma_t**2 - decay**2 * sigma_s**2
        mean = decay * sigma_s**2 / sigma_t**2 * x_t + alpha_s * variance / sigma_t**2 * clean
        fresh = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
        return mean + (variance.clamp_min(0.0).sqrt() * sigma_s / sigma_t) * fresh


class HeunSampler(Sampler):
    """Second order: two network calls a step, one in the last. Karras et al., 2022, arXiv:2206.00364, algorithm 1.

    The probability-flow path is followed in the angle theta = atan2(sigma, alpha), along which d x / d theta = v. Where the
    population is standard normal v is 0, so any number of steps gives it exactly; DDIM turns x by its angle and would shrink it.
    """

    calls_per_step = 2

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, condition: Any, generator: torch.Generator | None) -> Tensor:
        theta_t, theta_s = (torch.atan2(sigma, alpha) for alpha, sigma in map(self.denoiser.schedule, (t, s)))
        v_t = self._v(x_t, t, theta_t, condition)
        euler = x_t + (theta_s - theta_t) * v_t
        if s <= 0:
            return euler
        return x_t + (theta_s - theta_t) * (v_t + self._v(euler, s, theta_s, condition)) / 2

    def network_calls(self, steps: int) -> int:
        return 2 * steps - 1

    def _v(self, x: Tensor, t: Tensor, theta: Tensor, condition: Any) -> Tensor:
        return (torch.cos(theta) * x - self._clean(x, t, condition)) / torch.sin(theta)


SAMPLERS: dict[str, type[Sampler]] = {"ddim": DDIMSampler, "ddpm": DDPMSampler, "heun": HeunSampler}
