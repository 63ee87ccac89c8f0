"""Does the scanner show, and does ComBat take it away?"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from dataclasses import dataclass

import numpy as np

from neuro4d_lib.errors import InputError

PACKAGE = "neuroCombat"


@dataclass(frozen=True, eq=False)
class ScannerEffect:
    """Of two scanners, by region [R], before and after.

    Attributes:
        shift_before, shift_after: difference of the means, adjusted, in SD within a scanner.
        ratio_before, ratio_after: SD of the second over that of the first, what covariates explain taken out.
    """

    shift_before: np.ndarray
    shift_after: np.ndarray
    ratio_before: np.ndarray
    ratio_after: np.ndarray


def combat(values: np.ndarray, second: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Values [N, R] of two scanners, harmonized; what `keep` [N, C] explains stays.

    Johnson et al., 2007, doi:10.1093/biostatistics/kxj037; Fortin et al., 2018, doi:10.1016/j.neuroimage.2017.11.024.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(
            f"Harmonization needs {PACKAGE}, which is not installed. Install it with: pip install "
            "'neuro4d-lib[harmonization]'"
        )
    import pandas
    from neuroCombat import neuroCombat

    table = pandas.DataFrame({f"keep_{i}": column for i, column in enumerate(keep.T)})
    table["scanner"] = second.astype(int)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells every step
        result = neuroCombat(
            dat=values.T,
            covars=table,
            batch_col="scanner",
            continuous_cols=[c for c in table if c != "scanner"] or None,
        )
    return np.asarray(result["data"].T)


def scanner_effect(values: np.ndarray, harmonized: np.ndarray, second: np.ndarray, keep: np.ndarray) -> ScannerEffect:
    """What of the scanner is left."""
    before, after = (_shift_and_ratio(each, second, keep) for each in (values, harmonized))
    return ScannerEffect(before[0], after[0], before[1], after[1])


def _shift_and_ratio(values: np.ndarray, second: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    design = np.column_stack([np.ones(len(values)), second, keep])
    fitted = np.linalg.lstsq(design, values, rcond=None)[0]
    left = values - design @ fitted
    sds = [left[side].std(axis=0, ddof=1) for side in (~second, second)]
    within = np.sqrt((np.square(sds[0]) + np.square(sds[1])) / 2)
    return fitted[1] / within, sds[1] / sds[0]
