"""Deformation plus what it leaves of intensity, such as a lesion that appears."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro4d_lib.data.image_courses import Courses, Given
from neuro4d_lib.representations.base import Frames, Representation
from neuro4d_lib.representations.deformed_scan import DeformedScan
from neuro4d_lib.representations.intensity import Intensity, mean_size


class DeformationResidual(Representation):
    """The numbers of the deformation, then one per voxel of frame minus deformed scan, per year."""

    def __init__(self, motion: DeformedScan, residual: Intensity) -> None:
        super().__init__()
        self.motion, self.residual = motion, residual
        self.channels = motion.channels + residual.channels
        self.modes = len(motion.weights())

    @staticmethod
    def of(fields: Tensor, courses: Courses) -> DeformationResidual:
        """From the velocity field of each region, and what the deformation leaves in these people (16 will do)."""
        motion = DeformedScan.of(fields, courses)
        alone = (courses.chosen([i]) for i in range(min(16, len(courses))))
        left = ((one.frames - motion.decode(motion.encode(one), one.given).images, one.given) for one in alone)
        return DeformationResidual(motion, Intensity(mean_size(left)))

    def encode(self, courses: Courses) -> Tensor:
        coordinates = self.motion.encode(courses)
        moved = self.motion.decode(coordinates, courses.given).images
        return torch.cat([coordinates, self.residual.encode_change(courses.frames - moved, courses.given)], dim=2)

    def decode(self, numbers: Tensor, given: Given) -> Frames:
        moved = self.motion.decode(numbers[..., : self.modes], given)
        change = self.residual.decode_change(numbers[..., self.modes :], given)
        return Frames(moved.images + change, moved.displacement_vox)

    def as_field(self, numbers: Tensor) -> Tensor:
        motion = self.motion.as_field(numbers[..., : self.modes])
        return torch.cat([motion, self.residual.as_field(numbers[..., self.modes :])], dim=2)

    def from_field(self, field: Tensor) -> Tensor:
        motion = self.motion.from_field(field[:, :, : self.motion.channels])
        return torch.cat([motion, self.residual.from_field(field[:, :, self.motion.channels :])], dim=2)

    def weights(self) -> Tensor:
        """Both parts count as much as each would alone."""
        parts = (self.motion.weights(), self.residual.weights())
        total = sum(len(part) for part in parts)
        return torch.cat([part * (total / (2 * len(part))) for part in parts])
