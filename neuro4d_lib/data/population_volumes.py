"""Regional volumes of simulated people, and sums of them such as the whole brain, without images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import AGGREGATES, DRIVEN
from neuro4d_lib.errors import InputError


class PopulationVolumes:
    """The law of people in terms of volumes: of regions, and of their sums in the proportions of the reference."""

    def __init__(self, population: Population, reference: Reference) -> None:
        self.population = population
        self.reference_mm3 = torch.from_numpy(reference.volumes_mm3[: len(DRIVEN)])

    def log_volumes(
        self,
        age: np.ndarray,
        diagnosis: np.ndarray,
        years: np.ndarray,
        regions: Sequence[str],
        generator: torch.Generator,
    ) -> np.ndarray:
        """Draw people, and give their true volumes.

        Args:
            age: [N] at year 0.
            diagnosis: [N] names.
            years: [N, V] from the scan at which rates are stated; NaN where there is no visit.
            regions: [A] names of regions or of sums.

        Returns:
            [N, V, A] log of mm3, NaN where there is no visit.
        """
        covariates = self.population.draw_covariates_of(
            torch.from_numpy(np.asarray(age, dtype=np.float64)),
            torch.tensor([DIAGNOSES.index(name) for name in diagnosis.tolist()]),
            generator,
        )
        people = self.population.people_with(covariates, generator)
        times = torch.from_numpy(np.asarray(years, dtype=np.float64))
        change = self.population.mean_velocity_rates(people, times, generator) * times[..., None]
        volumes = self.reference_mm3 * (people.state[:, None] + change).exp()
        return (volumes @ self._members(regions).T).log().numpy()

    def noise_sd(self, regions: Sequence[str]) -> np.ndarray:
        """[A] SD of the error of one measured log-volume, to first order."""
        shares = self.shares(regions)
        covariance = self.population.noise_covariance()
        return torch.einsum("ar,rs,as->a", shares, covariance, shares).sqrt().numpy()

    def shares(self, regions: Sequence[str]) -> Tensor:
        """[A, R] share of every region in the volume of what was asked for, in the reference."""
        volumes = self._members(regions) * self.reference_mm3
        return volumes / volumes.sum(dim=1, keepdim=True)

    def _members(self, regions: Sequence[str]) -> Tensor:
        """[A, R]: 1 where a region is part of what was asked for."""
        driven = [region.name for region in DRIVEN]
        rows = []
        for name in regions:
            parts = AGGREGATES.get(name, (name,))
            unknown = sorted(set(parts) - set(driven))
            if unknown:
                raise InputError(
                    f"The population has no rate of {unknown[0]!r}; it has {', '.join([*AGGREGATES, *driven])}."
                )
            rows.append([float(region in parts) for region in driven])
        return torch.tensor(rows, dtype=torch.float64)
