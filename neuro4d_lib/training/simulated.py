"""Training batches of simulated people, in coordinates: nothing is read and nothing is registered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.data.population import Population
from neuro4d_lib.representations.deformation import Deformation


@dataclass(frozen=True, eq=False)
class Batch:
    """B people with O observed and F future frames; see model.Condition."""

    covariates: Tensor
    anatomy: Tensor
    years: Tensor
    seen: Tensor
    future: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class SimulatedBatches:
    """Fresh people in every batch.

    The log-volume map of a person is spread smoothly over each region, so that its mean over every region is what the
    population says that a scan shows of it.
    """

    def __init__(self, population: Population, deformation: Deformation, state_maps: Tensor) -> None:
        """state_maps: [K, D, H, W], smooth, one per region."""
        self.population = population
        self.deformation = deformation
        response = deformation.pooling.flatten(1).double() @ state_maps.flatten(1).double().T
        self.state_maps = torch.linalg.solve(response.T, state_maps.flatten(1).double()).float()

    def draw(self, size: int, observed: int, future: int, generator: torch.Generator, all_known: float = 0.0) -> Batch:
        """`observed` earlier visits up to 8 years back, `future` years up to 10 ahead, in order of time.

        A share `all_known` of the people, the first ones, keep every covariate; of the others some are hidden.
        """
        people = self.population.draw(size, generator)
        past = -_times(size, observed, 8.0, generator).flip(1)
        ahead = _times(size, future, 10.0, generator)
        years = torch.cat([past, ahead], dim=1)
        rates = self.population.mean_velocity_rates(people, years, generator)
        latest = self.population.scan_error((size, 1), generator)
        earlier = self.population.scan_error((size, observed), generator)
        measured = rates[:, :observed] + (earlier - latest) / past[..., None]
        deformation = self.deformation
        covariates = self.population.hide(people.covariates, generator)
        whole = round(all_known * size)
        covariates[:whole] = people.covariates[:whole]
        return Batch(
            covariates=covariates,
            anatomy=self.anatomy(people.seen_state),
            years=years,
            seen=deformation.from_rates(measured),
            future=deformation.from_rates(rates[:, observed:]),
        )

    def anatomy(self, seen_state: Tensor) -> Tensor:
        """[B, K] log-volumes -> [B, 1, D, H, W]."""
        return (seen_state.float() @ self.state_maps).reshape(-1, 1, *self.deformation.pooling.shape[1:])


def _times(size: int, count: int, longest: float, generator: torch.Generator) -> Tensor:
    """Irregular times from 0.25 years on, ascending, at least 0.25 apart: [B, count]."""
    span = longest - 0.25 * count
    times = (torch.rand(size, count, generator=generator, dtype=torch.float64) ** 1.3 * span).sort(dim=1).values
    return times + 0.25 * torch.arange(1, count + 1, dtype=torch.float64)
