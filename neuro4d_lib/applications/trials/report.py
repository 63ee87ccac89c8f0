"""The result of a simulated trial on one page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from string import Template
from typing import Any

from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.figures import comparison_figure, course_figure, power_figure
from neuro4d_lib.applications.trials.optimization import Candidate
from neuro4d_lib.applications.trials.summary import Row, Summary

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #f4f6f8; margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 0 20px 40px }
.banner { background: #7a2e12; color: #fff; text-align: center; padding: 8px 20px; font-weight: 600 }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 4px 20px 16px; margin-top: 18px }
h1 { font-size: 26px; margin: 24px 0 2px } h2 { font-size: 18px; margin: 12px 0 6px }
img { max-width: 100% } .scroll { overflow-x: auto } small { color: #6b7a89 }
table { border-collapse: collapse; font-size: 13px }
th { text-align: left; border-bottom: 2px solid #c5cfda; padding: 4px 8px; vertical-align: bottom }
td { border-bottom: 1px solid #e8edf2; padding: 4px 8px; white-space: nowrap }
.number { text-align: right } tr.best td { background: #eef5fc; font-weight: 600 }
</style>
</head>
<body>
<div class="banner">Simulated people; no evidence about real ones. Research use only.</div>
<main>
<h1>$title</h1>
<p>$plan</p>
<section><h2>In short</h2>$summary</section>
$arms
<section><h2>Mean courses</h2>$courses
<p><small>Change since the first visit of those who were scanned, as measured; bars: one SD between people.</small></p></section>
$optimization
<section><h2>What the columns mean</h2><p><small>Effects: treated minus control at the last visit, in percent (100 ln ratio).
<b>true</b>: in the simulated people themselves, without scan error. <b>estimated</b>: mean over trials, with the range of 95 % of
them. <b>bias</b>: of the estimate, with its Monte Carlo standard error. <b>interval</b>: how often the confidence interval of a
trial holds the true effect. <b>power</b> and <b>type I</b>: share of significant trials with and without the treatment,
± Monte Carlo standard error. <b>n</b>: people per arm for $asked % power, by closed form from the simulated standard error
/ by simulation ("–": not reached in the simulated sizes).
change: Welch's t-test of last minus first. ancova: the same, adjusted for the first value. slope: everybody's own line. mixed:
random level and slope, restricted maximum likelihood.</small></p></section>
</main>
</body>
</html>
"""


def render_report(design: TrialDesign, qualifying: float, summary: Summary, plans: Sequence[Candidate]) -> str:
    """HTML with its figures inside."""
    sections = []
    for arm in design.arms[1:]:
        rows = [row for row in summary.rows if row.arm == arm.name]
        sections.append(
            f"<section><h2>{html.escape(arm.name)} against {html.escape(design.arms[0].name)}</h2>"
            f"{_image(power_figure(design, summary.powers, arm.name), 'Power curves')}"
            "<p><small>Points: simulated, with two Monte Carlo errors. Lines: normal approximation. Dashed: asked power; "
            "dotted: planned size.</small></p>"
            f"{_image(comparison_figure(design, rows, arm.name), 'Biomarkers compared')}"
            "<p><small>Bars: closed form. Points: by simulation.</small></p>"
            f"<div class='scroll'>{_results(rows)}</div></section>"
        )
    return Template(_PAGE).substitute(
        title=html.escape(design.title),
        plan=_plan(design, qualifying, summary),
        summary=_summary(design, summary.rows),
        arms="".join(sections),
        courses=_image(course_figure(summary.courses), "Mean courses"),
        optimization=_optimization(design, plans),
        asked=f"{100 * design.power:g}",
    )


def _plan(design: TrialDesign, qualifying: float, summary: Summary) -> str:
    sizes = ", ".join(f"{n} {html.escape(arm.name)}" for n, arm in zip(design.people(), design.arms, strict=True))
    visits = ", ".join(f"{year:g}" for year in design.visits_years)
    return (
        f"{design.trials:,} simulated trials: {sizes}; scans at {visits} years. {100 * qualifying:.1f} % of people with "
        f"{html.escape(' or '.join(design.criteria.diagnoses))} meet the criteria; {summary.screened_per_person:.2f} were "
        f"screened for each who entered. Seed {design.seed}."
    )


def _summary(design: TrialDesign, rows: Sequence[Row]) -> str:
    """The smallest trial of every arm, and whatever looks the wrong way."""
    items = []
    for arm in design.arms[1:]:
        known = [row for row in rows if row.arm == arm.name and math.isfinite(row.n_closed_form)]
        if not known:
            items.append(f"<li>{html.escape(arm.name)}: no effect on any biomarker.</li>")
            continue
        best = min(known, key=lambda row: row.n_closed_form)
        items.append(
            f"<li><b>{html.escape(arm.name)}</b>: {html.escape(best.biomarker)} by {best.analysis} needs the fewest "
            f"people, {best.n_closed_form:.0f} per arm; with the planned {best.people} its power is "
            f"{100 * best.power:.1f} %.</li>"
        )
        faster = sorted({row.biomarker for row in known if row.slowing < -0.005})
        if faster:
            items.append(
                f"<li>{html.escape(arm.name)} makes {html.escape(', '.join(faster))} change <b>more</b> than without "
                "treatment: a significant difference there is no benefit.</li>"
            )
    return f"<ul>{''.join(items)}</ul>"


def _results(rows: Iterable[Row]) -> str:
    head = (
        "biomarker", "analysis", "true", "slowing", "estimated", "bias", "interval", "power", "type I",
        "n closed form / simulated",
    )  # fmt: skip
    cells = [
        (
            row.biomarker,
            row.analysis,
            f"{row.true_effect:+.3f}",
            f"{100 * row.slowing:+.1f} %",
            f"{row.effect:+.3f} <small>({row.effect_low:+.2f} to {row.effect_high:+.2f})</small>",
            f"{row.bias:+.3f} <small>± {row.bias_error:.3f}</small>",
            f"{100 * row.coverage:.1f} %",
            f"{100 * row.power:.1f} <small>± {100 * row.power_error:.1f}</small>",
            f"{100 * row.type_1:.1f} <small>± {100 * row.type_1_error:.1f}</small>",
            f"{_number(row.n_closed_form)} / {_number(row.n_simulated)}",
        )
        for row in rows
    ]
    return _table(head, cells, text_columns=2)


def _optimization(design: TrialDesign, plans: Sequence[Candidate]) -> str:
    if design.optimization is None or not plans:
        return ""
    chosen = design.optimization
    head = ("years", "visits", "let in", "people per arm", "screened", "scans", "cost")
    cells = [
        (
            f"{plan.duration_years:g}",
            str(plan.visits),
            f"{100 * plan.enriched_share:g} %",
            _number(plan.n_per_arm),
            _number(plan.screened),
            _number(plan.scans),
            f"{plan.cost:,.0f}" if math.isfinite(plan.cost) else "–",
        )
        for plan in plans
    ]
    best = plans[0]
    text = (
        f"For {100 * design.power:g} % power with {html.escape(chosen.biomarker)} by {chosen.analysis}, the cheapest first"
        + (f"; let in: the most diseased by {html.escape(chosen.enrich_by)}" if chosen.enrich_by else "")
        + (
            f". Simulated power of the cheapest: {100 * best.power:.1f} ± {100 * best.power_error:.1f} %."
            if math.isfinite(best.power)
            else "."
        )
    )
    table = _table(head, cells, text_columns=0).replace("<tbody><tr>", "<tbody><tr class='best'>", 1)
    return f"<section><h2>Plans by cost</h2><p>{text}</p><div class='scroll'>{table}</div></section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if i < text_columns else ' class=number'}>{html.escape(text) if i < text_columns else text}</{tag}>"
            for i, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float) -> str:
    if math.isinf(value):
        return "no effect"
    return f"{math.ceil(value):,}" if math.isfinite(value) else "–"


def draw_figures(design: TrialDesign, summary: Summary) -> dict[str, bytes]:
    """The figures of the first treated arm as PNG, by file name; the page has those of all arms."""
    arm = design.arms[1].name
    rows = [row for row in summary.rows if row.arm == arm]
    return {
        "power.png": _png(power_figure(design, summary.powers, arm)),
        "biomarkers.png": _png(comparison_figure(design, rows, arm)),
        "courses.png": _png(course_figure(summary.courses)),
    }


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": None})
    return content.getvalue()


def _image(figure: Any, title: str) -> str:
    data = base64.b64encode(_png(figure)).decode("ascii")
    return f"<img alt='{title}' src='data:image/png;base64,{data}'>"
