"""The goals of the benchmark, and what a table of scores says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuro4d_lib.applications.evaluation_courses import FIRST_YEARS, LAST_YEARS, CourseCheck
from neuro4d_lib.applications.score_table import ALL, Score, select

BEYOND_ERROR = 2.0
"""Standard errors."""
MOST_CALLS = 20
MOST_MEAN_MM, MOST_MAX_MM = 0.05, 0.5
TWO_YEAR_GOALS = {"hippocampus": 3.0, "lateral_ventricle": 5.0}


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        what, goal: the quantity and what it should be.
        reached: what it is.
        met: None where it was not measured.
    """

    what: str
    goal: str
    reached: str
    met: bool | None


def assess(
    scores: Sequence[Score], network_calls: int | None, courses: CourseCheck | None, method: str = "model"
) -> list[Goal]:
    """All goals, in the order of their table; cells are region x horizon x number of scans unless another is named."""
    ours = select(scores, method=method)
    everybody = select(ours, diagnosis=ALL)
    exact = select(scores, method="exact", diagnosis=ALL)
    return [
        coverage_goal(everybody, exact, (90,), 0.02),
        coverage_goal(everybody, exact, (50, 80, 95), 0.03),
        *share_goals(everybody, exact),
        never_worse_goal(ours),
        monotone_goal(everybody),
        *two_year_goals(everybody, exact),
        change_skill_goal(ours),
        composition_goal(courses),
        fold_goal(courses),
        _calls_goal(network_calls),
    ]


def render_goals(goals: Sequence[Goal]) -> str:
    """A table in Markdown."""
    words = {True: "met", False: "missed", None: "not measured"}
    lines = ["| what | goal | reached | |", "| --- | --- | --- | --- |"]
    lines += [f"| {goal.what} | {goal.goal} | {goal.reached} | {words[goal.met]} |" for goal in goals]
    return "\n".join(lines)


def coverage_goal(scores: Sequence[Score], exact: Sequence[Score], levels: Sequence[int], within: float) -> Goal:
    """Every cell's coverage lies within some distance of what its band claims."""
    what = f"coverage of {_listed(levels)} % bands"
    goal = (
        f"within {100 * within:g} points"
        if len(levels) > 1
        else f"{levels[0] - 100 * within:g}-{levels[0] + 100 * within:g} %"
    )

    def off(rows: Sequence[Score]) -> list[tuple[float, Score]]:
        found = [(level / 100, row) for level in levels for row in select(rows, metric=f"coverage_{level}")]
        return [(abs(row.value - level), row) for level, row in found]

    distances = off(scores)
    if not distances:
        return Goal(what, goal, "no bands", None)
    inside = sum(distance <= within + 1e-9 for distance, _ in distances)
    surely = sum(distance > within + BEYOND_ERROR * row.standard_error for distance, row in distances)
    worst = max(distances, key=lambda item: item[0])
    reached = (
        f"{inside} of {len(distances)} cells; worst {_percent(worst[1].value)} ({_cell(worst[1])}); "
        f"{surely} outside beyond sampling error"
    )
    of_exact = off(exact)
    if of_exact:
        reached += f"; the exact forecaster: {sum(d <= within + 1e-9 for d, _ in of_exact)} of {len(of_exact)}"
    return Goal(what, goal, reached, inside == len(distances))


def share_goals(scores: Sequence[Score], exact: Sequence[Score], least: float = 0.9) -> list[Goal]:
    """By number of scans: the share of the exact forecaster's gain in CRPS over the group rate."""
    goals = []
    shares = select(scores, metric="crps_share_of_exact")
    for scans in sorted({row.scans for row in shares if row.scans is not None}):
        cells = select(shares, scans=scans)
        reaching = [row for row in cells if row.value >= least]
        surely = [row for row in cells if row.value + BEYOND_ERROR * row.standard_error < least]
        values = sorted(row.value for row in cells)
        together = _together(
            select(scores, metric="crps_skill", scans=scans), select(exact, metric="crps_skill", scans=scans)
        )
        middle = values[len(values) // 2]
        goals.append(
            Goal(
                f"share of the exact CRPS skill over group rate, {scans} scan{'s' if scans > 1 else ''}",
                f">= {100 * least:g} %",
                f"all cells together {together}, median {_percent(middle)}, least {_percent(values[0])}; {len(reaching)} of {len(cells)} cells reach it, "
                f"{len(surely)} miss it beyond sampling error",
                len(reaching) == len(cells),
            )
        )
    return goals


def never_worse_goal(scores: Sequence[Score]) -> Goal:
    """CRPS against that of last scan + group rate, by region x diagnosis x horizon x number of scans."""
    cells = [row for row in select(scores, metric="crps_skill") if row.diagnosis != ALL]
    worse = [row for row in cells if row.value + BEYOND_ERROR * row.standard_error < 0]
    what, goal = "worse than last scan + group rate", "0 cells beyond sampling error"
    if not cells:
        return Goal(what, goal, "no cells", None)
    least = min(cells, key=lambda row: row.value)
    reached = f"{len(worse)} of {len(cells)} region x diagnosis x horizon x scans cells; least CRPS skill {_value(least)} ({_cell(least)})"
    return Goal(what, goal, reached, not worse)


def monotone_goal(scores: Sequence[Score]) -> Goal:
    """The error does not grow with another scan, by more than sampling error, in any region at any horizon."""
    errors = select(scores, metric="volume_error_percent")
    counts = sorted({row.scans for row in errors if row.scans is not None})
    rises = surely = steps = 0
    for fewer, more in itertools.pairwise(counts):
        after = {(row.region, row.horizon_years): row for row in select(errors, scans=more)}
        for before in select(errors, scans=fewer):
            row = after.get((before.region, before.horizon_years))
            if row is None:
                continue
            steps += 1
            rises += row.value > before.value
            spread = math.hypot(row.standard_error, before.standard_error)
            surely += row.value - before.value > BEYOND_ERROR * spread
    what, goal = "error falls as scans are added", "monotone within sampling error"
    if not steps:
        return Goal(what, goal, "only one number of scans", None)
    return Goal(what, goal, f"{rises} rises in {steps} steps, {surely} beyond sampling error", surely == 0)


def two_year_goals(scores: Sequence[Score], exact: Sequence[Score]) -> list[Goal]:
    """Mean absolute error of the volume at two years, in % of the region's own, for every number of scans."""
    goals = []
    for region, most in TWO_YEAR_GOALS.items():
        wanted = {"metric": "volume_error_percent", "region": region, "horizon_years": 2.0}
        rows = [row for row in select(scores, **wanted) if row.scans is not None]
        best = {row.scans: row for row in select(exact, **wanted)}
        if not rows:
            continue
        found = [
            f"{_value(row)} with {row.scans}" + (f" (exact {_value(best[row.scans])})" if row.scans in best else "")
            for row in rows
        ]
        met = all(row.value <= most for row in rows)
        goals.append(
            Goal(f"two-year error, {region}", f"<= {most:g} % of own volume", "; ".join(found) + " scans", met)
        )
    return goals


def change_skill_goal(scores: Sequence[Score]) -> Goal:
    """Above 0 for every region, diagnosis, horizon and number of scans."""
    cells = [row for row in select(scores, metric="change_skill_score") if row.diagnosis != ALL]
    what, goal = "change skill score", "> 0 for every diagnosis and horizon"
    if not cells:
        return Goal(what, goal, "no cells", None)
    least = min(cells, key=lambda row: row.value)
    below = sum(row.value <= 0 for row in cells)
    reached = f"{below} of {len(cells)} region x diagnosis x horizon x scans cells at or below 0; least {_value(least)} ({_cell(least)})"
    return Goal(what, goal, reached, below == 0)


def composition_goal(courses: CourseCheck | None) -> Goal:
    """See `evaluation_courses`."""
    what = f"composing 0->{FIRST_YEARS:g} y with {FIRST_YEARS:g}->{LAST_YEARS:g} y against 0->{LAST_YEARS:g} y"
    goal = f"<= {MOST_MEAN_MM:g} mm mean, <= {MOST_MAX_MM:g} mm max"
    if courses is None:
        return Goal(what, goal, "not measured", None)
    reached = f"{courses.mean_mm:.4f} mm mean, {courses.max_mm:.3f} mm max in the brain, {courses.courses} courses"
    return Goal(what, goal, reached, courses.mean_mm <= MOST_MEAN_MM and courses.max_mm <= MOST_MAX_MM)


def fold_goal(courses: CourseCheck | None) -> Goal:
    """See `geometry.jacobian.count_fold_failures`."""
    what, goal = "voxels failing the fold test", "0"
    if courses is None:
        return Goal(what, goal, "not measured", None)
    reached = f"{courses.failed} of {courses.voxels:,} voxels of {courses.maps} maps at 1 mm"
    return Goal(what, goal, reached, courses.failed == 0)


def _calls_goal(calls: int | None) -> Goal:
    reached = "not measured" if calls is None else str(calls)
    return Goal(
        "network calls per joint sequence", f"<= {MOST_CALLS}", reached, None if calls is None else calls <= MOST_CALLS
    )


def _together(ours: Sequence[Score], exact: Sequence[Score]) -> str:
    """Mean skill over cells per mean skill of the exact forecaster: every cell counts alike, in units of its group rate."""
    best = sum(row.value for row in exact)
    return _percent(sum(row.value for row in ours) / best) if best > 0 else "–"


def _cell(row: Score) -> str:
    parts: list[tuple[bool, Callable[[], str]]] = [
        (True, lambda: row.region),
        (row.diagnosis != ALL, lambda: row.diagnosis),
        (row.horizon_years is not None, lambda: f"{row.horizon_years:g} y"),
        (row.scans is not None, lambda: f"{row.scans} scan{'s' if row.scans != 1 else ''}"),
    ]
    return ", ".join(text() for shown, text in parts if shown)


def _value(row: Score) -> str:
    return f"{row.value:.2f} ± {row.standard_error:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels))
