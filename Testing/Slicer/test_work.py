"""Work that outlives the panel: its process, its record, its files, whoever looks at them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks at processes as Linux and macOS list them")

COUNTING = (
    "import json, sys, time\n"
    "for i in range(10000):\n"
    "    print(json.dumps({'event': 'progress', 'fraction': i / 10000, 'message': str(i)}), flush=True)\n"
    "    time.sleep(0.01)\n"
)
SHORT = "import json; print(json.dumps({'event': 'done', 'folder': 'x'}))"


@pytest.fixture
def works(training_module, tmp_path):
    """Makes Work objects on one folder; whatever runs there ends with the test."""
    from Neuro4DTrainingLib.Work import Work

    made = []

    def make():
        made.append(Work(tmp_path / "run"))
        return made[-1]

    yield make
    for work in made:
        work.stop()
        until(lambda work=work: work.poll().value not in ("running", "paused"))


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def start(work, program=COUNTING):
    work.start([sys.executable, "-c", program], {})
    return work


def says(work):
    work.poll()
    return int(work.message or -1)


class TestAnotherPanel:
    def test_sees_the_same_work_live(self, works):
        first = start(works())
        second = works()
        until(lambda: says(second) > 3)
        assert second.state.value == "running" and second.record == first.record

    def test_cannot_start_it_a_second_time(self, works):
        from Neuro4DForecastLib.Problem import Problem

        start(works())
        with pytest.raises(Problem, match="is in use: running"):
            start(works())

    def test_sees_that_the_first_one_paused_it_and_can_go_on(self, works):
        first, second = start(works()), works()
        until(lambda: says(second) > 3)
        first.pause()
        assert second.poll().value == "paused"
        time.sleep(0.05)
        held = says(second)
        time.sleep(0.2)
        assert says(second) == held
        second.goOn()
        until(lambda: says(first) > held)
        assert first.state.value == "running"

    def test_sees_that_the_first_one_stopped_and_started_it_again(self, works):
        first, second = start(works()), works()
        until(lambda: says(second) > 3)
        first.stop()
        until(lambda: second.poll().value == "stopped")
        start(first, SHORT)
        until(lambda: second.poll().value == "done")
        assert second.done["folder"] == "x" and second.record.session == 2


class TestTheProcess:
    def test_a_paused_one_can_be_stopped(self, works):
        work = start(works())
        until(lambda: says(work) > 3)
        work.pause()
        work.stop()
        until(lambda: work.poll().value == "stopped")

    def test_stop_ends_all_that_it_started(self, works):
        from Neuro4DForecastLib import ProcessTree

        child = (
            "import subprocess, sys, time; subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
        )
        work = start(works(), child)
        until(lambda: len(ProcessTree.descendants(work.record.pid)) == 1)
        family = {work.record.pid, *ProcessTree.descendants(work.record.pid)}
        work.stop()
        until(lambda: not family & set(ProcessTree.parents()))

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment of processes, on Linux")
    def test_what_outlived_a_killed_launcher_ends_before_the_next_start(self, works):
        from Neuro4DForecastLib import ProcessTree

        work = start(works(), "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)")
        until(lambda: len(ProcessTree.descendants(work.record.pid)) == 1)
        (child,) = ProcessTree.descendants(work.record.pid)
        os.kill(work.record.pid, signal.SIGKILL)
        until(lambda: work.poll().value == "failed")
        assert child in ProcessTree.parents()
        start(work, SHORT)
        until(lambda: child not in ProcessTree.parents())

    def test_a_strangers_process_with_the_same_id_is_neither_shown_nor_killed(self, works, tmp_path):
        work = start(works())
        until(lambda: says(work) > 3)
        os.kill(work.record.pid, signal.SIGKILL)
        until(lambda: work.poll().value == "failed")
        stranger = subprocess.Popen(["sleep", "60"])
        try:
            record = tmp_path / "run" / "panel" / "record.json"
            record.write_text(json.dumps({**json.loads(record.read_text()), "pid": stranger.pid}))
            again = works()
            assert again.poll().value == "failed"
            again.stop()
            again.pause()
            time.sleep(0.1)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_one_that_was_killed_is_said_to_have_been_and_goes_on_when_resumed(self, works):
        work = start(works())
        until(lambda: says(work) > 3)
        os.kill(work.record.pid, signal.SIGKILL)
        until(lambda: work.poll().value == "failed")
        assert "ended from outside" in work.problem.sentence and "Resume" in work.problem.sentence
        start(work, SHORT)
        until(lambda: work.poll().value == "done")

    def test_one_on_another_computer_is_shown_but_not_touched(self, works, tmp_path):
        work = start(works())
        until(lambda: says(work) > 3)
        record = tmp_path / "run" / "panel" / "record.json"
        mine = record.read_text()
        record.write_text(json.dumps({**json.loads(mine), "host": "elsewhere"}))
        far = works()
        assert far.poll().value == "running on another computer"
        far.stop()
        record.write_text(mine)
        assert work.poll().value == "running"


class TestTheFolder:
    @pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="a folder that nobody may write, on Linux")
    def test_without_permission_is_said(self, training_module):
        from Neuro4DForecastLib.Problem import Problem
        from Neuro4DTrainingLib.Work import Work

        with pytest.raises(Problem, match="/sys/neuro4d cannot be written"):
            start(Work(Path("/sys/neuro4d")))

    def test_with_a_broken_record_is_said(self, works, tmp_path):
        from Neuro4DForecastLib.Problem import Problem

        (tmp_path / "run" / "panel").mkdir(parents=True)
        (tmp_path / "run" / "panel" / "record.json").write_text("{")
        with pytest.raises(Problem, match="Delete it"):
            works().poll()
        (tmp_path / "run" / "panel" / "record.json").unlink()

    def test_a_program_that_is_not_there_is_said_and_can_be_mended(self, works):
        from Neuro4DForecastLib.Problem import Problem

        work = works()
        with pytest.raises(Problem, match="could not be started"):
            work.start(["/no/such/program"], {})
        start(work, SHORT)
        until(lambda: work.poll().value == "done")

    def test_no_process_stays_when_the_disk_is_full_at_the_start(self, works, tmp_path, monkeypatch):
        from Neuro4DForecastLib import ProcessTree
        from Neuro4DForecastLib.Problem import Problem

        from neuro4d_lib import files

        def full(*_):
            raise OSError(28, "No space left on device")

        before = set(ProcessTree.descendants(os.getpid()))
        monkeypatch.setattr(files, "write_whole", full)
        with pytest.raises(Problem, match="No space left on device"):
            start(works())
        assert set(ProcessTree.descendants(os.getpid())) == before


class TestTail:
    def test_gives_whole_lines_once(self, training_module, tmp_path):
        from Neuro4DTrainingLib.Tail import Tail

        path = tmp_path / "log"
        tail = Tail(path)
        assert tail.lines() == ([], False)
        path.write_text("one\ntw")
        assert tail.lines() == (["one"], False)
        with path.open("a") as file:
            file.write("o\nthree\n")
        assert tail.lines() == (["two", "three"], False)

    def test_notices_that_a_file_was_written_anew(self, training_module, tmp_path):
        from Neuro4DTrainingLib.Tail import Tail

        path = tmp_path / "log"
        path.write_text("one\ntwo\n")
        tail = Tail(path)
        tail.lines()
        (tmp_path / "new").write_text("one\nother\nmore\n")
        os.replace(tmp_path / "new", path)
        assert tail.lines() == (["one", "other", "more"], True)

    def test_reads_a_long_file_a_little_at_a_time(self, training_module, tmp_path):
        from Neuro4DTrainingLib import Tail

        path = tmp_path / "log"
        lines = [f"line {index}" for index in range(50_000)]
        path.write_text("\n".join(lines) + "\n")
        tail, found, turns = Tail.Tail(path), [], 0
        while not found or not tail.atEnd:
            found += tail.lines()[0]
            turns += 1
        assert found == lines
        assert turns == -(-path.stat().st_size // Tail.MOST_BYTES)
