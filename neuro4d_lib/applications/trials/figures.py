"""Figures of a simulated trial: power curves, biomarkers beside each other, mean courses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.summary import CoursePoint, PowerPoint, Row

_COLUMNS = 3


def power_figure(design: TrialDesign, powers: Sequence[PowerPoint], arm: str) -> Any:
    """Simulated power (points with two Monte Carlo errors) and by the normal approximation (lines), against people."""
    markers = list(dict.fromkeys(point.biomarker for point in powers))
    figure, axes = _panels(len(markers), 3.1)
    for axis, marker in zip(axes, markers, strict=False):
        for color, analysis in zip(COLORS, design.analyses, strict=False):
            points = [p for p in powers if (p.arm, p.biomarker, p.analysis) == (arm, marker, analysis)]
            people = [point.people for point in points]
            axis.errorbar(
                people,
                [100 * point.power for point in points],
                [200 * point.power_error for point in points],
                color=color,
                fmt="o",
                ms=3.5,
                lw=1,
                label=analysis,
            )
            axis.plot(people, [100 * point.analytic for point in points], color=color, lw=1, alpha=0.7)
        axis.axhline(100 * design.power, color="0.5", lw=0.8, ls="--")
        axis.axvline(min(design.people()), color="0.5", lw=0.8, ls=":")
        axis.set(title=marker, ylim=(0, 103), xlabel="people per arm", ylabel="power, %")
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def comparison_figure(design: TrialDesign, rows: Sequence[Row], arm: str) -> Any:
    """People per arm that each biomarker and analysis needs: bars by closed form, points by simulation."""
    markers = list(dict.fromkeys(row.biomarker for row in rows))
    figure, axes = _panels(1, 0.5 + 0.62 * len(markers), columns=1)
    height = 0.8 / len(design.analyses)
    largest = 3 * design.most_people_per_arm
    for i, (color, analysis) in enumerate(zip(COLORS, design.analyses, strict=False)):
        for place, marker in enumerate(markers):
            (row,) = [r for r in rows if (r.arm, r.biomarker, r.analysis) == (arm, marker, analysis)]
            y, beyond = place + (i - (len(design.analyses) - 1) / 2) * height, row.n_closed_form > largest
            axes[0].barh(
                y, min(row.n_closed_form, largest), height * 0.9, color=color, alpha=0.55,
                label=analysis if place == 0 else None,
            )  # fmt: skip
            if beyond:
                number = f"{row.n_closed_form:.0f}" if math.isfinite(row.n_closed_form) else "no effect"
                axes[0].text(largest * 0.99, y, number, ha="right", va="center", fontsize=8)
            if math.isfinite(row.n_simulated):
                axes[0].plot(row.n_simulated, y, "o", color="black", ms=3.5)
    axes[0].axvline(min(design.people()), color="0.5", lw=0.8, ls=":")
    axes[0].set(
        yticks=range(len(markers)), yticklabels=markers, xlabel=f"people per arm for {100 * design.power:g} % power"
    )
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def course_figure(courses: Sequence[CoursePoint]) -> Any:
    """Mean change since the first visit of every arm, with the spread between people."""
    markers = list(dict.fromkeys(point.biomarker for point in courses))
    arms = list(dict.fromkeys(point.arm for point in courses))
    figure, axes = _panels(len(markers), 2.9)
    for axis, marker in zip(axes, markers, strict=False):
        for i, (color, arm) in enumerate(zip(COLORS, arms, strict=False)):
            points = [point for point in courses if (point.biomarker, point.arm) == (marker, arm)]
            shift = (i - (len(arms) - 1) / 2) * 0.012 * points[-1].years
            axis.errorbar(
                [point.years + shift for point in points],
                [point.change for point in points],
                [point.sd for point in points],
                color=color,
                marker="o",
                ms=3,
                lw=1.5,
                elinewidth=0.6,
                capsize=2,
                label=arm,
            )
        axis.axhline(0, color="0.6", lw=0.7)
        axis.set(title=marker, xlabel="years", ylabel="change, %")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _panels(count: int, height: float, columns: int = _COLUMNS) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * max(columns, 2), height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes[count:]:
        axis.set_axis_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:count]
