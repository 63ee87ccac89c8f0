"""Difference of two groups at many places at once, by permutation: nothing is assumed about the shape of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_AT_ONCE = 100


@dataclass(frozen=True, eq=False)
class Difference:
    """Second group minus first, adjusted, at V places.

    Attributes:
        estimate, standard_error, t: [V], least squares; freedom: of t.
        p: [V] of each place alone; p_max: [V] for all places together, by the largest |t| anywhere.
    """

    estimate: np.ndarray
    standard_error: np.ndarray
    t: np.ndarray
    freedom: int
    p: np.ndarray
    p_max: np.ndarray


def permuted_difference(
    values: np.ndarray, second: np.ndarray, nuisance: np.ndarray, permutations: int, generator: np.random.Generator
) -> Difference:
    """Freedman and Lane, 1983: what nuisances explain is taken out, what is left is dealt out anew.

    Winkler et al., 2014, doi:10.1016/j.neuroimage.2014.01.060. The group and the nuisances permuted over fixed residuals give
    the same t as permuted residuals; so every permutation is a product with the residuals, which are worked out once.

    Args:
        values: [N, V]; second: [N] bool, who is in the second group; nuisance: [N, C] without the constant.
    """
    people = len(values)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(people), nuisance]))
    left = values - basis @ (basis.T @ values)
    group = second.astype(float)
    group = group - basis @ (basis.T @ group)
    square = float(group @ group)
    if square < 1e-8 * people:
        raise ValueError("The groups follow from the nuisances.")
    freedom = people - basis.shape[1] - 1
    energy = np.square(left).sum(axis=0)

    def statistics(orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate and standard error [B, V] where person i gets the group and nuisances of person orders[b, i]."""
        estimate = group[orders] @ left / square
        explained = sum(np.square(column[orders] @ left) for column in basis.T)
        residual = np.maximum(energy - explained - square * estimate**2, 1e-30)
        return estimate, np.sqrt(residual / freedom / square)

    observed, error = (part[0] for part in statistics(np.arange(people)[None]))
    t = observed / error
    alone, together = np.ones(values.shape[1]), np.ones(values.shape[1])
    done = 0
    while done < permutations:
        count = min(_AT_ONCE, permutations - done)
        orders = np.stack([generator.permutation(people) for _ in range(count)])
        estimate, errors = statistics(orders)
        size = np.abs(estimate / errors)
        # Equal but for rounding counts as equal.
        alone += (size >= np.abs(t) * (1 - 1e-10)).sum(axis=0)
        together += (size.max(axis=1)[:, None] >= np.abs(t) * (1 - 1e-10)).sum(axis=0)
        done += count
    return Difference(observed, error, t, freedom, alone / (permutations + 1), together / (permutations + 1))
