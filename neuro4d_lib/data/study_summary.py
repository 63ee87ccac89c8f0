"""What was understood of a study, as numbers and as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from neuro4d_lib.data.study_records import Problem, Study, Visit

_EXAMPLES = 5
_COVARIATES = {
    "age": "age", "sex": "sex", "education_years": "education", "apoe4": "APOE e4", "diagnosis": "diagnosis",
}  # fmt: skip


def summary(study: Study) -> dict[str, Any]:
    """Counts over the usable people."""
    visits = [visit for subject in study.subjects for visit in subject.visits]
    spans = [subject.visits[-1].years for subject in study.subjects]
    return {
        "people": len(study.subjects),
        "unusable_people": len(study.unusable),
        "visits": len(visits),
        "visits_per_person": _histogram(len(subject.visits) for subject in study.subjects),
        "years_of_follow_up": {
            "least": min(spans, default=0.0),
            "median": statistics.median(spans) if spans else 0.0,
            "most": max(spans, default=0.0),
        },
        "visits_with": {
            name: sum(getattr(visit.covariates, name) is not None for visit in visits) for name in _COVARIATES
        },
        "diagnoses": _histogram(subject.visits[0].covariates.diagnosis or "unknown" for subject in study.subjects),
        "scanners": _histogram(str(visit.scanner or "unknown") for visit in visits),
        "voxels": _histogram(_voxels(visit) for visit in visits),
        "modalities": _histogram(kind for visit in visits for kind in visit.modalities),
        **study.counts,
    }


def as_json(study: Study, name: str) -> dict[str, Any]:
    """Everything, ready for JSON; paths of scans in full, places of problems as seen from the study's folder."""
    return {
        "study": name,
        "kind": study.kind,
        "counts": summary(study),
        "subjects": [
            {
                "id": subject.id,
                "scanner_changed": subject.changes_scanner,
                "visits": [_visit(visit) for visit in subject.visits],
            }
            for subject in study.subjects
        ],
        "unusable": [{"subject": one.subject, "reason": one.reason} for one in study.unusable],
        "problems": [
            {
                "kind": one.kind,
                "sentence": one.sentence,
                "place": one.place(study.folder),
                "file": None if one.file is None else str(one.file),
                "line": one.line,
                "subject": one.subject,
            }
            for one in study.problems
        ],
    }


def as_text(study: Study, name: str) -> str:
    """For a terminal: the numbers, who is unusable, and problems by kind with a few examples of each."""
    counts = summary(study)
    everybody = counts["people"] + counts["unusable_people"]
    lines = [
        f"{name} ({study.kind}): {counts['people']} of {everybody} people can be used, with {counts['visits']} visits."
    ]
    if study.subjects:
        years, visits = counts["years_of_follow_up"], counts["visits"]
        known = ", ".join(f"{shown} {_share(counts['visits_with'][key], visits)}" for key, shown in _COVARIATES.items())
        lines += [
            _line("Visits a person", _listed(counts["visits_per_person"], "{1} people with {0}")),
            _line("Follow-up", f"{years['least']:.1f} to {years['most']:.1f} years, median {years['median']:.1f}"),
            _line("Known at visits", known),
            _line("Diagnoses", _listed(counts["diagnoses"])),
            _line("Scanners", _listed(counts["scanners"])),
            _line("Voxels", _listed(counts["voxels"])),
            _line("Beside T1w", _listed(counts["modalities"]) or "nothing"),
        ]
    if study.counts:
        lines.append(_line("Counted", ", ".join(f"{what}: {number}" for what, number in study.counts.items())))
    if study.unusable:
        lines += ["", f"Not usable: {len(study.unusable)}"]
        lines += [f"  {one.subject}: {one.reason}." for one in study.unusable[: 2 * _EXAMPLES]]
        if len(study.unusable) > 2 * _EXAMPLES:
            lines.append(f"  and {len(study.unusable) - 2 * _EXAMPLES} more (--json lists all).")
    kinds: dict[str, list[Problem]] = {}
    for problem in study.problems:
        kinds.setdefault(problem.kind, []).append(problem)
    if kinds:
        lines += ["", f"To look at: {len(study.problems)}"]
    for kind, problems in kinds.items():
        lines.append(f"  {kind[:1].upper()}{kind[1:]}")
        for problem in problems[:_EXAMPLES]:
            place = problem.place(study.folder)
            lines.append(f"    {place + ': ' if place else ''}{problem.sentence}.")
        if len(problems) > _EXAMPLES:
            lines.append(f"    and {len(problems) - _EXAMPLES} more of this kind (--json lists all).")
    return "\n".join(lines)


def _visit(visit: Visit) -> dict[str, Any]:
    return {
        "session": visit.session,
        "years": round(visit.years, 4),
        "scan": str(visit.scan),
        "covariates": visit.covariates.as_dict(),
        "scanner": None if visit.scanner is None else str(visit.scanner),
        "voxel_mm": None if visit.voxel_mm is None else [round(size, 3) for size in visit.voxel_mm],
        "other_scans": [str(path) for path in visit.other_scans],
        "modalities": {kind: str(path) for kind, path in visit.modalities.items()},
    }


def _voxels(visit: Visit) -> str:
    return "unknown" if visit.voxel_mm is None else " x ".join(f"{size:.2g}" for size in visit.voxel_mm) + " mm"


def _histogram(values: Any) -> dict[Any, int]:
    """The most frequent first."""
    return dict(Counter(values).most_common())


def _share(number: int, total: int) -> str:
    return "all" if number == total else "none" if number == 0 else f"{number} of {total}"


def _listed(counts: Mapping[Any, int], form: str = "{0} ({1})", most: int = 6) -> str:
    shown = [form.format(what, number) for what, number in list(counts.items())[:most]]
    return ", ".join(shown) + (f", and {len(counts) - most} others" if len(counts) > most else "")


def _line(title: str, text: str) -> str:
    return f"  {title:<16}{text}"
