"""A short command in the background that answers with JSON on its standard output, or with nothing but its success."""

import json

import slicer
from Neuro4DForecastLib import Library, RunFolder
from Neuro4DForecastLib.BackgroundRun import BackgroundRun, State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Failures


class Question(BackgroundRun):
    """`answer`: what the command printed as JSON, or {}; there once `poll` says SUCCEEDED."""

    def __init__(self, command: list[str], device: str = "cpu") -> None:
        try:
            folder = RunFolder.make(slicer.app.temporaryPath)
        except OSError as error:
            raise Problem(Failures.SENTENCES["notWritable"], kind="notWritable") from error
        super().__init__(command, folder, Library.workerEnvironment(folder, device))
        self.answer: dict = {}

    def _hear(self, line: str) -> None:
        super()._hear(line)
        if line.startswith('{"event": "estimate"'):
            self.answer = json.loads(line)

    def _finish(self, exitCode: int) -> None:
        if exitCode != 0:
            self.problem = Failures.explain(self.log(), self._said, exitCode)
            self.state = State.FAILED
            return
        if not self.answer:
            text = self._events.read_text(encoding="utf-8")
            self.answer = json.loads(text) if text.lstrip().startswith("{") else {}
        self.state = State.SUCCEEDED

    def close(self) -> None:
        """Not needed any more: no process and no file of it stays."""
        self.cancel()
        RunFolder.remove(self.folder)
