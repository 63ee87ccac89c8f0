"""From what was found in folders and tables to people with visits: one rule for all layouts.

A visit that cannot be used is left out and told; a person with too few visits left is unusable, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from neuro4d_lib.data.found_people import FoundPerson
from neuro4d_lib.data.person_visits import NotUsable, Sorter
from neuro4d_lib.data.scan_files import ScanFile, digest, look_at
from neuro4d_lib.data.study_records import Findings, StudySubject, Unusable
from neuro4d_lib.data.study_times import Calendar


def usable_people(
    people: Sequence[FoundPerson], calendar: Calendar, findings: Findings, least_visits: int
) -> tuple[tuple[StudySubject, ...], tuple[Unusable, ...]]:
    """Everybody, sorted out."""
    files = look_at(scan for person in people for visit in person.visits for scan in visit.scans)
    twins = _misplaced(people, files)
    used, unusable = [], []
    for person in people:
        try:
            if person.fault:
                raise NotUsable(person.fault)
            sorter = Sorter(person, calendar, findings, files, twins)
            used.append(StudySubject(person.id, sorter.visits(least_visits)))
        except NotUsable as problem:
            unusable.append(Unusable(person.id, str(problem)))
    _tell_resolutions(used, findings)
    return tuple(used), tuple(unusable)


def _misplaced(people: Iterable[FoundPerson], files: Mapping[Path, ScanFile]) -> dict[tuple[str, str, Path], str]:
    """Images that stand at two visits or under two people, by person, session and path: what to say of each."""
    places: dict[tuple[int, ...], list[tuple[str, str, Path]]] = {}
    for person in people:
        for visit in person.visits:
            for scan in visit.scans:
                content = files[scan].content
                if content is not None and not files[scan].fault:
                    places.setdefault(content, []).append((person.id, visit.session, scan))
    said: dict[tuple[str, str, Path], str] = {}
    for group in places.values():
        alike: dict[bytes, list[tuple[str, str, Path]]] = {}
        for place in group if len({place[:2] for place in group}) > 1 else ():
            content_digest = digest(place[2])
            if content_digest is None:
                said[place] = "is damaged: it cannot be unpacked to its end"
            else:
                alike.setdefault(content_digest, []).append(place)
        for same in alike.values():
            for this in same:
                that = next((place for place in same if place[:2] != this[:2]), None)
                if that is not None:
                    where = f"{that[1]} of {that[0]}" if this[0] != that[0] else that[1]
                    said[this] = f"is the same image as that of {where}; one of them is misplaced"
    return said


def _tell_resolutions(subjects: Sequence[StudySubject], findings: Findings) -> None:
    """People whose visits have voxels of clearly different size are used, and counted."""
    for subject in subjects:
        sizes = [visit.voxel_mm for visit in subject.visits if visit.voxel_mm is not None]
        if any(max(abs(a - b) for a, b in zip(sorted(size), sorted(sizes[0]), strict=True)) > 0.2 for size in sizes):
            findings.count("people whose scans differ in resolution")
