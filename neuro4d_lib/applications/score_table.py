"""The table of scores: long form, one number a row, `scores.csv`; and its readable excerpt, `scores.md`."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.metrics.change import measurable

COLUMNS = ("metric", "region", "horizon_years", "diagnosis", "scans", "method", "value", "standard_error", "n")
ALL = "all"

Cell = tuple[str, float | None, str, int | None]
"""region, horizon_years, diagnosis, scans."""


@dataclass(frozen=True)
class Score:
    """One row.

    Attributes:
        horizon_years, scans: None where the row is over all of them; "all" in the file, as for region and diagnosis.
        standard_error: sampling error by subject; NaN where unknown, empty in the file.
        n: subjects.
    """

    metric: str
    region: str
    horizon_years: float | None
    diagnosis: str
    scans: int | None
    method: str
    value: float
    standard_error: float
    n: int

    @property
    def cell(self) -> Cell:
        return self.region, self.horizon_years, self.diagnosis, self.scans


@dataclass(frozen=True)
class Cases:
    """Who was scored: N cases, H horizons, R regions. A subject may be several cases, with 1, 2, 3 ... past scans.

    Attributes:
        regions: [R] names.
        horizons: [H] years.
        subject, diagnosis, scans: [N].
    """

    regions: Sequence[str]
    horizons: Sequence[float]
    subject: np.ndarray
    diagnosis: np.ndarray
    scans: np.ndarray

    def means(self, metric: str, method: str, values: np.ndarray, claimed: float | None = None) -> list[Score]:
        """The mean in every cell of region x horizon x diagnosis x scans, and over all diagnoses, all scans.

        Args:
            values: [N, H, R]; NaN where there is no case. Cells without cases give no row.
            claimed: of a share, what it should be: then the standard error is the binomial one of that share, which
                does not vanish where all cases agree.
        """
        return self._rows(metric, method, values, np.ones_like(values, dtype=float), claimed)

    def ratios(self, metric: str, method: str, numerator: np.ndarray, denominator: np.ndarray) -> list[Score]:
        """sum numerator / sum denominator in every cell, both [N, H, R]. With CRPS of three forecasters, for instance,
        (reference - ours) / reference is a skill and (reference - ours) / (reference - exact) its attainable share.
        """
        return self._rows(metric, method, numerator, denominator, None)

    def patterns(
        self, prefix: str, method: str, true_power: np.ndarray, predicted_power: np.ndarray, product: np.ndarray
    ) -> list[Score]:
        """Pattern correlation r and amplitude ratio m of changes, the parts of the skill: skill = r^2 - (r - m)^2.

        Args:
            true_power, predicted_power, product: d_true^2, d_pred^2 and d_true d_pred (or sums of them), [N, H, R].
        """
        parts = np.stack([true_power, predicted_power, product])
        rows = []
        for metric, function in (("pattern_correlation", _correlation), ("amplitude_ratio", _amplitude)):
            for cell, chosen, h, r in self._cells():
                value, error, n = jackknife(parts[:, chosen, h, r], self.subject[chosen], function)
                if np.isfinite(value):
                    rows.append(Score(prefix + metric, *cell, method, value, error, n))
        return rows

    def unmeasurable(self, changes: np.ndarray, noise_sd: np.ndarray) -> set[Cell]:
        """Cells whose changes [N, H, R] are too small to be scored, given the SD [R] of their measurement noise."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # cells without cases
            return {
                cell for cell, chosen, h, r in self._cells() if not measurable(changes[chosen, h, r], noise_sd[r]).all()
            }

    def _rows(
        self, metric: str, method: str, numerator: np.ndarray, denominator: np.ndarray, claimed: float | None
    ) -> list[Score]:
        shape = (len(self.subject), len(self.horizons), len(self.regions))
        if numerator.shape != shape or denominator.shape != shape:
            raise InputError(
                f"{metric} of {method}: expected cases x horizons x regions {shape}, found {numerator.shape}."
            )
        rows = []
        for cell, chosen, h, r in self._cells():
            value, error, n = ratio_of_sums(numerator[chosen, h, r], denominator[chosen, h, r], self.subject[chosen])
            if claimed is not None and n:
                error = float(np.sqrt(claimed * (1 - claimed) / n))
            if n:
                rows.append(Score(metric, *cell, method, value, error, n))
        return rows

    def _cells(self) -> Iterable[tuple[Cell, np.ndarray, int, int]]:
        """(region, horizon, diagnosis, scans), which cases [N], and the places of horizon and region."""
        for diagnosis, scans, chosen in self._groups():
            for h, horizon in enumerate(self.horizons):
                for r, region in enumerate(self.regions):
                    yield (region, float(horizon), diagnosis, scans), chosen, h, r

    def _groups(self) -> Iterable[tuple[str, int | None, np.ndarray]]:
        for diagnosis in [*np.unique(self.diagnosis).tolist(), ALL]:
            for scans in [*np.unique(self.scans).tolist(), None]:
                chosen = (diagnosis == ALL) | (self.diagnosis == diagnosis)
                yield str(diagnosis), scans, chosen & ((scans is None) | (self.scans == scans))


def ratio_of_sums(numerator: np.ndarray, denominator: np.ndarray, subject: np.ndarray) -> tuple[float, float, int]:
    """sum numerator / sum denominator [N], its standard error, and the number of subjects.

    The error is linearized and clustered: the residuals numerator - ratio * denominator are added up within each
    subject, and their scatter between subjects counts (Cochran, Sampling Techniques, 1977, section 6.4). Methods that
    are scored on the same subjects are so compared in pairs. NaN: no case.
    """
    counted = np.isfinite(numerator) & np.isfinite(denominator)
    over, under = numerator[counted], denominator[counted]
    subjects, which = np.unique(subject[counted], return_inverse=True)
    n = len(subjects)
    if n == 0 or under.sum() == 0:
        return float("nan"), float("nan"), 0
    ratio = float(over.sum() / under.sum())
    residual = np.bincount(which, over - ratio * under)
    error = np.sqrt(n / (n - 1) * np.square(residual).sum()) / abs(under.sum()) if n > 1 else float("nan")
    return ratio, float(error), n


def jackknife(
    parts: np.ndarray, subject: np.ndarray, function: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float, int]:
    """A function of sums over cases, its standard error by leaving out one subject at a time, and their number.

    Args:
        parts: [P, N] whose sums [P] over cases the function takes; NaN does not count.
        function: [P, ...] -> [...].
    """
    counted = np.isfinite(parts).all(axis=0)
    subjects, which = np.unique(subject[counted], return_inverse=True)
    n = len(subjects)
    if n == 0:
        return float("nan"), float("nan"), 0
    of_subject = np.stack([np.bincount(which, part[counted], minlength=n) for part in parts])
    total = of_subject.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(total))
        without = function(total[:, None] - of_subject)
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())) if n > 1 else float("nan")
    return value, error, n


def _correlation(sums: np.ndarray) -> np.ndarray:
    true_power, predicted_power, product = sums
    return np.asarray(product / np.sqrt(np.maximum(true_power * predicted_power, 0)))


def _amplitude(sums: np.ndarray) -> np.ndarray:
    true_power, predicted_power, _ = sums
    return np.asarray(np.sqrt(np.maximum(predicted_power, 0) / true_power))


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores.csv whole or not at all: an interrupted or failed write leaves the earlier file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_to_text(value, name) for value, name in zip(astuple(s), COLUMNS, strict=True)] for s in scores)
    write_whole(path, text.getvalue())


def read_scores(path: Path) -> list[Score]:
    """Read scores.csv back."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"The scores {path} cannot be read: {error.strerror}.") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        raise InputError(f"{path} is no table of scores; its first line must be {','.join(COLUMNS)}.")
    return [_from_text(row, f"{path}, line {i}") for i, row in enumerate(rows[1:], start=2)]


def select(scores: Iterable[Score], **wanted: object) -> list[Score]:
    """The rows whose columns equal what is wanted, such as metric="crps", scans=None."""
    return [score for score in scores if all(getattr(score, name) == value for name, value in wanted.items())]


def pivot(scores: Iterable[Score], rows: Sequence[str]) -> dict[tuple[object, ...], dict[str, Score]]:
    """Scores by the named columns, then by method, in the order in which they come.

    More than one score for a place means that a column is missing in `rows`, or in a `select` before.
    """
    table: dict[tuple[object, ...], dict[str, Score]] = {}
    for score in scores:
        key = tuple(getattr(score, name) for name in rows)
        if score.method in table.setdefault(key, {}):
            raise ValueError(f"Two scores of {score.method} at {key}: select one metric, and pivot by more columns.")
        table[key][score.method] = score
    return table


def _to_text(value: object, column: str) -> str:
    if value is None:
        return ALL
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def _from_text(row: list[str], where: str) -> Score:
    if len(row) != len(COLUMNS):
        raise InputError(f"{where}: expected {len(COLUMNS)} values, found {len(row)}.")
    metric, region, horizon, diagnosis, scans, method, value, error, n = row
    try:
        return Score(
            metric,
            region,
            None if horizon == ALL else float(horizon),
            diagnosis,
            None if scans == ALL else int(scans),
            method,
            float(value or "nan"),
            float(error or "nan"),
            int(n),
        )
    except ValueError as problem:
        raise InputError(f"{where}: {problem}.") from problem
