"""A study as one table with a line for each scan, and further tables that know more of the same people."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from neuro4d_lib.data.found_people import FoundPerson, FoundVisit
from neuro4d_lib.data.study_columns import MODALITIES, Columns, columns_of
from neuro4d_lib.data.study_records import Findings, Scanner
from neuro4d_lib.data.study_times import DAYS_PER_YEAR, Calendar, chosen_column, years_in
from neuro4d_lib.data.study_values import scanner
from neuro4d_lib.data.text_tables import Row, known, read_table
from neuro4d_lib.errors import InputError

_SAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def read_study_table(
    path: Path, wanted: Sequence[str], choice: str | Path | None, files: str, findings: Findings
) -> tuple[list[FoundPerson], Calendar]:
    """Everybody in the table, or those who are wanted, and how its dates are read."""
    columns, folder = columns_of(choice, files)
    rows = read_table(path, findings)
    if not rows:
        raise InputError(
            f"{path} has no lines below its header. Expected a line for each scan: subject, file, date, ..."
        )
    _check_header(path, rows[0], columns)
    rows = [columns.named(row) for row in rows if columns.wants(row)]
    for join in columns.join:
        rows = _joined(rows, join, folder or path.parent, findings)
    people: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("subject"):
            people.setdefault(row.get("subject"), []).append(row)
        else:
            findings.repeat("broken lines", "this line names no subject; it is left out", row.file, row.line)
    chosen = set(wanted) | {name.removeprefix("sub-") for name in wanted}
    missing = [name for name in wanted if name not in people and name.removeprefix("sub-") not in people]
    if missing:
        raise InputError(f"{path} holds no subject {missing[0]}. It holds {len(people)}, such as {next(iter(people))}.")
    calendar = Calendar(rows, findings, columns.date_format)
    ids = _ids(people, findings)
    found = [
        _person(ids[name], lines, columns, path.parent, calendar, findings)
        for name, lines in sorted(people.items())
        if not wanted or name in chosen
    ]
    if columns.files and not any(visit.scans for person in found for visit in person.visits):
        looked = _pattern(columns.files, rows[0], path.parent)
        raise InputError(
            f"No line of {path} has a file by the template {columns.files!r}; the first looked for {looked}. Check the "
            "template: names of columns in braces, relative to the table's folder."
        )
    return found, calendar


def _check_header(path: Path, row: Row, columns: Columns) -> None:
    there = ", ".join(list(row.values)[:8])
    if not columns.has(row.values, "subject"):
        raise InputError(
            f"{path} has no column for the subject; it has {there}. Name the columns subject, file and one of date, days, "
            "months, years or age, or say with --columns what they are called."
        )
    if (
        not columns.files
        and not columns.has(row.values, "file")
        and not any(join.files or "file" in join.columns for join in columns.join)
    ):
        raise InputError(
            f"{path} has no column for the file of a scan; it has {there}. Add a column file, or say where the scans are "
            "with --files, such as --files 'scans/{PTID}/{VISCODE}/T1.nii.gz'."
        )


def _person(
    name: str, rows: list[Row], columns: Columns, folder: Path, calendar: Calendar, findings: Findings
) -> FoundPerson:
    person = FoundPerson(name, [], [], rows)
    visits: dict[str, FoundVisit] = {}
    for row in _once(rows, name, findings):
        scans = _scans(row, columns, folder)
        if not scans:
            if columns.files:
                findings.count("lines without a scan")
            else:
                findings.repeat("missing files", "this line names no file; it is left out", row.file, row.line)
            continue
        session = _SAFE.sub("-", row.get("session")) or _unnamed(row, visits, calendar)
        if session in visits and _same_time(visits[session].rows[0], row, calendar):
            visits[session].scans += [scan for scan in scans if scan not in visits[session].scans]
            continue
        if session in visits:
            findings.add(
                "visits left out",
                f"{session} of {name} is listed again at another time (first in line {visits[session].line}); this line is "
                "left out. Give each visit its own name",
                row.file, row.line, name,
            )  # fmt: skip
            continue
        modalities = {kind: _at(row.get(kind), folder) for kind in MODALITIES if row.get(kind)}
        visits[session] = FoundVisit(session, scans, [row], modalities, _scanner(row), row.file, row.line)
    person.visits = list(visits.values())
    _number_unnamed(person.visits, calendar)
    return person


def _once(rows: list[Row], name: str, findings: Findings) -> list[Row]:
    """Without lines that say again what another one says."""
    seen: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = tuple(row.own.values())
        if key in seen:
            said = f"this line of {name} is the same as line {seen[key].line}; it is left out. Remove it"
            findings.add("duplicates", said, row.file, row.line, name)
        else:
            seen[key] = row
    return list(seen.values())


def _scans(row: Row, columns: Columns, folder: Path) -> list[Path]:
    if not columns.files:
        return [_at(row.get("file"), folder)] if row.get("file") else []
    pattern = _pattern(columns.files, row, folder)
    return [] if pattern is None else [Path(found) for found in sorted(glob.glob(str(pattern)))]


def _pattern(template: str, row: Row, folder: Path) -> Path | None:
    """Where the template looks; None where a column that it needs is unknown."""
    names = re.findall(r"{([^{}]+)}", template)
    texts = {**row.values, **row.own}
    unknown = [name for name in names if name not in texts]
    if unknown:
        raise InputError(
            f"The template {template!r} names a column {unknown[0]!r} that {row.file} lacks; it has "
            f"{', '.join(list(row.own)[:8])}."
        )
    cell = {name: known(texts[name]) for name in names}
    if not all(cell.values()):
        return None
    filled = re.sub(r"{([^{}]+)}", lambda match: glob.escape(cell[match[1]]), template)
    return Path(glob.escape(str(folder)), filled) if not Path(filled).is_absolute() else Path(filled)


def _at(text: str, folder: Path) -> Path:
    path = Path(text.replace("\\", "/") if "/" not in text else text)
    path = path.expanduser() if text.startswith("~/") else path
    return path if path.is_absolute() else folder / path


def _scanner(row: Row) -> Scanner | None:
    return scanner(
        {
            "Manufacturer": row.get("manufacturer"),
            "ManufacturersModelName": row.get("model"),
            "MagneticFieldStrength": row.get("field_strength"),
            "DeviceSerialNumber": row.get("scanner"),
        }
    )


def _unnamed(row: Row, visits: dict[str, FoundVisit], calendar: Calendar) -> str:
    """A name for a visit that has none: the same for scans of one time."""
    for session, visit in visits.items():
        if session.startswith("line-") and _same_time(visit.rows[0], row, calendar):
            return session
    return f"line-{row.line}"


def _number_unnamed(visits: list[FoundVisit], calendar: Calendar) -> None:
    """visit-01, visit-02, ... in order of time, those without a time last."""
    unnamed = [visit for visit in visits if visit.session.startswith("line-")]
    column = chosen_column([visit.rows[0] for visit in unnamed], calendar, Findings())

    def time(visit: FoundVisit) -> float:
        years = None if column is None else years_in(visit.rows[0], column, calendar, Findings())
        return float("inf") if years is None else years

    for count, visit in enumerate(sorted(unnamed, key=time), start=1):
        visit.session = f"visit-{count:02d}"


def _same_time(one: Row, other: Row, calendar: Calendar) -> bool:
    column = chosen_column([one, other], calendar, Findings())
    if column is None:
        return True
    times = [years_in(row, column, calendar, Findings()) for row in (one, other)]
    return times[0] is not None and times[1] is not None and abs(times[0] - times[1]) < 0.5 / DAYS_PER_YEAR


def _joined(rows: list[Row], join: Columns, folder: Path, findings: Findings) -> list[Row]:
    """Rows that know beside what they say what a further table says of the same person, and the same or a near visit."""
    path = _at(join.table, folder)
    if not path.is_file():
        path = rows[0].file.parent / Path(join.table).name if rows else path
    if not path.is_file():
        if join.optional:
            return rows
        raise InputError(f"There is no table {path} to join. Check its name in the file of columns.")
    others: dict[str, list[Row]] = {}
    for row in read_table(path, findings):
        if join.wants(row) and (named := join.named(row)).get("subject"):
            others.setdefault(named.get("subject"), []).append(named)
    calendar = Calendar([*rows, *(row for group in others.values() for row in group)], Findings(), join.date_format)
    # What is known of a near day is not known of its time.
    hidden = () if join.within_days is None else ("session", "date", "days", "months", "years", "age")
    return [_with(row, _partner(row, others.get(row.get("subject"), []), join, calendar), hidden) for row in rows]


def _partner(row: Row, others: list[Row], join: Columns, calendar: Calendar) -> Row | None:
    if join.within_days is None:
        if row.get("session") and any(other.get("session") for other in others):
            return next((other for other in others if other.get("session") == row.get("session")), None)
        return others[0] if others else None
    timed = []
    for other in others:
        column = chosen_column([row, other], calendar, Findings())
        if column is not None:
            times = [years_in(one, column, calendar, Findings()) for one in (row, other)]
            if times[0] is not None and times[1] is not None:
                timed.append((abs(times[0] - times[1]), other))
    near = min(timed, key=lambda pair: pair[0], default=None)
    return near[1] if near is not None and near[0] * DAYS_PER_YEAR <= join.within_days else None


def _with(row: Row, other: Row | None, hidden: Sequence[str]) -> Row:
    if other is None:
        return row
    values = {meaning: text for meaning, text in other.values.items() if meaning not in hidden}
    values.update({column: text for column, text in row.values.items() if row.get(column) or column not in values})
    return Row(values, row.file, row.line, {**other.own, **row.own})


def _ids(people: dict[str, list[Row]], findings: Findings) -> dict[str, str]:
    """Names that files can have. Two people whose names become the same stay apart."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(people):
        plain = _SAFE.sub("-", name).strip(".-") or "unnamed"
        made, count = plain, 2
        while made.lower() in taken:
            made, count = f"{plain}-{count}", count + 1
        taken.add(made.lower())
        ids[name] = made
        if made != name:
            row = people[name][0]
            findings.add(
                "names",
                f"the subject {name!r} is called {made} here, for files to be named after it",
                row.file,
                row.line,
                made,
            )
    return ids
