"""Known ways in which studying, preparing or training fails, each with what to do."""

import re

from Neuro4DForecastLib import Failures as Shared
from Neuro4DForecastLib.Problem import Problem

# kind -> what the person is told; the patterns are those of the forecast
SENTENCES = {
    "halfTorch": "PyTorch is only half installed. Open Packages below, press “Repair PyTorch”, then restart Slicer.",
    "noTorch": "PyTorch is not installed in Slicer's Python. Open Packages below and press “Install”.",
    "gpuMemory": "The graphics card ran out of memory. Start a new run with “Save memory” or fewer people per step, or "
    "on the CPU.",
    "cuda": "PyTorch and the graphics card do not fit together. Choose the CPU as device, or install PyTorch again with "
    "the PyTorch extension for your driver.",
    "memory": "The computer ran out of memory. Close other programs; for training, start a new run with “Save memory” or "
    "fewer people per step.",
    "noSpace": "There is no space left on the disk. Free some space, then resume: it goes on from the last whole file.",
    "notWritable": "A folder cannot be written. Choose one in which you may write; the log below names it.",
}
NO_PACKAGE = r"No module named '?([\w.]+)"
KILLED = (
    "The work was ended from outside: killed, out of memory, or the computer was switched off. Press “Resume”: it goes on "
    "from the last whole file."
)
UNKNOWN = "The work stopped without saying why. Open the log below and copy it into a report. “Resume” tries again."


def explain(log: str, said: str = "", exitCode: int | None = None) -> Problem:
    """The Problem behind work that failed.

    Args:
        said: the worker's own last sentence; it knows best.
        exitCode: None where it was not our child, so that nobody told.
    """
    said = said or _spoken(log)
    traceback = "Traceback" in log
    if said and not traceback:
        return Problem(said, kind="input")
    for kind, sentence in SENTENCES.items():
        if re.search(Shared.KNOWN[kind][0], f"{log}\n{said}"):
            return Problem(sentence, kind=kind)
    package = re.search(NO_PACKAGE, log)
    if package:
        return Problem(missing(package[1].partition(".")[0]), kind="noPackage")
    if exitCode in (-9, -15, 137) or (exitCode is None and not traceback):
        return Problem(KILLED, kind="killed")
    return Problem(f"{said} ({UNKNOWN})" if said else UNKNOWN, kind="unknown")


def missing(package: str) -> str:
    return f"The Python package {package} is missing. Open Packages below and press “Install”."


def _spoken(log: str) -> str:
    """The sentence after `Error:` with which the command line ends when it is not asked for JSON."""
    spoken = [line for line in log.splitlines() if line.startswith("Error: ")]
    return spoken[-1].removeprefix("Error: ").strip() if spoken else ""
