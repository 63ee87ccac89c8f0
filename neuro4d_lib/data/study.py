"""A longitudinal BIDS data set: who was scanned when, what is known of them, and who cannot be used and why.

Read are participants.tsv, sub-*/sub-*_sessions.tsv (or one sessions.tsv with a participant_id) and
sub-*/ses-*/anat/*_T1w.nii[.gz]; no image is opened here.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.errors import InputError

DAYS_PER_YEAR = 365.25
LEAST_GAP_YEARS, MOST_YEARS = 1 / DAYS_PER_YEAR, 40.0
# Columns of sessions.tsv that say when, and years per unit of each; the first one that is there is used.
TIME_COLUMNS = {
    "days_since_first": 1 / DAYS_PER_YEAR,
    "days_since_baseline": 1 / DAYS_PER_YEAR,
    "days": 1 / DAYS_PER_YEAR,
    "months_since_first": 1 / 12,
    "months_since_baseline": 1 / 12,
    "months": 1 / 12,
    "years_since_first": 1.0,
    "years_since_baseline": 1.0,
    "years": 1.0,
}
_OTHER_NAMES = {
    "education_years": ("education_years", "education", "educ"),
    "apoe4": ("apoe4", "apoe4_count"),
    "diagnosis": ("diagnosis", "group", "dx"),
}
_CONTROLS = ("HC", "NC", "CONTROL", "HEALTHY")
_UNKNOWN = ("", "n/a", "na", "nan", "unknown")
_AGE_SLACK_YEARS = 1.5


@dataclass(frozen=True)
class Visit:
    """One session with a T1-weighted scan.

    Attributes:
        session: such as "ses-01".
        years: since the first session with a scan.
        covariates: at this visit.
    """

    session: str
    years: float
    scan: Path
    covariates: Covariates


@dataclass(frozen=True)
class StudySubject:
    """One person: `id` such as "sub-01", visits in order of time."""

    id: str
    visits: tuple[Visit, ...]


@dataclass(frozen=True)
class Unusable:
    """A person who cannot be used, and why: one sentence."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Study:
    """Everybody in a data set."""

    folder: Path
    subjects: tuple[StudySubject, ...]
    unusable: tuple[Unusable, ...]


class _NotUsable(Exception):
    """Carries the reason."""


def read_study(folder: Path, wanted: Sequence[str] = (), least_visits: int = 2) -> Study:
    """Everybody, or those who are wanted, with at least so many scans at different times.

    Args:
        wanted: ids with or without "sub-".
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Name the folder of a longitudinal BIDS data set.")
    names = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())
    if not names:
        raise InputError(
            f"{folder} holds no folder sub-*. Expected a BIDS data set: sub-*/ses-*/anat/*_T1w.nii.gz, participants.tsv, "
            "sub-*/sub-*_sessions.tsv."
        )
    chosen = {name if name.startswith("sub-") else f"sub-{name}" for name in wanted} or set(names)
    if chosen - set(names):
        raise InputError(
            f"{folder} holds no {min(chosen - set(names))}. It holds {len(names)} subjects: {_some(names)}."
        )
    people = _participants(folder)
    sessions = _common_sessions(folder)
    subjects, unusable = [], []
    for name in (name for name in names if name in chosen):
        try:
            rows = people.get(name, [{}])
            if len(rows) > 1:
                raise _NotUsable(f"participants.tsv has {len(rows)} rows of this subject; expected one")
            table = sessions.get(name) or _own_sessions(folder / name)
            visits = _visits(folder / name, rows[0], table)
            if len(visits) < least_visits:
                raise _NotUsable(f"{_counted(len(visits), 'visit')} with a T1w scan; expected at least {least_visits}")
            subjects.append(StudySubject(name, visits))
        except (_NotUsable, InputError) as problem:
            unusable.append(Unusable(name, str(problem)))
    return Study(folder, tuple(subjects), tuple(unusable))


def _visits(folder: Path, person: Mapping[str, str], table: Sequence[Mapping[str, str]]) -> tuple[Visit, ...]:
    """The visits that have a scan and a time, in order of time."""
    with_scan = []
    labels = [row.get("session_id", "") for row in table]
    if len(set(labels)) < len(labels):
        raise _NotUsable("the table of sessions names a session twice")
    for path in sorted(folder.glob("ses-*")):
        scans = sorted((path / "anat").glob(f"{folder.name}_{path.name}*_T1w.nii*"))
        if scans:
            with_scan.append((path.name, scans[0]))
    if not table:
        if len(with_scan) < 2:
            return tuple(Visit(name, 0.0, scan, _covariates(person, {}, 0.0)) for name, scan in with_scan)
        raise _NotUsable(f"no {folder.name}_sessions.tsv says when the sessions were")
    rows = {row.get("session_id", ""): row for row in table}
    missing = [name for name, _ in with_scan if name not in rows]
    if missing:
        raise _NotUsable(f"{missing[0]} is not in the table of sessions")
    times = _times([(name, rows[name]) for name, _ in with_scan])
    visits = [
        Visit(name, years, scan, _covariates(person, rows[name], years))
        for (name, scan), years in zip(with_scan, times, strict=True)
    ]
    return tuple(sorted(visits, key=lambda visit: visit.years))


def _times(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[float]:
    """Years since the first of these sessions, checked for what they may be mistaken for."""
    if not rows:
        return []
    column = _time_column([row for _, row in rows])
    values = [_time(row, column, name) for name, row in rows]
    years = [value - values[0] for value in values]
    for (name, _), value in zip(rows, years, strict=True):
        if value < 0:
            raise _NotUsable(
                f"{name} lies {-value:.2f} years before {rows[0][0]}; expected follow-ups after the first session"
            )
    for i, (name, _) in enumerate(rows):
        for (other, _), value in zip(rows[:i], years, strict=False):
            if abs(years[i] - value) < LEAST_GAP_YEARS / 2:
                raise _NotUsable(f"{other} and {name} have the same time")
    if max(years) > MOST_YEARS:
        raise _NotUsable(f"its visits lie {max(years):g} years apart by the column {column!r}; are these days?")
    if column.startswith("days") and 0 < max(years) < 15 / DAYS_PER_YEAR and len(years) > 1:
        raise _NotUsable(
            f"its visits lie {max(years) * DAYS_PER_YEAR:g} days apart by the column {column!r}; are these years?"
        )
    ages = [_number(row, "age") for _, row in rows]
    for (name, _), age, value in zip(rows, ages, years, strict=True):
        if age is not None and ages[0] is not None and abs(age - ages[0] - value) > _AGE_SLACK_YEARS:
            raise _NotUsable(
                f"at {name} the age says {age - ages[0]:g} years since the first session, the column {column!r} {value:g}"
            )
    return years


def _time_column(rows: Sequence[Mapping[str, str]]) -> str:
    for column in (*TIME_COLUMNS, "acq_time", "age"):
        if all(_known(row.get(column)) for row in rows):
            return column
    raise _NotUsable(
        f"its sessions have no time; expected a column such as {', '.join(list(TIME_COLUMNS)[:1])}, acq_time or age"
    )


def _time(row: Mapping[str, str], column: str, session: str) -> float:
    """Years, from any origin."""
    if column == "acq_time":
        try:
            moment = datetime.datetime.fromisoformat(row[column].strip().replace("Z", "+00:00"))
        except ValueError:
            raise _NotUsable(
                f"acq_time of {session} is {row[column]!r}; expected such as 2021-05-30T10:00:00"
            ) from None
        return moment.timestamp() / 86_400 / DAYS_PER_YEAR
    value = _number(row, column)
    assert value is not None  # the column was chosen because all its values are known
    return value * TIME_COLUMNS.get(column, 1.0)


def _covariates(person: Mapping[str, str], session: Mapping[str, str], years: float) -> Covariates:
    """What is known at a visit: the session's own value, or that of the participant."""

    def first(name: str) -> str | None:
        for row in (session, person):
            for column in _OTHER_NAMES.get(name, (name,)):
                if _known(row.get(column)):
                    return row[column].strip()
        return None

    age = _number(session, "age")
    if age is None:
        at_first = _number(person, "age")
        age = None if at_first is None else at_first + years
    education, alleles = first("education_years"), first("apoe4")
    sex, diagnosis = (first("sex") or "").upper()[:1], (first("diagnosis") or "").upper()
    diagnosis = "CN" if diagnosis in _CONTROLS else diagnosis
    try:
        return Covariates(
            age=age,
            sex=sex if sex in ("F", "M") else None,
            education_years=None if education is None else float(education),
            apoe4=None if alleles is None else int(float(alleles)),
            diagnosis=diagnosis if diagnosis in DIAGNOSES else None,
        )
    except (ValueError, InputError) as problem:
        raise _NotUsable(str(problem).rstrip(".")) from None


def _participants(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Rows by subject; a subject may have several by mistake."""
    path = folder / "participants.tsv"
    people: dict[str, list[dict[str, str]]] = {}
    for row in _table(path, "participant_id") if path.is_file() else []:
        people.setdefault(_prefixed(row["participant_id"]), []).append(row)
    return people


def _common_sessions(folder: Path) -> dict[str, list[dict[str, str]]]:
    path = folder / "sessions.tsv"
    sessions: dict[str, list[dict[str, str]]] = {}
    for row in _table(path, "participant_id") if path.is_file() else []:
        sessions.setdefault(_prefixed(row["participant_id"]), []).append(row)
    return sessions


def _own_sessions(folder: Path) -> list[dict[str, str]]:
    path = folder / f"{folder.name}_sessions.tsv"
    return _table(path, "session_id") if path.is_file() else []


def _table(path: Path, needed: str) -> list[dict[str, str]]:
    """Rows of a tab-separated file by column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval="", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(f"{path} cannot be read: {problem}.") from problem
    if rows and needed not in rows[0]:
        raise InputError(f"{path} has no column {needed!r}; expected tab-separated columns, {needed} the first.")
    return [{key: value or "" for key, value in row.items() if key is not None} for row in rows]


def _number(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column)
    if not _known(text):
        return None
    try:
        return float(str(text))
    except ValueError:
        raise _NotUsable(f"the column {column!r} holds {text!r}; expected a number or n/a") from None


def _known(text: str | None) -> bool:
    return text is not None and text.strip().lower() not in _UNKNOWN


def _prefixed(name: str) -> str:
    return name if name.startswith("sub-") else f"sub-{name}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _counted(count: int, noun: str) -> str:
    return f"{'no' if count == 0 else 'only one' if count == 1 else count} {noun}{'' if count == 1 else 's'}"
