"""scores.md: the readable excerpt of scores.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neuro4d_lib.applications.score_table import ALL, Score, pivot, select

MEANING = {
    "coverage_50": "Share of truths inside the 50 % band; 0.5 is right.",
    "coverage_80": "Share of truths inside the 80 % band; 0.8 is right.",
    "coverage_90": "Share of truths inside the 90 % band; 0.9 is right.",
    "coverage_95": "Share of truths inside the 95 % band; 0.95 is right.",
    "crps": "Continuous ranked probability score of the log-volume change, in %; smaller is better.",
    "crps_skill": "1 - CRPS / CRPS of the group rate; 0 as good as that, 1 perfect.",
    "crps_share_of_exact": "Share of the exact forecaster's gain over the group rate; 1 is all that can be known.",
    "change_skill_score": "1 - sum (true - predicted)^2 / sum true^2 of the change since the last scan; "
    "0 as good as copying the last scan, 1 perfect; noise_ceiling: what a perfect forecast would get of noisy scans.",
    "pattern_correlation": "Uncentered correlation r of predicted and true changes. Change skill score = r^2 - (r - m)^2.",
    "amplitude_ratio": "Root mean square of predicted over true changes, m; 1 is right.",
    "volume_error_percent": "Mean absolute error of the region's volume, in % of its own volume at the last scan.",
    "volume_error_percent_of_brain": "The same in % of the volume of the whole brain.",
    "rate_error_percent_per_year": "Mean absolute error of the yearly rate, in % per year.",
    "interval_score_90": "Width of the 90 % band in % plus 20 times what misses it; smaller is better.",
    "pit_bias": "Mean place of the truth in the predicted distribution, minus 1/2; 0 is right.",
    "pit_dispersion": "12 times its mean squared distance from 1/2; 1 is right, above 1 the bands are too narrow.",
    "image_change_skill_score": "1 - sum (true - predicted)^2 / sum true^2 of every voxel's change of intensity since "
    "the last scan, in the brain; 0 as good as copying the last scan. Noise of both scans counts as change.",
    "image_pattern_correlation": "r of the voxels' changes.",
    "image_amplitude_ratio": "m of the voxels' changes.",
    "ssim": "Structural similarity with the follow-up scan in the brain; see copy_last before judging it.",
    "psnr": "Peak signal to noise ratio, dB, likewise.",
    "fold_failures": "Voxels that fail the fold test, a forecast: all futures and years on the scan's own grid.",
    "semigroup_error_mm": "Mean distance between going to the later year at once and by way of the earlier one, mm.",
    "semigroup_error_95_mm": "95th percentile of the same, mm.",
    "log_determinant_curvature": "Mean absolute second time-difference of log det J, per year^2; 0 for a constant rate.",
    "wrong_sign_share": "Share of drawn region-visits that change in the direction opposite to the group's mean.",
    "adjacent_change_ratio": "Change between neighboring frames over that of the real scans, whose noise counts too.",
}
# What the longer tables show; every row is in scores.csv.
_MAIN_REGIONS = ("hippocampus", "lateral_ventricle", "whole_brain")
_MAIN_METRICS = ("volume_error_percent", "change_skill_score", "crps_skill", "coverage_90")
_UNLISTED = ("pit_tenth_",)
TRUE, OWN = "true_", "own_"


def render_scores(
    scores: Sequence[Score],
    title: str,
    command: str,
    horizon_years: float = 2.0,
    preface: Sequence[str] = (),
) -> str:
    """Markdown: per metric, tables by region, horizon, number of scans and diagnosis, as far as there are rows.

    Args:
        scores: all rows.
        title: of the page; says what population it is, and that it is simulated where it is.
        command: the command that made the table.
        horizon_years: of the tables by scans and by diagnosis.
        preface: paragraphs before the tables.
    """
    parts = [f"# {title}", f"Made by `{command}`. Value ± standard error by subject; every row is in `scores.csv`."]
    parts += preface
    for metric in dict.fromkeys(score.metric for score in scores if not score.metric.startswith(_UNLISTED)):
        of_metric = select(scores, metric=metric)
        tables = _tables(of_metric, horizon_years)
        if tables:
            parts += [f"## {metric}", meaning(metric), *tables]
    parts += _pit_tables(scores, horizon_years)
    return "\n\n".join(part for part in parts if part) + "\n"


def meaning(metric: str) -> str:
    """One sentence on a metric; with `true_`, against what is true of a simulated person, with `own_` by the study's labels."""
    if metric.startswith(OWN):
        own = MEANING.get(metric.removeprefix(OWN), "")
        return f"By the segmentations that came with the data; % of brain is % of all labels. {own}".strip()
    if metric.startswith(TRUE):
        return (
            f"Against the simulated truth, not the follow-up scan. {MEANING.get(metric.removeprefix(TRUE), '')}".strip()
        )
    return MEANING.get(metric, "")


def _tables(of_metric: Sequence[Score], horizon_years: float) -> list[str]:
    """The tables of one metric that have rows."""
    everybody = select(of_metric, diagnosis=ALL)
    at_horizon = select(of_metric, horizon_years=horizon_years)
    longer = bool(of_metric) and of_metric[0].metric.removeprefix(TRUE).removeprefix(OWN) in _MAIN_METRICS
    main = [score for score in of_metric if longer and score.region in _MAIN_REGIONS and score.scans is not None]
    together = select(everybody, scans=None)
    by_scans = [score for score in select(at_horizon, diagnosis=ALL) if score.scans is not None]
    chosen = [
        ("", together, ("region", "horizon_years")),
        (
            f"At {horizon_years:g} years, by scans:",
            by_scans if longer or not together else [],
            ("region", "scans"),
        ),
        (
            f"At {horizon_years:g} years, by diagnosis:",
            [s for s in main if s.diagnosis != ALL and s.horizon_years == horizon_years],
            ("region", "diagnosis", "scans"),
        ),
    ]
    if not together:
        chosen.append(("By horizon:", select(main, diagnosis=ALL), ("region", "horizon_years", "scans")))
    parts = []
    for heading, scores, rows in chosen:
        if scores:
            parts += [heading, table(scores, rows)]
    return parts


def _pit_tables(scores: Sequence[Score], horizon_years: float) -> list[str]:
    """The PIT histogram of the main regions: a column for each tenth of the predicted distribution."""
    tenths = [s for s in select(scores, diagnosis=ALL, horizon_years=horizon_years) if s.metric.startswith(_UNLISTED)]
    lines: dict[tuple[object, ...], list[Score]] = {}
    for score in tenths:
        if score.region in _MAIN_REGIONS:
            lines.setdefault((score.method, score.region, score.scans), []).append(score)
    if not lines:
        return []
    width = max(len(cells) for cells in lines.values())
    header = ["method", "region", "scans", *(f"{i + 1}" for i in range(width)), "n"]
    rows = [_line(header), _line(["---"] * len(header))]
    for (method, region, scans), cells in lines.items():
        values = [f"{100 * cell.value:.1f}" for cell in cells]
        rows.append(_line([str(method), str(region), ALL if scans is None else str(scans), *values, str(cells[0].n)]))
    error = max(score.standard_error for score in tenths)
    text = f"% of truths in each tenth of the predicted distribution at {horizon_years:g} years; 10 is right, ± {100 * error:.1f}."
    return ["## PIT histogram", text, "\n".join(rows)]


def table(scores: Sequence[Score], rows: Sequence[str]) -> str:
    """A table in Markdown: the named columns, then a column for every method."""
    methods = list(dict.fromkeys(score.method for score in scores))
    lines = [_line([*rows, *methods, "n"]), _line(["---"] * (len(rows) + len(methods) + 1))]
    for key, of_method in pivot(scores, rows).items():
        cells = [_cell(of_method[method]) if method in of_method else "" for method in methods]
        n = max(score.n for score in of_method.values())
        lines.append(_line([*(ALL if part is None else _name(part) for part in key), *cells, str(n)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(part: object) -> str:
    return f"{part:g}" if isinstance(part, float) else str(part)


def _cell(score: Score) -> str:
    """The value with as many decimals as its error deserves."""
    error = score.standard_error
    if not math.isfinite(score.value):
        return "–"
    if not math.isfinite(error) or error == 0:
        return f"{score.value:.3g}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{score.value:.{decimals}f} ± {error:.{decimals}f}"
