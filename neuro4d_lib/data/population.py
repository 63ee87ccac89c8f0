"""The law of the simulated people: how fast which region changes in whom, and what of it a scan shows.

Given diagnosis, everything is linear and Gaussian, so the best possible forecast has a closed form. Figures and their
sources: Barnes 2009 (hippocampus), Leung 2013 (acceleration), Du 2006 and Holland 2012 (age), Chiang 2011 (APOE),
De Stefano 2016 and Eshaghi 2018 (MS), Burton 2005 (PD), Fotenos 2005 and OASIS-2 (whole brain). Values of which no source
is named are assumed. Simulated people are no evidence about real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.config import documented
from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.regions import DRIVEN

UNKNOWN = float("nan")
COVARIATES = ("age", "sex", "education_years", "apoe4", "diagnosis")
"""The columns of a table of covariates; sex F = 0, M = 1; diagnosis is its place in DIAGNOSES; NaN is unknown."""

# Percent per year of the region's own volume: mean by CN, MCI, AD, PD, MS, and the spread between people.
_RATES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "hippocampus": ((-1.41, -2.55, -4.66, -1.4, -1.0), (1.0, 1.6, 2.0, 1.0, 1.0)),
    "amygdala": ((-0.81, -2.0, -3.5, -1.0, -0.8), (1.0, 1.4, 1.8, 1.0, 0.9)),
    "entorhinal_cortex": ((-1.4, -4.0, -7.1, -1.4, -1.0), (1.2, 2.2, 3.2, 1.2, 1.0)),
    "caudate": ((-0.5, -0.8, -1.2, -1.1, -0.8), (0.6, 0.7, 0.9, 0.8, 0.6)),
    "putamen": ((-0.5, -0.7, -1.0, -0.9, -0.7), (0.5, 0.6, 0.8, 0.7, 0.6)),
    "thalamus": ((-0.5, -0.8, -1.1, -0.8, -1.2), (0.5, 0.6, 0.8, 0.6, 0.8)),
    "lateral_ventricle": ((4.4, 6.5, 9.8, 1.4, 3.0), (3.5, 4.5, 5.5, 2.9, 2.5)),
    "frontal_cortex": ((-0.45, -0.8, -1.4, -0.55, -0.5), (0.3, 0.65, 0.9, 0.5, 0.4)),
    "temporal_cortex": ((-0.45, -1.1, -2.2, -0.4, -0.5), (0.3, 0.8, 1.1, 0.5, 0.4)),
    "parietal_cortex": ((-0.45, -0.9, -1.8, -0.4, -0.5), (0.3, 0.7, 1.0, 0.5, 0.4)),
    "occipital_cortex": ((-0.35, -0.6, -1.1, -0.35, -0.4), (0.3, 0.6, 0.8, 0.5, 0.4)),
    "cingulate_cortex": ((-0.45, -0.95, -1.8, -0.5, -0.7), (0.3, 0.7, 1.0, 0.5, 0.5)),
    "white_matter": ((-0.5, -0.85, -1.3, -0.25, -0.5), (0.35, 0.9, 1.15, 0.6, 0.4)),
    "cerebellum": ((-0.35, -0.45, -0.6, -0.25, -0.35), (0.3, 0.5, 0.6, 0.4, 0.3)),
    "brainstem": ((-0.25, -0.3, -0.4, -0.4, -0.7), (0.3, 0.4, 0.5, 0.4, 0.5)),
    "third_ventricle": ((3.0, 4.5, 6.5, 1.5, 3.0), (2.5, 3.0, 3.5, 2.5, 2.5)),
}
# Percent per year, per year since the latest scan. Leung 2013 for hippocampus and ventricles in MCI and AD.
_ACCELERATION = {
    "hippocampus": (-0.02, -0.22, -0.2, -0.02, 0.0),
    "lateral_ventricle": (0.0, 0.25, 0.6, 0.0, 0.0),
}
# Percent per year, per year of age. Du 2006; rates fall with age in AD (Holland 2012).
_AGE_EFFECT = {
    "hippocampus": (-0.05, -0.02, 0.03, -0.03, 0.0),
    "entorhinal_cortex": (-0.04, -0.02, 0.03, -0.02, 0.0),
    "amygdala": (-0.03, -0.01, 0.02, -0.02, 0.0),
    "lateral_ventricle": (0.1, 0.05, -0.05, 0.05, 0.02),
}
_AGE_EFFECT_ELSEWHERE = (-0.01, -0.005, 0.01, -0.008, -0.003)
_MEDIAL_TEMPORAL = ("hippocampus", "entorhinal_cortex", "amygdala")
# What one scan shows: log-volume against people of the same sex and head size; spread, and error of reading it off.
_STATE_SD = {"lateral_ventricle": 0.35, "third_ventricle": 0.3, "hippocampus": 0.12, "amygdala": 0.12}
_STATE_BY_DIAGNOSIS = {
    "hippocampus": (0.0, -0.1, -0.2, -0.02, -0.03),
    "amygdala": (0.0, -0.08, -0.17, -0.02, -0.02),
    "entorhinal_cortex": (0.0, -0.1, -0.2, -0.02, -0.02),
    "lateral_ventricle": (0.0, 0.2, 0.4, 0.1, 0.2),
    "third_ventricle": (0.0, 0.15, 0.3, 0.1, 0.2),
}
_STATE_PER_YEAR_OF_AGE = {"hippocampus": -0.006, "lateral_ventricle": 0.025, "third_ventricle": 0.02}
# Percent of the region, one scan against another of the same day. Kirby-21: hippocampus 1.2, ventricle 1.2-1.6 for both sides.
_SCAN_NOISE = {
    "hippocampus": 1.7,
    "amygdala": 3.0,
    "entorhinal_cortex": 3.0,
    "lateral_ventricle": 1.9,
    "third_ventricle": 3.0,
    "caudate": 1.6,
    "putamen": 1.6,
    "thalamus": 1.6,
    "white_matter": 0.3,
}
_AGES = ((73.0, 8.0), (74.0, 7.5), (75.0, 8.0), (66.0, 9.0), (42.0, 11.0))


@dataclass(frozen=True)
class PopulationConfig:
    """What the simulated people are assumed to be like; the tables by region stand in population.py."""

    diagnosis_shares: tuple[float, ...] = documented((0.3, 0.25, 0.2, 0.125, 0.125), help="CN, MCI, AD, PD, MS.")
    male_shares: tuple[float, ...] = documented((0.45, 0.5, 0.48, 0.6, 0.28), help="Share of men by diagnosis.")
    apoe4_shares: tuple[tuple[float, ...], ...] = documented(
        ((0.73, 0.24, 0.03), (0.5, 0.38, 0.12), (0.35, 0.45, 0.2), (0.73, 0.24, 0.03), (0.73, 0.24, 0.03)),
        help="Shares of 0, 1 and 2 e4 alleles by diagnosis.",
    )
    apoe4_effect: float = documented(
        0.1, help="Faster medial temporal loss per e4 allele, in CN and MCI.", source="Chiang 2011; size assumed"
    )
    male_effect: float = documented(-0.05, help="Slower change in men, as a share of the mean rate.", source="assumed")
    education_effect: float = documented(
        -0.01, help="Slower change per year of education above 15, likewise.", source="assumed"
    )
    region_correlation: float = documented(
        0.5, help="Correlation of the rates of two regions of a person.", source="assumed"
    )
    side_correlation: float = documented(0.8, help="Correlation of left and right beyond that.", source="assumed")
    state_correlation: float = documented(
        0.35, help="Correlation of what a scan shows with the rate.", source="assumed"
    )
    state_sd: float = documented(0.08, help="Spread of log-volume, other regions.", source="assumed")
    state_error: float = documented(0.06, help="Error of reading a log-volume off a scan.", source="assumed")
    acceleration_sd: float = documented(
        0.08, help="Personal acceleration, as a share of the spread of rates, per year.", source="assumed"
    )
    unevenness: float = documented(
        0.05, help="Uneven course between scans, as a share of the spread of rates.", source="assumed"
    )
    scan_noise: float = documented(0.6, help="Percent, regions with no own value.", source="assumed")
    shared_noise: float = documented(
        0.15, help="Percent of every region, shared by all regions of a scan.", source="Kirby-21, whole brain 0.20"
    )
    missing: float = documented(0.15, help="Chance that a covariate is unknown in training.")


def _by_group(values: dict[str, float], otherwise: float) -> Tensor:
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
        means = {group: table[0] for group, table in _RATES.items()}
        spreads = {group: table[1] for group, table in _RATES.items()}
        self.mean_rate = _by_group_and_diagnosis(means) / 100  # [5, R]
        self.rate_sd = _by_group_and_diagnosis(spreads) / 100
        self.mean_acceleration = _by_group_and_diagnosis(_ACCELERATION) / 100
        self.age_effect = _by_group_and_diagnosis(_AGE_EFFECT, _AGE_EFFECT_ELSEWHERE) / 100
        self.mean_age = torch.tensor(_AGES, dtype=torch.float64)
        self.state_sd = _by_group(_STATE_SD, config.state_sd)
        self.state_mean = _by_group_and_diagnosis(_STATE_BY_DIAGNOSIS)
        self.state_age = _by_group(_STATE_PER_YEAR_OF_AGE, -0.002)
        self.state_error_sd = torch.full_like(self.state_sd, config.state_error)
        self.noise_sd = _by_group(_SCAN_NOISE, config.scan_noise) / 100
        medial = torch.tensor([region.group in _MEDIAL_TEMPORAL for region in DRIVEN], dtype=torch.float64)
        self.apoe4_effect = config.apoe4_effect * self.mean_rate * medial
        self.apoe4_effect[2:] = 0
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
        slower = self.config.male_effect * male + self.config.education_effect * (education - 15)
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
        age = (mean + sd * torch.randn(count, generator=generator, dtype=torch.float64)).clamp(18, 100)
        male = torch.rand(count, generator=generator) < torch.tensor(config.male_shares)[d]
        education = (15 + 3 * torch.randn(count, generator=generator)).round().clamp(4, 24)
        alleles = torch.multinomial(torch.tensor(config.apoe4_shares)[d], 1, generator=generator)[:, 0]
        return torch.stack([age, male.double(), education.double(), alleles.double(), d.double()], dim=1)

    def draw(self, count: int, generator: torch.Generator) -> People:
        """N people, independent of each other."""
        covariates = self.draw_covariates(count, generator)
        return self.people_with(covariates, generator)

    def people_with(self, covariates: Tensor, generator: torch.Generator) -> People:
        """People with these covariates [N, 5], nothing of them unknown."""
        count, sd = covariates.shape[0], self.rate_sd[covariates[:, 4].long()]
        root = torch.linalg.cholesky(self.correlation)
        kappa = self.config.state_correlation

        def normal() -> Tensor:
            return torch.randn(count, len(DRIVEN), generator=generator, dtype=torch.float64) @ root.T

        deviation, other = normal(), normal()
        state = self.state_given(covariates) + self.state_sd * (kappa * deviation + (1 - kappa**2) ** 0.5 * other)
        acceleration = self.mean_acceleration[covariates[:, 4].long()] + self.config.acceleration_sd * sd * normal()
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
        unknown |= torch.rand(covariates.shape[0], 1, generator=generator) < 0.03
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
