"""What a simulated trial is drawn from: the design, the law of the people, and how biomarkers follow from regions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.trials.design import Biomarker, TrialDesign
from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.config import SettingError, from_dict, to_dict
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.treatment import members

_NAMES = [region.name for region in DRIVEN]


@dataclass(frozen=True)
class Law:
    """Design, assumptions about people, and the volumes of the reference's driven regions [R], mm3."""

    design: TrialDesign
    config: PopulationConfig
    reference_mm3: tuple[float, ...]

    def as_json(self) -> str:
        """All of it as text, which any worker can read."""
        return json.dumps(
            {"design": to_dict(self.design), "population": to_dict(self.config), "reference_mm3": self.reference_mm3}
        )

    @staticmethod
    @lru_cache(maxsize=4)
    def from_json(text: str) -> Law:
        values = json.loads(text)
        config = from_dict(PopulationConfig, values["population"])
        return Law(from_dict(TrialDesign, values["design"]), config, tuple(values["reference_mm3"]))

    @cached_property
    def population(self) -> Population:
        return Population(self.config)

    @cached_property
    def volumes_mm3(self) -> Tensor:
        return torch.tensor(self.reference_mm3, dtype=torch.float64)

    @property
    def markers(self) -> list[str]:
        """Names of the biomarkers [Q]: those drawn from the population first, then those with a law of their own."""
        drawn, stated = self._split()
        return [*drawn, *stated]

    @property
    def stated(self) -> dict[str, Biomarker]:
        return self._split()[1]

    def _split(self) -> tuple[dict[str, Biomarker], dict[str, Biomarker]]:
        every = self.design.biomarkers
        return {n: m for n, m in every.items() if not m.stated}, {n: m for n, m in every.items() if m.stated}

    @cached_property
    def _combination(self) -> tuple[Tensor, Tensor]:
        """Which regions each sum holds [P, R], and the weight of each sum in each drawn biomarker [D, P]."""
        parts: dict[tuple[str, ...], int] = {}
        rows = []
        for name, marker in self._split()[0].items():
            rows.append([(parts.setdefault(regions, len(parts)), weight) for weight, regions in marker.combined(name)])
        weights = torch.zeros(len(rows), len(parts), dtype=torch.float64)
        for i, row in enumerate(rows):
            for part, weight in row:
                weights[i, part] += weight
        sums = [[float(name in regions) for name in _NAMES] for regions in parts]
        return torch.tensor(sums, dtype=torch.float64).reshape(len(parts), len(_NAMES)), weights

    def values(self, volumes_mm3: Tensor) -> Tensor:
        """Drawn biomarkers of regional volumes, percent of the reference (100 ln ratio): [..., R] -> [..., D]."""
        sums, weights = self._combination
        return 100 * ((volumes_mm3 @ sums.T).log() - (self.volumes_mm3 @ sums.T).log()) @ weights.T

    def grows(self, name: str) -> bool:
        """Whether a drawn biomarker rises with disease, to first order: MCI and AD against CN."""
        state = self.population.state_mean
        values = self.values(self.volumes_mm3 * torch.stack([state[0], state[2]]).exp())
        at = list(self._split()[0]).index(name)
        return bool(values[1, at] > values[0, at])


def law_of(design: TrialDesign, config: PopulationConfig | None = None) -> Law:
    """The law of a design, with the population's own assumptions where no others are given."""
    reference_mm3 = Reference.load(SHIPPED).volumes_mm3[: len(DRIVEN)]
    return Law(design, with_noise(config or PopulationConfig(), design), tuple(reference_mm3.tolist()))


def with_noise(config: PopulationConfig, design: TrialDesign) -> PopulationConfig:
    """The population with the scan error of the design."""
    factor = design.noise_factor
    own = {name: value * factor for name, value in config.scan_noise.items()}
    try:
        return replace(
            config,
            scan_noise={**own, **design.noise_percent},
            scan_noise_elsewhere=config.scan_noise_elsewhere * factor,
            shared_noise=config.shared_noise * factor,
        )
    except SettingError as error:
        raise SettingError(error.key.replace("scan_noise", "noise_percent", 1), error.problem) from None


def region_sum(name: str) -> np.ndarray:
    """[R]: 1 where a driven region is part of a region or sum."""
    return np.array([float(region in members(name)) for region in _NAMES])
