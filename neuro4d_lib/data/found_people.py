"""People and visits as a folder or a table has them, before anything is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from neuro4d_lib.data.study_records import Scanner
from neuro4d_lib.data.text_tables import Row


@dataclass
class FoundVisit:
    """A visit as a folder or a table has it.

    Attributes:
        scans: T1-weighted, the preferred one first.
        rows: of tables that tell of the visit; the first that knows something is believed.
    """

    session: str
    scans: list[Path]
    rows: list[Row]
    modalities: dict[str, Path] = field(default_factory=dict)
    scanner: Scanner | None = None
    file: Path | None = None
    line: int | None = None


@dataclass
class FoundPerson:
    """A person as a folder or a table has them.

    Attributes:
        rows: of tables that tell of the person, not of a visit.
        listed: rows of all visits that tables know, with a scan or without: the first of them is the baseline.
        other_visits: of visits without a T1-weighted scan, what there is.
        fault: why they cannot be used, if that is known already.
    """

    id: str
    visits: list[FoundVisit]
    rows: list[Row] = field(default_factory=list)
    listed: list[Row] = field(default_factory=list)
    other_visits: list[str] = field(default_factory=list)
    fault: str = ""
