"""A person's regional volumes from a table, in place of scans."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.applications.risk.person_law import Seen
from neuro4d_lib.applications.risk.thresholds import MM3_PER_ML, checked_region
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import AGGREGATES, DRIVEN
from neuro4d_lib.errors import InputError

FORM = (
    'Expected one row per scan, a column "years" (before the latest scan, which is 0) or "age", and a column per region '
    "with its unit, such as hippocampus_ml; optionally icv_ml, the volume within the skull."
)
MOST_TIMES = 6.0
"""A volume this many times larger or smaller than the reference's is taken for a wrong unit."""
_UNITS = {"_ml": MM3_PER_ML, "_mm3": 1.0}
_NAMES = tuple(region.name for region in DRIVEN)


@dataclass(frozen=True, eq=False)
class Volumes:
    """Measured volumes of one person.

    Attributes:
        names: A regions or sums; years: [V] ascending, the last is 0; mm3: [V, A].
        icv_mm3: volume within the skull at the latest scan, or None.
        age: at the latest scan, where the table states it.
    """

    names: tuple[str, ...]
    years: np.ndarray
    mm3: np.ndarray
    icv_mm3: float | None = None
    age: float | None = None


def read_volumes(path: Path, reference: Reference) -> Volumes:
    """The table understood, or an InputError that names what is wrong where."""
    if not path.is_file():
        raise InputError(f"There is no file {path}. {FORM}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text. {FORM}") from None
    lines = [line for line in text.splitlines() if line.strip()]
    rows = list(csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ","))
    if len(rows) < 2:
        raise InputError(f"{path} has no row of volumes. {FORM}")
    header = [name.strip().lower() for name in rows[0]]
    if len(set(header)) < len(header):
        raise InputError(f"{path} has a column twice. {FORM}")
    columns = _columns(path, header)
    values = np.array([_numbers(path, i, header, row) for i, row in enumerate(rows[1:], start=2)])
    years, age = _years(path, header, values)
    order = np.argsort(years)
    icv = None
    for unit, factor in _UNITS.items():
        if f"icv{unit}" in header:
            icv = float(values[order[-1], header.index(f"icv{unit}")]) * factor
    mm3 = np.stack([values[order, place] * factor for _, place, factor in columns], axis=1)
    names = tuple(name for name, *_ in columns)
    _check_sizes(path, names, mm3, icv, reference)
    return Volumes(names, years[order], mm3, icv, age)


def _columns(path: Path, header: list[str]) -> list[tuple[str, int, float]]:
    """Region, place and factor to mm3 of every column of volumes."""
    found, units = [], set()
    for place, column in enumerate(header):
        if column in ("years", "age"):
            continue
        unit = next((unit for unit in _UNITS if column.endswith(unit)), None)
        if unit is None:
            raise InputError(
                f"The column {column!r} of {path} has no unit: expected {column}_ml or {column}_mm3. {FORM}"
            )
        units.add(unit)
        name = column.removesuffix(unit)
        if name != "icv":
            found.append((checked_region(name), place, _UNITS[unit]))
    if len(units) > 1:
        raise InputError(f"{path} mixes units, ml and mm3. Give all volumes in one of them.")
    if not found:
        raise InputError(f"{path} has no column of a region. {FORM}")
    return found


def _numbers(path: Path, line: int, header: list[str], row: list[str]) -> list[float]:
    if len(row) != len(header):
        raise InputError(f"Line {line} of {path} has {len(row)} cells; the header has {len(header)}.")
    numbers = []
    for column, cell in zip(header, row, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (column not in ("years",) and value <= 0):
            raise InputError(f"Line {line} of {path}, {column}: found {cell.strip()!r}; expected a number above 0.")
        numbers.append(value)
    return numbers


def _years(path: Path, header: list[str], values: np.ndarray) -> tuple[np.ndarray, float | None]:
    if "age" not in header and "years" not in header:
        if len(values) > 1:
            raise InputError(f"{path} has several rows and no column that says when. {FORM}")
        return np.zeros(1), None
    age = None
    if "age" in header:
        ages = values[:, header.index("age")]
        age, years = float(ages.max()), ages - ages.max()
    if "years" in header:
        years = values[:, header.index("years")]
    if years.max() != 0:
        raise InputError(f"The latest scan of {path} is at {years.max():g} years; expected 0. {FORM}")
    if len(years) > 1 and np.diff(np.sort(years)).min() < 0.05:
        raise InputError(f"Two rows of {path} are less than 0.05 years apart. Give each scan its own time.")
    return years, age


def _check_sizes(path: Path, names: tuple[str, ...], mm3: np.ndarray, icv: float | None, reference: Reference) -> None:
    expected = reference_mm3(names, reference)
    for name, volumes, usual in zip(names, mm3.T, expected, strict=True):
        for volume in volumes:
            if not usual / MOST_TIMES < volume < usual * MOST_TIMES:
                raise InputError(
                    f"{path} says that {name} has {volume / MM3_PER_ML:.4g} ml; about {usual / MM3_PER_ML:.3g} ml is "
                    "usual. Check the unit of its column, and whether it holds both sides."
                )
    if icv is not None and not 0.7e6 < icv < 3e6:
        raise InputError(f"{path} says that the skull holds {icv / MM3_PER_ML:.4g} ml; expected 700 to 3000 ml.")


def weights_of(names: tuple[str, ...], reference: Reference) -> Tensor:
    """First-order weights [A, R] of the driven regions in the log-volume of each name."""
    volumes = torch.from_numpy(reference.volumes_mm3[: len(_NAMES)])
    rows = torch.tensor([[float(r in AGGREGATES.get(name, (name,))) for r in _NAMES] for name in names])
    rows = rows.double() * volumes
    return rows / rows.sum(dim=1, keepdim=True)


def reference_mm3(names: tuple[str, ...], reference: Reference) -> np.ndarray:
    """[A] volumes of regions or sums in the reference."""
    of_name = dict(zip(_NAMES, reference.volumes_mm3, strict=False))
    return np.array([sum(of_name[part] for part in AGGREGATES.get(name, (name,))) for name in names])


def baseline_of(name: str, names: tuple[str, ...], mm3: np.ndarray) -> float:
    """Volume of a region that is listed, or whose parts all are, among the names with volumes [A]."""
    of_name = dict(zip(names, mm3.tolist(), strict=True))
    if name in of_name:
        return float(of_name[name])
    parts = AGGREGATES.get(name, (name,))
    if all(part in of_name for part in parts):
        return float(sum(of_name[part] for part in parts))
    grouped = {part.removeprefix("left_").removeprefix("right_") for part in parts}
    if len(parts) > 1 and all(part in of_name for part in grouped):
        return float(sum(of_name[part] for part in grouped))
    raise InputError(f"A volume of {name} is needed; the table has {', '.join(names)}.")


def as_seen(volumes: Volumes, reference: Reference) -> Seen:
    """What the law is told: the finest regions first; a sum that others determine says nothing new."""
    weights = weights_of(volumes.names, reference)
    order = sorted(range(len(weights)), key=lambda i: int((weights[i] > 0).sum()))
    kept: list[int] = []
    for i in order:
        if torch.linalg.matrix_rank(weights[[*kept, i]], rtol=1e-9) == len(kept) + 1:
            kept.append(i)
    expected = reference_mm3(volumes.names, reference)
    logs = np.log(volumes.mm3[:, kept] / expected[kept])
    past = volumes.years[:-1]
    level = logs[-1].copy()
    if volumes.icv_mm3 is not None:
        level -= math.log(volumes.icv_mm3 / float(reference.volumes_mm3.sum()))
    rates = (logs[-1] - logs[:-1]) / -past[:, None]
    return Seen(
        weights[kept],
        torch.from_numpy(level),
        torch.from_numpy(past),
        torch.from_numpy(rates),
        volumes.icv_mm3 is not None,
    )
