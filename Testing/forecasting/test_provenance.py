import subprocess
import sys

import pytest

PARENT = """
import subprocess, sys
held = bytearray(1_500_000_000)
held[::4096] = b"x" * len(held[::4096])
subprocess.run([sys.executable, "-c", "from neuro4d_lib.forecasting import provenance as p; print(p.peak_memory_bytes())"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the trap is Linux's")
def test_the_memory_of_who_started_it_is_not_counted_as_its_own():
    """Slicer with large scans open starts the worker."""
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    assert 50e6 < int(done.stdout) < 1e9
