"""When a volume was taken: from DICOM or from the BIDS folder it lies in; None where neither says."""

import csv
import datetime
import json
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
    if first is None or second is None:
        return None
    years = (second[0] - first[0]).days / DAYS_PER_YEAR
    return (round(years, 3), first[1]) if years > 0 else None


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


def fromBids(node) -> datetime.date | None:
    storage = node.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return None
    path = Path(storage.GetFileName())
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
    for folder in path.parents:
        if folder.name.startswith("ses-"):
            for table in sorted(folder.parent.glob("sub-*_sessions.tsv")):
                for row in _rows(table):
                    if row.get("session_id") == folder.name:
                        return parse(row.get("acq_time"))
    return None


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
