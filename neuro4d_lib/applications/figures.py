"""One page of figures, drawn from a table of scores and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib.applications.score_table import ALL, Score, select
from neuro4d_lib.errors import InputError

BAND_LEVELS = (50, 80, 90, 95)
# Wong, 2011, doi:10.1038/nmeth.1618: told apart by the color-blind too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def draw_scores(
    scores: Sequence[Score], path: Path, title: str, regions: Sequence[str], method: str = "model", horizon: float = 2.0
) -> None:
    """Coverage, share of the attainable skill, error and change skill score on one page (.png, .pdf or .svg).

    Args:
        scores: rows of scores.csv.
        title: says what population it is, and that it is simulated where it is.
        regions: at most eight, drawn in one color each.
        method: the one whose coverage and share is drawn.
        horizon: years, of the panels over the number of past scans.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 1 <= len(regions) <= len(COLORS):
        raise InputError(f"The page has room for 1 to {len(COLORS)} regions; found {len(regions)}.")
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    (coverage, share), (error, change) = figure.subplots(2, 2)
    _coverage(coverage, select(scores, method=method, diagnosis=ALL, scans=None), regions)
    at_horizon = select(scores, horizon_years=horizon, diagnosis=ALL)
    _share(share, select(at_horizon, metric="crps_share_of_exact", method=method), regions, method, horizon)
    _error(error, select(at_horizon, metric="volume_error_percent", region=regions[0]), regions[0], horizon)
    _change(change, select(scores, metric="change_skill_score", region=regions[0], scans=None), regions[0], method)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _coverage(axes: Any, scores: Sequence[Score], regions: Sequence[str]) -> None:
    """Observed coverage over the horizon; dashed: what was claimed."""
    for level in BAND_LEVELS:
        axes.axhline(level, color="0.6", linewidth=0.8, linestyle="--")
        for region, color in zip(regions, COLORS, strict=False):
            label = region if level == BAND_LEVELS[0] else None
            _line(axes, select(scores, metric=f"coverage_{level}", region=region), "horizon_years", color, label, 100)
    axes.set(xlabel="horizon, years", ylabel="truths inside the band, %", title="Coverage of 50, 80, 90, 95 % bands")
    _finish(axes, scores, "horizon_years")


def _share(axes: Any, scores: Sequence[Score], regions: Sequence[str], method: str, horizon: float) -> None:
    axes.axhline(100, color="0.6", linewidth=0.8, linestyle="--")
    for region, color in zip(regions, COLORS, strict=False):
        _line(axes, select(scores, region=region), "scans", color, region, 100)
    axes.set(xlabel="past scans", ylabel="%", title=f"Share of the attainable CRPS gain: {method}, {horizon:g} years")
    _finish(axes, scores, "scans")


def _error(axes: Any, scores: Sequence[Score], region: str, horizon: float) -> None:
    for method, color in zip(dict.fromkeys(score.method for score in scores), COLORS, strict=False):
        _line(axes, select(scores, method=method), "scans", color, method)
    axes.set(xlabel="past scans", ylabel="% of own volume", title=f"Error of the volume: {region}, {horizon:g} years")
    _finish(axes, scores, "scans")


def _change(axes: Any, scores: Sequence[Score], region: str, method: str) -> None:
    axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
    diagnoses = dict.fromkeys(score.diagnosis for score in scores)
    for diagnosis, color in zip(diagnoses, COLORS, strict=False):
        _line(axes, select(scores, diagnosis=diagnosis, method=method), "horizon_years", color, diagnosis)
    axes.set(xlabel="horizon, years", title=f"Change skill score (0: last scan copied): {method}, {region}")
    _finish(axes, scores, "horizon_years")


def _line(axes: Any, scores: Sequence[Score], column: str, color: str, label: str | None, factor: float = 1) -> None:
    """A line over a column, with bars of two standard errors."""
    drawn = sorted((s for s in scores if getattr(s, column) is not None), key=lambda score: getattr(score, column))
    if drawn:
        places = [getattr(score, column) for score in drawn]
        errors = [2 * factor * score.standard_error for score in drawn]
        values = [factor * score.value for score in drawn]
        axes.errorbar(
            places, values, errors, color=color, label=label, marker="o", markersize=3, capsize=2, linewidth=1
        )


def _finish(axes: Any, scores: Sequence[Score], column: str) -> None:
    """A tick at every place, and the legend."""
    axes.title.set_fontsize(10)
    axes.set_xticks(sorted({getattr(score, column) for score in scores} - {None}))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    else:
        axes.text(0.5, 0.5, "not in this table", ha="center", transform=axes.transAxes, color="0.5")
