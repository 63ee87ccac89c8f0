"""What is said of long work."""

import io
import json

from neuro4d_lib import progress


def test_time_left_is_by_the_pace_since_the_work_was_taken_up(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for start in (0.0, 0.6):  # a new run, and one that goes on where it stopped
        stream = io.StringIO()
        report = progress.JsonLines(stream)
        for done in (start, start + 0.01, start + 0.1):
            report(done, "Working")
            now[0] += 1000 * 0.05
        left = [json.loads(line)["seconds_left"] for line in stream.getvalue().splitlines()]
        # A tenth in two reports of 50 s: 1000 s for the whole.
        assert left[:2] == [None, None] and left[2] == round(1000 * (0.9 - start), 1)
