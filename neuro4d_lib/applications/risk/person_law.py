"""The exact law of one person's volumes, given some of them: the simulator's law, in terms of whatever regions were measured.

Given a diagnosis everything is linear and Gaussian (`known_truth.joint_mean`, `joint_covariance`); sums of regions follow to
first order, by their shares of the reference. What is not known of the person is summed over, as in `exact_unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.exact_unknown import CovariatePriors
from neuro4d_lib.applications.known_truth import joint_covariance, joint_mean
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import DIAGNOSES

_MOST_NODES = 400
"""Of what an unknown covariate may be: more are thinned to so many of equal weight (systematic resampling)."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Volumes of A regions, measured at O + 1 visits.

    Attributes:
        weights: [A, R] first-order weights of the driven regions; rows are linearly independent.
        level: [A] log-volume at the latest visit against the reference, or None: not to be used.
        past: [O] years of the earlier visits, negative, ascending.
        rates: [O, A] (log-volume at the latest - at that visit) / -years, per year.
        head_known: whether the level is free of head size.
    """

    weights: Tensor
    level: Tensor | None
    past: Tensor
    rates: Tensor
    head_known: bool = False


def nothing_seen(regions: int) -> Seen:
    """Of whom only the covariates are known."""
    none = torch.zeros(0, regions, dtype=torch.float64)
    return Seen(none, None, none[:, 0], none)


@dataclass(frozen=True, eq=False)
class Course:
    """A mixture of J Gaussians for the log-volume change of B regions at F years after the latest scan.

    Attributes:
        years: [F]; weights: [J]; diagnosis: [J]; mean, sd: [J, F, B].
    """

    years: np.ndarray
    weights: np.ndarray
    diagnosis: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    def below(self, limit: np.ndarray) -> np.ndarray:
        """P(change < limit): limit [F, B] -> [F, B]."""
        from scipy.special import ndtr

        return np.einsum("j,jfb->fb", self.weights, ndtr((limit - self.mean) / self.sd))

    def quantile(self, probability: float) -> np.ndarray:
        """[F, B], by bisection."""
        low, high = (self.mean - 12 * self.sd).min(axis=0), (self.mean + 12 * self.sd).max(axis=0)
        for _ in range(60):
            middle = (low + high) / 2
            under = self.below(middle) < probability
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return (low + high) / 2

    def expected(self) -> np.ndarray:
        """[F, B]."""
        return np.einsum("j,jfb->fb", self.weights, self.mean)


class PersonLaw:
    """What follows from covariates [5] (NaN where unknown) and what was seen, for regions of weights asked [B, R]."""

    def __init__(self, population: Population, covariates: Tensor, seen: Seen, asked: Tensor) -> None:
        self.population, self.covariates, self.seen, self.asked = population, covariates.double(), seen, asked
        self._priors = CovariatePriors(population)

    def course(self, years: np.ndarray) -> Course:
        """The law of the future, of true volumes."""
        ahead = torch.as_tensor(np.asarray(years, dtype=float))
        nodes, prior = self._priors.nodes(self.covariates)
        given = [_Given(self, d, ahead) if torch.isfinite(prior[d]).any() else None for d in range(len(DIAGNOSES))]
        logs = torch.stack(
            [torch.full((len(nodes),), -torch.inf).double() if g is None else p + g.log_likelihood(nodes)
             for g, p in zip(given, prior, strict=True)]
        )  # fmt: skip
        weights = (logs - logs.max()).exp().flatten()
        chosen, weights = _thinned(weights / weights.sum())
        diagnosis, node = chosen // len(nodes), chosen % len(nodes)
        shape = (len(ahead), len(self.asked))
        means, sds = [], []
        for d, n in zip(diagnosis.tolist(), node.tolist(), strict=True):
            law = given[d]
            assert law is not None  # nodes of no weight are never chosen
            means.append((law.mean + law.slopes @ nodes[n]).reshape(shape) * ahead[:, None])
            sds.append(law.sd.reshape(shape) * ahead[:, None])
        mean, sd = torch.stack(means).numpy(), torch.stack(sds).numpy()
        return Course(ahead.numpy(), weights.numpy(), diagnosis.numpy(), mean, sd)

    def sd_with_next_scan(self, next_years: float | None, horizon: float) -> np.ndarray:
        """SD [5, B] by diagnosis of the log-volume change at the horizon, once a scan has been made `next_years` from now.

        In a Gaussian law it does not depend on what that scan will show (preposterior analysis: Raiffa and Schlaifer, 1961).
        """
        seen = self.seen
        if next_years is not None:
            unseen = torch.zeros(1, len(seen.weights), dtype=torch.float64)
            times = torch.cat([seen.past, torch.tensor([next_years], dtype=torch.float64)])
            seen = replace(seen, past=times, rates=torch.cat([seen.rates, unseen]))
        later = PersonLaw(self.population, self.covariates, seen, self.asked)
        ahead = torch.tensor([horizon], dtype=torch.float64)
        sds = [_Given(later, d, ahead).sd * horizon for d in range(len(DIAGNOSES))]
        return torch.stack(sds).numpy()


class _Given:
    """Future rates of one diagnosis, as a function of x = (age, male, education, APOE e4): mean + slopes x, sd."""

    def __init__(self, law: PersonLaw, diagnosis: int, ahead: Tensor) -> None:
        population, seen = law.population, law.seen
        years = torch.cat([seen.past, ahead])[None]
        observed, regions = len(seen.past), law.asked.shape[1]
        blocks = [seen.weights] * observed + [law.asked] * len(ahead)
        use_level = seen.level is not None
        operator = torch.block_diag(seen.weights if use_level else torch.zeros(0, regions).double(), *blocks)
        covariance = joint_covariance(population, torch.tensor([diagnosis]), years, observed)[0]
        covariance = operator @ covariance @ operator.T
        at = torch.cat([torch.zeros(1, 4), torch.eye(4)]).double()
        x = torch.cat([at, torch.full((5, 1), float(diagnosis)).double()], dim=1)
        means = joint_mean(population, x, years.expand(5, -1)).flatten(1) @ operator.T  # [5, all]
        levels = len(seen.weights) if use_level else 0
        if levels and not seen.head_known:
            config = population.config
            women, men = (3 * float(np.log(size)) for size in config.head_size)
            means[:, :levels] += women + (men - women) * at[:, 1:2]
            covariance[:levels, :levels] += (3 * config.head_size_sd) ** 2
        slopes = (means[1:] - means[0]).T
        split = levels + observed * len(seen.weights)
        shown = seen.rates.flatten() if seen.level is None else torch.cat([seen.level, seen.rates.flatten()])
        root = torch.linalg.cholesky(covariance)
        right = torch.cat([(shown - means[0, :split])[:, None], slopes[:split]], dim=1)
        white = torch.linalg.solve_triangular(root[:split, :split], right, upper=False)
        carried = root[split:, :split] @ white
        self.mean, self.slopes = means[0, split:] + carried[:, 0], slopes[split:] - carried[:, 1:]
        self.sd = root[split:, split:].square().sum(dim=1).sqrt()
        self._residual, self._seen_slopes = white[:, 0], white[:, 1:]
        self._log_root = root[:split, :split].diagonal().log().sum()

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Of what was seen, up to a constant: [M, 4] -> [M]."""
        return -(self._residual - x @ self._seen_slopes.T).square().sum(dim=1) / 2 - self._log_root


def _thinned(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Places with weight, and their weights; at most _MOST_NODES."""
    places = weights.nonzero()[:, 0]
    if len(places) <= _MOST_NODES:
        return places, weights[places]
    marks = (torch.arange(_MOST_NODES, dtype=torch.float64) + 0.5) / _MOST_NODES
    chosen = torch.searchsorted(weights.cumsum(0), marks).clamp_max(len(weights) - 1)
    return chosen, torch.full((_MOST_NODES,), 1 / _MOST_NODES, dtype=torch.float64)
