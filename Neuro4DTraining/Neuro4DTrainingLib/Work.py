"""A long command in a process of its own that outlives the panel and Slicer. All that is known of it lies in its folder.

A folder of its own, such as `RUN/panel/`, holds the record (process and command), what the worker said (events.N.jsonl)
and its log (log.N.txt), N counting the starts. Any number of panels, now or after Slicer was closed, read the same state from it.
"""

import contextlib
import enum
import json
import os
import platform
import signal
import subprocess
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from Neuro4DForecastLib import ProcessTree
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Failures, ProcessMark
from Neuro4DTrainingLib.Tail import Tail

PLACE = "panel"
TOKEN = "NEURO4D_WORK"
SILENT_SECONDS = 600.0  # work on another computer that has said nothing for so long is taken to have ended
_children: dict[int, subprocess.Popen] = {}  # of this Slicer, so that they are not left as zombies


class State(enum.Enum):
    NONE = "not started"
    RUNNING = "running"
    PAUSED = "paused"
    ELSEWHERE = "running on another computer"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


ACTIVE = (State.RUNNING, State.PAUSED, State.ELSEWHERE)


@dataclass(frozen=True)
class Record:
    """What a start leaves for every later panel. `mark`: see ProcessMark; `started`: seconds since 1970."""

    pid: int
    mark: str
    host: str
    token: str
    session: int
    started: float
    command: list[str] = field(default_factory=list)
    device: str = "auto"
    paused: bool = False
    stopped: bool = False


class Survivor:
    """A process that is known by its id and mark only, with as much of Popen as ProcessTree needs."""

    def __init__(self, record: Record) -> None:
        self.pid, self._mark = record.pid, record.mark

    def poll(self) -> int | None:
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            return child.returncode
        return None if ProcessMark.of(self.pid) == self._mark else 0

    def wait(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)


class Work:
    """Attributes:
    folder, place: where the command writes, and where what is known of it lies; they are not the same folder.
    state: as of the last `poll`.
    fraction, message, secondsLeft: what the worker last said of its progress.
    problem: why it failed.
    done: the worker's last word.
    """

    def __init__(self, folder: Path, place: Path | None = None) -> None:
        self.folder = Path(folder)
        self.place = place or self.folder / PLACE
        self.state = State.NONE
        self.record: Record | None = None
        self._stamp = 0
        self._forget()

    def _forget(self) -> None:
        self.fraction, self.message, self.secondsLeft = 0.0, "", None
        self.problem: Problem | None = None
        self.done: dict | None = None
        self._said = ""
        self._tail = Tail(self._file("events", "jsonl")) if self.record else None

    # files

    def _file(self, name: str, ending: str) -> Path:
        return self.place / f"{name}.{self.record.session}.{ending}"

    def log(self) -> str:
        """What the worker wrote since its last start, at most the last 200,000 characters."""
        if self.record is None:
            return ""
        texts = [" ".join(self.record.command)]
        for name, ending in (("log", "txt"), ("events", "jsonl")):
            try:
                with open(self._file(name, ending), "rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - 100_000))
                    texts.append(file.read().decode("utf-8", errors="replace"))
            except OSError:
                continue
        return "\n".join(texts)

    def _errors(self) -> str:
        try:
            return self._file("log", "txt").read_text(encoding="utf-8", errors="replace")[-100_000:]
        except OSError:
            return ""

    def current(self) -> list[str]:
        """The command of the last start; empty before the first one."""
        self._readRecord()
        return list(self.record.command) if self.record is not None else []

    # looking

    def poll(self) -> State:
        """Read what is new, from the record and from the worker; never waits."""
        self._readRecord()
        if self.record is None:
            self.state = State.NONE
            return self.state
        alive, exitCode = self._alive()  # before reading, so that nothing written before the end is missed
        self._hear()
        if not alive and not self._tail.atEnd:
            return self.state
        if alive:
            self.state = State.PAUSED if self.record.paused else State.RUNNING
        elif self.done is not None or exitCode == 0:
            self.state = State.DONE
        elif self.record.stopped:
            self.state = State.STOPPED
        elif self._mayLiveElsewhere():
            self.state = State.ELSEWHERE
        else:
            self.state = State.FAILED
            self.problem = self.problem or Failures.explain(self._errors(), self._said, exitCode)
        return self.state

    def _readRecord(self) -> None:
        path = self.place / "record.json"
        try:
            stamp = os.stat(path).st_mtime_ns
            if stamp == self._stamp:
                return
            record = Record(**json.loads(path.read_text(encoding="utf-8")))
        except OSError:
            record, stamp = None, 0
        except (ValueError, TypeError):
            raise Problem(f"{path} cannot be read. Delete it to start the work in {self.folder} again.") from None
        another = (record and record.session) != (self.record and self.record.session)
        self.record, self._stamp = record, stamp
        if another:
            self._forget()

    def _alive(self) -> tuple[bool, int | None]:
        """Whether the process of the record lives; and its exit code where it was a child of this Slicer."""
        if self.record.host != platform.node():
            return False, None
        child = _children.get(self.record.pid)
        exitCode = child.poll() if child is not None else None
        if exitCode is not None:
            return False, exitCode
        return bool(self.record.mark) and ProcessMark.of(self.record.pid) == self.record.mark, None

    def _mayLiveElsewhere(self) -> bool:
        if self.record.host == platform.node():
            return False
        try:
            return time.time() - os.stat(self._file("events", "jsonl")).st_mtime < SILENT_SECONDS
        except OSError:
            return False

    def _hear(self) -> None:
        for line in self._tail.lines()[0]:
            if '"step"' in line[:20]:
                continue  # the same stands in the run's log
            try:
                event = json.loads(line)
                name = event["event"]
            except (ValueError, KeyError, TypeError):
                continue  # a library's chatter; it stays in the log
            if name == "progress":
                self.fraction = float(event.get("fraction") or 0)
                self.message, self.secondsLeft = str(event.get("message", "")), event.get("seconds_left")
            elif name == "error":
                self._said = str(event.get("message", ""))
            elif name == "done":
                self.done = event

    # doing

    def start(self, command: list[str], environment: dict[str, str], device: str = "auto") -> None:
        """Start the command, in this folder; a Problem where it runs already or cannot be started."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with self._claimed():
                self._start(command, environment, device)
        except OSError as error:
            raise Problem(
                f"The folder {self.folder} cannot be written ({error.strerror or error}). Choose one in which you may write.",
                kind="notWritable",
            ) from error

    def _start(self, command: list[str], environment: dict[str, str], device: str) -> None:
        self.poll()
        if self.state in ACTIVE:
            raise Problem(f"{self.folder} is in use: {self.state.value}. Wait for it, or stop it first.", kind="busy")
        session = 1
        if self.record is not None:
            session = self.record.session + 1
            for left in ProcessMark.carriers(self.record.token):  # its launcher was killed, they were not
                with contextlib.suppress(OSError):
                    os.kill(left, signal.SIGKILL)
            self._file("events", "jsonl").unlink(missing_ok=True)
        token = uuid.uuid4().hex
        whole = {**os.environ, **environment, TOKEN: token, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        self.record = Record(0, "", platform.node(), token, session, time.time(), list(command), device)
        with open(self._file("events", "jsonl"), "wb") as events, open(self._file("log", "txt"), "wb") as errors:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": events, "stderr": errors}
            try:
                process = subprocess.Popen(command, env=whole, cwd=self.place, **pipes, **ProcessTree.startOptions())
            except OSError as error:
                raise Problem(f"The work could not be started: {error}.", kind="start") from error
        _children[process.pid] = process
        ProcessTree.lowerPriority(process.pid)
        self.record = replace(self.record, pid=process.pid, mark=ProcessMark.of(process.pid))
        self._forget()
        try:
            self._writeRecord()
        except OSError:
            ProcessTree.kill(process)  # what no panel could ever find again must not run
            raise
        self.poll()

    @contextlib.contextmanager
    def _claimed(self):
        """Only one panel may be starting the work at a time; the claim of one that was killed does not count."""
        path, mine = self.place / "starting", json.dumps([os.getpid(), ProcessMark.of(os.getpid()), platform.node()])
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            with contextlib.suppress(ValueError, OSError):
                pid, mark, host = json.loads(path.read_text(encoding="utf-8"))
                if pid != os.getpid() and host == platform.node() and ProcessMark.of(pid) == mark:
                    raise Problem(f"Another Slicer is just starting the work in {self.folder}.", kind="busy") from None
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(mine)
            yield
        finally:
            path.unlink(missing_ok=True)

    def _writeRecord(self) -> None:
        from neuro4d_lib import files

        path = self.place / "record.json"
        files.write_whole(path, json.dumps(asdict(self.record), indent=1))
        self._stamp = os.stat(path).st_mtime_ns

    def pause(self) -> None:
        """Hold the work to the very step; it keeps its memory. What was paused stays so after Slicer is closed."""
        if self.poll() is State.RUNNING:
            ProcessTree.suspend(self.record.pid)
            self.record = replace(self.record, paused=True)
            self._writeRecord()
            self.poll()

    def goOn(self) -> None:
        if self.poll() is State.PAUSED:
            ProcessTree.goOn(self.record.pid)
            self.record = replace(self.record, paused=False)
            self._writeRecord()
            self.poll()

    def stop(self) -> None:
        """End the work; its whole files stay. Does not wait: later polls see the end."""
        if self.poll() in (State.RUNNING, State.PAUSED):
            self.record = replace(self.record, paused=False, stopped=True)
            self._writeRecord()
            ProcessTree.kill(Survivor(self.record), seconds=0.0)
            self.poll()
