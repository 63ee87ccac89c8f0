"""End or suspend a process and everything it started. Killing the launcher alone would leave its children at work."""

import contextlib
import os
import signal
import subprocess
import sys
import time


def startOptions() -> dict:
    """Options for Popen that make the whole tree reachable, and hide the console window on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def lowerPriority(pid: int) -> None:
    """Slicer stays fluid when the worker takes every core."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # ended already, or not allowed: nothing is lost but some smoothness
            os.setpriority(os.PRIO_PROCESS, pid, 5)


def parents() -> dict[int, int]:
    """Process id -> parent's id of every living process (not on Windows)."""
    if os.path.isdir("/proc/self"):
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                        state, parent = file.read().rpartition(")")[2].split()[:2]
                except OSError:
                    continue
                if state not in "ZX":
                    found[int(name)] = int(parent)
        return found
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in table.splitlines()]
    return {int(row[0]): int(row[1]) for row in rows if len(row) == 3 and not row[2].startswith("Z")}


def alive(pid: int) -> bool:
    """Whether there is a process with this id (one that has ended but was not asked for its end does not count)."""
    if sys.platform != "win32":
        return pid in parents()
    import ctypes

    synchronize, accessDenied, stillRunning = 0x100000, 5, 0x102
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return ctypes.get_last_error() == accessDenied
    try:
        return kernel.WaitForSingleObject(handle, 0) == stillRunning
    finally:
        kernel.CloseHandle(handle)


def descendants(pid: int) -> list[int]:
    """Living children, grandchildren and so on of a process."""
    table, found, wanted = parents(), [], [pid]
    while wanted:
        parent = wanted.pop()
        children = [child for child, its in table.items() if its == parent]
        found += children
        wanted += children
    return found


def kill(process: subprocess.Popen, seconds: float = 2.0) -> bool:
    """Kill the process, its session and all descendants; True when none is left after at most `seconds`."""
    if sys.platform == "win32":
        options = {"capture_output": True, "check": False, "creationflags": subprocess.CREATE_NO_WINDOW}
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], **options)
        return _ended(process, seconds)
    family = descendants(process.pid)
    if process.poll() is None or family:
        _signal(os.killpg, process.pid)
    for pid in family:  # one that started a session of its own is not in the group
        _signal(os.kill, pid)
    ended = _ended(process, seconds)
    deadline = time.monotonic() + seconds
    while (left := set(family) & set(parents())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return ended and not left


def suspend(pid: int) -> None:
    """Hold a process and its descendants where they are; they keep their memory."""
    if sys.platform == "win32":
        _windowsEach(pid, "NtSuspendProcess")
    else:
        _toEach(pid, signal.SIGSTOP)


def goOn(pid: int) -> None:
    """Let what `suspend` held go on."""
    if sys.platform == "win32":
        _windowsEach(pid, "NtResumeProcess")
    else:
        _toEach(pid, signal.SIGCONT)


def _toEach(pid: int, number: int) -> None:
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, number)


def _windowsEach(pid: int, call: str) -> None:
    import ctypes

    suspendOrResume = 0x0800
    listing = [
        "powershell",
        "-NoProfile",
        "-Command",
        f"(Get-CimInstance Win32_Process -Filter 'ParentProcessId={pid}').ProcessId",
    ]
    children = subprocess.run(
        listing, capture_output=True, text=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW
    ).stdout
    for each in (pid, *(int(word) for word in children.split())):
        handle = ctypes.windll.kernel32.OpenProcess(suspendOrResume, False, each)
        if handle:
            getattr(ctypes.windll.ntdll, call)(handle)
            ctypes.windll.kernel32.CloseHandle(handle)


def _signal(send, target: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already
        send(target, signal.SIGKILL)


def _ended(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
