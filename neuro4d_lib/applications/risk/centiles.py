"""Where a volume lies among people of the same age, sex and diagnosis, and the curves of that over age."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.exact_unknown import CovariatePriors
from neuro4d_lib.applications.risk.person_law import Course
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import DIAGNOSES

CENTILES = (5, 25, 50, 75, 95)


def measured_levels(
    population: Population, weights: Tensor, covariates: Tensor, ages: np.ndarray, head_known: bool
) -> Course:
    """The law of what scans of other people show: log-volumes [F ages, B] against the reference, as a mixture.

    They share sex and diagnosis [of covariates, 5] with the person, as far as these are known, and have the given ages.
    Weights [B, R]. Levels depend on age, diagnosis and (where head size is not known) sex alone.
    """
    config, years = population.config, torch.as_tensor(np.asarray(ages, dtype=float))
    priors = CovariatePriors(population)
    components = []
    for d in range(len(DIAGNOSES)):
        if not covariates[4].isnan() and int(covariates[4]) != d:
            continue
        spread = population.state_sd[:, None] * population.correlation * population.state_sd
        spread = spread + torch.diag(population.state_error_sd**2)
        variance = torch.einsum("br,rs,bs->b", weights, spread, weights)
        x = torch.full((len(years), 5), float(d), dtype=torch.float64)
        x[:, 0] = years
        mean = population.state_given(x) @ weights.T
        share = config.diagnosis_shares[d]
        if not covariates[0].isnan():
            share *= float(priors.of_known(0, covariates[0])[d].exp())
        for male in (0, 1):
            if not covariates[1].isnan() and int(covariates[1]) != male:
                continue
            weight = share * (config.male_shares[d] if male else 1 - config.male_shares[d])
            if head_known:
                components.append((weight, d, mean, variance))
            else:
                head = 3 * math.log(config.head_size[male])
                components.append((weight, d, mean + head, variance + (3 * config.head_size_sd) ** 2))
    total = np.array([weight for weight, *_ in components])
    means = np.stack([mean.numpy() for _, _, mean, _ in components])
    sds = np.stack([variance.sqrt().expand(len(years), -1).numpy() for *_, variance in components])
    return Course(years.numpy(), total / total.sum(), np.array([d for _, d, _, _ in components]), means, sds)


def centile(levels: Course, log_volumes: np.ndarray) -> np.ndarray:
    """Where log-volumes [F, B] against the reference lie in the law, 0 to 100."""
    return 100 * levels.below(log_volumes)
