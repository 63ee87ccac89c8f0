"""Courses of simulated people as images of 2.6 mm: quick to make, for work on what is diffused.

Unlike `simulation.py`, which writes scans, this leaves out the scanner (position, noise, shading) and the corrections
that make a region change by exactly its rate: what is true of a person is the motion that was used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro4d_lib.data.flow_volumes import REFINED, flow_vox
from neuro4d_lib.data.lesions import Lesion, LesionSites, draw_lesions, with_lesions
from neuro4d_lib.data.population import Population, covariates_of
from neuro4d_lib.data.rate_fields import RateFields
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.simulation import smooth_random_motion
from neuro4d_lib.geometry.deformation import compose
from neuro4d_lib.geometry.grids import identity, sample
from neuro4d_lib.geometry.spaces import voxel_to_voxel
from neuro4d_lib.progress import Progress, silent

IMAGE_SHAPE = REFINED.shape
"""Points of an image: those of the lattice refined by 2, in aligned space."""

VOXEL_MM3 = float(np.prod(REFINED.spacing_mm))
MEASURED = ("hippocampus", "lateral_ventricle", "white_matter")
"""Groups of regions (both sides) whose volumes are measured."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a forecast starts from, of B people.

    Attributes:
        scan: [B, 1, 63, 79, 63], the latest scan in aligned space; white matter near 1, air 0.
        shape_vox: [B, 3, 63, 79, 63], displacement of psi, from aligned to reference space, voxels.
        covariates: [B, 5], see population.COVARIATES; NaN where unknown.
        years: [B, T] from the scan.
    """

    scan: Tensor
    shape_vox: Tensor
    covariates: Tensor
    years: Tensor

    def to(self, device: torch.device) -> Given:
        return Given(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Courses:
    """What is given of N people, and what comes.

    Attributes:
        frames: [N, T, 1, 63, 79, 63], the images at `given.years`.
        rates: [N, T, R], mean change of log-volume per year up to each year, by which the motion was made.
        lesions: [N, 1 + T, 63, 79, 63], share of each voxel that is lesion, at the scan and at `given.years`.
        shares: [N, G, 63, 79, 63], share of each voxel in each of `MEASURED` at the scan.
        volumes_mm3: [N, 1 + T, G], their true volumes at the scan and at `given.years`.
    """

    given: Given
    frames: Tensor
    rates: Tensor
    lesions: Tensor
    shares: Tensor
    volumes_mm3: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def chosen(self, people: Tensor | list[int]) -> Courses:
        """Some of the people, in single precision (many are kept in half)."""
        given = Given(*(getattr(self.given, name)[people] for name in self.given.__dataclass_fields__))
        given = Given(given.scan.float(), given.shape_vox.float(), given.covariates.float(), given.years.float())
        others = (self.frames, self.rates, self.lesions, self.shares, self.volumes_mm3)
        return Courses(given, *(values[people].float() for values in others))

    def to(self, device: torch.device) -> Courses:
        others = (self.frames, self.rates, self.lesions, self.shares, self.volumes_mm3)
        return Courses(self.given.to(device), *(values.to(device) for values in others))


class CourseSimulator:
    """Draws people and makes their images."""

    def __init__(self, reference: Reference, fields: RateFields, population: Population) -> None:
        self.reference, self.fields, self.population = reference, fields, population
        self.law = population.config.lesions
        self.sites = LesionSites.of(reference)
        matrix = torch.from_numpy(voxel_to_voxel(REFINED, reference.grid)).float()
        self._to_voxels = matrix
        self._healthy = _blurred(torch.from_numpy(reference.image))
        labels = torch.from_numpy(reference.labels)
        groups = [[region.index for region in DRIVEN if region.group == group] for group in MEASURED]
        inside = [torch.isin(labels, torch.tensor(indices, dtype=labels.dtype)) for indices in groups]
        self._shares = torch.stack([_blurred(mask.float()) for mask in inside])[None]

    def simulate(self, years: Tensor, generator: torch.Generator, progress: Progress = silent) -> Courses:
        """One person for each row of `years` [N, T], ascending and positive."""
        people = self.population.draw(len(years), generator)
        course = people.rate[:, None] + people.acceleration[:, None] * years[..., None].double() / 2
        count, frames = years.shape
        half = torch.float16
        scan = torch.empty(count, 1, *IMAGE_SHAPE, dtype=half)
        shape_vox = torch.empty(count, 3, *IMAGE_SHAPE, dtype=half)
        images = torch.empty(count, frames, 1, *IMAGE_SHAPE, dtype=half)
        lesions = torch.zeros(count, 1 + frames, *IMAGE_SHAPE, dtype=half)
        shares = torch.empty(count, len(MEASURED), *IMAGE_SHAPE, dtype=half)
        volumes_mm3 = torch.empty(count, 1 + frames, len(MEASURED))
        for i in range(count):
            progress(i / count, f"Simulating person {i + 1} of {count}")
            known = covariates_of(people.covariates[i])
            drawn: tuple[Lesion, ...] = ()
            if known.diagnosis == "MS":
                drawn = draw_lesions(self.sites, known.age, self.law, generator)
            psi_vox = self._shape(people.state[i], generator)
            shape_vox[i] = psi_vox[0]
            scan[i], lesions[i, 0] = self._image(psi_vox, drawn, 0.0)
            here = sample(self._shares, self._places(psi_vox), padding="zeros")[0]
            shares[i], volumes_mm3[i, 0] = here, here.sum(dim=(1, 2, 3)) * VOXEL_MM3
            for j in range(frames):
                year = float(years[i, j])
                back_vox = flow_vox(-self.fields.velocity(course[i, j].float() * year))
                places_vox = compose(back_vox, psi_vox)
                images[i, j], lesions[i, 1 + j] = self._image(places_vox, drawn, year)
                there = sample(self._shares, self._places(places_vox), padding="zeros")[0]
                volumes_mm3[i, 1 + j] = there.sum(dim=(1, 2, 3)) * VOXEL_MM3
        given = Given(scan, shape_vox, people.covariates, years)
        return Courses(given, images, course, lesions, shares, volumes_mm3)

    def _shape(self, state: Tensor, generator: torch.Generator) -> Tensor:
        """The displacement of psi [1, 3, 63, 79, 63] of a person with about this state, beyond that a random one."""
        bumps_mm = smooth_random_motion(self.reference, generator)
        left = state.float() - self.fields.response(bumps_mm)[: len(DRIVEN)]
        return flow_vox(-(bumps_mm + self.fields.velocity(left)))

    def _image(self, to_reference_vox: Tensor, lesions: tuple[Lesion, ...], years: float) -> tuple[Tensor, Tensor]:
        """Image [1, 63, 79, 63] and share of lesion [63, 79, 63] of a person whose every place came from there."""
        places = self._places(to_reference_vox)
        if not any(lesion.radius_at(years) > 0 for lesion in lesions):
            return sample(self._healthy[None, None], places, padding="zeros")[0], torch.zeros(IMAGE_SHAPE)
        t1, mask = with_lesions(self.reference, lesions, years)
        pair = torch.stack([_blurred(t1), _blurred(mask.float())])[None]
        image, share = sample(pair, places, padding="zeros")[0]
        return image[None], share

    def _places(self, displacement_vox: Tensor) -> Tensor:
        """Where the points of an image lie in the reference [1, 3, 63, 79, 63], its voxels."""
        places = (identity(IMAGE_SHAPE) + displacement_vox)[0]
        matrix = self._to_voxels
        return (torch.einsum("ij,jdhw->idhw", matrix[:3, :3], places) + matrix[:3, 3].view(3, 1, 1, 1))[None]


def irregular_years(people: int, frames: int, generator: torch.Generator, longest: float = 5.0) -> Tensor:
    """Times from half a year on, ascending, at least half a year apart: [people, frames]."""
    span = longest - 0.5 * frames
    times = (torch.rand(people, frames, generator=generator) * span).sort(dim=1).values
    return times + 0.5 * torch.from_numpy(np.arange(1, frames + 1)).float()


def _blurred(values: Tensor) -> Tensor:
    """Means over cubes of 3 mm, about a voxel of the images: [D, H, W]."""
    return F.avg_pool3d(values[None, None], 3, 1, 1)[0, 0]
