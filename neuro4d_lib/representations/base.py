"""The contract of a representation: what is diffused, and how it becomes motion."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Representation(Protocol):
    def encode(self, velocity_mm: Tensor) -> Tensor:
        """Velocity control points [..., 3, D, H, W] -> coordinates [..., K], white over the population."""

    def decode(self, coordinates: Tensor) -> Tensor:
        """The opposite way."""
