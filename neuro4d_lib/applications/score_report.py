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
    "0 as good as copying the last scan, 1 perfect.",
    "change_skill_ceiling": "Change skill score that a perfect forecaster reaches, given the noise of the measurement.",
    "volume_error_percent": "Mean absolute error of the region's volume, in % of its own volume at the last scan.",
    "interval_score_90": "Width of the 90 % band in % plus 20 times what misses it; smaller is better.",
}


def render_scores(scores: Sequence[Score], title: str, command: str, horizon_years: float = 2.0) -> str:
    """Markdown: per metric, one table by region and horizon, and one each by scans and by diagnosis at one horizon.

    Args:
        scores: all rows.
        title: of the page; says what population it is, and that it is simulated where it is.
        command: the command that made the table.
        horizon_years: of the tables by scans and by diagnosis.
    """
    parts = [f"# {title}", f"Made by `{command}`. Value ± standard error by subject; every row is in `scores.csv`."]
    for metric in dict.fromkeys(score.metric for score in scores):
        of_metric = select(scores, metric=metric)
        parts += [f"## {metric}", MEANING.get(metric, "")]
        everybody = select(of_metric, diagnosis=ALL, scans=None)
        parts.append(_table(everybody, ("region", "horizon_years")))
        at_horizon = select(of_metric, horizon_years=horizon_years)
        of_scans = [score for score in select(at_horizon, diagnosis=ALL) if score.scans is not None]
        of_diagnosis = [score for score in select(at_horizon, scans=None) if score.diagnosis != ALL]
        for name, chosen in (("scans", of_scans), ("diagnosis", of_diagnosis)):
            if chosen:
                parts += [f"At {horizon_years:g} years, by {name}:", _table(chosen, ("region", name))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(scores: Sequence[Score], rows: tuple[str, ...]) -> str:
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
