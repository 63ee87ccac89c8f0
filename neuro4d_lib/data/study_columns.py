"""What the columns of a table mean: our own names, those of ADNI and OASIS-3, or a file that says so."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuro4d_lib.data.text_tables import Row
from neuro4d_lib.errors import InputError

MEANINGS = (
    "subject", "session", "file", "date", "days", "months", "years", "age", "age_at_baseline", "sex", "education_years",
    "apoe4", "diagnosis", "manufacturer", "model", "field_strength", "scanner", "FLAIR", "T2w", "PDw",
)  # fmt: skip
MODALITIES = ("FLAIR", "T2w", "PDw")


@dataclass(frozen=True)
class Columns:
    """How a table is read.

    Attributes:
        columns: by meaning, the names of columns; the first that a table has is taken. Case does not matter.
        patterns: by meaning, a regular expression whose first group is the value; a cell that it does not fit is unknown.
        values: by meaning, what the study's own codes stand for; `*` matches anything.
        files: path of a scan by columns in braces, relative to the table; `*` matches anything.
        where: by column, the values that a row must have to be read.
        date_format: as of strptime, such as %m/%d/%Y.
        join: further tables, each with a mapping of its own, that know more of the same people.
        within_days: of a joined table: how far a row may lie from the visit; None joins by subject, and by session where
            both have one.
        table: of a joined table: its file, relative to the mapping file, or beside the first table.
        optional: of a joined table: whether it may be missing.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: str = ""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    date_format: str | None = None
    join: tuple[Columns, ...] = ()
    within_days: float | None = None
    table: str = ""
    optional: bool = False

    def named(self, row: Row) -> Row:
        """The row by meaning."""
        own = {_plain(column): column for column in reversed(list(row.values))}
        values = {}
        for meaning in MEANINGS:
            texts = (self._value(meaning, row.get(own[name])) for name in self._names(meaning) if name in own)
            values[meaning] = next((text for text in texts if text), "")
        return Row(values, row.file, row.line, row.values)

    def has(self, header: Mapping[str, str], meaning: str) -> bool:
        """Whether a table with these columns has one of this meaning."""
        own = {_plain(column) for column in header}
        return any(name in own for name in self._names(meaning))

    def _names(self, meaning: str) -> list[str]:
        """What a column of this meaning may be called: as stated, else one of our own names that is not stated to mean
        something else."""
        if meaning in self.columns:
            return [_plain(name) for name in self.columns[meaning]]
        claimed = {_plain(name) for names in self.columns.values() for name in names}
        return [name for name in map(_plain, _OWN[meaning]) if name not in claimed]

    def wants(self, row: Row) -> bool:
        """Whether the row fits `where`; a column that the table lacks excludes nothing."""
        return all(
            column not in row.values or row.get(column).casefold() in {value.casefold() for value in allowed}
            for column, allowed in self.where.items()
        )

    def _value(self, meaning: str, text: str) -> str:
        if text and meaning in self.patterns:
            match = re.search(self.patterns[meaning], text)
            text = match[1] if match else ""
        for code, value in self.values.get(meaning, {}).items():
            if fnmatch.fnmatchcase(text.casefold(), code.casefold()):
                return value
        return text


# Names that are understood without a mapping.
_OWN: dict[str, tuple[str, ...]] = {
    "subject": ("subject", "subject_id", "participant_id", "participant", "id", "sub"),
    "session": ("session", "session_id", "visit", "ses", "timepoint"),
    "file": ("file", "scan", "path", "filename", "T1w", "T1", "image"),
    "date": ("date", "acq_time", "scan_date", "session_date", "visit_date", "exam_date"),
    "days": ("days", "days_since_first", "days_since_baseline"),
    "months": ("months", "months_since_first", "months_since_baseline"),
    "years": ("years", "years_since_first", "years_since_baseline"),
    "age": ("age", "age_at_visit", "age_at_scan"),
    "age_at_baseline": ("age_at_baseline", "baseline_age", "age_at_first"),
    "sex": ("sex", "gender", "M/F"),
    "education_years": ("education_years", "education", "educ", "years_of_education"),
    "apoe4": ("apoe4", "apoe4_count", "apoe"),
    "diagnosis": ("diagnosis", "group", "dx"),
    "manufacturer": ("manufacturer",),
    "model": ("model", "ManufacturersModelName"),
    "field_strength": ("field_strength", "MagneticFieldStrength"),
    "scanner": ("scanner", "DeviceSerialNumber", "station"),
    "FLAIR": ("FLAIR",),
    "T2w": ("T2w", "T2"),
    "PDw": ("PDw", "PD"),
}

ADNIMERGE = Columns(
    columns={
        "subject": ("PTID", "RID"),
        "session": ("VISCODE",),
        "years": ("Years_bl", "Years.bl"),
        "date": ("EXAMDATE",),
        "months": (),
        "age_at_baseline": ("AGE",),
        "sex": ("PTGENDER",),
        "education_years": ("PTEDUCAT",),
        "apoe4": ("APOE4",),
        "diagnosis": ("DX",),
        "field_strength": ("FLDSTRENG",),
    },
    values={
        "diagnosis": {
            "dementia": "AD", "mci to dementia": "AD", "nl to dementia": "AD", "nl": "CN", "mci to nl": "CN", "smc": "CN",
            "emci": "MCI", "lmci": "MCI", "nl to mci": "MCI", "dementia to mci": "MCI",
        }
    },
)  # fmt: skip
_OASIS3_PEOPLE = Columns(
    table="OASIS3_demographics.csv",
    optional=True,
    columns={
        "subject": ("OASISID",),
        "age_at_baseline": ("AgeatEntry",),
        "sex": ("GENDER",),
        "education_years": ("EDUC",),
        "apoe4": ("APOE",),
    },
    values={"sex": {"1": "M", "2": "F", "1.0": "M", "2.0": "F"}},
)
_OASIS3_DIAGNOSES = {
    "diagnosis": {"cognitively normal": "CN", "no dementia": "CN", "ad dem*": "AD", "dat": "AD"}
}  # fmt: skip
_OASIS3_VISITS = Columns(
    table="OASIS3_UDSb4_cdr.csv",
    optional=True,
    within_days=365,
    columns={"subject": ("OASISID",), "days": ("days_to_visit",), "diagnosis": ("dx1",)},
    values=_OASIS3_DIAGNOSES,
)
_OASIS3_LABELS = ("label", "MR ID", "MR_session", "OASIS_session_label")
OASIS3 = Columns(
    columns={
        "subject": ("subject_id", "OASISID", "Subject"),
        "file": (),
        "session": (*_OASIS3_LABELS, "days_to_visit"),
        "days": ("days_to_visit", *_OASIS3_LABELS),
        "age": ("age at visit", "Age"),
        "age_at_baseline": ("AgeatEntry",),
        "sex": ("GENDER", "M/F"),
        "education_years": ("EDUC",),
        "apoe4": ("APOE",),
        "diagnosis": ("dx1",),
    },
    patterns={"days": r"(?:_d|^)0*(\d+)(?:\.0)?$", "session": r"(?:_|^)(d?\d+)(?:\.0)?$"},
    values={**_OASIS3_PEOPLE.values, **_OASIS3_DIAGNOSES},
    where={"scan category": ("T1w",)},
    join=(_OASIS3_PEOPLE, _OASIS3_VISITS),
)
PRESETS = {"adnimerge": ADNIMERGE, "oasis3": OASIS3}


def columns_of(choice: str | Path | None, files: str = "") -> tuple[Columns, Path | None]:
    """A mapping by its name or file, and the folder of the file.

    Args:
        choice: adnimerge, oasis3, or a JSON or TOML file.
        files: replaces the mapping's own template.
    """
    if choice is None or str(choice) == "":
        found, folder = Columns(), None
    elif str(choice) in PRESETS:
        found, folder = PRESETS[str(choice)], None
    else:
        path = Path(choice)
        if not path.is_file():
            raise InputError(
                f"There is no file {path} that names columns. Name one (JSON or TOML), or one of {', '.join(PRESETS)}."
            )
        found, folder = _checked(_read(path), path, ""), path.parent
    return (dataclasses.replace(found, files=files) if files else found), folder


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".toml":
            return _toml(text, path)
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise InputError(f"{path}, line {problem.lineno}: no valid JSON ({problem.msg}).") from None
    except UnicodeDecodeError:
        raise InputError(f'{path} is no text file. Expected JSON such as {{"columns": {{"subject": "ID"}}}}.') from None


def _toml(text: str, path: Path) -> Any:
    if sys.version_info < (3, 11):
        raise InputError(f"{path}: reading TOML needs Python 3.11 or later. Write the mapping as JSON.")
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise InputError(f"{path}: no valid TOML ({problem}).") from None


def _checked(said: Any, path: Path, where: str) -> Columns:
    """A mapping as a file states it."""
    if not isinstance(said, dict):
        raise InputError(
            f'{path}{where}: expected an object such as {{"columns": {{"subject": "ID"}}}}, found {said!r}.'
        )
    known = {one.name for one in dataclasses.fields(Columns)} | {"preset"}
    _refuse_unknown(said, known, path, where)
    preset = said.get("preset", "")
    if preset and preset not in PRESETS:
        raise InputError(f"{path}{where}: the preset is {preset!r}; expected one of {', '.join(PRESETS)}.")
    base = PRESETS[preset] if preset else Columns()
    columns = {
        meaning: _texts(names, path, f"columns.{meaning}") for meaning, names in _table(said, "columns", path).items()
    }
    patterns = {meaning: str(text) for meaning, text in _table(said, "patterns", path).items()}
    values = {
        meaning: {str(code): str(value) for code, value in _table(_table(said, "values", path), meaning, path).items()}
        for meaning in _table(said, "values", path)
    }
    for name, group in (("columns", columns), ("patterns", patterns), ("values", values)):
        _refuse_unknown(group, set(MEANINGS), path, f"{where}, {name}")
    for meaning, pattern in patterns.items():
        try:
            if re.compile(pattern).groups < 1:
                raise re.error("it has no group in parentheses")
        except re.error as problem:
            raise InputError(f"{path}: patterns.{meaning} is {pattern!r}: {problem}.") from None
    join = said.get("join", [])
    if not isinstance(join, list):
        raise InputError(f"{path}: join is {join!r}; expected a list of tables.")
    joined = tuple(_checked(one, path, f", join[{i}]") for i, one in enumerate(join))
    if any(not one.table for one in joined):
        raise InputError(f'{path}: a table to join has no name; expected {{"table": "people.csv", ...}}.')
    days = said.get("within_days", base.within_days)
    if days is not None and (not isinstance(days, (int, float)) or isinstance(days, bool) or days < 0):
        raise InputError(f"{path}: within_days is {days!r}; expected a number of days.")
    return Columns(
        columns={**base.columns, **columns},
        patterns={**base.patterns, **patterns},
        values={**base.values, **{m: {**base.values.get(m, {}), **v} for m, v in values.items()}},
        files=str(said.get("files", base.files)),
        where={**base.where, **{c: _texts(v, path, f"where.{c}") for c, v in _table(said, "where", path).items()}},
        date_format=said.get("date_format", base.date_format),
        join=(*joined, *base.join),
        within_days=days,
        table=str(said.get("table", "")),
        optional=bool(said.get("optional", False)),
    )


def _table(said: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = said.get(name, {})
    if not isinstance(value, dict):
        raise InputError(f"{path}: {name} is {value!r}; expected an object.")
    return value


def _texts(value: Any, path: Path, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: {name} is {value!r}; expected a text, or a list of texts.")
    return tuple(texts)


def _refuse_unknown(said: Mapping[str, Any], known: set[str], path: Path, where: str) -> None:
    unknown = sorted(set(said) - known)
    if unknown:
        raise InputError(f"{path}{where}: {unknown[0]!r} is not known. Known: {', '.join(sorted(known))}.")


def _plain(column: str) -> str:
    """Case, spaces and punctuation aside."""
    return re.sub(r"[^a-z0-9/]", "", column.lower())
