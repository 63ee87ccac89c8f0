"""A prepared study on disk: of every person the motion between visits and the anatomy, in reference space on the lattice.

    PREPARED/
      prepared.json                what was prepared, how, and who was left out and why
      subjects/sub-01.safetensors  one person: tensors, and the rest as JSON in the header

`preparation` writes it from scans, `training` learns from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.geometry.spaces import LATTICE

FORMAT = 1
ABOUT_FILE = "prepared.json"
SUBJECTS_FOLDER = "subjects"
_SUFFIX = ".safetensors"
_HEADER = "subject"
_AGAIN = "Prepare this subject again."


@dataclass(frozen=True, eq=False)
class PreparedSubject:
    """One person with V visits, V >= 2, in order of time.

    Attributes:
        id: such as "sub-01".
        sessions: [V] such as "ses-01".
        years: [V] since the first visit, ascending.
        covariates: [V], at each visit.
        motion: [V, 3, 32, 40, 32] float32, control points in mm of a stationary velocity field in reference space: its
            flow over unit time carries tissue from the person's own template, which favors no visit, to the visit.
        anatomy: [V, 32, 40, 32] float32, log of this brain's volume per reference volume, head size aside, at each visit.
        quality: [V] tables of numbers.
    """

    id: str
    sessions: tuple[str, ...]
    years: tuple[float, ...]
    covariates: tuple[Covariates, ...]
    motion: Tensor
    anatomy: Tensor
    quality: tuple[dict[str, float], ...]

    def velocity(self, start: int, end: int) -> Tensor:
        """Mean velocity from one visit to another, mm per year: [3, 32, 40, 32].

        To first order (Baker, Campbell and Hausdorff) exp(end) exp(-start) = exp(end - start): exact where both motions
        are multiples of one field.
        """
        return (self.motion[end] - self.motion[start]) / (self.years[end] - self.years[start])


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared study.

    Attributes:
        about: prepared.json: format, study, settings, versions, and of every subject state and reason.
        subjects: those who can be used, by id.
    """

    folder: Path
    about: dict[str, Any]
    subjects: tuple[PreparedSubject, ...]


def subject_path(folder: Path, subject: str) -> Path:
    """Where a person of a prepared study is kept."""
    return folder / SUBJECTS_FOLDER / f"{subject}{_SUFFIX}"


def write_subject(path: Path, subject: PreparedSubject) -> None:
    """Write one person, whole or not at all."""
    _check(subject, str(path))
    header = {
        "format": FORMAT,
        "id": subject.id,
        "sessions": list(subject.sessions),
        "years": list(subject.years),
        "covariates": [known.as_dict() for known in subject.covariates],
        "quality": list(subject.quality),
    }
    tensors = {name: getattr(subject, name).detach().float().cpu().contiguous() for name in ("motion", "anatomy")}
    write_whole(path, safetensors.save(tensors, {_HEADER: json.dumps(header)}))


def read_subject(path: Path) -> PreparedSubject:
    """Read one person, checked."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            if header["format"] != FORMAT:
                raise InputError(f"{path} has format {header['format']}, expected {FORMAT}. {_AGAIN}")
            subject = PreparedSubject(
                str(header["id"]),
                tuple(map(str, header["sessions"])),
                tuple(map(float, header["years"])),
                tuple(Covariates(**known) for known in header["covariates"]),
                file.get_tensor("motion"),
                file.get_tensor("anatomy"),
                tuple(header["quality"]),
            )
    except InputError as problem:
        raise problem if str(problem).startswith(str(path)) else InputError(f"{path}: {problem}") from None
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Prepare this subject first.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
        raise InputError(
            f"{path} cannot be read as a prepared subject ({str(problem).splitlines()[0]}). {_AGAIN}"
        ) from None
    _check(subject, str(path))
    return subject


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write prepared.json: about holds study, settings, versions and subjects, {id: {"state": ..., "reason": ...}}."""
    write_whole(folder / ABOUT_FILE, json.dumps({"format": FORMAT, **about}, indent=1) + "\n")


def read_about(folder: Path) -> dict[str, Any]:
    """Read prepared.json, checked."""
    path = folder / ABOUT_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} is no prepared study: it holds no {ABOUT_FILE}. Make one with "
            "`python -m neuro4d_lib prepare STUDY --output PREPARED`."
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read: {problem}. Prepare the study again.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise InputError(f"{path} has format {found!r}, expected {FORMAT}. Prepare the study again.")
    states = about.get("subjects")
    if not isinstance(states, dict) or not all(
        isinstance(state, dict) and state.get("state") in ("used", "excluded") for state in states.values()
    ):
        raise InputError(
            f"{path} does not say of every subject whether it is used or excluded. Prepare the study again."
        )
    return about


def read_prepared(folder: Path, wanted: Sequence[str] | None = None) -> Prepared:
    """The study, with those of its subjects who are used; where `wanted` is given, of those only the wanted."""
    about = read_about(folder)
    if about.get("complete") is False:
        raise InputError(
            f"{folder} is not finished. Run the same `prepare` command again; it goes on where it stopped."
        )
    used = sorted(name for name, state in about["subjects"].items() if state["state"] == "used")
    if wanted is not None:
        missing = sorted(set(wanted) - set(used))
        if missing:
            raise InputError(f"{folder} holds no {missing[0]} who can be used. It holds {len(used)} such subjects.")
        used = sorted(set(wanted))
    return Prepared(folder, about, tuple(read_subject(subject_path(folder, name)) for name in used))


def _check(subject: PreparedSubject, path: str) -> None:
    visits = len(subject.years)
    if visits < 2:
        raise InputError(f"{path} holds {visits} visits; expected at least 2. {_AGAIN}")
    for name in ("sessions", "covariates", "quality"):
        if len(getattr(subject, name)) != visits:
            raise InputError(f"{path} holds {len(getattr(subject, name))} {name} of {visits} visits. {_AGAIN}")
    if not all(math.isfinite(years) for years in subject.years) or any(
        later <= earlier for earlier, later in zip(subject.years, subject.years[1:], strict=False)
    ):
        raise InputError(
            f"{path}: the years of its visits are {list(subject.years)}; expected ascending numbers. {_AGAIN}"
        )
    for name, shape in (("motion", (visits, 3, *LATTICE.shape)), ("anatomy", (visits, *LATTICE.shape))):
        tensor = getattr(subject, name)
        if tuple(tensor.shape) != shape:
            raise InputError(f"{path}: {name} is {tuple(tensor.shape)}, expected {shape}. {_AGAIN}")
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {name} holds numbers that are not finite. {_AGAIN}")
