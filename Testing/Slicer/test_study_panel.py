"""A study chosen in the training panel, read by the real command line: what was understood, and what was not."""

import json
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest


def scan(path):
    """A small image, of every path another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 99, (4, 4, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)


@pytest.fixture
def study(tmp_path):
    """Three people as BIDS: one whose diagnosis and scanner change, one with a single visit, one with a wrong age."""
    folder = tmp_path / "study"
    people = {"sub-01": ("70", "F"), "sub-02": ("81", "M"), "sub-03": ("-5", "F")}
    for name in people:
        for session in ("ses-01", "ses-02"):
            if (name, session) != ("sub-02", "ses-02"):
                scan(folder / name / session / "anat" / f"{name}_{session}_T1w.nii.gz")
    for session, maker in (("ses-01", "Siemens"), ("ses-02", "GE")):
        sidecar = folder / "sub-01" / session / "anat" / f"sub-01_{session}_T1w.json"
        sidecar.write_text(json.dumps({"Manufacturer": maker}))
    lines = ["participant_id\tage\tsex", *(f"{name}\t{age}\t{sex}" for name, (age, sex) in people.items())]
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    for name in people:
        rows = ["session_id\tdays_since_first\tdiagnosis", "ses-01\t0\tMCI", "ses-02\t731\tAD"]
        (folder / name / f"{name}_sessions.tsv").write_text("\n".join(rows) + "\n")
    (folder / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.9.0"}')
    return folder


def files_of(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def choose(panel, path, wait):
    panel.ui.studyEdit.text = str(path)
    wait(lambda: panel.study.answer or panel.study.problem)
    wait(lambda: not panel.study._timer.active)


def cells(panel):
    table = panel.ui.studyTable
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


class TestBids:
    def test_what_was_understood_is_shown_before_anything_runs(self, training_panel, study, wait):
        before = files_of(study)
        choose(training_panel, study, wait)
        ui = training_panel.ui
        assert "of 3 people can be used" in ui.studySummary.text
        assert "1 person changed the scanner" in ui.studySummary.text
        assert cells(training_panel)[0] == ["sub-01", "2", "2.0", "70", "F", "MCI → AD", "changed"]
        assert files_of(study) == before

    def test_what_is_wrong_is_told_with_file_and_line(self, training_panel, study, wait):
        choose(training_panel, study, wait)
        said = training_panel.ui.studyProblems.toPlainText()
        assert "sub-02 cannot be used" in said
        assert "participants.tsv:4: " in said and "-5" in said
        assert training_panel.ui.studyProblems.visible

    def test_it_is_read_again_when_asked(self, training_panel, study, wait):
        choose(training_panel, study, wait)
        scan(study / "sub-02" / "ses-02" / "anat" / "sub-02_ses-02_T1w.nii.gz")
        training_panel.ui.readStudyButton.click()
        wait(lambda: "3 of 3 people can be used" in training_panel.ui.studySummary.text)

    def test_another_path_takes_the_old_words_away(self, training_panel, study, wait):
        choose(training_panel, study, wait)
        training_panel.ui.studyEdit.text = str(study / "nowhere")
        ui = training_panel.ui
        assert ui.studySummary.text == "" and not ui.studyTable.visible and not ui.studyProblems.visible
        assert "does not exist" in ui.studyProblem.text and not ui.readStudyButton.enabled


class TestTables:
    def table(self, tmp_path, header, rows):
        for person in range(2):
            for visit in range(2):
                scan(tmp_path / "scans" / f"p{person}" / f"v{visit}.nii.gz")
        path = tmp_path / "scans.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    def test_our_own_names(self, training_panel, tmp_path, wait):
        rows = [f"p{person},scans/p{person}/v{visit}.nii.gz,{2 * visit}" for person in range(2) for visit in range(2)]
        choose(training_panel, self.table(tmp_path, "subject,file,years", rows), wait)
        assert "2 of 2 people can be used, with 4 visits" in training_panel.ui.studySummary.text, (
            training_panel.study.problem
        )

    def test_names_by_a_file_and_scans_by_a_template(self, training_panel, tmp_path, wait):
        rows = [f"p{person},{visit},{60 + visit}" for person in range(2) for visit in range(2)]
        path = self.table(tmp_path, "Patient,Nr,Alter", rows)
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps({"columns": {"subject": ["Patient"], "session": ["Nr"], "age": ["Alter"]}}))
        ui = training_panel.ui
        ui.studyEdit.text = str(path)
        ui.filesEdit.text = "scans/{Patient}/v{Nr}.nii.gz"
        ui.columnsCombo.setCurrentIndex(3)
        assert ui.columnsFileArea.visible and not ui.prepareButton.enabled
        ui.columnsFileEdit.text = str(mapping)
        wait(lambda: training_panel.study.answer or training_panel.study.problem)
        assert "2 of 2 people can be used, with 4 visits" in ui.studySummary.text, training_panel.study.problem

    @pytest.mark.parametrize("content", ["", "nothing\x00here", "a,b\n1,2\n"])
    def test_one_that_cannot_be_understood_gives_a_sentence(self, training_panel, tmp_path, wait, content):
        path = tmp_path / "table.csv"
        path.write_text(content)
        choose(training_panel, path, wait)
        said = training_panel.ui.studySummary.text
        assert training_panel.study.problem and "Traceback" not in said and said.endswith(".")
        assert not training_panel.ui.studyTable.visible


class TestJsonPieces:
    @pytest.mark.parametrize(
        "value", [{}, {"a": 1, "b": [1, {"c": [2]}, "]"], "d": {"e": [3]}, "f": [], "g": 'q"}'}, {"a": [[1], [2]]}]
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_gives_what_json_gives(self, training_module, value, indent):
        from Neuro4DTrainingLib.JsonPieces import pieces

        found = {}
        for _ in pieces(json.dumps(value, indent=indent), found):
            pass
        assert found == value

    @pytest.mark.parametrize("text", ["", "[1]", '{"a": 1', '{"a" 1}', '{"a": [1 2]}', '{"a": [1'])
    def test_refuses_what_is_no_object(self, training_module, text):
        from Neuro4DTrainingLib.JsonPieces import pieces

        with pytest.raises(ValueError):
            list(pieces(text, {}))


def test_two_thousand_people_never_hold_up_the_event_loop_for_a_tenth_of_a_second(training_panel, tmp_path, wait):
    from stand_in.heartbeat import Heartbeat

    visit = {
        "session": "ses-01", "years": 0.0, "scan": "/data/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz", "scanner": None,
        "covariates": {"age": 70.0, "sex": "F", "education_years": None, "apoe4": None, "diagnosis": "HC"},
    }  # fmt: skip
    subjects = [{"id": f"sub-{i:04d}", "scanner_changed": False, "visits": [visit] * 4} for i in range(2000)]
    years = {"least": 1.0, "median": 2.0, "most": 3.0}
    counts = {"people": 2000, "unusable_people": 0, "visits": 8000, "years_of_follow_up": years}
    counts |= {"visits_with": {"age": 8000}, "diagnoses": {"HC": 2000}}
    problems = [{"place": f"a.tsv:{i}", "sentence": "strange"} for i in range(2000)]
    answer = {"counts": counts, "subjects": subjects, "unusable": [], "problems": problems}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "study").mkdir()
    program = f"import sys, shutil; shutil.copyfileobj(open({str(tmp_path / 'answer.json')!r}), sys.stdout)"
    training_panel.logic.asker = [training_panel.logic.worker[0], "-c", program]
    longest = []
    while len(longest) < 3 and min(longest, default=1) >= 0.1:
        heartbeat = Heartbeat()
        wait(lambda heartbeat=heartbeat: heartbeat.ticks)
        training_panel.ui.studyEdit.text = str(tmp_path / "study")
        wait(lambda: training_panel.ui.studyTable.rowCount == 2000, 60)
        longest.append(heartbeat.longest_seconds())
        training_panel.ui.studyEdit.text = ""
    assert min(longest) < 0.1, f"held up for {1000 * min(longest):.0f} ms"
    assert Path(tmp_path / "study").is_dir()
