"""A longitudinal BIDS data set to people as its folders and tables have them. No image is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib.data.bids_dictionaries import translated
from neuro4d_lib.data.bids_files import LABEL, Sidecars, anatomical_images, tell_other_folders
from neuro4d_lib.data.found_people import FoundPerson, FoundVisit
from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.data.study_values import scanner
from neuro4d_lib.data.text_tables import Row, read_table
from neuro4d_lib.errors import InputError


def read_bids(folder: Path, wanted: Sequence[str], findings: Findings) -> list[FoundPerson]:
    """Everybody in the data set, or those who are wanted."""
    names = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())
    if not names:
        raise InputError(_no_people(folder))
    chosen = {name if name.startswith("sub-") else f"sub-{name}" for name in wanted} or set(names)
    if chosen - set(names):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(f"{folder} holds no {min(chosen - set(names))}. It holds {len(names)} subjects: {shown}.")
    tell_other_folders(folder, findings)
    people_rows = _rows(folder / "participants.tsv", "participant_id", findings)
    about = _by_subject(translated(people_rows, [folder / "participants.json"], findings))
    common = _by_subject(_rows(folder / "sessions.tsv", "participant_id", findings))
    _tell_unknown(about, names, "participants.tsv", findings)
    images, sidecars = anatomical_images(folder, findings)
    return [
        _person(folder / name, about.get(name, []), common.get(name, []), images, sidecars, findings)
        for name in names
        if name in chosen
    ]


def _person(
    folder: Path,
    about: list[Row],
    sessions: list[Row],
    images: dict[tuple[str, str], list[Any]],
    sidecars: Sidecars,
    findings: Findings,
) -> FoundPerson:
    name = folder.name
    sessions = sessions or _rows(folder / f"{name}_sessions.tsv", "session_id", findings)
    dictionaries = [folder / f"{name}_sessions.json", folder.parent / "sessions.json"]
    sessions = translated(sessions, dictionaries, findings)
    person = FoundPerson(name, [], about[:1], [])
    if not re.fullmatch(f"sub-{LABEL}", name):
        findings.add("names", f"{name} is no BIDS name; expected sub- and then letters and digits only", folder)
    if len(about) > 1:
        person.fault = _twice(about)
        if not person.fault:
            findings.add(
                "duplicates", f"{name} is listed {len(about)} times, alike; remove all lines but one", about[1].file,
                about[1].line, name,
            )  # fmt: skip
    by_session: dict[str, list[Row]] = {}
    for row in sessions:
        by_session.setdefault(_prefixed(row.get("session_id"), "ses-"), []).append(row)
    faulty = {label for label, rows in by_session.items() if len(rows) > 1 and _twice(rows)}
    for label in sorted(faulty):
        row = by_session[label][1]
        said = f"{label} of {name} is listed {len(by_session[label])} times, differently; it is left out. Keep one line"
        findings.add("visits left out", said, row.file, row.line, name)
    person.listed = [row for row in sessions if _prefixed(row.get("session_id"), "ses-") not in faulty]
    there = sorted(session for subject, session in images if subject == name)
    for session in there:
        if session in faulty:
            continue
        visit = _visit(folder, session, images[name, session], sidecars, by_session.get(session, []), findings)
        if visit.scans:
            person.visits.append(visit)
        elif visit.modalities:
            findings.count("visits without a T1-weighted scan")
            person.other_visits.append(f"{session} has {' and '.join(sorted(visit.modalities))} only")
    missing = [label for label in by_session if label not in {visit.session for visit in person.visits}]
    findings.count("listed visits without a scan", len([label for label in missing if label not in there]))
    _choose_alike(person.visits)
    return person


def _visit(
    folder: Path, session: str, artifacts: Iterable[Any], sidecars: Sidecars, rows: list[Row], findings: Findings
) -> FoundVisit:
    """One visit: its scans with the preferred one first, other modalities, the scanner."""
    scans: list[tuple[Path, Any]] = []
    modalities: dict[str, Path] = {}
    for artifact in sorted(artifacts, key=_preference):
        path = Path(artifact.get_absolute_path())
        if artifact.suffix == "T1w":
            scans.append((path, artifact))
        elif artifact.suffix not in modalities:
            modalities[artifact.suffix] = path
    visit = FoundVisit(session, [path for path, _ in scans], list(rows[:1]), modalities)
    visit.file, visit.line = (rows[0].file, rows[0].line) if rows else (scans[0][0] if scans else None, None)
    if not scans:
        return visit
    known = sidecars.of(scans[0][1], scans[0][0])
    visit.scanner = scanner(known)
    place = folder / session if session else folder
    acquired = _acquired(place, scans[0][0], findings)
    if acquired is not None:
        visit.rows.append(acquired)
    moment = str(known.get("AcquisitionDateTime") or "")
    if re.match(r"\d{4}-\d\d-\d\d", moment):
        visit.rows.append(Row({"acq_time": moment}, scans[0][0], 1))
    return visit


def _preference(artifact: Any) -> tuple[Any, ...]:
    """Of several scans: without contrast agent, with the shortest name, of the first run."""
    entities = artifact.get_entities()
    run = str(entities.get("run", ""))
    others = sorted(key for key in entities if key not in ("sub", "ses", "run"))
    return ("ce" in entities, "part" in entities, len(others), int(run) if run.isdigit() else 0, artifact.name)


def _choose_alike(visits: list[FoundVisit]) -> None:
    """Prefer the acquisition (acq-, rec-) that most visits of the person have."""

    def acquisition(path: Path) -> str:
        return "_".join(re.findall(r"(?:acq|rec|ce)-[^_]+", path.name))

    counts: dict[str, int] = {}
    for visit in visits:
        for kind in {acquisition(path) for path in visit.scans}:
            counts[kind] = counts.get(kind, 0) + 1
    for visit in visits:
        visit.scans.sort(key=lambda path: ("ce-" in path.name, -counts[acquisition(path)]))


def _acquired(place: Path, scan: Path, findings: Findings) -> Row | None:
    """The row of the scan in scans.tsv."""
    for path in sorted(place.glob("*_scans.tsv")):
        for row in _rows(path, "filename", findings):
            if Path(row.get("filename")).name == scan.name:
                return Row({"acq_time": row.get("acq_time")}, row.file, row.line)
    return None


def _tell_unknown(about: dict[str, list[Row]], names: Sequence[str], table: str, findings: Findings) -> None:
    for name in sorted(set(about) - set(names)):
        row = about[name][0]
        findings.repeat("people without a folder", f"{table} lists people who have no folder", row.file, row.line)


def _no_people(folder: Path) -> str:
    found = [path.name for path in sorted(folder.iterdir())][:4]
    looks = f" (it holds {', '.join(found)})" if found else " (it is empty)"
    return (
        f"{folder} holds no folder sub-*{looks}. Expected a BIDS data set: sub-*/ses-*/anat/*_T1w.nii.gz, participants.tsv, "
        "sub-*/sub-*_sessions.tsv. For anything else, list the scans in a table: see docs/studies.md."
    )


def _rows(path: Path, needed: str, findings: Findings) -> list[Row]:
    """Rows of a table, none where there is no such file; one that cannot be read is reported."""
    if not path.is_file():
        return []
    try:
        return read_table(path, findings, needed)
    except InputError as problem:
        findings.add("unreadable tables", f"{str(problem).rstrip('.')}. Nothing of it is used", path, 1)
        return []


def _by_subject(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_prefixed(row.get("participant_id"), "sub-"), []).append(row)
    return found


def _twice(rows: Sequence[Row]) -> str:
    """Why several lines of one person or visit cannot be used, or "" where they say the same."""
    first = rows[0]
    for row in rows[1:]:
        different = [column for column in first.values if first.get(column) != row.get(column)]
        if different:
            return (
                f"{first.file.name} lists it in lines {first.line} and {row.line} with another {different[0]} "
                f"({first.get(different[0]) or 'n/a'}, {row.get(different[0]) or 'n/a'}); keep one line"
            )
    return ""


def _prefixed(name: str, prefix: str) -> str:
    return name if name.startswith(prefix) else f"{prefix}{name}"
