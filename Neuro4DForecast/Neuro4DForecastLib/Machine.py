"""This computer: its processors with their free memory."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

GIGABYTE = 1e9


@dataclass(frozen=True)
class Device:
    """One place to compute: `key` is auto, cpu or cuda:N."""

    key: str
    name: str
    freeBytes: float = 0.0

    def label(self) -> str:
        free = f", {self.freeBytes / GIGABYTE:.1f} GB free" if self.freeBytes else ""
        return f"{self.name}{free}"


class GpuQuery:
    """Asks the NVIDIA driver without waiting for it: start, then `answer` until it is not None."""

    def __init__(self) -> None:
        program = shutil.which("nvidia-smi")
        self._process = None
        if program:
            fields = "--query-gpu=index,name,memory.free"
            hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}
            self._process = subprocess.Popen(
                [program, fields, "--format=csv,noheader,nounits"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                **hidden,
            )

    def answer(self) -> list[Device] | None:
        """Graphics cards; None while the driver has not answered."""
        if self._process is None:
            return []
        if self._process.poll() is None:
            return None
        text = self._process.communicate()[0]
        failed, self._process = self._process.returncode != 0, None
        return [] if failed else parseGpus(text)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def parseGpus(text: str) -> list[Device]:
    found = []
    for line in text.splitlines():
        pieces = [piece.strip() for piece in line.split(",")]
        if len(pieces) == 3 and pieces[0].isdigit():
            free = float(pieces[2]) * 2**20 if pieces[2].replace(".", "").isdigit() else 0.0
            found.append(Device(f"cuda:{pieces[0]}", f"GPU {pieces[0]}: {pieces[1]}", free))
    return found


def cpu() -> Device:
    return Device("cpu", f"CPU ({os.cpu_count() or 1} cores)", freeMemoryBytes())


def freeMemoryBytes() -> float:
    """Memory that a new process can have; 0 where the system does not say."""
    system = platform.system()
    try:
        if system == "Linux":
            with open("/proc/meminfo", encoding="ascii") as file:
                table = dict(line.split(":") for line in file)
            return float(table["MemAvailable"].split()[0]) * 1024
        if system == "Windows":
            status = (ctypes.c_uint64 * 8)()
            ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = 64
            return float(status[2]) if ctypes.windll.kernel32.GlobalMemoryStatusEx(status) else 0.0
        pages = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=1, check=False).stdout
        counts = [
            line.split(":")[1] for line in pages.splitlines() if line.startswith(("Pages free", "Pages inactive"))
        ]
        return sum(float(count.strip(" .")) for count in counts) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, KeyError, ValueError, IndexError, subprocess.SubprocessError):
        return 0.0
