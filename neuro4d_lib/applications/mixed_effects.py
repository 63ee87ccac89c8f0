"""Linear mixed effects, the statistician's standard: fitted by statsmodels, used in closed form for new people."""

from __future__ import annotations

import logging
import warnings

import numpy as np

from neuro4d_lib.applications.line_law import EVERYBODY, GroupLaw, LineLaw, People, describe_ages

LEAST_CORRELATION_ROOM = 1e-3
"""Distance kept from full correlation, where a covariance has no inverse."""


def mixed_effects_law(training: People) -> LineLaw:
    """Level and rate of every region by restricted maximum likelihood (statsmodels MixedLM).

    Fixed: level and rate of every group, each linear in age. Random: a person's level and rate, correlated, with one
    covariance for all groups. A second fit without groups serves people whose diagnosis is unknown.
    """
    members = training.members()
    everybody = {EVERYBODY: members.pop(EVERYBODY)}
    pooled = _fit(training, everybody)
    if not members:
        return pooled
    grouped = _fit(training, members)
    return LineLaw({**pooled.groups, **grouped.groups}, grouped.noise_variance)


def _fit(training: People, members: dict[str, np.ndarray]) -> LineLaw:
    """One model a region, over the people of all groups."""
    regions, names = training.log_volumes.shape[2], list(members)
    ages = [describe_ages(training.age[here]) for here in members.values()]
    # [N, 2 per group]: in the group; years older than its mean.
    of_person = np.zeros((len(training.age), 2 * len(names)))
    for i, (here, (_, _, older)) in enumerate(zip(members.values(), ages, strict=True)):
        of_person[here, 2 * i], of_person[here, 2 * i + 1] = 1, older
    fixed = np.zeros((len(names), 2, 2, regions))
    covariance, noise = np.zeros((2, 2, regions)), np.zeros(regions)
    counted = np.asarray(of_person.any(axis=1))[:, None]
    for region in range(regions):
        values = training.log_volumes[:, :, region]
        present = np.isfinite(values) & np.isfinite(training.years) & counted
        person, visit = np.nonzero(present)
        years = training.years[person, visit]
        design = np.hstack([of_person[person], of_person[person] * years[:, None]])
        estimate, covariance[:, :, region], noise[region] = _fit_region(values[present], design, years, person)
        # (level, rate) x (group) x (at the mean age, per year of age) -> group first
        fixed[..., region] = estimate.reshape(2, len(names), 2).transpose(1, 0, 2)
    groups = {
        name: GroupLaw(fixed[i], covariance, mean, variance, np.zeros(regions))
        for i, (name, (mean, variance, _)) in enumerate(zip(names, ages, strict=True))
    }
    return LineLaw(groups, noise)


def _fit_region(
    values: np.ndarray, design: np.ndarray, years: np.ndarray, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fixed effects, covariance [2, 2] of level and rate between people, and noise variance of one region."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    used = np.asarray(design.any(axis=0))
    fixed = np.zeros(len(used))
    fixed[used] = np.linalg.lstsq(design[:, used], values, rcond=None)[0]
    # In units in which its variances are all near 1 the optimizer arrives; with levels in percent it may stop halfway.
    units = np.array([100 * np.std(values - design @ fixed), 1.0])
    random_effects = np.stack([np.full_like(years, units[0]), years], axis=1)
    model = MixedLM(100 * values, design[:, used], groups=person, exog_re=random_effects)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = model.fit(reml=True, method=["lbfgs", "bfgs"])
    if not result.converged:
        reasons = "; ".join(str(warning.message) for warning in caught)
        logging.getLogger(__name__).warning("A mixed model did not converge: %s", reasons)
    fixed[used] = np.asarray(result.fe_params) / 100
    covariance = _invertible(np.asarray(result.cov_re) * np.outer(units, units))
    return fixed, covariance * 1e-4, float(result.scale) * 1e-4


def _invertible(covariance: np.ndarray) -> np.ndarray:
    """The estimate may lie on the border, with no variance or full correlation; move it just inside."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 1e-8))
    correlation = np.clip(covariance[0, 1] / (sd[0] * sd[1]), LEAST_CORRELATION_ROOM - 1, 1 - LEAST_CORRELATION_ROOM)
    return np.array([[sd[0] ** 2, correlation * sd[0] * sd[1]], [correlation * sd[0] * sd[1], sd[1] ** 2]])
