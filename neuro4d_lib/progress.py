"""Progress of long work: a callable that takes the fraction done (0 to 1) and what is being done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[float, str], None]


def silent(fraction: float, message: str) -> None:
    """Report nothing."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """A progress for one stage of the work: its 0 to 1 becomes `start` to `end` of the whole."""
    return lambda fraction, message: progress(start + (end - start) * fraction, message)


class _Clock:
    """Time left, by the pace since the first report, which is not at 0 where earlier work is taken up."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first: float | None = None

    def seconds_left(self, fraction: float) -> float | None:
        if self.first is None:
            self.first = fraction
        done, elapsed = fraction - self.first, time.monotonic() - self.started
        return None if done < 0.02 else elapsed * (1 - fraction) / done


class TerminalBar:
    """One line that is redrawn: bar, percent, time left, what is being done. Plain lines where it is no terminal."""

    def __init__(self, stream: TextIO | None = None, width: int = 28) -> None:
        self.stream = stream or sys.stderr
        self.width = width
        self.clock = _Clock()
        self.last_message = ""

    def __call__(self, fraction: float, message: str) -> None:
        fraction = min(max(fraction, 0.0), 1.0)
        if not self.stream.isatty():
            if message != self.last_message:
                print(f"{100 * fraction:3.0f} %  {message}", file=self.stream, flush=True)
                self.last_message = message
            return
        done = round(self.width * fraction)
        left = self.clock.seconds_left(fraction)
        remaining = "" if left is None or fraction >= 1 else f"  {left:.0f} s left"
        bar = "█" * done + "░" * (self.width - done)
        end = "\n" if fraction >= 1 else ""
        print(f"\r\x1b[2K{bar} {100 * fraction:3.0f} %{remaining}  {message}", end=end, file=self.stream, flush=True)


class JsonLines:
    """One JSON object a line, for a front end that runs the work as a process.

    `{"event": "progress", "fraction": 0.4, "message": "...", "seconds_left": 12.3}`
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.clock = _Clock()

    def __call__(self, fraction: float, message: str) -> None:
        left = self.clock.seconds_left(fraction)
        self.event("progress", fraction=round(fraction, 4), message=message, seconds_left=left and round(left, 1))

    def event(self, name: str, **values: object) -> None:
        """Write any other event, such as `done` or `error`."""
        print(json.dumps({"event": name, **values}), file=self.stream, flush=True)
