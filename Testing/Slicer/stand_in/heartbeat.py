"""How long the application's event loop is held up: a timer that should fire every 5 ms."""

import time

import numpy as np


def waiting_for_a_processor() -> float:
    """Seconds that this thread was ready to run while other programs had the processors (Linux; elsewhere 0)."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


class Heartbeat:
    """The time in which a busy machine ran something else is not the panel's: it is taken off where the system tells."""

    def __init__(self) -> None:
        import qt

        self.ticks: list[float] = []
        self._computed: list[float] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        self.ticks.append(time.perf_counter() - waiting_for_a_processor())
        self._computed.append(time.thread_time())

    def longest_seconds(self) -> float:
        """The longest time between two ticks; the timer ends."""
        self._timer.stop()
        return float(np.diff(self.ticks).max())

    def longest_work_seconds(self) -> float:
        """The most that this thread computed between two ticks: a hold-up without what the system did meanwhile."""
        return float(np.diff(self._computed).max())
