"""The contract of a representation: what is diffused, and how it becomes images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro4d_lib.data.image_courses import Courses, Given


@dataclass(frozen=True, eq=False)
class Frames:
    """A course as images, and the map that made them where there is one.

    Attributes:
        images: [B, T, 1, D, H, W] in aligned space.
        displacement_vox: [B, T, 3, D, H, W], of the pull map into the scan, voxels; None where nothing is moved.
    """

    images: Tensor
    displacement_vox: Tensor | None = None


class Representation(nn.Module):
    """Turns the frames of a course into N numbers each, which are diffused, and back.

    Noise of SD 1 is added to the numbers. Their size says how early it hides them: see `Intensity.size`.

    Attributes:
        channels: of a frame, as the network sees and predicts it.
    """

    channels: int

    def encode(self, courses: Courses) -> Tensor:
        """[B, T, N], zero where nothing changes."""
        raise NotImplementedError

    def decode(self, numbers: Tensor, given: Given) -> Frames:
        """The opposite way, out of the scan that is given."""
        raise NotImplementedError

    def as_field(self, numbers: Tensor) -> Tensor:
        """[B, T, N] -> [B, T, channels, 32, 40, 32], noise of SD 1 about as large."""
        raise NotImplementedError

    def from_field(self, field: Tensor) -> Tensor:
        """What the network predicts [B, T, channels, 32, 40, 32], of about SD 1 -> [B, T, N]."""
        raise NotImplementedError

    def weights(self) -> Tensor:
        """[N], by which squared errors count; such that predicting no change inside the brain costs about 1."""
        raise NotImplementedError


def space_to_channels(images: Tensor) -> Tensor:
    """Images on the refined lattice as eight channels on the lattice: [..., 1, 63, 79, 63] -> [..., 8, 32, 40, 32]."""
    padded = nn.functional.pad(images, (0, 1, 0, 1, 0, 1))
    d, h, w = (n // 2 for n in padded.shape[-3:])
    parts = padded.reshape(*padded.shape[:-4], d, 2, h, 2, w, 2)
    return parts.movedim((-5, -3, -1), (-6, -5, -4)).flatten(-6, -4)


def channels_to_space(field: Tensor) -> Tensor:
    """The opposite way: [..., 8, 32, 40, 32] -> [..., 1, 63, 79, 63]."""
    parts = field.unflatten(-4, (2, 2, 2)).movedim((-6, -5, -4), (-5, -3, -1))
    d, h, w = (2 * n for n in field.shape[-3:])
    return parts.reshape(*field.shape[:-4], 1, d, h, w)[..., :-1, :-1, :-1]


def root_mean_square(values: Tensor) -> float:
    return float(torch.sqrt(values.double().square().mean()))
