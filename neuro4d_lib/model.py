"""The forecast model: the one file that joins representation, prior, network and diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.data.population import covariate_values
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.diffusion.denoiser import Denoiser
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.diffusion.schedules import SCHEDULES
from neuro4d_lib.networks.covariates import DiseaseConditioner
from neuro4d_lib.networks.gaussian_prior import GaussianPrior, Posterior
from neuro4d_lib.networks.unet4d import FourDUNet
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.representations.deformation import Deformation

if TYPE_CHECKING:
    from neuro4d_lib.data.reference import Reference

# z and mean of a frame as fields (3 + 3), whether it was observed, what the latest scan shows.
_CHANNELS = 8
# The gate's tables (some covariate unknown, all known), rows (0, 1, 2, 3, or 4 and more earlier visits) and columns
# (noise times 0.1, 0.2, ..., 1).
GATE_KNOWN, GATE_VISITS, GATE_TIMES = 2, 5, 10


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a model and how it is sampled."""

    modes: int = documented(29, help="Coordinates per frame.")
    lattice: tuple[int, int, int] = documented((32, 40, 32), help="Control points along R, A, S.")
    widths: tuple[int, ...] = documented((24, 48, 72), help="Channels of the 4D U-Net, by level.")
    condition: int = documented(128, help="Width of the vector that conditions the network.")
    schedule: str = documented("cosine", help="Noise schedule: cosine or linear.")
    sampler: str = documented("heun", help="heun (second order), ddim or ddpm (fresh noise in every step).")
    steps: int = documented(
        5, help="Denoising steps of a forecast; heun calls the network twice a step, once in the last."
    )

    def __post_init__(self) -> None:
        for name, value, known in (("schedule", self.schedule, SCHEDULES), ("sampler", self.sampler, SAMPLERS)):
            if value not in known:
                raise SettingError(name, f"expected one of {', '.join(known)}, found {value!r}.")


@dataclass(frozen=True, eq=False)
class Condition:
    """What a course is drawn from.

    Attributes:
        covariates: [B, 5]; anatomy: [B, 1, D, H, W]; seen: [B, O, K] observed frames; years: [B, O + F], observed first.
        posterior: the closed-form law of the F future frames.
        images: see Deformation.
    """

    covariates: Tensor
    anatomy: Tensor
    seen: Tensor
    years: Tensor
    posterior: Posterior
    images: Tensor


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one person: covariates [1, 5], anatomy [1, 1, D, H, W], observed years [1, O] and frames [1, O, K]."""

    covariates: Tensor
    anatomy: Tensor
    years: Tensor
    seen: Tensor


class TrajectoryModel(nn.Module):
    """Everything with weights.

    `gate` is by how much the network's prediction is trusted, measured after training (training/gate.py); 1 until then.
    """

    gate: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.deformation = Deformation(config.modes, config.lattice)
        self.prior = GaussianPrior(config.modes).double()
        self.conditioner = DiseaseConditioner(config.condition)
        self.unet = FourDUNet(_CHANNELS, 3, config.condition, config.widths)
        self.denoiser = Denoiser(self.predict, SCHEDULES[config.schedule], prediction="v")
        self.register_buffer("gate", torch.ones(GATE_KNOWN, GATE_VISITS, GATE_TIMES))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Weights from before there was a gate have one of 1; one without tables holds for both."""
        gate = state_dict.get("gate", torch.ones_like(self.gate)).expand(self.gate.shape)
        return super().load_state_dict({**state_dict, "gate": gate}, strict, assign)

    def condition(self, covariates: Tensor, anatomy: Tensor, years: Tensor, seen: Tensor) -> Condition:
        """See Condition."""
        # The closed form is small and is worth the precision: years close to 0 make it stiff.
        state = self.deformation.state(anatomy)
        posterior = self.prior.posterior(covariates.double(), state.double(), years.double(), seen.double())
        single = Posterior(*(part.to(anatomy) for part in (posterior.mean, posterior.root, posterior.innovations)))
        return Condition(
            covariates.to(anatomy), anatomy, seen.to(anatomy), years.to(anatomy), single, self.deformation.images
        )

    def predict(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v of the future frames in standard normal coordinates: [B, F, K] -> [B, F, K].

        Where the closed form is right, v = 0 is the best prediction; the network learns where it is not.
        """
        b, future = z.shape[:2]
        observed = condition.seen.shape[1]
        frames = observed + future
        coordinates = torch.cat([condition.posterior.innovations, z], dim=1)
        means = torch.cat([condition.seen, condition.posterior.mean], dim=1)
        flag = torch.zeros(b, frames, 1, *self.config.lattice, device=z.device, dtype=z.dtype)
        flag[:, :observed] = 1
        x = torch.cat(
            [
                self.deformation.as_field(coordinates, condition.images),
                self.deformation.as_field(means, condition.images),
                flag,
                condition.anatomy[:, None].expand(-1, frames, -1, -1, -1, -1),
            ],
            dim=2,
        )
        noise_time = torch.cat([t.new_zeros(b, observed), t[:, None].expand(-1, future)], dim=1)
        field = self.unet(x, noise_time, self.conditioner(condition.covariates, condition.years))
        predicted = self.deformation.from_field(field[:, observed:].to(z.dtype), condition.images)
        return predicted * self.gate_at(condition.covariates, observed, t)[:, None, None]

    def gate_at(self, covariates: Tensor, observed: int, t: Tensor) -> Tensor:
        """The gate for people [B, 5] with so many earlier visits, at noise times t [B], by linear interpolation: [B]."""
        rows = self.gate[everything_known(covariates).long(), min(observed, GATE_VISITS - 1)]
        place = (t * GATE_TIMES - 1).clamp(0, GATE_TIMES - 1)
        below = place.long().clamp_max(GATE_TIMES - 2)[:, None]
        return torch.lerp(rows.gather(1, below), rows.gather(1, below + 1), (place[:, None] - below).to(rows))[:, 0]


def everything_known(covariates: Tensor) -> Tensor:
    """Of whom no covariate is missing: [B, 5] -> [B] bool."""
    return ~torch.isnan(covariates).any(dim=1)


@dataclass(eq=False)
class ForecastModel:
    """A trained model with all it carries. Made by `checkpoint.load_model`."""

    network: TrajectoryModel
    reference: Reference
    card: dict[str, Any]
    sha256: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def condition(self, covariates: Covariates, anatomy: Tensor, observed: Sequence[tuple[float, Tensor]]) -> Known:
        """What is known of a person.

        Args:
            anatomy: [1, D, H, W] log of the brain's volume per reference volume on the lattice.
            observed: earlier visits: years (negative) and velocity control points [3, D, H, W] in reference space, mm per year.
        """
        if observed and self.network.deformation.measure is None:
            from neuro4d_lib.data.rate_fields import measure_regions

            self.network.deformation.measure = measure_regions(self.reference)[0][: self.network.config.modes]
        frames = [self.network.deformation.encode(velocity.to(self.device)) for _, velocity in observed]
        modes = self.network.config.modes
        return Known(
            covariate_values(covariates)[None].to(self.device),
            anatomy[None].float().to(self.device),
            torch.tensor([[years for years, _ in observed]], dtype=torch.float64, device=self.device),
            torch.stack(frames)[None] if frames else torch.zeros(1, 0, modes, device=self.device),
        )

    @torch.no_grad()
    def draw(
        self,
        known: Known,
        years: Sequence[float],
        generator: torch.Generator,
        steps: int | None = None,
        progress: Progress = silent,
    ) -> Tensor:
        """One joint draw of the whole course: mean velocity up to each year [T, 3, D, H, W], control points, mm per year."""
        config = self.network.config
        future = torch.tensor([list(years)], dtype=torch.float64, device=self.device)
        together = torch.cat([known.years, future], dim=1)
        condition = self.network.condition(known.covariates, known.anatomy, together, known.seen)
        noise = torch.randn(1, len(years), config.modes, generator=generator).to(self.device)
        sampler = SAMPLERS[config.sampler](self.network.denoiser)
        z = sampler.sample(noise, condition, config.steps if steps is None else steps, generator, progress)
        return self.network.deformation.decode(condition.posterior.from_standard(z)[0])

    @torch.no_grad()
    def group_rate(self, covariates: Covariates, years: Sequence[float]) -> Tensor:
        """The simple forecast, mean rate of people of this diagnosis and age: [T, 3, D, H, W], mm per year."""
        values = covariate_values(covariates)[None].to(self.device)
        rate = self.network.prior.group(values).to(self.network.deformation.fields)
        return self.network.deformation.decode(rate).expand(len(years), -1, -1, -1, -1)

    def network_calls(self, steps: int | None = None) -> int:
        """How often the network is evaluated for one joint draw."""
        config = self.network.config
        steps = config.steps if steps is None else steps
        return SAMPLERS[config.sampler](self.network.denoiser).network_calls(steps)
