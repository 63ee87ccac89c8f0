"""The command line in a process of its own: started, listened to, canceled.

The worker writes into two files that are read at each poll: no thread, no pipe that could fill up, and the log
outlives a crash. Nothing here waits, except for a killed process to be gone.
"""

import enum
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from Neuro4DForecastLib import Failures, ProcessTree
from Neuro4DForecastLib.Problem import Problem


class State(enum.Enum):
    IDLE = "idle"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class BackgroundRun:
    """One worker process.

    Attributes:
        state: where the run is.
        problem: why it failed.
        done: the worker's last word, with the files that it wrote.
    """

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.command, self.folder, self.environment = command, folder, environment
        self.onProgress: Callable[[float, str, float | None], None] = lambda fraction, message, secondsLeft: None
        self.state = State.IDLE
        self.problem: Problem | None = None
        self.done: dict | None = None
        self.startedAt = 0.0
        self._process: subprocess.Popen | None = None
        self._said = ""
        self._unread = b""
        self._position = 0

    def start(self) -> None:
        if self.state is not State.IDLE:
            raise RuntimeError(f"This run is {self.state.value}; make a new one.")
        self.startedAt = time.monotonic()
        environment = {**os.environ, **(self.environment or {}), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        try:
            with open(self._events, "wb") as events, open(self._errors, "wb") as errors:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=events,
                    stderr=errors,
                    env=environment,
                    cwd=self.folder,
                    **ProcessTree.startOptions(),
                )
        except OSError as error:
            raise Problem(f"The work could not be started: {error}.", kind="start") from error
        ProcessTree.lowerPriority(self._process.pid)
        self.state = State.RUNNING

    @property
    def _events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def _errors(self) -> Path:
        return self.folder / "log.txt"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else -1

    def log(self) -> str:
        """All that the worker wrote, at most the last 200,000 characters."""
        texts = []
        for path in (self._errors, self._events):
            try:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                texts.append("")
        return "\n".join([" ".join(self.command), *texts])[-200_000:]

    def poll(self) -> State:
        """Read what is new; the state after it."""
        if self.state is not State.RUNNING:
            return self.state
        exitCode = self._process.poll()  # before reading, so that nothing written before the end is missed
        try:
            self._read()
        except OSError:
            ProcessTree.kill(self._process)
            self.problem, self.state = Problem(Failures.FOLDER_GONE, kind="folderGone"), State.FAILED
            return self.state
        if exitCode is not None:
            self._finish(exitCode)
        return self.state

    def _read(self) -> None:
        with open(self._events, "rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._unread = (self._unread + new).split(b"\n")
        for line in lines:
            self._hear(line.decode("utf-8", errors="replace"))

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, KeyError, TypeError):
            return  # a library's chatter on stdout; it stays in the log
        if name == "progress":
            self.onProgress(float(event.get("fraction") or 0), str(event.get("message", "")), event.get("seconds_left"))
        elif name == "error":
            self._said = str(event.get("message", ""))
        elif name == "done":
            self.done = event

    def _finish(self, exitCode: int) -> None:
        if exitCode == 0 and self.done is not None:
            self.state = State.SUCCEEDED
            return
        ProcessTree.kill(self._process)  # children of a crashed worker
        self.problem = Failures.explain(self.log(), self._said, exitCode)
        self.state = State.FAILED

    def cancel(self) -> bool:
        """Kill the whole process tree; True when nothing of it is left."""
        if self.state is not State.RUNNING:
            return True
        self.state = State.CANCELED
        return ProcessTree.kill(self._process)
