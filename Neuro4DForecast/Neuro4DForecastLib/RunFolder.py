"""The folder of a run in Slicer's temporary folder: made, removed, and what a crash left behind of others. No Slicer."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from Neuro4DForecastLib import ProcessTree

PREFIX, OWNER = "n4d-", "slicer.pid"


def make(base: Path | str) -> Path:
    """A new folder that belongs to this Slicer; folders of a Slicer that is gone are removed. Raises OSError."""
    removeAbandoned(Path(base))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    (folder / OWNER).write_text(str(os.getpid()), encoding="ascii")
    return folder


def remove(folder: Path, seconds: float = 1.0) -> None:
    """Delete a run's folder; Windows may need a moment until the killed process lets go of its files."""
    until = time.monotonic() + seconds
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until:
            return
        if folder.exists():
            time.sleep(0.02)


def removeAbandoned(base: Path) -> None:
    """After a power cut neither Slicer nor the worker could tidy up: a scan of a person may lie there still."""
    for mark in base.glob(f"{PREFIX}*/{OWNER}"):
        try:
            gone = not ProcessTree.alive(int(mark.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # another Slicer is at it
        if gone:
            remove(mark.parent)
