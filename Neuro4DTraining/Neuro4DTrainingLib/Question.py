"""A short command in the background that answers with JSON on its standard output, or with nothing but its success."""

import json
import time

import slicer
from Neuro4DForecastLib import Library, RunFolder
from Neuro4DForecastLib.BackgroundRun import BackgroundRun, State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Failures
from Neuro4DTrainingLib.JsonPieces import pieces

SLICE_SECONDS = 0.02  # the longest that reading an answer may take at a time


class Question(BackgroundRun):
    """`answer`: what the command printed as one JSON object, or {}; there once `poll` says SUCCEEDED."""

    def __init__(self, command: list[str], device: str = "cpu") -> None:
        try:
            folder = RunFolder.make(slicer.app.temporaryPath)
        except OSError as error:
            raise Problem(Failures.SENTENCES["notWritable"], kind="notWritable") from error
        super().__init__(command, folder, Library.workerEnvironment(folder, device))
        self.answer: dict = {}
        self._pieces = None

    def poll(self) -> State:
        if self._pieces is None:
            return super().poll()
        until = time.monotonic() + SLICE_SECONDS
        try:
            for _ in self._pieces:
                if time.monotonic() > until:
                    return self.state
            self.state = State.SUCCEEDED
        except ValueError as error:
            self.problem = Problem(f"The answer of the command line cannot be read ({error}). Open the log.")
            self.state = State.FAILED
        self._pieces = None
        return self.state

    def _hear(self, line: str) -> None:
        if line.startswith('{"event"'):  # else the answer itself, which may be long
            super()._hear(line)
        if line.startswith('{"event": "estimate"'):
            self.answer = json.loads(line)

    def _finish(self, exitCode: int) -> None:
        if exitCode != 0:
            self.problem = Failures.explain(self.log(), self._said, exitCode)
            self.state = State.FAILED
            return
        text = "" if self.answer else self._events.read_text(encoding="utf-8")
        if text.startswith("{") and not text.startswith('{"event"'):
            self._pieces = pieces(text, self.answer)
        else:
            self.state = State.SUCCEEDED

    def close(self) -> None:
        """Not needed any more: no process and no file of it stays."""
        self.cancel()
        RunFolder.remove(self.folder)
