"""The exact best forecast of people of whom not everything is known.

With the diagnosis unknown the truth is a mixture: five Gaussian laws, weighted by Bayes' rule with how frequent each
diagnosis is, by what is known of the person, what the latest scan shows and the observed visits. Age, sex, education and
APOE move only the means, by a straight line, so given a diagnosis one Cholesky root serves all their values. What is
unknown is summed over: sex, APOE and education (whole years, as they are drawn) exactly; age by the trapezoidal rule at
half years, with the shares that the population keeps at its youngest and oldest. Moments follow from the sums; whatever
else is wanted of the mixture comes from independent draws of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    Cases,
    joint_covariance,
    joint_mean,
    observations,
    some_people,
)
from neuro4d_lib.data.population import (
    COVARIATES,
    LEAST_EDUCATION,
    MOST_EDUCATION,
    OLDEST,
    UNKNOWN,
    YOUNGEST,
    Population,
)
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.metrics import calibration

AGE_STEP = 0.5
_NUMBERS = COVARIATES[:4]


@dataclass(frozen=True, eq=False)
class MixedPosterior:
    """The best possible forecast of N people at H horizons, R regions: rates, log-volume per year.

    Attributes:
        diagnosis: [N, 5] probabilities.
        mean, sd: [N, H, R] of the mixture.
        samples: [M, N, H, R] independent draws of it.
    """

    diagnosis: Tensor
    mean: Tensor
    sd: Tensor
    samples: Tensor


@dataclass(frozen=True)
class Draws:
    """Independent draws [M, N, H, A] of a forecast whose mean [N, H, A] is known: a `scoring.Distribution` of any shape."""

    samples: np.ndarray
    mean: np.ndarray

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return calibration.crps_ensemble(self.samples, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = calibration.ensemble_band(self.samples, level)
        return lower, upper

    def pit(self, truth: np.ndarray) -> np.ndarray:
        return ((self.samples < truth).sum(axis=0) + 0.5) / (len(self.samples) + 1)


def exact_forecast_of_unknown(
    population: Population, cases: Cases, weights: Tensor, draws: int, generator: torch.Generator
) -> Draws:
    """The best possible forecast of the log-volume changes of sums of regions, weights [A, R]; see `exact_mixture`."""
    mixture = exact_mixture(population, cases, draws, generator)
    horizons = torch.tensor(HORIZONS, dtype=torch.float64)[:, None]
    samples, mean = ((rates * horizons) @ weights.T for rates in (mixture.samples, mixture.mean))
    return Draws(samples.numpy(), mean.numpy())


def hidden(cases: Cases, names: Sequence[str] = COVARIATES) -> Cases:
    """The same people with some covariates unknown."""
    covariates = cases.covariates.clone()
    covariates[:, [COVARIATES.index(name) for name in names]] = UNKNOWN
    return replace(cases, covariates=covariates)


def exact_mixture(
    population: Population, cases: Cases, draws: int, generator: torch.Generator, people_at_once: int = 50
) -> MixedPosterior:
    """Condition the true law on what is known; covariates [N, 5] of the cases are NaN where unknown."""
    priors = CovariatePriors(population)
    parts = []
    for start in range(0, len(cases.past), people_at_once):
        some = some_people(cases, start, start + people_at_once)
        parts.append(_mixture(population, priors, some, draws, generator))
    dims = {"diagnosis": 0, "mean": 0, "sd": 0, "samples": 1}
    return MixedPosterior(
        **{name: torch.cat([getattr(part, name) for part in parts], dim) for name, dim in dims.items()}
    )


class CovariatePriors:
    """Logarithms of the prior of every covariate by diagnosis, and the values that an unknown one is summed over."""

    def __init__(self, population: Population) -> None:
        config = population.config
        self.diagnosis = torch.tensor(config.diagnosis_shares, dtype=torch.float64).log()
        self.age_mean, self.age_sd = population.mean_age.unbind(1)
        male = torch.tensor(config.male_shares, dtype=torch.float64)
        apoe4 = torch.tensor(config.apoe4_shares, dtype=torch.float64)
        ages = torch.arange(YOUNGEST, OLDEST + AGE_STEP / 2, AGE_STEP, dtype=torch.float64)
        years = torch.arange(LEAST_EDUCATION, MOST_EDUCATION + 1, dtype=torch.float64)
        mean, sd = config.education_years
        edges = torch.cat([years[:1] - torch.inf, years[1:] - 0.5, years[-1:] + torch.inf])
        education = torch.special.ndtr((edges - mean) / sd).diff()
        self.values = (
            ages,
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            years,
            torch.arange(3.0, dtype=torch.float64),
        )
        self.logs = (
            self._of_ages(ages),
            torch.stack([1 - male, male], dim=1).log(),
            education.log().expand(len(DIAGNOSES), -1),
            (apoe4 / apoe4.sum(dim=1, keepdim=True)).log(),
        )

    def _of_ages(self, ages: Tensor) -> Tensor:
        """[5, A]: the trapezoidal rule over the normal density, and at the ends what was clamped to them."""
        mass = self.age_density(ages) * AGE_STEP
        mass[:, [0, -1]] /= 2
        mass[:, 0] += torch.special.ndtr((YOUNGEST - self.age_mean) / self.age_sd)
        mass[:, -1] += torch.special.ndtr((self.age_mean - OLDEST) / self.age_sd)
        return mass.clamp_min(1e-300).log()

    def age_density(self, ages: Tensor) -> Tensor:
        """[A] -> [5, A], per year."""
        z = (ages - self.age_mean[:, None]) / self.age_sd[:, None]
        return torch.exp(-(z**2) / 2) / (self.age_sd[:, None] * (2 * torch.pi) ** 0.5)

    def of_known(self, column: int, value: Tensor) -> Tensor:
        """Log prior by diagnosis [5] of a known value: of an age its density, or its share where ages are clamped."""
        if column == 0:
            if YOUNGEST < value < OLDEST:
                return self.age_density(value[None])[:, 0].clamp_min(1e-300).log()
            return self.logs[0][:, 0 if value <= YOUNGEST else -1]
        if column == 2:
            return torch.zeros(len(DIAGNOSES), dtype=torch.float64)  # the same in every diagnosis
        return self.logs[column][:, int(value)]

    def nodes(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the four numbers of a person may be, given `known` [5]: values [M, 4] and log prior with diagnosis [5, M]."""
        values, logs = [], []
        for column in range(len(_NUMBERS)):
            if known[column].isnan():
                values.append(self.values[column])
                logs.append(self.logs[column])
            else:
                values.append(known[column][None])
                logs.append(self.of_known(column, known[column])[:, None])
        grid = torch.stack([axis.flatten() for axis in torch.meshgrid(*values, indexing="ij")], dim=1)
        prior = self.diagnosis[:, None]
        if not known[4].isnan():
            prior = torch.where(torch.arange(len(DIAGNOSES))[:, None] == known[4], prior, -torch.inf)
        for log in logs:
            prior = (prior[:, :, None] + log[:, None]).flatten(1)
        return grid, prior


def _mixture(
    population: Population, priors: CovariatePriors, cases: Cases, draws: int, generator: torch.Generator
) -> MixedPosterior:
    laws = [_Law(population, cases, d) for d in range(len(DIAGNOSES))]
    people, horizons, regions = cases.truth.shape
    probability = torch.zeros(people, len(DIAGNOSES), dtype=torch.float64)
    first, second = (torch.zeros(people, horizons * regions, dtype=torch.float64) for _ in range(2))
    samples = torch.empty(draws, people, horizons * regions, dtype=torch.float64)
    for i in range(people):
        nodes, prior = priors.nodes(cases.covariates[i])
        logs = prior + torch.stack([law.log_likelihood(i, nodes) for law in laws])
        weights = (logs - logs.max()).exp()
        weights = weights / weights.sum()
        probability[i] = weights.sum(dim=1)
        chosen = torch.multinomial(weights.flatten(), draws, replacement=True, generator=generator)
        noise = torch.randn(draws, horizons * regions, generator=generator, dtype=torch.float64)
        for d, law in enumerate(laws):
            if probability[i, d] > 0:
                mean, variance = law.moments(i, nodes, weights[d] / probability[i, d])
                first[i] += probability[i, d] * mean
                second[i] += probability[i, d] * (variance + mean**2)
            here = chosen // len(nodes) == d
            samples[here, i] = law.draw(i, nodes[chosen[here] % len(nodes)], noise[here])
    shape = (people, horizons, regions)
    sd = (second - first**2).clamp_min(0).sqrt()
    return MixedPosterior(probability, first.reshape(shape), sd.reshape(shape), samples.reshape(draws, *shape))


class _Law:
    """The law of N people of one diagnosis, as a function of x = (age, male, education, APOE e4)."""

    def __init__(self, population: Population, cases: Cases, diagnosis: int) -> None:
        people, years, observed = len(cases.past), cases.years(), cases.past.shape[1]
        places = torch.full((people,), diagnosis)
        # Means are straight lines in x: their value at 0, and the slopes [N, ..., 4].
        at = torch.cat([torch.zeros(1, 4), torch.eye(4)]).double()
        means = [
            joint_mean(population, torch.cat([x, torch.tensor([float(diagnosis)])]).expand(people, -1), years).flatten(
                1
            )
            for x in at
        ]
        slopes = torch.stack([mean - means[0] for mean in means[1:]], dim=2)
        root = torch.linalg.cholesky(joint_covariance(population, places, years, observed))
        split = (1 + observed) * cases.truth.shape[2]
        right = torch.cat([(observations(cases).flatten(1) - means[0][:, :split])[..., None], slopes[:, :split]], dim=2)
        white = torch.linalg.solve_triangular(root[:, :split, :split], right, upper=False)
        self.residual, self.seen_slopes = white[..., 0], white[..., 1:]
        self.log_root = root[:, :split, :split].diagonal(dim1=1, dim2=2).log().sum(dim=1)
        carried = root[:, split:, :split] @ white
        self.mean = means[0][:, split:] + carried[..., 0]
        self.slopes = slopes[:, split:] - carried[..., 1:]
        self.root = root[:, split:, split:]

    def log_likelihood(self, i: int, x: Tensor) -> Tensor:
        """Of everything observed of person i, up to a constant that all diagnoses share: x [M, 4] -> [M]."""
        z, slopes = self.residual[i], self.seen_slopes[i]
        square = z @ z - 2 * x @ (slopes.T @ z) + ((x @ (slopes.T @ slopes)) * x).sum(dim=1)
        return -square / 2 - self.log_root[i]

    def moments(self, i: int, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all future rates of person i, x weighted [M]."""
        center = weights @ x
        spread = (x - center).T @ ((x - center) * weights[:, None])
        of_x = ((self.slopes[i] @ spread) * self.slopes[i]).sum(dim=1)
        return self.mean[i] + self.slopes[i] @ center, self.root[i].square().sum(dim=1) + of_x

    def draw(self, i: int, x: Tensor, noise: Tensor) -> Tensor:
        """Future rates of person i with these x: [M, 4] and [M, H R] -> [M, H R]."""
        return self.mean[i] + x @ self.slopes[i].T + noise @ self.root[i].T
