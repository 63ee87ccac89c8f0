"""What a run leaves on disk: its settings, the state that a resumed run needs, its weights, its log.

The state is one safetensors file: tensors, and the rest as JSON in its header. Nothing is ever half written: a file is
written beside its place and then moved there, so a killed run finds the last whole one.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

import neuro4d_lib
from neuro4d_lib import files
from neuro4d_lib.errors import InputError

STATE_FILE = "training_state.safetensors"
LOG_FILE = "log.jsonl"
SESSIONS_FILE = "sessions.jsonl"
_FORMAT = 1
# Settings that say when a run pauses, and what is measured when it has ended; they do not change its steps.
_MAY_CHANGE = ("training.seconds", "training.save_every", "training.gate_people")


@dataclass
class Standing:
    """How far a run is. `best` is the lowest validation loss so far, at step `best_step`; `waited`: validations since."""

    step: int = 0
    best: float = float("inf")
    best_step: int = 0
    waited: int = 0


def write_whole(path: Path, content: bytes) -> None:
    """All of the file or nothing: where the disk is full, what was there before stays."""
    try:
        files.write_whole(path, content)
    except OSError as problem:
        raise InputError(
            f"{path} could not be written: {problem.strerror}. What was there before is unchanged. Make room, and run "
            "the same command again: it goes on from the last checkpoint."
        ) from None


def learned(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: all but the fields of the anatomy and the gate, which are made anew."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(("deformation.", "gate"))}


def save_state(
    path: Path,
    identity: dict[str, Any],
    standing: Standing,
    model: nn.Module,
    average: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """identity: the settings of the run, nested; best: `learned` of the best average so far, or empty."""
    tensors = {f"model.{name}": value for name, value in learned(model).items()}
    tensors |= {f"average.{name}": value for name, value in learned(average).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for place, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value for name, value in values.items()}
    # A view of a larger tensor would be written whole, and two names of one memory refused.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    header = {"format": _FORMAT, "identity": identity, "standing": asdict(standing)}
    write_whole(path, safetensors.save(tensors, {"state": json.dumps(header)}))


def load_state(
    path: Path,
    identity: dict[str, Any],
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> tuple[Standing, dict[str, Tensor]]:
    """Bring everything to where the run was. Returns how far that is, and the best average. Another run's state is refused."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["state"])
            parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
            names = list(file.keys())
            if header["format"] == _FORMAT:
                _refuse_another(path, header["identity"], identity)
            for name in names:
                part, _, rest = name.partition(".")
                parts[part][rest] = file.get_tensor(name)
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(
            f"{path} cannot be read as the state of a run ({str(problem).splitlines()[0]}). Restore it, or use another --output."
        ) from None
    if header["format"] != _FORMAT:
        raise InputError(f"{path} has format {header['format']}, expected {_FORMAT}. Use another --output.")
    for module, tensors in ((model, parts["model"]), (average, parts["average"])):
        module.load_state_dict({**module.state_dict(), **tensors})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        place, _, rest = name.partition(".")
        state.setdefault(int(place), {})[rest] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Standing(**header["standing"]), parts["best"]


def _refuse_another(path: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Name the first setting that differs."""
    before, after = _flat(saved), _flat(now)
    for key in sorted(before.keys() | after.keys()):
        if key not in _MAY_CHANGE and before.get(key) != after.get(key):
            raise InputError(
                f"The run in {path.parent} was started with {key} = {_shown(before.get(key))}, now it is "
                f"{_shown(after.get(key))}. Give the settings it was started with (config.json there), or another --output."
            )


def _flat(table: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{where}{name}.") if isinstance(value, dict) else {where + name: value}
    return flat


def _shown(value: Any) -> str:
    return "not known" if value is None else json.dumps(value)


def record_session(path: Path, device: torch.device, processes: int, step: int) -> None:
    """Add a line on what goes on with the run from `step`: versions and machine, on which the last bit depends."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    entry = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "from_step": step,
        "command": sys.argv,
        "neuro4d_lib": neuro4d_lib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device} ({name})",
        "processes": processes,
        "threads": torch.get_num_threads(),
    }
    with path.open("a", encoding="utf-8") as file:
        print(json.dumps(entry), file=file)


class RunLog:
    """One JSON object a line and step. A resumed run drops the lines of steps that it makes again. Without a path, silent."""

    def __init__(self, path: Path | None, step: int) -> None:
        self._file = None
        if path:
            kept = [line for line in _lines(path) if _step(line) <= step]
            write_whole(path, "".join(line + "\n" for line in kept).encode())
            self._file = path.open("a", encoding="utf-8")

    def write(self, entry: dict[str, Any]) -> None:
        if self._file:
            print(json.dumps(entry), file=self._file, flush=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(line: str) -> float:
    """Of a line of the log; a half written one belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
