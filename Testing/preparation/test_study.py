"""What happens around the preparation of people: going on, leaving out, refusing."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neuro4d_lib.data.prepared import read_prepared
from neuro4d_lib.data.study import read_study
from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation import jobs, study
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.workers import over_processes

SCRIPT = Path(__file__).parent / "stand_in.py"
_spec = importlib.util.spec_from_file_location("stand_in", SCRIPT)
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for name in ("prepare_person", "_anatomy"):
        monkeypatch.setattr(jobs, name, getattr(jobs, name))


@pytest.fixture
def folder(tmp_path):
    """Three people with two visits each, whose scans are of a few voxels."""
    for number in (1, 2, 3):
        name = f"sub-{number:02d}"
        for session in ("ses-01", "ses-02"):
            anat = tmp_path / "study" / name / session / "anat"
            anat.mkdir(parents=True)
            write_scan(anat / f"{name}_{session}_T1w.nii.gz", 10 * number + int(session[-1]))
        (tmp_path / "study" / name / f"{name}_sessions.tsv").write_text(
            "session_id\tdays_since_first\nses-01\t0\nses-02\t365\n", encoding="utf-8"
        )
    return tmp_path / "study"


def write_scan(path, number):
    array = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    array[0, 0, 0] = number
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def scan(folder, person, session="ses-01"):
    return folder / person / session / "anat" / f"{person}_{session}_T1w.nii.gz"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestGoingOn:
    def test_killed_and_run_again_leaves_the_same_bytes_as_an_undisturbed_run(self, folder, tmp_path):
        stand_in.prepare_all(folder, tmp_path / "whole")
        broken = tmp_path / "broken"
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(broken), "1.5"])
        deadline = time.monotonic() + 120
        while not (broken / jobs.RECORDS / "sub-01.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        process.kill()
        process.wait()
        assert not (broken / jobs.RECORDS / "sub-03.json").exists()
        with pytest.raises(InputError, match="not finished"):
            read_prepared(broken)
        stand_in.prepare_all(folder, broken)
        assert contents(broken) == contents(tmp_path / "whole")

    def test_killed_between_any_two_files_and_run_again_leaves_the_same_bytes(self, folder, tmp_path, monkeypatch):
        stand_in.prepare_all(folder, tmp_path / "whole")
        written = 0
        for stop in range(1, 40):
            part, count = tmp_path / f"stopped-{stop}", 0

            def replace(*names, stop=stop, original=os.replace):
                nonlocal count
                count += 1
                if count == stop:
                    raise SystemExit  # nothing after this line runs, as after a kill
                original(*names)

            with monkeypatch.context() as patched:
                patched.setattr(os, "replace", replace)
                try:
                    stand_in.prepare_all(folder, part)
                except SystemExit:
                    written += 1
                else:
                    break
            stand_in.prepare_all(folder, part)
            assert contents(part) == contents(tmp_path / "whole"), stop
        assert (
            written >= 14
        )  # of prepared.json twice, the page, and of three people a subject, two pictures and a record

    def test_what_is_finished_is_not_done_again(self, folder, tmp_path, monkeypatch):
        stand_in.prepare_all(folder, tmp_path / "out")
        before = contents(tmp_path / "out")
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "subjects").iterdir()}
        stand_in.prepare_all(folder, tmp_path / "out")
        assert contents(tmp_path / "out") == before
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    def test_a_changed_scan_and_a_lost_file_are_done_again(self, folder, tmp_path):
        out = tmp_path / "out"
        stand_in.prepare_all(folder, out)
        before = contents(out)
        write_scan(scan(folder, "sub-02"), 77)
        (out / "subjects" / "sub-03.safetensors").unlink()
        stand_in.prepare_all(folder, out)
        changed = {name for name, content in contents(out).items() if before[name] != content}
        assert {name.split("/")[-1] for name in changed} >= {"sub-02.safetensors", "sub-02.json"}
        assert not any("sub-01" in name or "sub-03" in name for name in changed)

    def test_interrupting_keeps_who_is_finished(self, folder, tmp_path, monkeypatch):
        def interrupt(fraction, message):
            if message.endswith("sub-02: Working"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stand_in.prepare_all(folder, tmp_path / "out", progress=interrupt)
        names = set(contents(tmp_path / "out"))
        assert any("sub-01.safetensors" in name for name in names) and not any("sub-02" in name for name in names)
        assert not any(name.endswith(".part") for name in names)

    def test_a_full_disk_stops_and_leaves_no_half_file(self, folder, tmp_path, monkeypatch):
        def full(path, subject):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        with monkeypatch.context() as patched:
            patched.setattr(jobs, "write_subject", full)
            with pytest.raises(OSError, match="No space left"):
                stand_in.prepare_all(folder, tmp_path / "out")
        assert set(contents(tmp_path / "out")) == {"prepared.json"}
        about = stand_in.prepare_all(folder, tmp_path / "out")
        assert {state["state"] for state in about["subjects"].values()} == {"used"}


class TestLeavingOut:
    def test_a_failing_person_is_excluded_with_the_reason_and_the_rest_goes_on(self, folder, tmp_path):
        write_scan(scan(folder, "sub-02"), stand_in.BROKEN)
        about = stand_in.prepare_all(folder, tmp_path / "out")
        assert about["subjects"]["sub-02"]["state"] == "excluded" and "broken" in about["subjects"]["sub-02"]["reason"]
        prepared = read_prepared(tmp_path / "out")
        assert [subject.id for subject in prepared.subjects] == ["sub-01", "sub-03"]
        assert prepared.subjects[0].years == (0.0, pytest.approx(365 / 365.25))
        page = (tmp_path / "out" / "qc" / "index.html").read_text(encoding="utf-8")
        assert "sub-02" in page and "is broken" in page

    def test_an_unexpected_error_excludes_one_person_and_is_tried_again(self, folder, tmp_path):
        write_scan(scan(folder, "sub-01"), stand_in.BUG)
        about = stand_in.prepare_all(folder, tmp_path / "out")
        assert "ZeroDivisionError" in about["subjects"]["sub-01"]["reason"]
        record = json.loads((tmp_path / "out" / jobs.RECORDS / "sub-01.json").read_text(encoding="utf-8"))
        assert record["again"]

    def test_people_whom_the_study_cannot_use_are_listed(self, folder, tmp_path):
        scan(folder, "sub-03").unlink()
        about = stand_in.prepare_all(folder, tmp_path / "out")
        assert about["subjects"]["sub-03"]["state"] == "excluded"
        assert "one visit" in about["subjects"]["sub-03"]["reason"]

    def test_processes_report_what_is_wrong_with_each_person(self, folder, tmp_path):
        config = PreparationConfig()
        work = [jobs.Job(person, tmp_path, stand_in.SHIPPED, config) for person in read_study(folder).subjects]
        records = list(over_processes(work, lambda *_: None, 2))
        assert sorted(record["id"] for record in records) == ["sub-01", "sub-02", "sub-03"]
        assert all(record["state"] == "excluded" and "no usable visit" in record["reason"] for record in records)


class TestRefusing:
    def test_an_output_inside_the_study(self, folder):
        for place in (folder, folder / "derivatives" / "prepared", folder / ".." / folder.name / "x"):
            with pytest.raises(InputError, match="never written to"):
                study.check_output(place, folder, PreparationConfig())

    def test_a_folder_that_holds_something_else(self, folder, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("x")
        with pytest.raises(InputError, match="not empty"):
            study.check_output(tmp_path / "mine", folder, PreparationConfig())

    def test_other_settings(self, folder, tmp_path):
        stand_in.prepare_all(folder, tmp_path / "out")
        with pytest.raises(InputError, match="regularization was"):
            study.check_output(tmp_path / "out", folder, PreparationConfig(regularization=0.5))

    def test_another_study(self, folder, tmp_path):
        stand_in.prepare_all(folder, tmp_path / "out")
        with pytest.raises(InputError, match="another study"):
            study.check_output(tmp_path / "out", tmp_path / "other", PreparationConfig())

    def test_the_study_is_never_written_to(self, folder, tmp_path):
        before = contents(folder)
        stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        stand_in.prepare_all(folder, tmp_path / "out")
        assert contents(folder) == before and {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_an_interrupt_from_the_keyboard_ends_the_run_with_whole_files(folder, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(out), "1.5"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / jobs.RECORDS / "sub-01.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert not [path for path in out.rglob("*.part")]
