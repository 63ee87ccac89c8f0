"""Whether a process is still the one that was started: by now its id may belong to a stranger."""

import contextlib
import os
import subprocess
import sys


def of(pid: int) -> str:
    """What sets the living process apart from every other one that ever had its id; empty where there is none."""
    if pid <= 0:
        return ""
    if sys.platform == "win32":
        return _windows(pid)
    if os.path.isdir("/proc/self"):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
        except OSError:
            return ""
        state, startTicks = fields[0], fields[19]  # the 3rd and the 22nd of proc(5)
        return "" if state in "ZX" else f"{boot} {startTicks}"
    listing = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = listing.stdout.strip().partition(" ")
    return "" if not state or state.startswith("Z") else started.strip()


def _windows(pid: int) -> str:
    import ctypes

    kernel, queryLimited, stillActive = ctypes.windll.kernel32, 0x1000, 259
    handle = kernel.OpenProcess(queryLimited, False, pid)
    if not handle:
        return ""
    try:
        code, times = ctypes.c_ulong(), [ctypes.c_uint64() for _ in range(4)]
        alive = kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value == stillActive
        known = kernel.GetProcessTimes(handle, *(ctypes.byref(time) for time in times))
        return str(times[0].value) if alive and known else ""
    finally:
        kernel.CloseHandle(handle)


def carriers(token: str) -> list[int]:
    """Living processes whose environment holds the token: children that outlived a killed worker (Linux; else none)."""
    found, wanted = [], token.encode()
    if os.path.isdir("/proc/self"):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read() and of(int(name)):
                        found.append(int(name))
    return found
