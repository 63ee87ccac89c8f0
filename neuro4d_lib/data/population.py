"""The law of the simulated people: how fast which region changes in whom, and what of it a scan shows.

Given diagnosis, everything is linear and Gaussian, so the best possible forecast has a closed form. The numbers and their
sources are in population_config.py. Simulated people are no evidence about real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.regions import DRIVEN

UNKNOWN = float("nan")
COVARIATES = ("age", "sex", "education_years", "apoe4", "diagnosis")
"""The columns of a table of covariates; sex F = 0, M = 1; diagnosis is its place in DIAGNOSES; NaN is unknown."""
YOUNGEST, OLDEST = 18.0, 100.0
LEAST_EDUCATION, MOST_EDUCATION = 4, 24
"""Ages and years of education, the latter whole, are kept within these."""


def _by_group(values: Mapping[str, float], otherwise: float) -> Tensor:
    return torch.tensor([values.get(region.group, otherwise) for region in DRIVEN], dtype=torch.float64)


def _by_group_and_diagnosis(
    values: Mapping[str, tuple[float, ...]], otherwise: tuple[float, ...] = (0.0,) * 5
) -> Tensor:
    return torch.tensor([values.get(region.group, otherwise) for region in DRIVEN], dtype=torch.float64).T.contiguous()


@dataclass(frozen=True, eq=False)
class People:
    """A table of simulated people: N of them, R driven regions. Rates are log-volume per year.

    Attributes:
        covariates: [N, 5], see COVARIATES; nothing is unknown here.
        rate, acceleration: [N, R], at the latest scan, per year and per year squared.
        state: [N, R] log-volume against the reference; seen_state: [N, R] as a scan shows it.
    """

    covariates: Tensor
    rate: Tensor
    acceleration: Tensor
    state: Tensor
    seen_state: Tensor


class Population:
    """Draws people and states the law that they are drawn from. Everything is float64."""

    def __init__(self, config: PopulationConfig | None = None) -> None:
        self.config = config = config or PopulationConfig()
        self.mean_rate = (
            _by_group_and_diagnosis({name: rate.mean for name, rate in config.rates.items()}) / 100
        )  # [5, R]
        self.rate_sd = _by_group_and_diagnosis({name: rate.sd for name, rate in config.rates.items()}) / 100
        self.mean_acceleration = _by_group_and_diagnosis(config.acceleration) / 100
        self.age_effect = _by_group_and_diagnosis(config.age_effect, config.age_effect_elsewhere) / 100
        self.mean_age = torch.tensor(config.ages, dtype=torch.float64)
        self.state_sd = _by_group(config.state_sd, config.state_sd_elsewhere)
        self.state_mean = _by_group_and_diagnosis(config.state_by_diagnosis)
        self.state_age = _by_group(config.state_per_year_of_age, config.state_per_year_of_age_elsewhere)
        self.state_error_sd = torch.full_like(self.state_sd, config.state_error)
        self.state_correlation = torch.tensor(config.state_correlation, dtype=torch.float64)  # [5]
        self.noise_sd = _by_group(config.scan_noise, config.scan_noise_elsewhere) / 100
        carried = _by_group(dict.fromkeys(config.apoe4_regions, 1.0), 0.0)
        self.apoe4_effect = torch.tensor(config.apoe4_effect, dtype=torch.float64)[:, None] * self.mean_rate * carried
        self.correlation = self._correlation()  # [R, R], tissue that shrinks fast goes with fluid that grows fast

    def _correlation(self) -> Tensor:
        fluid = torch.tensor([region.group.endswith("ventricle") for region in DRIVEN])
        sign = torch.where(fluid, -1.0, 1.0).double()
        groups = [region.group for region in DRIVEN]
        same = torch.tensor([[a == b for a in groups] for b in groups], dtype=torch.float64)
        shared, side = self.config.region_correlation, self.config.side_correlation
        own = (1 - shared) * (side * same + (1 - side) * torch.eye(len(groups), dtype=torch.float64))
        return shared * torch.outer(sign, sign) + own

    def rate_given(self, covariates: Tensor) -> Tensor:
        """Mean rate of people with these (known) covariates: [N, 5] -> [N, R], per year."""
        age, male, education, apoe4, diagnosis = covariates.double().unbind(1)
        d = diagnosis.long()
        mean = self.mean_rate[d]
        mean = mean + self.age_effect[d] * (age - self.mean_age[d, 0])[:, None] + self.apoe4_effect[d] * apoe4[:, None]
        slower = self.config.male_effect * male + self.config.education_effect * (
            education - self.config.education_years[0]
        )
        return mean + self.mean_rate[d] * slower[:, None]

    def state_given(self, covariates: Tensor) -> Tensor:
        """Mean of what a scan shows: [N, 5] -> [N, R] log-volume against the reference."""
        d = covariates[:, 4].long()
        return self.state_mean[d] + self.state_age * (covariates[:, :1].double() - 60)

    def draw_covariates(self, count: int, generator: torch.Generator) -> Tensor:
        """[N, 5], nothing unknown."""
        config = self.config
        shares = torch.tensor(config.diagnosis_shares, dtype=torch.float64)
        d = torch.multinomial(shares, count, replacement=True, generator=generator)
        mean, sd = self.mean_age[d].unbind(1)
        age = (mean + sd * torch.randn(count, generator=generator, dtype=torch.float64)).clamp(YOUNGEST, OLDEST)
        return self.draw_covariates_of(age, d, generator)

    def draw_covariates_of(self, age: Tensor, diagnosis: Tensor, generator: torch.Generator) -> Tensor:
        """Sex, education and APOE of people of these ages and (places of) diagnoses: [N], [N] -> [N, 5]."""
        config, count, d = self.config, len(age), diagnosis
        male = torch.rand(count, generator=generator) < torch.tensor(config.male_shares)[d]
        mean, spread = config.education_years
        education = (
            (mean + spread * torch.randn(count, generator=generator)).round().clamp(LEAST_EDUCATION, MOST_EDUCATION)
        )
        alleles = torch.multinomial(torch.tensor(config.apoe4_shares)[d], 1, generator=generator)[:, 0]
        return torch.stack([age, male.double(), education.double(), alleles.double(), d.double()], dim=1)

    def draw(self, count: int, generator: torch.Generator) -> People:
        """N people, independent of each other."""
        covariates = self.draw_covariates(count, generator)
        return self.people_with(covariates, generator)

    def people_with(self, covariates: Tensor, generator: torch.Generator) -> People:
        """People with these covariates [N, 5], nothing of them unknown."""
        d = covariates[:, 4].long()
        count, sd, kappa = covariates.shape[0], self.rate_sd[d], self.state_correlation[d][:, None]
        root = torch.linalg.cholesky(self.correlation)

        def normal() -> Tensor:
            return torch.randn(count, len(DRIVEN), generator=generator, dtype=torch.float64) @ root.T

        deviation, other = normal(), normal()
        state = self.state_given(covariates) + self.state_sd * (kappa * deviation + (1 - kappa**2) ** 0.5 * other)
        acceleration = self.mean_acceleration[d] + self.config.acceleration_sd * sd * normal()
        error = torch.randn(state.shape, generator=generator, dtype=torch.float64) * self.state_error_sd
        return People(covariates, self.rate_given(covariates) + sd * deviation, acceleration, state, state + error)

    def mean_velocity_rates(self, people: People, years: Tensor, generator: torch.Generator) -> Tensor:
        """True log-volume change from the latest scan, per year of it: years [N, T] -> [N, T, R]."""
        sd = self.rate_sd[people.covariates[:, 4].long()][:, None]
        wave = torch.randn(*years.shape, len(DRIVEN), generator=generator, dtype=torch.float64)
        wave = wave @ torch.linalg.cholesky(self.correlation).T
        course = people.rate[:, None] + people.acceleration[:, None] * years[..., None] / 2
        return course + self.config.unevenness * sd * wave

    def scan_error(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Error of the log-volumes read off one scan: [*shape, R]."""
        own = torch.randn(*shape, len(DRIVEN), generator=generator, dtype=torch.float64) * self.noise_sd
        shared = torch.randn(*shape, 1, generator=generator, dtype=torch.float64) * self.config.shared_noise / 100
        return own + shared

    def noise_covariance(self) -> Tensor:
        """Of `scan_error`: [R, R]."""
        return torch.diag(self.noise_sd**2) + (self.config.shared_noise / 100) ** 2

    def hide(self, covariates: Tensor, generator: torch.Generator) -> Tensor:
        """Covariates with some made unknown at random, and now and then all of them."""
        unknown = torch.rand(covariates.shape, generator=generator) < self.config.missing
        unknown |= torch.rand(covariates.shape[0], 1, generator=generator) < self.config.nothing_known
        return torch.where(unknown, UNKNOWN, covariates)


def covariate_values(covariates: Covariates) -> Tensor:
    """[5] float64, see COVARIATES."""
    sex = None if covariates.sex is None else float(covariates.sex == "M")
    diagnosis = None if covariates.diagnosis is None else float(DIAGNOSES.index(covariates.diagnosis))
    values = (covariates.age, sex, covariates.education_years, covariates.apoe4, diagnosis)
    return torch.tensor([UNKNOWN if value is None else float(value) for value in values], dtype=torch.float64)


def covariates_of(values: Tensor) -> Covariates:
    """What `covariate_values` was made from: [5] -> Covariates."""
    age, male, education, apoe4, diagnosis = (None if np.isnan(value) else value for value in values.tolist())
    return Covariates(
        age=age,
        sex=None if male is None else "FM"[int(male)],
        education_years=education,
        apoe4=None if apoe4 is None else int(apoe4),
        diagnosis=None if diagnosis is None else DIAGNOSES[int(diagnosis)],
    )
