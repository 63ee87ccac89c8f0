import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import pytest

from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.staging import RECORD, check_folder, check_space, earlier_results, staged


def fill(folder, overwrite=False, names=("a.nii.gz",), text="new"):
    with staged(folder, overwrite) as place:
        for name in names:
            (place / name).write_text(text)
        (place / RECORD).write_text(json.dumps({"schema_version": 1, "outputs": dict.fromkeys(names, "")}))


def everything(folder):
    return sorted(path.name for path in folder.iterdir())


class TestStaged:
    def test_a_new_folder_appears_whole_at_the_end(self, tmp_path):
        with staged(tmp_path / "deep" / "out") as place:
            (place / "a").write_text("1")
            assert not (tmp_path / "deep" / "out").exists()
        assert everything(tmp_path / "deep" / "out") == ["a"]
        assert everything(tmp_path / "deep") == ["out"]

    def test_an_empty_folder_is_filled_in_place(self, tmp_path):
        (tmp_path / "out").mkdir()
        identity = (tmp_path / "out").stat().st_ino
        fill(tmp_path / "out")
        assert (tmp_path / "out").stat().st_ino == identity  # it may be a mounted one
        assert everything(tmp_path / "out") == ["a.nii.gz", RECORD]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
    @pytest.mark.parametrize("there", [False, True])
    def test_after_an_exception_nothing_is_left(self, tmp_path, error, there):
        if there:
            (tmp_path / "out").mkdir()
        with pytest.raises(error), staged(tmp_path / "out") as place:
            (place / "half").write_text("x")
            raise error
        assert everything(tmp_path) == (["out"] if there else [])
        assert not there or everything(tmp_path / "out") == []

    def test_parents_made_for_it_go_with_it(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), staged(tmp_path / "deep" / "deeper" / "out"):
            raise KeyboardInterrupt
        assert everything(tmp_path) == []

    def test_an_earlier_forecast_is_replaced_only_on_demand_and_only_at_the_end(self, tmp_path):
        fill(tmp_path / "out", names=("a.nii.gz", "b.nii.gz"), text="old")
        with pytest.raises(InputError, match=r"a forecast already.*--overwrite"):
            fill(tmp_path / "out")
        with pytest.raises(KeyboardInterrupt), staged(tmp_path / "out", overwrite=True) as place:
            (place / "a.nii.gz").write_text("new")
            raise KeyboardInterrupt
        assert (tmp_path / "out" / "a.nii.gz").read_text() == "old"
        fill(tmp_path / "out", overwrite=True)
        assert (tmp_path / "out" / "a.nii.gz").read_text() == "new"
        assert everything(tmp_path / "out") == ["a.nii.gz", RECORD]  # b, of the earlier forecast, is gone

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_files_that_no_forecast_wrote_are_never_lost(self, tmp_path, overwrite):
        fill(tmp_path / "out")
        (tmp_path / "out" / "thesis.docx").write_text("years of work")
        with pytest.raises(InputError, match=r"thesis\.docx"):
            fill(tmp_path / "out", overwrite)
        assert (tmp_path / "out" / "thesis.docx").read_text() == "years of work"

    def test_a_record_of_something_else_makes_no_forecast(self, tmp_path):
        (tmp_path / RECORD).write_text('{"weather": "fine"}')
        with pytest.raises(InputError, match="no forecast wrote"):
            check_folder(tmp_path, overwrite=True)

    @pytest.mark.skipif(os.name == "nt", reason="processes are not asked there")
    def test_what_a_killed_run_left_is_cleaned_up_and_that_of_a_running_one_is_not(self, tmp_path):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        for folder in (tmp_path / f".out.partial-{ended.pid}", tmp_path / f".out.partial-{os.getppid()}"):
            folder.mkdir()
            (folder / "half").write_text("x")
        fill(tmp_path / "out")
        assert everything(tmp_path) == [f".out.partial-{os.getppid()}", "out"]

    def test_an_empty_folder_with_the_rest_of_a_killed_run_counts_as_empty(self, tmp_path):
        (tmp_path / "out" / ".partial-999999999").mkdir(parents=True)
        fill(tmp_path / "out")
        assert everything(tmp_path / "out") == ["a.nii.gz", RECORD]

    def test_a_disk_that_fills_up_is_said(self, tmp_path):
        with pytest.raises(InputError, match="No space is left"), staged(tmp_path / "out"):
            raise OSError(28, os.strerror(28))
        assert everything(tmp_path) == []

    @pytest.mark.parametrize(("code", "advice"), [(errno.EFBIG, "another disk"), (errno.EACCES, "another folder")])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_other_failures_to_write_name_the_folder_and_what_to_do(self, tmp_path, code, advice, wrapped):
        with pytest.raises(InputError, match=rf"{tmp_path.name}/out .*{advice}"), staged(tmp_path / "out"):
            error = OSError(code, os.strerror(code))
            if wrapped:
                raise InputError("One file could not be written.") from error
            raise error
        assert everything(tmp_path) == []


class TestDelivery:
    """Into a folder with an earlier forecast: all of the old one or all of the new one."""

    OLD, NEW = ("a.nii.gz", "b.nii.gz"), ("a.nii.gz", "c.nii.gz")

    @pytest.mark.parametrize("moved", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("call", range(6))
    @pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError(13, "Permission denied")])
    def test_a_failure_at_any_move_leaves_the_earlier_forecast_complete(
        self, tmp_path, monkeypatch, call, moved, error
    ):
        folder = tmp_path / "out"
        fill(folder, names=self.OLD, text="old")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        move, calls = os.replace, []

        def failing(source, target):
            calls.append(source)
            if len(calls) == call + 1:
                if moved:
                    move(source, target)
                raise error
            move(source, target)

        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises((KeyboardInterrupt, InputError)):
            fill(folder, overwrite=True, names=self.NEW)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    @pytest.mark.skipif(os.name == "nt", reason="a signal ends a process there")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("call", range(6))
    def test_a_signal_at_any_move_waits_for_the_end_and_is_answered_truly(self, tmp_path, monkeypatch, call, number):
        folder = tmp_path / "out"
        fill(folder, names=self.OLD, text="old")
        move, calls, handler = os.replace, [], signal.getsignal(number)

        def interrupted(source, target):
            calls.append(source)
            if len(calls) == call + 1:
                os.kill(os.getpid(), number)
            move(source, target)

        monkeypatch.setattr(os, "replace", interrupted)
        # Without a handler of its own SIGTERM would end the tests.
        outer = signal.signal(number, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt, match=r"too late: the forecast in .*out is complete"):
                fill(folder, overwrite=True, names=self.NEW)
            assert signal.getsignal(number) is signal.default_int_handler
        finally:
            signal.signal(number, outer)
        assert signal.getsignal(number) is handler
        assert everything(folder) == ["a.nii.gz", "c.nii.gz", RECORD]
        assert (folder / "a.nii.gz").read_text() == "new"

    def test_what_cannot_be_put_back_is_kept(self, tmp_path, monkeypatch):
        folder = tmp_path / "out"
        fill(folder, names=self.OLD, text="old")
        move, calls = os.replace, []

        def broken(source, target):
            calls.append(source)
            if len(calls) > 2:
                raise OSError(5, "Input/output error")
            move(source, target)

        monkeypatch.setattr(os, "replace", broken)
        with pytest.raises(InputError, match="Input/output error"):
            fill(folder, overwrite=True, names=self.NEW)
        found = {path.name for path in folder.rglob("*") if path.is_file()}
        assert {*self.OLD, RECORD} <= found

    @pytest.mark.parametrize("name", ["../thesis.docx", "sub/../../thesis.docx", "..\\thesis.docx", "..", "", "C:x"])
    def test_a_record_that_names_files_elsewhere_loses_none(self, tmp_path, name):
        (tmp_path / "thesis.docx").write_text("years of work")
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / RECORD).write_text(json.dumps({"schema_version": 1, "outputs": {name: "", "a.nii.gz": ""}}))
        assert earlier_results(folder) == {RECORD, "a.nii.gz"}
        fill(folder, overwrite=True)
        assert (tmp_path / "thesis.docx").read_text() == "years of work"

    def test_an_absolute_name_and_a_folder_are_not_of_a_forecast(self, tmp_path):
        (tmp_path / "out" / "work").mkdir(parents=True)
        names = {str(tmp_path / "thesis.docx"): "", "work": ""}
        (tmp_path / "out" / RECORD).write_text(json.dumps({"schema_version": 1, "outputs": names}))
        with pytest.raises(InputError, match="such as work"):
            fill(tmp_path / "out", overwrite=True)


class TestChecks:
    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "out").write_text("x")
        for path in (tmp_path / "out", tmp_path / "out" / "deeper"):
            with pytest.raises(InputError, match="is a file"):
                check_folder(path, overwrite=True)

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written_to_is_said(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="may not be written"):
            check_folder(tmp_path / "out", overwrite=False)

    def test_a_disk_that_is_too_small_is_said_before(self, tmp_path, monkeypatch):
        usage = namedtuple("usage", "total used free")(10**12, 10**12, 10**9)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        check_space(tmp_path / "new" / "out", 10**9)
        with pytest.raises(InputError, match=r"1\.00 GB left; this forecast may need 2\.50 GB"):
            check_space(tmp_path / "new" / "out", 2_500_000_000)
