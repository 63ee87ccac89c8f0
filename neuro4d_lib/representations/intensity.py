"""Plain intensity: each voxel of a frame is predicted, and nothing moves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from neuro4d_lib.data.image_courses import IMAGE_SHAPE, Courses, Given
from neuro4d_lib.representations.base import (
    Frames,
    Representation,
    channels_to_space,
    root_mean_square,
    space_to_channels,
)

_AIR = 0.05


class Intensity(Representation):
    """Change of intensity since the scan, per year; one number per voxel.

    What is uncertain of a change, such as how fast a person declines, is spread over 100,000 voxels, so that noise as
    large as the change of a voxel would not hide it. The numbers are therefore made small: `size` is their RMS inside
    the brain.
    """

    channels = 8
    size = 0.01
    change_per_year: Tensor

    def __init__(self, change_per_year: float = 1.0) -> None:
        """change_per_year: RMS of the change of intensity inside the brain."""
        super().__init__()
        self.register_buffer("change_per_year", torch.tensor(float(change_per_year)))

    @staticmethod
    def of(courses: Courses) -> Intensity:
        """With the size of change of these people."""
        alone = (courses.chosen([i]) for i in range(len(courses)))
        return Intensity(mean_size((one.frames - one.given.scan[:, None], one.given) for one in alone))

    def encode(self, courses: Courses) -> Tensor:
        return self.encode_change(courses.frames - courses.given.scan[:, None], courses.given)

    def decode(self, numbers: Tensor, given: Given) -> Frames:
        return Frames(given.scan[:, None] + self.decode_change(numbers, given))

    def encode_change(self, change: Tensor, given: Given) -> Tensor:
        """Any change of intensity [B, T, 1, 63, 79, 63] -> [B, T, N]."""
        return change.flatten(2) / given.years[..., None].to(change) * (self.size / self.change_per_year)

    def decode_change(self, numbers: Tensor, given: Given) -> Tensor:
        """The opposite way."""
        change = numbers * given.years[..., None].to(numbers) * (self.change_per_year / self.size)
        return change.unflatten(2, (1, *IMAGE_SHAPE))

    def as_field(self, numbers: Tensor) -> Tensor:
        return space_to_channels(numbers.unflatten(2, (1, *IMAGE_SHAPE)))

    def from_field(self, field: Tensor) -> Tensor:
        return channels_to_space(field).flatten(2) * self.size

    def weights(self) -> Tensor:
        count = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
        return self.change_per_year.new_full((count,), 1 / self.size**2)


def mean_size(changes: Iterable[tuple[Tensor, Given]]) -> float:
    """RMS inside the brain of changes since the scan, per year: of (change [1, T, 1, 63, 79, 63], given), person by person."""
    squares = []
    for change, given in changes:
        inside = given.scan[0] > _AIR
        per_year = change[0] / given.years[0].view(-1, 1, 1, 1, 1).to(change)
        squares.append(root_mean_square(per_year[:, inside]) ** 2)
    return (sum(squares) / len(squares)) ** 0.5
