"""What is known of a course before the network looks: a linear-Gaussian law by diagnosis, in closed form.

Mean velocity at years tau = rate + acceleration * tau / 2 + uneven course; an observed visit adds the errors of its scan and
of the latest one, divided by tau. Rate and acceleration are normal given diagnosis, around a mean that is linear in
covariates and in what the scan shows. Conditioned on the observed visits this is a mixed-effects forecast (Laird and Ware, 1982,
doi:10.2307/2529876); the diffusion runs in coordinates in which it is standard normal, so that the noise has the data's own covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro4d_lib.networks.covariates import diagnosis_index, standardized


@dataclass(frozen=True, eq=False)
class Posterior:
    """The law of the future frames, given everything observed.

    Attributes:
        mean: [B, F, K]; root: [B, F * K, F * K] lower triangular, root root' = covariance.
        innovations: [B, O, K], the observed frames in standard normal coordinates.
    """

    mean: Tensor
    root: Tensor
    innovations: Tensor

    def from_standard(self, z: Tensor) -> Tensor:
        """Standard normal coordinates [B, F, K] -> mean velocities [B, F, K]."""
        return self.mean + (self.root @ z.flatten(1)[..., None])[..., 0].reshape(z.shape)

    def to_standard(self, x: Tensor) -> Tensor:
        """The opposite way."""
        difference = (x - self.mean).flatten(1)[..., None]
        return torch.linalg.solve_triangular(self.root, difference, upper=False)[..., 0].reshape(x.shape)


class GaussianPrior(nn.Module):
    """Coordinates: K modes, whitened over the whole population. See the module's text."""

    group_rate: Tensor

    def __init__(self, modes: int, diagnoses: int = 5) -> None:
        super().__init__()
        self.modes, self.diagnoses = modes, diagnoses
        classes, features = diagnoses + 1, 9 + modes
        self.rate = nn.Parameter(torch.zeros(classes, features, modes))
        self.acceleration = nn.Parameter(torch.zeros(classes, modes))
        self.rate_root = nn.Parameter(torch.eye(modes).repeat(classes, 1, 1))
        self.acceleration_root = nn.Parameter(0.1 * torch.eye(modes).repeat(classes, 1, 1))
        self.noise_root = nn.Parameter(torch.eye(modes))
        self.log_unevenness = nn.Parameter(torch.full((classes,), -3.0))
        self.register_buffer("group_rate", torch.zeros(classes, 2, modes))

    def features(self, covariates: Tensor, state: Tensor) -> Tensor:
        """[B, 5], [B, K] -> [B, 9 + K]: one, the four numbers, which of them are unknown, what the scan shows."""
        values, known = standardized(covariates)
        one = torch.ones_like(values[:, :1])
        return torch.cat([one, values, (~known).to(values.dtype), state], dim=1)

    def joint(self, covariates: Tensor, state: Tensor, years: Tensor, observed: int) -> tuple[Tensor, Tensor]:
        """Mean [B, T, K] and covariance [B, T*K, T*K] of the mean velocities at `years` [B, T]; the first `observed` are measured."""
        b, frames = years.shape
        d = diagnosis_index(covariates, self.diagnoses)
        mean_rate = torch.einsum("bf,bfk->bk", self.features(covariates, state), self.rate[d])
        mean = mean_rate[:, None] + self.acceleration[d][:, None] * years[..., None] / 2
        rate = _square(self.rate_root)[d]
        acceleration, noise = _square(self.acceleration_root)[d], _square(self.noise_root)
        eye = torch.eye(frames, device=years.device, dtype=years.dtype)
        measured = (torch.arange(frames, device=years.device) < observed).to(years.dtype)
        inverse = measured / years
        scans = inverse[:, :, None] * inverse[:, None] * (1 + eye)
        uneven = torch.exp(2 * self.log_unevenness)[d]
        covariance = kron(1 + uneven[:, None, None] * eye, rate)
        covariance = covariance + kron(years[:, :, None] * years[:, None] / 4, acceleration)
        covariance = covariance + kron(scans, noise.expand(b, -1, -1))
        return mean, covariance

    def posterior(self, covariates: Tensor, state: Tensor, years: Tensor, seen: Tensor) -> Posterior:
        """Condition on the observed frames.

        Args:
            covariates: [B, 5], NaN where unknown.
            state: [B, K], what the latest scan shows.
            years: [B, O + F], observed frames first.
            seen: [B, O, K], their mean velocities.
        """
        return conditioned(*self.joint(covariates, state, years, seen.shape[1]), seen)

    def negative_log_likelihood(
        self, covariates: Tensor, state: Tensor, years: Tensor, seen: Tensor, future: Tensor
    ) -> Tensor:
        """Of observed and future frames together, per number: []. Minimizing it fits the law."""
        mean, covariance = self.joint(covariates, state, years, seen.shape[1])
        root = torch.linalg.cholesky(covariance)
        difference = (torch.cat([seen, future], dim=1) - mean).flatten(1)[..., None]
        z = torch.linalg.solve_triangular(root, difference, upper=False)[..., 0]
        return (z.square() / 2 + root.diagonal(dim1=1, dim2=2).log()).mean()

    def group(self, covariates: Tensor) -> Tensor:
        """Mean rate of people of this diagnosis and age, the simple forecast: [B, 5] -> [B, K]."""
        age = standardized(covariates)[0][:, :1]
        d = diagnosis_index(covariates, self.diagnoses)
        return self.group_rate[d, 0] + self.group_rate[d, 1] * age


def conditioned(mean: Tensor, covariance: Tensor, seen: Tensor) -> Posterior:
    """The law of the last frames of a Gaussian [B, T, K] with covariance [B, T*K, T*K], given the first: seen [B, O, K]."""
    b, observed, modes = seen.shape
    split = observed * modes
    root = torch.linalg.cholesky(covariance)
    if not observed:
        return Posterior(mean, root, seen)
    # Blocks of the joint root: the lower right one is the root of what is left unknown (Schur complement).
    innovations = torch.linalg.solve_triangular(
        root[:, :split, :split], (seen - mean[:, :observed]).flatten(1)[..., None], upper=False
    )
    moved = (root[:, split:, :split] @ innovations)[..., 0].reshape(b, -1, modes)
    return Posterior(mean[:, observed:] + moved, root[:, split:, split:], innovations[..., 0].reshape(seen.shape))


def _square(root: Tensor) -> Tensor:
    lower = torch.tril(root)
    return lower @ lower.mT


def kron(frames: Tensor, modes: Tensor) -> Tensor:
    """[B, T, T], [B, K, K] -> [B, T*K, T*K]."""
    b, t, k = frames.shape[0], frames.shape[1], modes.shape[1]
    return torch.einsum("bij,bkl->bikjl", frames, modes).reshape(b, t * k, t * k)
