"""A longitudinal BIDS data set to people as its folders and tables have them. No image is opened here.

Names, entities and inherited sidecars are read by ancpbids.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib.data.study_people import FoundPerson, FoundVisit
from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.data.study_values import scanner
from neuro4d_lib.data.text_tables import Row, read_table
from neuro4d_lib.errors import InputError

IMAGES = (".nii.gz", ".nii")
MODALITIES = ("FLAIR", "T2w", "PDw", "T2starw", "T1map", "T2map", "UNIT1")
DATATYPES = ("anat", "func", "dwi", "fmap", "perf", "pet", "meg", "eeg", "ieeg", "beh", "micr", "nirs", "motion", "mrs")
_LABEL = r"[A-Za-z0-9+]+"
_T1 = re.compile(r"(t1|mprage|mpr|spgr|t1w|t1-?weighted)$", re.IGNORECASE)


def read_bids(folder: Path, wanted: Sequence[str], findings: Findings) -> list[FoundPerson]:
    """Everybody in the data set, or those who are wanted."""
    names = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())
    if not names:
        raise InputError(_no_people(folder))
    chosen = {name if name.startswith("sub-") else f"sub-{name}" for name in wanted} or set(names)
    if chosen - set(names):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(f"{folder} holds no {min(chosen - set(names))}. It holds {len(names)} subjects: {shown}.")
    _tell_other_folders(folder, findings)
    about = _by_subject(_rows(folder / "participants.tsv", "participant_id", findings))
    common = _by_subject(_rows(folder / "sessions.tsv", "participant_id", findings))
    _tell_unknown(about, names, "participants.tsv", findings)
    images, sidecars = _images(folder, findings)
    return [
        _person(folder / name, about.get(name, []), common.get(name, []), images, sidecars, findings)
        for name in names
        if name in chosen
    ]


class _Sidecars:
    """What JSON files say of a scan: those beside it and in the folders above, the nearer one is believed.

    ancpbids finds the same, but looks through the whole data set for every scan.
    """

    def __init__(self, root: Path, artifacts: Iterable[Any], findings: Findings) -> None:
        self._root, self._findings = root, findings
        self._read: dict[Path, dict[str, Any]] = {}
        self._by_folder: dict[Path, list[Any]] = {}
        for artifact in artifacts:
            self._by_folder.setdefault(Path(artifact.get_absolute_path()).parent, []).append(artifact)

    def of(self, scan: Any, path: Path) -> dict[str, Any]:
        everywhere = self._root / f"{scan.suffix}.json"  # without entities, ancpbids does not see it
        known = dict(self._content(everywhere)) if everywhere.is_file() else {}
        for folder in reversed(path.parents):
            for sidecar in sorted(self._by_folder.get(folder, []), key=lambda one: len(one.get_entities())):
                if sidecar.suffix == scan.suffix and sidecar.get_entities().items() <= scan.get_entities().items():
                    known |= self._content(Path(sidecar.get_absolute_path()))
        return known

    def _content(self, path: Path) -> dict[str, Any]:
        if path not in self._read:
            self._read[path], line = {}, None
            try:
                found = json.loads(path.read_text(encoding="utf-8-sig"))
                fault = "" if isinstance(found, dict) else "it holds no object"
                self._read[path] = {} if fault else found
            except json.JSONDecodeError as problem:
                fault, line = problem.msg, problem.lineno
            except (OSError, UnicodeDecodeError) as problem:
                fault = str(getattr(problem, "strerror", None) or "it is no text")
            if fault:
                said = f"this sidecar cannot be read ({fault}); what it says of scanners is unknown. Convert the scan again"
                self._findings.add("sidecars", said, path, line)
        return self._read[path]


def _person(
    folder: Path,
    about: list[Row],
    sessions: list[Row],
    images: dict[tuple[str, str], list[Any]],
    sidecars: _Sidecars,
    findings: Findings,
) -> FoundPerson:
    name = folder.name
    sessions = sessions or _rows(folder / f"{name}_sessions.tsv", "session_id", findings)
    person = FoundPerson(name, [], about[:1], [])
    if not re.fullmatch(f"sub-{_LABEL}", name):
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
    folder: Path, session: str, artifacts: Iterable[Any], sidecars: _Sidecars, rows: list[Row], findings: Findings
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


def _images(folder: Path, findings: Findings) -> tuple[dict[tuple[str, str], list[Any]], _Sidecars]:
    """Anatomical images by subject and session, and their sidecars."""
    try:
        import ancpbids
        from ancpbids.vfs import LocalVfs
    except ImportError as problem:
        raise InputError(
            f"Reading BIDS needs {problem.name or 'ancpbids'}, which is not installed. Install it with: "
            "pip install 'neuro4d-lib[training]'"
        ) from None

    class AnatomyOnly(LocalVfs):
        """Shows sub-*/[ses-*/]anat/* and the tables; a link back to a folder above it is not followed."""

        def listdir(self, path: str) -> list[str]:
            place = Path(path)
            parts = place.relative_to(folder).parts
            try:
                names = os.listdir(place)
            except OSError as problem:
                findings.add("unreadable folders", f"{place.name} cannot be opened ({problem.strerror})", place)
                return []
            return [name for name in names if _belongs(place / name, parts, findings)]

    # A pickle in the data set would be run by opening it.
    options = ancpbids.DatasetOptions(ignore_pickle_file=True)
    dataset = ancpbids.load_dataset(str(folder), options, vfs=AnatomyOnly())
    found: dict[tuple[str, str], list[Any]] = {}
    artifacts: list[Any] = dataset.query(suffix=["T1w", *MODALITIES], extension=list(IMAGES), return_type="object")
    for artifact in artifacts:
        path = Path(artifact.get_absolute_path())
        parts = path.relative_to(folder).parts
        subject, session = parts[0], parts[1] if len(parts) == 4 else ""
        expected = "_".join(part for part in (subject, session) if part)
        if parts[-2] == "anat" and path.name.startswith(f"{expected}_"):
            found.setdefault((subject, session or "ses-none"), []).append(artifact)
        elif artifact.suffix == "T1w" and parts[-2] != "anat":
            said = f"{path.name} lies outside of a folder anat; it is not used. Move it into one"
            findings.add("names", said, path, subject=subject)
    _tell_misnamed(folder, {Path(a.get_absolute_path()) for group in found.values() for a in group}, findings)
    return found, _Sidecars(folder, dataset.query(suffix="T1w", extension=".json", return_type="object"), findings)


def _belongs(path: Path, parts: tuple[str, ...], findings: Findings) -> bool:
    """Whether a file or folder is looked at."""
    depth, name = len(parts), path.name
    if not path.is_dir():
        return depth > 0 or name.endswith((".json", ".tsv"))
    inside = name == "anat" or (name.startswith("ses-") and depth == 1)
    if not (name.startswith("sub-") if depth == 0 else inside and parts[-1] != "anat"):
        if path.is_symlink() and _leads_back(path):
            if depth > 0:
                _tell_loop(path, findings)
        elif depth == 1 and name not in DATATYPES and _holds_images(path):
            said = f"the folder {name} holds images but is not named ses-... or anat; it is not read. Rename it"
            findings.add("names", said, path, subject=parts[0])
        return False
    if path.is_symlink() and _leads_back(path):
        _tell_loop(path, findings)
        return False
    return True


def _leads_back(path: Path) -> bool:
    """Whether a link leads to a folder that it lies in."""
    target = path.resolve()
    return target == path.parent.resolve() or target in path.parent.resolve().parents


def _holds_images(path: Path) -> bool:
    places = ("", "*/", "*/*/")
    return any(next(path.glob(place + ending), None) for place in places for ending in ("*.nii", "*.nii.gz"))


def _tell_loop(path: Path, findings: Findings) -> None:
    findings.add(
        "link loops",
        f"{path.name} is a symbolic link to a folder that it lies in; it is not followed. Remove the link",
        path,
    )


def _tell_misnamed(folder: Path, known: set[Path], findings: Findings) -> None:
    """Images in the anatomy folders that BIDS has no name for, and T1w scans of another subject or session."""
    for anat in (*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")):
        for path in sorted(anat.iterdir()) if os.access(anat, os.R_OK) else []:
            if not path.name.endswith(IMAGES) or path.name.startswith(".") or path in known:
                continue
            subject = path.relative_to(folder).parts[0]
            suffix = path.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
            if re.fullmatch(rf"{subject}(_{_LABEL}-{_LABEL})*_{_LABEL}\.nii(\.gz)?", path.name) and not _T1.match(
                suffix
            ):
                continue  # another kind of image, properly named
            session = f"_{anat.parent.name}" if anat.parent.name.startswith("ses-") else ""
            findings.add(
                "names",
                f"{path.name} is not named as BIDS has it; it is not used. Expected {subject}{session}_T1w.nii.gz, with "
                "entities such as _run-2 before _T1w",
                path, subject=subject,
            )  # fmt: skip


def _tell_other_folders(folder: Path, findings: Findings) -> None:
    """Folders beside sub-* that hold images, but are not named for it."""
    usual = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith((".", "sub-")) or path.name in usual:
            continue
        if path.is_symlink() and _leads_back(path):
            _tell_loop(path, findings)
        elif _holds_images(path):
            findings.add(
                "names",
                f"the folder {path.name} holds images but is not named sub-...; it is not read. Rename it",
                path,
            )


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
