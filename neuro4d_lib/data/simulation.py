"""Scans of people who do not exist: the reference anatomy in another shape, aged by a known motion.

A person is a shape (psi, from aligned to reference space) and motions in reference space. A voxel of a scan is followed
through both to its place in the reference, which is read once: nothing is resampled twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.flow_volumes import FINE, FlowVolumes, flow_vox, motion_with_log_change, on_fine, volume_ratio
from neuro4d_lib.data.lesions import Lesion, with_lesions
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.rate_fields import RateFields
from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.scanner import acquire, scan_grid, subgrid
from neuro4d_lib.geometry.deformation import compose
from neuro4d_lib.geometry.grids import sample
from neuro4d_lib.geometry.separable import along_axes
from neuro4d_lib.geometry.spaces import LATTICE, Grid, voxel_to_voxel

_SLAB_PLANES = 16

# What distinguishes the shapes of two people of equal regional volumes (assumed): SD and reach of smooth bumps.
SHAPE_SD_MM = 2.0
SHAPE_REACH_MM = 20.0


@dataclass(frozen=True, eq=False)
class Subject:
    """A simulated person. Regional values are in the order of `regions.DRIVEN`.

    Attributes:
        id: letters and digits.
        covariates: at years 0.
        state: [R], log-volumes at years 0 minus those of the reference, head size aside.
        rate: [R], log-volume per year at years 0.
        acceleration: [R], log-volume per year per year.
        visit_years: years of the scans, ascending.
        uneven: [V, R], log-volume at each scan beyond what rate and acceleration say.
        lesions: of the white matter.
        head_size: length relative to the reference.
        known: what the tables tell of the covariates; all of them where None.
    """

    id: str
    covariates: Covariates
    state: np.ndarray
    rate: np.ndarray
    acceleration: np.ndarray = field(default_factory=lambda: np.zeros(len(DRIVEN)))
    visit_years: tuple[float, ...] = (0.0,)
    lesions: tuple[Lesion, ...] = ()
    head_size: float = 1.0
    known: Covariates | None = None
    uneven: np.ndarray | None = None

    def log_change(self, years: float) -> Tensor:
        """[R], change of log-volume since years 0."""
        change = self.rate * years + self.acceleration * years**2 / 2
        if self.uneven is not None and years in self.visit_years:
            change = change + self.uneven[self.visit_years.index(years)]
        return torch.as_tensor(change, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """A scan and what is true of it.

    Attributes:
        image: as from a scanner, int16.
        labels: `Region.index` on the voxels of the image.
        lesion_mask: 1 in lesions, on the voxels of the image.
        scan_to_aligned: 4x4, RAS mm of the scan to RAS mm of aligned space.
    """

    image: Image
    labels: Image
    lesion_mask: Image
    scan_to_aligned: np.ndarray


@dataclass(frozen=True, eq=False)
class Simulator:
    """What all simulated people share."""

    reference: Reference
    fields: RateFields
    volumes: FlowVolumes

    @staticmethod
    def of(reference: Reference, fields: RateFields) -> Simulator:
        """Prepare the measurement of volumes."""
        return Simulator(reference, fields, FlowVolumes(reference))

    def shape(self, subject: Subject, generator: torch.Generator) -> Tensor:
        """The control points [3, 32, 40, 32], mm, of w in psi = exp(w), from aligned to reference space.

        Its inverse brings every region to exp(state) of its volume; beyond that, it is a random smooth shape.
        """
        bumps_mm = smooth_random_motion(self.reference, generator)
        state = torch.as_tensor(subject.state, dtype=torch.float64)
        return -motion_with_log_change(self.fields, self.volumes, state, added_mm=bumps_mm)

    def motion(self, subject: Subject, psi_mm: Tensor, years: float) -> Tensor:
        """The control points [3, 32, 40, 32], mm, of the motion from years 0 to `years`, in reference space.

        Carried to the person, it changes the person's regions by exactly what the rates ask for.
        """
        shape_ratio = volume_ratio(flow_vox(-psi_mm))
        return motion_with_log_change(self.fields, self.volumes, subject.log_change(years), shape_ratio=shape_ratio)

    def true_volumes_mm3(self, psi_mm: Tensor, motion_mm: Tensor, head_size: float = 1.0) -> Tensor:
        """[len(volumes.names)]: volumes of the regions in the head of the person, after the motion."""
        shape_ratio = volume_ratio(flow_vox(-psi_mm))
        change = self.volumes.log_change(motion_mm, shape_ratio)
        return self.volumes.integrate(shape_ratio) * change.exp() * head_size**3


def smooth_random_motion(reference: Reference, generator: torch.Generator) -> Tensor:
    """Control points [3, 32, 40, 32], mm: Gaussian bumps of SD `SHAPE_SD_MM`, fading out around the brain."""
    matrices = []
    for axis, points in enumerate(LATTICE.shape):
        distance = torch.arange(points)[:, None] - torch.arange(points)
        weights = torch.exp(-((distance * LATTICE.spacing_mm[axis] / SHAPE_REACH_MM) ** 2))
        matrices.append(weights / weights.square().sum(dim=1, keepdim=True).sqrt())
    noise = torch.randn(1, 3, *LATTICE.shape, generator=generator)
    corners = np.argwhere(reference.mask)
    near = torch.ones(LATTICE.shape)
    for axis, points in enumerate(LATTICE.shape):
        low, high = (
            reference.grid.affine[axis, 3] + edge * reference.grid.spacing_mm[axis]
            for edge in (corners[:, axis].min(), corners[:, axis].max())
        )
        places = LATTICE.affine[axis, 3] + LATTICE.spacing_mm[axis] * torch.arange(points)
        depth = torch.minimum(places - low, high - places) / SHAPE_REACH_MM + 0.5
        near = near * depth.clamp(0, 1).view([-1 if a == axis else 1 for a in range(3)])
    return SHAPE_SD_MM * (along_axes(noise, matrices) * near)[0].float()


def simulate_scan(
    reference: Reference,
    psi_mm: Tensor,
    motion_mm: Tensor,
    settings: ScannerSettings,
    generator: torch.Generator,
    *,
    years: float = 0.0,
    lesions: tuple[Lesion, ...] = (),
    head_size: float = 1.0,
) -> SimulatedScan:
    """Scan a person.

    Args:
        reference: the anatomy; `head.with_head(reference)` for a whole head.
        psi_mm: shape, control points [3, 32, 40, 32], mm.
        motion_mm: motion since years 0 in reference space, control points [3, 32, 40, 32], mm.
        years: what the lesions go by.
        head_size: length relative to the reference.
    """
    grid, scan_to_aligned = scan_grid(reference.grid, settings, head_size, generator)
    # Pull: out of aligned space through psi, then back in time.
    to_reference_vox = compose(on_fine(flow_vox(-motion_mm)), on_fine(flow_vox(psi_mm)))
    t1, lesion_mask = with_lesions(reference, lesions, years)

    fine_grid, pooled = subgrid(grid)
    clean = torch.empty(fine_grid.shape)
    for slab, places in _places_in_reference(reference.grid, fine_grid, scan_to_aligned, to_reference_vox):
        clean[slab] = sample(t1[None, None], places, padding="zeros")[0, 0]
    brain = np.empty((2, *grid.shape), np.uint8)
    drawn = torch.stack([torch.from_numpy(reference.labels).float(), lesion_mask.float()])[None]
    for slab, places in _places_in_reference(reference.grid, grid, scan_to_aligned, to_reference_vox):
        brain[:, slab] = sample(drawn, places, mode="nearest", padding="zeros")[0].numpy()

    labels = Image(brain[0], grid.affine, np.dtype(np.uint8))
    array = acquire(pooled(clean), settings, generator)
    image = Image(array, grid.affine, array.dtype)
    return SimulatedScan(image, labels, Image(brain[1], grid.affine, np.dtype(np.uint8)), scan_to_aligned)


def _places_in_reference(
    reference_grid: Grid, grid: Grid, scan_to_aligned: np.ndarray, displacement_vox: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """For slabs of a scan's grid: (slice of D, where they lie in the reference [1, 3, slab, H, W], its voxels)."""
    to_fine = torch.from_numpy(voxel_to_voxel(Grid(grid.shape, scan_to_aligned @ grid.affine), FINE)).float()
    fine_to_reference = torch.from_numpy(voxel_to_voxel(FINE, reference_grid)).float()
    for start in range(0, grid.shape[0], _SLAB_PLANES):
        slab = slice(start, min(start + _SLAB_PLANES, grid.shape[0]))
        axes = (torch.arange(slab.start, slab.stop), torch.arange(grid.shape[1]), torch.arange(grid.shape[2]))
        voxels = torch.stack(torch.meshgrid(*axes, indexing="ij")).float()
        places = _transformed(to_fine, voxels)[None]
        places = places + sample(displacement_vox, places, padding="zeros")
        yield slab, _transformed(fine_to_reference, places[0])[None]


def _transformed(matrix: Tensor, places: Tensor) -> Tensor:
    """An affine map of [3, D, H, W]."""
    return torch.einsum("ij,jdhw->idhw", matrix[:3, :3], places) + matrix[:3, 3].view(3, 1, 1, 1)
