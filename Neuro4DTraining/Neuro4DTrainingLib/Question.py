"""A short command in the background that answers with JSON on its standard output, or with nothing but its success."""

import json
import shutil
import tempfile
from pathlib import Path

import slicer
from Neuro4DForecastLib import Library
from Neuro4DForecastLib.BackgroundRun import BackgroundRun, State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib import Failures


class Question(BackgroundRun):
    """`answer`: what the command printed as JSON, or {}; there once `poll` says SUCCEEDED."""

    def __init__(self, command: list[str], device: str = "cpu") -> None:
        try:
            folder = Path(tempfile.mkdtemp(prefix="n4d-", dir=slicer.app.temporaryPath))
        except OSError as error:
            raise Problem(Failures.SENTENCES["notWritable"], kind="notWritable") from error
        super().__init__(command, folder, Library.workerEnvironment(folder, device))
        self.answer: dict = {}

    def _finish(self, exitCode: int) -> None:
        if exitCode != 0:
            self.problem = Failures.explain(self.log(), self._said, exitCode)
            self.state = State.FAILED
            return
        try:
            text = self._events.read_text(encoding="utf-8")
            self.answer = json.loads(text) if text.lstrip().startswith("{") else {}
        except ValueError:
            self.answer = self.done or {}  # lines of progress, not one document
        self.state = State.SUCCEEDED

    def close(self) -> None:
        """Not needed any more: no process and no file of it stays."""
        self.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)
