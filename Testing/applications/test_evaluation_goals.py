"""Goals from tables whose outcome is known."""

import pytest

from neuro4d_lib.applications.evaluation_courses import CourseCheck
from neuro4d_lib.applications.evaluation_goals import assess, render_goals
from neuro4d_lib.applications.score_table import ALL, Score

GOOD = CourseCheck(8, 0.01, 0.2, 24, 1000, 0)


def row(metric, value, error=0.0095, method="model", region="hippocampus", years=2.0, diagnosis=ALL, scans=1):
    return Score(metric, region, years, diagnosis, scans, method, value, error, 1000)


def found(rows, what, calls=9, courses=GOOD):
    (goal,) = [goal for goal in assess(rows, calls, courses) if goal.what.startswith(what)]
    return goal


class TestCoverage:
    @pytest.mark.parametrize(("value", "met"), [(0.88, True), (0.92, True), (0.879, False), (0.921, False)])
    def test_is_met_within_two_points(self, value, met):
        assert found([row("coverage_90", 0.9), row("coverage_90", value, years=5.0)], "coverage of 90").met is met

    def test_names_the_worst_cell_and_what_is_beyond_sampling_error(self):
        rows = [
            row("coverage_90", 0.9),
            row("coverage_90", 0.85, region="amygdala", years=3.0),
            row("coverage_90", 0.87),
        ]
        goal = found(rows, "coverage of 90")
        assert goal.reached.startswith("1 of 3 cells; worst 85.0 % (amygdala, 3 y, 1 scan); 1 outside beyond")

    def test_other_bands_have_three_points(self):
        rows = [row("coverage_50", 0.53), row("coverage_80", 0.77), row("coverage_95", 0.98)]
        assert found(rows, "coverage of 50, 80, 95").met
        assert not found([*rows, row("coverage_50", 0.54)], "coverage of 50, 80, 95").met

    def test_the_exact_forecaster_is_told_beside(self):
        rows = [row("coverage_90", 0.9), row("coverage_90", 0.93, method="exact")]
        assert found(rows, "coverage of 90").reached.endswith("the exact forecaster: 0 of 1")


class TestShare:
    def test_by_number_of_scans(self):
        rows = [row("crps_share_of_exact", v, 0.01, years=y) for v, y in ((0.95, 1.0), (0.89, 2.0), (0.8, 3.0))]
        rows += [row("crps_share_of_exact", 0.99, scans=2)]
        rows += [row("crps_skill", 0.03), row("crps_skill", 0.04, method="exact")]
        one, two = (goal for goal in assess(rows, 9, GOOD) if goal.what.startswith("share"))
        assert not one.met and two.met
        assert "all cells together 75.0 %" in one.reached and "least 80.0 %" in one.reached
        assert "1 of 3 cells reach it, 1 miss it beyond sampling error" in one.reached


class TestCells:
    def test_worse_than_group_rate_only_beyond_sampling_error(self):
        close, clear = row("crps_skill", -0.01, 0.01, diagnosis="AD"), row("crps_skill", -0.03, 0.01, diagnosis="CN")
        assert found([close], "worse than").met
        goal = found([close, clear], "worse than")
        assert not goal.met and goal.reached.startswith("1 of 2") and "hippocampus, CN, 2 y, 1 scan" in goal.reached

    def test_error_may_rise_within_sampling_error(self):
        errors = [row("volume_error_percent", v, 0.1, scans=k) for k, v in ((1, 2.0), (2, 1.0), (3, 1.2))]
        assert found(errors, "error falls").met
        worse = row("volume_error_percent", 1.6, 0.1, scans=5)
        goal = found([*errors, worse], "error falls")
        assert not goal.met and goal.reached == "2 rises in 3 steps, 1 beyond sampling error"

    def test_two_year_error_counts_for_every_number_of_scans(self):
        rows = [row("volume_error_percent", v, scans=k, region="lateral_ventricle") for k, v in ((1, 5.1), (2, 3.0))]
        assert not found(rows, "two-year error, lateral_ventricle").met
        assert found(rows[1:], "two-year error, lateral_ventricle").met
        assert found([row("volume_error_percent", 3.0)], "two-year error, hippocampus").met

    def test_change_skill_has_to_be_above_zero_for_every_diagnosis(self):
        rows = [row("change_skill_score", 0.5, diagnosis="AD"), row("change_skill_score", 0.0, diagnosis="PD")]
        assert not found(rows, "change skill").met
        assert found(rows[:1], "change skill").met


class TestCourses:
    def test_composition_and_folds(self):
        assert found([], "composing").met and found([], "voxels failing").met
        assert not found([], "composing", courses=CourseCheck(8, 0.06, 0.2, 24, 1000, 0)).met
        assert not found([], "composing", courses=CourseCheck(8, 0.01, 0.6, 24, 1000, 0)).met
        assert not found([], "voxels failing", courses=CourseCheck(8, 0.01, 0.2, 24, 1000, 1)).met

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        goals = assess([], None, None)
        assert {goal.met for goal in goals} == {None}
        assert "not measured |" in render_goals(goals)

    @pytest.mark.parametrize(("calls", "met"), [(20, True), (21, False)])
    def test_network_calls(self, calls, met):
        assert found([], "network calls", calls=calls).met is met


def test_every_line_of_the_table_is_regular():
    text = render_goals(assess([row("coverage_90", 0.9)], 9, GOOD))
    assert len({line.count("|") for line in text.splitlines()}) == 1
