"""Deformation of the latest scan: mean velocities as whitened combinations of one velocity field per region."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Deformation(nn.Module):
    """K coordinates that are white over the population.

    rates = whitening @ coordinates are log-volume rates of the driven regions, velocity = rates @ fields. `images` are
    the same coordinates as fields of equal size, orthogonal to each other: what the network sees and predicts, so
    that a small region counts as much as a large one.
    """

    fields: Tensor
    whitening: Tensor
    mixing: Tensor
    pooling: Tensor

    def __init__(self, modes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("fields", torch.zeros(modes, 3, *shape))
        self.register_buffer("whitening", torch.eye(modes))
        self.register_buffer("mixing", torch.eye(modes))
        # Follows from the reference anatomy, so it is not stored with the weights.
        self.register_buffer("pooling", torch.zeros(modes, *shape), persistent=False)
        self.measure: Tensor | None = None

    @staticmethod
    def of(fields: Tensor, rate_covariance: Tensor, pooling: Tensor) -> Deformation:
        """From the velocity field of each region [K, 3, D, H, W], the covariance of the rates [K, K] and region shares [K, D, H, W]."""
        made = Deformation(fields.shape[0], tuple(fields.shape[2:]))  # type: ignore[arg-type]
        made.fields.copy_(fields)
        made.whitening.copy_(_root(rate_covariance.double()))
        velocities = made.whitening.double().T @ fields.double().flatten(1)
        # Symmetric orthogonalization keeps each image as close as can be to its own field. Lowdin, 1950, doi:10.1063/1.1747632.
        gram = velocities @ velocities.T
        size = (fields[0].numel() / fields.shape[0]) ** 0.5
        made.mixing.copy_(size * torch.linalg.inv(_root(gram)) @ made.whitening.double().T)
        made.pooling.copy_(pooling)
        return made

    @property
    def images(self) -> Tensor:
        """[K, 3 * D * H * W], orthogonal, such that K standard normal coordinates give a field of RMS 1."""
        return self.mixing @ self.fields.flatten(1)

    def as_field(self, coordinates: Tensor, images: Tensor) -> Tensor:
        """[..., K] -> [..., 3, D, H, W]."""
        return (coordinates @ images).unflatten(-1, self.fields.shape[1:])

    def from_field(self, field: Tensor, images: Tensor) -> Tensor:
        """The inverse of `as_field` on its range: [..., 3, D, H, W] -> [..., K]."""
        return field.flatten(-4) @ images.T * (len(images) / images.shape[1])

    def decode(self, coordinates: Tensor) -> Tensor:
        """[..., K] -> velocity control points [..., 3, D, H, W], mm per year."""
        return (self.rates(coordinates) @ self.fields.flatten(1)).unflatten(-1, self.fields.shape[1:])

    def encode(self, velocity_mm: Tensor) -> Tensor:
        """Velocity control points -> [..., K], through the rate at which each region starts to change."""
        if self.measure is None:
            raise ValueError("Set `measure` [K, 3*D*H*W], the mean divergence of a spline in each region, to encode.")
        return self.from_rates(velocity_mm.flatten(-4) @ self.measure.to(velocity_mm).T)

    def rates(self, coordinates: Tensor) -> Tensor:
        """[..., K] -> log-volume rates of the driven regions, per year [..., K]."""
        return coordinates @ self.whitening.T

    def from_rates(self, rates: Tensor) -> Tensor:
        """The opposite way."""
        return torch.linalg.solve(self.whitening.to(rates), rates[..., None])[..., 0]

    def state(self, anatomy: Tensor) -> Tensor:
        """Log-volume of each region against the reference, in units of a tenth: [B, 1, D, H, W] -> [B, K], within +-10."""
        return (10 * anatomy.flatten(1) @ self.pooling.flatten(1).T).clamp(-10, 10)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T
