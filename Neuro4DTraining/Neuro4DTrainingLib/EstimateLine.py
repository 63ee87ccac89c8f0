"""The line that says what something will take, asked of the command line when the choices have settled."""

import shutil
from pathlib import Path

import qt
from Neuro4DForecastLib import Machine
from Neuro4DForecastLib.BackgroundRun import State
from Neuro4DForecastLib.Problem import Problem

from Neuro4DTrainingLib.Question import Question
from Neuro4DTrainingLib.Words import duration, size

SETTLE_MS, POLL_MS = 1000, 100


class EstimateLine:
    """`estimate`: the last answer that fits the choices; {} where there is none (yet)."""

    def __init__(self, label, ask) -> None:
        self.label, self._askOf = label, ask
        self.estimate: dict = {}
        self._wanted = None
        self._question: Question | None = None
        self._settle, self._timer = qt.QTimer(), qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._ask)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)

    def want(self, wanted, otherwise: str = "") -> None:
        """What is to be estimated; None for nothing, with words to show instead."""
        if wanted == self._wanted and (wanted is not None or self.label.text == otherwise):
            return
        self.close()
        self._wanted = wanted
        self.label.text = otherwise
        if wanted is not None:
            self._settle.start()

    def _ask(self) -> None:
        try:
            self._question = self._askOf(self._wanted)
        except Problem as problem:
            self.label.text = f"No estimate: {problem.sentence}"
            return
        self.label.text = "Estimating time, memory and disk…"
        self._timer.start()

    def _poll(self) -> None:
        if self._question.poll() is State.RUNNING:
            return
        question, output = self._question, self._wanted.output
        self._end()
        if question.state is State.FAILED:
            self.label.text = f"No estimate: {question.problem.sentence}"
            return
        self.estimate = question.answer
        self.label.text = sentence(question.answer, Machine.freeMemoryBytes(), freeDiskBytes(output))

    def _end(self) -> None:
        self._settle.stop()
        self._timer.stop()
        if self._question is not None:
            self._question.close()
            self._question = None

    def close(self) -> None:
        self._end()
        self.estimate, self._wanted = {}, None


def sentence(estimate: dict, freeMemory: float, freeDisk: float) -> str:
    """People, time, memory and disk as the command line estimates them, and what is free; 0 where that is not known."""
    people, parts, lacking = estimate.get("people"), [], []
    if isinstance(people, dict):
        numbers = {name: one["people"] for name, one in people.items()}
        parts.append(
            f"Learns from {numbers['train']} people, is validated with {numbers['validation']} and scored on "
            f"{numbers['test']} others."
        )
    takes = f"About {duration(float(estimate['seconds']))}"
    for name, free in (("memory", freeMemory), ("disk", freeDisk)):
        needed = float(estimate[f"{name}_bytes"])
        takes += f", {size(needed)} of {name}"
        if free:
            takes += f" ({size(free)} are free)"
            lacking += [name] if needed > free else []
    parts.append(f"{takes}.")
    return " ".join([*parts, *(f"That may not fit: there is too little {name}." for name in lacking)])


def freeDiskBytes(folder: Path) -> float:
    """Free on the disk that the folder lies or will lie on; 0 where the system does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return 0.0
