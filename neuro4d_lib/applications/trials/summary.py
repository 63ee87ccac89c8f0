"""What simulated trials say: a row for every treated arm, biomarker and analysis."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.simulation import Arrays
from neuro4d_lib.applications.trials.sizes import expected_power, needed_n, simulated_n


@dataclass(frozen=True)
class Row:
    """Effects are treated minus control at the last visit, percent (100 ln ratio).

    Attributes:
        trials: of which the analysis had a result.
        true_effect: in the simulated people, if all had stayed and scans had no error.
        effect: mean of the estimates; effect_low, effect_high: between these lie 95 % of the estimates.
        slowing: true effect as a share of the change in the control arm; positive is less change.
        interval_low, interval_high: mean confidence interval of a trial, at the design's alpha.
        coverage: share of the trials whose confidence interval holds the true effect.
        bias: of the estimate, see `_Cell.expected`.
        power, type_1: share of significant trials, with and without the effect. *_error: Monte Carlo standard errors.
        analytic_power: by the normal approximation, from bias-free effect and mean standard error.
        n_closed_form, n_simulated: people per arm (in the smallest one, if they differ) for the asked power; the latter
            is not known where the simulated sizes do not reach it.
    """

    arm: str
    biomarker: str
    analysis: str
    people: int
    trials: int
    true_effect: float
    slowing: float
    effect: float
    effect_error: float
    effect_low: float
    effect_high: float
    interval_low: float
    interval_high: float
    coverage: float
    bias: float
    bias_error: float
    power: float
    power_error: float
    analytic_power: float
    type_1: float
    type_1_error: float
    n_closed_form: float
    n_simulated: float


@dataclass(frozen=True)
class PowerPoint:
    """Power of one analysis at one number of people in the smallest arm; `analytic` by the normal approximation."""

    arm: str
    biomarker: str
    analysis: str
    people: int
    power: float
    power_error: float
    analytic: float


@dataclass(frozen=True)
class CoursePoint:
    """Mean change of an arm since the first visit, percent, its spread between people, and how many were scanned."""

    arm: str
    biomarker: str
    years: float
    change: float
    sd: float
    scans_per_trial: float


@dataclass(frozen=True)
class Summary:
    rows: tuple[Row, ...]
    powers: tuple[PowerPoint, ...]
    courses: tuple[CoursePoint, ...]
    screened_per_person: float


def significant(arrays: Arrays, alpha: float, prefix: str = "") -> np.ndarray:
    """Whether each trial rejects, [C, L, B, K, Q]; NaN where it has no result."""
    from scipy.stats import t

    critical = t.ppf(1 - alpha / 2, arrays[prefix + "freedom"])
    statistic = np.abs(arrays[prefix + "effect"]) / arrays[prefix + "standard_error"]
    return np.where(np.isfinite(statistic), statistic > critical, np.nan)


def summarize(design: TrialDesign, markers: Sequence[str], sizes: Sequence[Sequence[int]], arrays: Arrays) -> Summary:
    """Tables of all results of `run_trials`."""
    planned = list(design.people())
    at, smallest = list(map(list, sizes)).index(planned), [min(size) for size in sizes]
    rejected, rejected_null = significant(arrays, design.alpha), significant(arrays, design.alpha, "null_")
    courses = _courses(design, markers, sizes, arrays)
    control_change = {
        point.biomarker: point.change for point in courses
        if point.arm == design.arms[0].name and point.years == design.duration_years
    }  # fmt: skip
    rows, powers = [], []
    for c, arm in enumerate(design.arms[1:]):
        alike = arm.dropout_per_year == design.arms[0].dropout_per_year
        for q, marker in enumerate(markers):
            for number, analysis in enumerate(design.analyses):
                here = (c, number, slice(None), at, q)
                cell = _Cell(
                    effect=arrays["effect"][here],
                    standard_error=arrays["standard_error"][here],
                    freedom=arrays["freedom"][here],
                    null_effect=arrays["null_effect"][c, number, :, 0, q] if alike else None,
                    true_effect=float(arrays["true_effect"][c, q]),
                )
                shares = [_share(rejected[c, number, :, k, q]) for k in range(len(sizes))]
                curve = cell.curve(np.array(smallest), min(planned), design.alpha)
                powers += [
                    PowerPoint(arm.name, marker, analysis, n, share, error, float(analytic))
                    for n, (share, error), analytic in zip(smallest, shares, curve, strict=True)
                ]
                trials = int(np.isfinite(cell.effect).sum())
                type_1, type_1_error = _share(rejected_null[c, number, :, 0, q])
                rows.append(
                    Row(
                        arm=arm.name,
                        biomarker=marker,
                        analysis=analysis,
                        people=min(planned),
                        trials=trials,
                        true_effect=cell.true_effect,
                        slowing=-cell.true_effect / control_change[marker],
                        **cell.estimates(design.alpha),
                        power=shares[at][0],
                        power_error=shares[at][1],
                        analytic_power=float(curve[at]),
                        type_1=type_1,
                        type_1_error=type_1_error,
                        n_closed_form=cell.needed(min(planned), design),
                        n_simulated=simulated_n(
                            smallest, [share for share, _ in shares], trials, design.power, design.alpha
                        ),
                    )
                )
    screened = float(arrays["screened"].sum() / arrays["enrolled"].sum())
    return Summary(tuple(rows), tuple(powers), tuple(courses), screened)


@dataclass(frozen=True, eq=False)
class _Cell:
    """The trials [B] of one arm, biomarker and analysis."""

    effect: np.ndarray
    standard_error: np.ndarray
    freedom: np.ndarray
    null_effect: np.ndarray | None
    true_effect: float

    @property
    def expected(self) -> tuple[float, float]:
        """The estimate's expectation with its Monte Carlo error.

        Where the arms are alike but for the treatment, the estimate in the same people untreated has the mean 0 and much the
        same chances: taken off, it leaves less noise. Where people leave the arms at different rates it has not, and stays.
        """
        return _mean(self.effect if self.null_effect is None else self.effect - self.null_effect)

    @property
    def mean_error(self) -> float:
        return float(np.sqrt(np.nanmean(np.square(self.standard_error))))

    @property
    def _seen(self) -> bool:
        """Whether there is an effect at all, beyond rounding."""
        return abs(self.expected[0]) > 1e-9 * self.mean_error

    def curve(self, people: np.ndarray, at: float, alpha: float) -> np.ndarray:
        return expected_power(people, at, self.mean_error, self.expected[0], alpha)

    def needed(self, people: int, design: TrialDesign) -> float:
        if not self._seen:
            return float("inf")
        effect = np.array(self.expected[0])
        return float(needed_n(people, np.array(self.mean_error), effect, design.alpha, design.power))

    def estimates(self, alpha: float) -> dict[str, float]:
        from scipy.stats import t

        half = t.ppf(1 - alpha / 2, self.freedom) * self.standard_error
        low, high = self.effect - half, self.effect + half
        inside = np.where(np.isfinite(half), (low <= self.true_effect) & (self.true_effect <= high), np.nan)
        effect, error = _mean(self.effect)
        expected, expected_error = self.expected
        ends = np.nanpercentile(self.effect, (2.5, 97.5))
        return {
            "effect": effect,
            "effect_error": error,
            "effect_low": float(ends[0]),
            "effect_high": float(ends[1]),
            "interval_low": _mean(low)[0],
            "interval_high": _mean(high)[0],
            "coverage": _mean(inside)[0],
            "bias": expected - self.true_effect,
            "bias_error": expected_error,
        }


def _courses(
    design: TrialDesign, markers: Sequence[str], sizes: Sequence[Sequence[int]], arrays: Arrays
) -> list[CoursePoint]:
    points = []
    most = [max(size[a] for size in sizes) for a in range(len(design.arms))]
    for a, arm in enumerate(design.arms):
        everybody = float(arrays["counts"][a, 0])
        for v, years in enumerate(design.visits_years):
            count = float(arrays["counts"][a, v])
            for q, marker in enumerate(markers):
                mean = float(arrays["courses"][a, v, q]) / count
                sd = float(np.sqrt(max(arrays["squares"][a, v, q] / count - mean**2, 0.0)))
                points.append(CoursePoint(arm.name, marker, years, mean, sd, count / everybody * most[a]))
    return points


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and Monte Carlo standard error of what is known."""
    known = values[np.isfinite(values)]
    if known.size < 2:
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(known.size))


def _share(values: np.ndarray) -> tuple[float, float]:
    """Share of ones and its Monte Carlo standard error."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return float("nan"), float("nan")
    share = float(known.mean())
    return share, float(np.sqrt(share * (1 - share) / known.size))


def to_csv(rows: Iterable[Any]) -> str:
    """Rows of one dataclass as CSV: six digits; empty where unknown, inf where there is no effect."""
    text = io.StringIO()
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, [field.name for field in fields(row)], lineterminator="\n")
            writer.writeheader()
        writer.writerow({key: _cell_text(value) for key, value in asdict(row).items()})
    return text.getvalue()


def _cell_text(value: object) -> object:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value
