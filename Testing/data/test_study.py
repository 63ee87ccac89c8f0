"""A BIDS data set as people make them, and as they get them wrong."""

import pytest

from neuro4d_lib.data.study import read_study
from neuro4d_lib.errors import InputError


class TestReading:
    def test_visits_in_order_with_years_and_covariates(self, bids):
        (subject,) = bids.add("sub-01", [0, 730.5, 1096]).study().subjects
        assert [visit.session for visit in subject.visits] == ["ses-01", "ses-02", "ses-03"]
        assert [visit.years for visit in subject.visits] == pytest.approx([0, 2, 3.0007], abs=1e-3)
        assert subject.visits[1].scan.name == "sub-01_ses-02_T1w.nii.gz"
        known = subject.visits[1].covariates
        assert (known.age, known.sex, known.education_years, known.apoe4, known.diagnosis) == (72, "F", 16, 1, "MCI")

    @pytest.mark.parametrize(
        ("column", "times"),
        [("days_since_first", [0, 365.25]), ("months", [0, 12]), ("years", [3, 4]), ("age", [70, 71]),
         ("acq_time", ["2020-03-01T09:00:00", "2021-03-01T15:00:00"])],
    )  # fmt: skip
    def test_time_in_any_of_these_columns(self, bids, column, times):
        (subject,) = bids.add("sub-01", times, column).study().subjects
        assert subject.visits[1].years == pytest.approx(1, abs=2e-3)

    def test_what_is_unknown_is_unknown(self, bids):
        (subject,) = bids.add("sub-01", [0, 400], row="n/a\tn/a\tn/a\tn/a\tsomething else").study().subjects
        assert set(subject.visits[1].covariates.as_dict().values()) == {None}

    def test_a_session_may_know_better_than_the_participant(self, bids):
        (subject,) = bids.add("sub-01", [0, 400], extra="diagnosis=MCI,AD").study().subjects
        assert [visit.covariates.diagnosis for visit in subject.visits] == ["MCI", "AD"]

    def test_controls_are_cognitively_normal(self, bids):
        (subject,) = bids.add("sub-01", [0, 400], row="70\tmale\t16\t0\tHC").study().subjects
        assert (subject.visits[0].covariates.diagnosis, subject.visits[0].covariates.sex) == ("CN", "M")

    def test_one_table_of_sessions_for_all(self, bids):
        study = bids.add("sub-01", [0, 400])
        (study.folder / "sub-01" / "sub-01_sessions.tsv").unlink()
        lines = "participant_id\tsession_id\tyears\nsub-01\tses-01\t0\nsub-01\tses-02\t1.5\n"
        (study.folder / "sessions.tsv").write_text(lines)
        assert study.study().subjects[0].visits[1].years == 1.5

    def test_only_those_who_are_wanted(self, bids):
        bids.add("sub-01", [0, 400]).add("sub-02", [0, 400])
        assert [subject.id for subject in bids.study(wanted=["02"]).subjects] == ["sub-02"]
        with pytest.raises(InputError, match=r"holds no sub-03\. It holds 2 subjects"):
            bids.study(wanted=["sub-03"])

    def test_what_simulate_writes(self, bids):
        """The columns of data/cohort.py."""
        bids.add("sub-0001", [0, 309], extra="age=77.5084,78.3534")
        assert bids.study().subjects[0].visits[1].covariates.age == 78.3534


class TestUnusable:
    def test_one_visit_only(self, bids):
        assert bids.add("sub-01", [0]).reason() == "only one visit with a T1w scan; expected at least 2"

    def test_a_missing_scan(self, bids):
        assert bids.add("sub-01", [0, 200], scans=[2]).reason().startswith("only one visit with a T1w scan")

    def test_a_missing_scan_among_three_leaves_two(self, bids):
        (subject,) = bids.add("sub-01", [0, 200, 600], scans=[2, 3]).study().subjects
        assert [visit.years for visit in subject.visits] == pytest.approx([0, 400 / 365.25])

    def test_of_two_visits_at_one_time_the_first_is_used(self, bids):
        study = bids.add("sub-01", [0, 200, 200]).study()
        assert [visit.session for visit in study.subjects[0].visits] == ["ses-01", "ses-02"]
        (problem,) = study.problems
        assert problem.sentence == "ses-03 of sub-01 is left out: it has the same time as ses-02"
        assert problem.place(study.folder) == "sub-01/sub-01_sessions.tsv:4"

    def test_follow_up_before_baseline(self, bids):
        assert "ses-02 lies 1.00 years before ses-01" in bids.add("sub-01", [0, -365.25]).reason()

    def test_days_in_a_column_of_years(self, bids):
        assert bids.add("sub-01", [0, 203], "years").reason().endswith("are these days?")

    def test_years_in_a_column_of_days(self, bids):
        assert bids.add("sub-01", [0, 2.5]).reason().endswith("are these years?")

    def test_an_age_that_contradicts_the_time(self, bids):
        assert "age says 7 years" in bids.add("sub-01", [0, 365], extra="age=70,77").reason()

    def test_no_times_at_all(self, bids):
        study = bids.add("sub-01", [0, 200])
        (study.folder / "sub-01" / "sub-01_sessions.tsv").unlink()
        assert study.reason() == "no sub-01_sessions.tsv says when the sessions were"

    def test_no_column_of_time(self, bids):
        assert "no time; expected a column such as" in bids.add("sub-01", ["x", "y"], "mood").reason()

    def test_a_time_that_is_no_number(self, bids):
        assert "'days_since_first' holds 'soon'" in bids.add("sub-01", [0, "soon"]).reason()

    def test_a_subject_named_twice(self, bids):
        bids.people.append("sub-01\t71\tM\t12\t0\tCN")
        assert "participants.tsv lists it in lines 2 and 3" in bids.add("sub-01", [0, 400]).reason()

    def test_a_child(self, bids):
        assert "made for people of 18 to 100" in bids.add("sub-01", [0, 400], row="9\tF\t3\t1\tCN").reason()

    def test_the_others_are_still_read(self, bids):
        study = bids.add("sub-01", [0]).add("sub-02", [0, 400]).study()
        assert ([s.id for s in study.subjects], [u.subject for u in study.unusable]) == (["sub-02"], ["sub-01"])


class TestNoStudy:
    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="There is no folder"):
            read_study(tmp_path / "nowhere")

    def test_no_subjects(self, tmp_path):
        with pytest.raises(InputError, match=r"holds no folder sub-\* \(it is empty\)\. Expected a BIDS data set"):
            read_study(tmp_path)

    def test_a_table_with_other_columns_is_told_and_the_rest_is_read(self, bids):
        bids.add("sub-01", [0, 400])
        (bids.folder / "participants.tsv").write_text("name,age\nx,1\n")
        study = read_study(bids.folder)
        assert "has no column 'participant_id'" in study.problems[-1].sentence
        assert study.subjects[0].visits[0].covariates.age is None
