"""Known ways in which a forecast fails, each with what to do. docs/slicer.md has them as headings."""

import re

from Neuro4DForecastLib.Problem import Problem

# kind -> (pattern in the worker's log, what the person is told)
KNOWN = {
    "halfTorch": (
        r"module 'torch' has no attribute|cannot import name '\w+' from 'torch|libtorch\w*\.so|DLL load failed.*torch"
        r"|OSError: .*torch.*(WinError|cannot open shared object)",
        "PyTorch is only half installed. Open Neuro4D Forecast > Packages, press “Repair PyTorch”, then restart "
        "Slicer.",
    ),
    "noTorch": (
        r"No module named '?torch",
        "PyTorch is not installed in Slicer's Python. Open Neuro4D Forecast > Packages and press “Install”.",
    ),
    "noPackage": (
        r"No module named '?(nibabel|safetensors|SimpleITK)",
        "A Python package that the forecast needs is missing. Open Neuro4D Forecast > Packages and press “Install”.",
    ),
    "gpuMemory": (
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|memory of the GPU is full",
        "The graphics card ran out of memory. Press “Run on the CPU” to make the same forecast without it.",
    ),
    "cuda": (
        r"no kernel image is available|driver version is insufficient|Found no NVIDIA driver|not compiled with CUDA"
        r"|CUDA (driver )?error|cuDNN error",
        "PyTorch and the graphics card do not fit together. Press “Run on the CPU”, or install PyTorch again with the "
        "PyTorch extension for your driver.",
    ),
    "memory": (
        r"MemoryError|bad_alloc|Cannot allocate memory|DefaultCPUAllocator|not enough memory|The memory is full",
        "The computer ran out of memory. Close other programs, ask for fewer years, or tick “Save memory”.",
    ),
    "noSpace": (
        r"No space left on device|Errno 28|WinError 112|Disk quota exceeded|GB left; this forecast may need",
        "There is no space left in the temporary folder. Free some space, or choose another folder in Edit > "
        "Application "
        "Settings > General > Temporary directory.",
    ),
    "registration": (
        r"[Rr]egistration (has )?failed|could not be (registered|aligned)|RegistrationError",
        "The scan could not be aligned with the reference brain. Check that it is a T1-weighted brain scan with "
        "a correct "
        "orientation, and crop the neck away.",
    ),
    "notWritable": (
        r"Read-only file system|Permission denied|PermissionError",
        "The temporary folder cannot be written. Choose another one in Edit > Application Settings > General > "
        "Temporary "
        "directory.",
    ),
}
KILLED = "The system ended the forecast, most often because memory ran out. Ask for fewer years, or tick “Save memory”."
FOLDER_GONE = "The temporary folder of the forecast was removed while it ran. Press Forecast again."
UNKNOWN = (
    "The forecast stopped without saying why. Open the log below, copy it, and report it with the button “Copy log”."
)
OFFER_CPU = {"gpuMemory", "cuda"}


def explain(log: str, said: str, exitCode: int) -> Problem:
    """The Problem behind a failed worker: a known failure, a user's mistake in the worker's words, or the last word."""
    polite = bool(said) and exitCode == 2
    for kind, (pattern, sentence) in KNOWN.items():
        if re.search(pattern, said if polite else f"{log}\n{said}"):
            return Problem(sentence, kind=kind)
    if polite:
        return Problem(said, kind="input")
    if exitCode in (-9, 137):
        return Problem(KILLED, kind="killed")
    return Problem(f"{said} ({UNKNOWN})" if said else UNKNOWN, kind="unknown")
