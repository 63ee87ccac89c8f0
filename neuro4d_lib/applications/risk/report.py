"""The files of a risk assessment: tables, JSON, figures, one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import neuro4d_lib
from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.page import NO_ADVICE, Section, as_csv, as_json, figure, png_of, render_page
from neuro4d_lib.applications.risk.assessment import Assessment, RegionCourse
from neuro4d_lib.applications.risk.centiles import CENTILES
from neuro4d_lib.applications.risk.next_scan import WORTH, Schedule
from neuro4d_lib.applications.risk.thresholds import MM3_PER_ML
from neuro4d_lib.forecasting.provenance import RESEARCH_USE
from neuro4d_lib.forecasting.staging import staged

FILES = {
    "risk.html": "everything on one page, for a web browser",
    "centiles.csv": "each region's centile now, and its forecast with the 5th and 95th centile",
    "crossings.csv": "chance of each threshold at each year, of this person and of people like this one",
    "next_scan.csv": "what a scan at each time would show and narrow",
    "centiles.png": "each region's course among people of the same sex and diagnosis",
    "crossings.png": "chance of each threshold over time",
    "next_scan.png": "what the next scan is good for, by its time",
    "risk.json": "all of it, and how it was made",
}


def write_assessment(assessment: Assessment, folder: Path, how: dict[str, Any]) -> dict[str, str]:
    """All files, or none. `how` says what it was made from, ready for JSON."""
    pictures = {"centiles.png": _draw_centiles(assessment), "next_scan.png": _draw_schedules(assessment)}
    if assessment.crossings:
        pictures["crossings.png"] = _draw_crossings(assessment)
    tables = {"centiles.csv": _centile_rows(assessment), "next_scan.csv": _schedule_rows(assessment)}
    if assessment.crossings:
        tables["crossings.csv"] = _crossing_rows(assessment)
    with staged(folder) as place:
        for name, png in pictures.items():
            (place / name).write_bytes(png)
        for name, rows in tables.items():
            (place / name).write_text(as_csv(rows), encoding="utf-8")
        (place / "risk.json").write_text(as_json(_as_json(assessment, how)), encoding="utf-8")
        (place / "risk.html").write_text(_page(assessment, pictures), encoding="utf-8")
        return {name: what for name, what in FILES.items() if (place / name).exists()}


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def _centile_rows(assessment: Assessment) -> list[dict[str, Any]]:
    rows = []
    for course in assessment.courses:
        points = [(0.0, course.past_mm3[-1], None, None)]
        points += [(y, m, low, high) for y, (low, m, high) in zip(course.years, course.forecast_mm3, strict=True)]
        for years, median, low, high in points:
            rows.append({
                "region": course.region, "years": float(years), "centile_at_scan": _known(course.centile) if years == 0 else None,
                "volume_mm3": float(median), "low_90_mm3": None if low is None else float(low),
                "high_90_mm3": None if high is None else float(high),
            })  # fmt: skip
    return rows


def _crossing_rows(assessment: Assessment) -> list[dict[str, Any]]:
    return [
        {
            "threshold": crossing.threshold.text,
            "years": float(year),
            "probability": float(p),
            "people_like_this": float(g),
        }
        for crossing in assessment.crossings
        for year, p, g in zip(crossing.years, crossing.person, crossing.group, strict=True)
    ]


def _schedule_rows(assessment: Assessment) -> list[dict[str, Any]]:
    return [
        {
            "region": plan.region, "next_scan_years": float(time), "chance_that_change_exceeds_noise": float(shown),
            "horizon_years": plan.horizon, "narrowing_of_band": _known(narrowing),
        }
        for plan in assessment.schedules
        for time, shown, narrowing in zip(plan.times, plan.shown, plan.narrowing, strict=True)
    ]  # fmt: skip


def _as_json(assessment: Assessment, how: dict[str, Any]) -> dict[str, Any]:
    return {
        "notice": f"{RESEARCH_USE} {NO_ADVICE}",
        "source": assessment.source,
        "warnings": list(assessment.warnings),
        "covariates": assessment.covariates.as_dict(),
        "head_size_known": assessment.head_known,
        "centiles": {course.region: _known(round(course.centile, 2)) for course in assessment.courses},
        "crossings": _crossing_rows(assessment),
        "next_scan": [
            {
                "region": plan.region, "scan_noise_percent": plan.noise_percent,
                "smallest_detectable_change_percent": plan.detectable_percent,
                "years_until_half_show_change": plan.detectable_years,
                "years_until_expected_change_is_detectable": plan.expected_years,
                "horizon_years": plan.horizon, "years_until_a_scan_narrows_the_band": plan.worth_years,
                "narrowing_that_counts": WORTH, "next_scan_years": plan.next_years,
            }
            for plan in assessment.schedules
        ],
        "made": {**how, "neuro4d_lib": neuro4d_lib.__version__},
    }  # fmt: skip


def _page(assessment: Assessment, pictures: dict[str, bytes]) -> str:
    known = {name: value for name, value in assessment.covariates.as_dict().items() if value is not None}
    person = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items()) or "nothing"
    years = assessment.courses[0].years
    shown = [i for i in range(len(years)) if years[i] in (1, 2, 3, 5, 10)] or list(range(len(years)))
    sections = [
        Section(
            "Among people of the same age, sex and diagnosis",
            "Centiles of simulated people. The band holds 90 % of the futures of this person.",
            pictures["centiles.png"],
            ("region", "at the scan, ml", "centile", *(f"after {years[i]:g} years, ml (90 % band)" for i in shown)),
            [_course_cells(course, shown) for course in assessment.courses],
        )
    ]
    if assessment.crossings:
        sections.append(
            Section(
                "Chance of crossing a threshold",
                "Chance that the true volume is beyond the threshold at that year. Below it: of people with the same "
                "covariates of whom no scan was seen.",
                pictures["crossings.png"],
                ("threshold", *(f"after {years[i]:g} years (people like this)" for i in shown)),
                [
                    (c.threshold.text, *(f"{100 * c.person[i]:.0f} % ({100 * c.group[i]:.0f} %)" for i in shown))
                    for c in assessment.crossings
                ],
            )
        )
    horizon = assessment.schedules[0].horizon
    sections.append(
        Section(
            "When the next scan tells something",
            "Smallest detectable change: 1.96 sqrt(2) times the error of one scan. The next scan is worth making, in this sense "
            f"alone, once its change exceeds that in half of such people, or once it narrows the band at {horizon:g} years by "
            f"{100 * WORTH:.0f} %, whichever comes first.",
            pictures["next_scan.png"],
            ("region", "scan noise", "smallest detectable change", "half show it after", f"narrows {horizon:g} years by {100 * WORTH:.0f} %",
             "next scan after"),
            [_plan_cells(plan) for plan in assessment.schedules],
        )
    )  # fmt: skip
    return render_page(
        "One person's course", f"Known: {person}. From {assessment.source}.", sections, assessment.warnings
    )


def _course_cells(course: RegionCourse, shown: Sequence[int]) -> tuple[str, ...]:
    cells = [course.region.replace("_", " "), f"{course.past_mm3[-1] / MM3_PER_ML:,.2f}"]
    cells.append("unknown" if course.centile != course.centile else f"{course.centile:.0f}")
    for i in shown:
        low, median, high = course.forecast_mm3[i] / MM3_PER_ML
        cells.append(f"{median:,.2f} ({low:,.2f} to {high:,.2f})")
    return tuple(cells)


def _plan_cells(plan: Schedule) -> tuple[str, ...]:
    def years(value: float | None) -> str:
        return f"not within {plan.times[-1]:g} years" if value is None else f"{value:.1f} years"

    return (
        plan.region.replace("_", " "), f"{plan.noise_percent:.2f} %", f"{plan.detectable_percent:.2f} %",
        years(plan.detectable_years), years(plan.worth_years), years(plan.next_years),
    )  # fmt: skip


def _draw_centiles(assessment: Assessment) -> bytes:
    made = figure(3.6 * len(assessment.courses), 3.6)
    age = assessment.covariates.age
    for axes, course in zip(
        made.subplots(1, len(assessment.courses), squeeze=False)[0], assessment.courses, strict=True
    ):
        start = 0.0 if age is None else age
        for k, c in enumerate(CENTILES if len(course.ages) else ()):
            curve = course.curves_mm3[:, k] / MM3_PER_ML
            axes.plot(course.ages, curve, color="0.65", linewidth=1.6 if c == 50 else 0.8)
            axes.annotate(f"{c}", (course.ages[-1], curve[-1]), fontsize=7, color="0.4", va="center")
        from_scan = np.vstack([np.repeat(course.past_mm3[-1], 3), course.forecast_mm3])
        low, median, high = (from_scan / MM3_PER_ML).T
        ahead = start + np.append(0.0, course.years)
        axes.fill_between(ahead, low, high, color=COLORS[0], alpha=0.25, linewidth=0)
        axes.plot(ahead, median, color=COLORS[0])
        axes.plot(start + course.past_years, course.past_mm3 / MM3_PER_ML, "o", color="black", markersize=4)
        title = course.region.replace("_", " ")
        axes.set_title(
            title if course.centile != course.centile else f"{title}: centile {course.centile:.0f}", fontsize=10
        )
        axes.set_xlabel("years after the scan" if age is None else "age, years")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("ml")
    return png_of(made)


def _draw_crossings(assessment: Assessment) -> bytes:
    made = figure(8, 3.8)
    axes = made.subplots()
    for k, crossing in enumerate(assessment.crossings):
        color = COLORS[k % len(COLORS)]
        years = [0.0, *crossing.years] if crossing.threshold.kind != "rate" else list(crossing.years)
        lead = [0.0] if crossing.threshold.kind != "rate" else []
        axes.plot(
            years, [*lead, *(100 * crossing.person)], color=color, marker="o", ms=3, label=crossing.threshold.text
        )
        axes.plot(years, [*lead, *(100 * crossing.group)], color=color, linestyle="--", linewidth=1)
    axes.plot([], [], color="0.4", linestyle="--", linewidth=1, label="people with the same covariates")
    axes.set(xlabel="years after the scan", ylabel="chance, %", ylim=(-2, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return png_of(made)


def _draw_schedules(assessment: Assessment) -> bytes:
    made = figure(10, 3.8)
    shown, narrowed = made.subplots(1, 2)
    for k, plan in enumerate(assessment.schedules):
        color, label = COLORS[k % len(COLORS)], plan.region.replace("_", " ")
        shown.plot(plan.times, 100 * plan.shown, color=color, label=label)
        narrowed.plot(plan.times, 100 * plan.narrowing, color=color, label=label)
    shown.axhline(50, color="0.6", linewidth=0.8, linestyle="--")
    narrowed.axhline(100 * WORTH, color="0.6", linewidth=0.8, linestyle="--")
    shown.set(xlabel="next scan, years from now", ylabel="%", title="Chance that its change exceeds scan noise")
    horizon = assessment.schedules[0].horizon
    narrowed.set(
        xlabel="next scan, years from now", ylabel="%", title=f"By how much it narrows the band at {horizon:g} years"
    )
    for axes in (shown, narrowed):
        axes.set_xlim(0, None)
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
    shown.legend(fontsize=8, frameon=False)
    return png_of(made)
