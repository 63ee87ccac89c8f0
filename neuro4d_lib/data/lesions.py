"""Lesions of multiple sclerosis: by what law they appear and grow, and how they darken the white matter of a T1.

A person has a rate of new lesions; lesions appear at random times at that rate, from the onset of the disease on, so
that the load of the first scan says something about what is to come. Only lesions that stay dark are modelled: the
many that fade within months are not, and none resolves. A lesion moves with the tissue around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.population_config import LesionConfig
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import REGIONS

if TYPE_CHECKING:
    from neuro4d_lib.data.simulation import Subject

_WHITE_MATTER = [region.index for region in REGIONS if region.group == "white_matter"]
_VENTRICLES = [region.index for region in REGIONS if region.group == "lateral_ventricle"]
# The region "white_matter" holds deep gray nuclei, too, that have no region of their own; in a T1 they are darker.
_LEAST_BRIGHTNESS = 0.75
_EDGE_MM = 0.5


@dataclass(frozen=True)
class Lesion:
    """A dark blob in the white matter of a T1, such as in multiple sclerosis; it moves with the tissue.

    Attributes:
        center_mm: RAS mm in reference space.
        radius_mm: when it appears.
        appears_years: from years 0; before, it is not there.
        growth_mm_per_year: of the radius.
        darkness: share of the signal that is lost at the center, 0 to 1.
        growth_years: how long it grows.
    """

    center_mm: tuple[float, float, float]
    radius_mm: float
    appears_years: float = 0.0
    growth_mm_per_year: float = 0.0
    darkness: float = 0.4
    growth_years: float = 10.0

    def radius_at(self, years: float) -> float:
        """Radius in mm, 0 where the lesion is not there."""
        if years < self.appears_years:
            return 0.0
        grown = min(years - self.appears_years, self.growth_years)
        return max(0.0, self.radius_mm + self.growth_mm_per_year * grown)


@dataclass(frozen=True, eq=False)
class LesionSites:
    """Where lesions may lie: voxels of white matter.

    Attributes:
        places_mm: [V, 3], RAS mm in reference space.
        distance_mm: [V], to the nearest voxel of a lateral ventricle.
    """

    places_mm: np.ndarray
    distance_mm: np.ndarray

    @staticmethod
    def of(reference: Reference) -> LesionSites:
        """All bright voxels of the cerebral white matter. Needs scipy, as nilearn does."""
        from scipy.ndimage import distance_transform_edt

        dry = ~np.isin(reference.labels, _VENTRICLES)
        white = np.isin(reference.labels, _WHITE_MATTER) & (reference.image > _LEAST_BRIGHTNESS)
        distance_mm = distance_transform_edt(dry, sampling=reference.grid.spacing_mm)
        voxels = np.argwhere(white)
        places_mm = voxels @ reference.grid.affine[:3, :3].T + reference.grid.affine[:3, 3]
        return LesionSites(places_mm, distance_mm[white])


def draw_lesions(
    sites: LesionSites, age: float | None, config: LesionConfig, generator: torch.Generator
) -> tuple[Lesion, ...]:
    """The lesions of a person with MS, from onset to `years_ahead`, in the order in which they appear.

    Args:
        age: at years 0; limits how long the disease can have lasted.
    """

    def uniform(count: int = 1) -> np.ndarray:
        return torch.rand(count, generator=generator, dtype=torch.float64).numpy()

    rate = config.new_per_year * _gamma(config.rate_shape, generator) / config.rate_shape
    since = -config.disease_years * math.log1p(-float(uniform()[0]))
    if age is not None:
        since = min(since, max(0.0, age - 18.0))
    expected = torch.tensor(rate * (since + config.years_ahead), dtype=torch.float64)
    count = int(torch.poisson(expected, generator=generator))
    appears = np.sort(uniform(count)) * (since + config.years_ahead) - since
    places_mm = sites.places_mm[_chosen(sites, config, uniform(count), uniform(count))]
    normal = torch.randn(count, generator=generator, dtype=torch.float64).numpy()
    radius_mm = config.radius_mm * np.exp(config.radius_log_sd * normal)
    growth = np.where(uniform(count) < config.growing_share, config.growth_mm_per_year, 0.0)
    least, most = config.darkness
    darkness = least + (most - least) * uniform(count)
    return tuple(
        Lesion(
            center_mm=(float(x), float(y), float(z)),
            radius_mm=float(radius_mm[i]),
            appears_years=float(appears[i]),
            growth_mm_per_year=float(growth[i]),
            darkness=float(darkness[i]),
            growth_years=config.growth_years,
        )
        for i, (x, y, z) in enumerate(places_mm)
    )


def subjects_with_lesions(
    subjects: Sequence[Subject], reference: Reference, config: LesionConfig, seed: int
) -> list[Subject]:
    """The same people; those with MS who have no lesions yet get them by the law. Person i is the same among any others."""
    ill = [s.covariates.diagnosis == "MS" and not s.lesions for s in subjects]
    if not any(ill):
        return list(subjects)
    sites = LesionSites.of(reference)
    made = []
    for i, (subject, needs) in enumerate(zip(subjects, ill, strict=True)):
        if needs:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + 500_009 + i)
            subject = replace(subject, lesions=draw_lesions(sites, subject.covariates.age, config, generator))
        made.append(subject)
    return made


def with_lesions(reference: Reference, lesions: tuple[Lesion, ...], years: float) -> tuple[Tensor, Tensor]:
    """T1 of the reference with lesions at a time, and where they are: both [D, H, W], float32 and bool.

    Where lesions overlap, the darkest counts.
    """
    t1, mask = torch.from_numpy(reference.image.copy()), torch.zeros(reference.grid.shape, dtype=torch.bool)
    lost = torch.zeros(reference.grid.shape)
    white = torch.from_numpy(np.isin(reference.labels, _WHITE_MATTER))
    axes = [
        reference.grid.affine[a, 3] + reference.grid.spacing_mm[a] * torch.arange(reference.grid.shape[a])
        for a in range(3)
    ]
    for lesion in lesions:
        radius_mm = lesion.radius_at(years)
        if radius_mm <= 0:
            continue
        near = tuple(_between(axes[a], lesion.center_mm[a], 2 * radius_mm + 1) for a in range(3))
        d, h, w = (axes[a][near[a]] - lesion.center_mm[a] for a in range(3))
        distance_mm = (d[:, None, None] ** 2 + h[:, None] ** 2 + w**2).sqrt().float()
        edge = torch.sigmoid((radius_mm - distance_mm) / _EDGE_MM)
        lost[near] = torch.maximum(lost[near], lesion.darkness * edge * white[near])
        mask[near] |= (distance_mm < radius_mm) & white[near]
    return t1 * (1 - lost), mask


def _gamma(shape: float, generator: torch.Generator) -> float:
    """A gamma number of scale 1: Marsaglia and Tsang, 2000, doi:10.1145/358407.358414."""

    def uniform() -> float:
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    boost = 1.0 if shape >= 1 else (1 - uniform()) ** (1 / shape)
    d = (shape if shape >= 1 else shape + 1) - 1 / 3
    while True:
        x = float(torch.randn((), generator=generator, dtype=torch.float64))
        v = (1 + x / math.sqrt(9 * d)) ** 3
        if v > 0 and math.log(1 - uniform()) < x * x / 2 + d - d * v + d * math.log(v):
            return boost * d * v


def _chosen(sites: LesionSites, config: LesionConfig, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Indices of sites [N] out of uniform numbers [N]: the first says by which law, the second where."""
    weights = np.exp(-sites.distance_mm / config.periventricular_reach_mm)
    near = np.searchsorted(np.cumsum(weights), second * weights.sum()).clip(max=len(weights) - 1)
    anywhere = np.floor(second * len(weights)).astype(int)
    return np.where(first < config.periventricular_share, near, anywhere)


def _between(axis_mm: Tensor, center_mm: float, reach_mm: float) -> slice:
    chosen = ((axis_mm - center_mm).abs() <= reach_mm).nonzero()[:, 0].tolist()
    return slice(chosen[0], chosen[-1] + 1) if chosen else slice(0, 0)
