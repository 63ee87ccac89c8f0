"""Two cohorts, or two scanners, side by side: rates and maps of each, and their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuro4d_lib.applications.cohorts.harmonization import ScannerEffect, combat, scanner_effect
from neuro4d_lib.applications.cohorts.permutation import Difference, permuted_difference
from neuro4d_lib.applications.cohorts.rates import Cohort
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, silent

ADJUSTABLE = ("age", "sex", "education", "apoe4", "diagnosis")
FEWEST = 5
PERMUTATIONS = 999


@dataclass(frozen=True, eq=False)
class Comparison:
    """First and second cohort; rates per year.

    Attributes:
        adjusted: names of the covariates that were taken out; left_out: those that were not, and why.
        regions, maps: second minus first; maps on the V places of `mask`, or None.
        scanner: with harmonization alone; the cohorts are then harmonized.
    """

    first: Cohort
    second: Cohort
    adjusted: tuple[str, ...]
    left_out: tuple[str, ...]
    regions: Difference
    maps: Difference | None
    mask: np.ndarray | None
    scanner: ScannerEffect | None


def compare(
    first: Cohort, second: Cohort, adjust: Sequence[str], *, harmonize: bool = False, mask: np.ndarray | None = None,
    permutations: int = PERMUTATIONS, seed: int = 0, progress: Progress = silent,
) -> Comparison:  # fmt: skip
    """Test the difference of every region, and of every place of `mask` [V] where both cohorts have maps."""
    for cohort in (first, second):
        if len(cohort) < FEWEST:
            raise InputError(
                f"{cohort.name} has {len(cohort)} people; a comparison needs {FEWEST} or more in each cohort."
            )
    rates = np.vstack([first.rates, second.rates])
    group = np.arange(len(rates)) >= len(first)
    for cohort in (first, second):
        if (np.ptp(cohort.rates, axis=0) < 1e-12).all():
            raise InputError(f"Everybody in {cohort.name} changes alike: without variance nothing can be compared.")
    nuisance, adjusted, left_out = _nuisances(np.vstack([first.covariates, second.covariates]), group, adjust)
    scanner = None
    if harmonize:
        progress(0.0, "Harmonizing")
        harmonized = combat(rates, group, nuisance)
        scanner = scanner_effect(rates, harmonized, group, nuisance)
        rates = harmonized
        first, second = (replace(c, rates=rates[side], maps=None) for c, side in ((first, ~group), (second, group)))
    progress(0.1, "Comparing regions")
    regions = permuted_difference(rates, group, nuisance, permutations, np.random.default_rng(seed))
    maps = None
    if mask is not None and first.maps is not None and second.maps is not None:
        progress(0.3, "Comparing maps")
        values = np.vstack([first.maps[:, mask], second.maps[:, mask]]).astype(np.float64)
        maps = permuted_difference(values, group, nuisance, permutations, np.random.default_rng(seed))
    return Comparison(first, second, adjusted, left_out, regions, maps, mask, scanner)


def _nuisances(
    covariates: np.ndarray, group: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Columns [N, C] to take out, their names, and sentences on the others."""
    columns, used, left_out = [np.ones((len(covariates), 1))], [], []
    for name in names:
        values = covariates[:, ADJUSTABLE.index(name)]
        if np.isnan(values).any():
            left_out.append(f"{name} is not known of everybody")
            continue
        added = values[:, None]
        if name == "diagnosis":
            added = np.column_stack(
                [values == d for d in range(len(DIAGNOSES)) if (values == d).any()][1:] or [values]
            ).astype(float)
        together = np.hstack([*columns, added - added.mean(axis=0)])
        rank = np.linalg.matrix_rank(together, rtol=1e-9)
        if rank < together.shape[1]:
            left_out.append(f"{name} is the same in everybody")
        elif np.linalg.matrix_rank(np.column_stack([together, group]), rtol=1e-9) == rank:
            left_out.append(f"{name} tells the cohorts apart: differences may be due to it")
        else:
            columns.append(added - added.mean(axis=0))
            used.append(name)
    nuisance = np.hstack(columns[1:]) if len(columns) > 1 else np.zeros((len(covariates), 0))
    if len(covariates) < nuisance.shape[1] + 2 + FEWEST:
        raise InputError(
            f"{len(covariates)} people are too few to adjust for {', '.join(used)}. Leave some out with --adjust."
        )
    return nuisance, tuple(used), tuple(left_out)


@dataclass(frozen=True, eq=False)
class AgeingCurve:
    """Mean rate of people of normal cognition over age, quadratic: [G] ages; mean, low and high (95 %) [G, Q]; truth or None."""

    ages: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    truth: np.ndarray | None
    people: int


def ageing_curve(cohort: Cohort, weights: np.ndarray) -> AgeingCurve | None:
    """Of sums of regions, weights [Q, R]; None where fewer than 20 CN people of known and varied age are there."""
    from scipy import stats

    here = (cohort.covariates[:, 4] == DIAGNOSES.index("CN")) & ~np.isnan(cohort.covariates[:, 0])
    if here.sum() < 20 or np.ptp(cohort.covariates[here, 0]) < 5:
        return None
    age = cohort.covariates[here, 0]
    center, scale = age.mean(), age.std()

    def design(at: np.ndarray) -> np.ndarray:
        z = (at - center) / scale
        return np.column_stack([np.ones(len(z)), z, z**2])

    x, y = design(age), cohort.rates[here] @ weights.T
    inverse = np.linalg.inv(x.T @ x)
    fitted = inverse @ x.T @ y
    freedom = len(y) - 3
    variance = np.square(y - x @ fitted).sum(axis=0) / freedom
    low_age, high_age = np.percentile(age, (2, 98)).tolist()
    ages = np.linspace(low_age, high_age, 40)
    at = design(ages)
    spread = np.sqrt(np.einsum("gi,ij,gj->g", at, inverse, at)[:, None] * variance)
    reach = stats.t.ppf(0.975, freedom) * spread
    truth = None
    if cohort.expected is not None:
        truth = at @ (inverse @ x.T @ (cohort.expected[here] @ weights.T))
    mean = at @ fitted
    return AgeingCurve(ages, mean, mean - reach, mean + reach, truth, int(here.sum()))
