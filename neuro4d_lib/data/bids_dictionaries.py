"""What the JSON files beside the tables of a BIDS data set say of their columns: what codes stand for, units of age."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.data.study_values import understood
from neuro4d_lib.data.text_tables import Row

_AGE_UNITS = {"month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}


def translated(rows: Sequence[Row], dictionaries: Sequence[Path], findings: Findings) -> list[Row]:
    """Rows in which codes that only the `Levels` of a dictionary explain are replaced by what they stand for, and ages are
    in years.

    Args:
        dictionaries: the first that describes a column is believed; they need not exist.
    """
    known: dict[str, Any] = {}
    for path in reversed(dictionaries):
        known |= _read(path, findings) if rows and path.is_file() else {}
    described = {column: about for column, about in known.items() if isinstance(about, dict)}
    return [_translated(row, described) for row in rows] if described else list(rows)


def _translated(row: Row, described: dict[str, Any]) -> Row:
    values = dict(row.values)
    for column, about in described.items():
        text = row.get(column)
        levels = about.get("Levels")
        if text and isinstance(levels, dict) and not understood(column, text):
            level = levels.get(text)
            meaning = str(level.get("Description") if isinstance(level, dict) else level)
            if understood(column, meaning):
                values[column] = meaning
        if text and column == "age":
            values[column] = _in_years(text, str(about.get("Units", "")))
    return Row(values, row.file, row.line)


def _in_years(text: str, unit: str) -> str:
    factor = next((years for name, years in _AGE_UNITS.items() if unit.lower().startswith(name)), None)
    try:
        return text if factor is None else repr(float(text) * factor)
    except ValueError:
        return text


def _read(path: Path, findings: Findings) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as problem:
        findings.add("sidecars", f"{path.name} cannot be read ({problem.msg}); it is not used", path, problem.lineno)
        return {}
    except (OSError, UnicodeDecodeError):
        findings.add("sidecars", f"{path.name} cannot be read; it is not used", path)
        return {}
    return said if isinstance(said, dict) else {}
