"""The record of a forecast: what anyone needs to know, to trust or to repeat it."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import torch

import neuro4d_lib
from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting.result import Forecast

SCHEMA_VERSION = 1
RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or treatment decisions."
SIMULATED_TRAINING = (
    "The model was trained on simulated people, whose rates of change follow published group studies; bands and scores "
    "hold for such people."
)


def record(forecast: Forecast, outputs: Mapping[str, str], seconds: Mapping[str, float]) -> dict[str, Any]:
    """The content of forecast.json, ready for JSON.

    Args:
        outputs: name of each file and what it is.
        seconds: time of each stage.
    """
    given, model = forecast.inputs, forecast.model
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": RESEARCH_USE,
        "training_data": model.get("training_data", SIMULATED_TRAINING),
        "warnings": list(forecast.warnings),
        "years": list(forecast.years),
        "frame_years": [0.0, *forecast.years],
        "futures": forecast.futures,
        "seed": forecast.seed,
        "network_calls": forecast.network_calls,
        "seconds": round(sum(seconds.values()), 2),
        "seconds_of_stages": {name: round(value, 2) for name, value in seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "model": {"name": model["name"], "version": model.get("version"), "sha256": forecast.model_sha256},
        "covariates": given.covariates.as_dict(),
        "registration": dict(forecast.registration),
        "fold_certificate": {
            "voxels": forecast.folds.voxels,
            "determinants_per_voxel": forecast.folds.determinants_per_voxel,
            "failed": forecast.folds.failed,
            "mended": forecast.folds.mended,
            "maps": forecast.fold_tested_maps,
            "method": "Liu et al., 2024, doi:10.1007/s11263-024-02047-1, on the voxels of every delivered image",
        },
        "inputs": {
            "scan": _described(given.scan),
            "past": [{"years": years, **_described(image)} for image, years in given.past],
            "segmentation": None if given.segmentation is None else _described(given.segmentation),
            "also": [_described(image) for image in given.also],
        },
        "outputs": dict(outputs),
        "versions": {
            "neuro4d_lib": neuro4d_lib.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "nibabel": nibabel.__version__,
            "SimpleITK": SimpleITK.Version_VersionString(),
            "platform": platform.platform(),
        },
        "device": str(forecast.device),
        "threads": torch.get_num_threads(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not tell (Windows).

    Linux keeps `ru_maxrss` when a process becomes another program: a worker would report what Slicer held as its own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8", errors="replace").splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _described(image: Image) -> dict[str, Any]:
    """An input by its file name (a path may name a person) and its content."""
    return {
        "file": Path(image.path.partition("::")[0]).name or None,
        "sha256": _sha256(image),
        "shape": list(image.array.shape),
        "affine": image.affine.tolist(),
        "dtype": str(image.dtype),
    }


def _sha256(image: Image) -> str:
    """Of the file; of all files of a folder, in order of their names; of the voxels of an image without a file."""
    digest = hashlib.sha256()
    path = Path(image.path.partition("::")[0])
    if not image.path or not path.exists():
        digest.update(np.ascontiguousarray(image.array).tobytes())
        return digest.hexdigest()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
