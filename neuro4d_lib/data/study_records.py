"""What is known of a study after reading it: people, visits, scans, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuro4d_lib.data.records import Covariates


@dataclass(frozen=True)
class Scanner:
    """What a scan was made with, as far as it is known. Two visits are of one scanner where nothing known differs."""

    manufacturer: str | None = None
    model: str | None = None
    field_tesla: float | None = None
    serial: str | None = None

    def __str__(self) -> str:
        parts = [self.manufacturer, self.model, None if self.field_tesla is None else f"{self.field_tesla:g} T"]
        return " ".join(part for part in parts if part) + (f" no. {self.serial}" if self.serial else "") or "unknown"

    def differs(self, other: Scanner) -> bool:
        """Whether something that is known of both is not the same."""
        pairs = (
            (_folded(self.manufacturer), _folded(other.manufacturer)),
            (_folded(self.model), _folded(other.model)),
            (self.field_tesla and round(self.field_tesla * 2), other.field_tesla and round(other.field_tesla * 2)),
            (self.serial, other.serial),
        )
        return any(one is not None and two is not None and one != two for one, two in pairs)


def _folded(text: str | None) -> str | None:
    return None if text is None else text.casefold()


@dataclass(frozen=True)
class Visit:
    """One session with a T1-weighted scan.

    Attributes:
        session: such as "ses-01".
        years: since the first session with a scan.
        scan: the T1-weighted scan; may end in "::2" (volume of a 4D file) or be a DICOM folder.
        covariates: at this visit.
        scanner: None where nothing is known of it.
        other_scans: further T1-weighted scans of the visit, which are not used.
        modalities: one scan each of other kinds, such as "FLAIR".
        voxel_mm: size of the scan's voxels by its header, None where it was not read.
        file, line: where the visit is listed.
    """

    session: str
    years: float
    scan: Path
    covariates: Covariates
    scanner: Scanner | None = None
    other_scans: tuple[Path, ...] = ()
    modalities: Mapping[str, Path] = field(default_factory=dict)
    voxel_mm: tuple[float, float, float] | None = None
    file: Path | None = None
    line: int | None = None


@dataclass(frozen=True)
class StudySubject:
    """One person: `id` such as "sub-01", visits in order of time."""

    id: str
    visits: tuple[Visit, ...]

    @property
    def changes_scanner(self) -> bool:
        known = [visit.scanner for visit in self.visits if visit.scanner is not None]
        return any(one.differs(other) for i, one in enumerate(known) for other in known[:i])


@dataclass(frozen=True)
class Unusable:
    """A person who cannot be used, and why: one sentence."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """Something of a study that a person should look at.

    Attributes:
        kind: a few words, the same for problems of one kind.
        sentence: what was found, what became of it, and what to do; no full stop at the end.
        file: where, if it has a place.
        line: from 1, in a text file.
        subject: whom it concerns, if one.
    """

    kind: str
    sentence: str
    file: Path | None = None
    line: int | None = None
    subject: str | None = None

    def place(self, folder: Path) -> str:
        """file:line, the file as seen from the study's folder."""
        if self.file is None:
            return ""
        shown = self.file.relative_to(folder) if self.file.is_relative_to(folder) else self.file
        return shown.as_posix() + (f":{self.line}" if self.line is not None else "")


@dataclass(frozen=True)
class Study:
    """Everybody in a data set.

    Attributes:
        folder: of the BIDS data set, or that in which the table lies.
        kind: "BIDS" or "table".
        counts: how often something was met that needs no action, such as "scans beside the chosen one".
    """

    folder: Path
    subjects: tuple[StudySubject, ...]
    unusable: tuple[Unusable, ...]
    problems: tuple[Problem, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    kind: str = "BIDS"


class Findings:
    """Collects problems and counts while a study is read. What repeats in many places is told once, with its lines."""

    def __init__(self) -> None:
        self._problems: list[tuple[Problem, list[int]]] = []
        self._repeated: dict[Any, int] = {}
        self.counts: dict[str, int] = {}

    def add(
        self, kind: str, sentence: str, file: Path | None = None, line: int | None = None, subject: str | None = None
    ) -> None:
        self._problems.append((Problem(kind, sentence, file, line, subject), []))

    def repeat(self, kind: str, sentence: str, file: Path | None, line: int | None) -> None:
        """As `add`; the same sentence of the same file is told once, with all its lines."""
        key = (kind, sentence, file)
        if key not in self._repeated:
            self._repeated[key] = len(self._problems)
            self.add(kind, sentence, file, line)
        elif line is not None:
            self._problems[self._repeated[key]][1].append(line)

    def count(self, what: str, number: int = 1) -> None:
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def problems(self) -> tuple[Problem, ...]:
        return tuple(_with_lines(problem, lines) for problem, lines in self._problems)


def _with_lines(problem: Problem, lines: list[int]) -> Problem:
    further = sorted(set(lines) - {problem.line})
    if not further:
        return problem
    shown = ", ".join(map(str, further[:5])) + (f" and {len(further) - 5} more" if len(further) > 5 else "")
    sentence = f"{problem.sentence} (also line{'s' if len(further) > 1 else ''} {shown})"
    return Problem(problem.kind, sentence, problem.file, problem.line, problem.subject)
