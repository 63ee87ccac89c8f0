"""A small forecast model around any representation: the 4D U-Net on the lattice, and its diffusion.

It serves to compare representations under equal conditions: one network, one loop, no closed-form law. The model that
is shipped is `model.TrajectoryModel`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neuro4d_lib.config import documented
from neuro4d_lib.data.image_courses import Courses, Given
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.diffusion.denoiser import Denoiser
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.diffusion.schedules import cosine
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.jacobian import jacobian_determinant
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.networks.covariates import DiseaseConditioner, diagnosis_index, standardized
from neuro4d_lib.networks.unet4d import FourDUNet
from neuro4d_lib.representations.base import Representation, space_to_channels
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.representations.deformation_residual import DeformationResidual
from neuro4d_lib.representations.deformed_scan import DeformedScan
from neuro4d_lib.representations.intensity import Intensity

REPRESENTATIONS: dict[str, Callable[[Tensor, Courses], Representation]] = {
    "deformation": DeformedScan.of,
    "intensity": lambda _, courses: Intensity.of(courses),
    "deformation_residual": DeformationResidual.of,
}
"""How each is made from the velocity field of each region [K, 3, 32, 40, 32] and people to take the size of change from."""

# The network sees the scan, and the log of the person's volume per reference volume in units of this.
_SCAN_CHANNELS, _ANATOMY_CHANNELS = 8, 1
_ANATOMY_UNIT = 0.3
_LEAST_RATIO = 0.05
_DIAGNOSES = len(DIAGNOSES)
_FEATURES = 1 + 4 + _DIAGNOSES
_RIDGE = 1.0


@dataclass(frozen=True)
class CourseModelConfig:
    """Sizes and sampling."""

    widths: tuple[int, ...] = documented((16, 32, 64), help="Channels of the 4D U-Net, by level.")
    condition: int = documented(64, help="Width of the vector that conditions the network.")
    patch: int = documented(2, help="Points of the lattice that the network joins to one, along each axis: 1 or 2.")
    steps: int = documented(5, help="Denoising steps of a forecast (ddim), one network call each.")


class CourseModel(nn.Module):
    """Draws the numbers of all frames of a course together, given one scan, covariates and years.

    What covariates alone say is a ridge regression, in closed form; the network learns what it leaves.

    Attributes:
        mean: [features, N] of that regression; 0 until `fit_mean`.
    """

    mean: Tensor

    def __init__(self, representation: Representation, config: CourseModelConfig) -> None:
        super().__init__()
        self.config = config
        self.representation = representation
        self.conditioner = DiseaseConditioner(config.condition)
        channels = representation.channels + _SCAN_CHANNELS + _ANATOMY_CHANNELS
        self.unet = FourDUNet(channels, representation.channels, config.condition, config.widths, config.patch)
        # Of images the network sees patches, through fewer channels than voxels: it can predict what they become, but
        # not the noise in them. Li and He, 2025, arXiv:2511.13720.
        self.denoiser = Denoiser(self.predict, cosine, prediction="sample")
        self.register_buffer("mean", torch.zeros(_FEATURES, len(representation.weights())))

    def predict(self, numbers: Tensor, t: Tensor, given: Given) -> Tensor:
        """The clean numbers, less their mean, behind noisy ones [B, T, N] at noise time t [B]."""
        frames = numbers.shape[1]
        ratio = jacobian_determinant(given.shape_vox).clamp_min(_LEAST_RATIO)
        # Per reference volume: psi leads to the reference.
        anatomy = -ratio.log()[..., ::2, ::2, ::2] / _ANATOMY_UNIT
        seen = torch.cat([space_to_channels(given.scan), anatomy], dim=1)[:, None].expand(-1, frames, -1, -1, -1, -1)
        x = torch.cat([self.representation.as_field(numbers), seen], dim=2)
        condition = self.conditioner(given.covariates.to(numbers), given.years.to(numbers))
        return self.representation.from_field(self.unet(x, t[:, None].expand(-1, frames), condition).to(numbers.dtype))

    def loss(self, numbers: Tensor, given: Given, generator: torch.Generator) -> Tensor:
        """Squared error of the prediction of clean numbers [B, T, N], in units of what predicting no change costs: [B]."""
        left = numbers - self.mean_numbers(given)
        return self.denoiser.loss(left, given, generator, self.representation.weights())

    @torch.no_grad()
    def fit_mean(self, numbers: Tensor, covariates: Tensor) -> None:
        """Regress everybody's numbers, averaged over frames, on covariates: [P, T, N] (a mean rate hardly depends on years), [P, 5]."""
        x, y = _features(covariates).double(), numbers.float().mean(dim=1)
        penalty = _RIDGE * torch.eye(_FEATURES, dtype=torch.float64)
        penalty[0, 0] = 0  # not of the mean over all people
        weights = torch.linalg.solve(x.T @ x + penalty, x.T).float()
        self.mean.copy_((weights @ y).to(self.mean))

    def mean_numbers(self, given: Given) -> Tensor:
        """What the regression says: [B, 1, N]."""
        return (_features(given.covariates).to(self.mean) @ self.mean)[:, None]

    @torch.no_grad()
    def forecast(self, given: Given, draws: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """Numbers of `draws` futures of each person [draws, B, T, N]; `representation.decode` makes frames of them.

        Args:
            generator: of the CPU, so that the futures are the same on every device.
        """
        shape = (*given.years.shape, len(self.representation.weights()))
        sampler = SAMPLERS["ddim"](self.denoiser)
        futures = []
        for _ in range(draws):
            noise = torch.randn(shape, generator=generator).to(given.scan.device)
            futures.append(sampler.sample(noise, given, steps or self.config.steps))
        return torch.stack(futures) + self.mean_numbers(given)


def _features(covariates: Tensor) -> Tensor:
    """One, the four numbers (0 where unknown), which diagnosis (none where unknown): [B, 5] -> [B, 10]."""
    values = standardized(covariates)[0]
    group = nn.functional.one_hot(diagnosis_index(covariates, _DIAGNOSES), _DIAGNOSES + 1)[:, :_DIAGNOSES]
    return torch.cat([torch.ones_like(values[:, :1]), values, group.to(values)], dim=1)


def load_course_model(path: Path, name: str, config: CourseModelConfig, modes: int = len(DRIVEN)) -> CourseModel:
    """A trained model out of its weights (safetensors).

    Args:
        name: of its representation, one of REPRESENTATIONS.
        config: as it was trained.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Name the weights that compare-representations wrote.")
    representation: Representation = Intensity()
    if name != "intensity":
        motion = DeformedScan(Deformation(modes, LATTICE.shape))
        representation = motion if name == "deformation" else DeformationResidual(motion, Intensity())
    model = CourseModel(representation, config)
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path} does not hold the weights of a model of {name} with widths {config.widths}. "
            "Name the file of that representation, and the configuration that it was trained with."
        ) from error
    return model.eval()
