"""Deformation of the scan: each frame is the scan, moved by the flow of a velocity field; no intensity is made up."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.data.flow_volumes import REFINED
from neuro4d_lib.data.image_courses import Courses, Given
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import exponentiate, transport
from neuro4d_lib.geometry.grids import identity, sample
from neuro4d_lib.representations.base import Frames, Representation
from neuro4d_lib.representations.deformation import Deformation


class DeformedScan(Representation):
    """The whitened coordinates of `Deformation`: one number per region and frame."""

    channels = 3

    def __init__(self, deformation: Deformation) -> None:
        super().__init__()
        self.deformation = deformation
        self.register_buffer("images", deformation.images)

    images: Tensor

    @staticmethod
    def of(fields: Tensor, courses: Courses) -> DeformedScan:
        """From the velocity field of each region [K, 3, 32, 40, 32]; of mean square 1 in every direction over these people."""
        rates = courses.rates.double().flatten(0, 1)
        squares = rates.T @ rates / len(rates)
        # A small share of their own squares keeps few people from spanning fewer directions than there are regions.
        squares = squares + 0.1 * torch.diag(squares.diagonal())
        no_pooling = torch.zeros(len(fields), *fields.shape[2:])
        return DeformedScan(Deformation.of(fields, squares, no_pooling))

    def encode(self, courses: Courses) -> Tensor:
        return self.deformation.from_rates(courses.rates)

    def decode(self, numbers: Tensor, given: Given) -> Frames:
        velocity_mm = self.deformation.decode(numbers)
        years = given.years.to(numbers)
        images, displacements = [], []
        for person in range(len(numbers)):
            velocity_vox = bspline.refine(velocity_mm[person], 2) / REFINED.spacing_mm[0]
            aligned_vox = transport(velocity_vox, given.shape_vox[person : person + 1])
            displacement_vox = exponentiate(-years[person].view(-1, 1, 1, 1, 1) * aligned_vox)
            images.append(warp_sharply(given.scan[person : person + 1], displacement_vox))
            displacements.append(displacement_vox)
        return Frames(torch.stack(images), torch.stack(displacements))

    def as_field(self, numbers: Tensor) -> Tensor:
        return self.deformation.as_field(numbers, self.images)

    def from_field(self, field: Tensor) -> Tensor:
        return self.deformation.from_field(field, self.images)

    def weights(self) -> Tensor:
        return torch.ones(len(self.images), device=self.images.device)


def warp_sharply(scan: Tensor, displacement_vox: Tensor) -> Tensor:
    """The scan pulled through maps, read as a cubic spline: at 2.6 mm, linear interpolation would blur it visibly.

    Args:
        scan: [1, 1, D, H, W]; displacement_vox: [T, 3, D, H, W].

    Returns:
        [T, 1, D, H, W]; without motion, the scan.
    """
    fine = bspline.refine(bspline.fit(scan), 2)
    shape = (int(scan.shape[2]), int(scan.shape[3]), int(scan.shape[4]))
    places = identity(shape, scan.device, scan.dtype) + displacement_vox
    return sample(fine, 2 * places, padding="zeros")
