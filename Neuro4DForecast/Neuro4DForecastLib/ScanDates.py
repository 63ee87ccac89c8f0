"""When a volume was taken: from DICOM or from the BIDS folder it lies in; None where neither says."""

import csv
import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path

import slicer

DAYS_PER_YEAR = 365.25


def dateOf(node) -> tuple[datetime.date, str] | None:
    """(date, "DICOM" or "BIDS") of a volume."""
    for read, source in ((fromDicom, "DICOM"), (fromBids, "BIDS")):
        date = read(node)
        if date is not None:
            return date, source
    return None


def yearsBetween(earlier, later) -> tuple[float, str] | None:
    """Years from one volume to another and where that is known from; None if unknown or not positive."""
    first, second = dateOf(earlier), dateOf(later)
    if first is not None and second is not None:
        years, source = (second[0] - first[0]).days / DAYS_PER_YEAR, first[1]
    else:
        years, source = betweenSessions(earlier, later), "BIDS"
    return (round(years, 3), source) if years is not None and years > 0 else None


def betweenSessions(earlier, later) -> float | None:
    """Years by a column such as days_since_first: shared data sets tell no dates."""
    from neuro4d_lib.data.study_times import TIME_COLUMNS

    tables = [dict(_sessionRows(node)) for node in (earlier, later)]
    for table in tables[0].keys() & tables[1].keys():
        for column, yearsPerUnit in TIME_COLUMNS.items():
            try:
                first, second = (float(rows[table][column]) for rows in tables)
            except (KeyError, TypeError, ValueError):
                continue
            if math.isfinite(second - first):
                return (second - first) * yearsPerUnit
    return None


def fromDicom(node) -> datetime.date | None:
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    for tag in ("0008,0022", "0008,0021", "0008,0020"):  # acquisition, series, study date
        date = parse(database.instanceValue(uids[0], tag))
        if date is not None:
            return date
    return None


def _file(node) -> Path | None:
    storage = node.GetStorageNode()
    return Path(storage.GetFileName()) if storage is not None and storage.GetFileName() else None


def _sessionRows(node) -> Iterator[tuple[Path, dict]]:
    """(table, its row) of the BIDS session that the volume's file lies in."""
    path = _file(node)
    for folder in path.parents if path is not None else ():
        if folder.name.startswith("ses-"):
            for table in sorted(folder.parent.glob("sub-*_sessions.tsv")):
                yield from ((table, row) for row in _rows(table) if row.get("session_id") == folder.name)


def fromBids(node) -> datetime.date | None:
    path = _file(node)
    if path is None:
        return None
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    sidecar = path.with_name(f"{stem}.json")
    if sidecar.is_file():
        date = _fromSidecar(sidecar)
        if date is not None:
            return date
    for folder in list(path.parents)[1:3]:
        for table in sorted(folder.glob("sub-*_scans.tsv")):
            for row in _rows(table):
                if Path(row.get("filename", "")).name == path.name:
                    return parse(row.get("acq_time"))
    return next((parse(row.get("acq_time")) for _table, row in _sessionRows(node)), None)


def _fromSidecar(path: Path) -> datetime.date | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    values = values if isinstance(values, dict) else {}
    return parse(values.get("AcquisitionDateTime")) or parse(values.get("AcquisitionDate"))


def _rows(path: Path) -> list[dict]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError):
        return []


def parse(text: str | None) -> datetime.date | None:
    """20190302, 2019-03-02 or 2019-03-02T10:11:12."""
    digits = "".join(character for character in (text or "")[:10] if character.isdigit())
    try:
        return datetime.datetime.strptime(digits[:8], "%Y%m%d").date()
    except ValueError:
        return None
