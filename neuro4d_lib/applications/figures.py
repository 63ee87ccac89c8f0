"""One page of figures, drawn from a table of scores and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib.applications.score_table import ALL, Score, select
from neuro4d_lib.applications.scoring import PIT_BINS
from neuro4d_lib.errors import InputError

_MANY = 50  # people: with fewer, the bars of a coverage reach beyond what it can be
BAND_LEVELS = (50, 80, 90, 95)
# Wong, 2011, doi:10.1038/nmeth.1618: told apart by the color-blind too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def draw_scores(
    scores: Sequence[Score],
    path: Path,
    title: str,
    regions: Sequence[str],
    method: str = "model",
    horizon: float = 2.0,
    scans: int | None = None,
    prefix: str = "",
) -> None:
    """Coverage, PIT, CRPS skill, share of the attainable skill, error and change skill score (.png, .pdf or .svg).

    Args:
        scores: rows of scores.csv.
        title: says what population it is, and that it is simulated where it is.
        regions: at most eight, drawn in one color each.
        method: the one whose coverage, PIT and share is drawn.
        horizon: years, of the panels over the number of past scans and of the PIT.
        scans: number of past scans, of the panels over the horizon and of the PIT; None: all together.
        prefix: of the metrics' names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 1 <= len(regions) <= len(COLORS):
        raise InputError(f"The page has room for 1 to {len(COLORS)} regions; found {len(regions)}.")
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    (coverage, pit, change), (share, skill, error) = figure.subplots(2, 3)
    past = "all scans" if scans is None else f"{scans} scan{'s' if scans > 1 else ''}"
    plain = [score for score in scores if score.metric.startswith(prefix)]
    of_scans = select(plain, scans=scans)
    _coverage(coverage, select(of_scans, method=method, diagnosis=ALL), regions, prefix, past)
    _pit(pit, select(of_scans, method=method, diagnosis=ALL, horizon_years=horizon), regions, prefix, past, horizon)
    main = select(of_scans, metric=prefix + "change_skill_score", region=regions[0])
    _change(change, main, regions[0], method, past)
    at_horizon = select(plain, horizon_years=horizon, diagnosis=ALL)
    _share(share, select(at_horizon, metric=prefix + "crps_share_of_exact", method=method), regions, method, horizon)
    first = select(at_horizon, region=regions[0])
    skill.set_ylim(-1, 1)  # copying the last scan lies far below
    _methods(
        skill,
        select(first, metric=prefix + "crps_skill"),
        f"CRPS skill over group rate: {regions[0]}, {horizon:g} years",
        "",
    )
    _methods(
        error, select(first, metric=prefix + "volume_error_percent"), f"Error of the volume: {regions[0]}, {horizon:g} years",
        "% of own volume",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _coverage(axes: Any, scores: Sequence[Score], regions: Sequence[str], prefix: str, past: str) -> None:
    """Observed coverage over the horizon; dashed: what was claimed."""
    for level in BAND_LEVELS:
        axes.axhline(level, color="0.6", linewidth=0.8, linestyle="--")
        for region, color in zip(regions, COLORS, strict=False):
            label = region if level == BAND_LEVELS[0] else None
            chosen = select(scores, metric=f"{prefix}coverage_{level}", region=region)
            _line(axes, chosen, "horizon_years", color, label, 100)
    axes.set(
        ylim=(0 if any(score.n < _MANY for score in scores) else None, 102),
        xlabel="horizon, years",
        ylabel="truths inside the band, %",
        title=f"Coverage of 50, 80, 90, 95 % bands, {past}",
    )
    _finish(axes, scores, "horizon_years")


def _pit(axes: Any, scores: Sequence[Score], regions: Sequence[str], prefix: str, past: str, horizon: float) -> None:
    """Share of truths in each tenth of the predicted distribution; shaded: two standard errors around a tenth."""
    drawn = []
    for region, color in zip(regions, COLORS, strict=False):
        tenths = [select(scores, metric=f"{prefix}pit_tenth_{i + 1}", region=region) for i in range(PIT_BINS)]
        if all(tenths):
            drawn = [cell[0] for cell in tenths]
            edges = [i / PIT_BINS for i in range(PIT_BINS + 1)]
            axes.stairs([100 * cell.value for cell in drawn], edges, color=color, label=region)
    if drawn:
        error = 200 * drawn[0].standard_error
        axes.axhspan(100 / PIT_BINS - error, 100 / PIT_BINS + error, color="0.9", zorder=0)
        axes.set_ylim(bottom=0)
    axes.set(
        xlabel="place in the predicted distribution",
        ylabel="truths, %",
        title=f"PIT histogram, {horizon:g} years, {past}",
    )
    _finish(axes, [], "horizon_years")


def _share(axes: Any, scores: Sequence[Score], regions: Sequence[str], method: str, horizon: float) -> None:
    axes.axhline(100, color="0.6", linewidth=0.8, linestyle="--")
    for region, color in zip(regions, COLORS, strict=False):
        _line(axes, select(scores, region=region), "scans", color, region, 100)
    axes.set(xlabel="past scans", ylabel="%", title=f"Share of the attainable CRPS gain: {method}, {horizon:g} years")
    _finish(axes, scores, "scans")


def _methods(axes: Any, scores: Sequence[Score], title: str, unit: str) -> None:
    """A line for every method over the number of scans."""
    for method, color in zip(dict.fromkeys(score.method for score in scores), COLORS, strict=False):
        _line(axes, select(scores, method=method), "scans", color, method)
    axes.set(xlabel="past scans", ylabel=unit, title=title)
    _finish(axes, scores, "scans")


def _change(axes: Any, scores: Sequence[Score], region: str, method: str, past: str) -> None:
    axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
    diagnoses = dict.fromkeys(score.diagnosis for score in scores)
    for diagnosis, color in zip(diagnoses, COLORS, strict=False):
        _line(axes, select(scores, diagnosis=diagnosis, method=method), "horizon_years", color, diagnosis)
    axes.set(xlabel="horizon, years", title=f"Change skill score (0: last scan copied): {region}, {past}")
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
    places = sorted({getattr(score, column) for score in scores} - {None})
    if places:
        axes.set_xticks(places)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    else:
        axes.text(0.5, 0.5, "not in this table", ha="center", transform=axes.transAxes, color="0.5")
