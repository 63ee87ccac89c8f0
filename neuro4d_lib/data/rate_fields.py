"""One velocity field per region, whose flow changes the log-volume of that region and of no other.

A field has mean divergence 1 in its own region and 0 in every other; sulcal CSF takes up exactly what the region gains,
so that the volume inside the skull stays. Of all such fields on the lattice the one of least energy is taken: little
divergence (a region grows evenly, its neighbors are pushed), a gentle gradient, no motion outside the skull. That is a
linear system with as many constraints as regions, solved by conjugate gradients.

The divergence is a rate, true at the start of the flow. While a region grows, its border leaves the place where the
field expands, so that large growth falls short of exp(rate * years); `flow_volumes.py` measures and corrects that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import AGGREGATES, DRIVEN, REGIONS
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.separable import along_axes
from neuro4d_lib.geometry.spaces import LATTICE, Grid

# Energies per mm3 beside the squared divergence of tissue: that of sulcal CSF (dear, or a few wide sulci would swell
# enormously), the squared gradient everywhere, and the squared velocity (mm per unit) outside the skull. Found by
# trying for the gentlest ten years of Alzheimer's disease, forwards and backwards.
_SULCI = 3.0
_GRADIENT = 1.0
_OUTSIDE_PER_MM2 = 0.2
# The constraints hold exactly whatever the tolerance; it says how near the energy comes to its least.
_TOLERANCE = 0.01

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class RateFields:
    """The velocity fields of all driven regions, and the measure of any velocity field's effect on the regions.

    Attributes:
        control: [R, 3, 32, 40, 32], control points on the lattice in reference space, mm per unit of log-volume; one
            for each of `regions.DRIVEN`, in that order.
        measure: [len(names), 3 * 32 * 40 * 32], mean divergence in a region per control point, 1/mm.
        names: what `response` lists: all regions, then the aggregates.
    """

    control: Tensor
    measure: Tensor
    names: tuple[str, ...]

    def velocity(self, rates: Tensor) -> Tensor:
        """[..., R] log-volume per year -> [..., 3, 32, 40, 32] control points, mm per year."""
        return torch.einsum("...r,rcdhw->...cdhw", rates.to(self.control), self.control)

    def response(self, control: Tensor) -> Tensor:
        """The rate at which a flow starts to change volumes.

        Args:
            control: [..., 3, 32, 40, 32], mm per year.

        Returns:
            [..., len(names)], mean divergence: log-volume per year.
        """
        return control.flatten(-4).to(self.measure) @ self.measure.T

    def save(self, path: Path) -> None:
        """Write the control points (float32, 14 MB); the rest follows from the reference."""
        save_file({"control": self.control.contiguous()}, path)

    @staticmethod
    def load(path: Path, reference: Reference) -> RateFields:
        """Read what `save` wrote, made from the same reference."""
        control = load_file(path)["control"]
        fields = RateFields(control, *measure_regions(reference))
        error = float((fields.response(control)[:, : len(DRIVEN)] - torch.eye(len(DRIVEN))).abs().max())
        if error > 0.01:
            raise InputError(f"{path} belongs to another reference anatomy. Make the rate fields of this one anew.")
        return fields


def rate_fields(reference: Reference, lattice: Grid = LATTICE) -> RateFields:
    """Solve for the fields: some ten seconds on two cores, always the same.

    With A the energy and M the measure, the field of least energy c'Ac with Mc = e is A^-1 M' (M A^-1 M')^-1 e.
    """
    measure, names = measure_regions(reference, lattice)
    constraints = measure[: len(REGIONS)]
    energy, precondition = _energy(reference, lattice)
    right_side = constraints.reshape(-1, 3, *lattice.shape)
    basis = _conjugate_gradients(energy, precondition, right_side).flatten(1).double()

    volumes = torch.from_numpy(reference.volumes_mm3)
    wanted = torch.eye(len(REGIONS), len(DRIVEN), dtype=torch.float64)
    wanted[-1] = -volumes[:-1] / volumes[-1]  # sulcal CSF loses what the region gains
    control = torch.linalg.solve(constraints.double() @ basis.T, wanted).T @ basis
    return RateFields(control.float().reshape(-1, 3, *lattice.shape), measure, names)


def measure_regions(reference: Reference, lattice: Grid = LATTICE) -> tuple[Tensor, tuple[str, ...]]:
    """Mean divergence of a spline in every region and aggregate, integrated over the voxels: [N, 3 * d * h * w]."""
    splines = [_splines(lattice, axis, _places(reference.grid, axis)) for axis in range(3)]
    labels = torch.from_numpy(reference.labels)
    integrals = []
    for region, box in zip(REGIONS, reference.boxes, strict=True):
        in_box = [(value[part], slope[part]) for (value, slope), part in zip(splines, box, strict=True)]
        integrals.append(_divergence_adjoint((labels[box] == region.index).float()[None, None], in_box))
    volumes = torch.from_numpy(reference.volumes_mm3).float()
    voxel_mm3 = float(np.prod(reference.grid.spacing_mm))
    means = torch.cat(integrals).flatten(1) * voxel_mm3 / volumes[:, None]
    shares = torch.from_numpy(np.stack([reference.aggregates[name] for name in AGGREGATES])).float()
    return torch.cat([means, shares @ means]), (*(region.name for region in REGIONS), *AGGREGATES)


def _energy(reference: Reference, lattice: Grid) -> tuple[Map, Map]:
    """The energy of a field as a linear map of its control points [B, 3, d, h, w], and an approximate inverse of it.

    Divergence is integrated on the lattice refined by 2, the motion outside the skull on the lattice itself.
    """
    fine = lattice.refined(2)
    splines = [_splines(lattice, axis, _places(fine, axis)) for axis in range(3)]
    sulci = _share(reference.labels == REGIONS[-1].index, reference.grid, fine)
    stiff = (_share(reference.mask, reference.grid, fine) + (_SULCI - 1) * sulci) * float(np.prod(fine.spacing_mm))
    outside = 1 - _share(reference.mask, reference.grid, lattice)
    held = outside * (_OUTSIDE_PER_MM2 * float(np.prod(lattice.spacing_mm)))
    knots = [_splines(lattice, axis, _places(lattice, axis))[0] for axis in range(3)]
    products = [_inner_products(lattice, axis) for axis in range(3)]
    stiffness = [[products[a][a == axis] for a in range(3)] for axis in range(3)]

    def energy(control: Tensor) -> Tensor:
        divergence = _divergence_adjoint(_divergence(control, splines) * stiff, splines)
        motion = along_axes(along_axes(control, knots) * held, [knot.T for knot in knots])
        return divergence + motion + _GRADIENT * sum(along_axes(control, matrices) for matrices in stiffness)

    waves, frequencies = zip(*(_waves(*pair) for pair in products), strict=True)
    d, h, w = frequencies
    # Half the directions of motion carry divergence in half the box, so that is what an average place costs.
    average = (0.15 + _GRADIENT) * (d[:, None, None] + h[:, None] + w) + 0.02 * _OUTSIDE_PER_MM2
    back = [wave.T for wave in waves]

    def precondition(residual: Tensor) -> Tensor:
        return along_axes(along_axes(residual, back) / average, waves)

    return energy, precondition


def _conjugate_gradients(matrix: Map, precondition: Map, right_side: Tensor, most: int = 400) -> Tensor:
    """Solve matrix(x) = right_side for every member of the batch [B, ...]; both maps are positive and symmetric."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(1, 2, 3, 4), keepdim=True)

    x, residual = torch.zeros_like(right_side), right_side.clone()
    improved = precondition(residual)
    direction = improved
    size = first_size = dot(residual, improved)
    for _ in range(most):
        image = matrix(direction)
        step = size / dot(direction, image)
        x += step * direction
        residual -= step * image
        improved = precondition(residual)
        previous, size = size, dot(residual, improved)
        if float((size / first_size).max()) < _TOLERANCE**2:
            return x
        direction = improved + size / previous * direction
    raise RuntimeError(f"The rate fields did not converge in {most} steps.")


def _divergence(control: Tensor, splines: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[B, 3, d, h, w] mm -> [B, 1, D, H, W]."""
    return torch.stack(
        [along_axes(control[:, a : a + 1], [splines[b][a == b] for b in range(3)]) for a in range(3)]
    ).sum(dim=0)


def _divergence_adjoint(weights: Tensor, splines: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The transpose of `_divergence`: [B, 1, D, H, W] -> [B, 3, d, h, w]."""
    return torch.cat([along_axes(weights, [splines[b][a == b].T for b in range(3)]) for a in range(3)], dim=1)


def _places(grid: Grid, axis: int) -> np.ndarray:
    """RAS mm of the voxels of an axis-aligned grid along one axis: [n]."""
    return grid.affine[axis, 3] + grid.spacing_mm[axis] * np.arange(grid.shape[axis])


def _share(mask: np.ndarray, mask_grid: Grid, grid: Grid) -> Tensor:
    """The share of a mask in every voxel of a coarser grid: [D, H, W], 0 to 1."""
    overlaps = []
    for axis in range(3):
        coarse, fine = _places(grid, axis)[:, None], _places(mask_grid, axis)
        size, voxel = grid.spacing_mm[axis], mask_grid.spacing_mm[axis]
        high = np.minimum(coarse + size / 2, fine + voxel / 2)
        low = np.maximum(coarse - size / 2, fine - voxel / 2)
        overlaps.append(torch.from_numpy(np.clip(high - low, 0, None) / size).float())
    return along_axes(torch.from_numpy(mask).float()[None, None], overlaps)[0, 0]


def _splines(lattice: Grid, axis: int, places_mm: np.ndarray) -> tuple[Tensor, Tensor]:
    """Value and slope (per mm) at the places of the cubic B-spline of each control point: both [len(places), n]."""
    spacing_mm = lattice.spacing_mm[axis]
    offset = (places_mm[:, None] - _places(lattice, axis)) / spacing_mm
    x = np.abs(offset)
    far = np.clip(2 - x, 0, None)
    value = np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, far**3 / 6)
    slope = np.sign(offset) * np.where(x < 1, 1.5 * x**2 - 2 * x, -(far**2) / 2) / spacing_mm
    return torch.from_numpy(value).float(), torch.from_numpy(slope).float()


def _inner_products(lattice: Grid, axis: int) -> tuple[Tensor, Tensor]:
    """Integrals over the axis of the products of two splines, and of their slopes: both [n, n], mm and 1/mm."""
    spacing_mm, per_step = lattice.spacing_mm[axis], 64
    steps = (np.arange(-2 * per_step, (lattice.shape[axis] + 1) * per_step) + 0.5) / per_step
    value, slope = _splines(lattice, axis, lattice.affine[axis, 3] + spacing_mm * steps)
    return value.T @ value * (spacing_mm / per_step), slope.T @ slope * (spacing_mm / per_step)


def _waves(mass: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor]:
    """The columns w [n, n] with w' mass w = 1 and w' stiffness w = frequencies [n], diagonal."""
    inverse_root = torch.linalg.inv(torch.linalg.cholesky(mass.double()))
    frequencies, vectors = torch.linalg.eigh(inverse_root @ stiffness.double() @ inverse_root.T)
    return (inverse_root.T @ vectors).float(), frequencies.float()
