"""Cells of a table to covariates. What cannot be understood is reported with its place and treated as unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.study_records import Findings, Scanner
from neuro4d_lib.data.text_tables import Row

AGE_RANGE = (18, 100)
DIAGNOSIS_NAMES = {
    "CN": "CN CU HC NC NL CTRL CONTROL CONTROLS HEALTHY NORMAL SMC",
    "MCI": "EMCI LMCI AMCI",
    "AD": "ALZHEIMER ALZHEIMERS",
    "PD": "PARKINSON PARKINSONS",
    "MS": "RRMS SPMS PPMS",
}
_DIAGNOSES = {word: name for name, words in DIAGNOSIS_NAMES.items() for word in (name, *words.split())}
_SEXES = {"f": "F", "female": "F", "woman": "F", "w": "F", "m": "M", "male": "M", "man": "M"}
COLUMNS = {
    "sex": ("sex", "gender"),
    "education_years": ("education_years", "education", "educ", "years_of_education"),
    "apoe4": ("apoe4", "apoe4_count", "apoe"),
    "diagnosis": ("diagnosis", "group", "dx"),
}


def number(row: Row, column: str, findings: Findings) -> float | None:
    """None where it is unknown or no number, which is reported. A comma may stand for the decimal point."""
    text = row.get(column)
    if not text:
        return None
    try:
        value = float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        value = float("nan")
    if value != value or abs(value) == float("inf"):
        findings.repeat(
            "no numbers",
            f"the column {column!r} holds {text!r}; expected a number or n/a. It is treated as unknown",
            row.file,
            row.line,
        )
        return None
    return value


def covariates(rows: Sequence[Row], age: float | None, findings: Findings) -> Covariates:
    """What is known at a visit: of several rows, the first that knows.

    Args:
        rows: that of the visit, then that of the person.
        age: at the visit, within AGE_RANGE.
    """
    return Covariates(
        age=age,
        sex=_first(rows, "sex", findings),
        education_years=_first(rows, "education_years", findings),
        apoe4=_first(rows, "apoe4", findings),
        diagnosis=_first(rows, "diagnosis", findings),
    )


def understood(column: str, text: str) -> bool:
    """Whether a cell of this column has a meaning here; False for columns that are no covariates."""
    parse = next((_PARSERS[name] for name, columns in COLUMNS.items() if column in columns), None)
    return parse is not None and parse(text) is not None


def scanner(known: dict[str, Any]) -> Scanner | None:
    """From the fields of a BIDS sidecar; None where nothing is known."""

    def text(name: str) -> str | None:
        value = str(known.get(name) or "").strip()
        return value if value and value.lower() not in ("n/a", "na", "unknown", "none") else None

    strength = re.search(r"\d+(?:\.\d+)?", str(known.get("MagneticFieldStrength") or ""))
    field_tesla = float(strength[0]) if strength else None
    if field_tesla is not None and field_tesla > 100:  # some converters write gauss or mT
        field_tesla /= 10_000 if field_tesla > 10_000 else 1_000
    found = Scanner(
        text("Manufacturer"), text("ManufacturersModelName"), field_tesla or None, text("DeviceSerialNumber")
    )
    return None if found == Scanner() else found


def _first(rows: Sequence[Row], name: str, findings: Findings) -> Any:
    for row in rows:
        for column in COLUMNS[name]:
            text = row.get(column)
            if not text:
                continue
            value = _PARSERS[name](text)
            if value is not None:
                return value
            findings.repeat(*_not_understood(name, column, text), row.file, row.line)
    return None


def _not_understood(name: str, column: str, text: str) -> tuple[str, str]:
    expected = {
        "sex": "F or M",
        "education_years": "0 to 30 years",
        "apoe4": "the number of e4 alleles (0, 1, 2) or the two alleles (such as 3/4)",
        "diagnosis": f"one of {', '.join(DIAGNOSES)}",
    }[name]
    kind = {"sex": "unknown sex", "diagnosis": "unknown diagnoses"}.get(name, "impossible values")
    say = (
        ""
        if name == "education_years"
        else (
            '. If it means one of these, say so under "values" in a file for --columns (table), or under "Levels" in the '
            "JSON file beside it (BIDS)"
        )
    )
    return kind, f"the {column} {text!r} is not {expected}; it is treated as unknown{say}"


def _sex(text: str) -> str | None:
    return _SEXES.get(text.lower())


def _education(text: str) -> float | None:
    try:
        years = float(text.replace(",", "."))
    except ValueError:
        return None
    return years if 0 <= years <= 30 else None


def _apoe4(text: str) -> int | None:
    """A count, or a genotype such as 3/4, e3e4 or 34."""
    plain = re.sub(r"\.0+$", "", text)
    if plain in ("0", "1", "2"):
        return int(plain)
    alleles = re.findall(r"\d", plain)
    if len(alleles) == 2 and set(alleles) <= set("234"):
        return alleles.count("4")
    return None


def _diagnosis(text: str) -> str | None:
    return _DIAGNOSES.get(re.sub(r"[\s'’_-]|disease$", "", text.lower()).upper())


_PARSERS: dict[str, Callable[[str], Any]] = {
    "sex": _sex,
    "education_years": _education,
    "apoe4": _apoe4,
    "diagnosis": _diagnosis,
}
