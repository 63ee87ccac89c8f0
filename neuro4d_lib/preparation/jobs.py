"""The work on one person as a unit that any process or machine can do, and what it leaves on disk.

    subjects/sub-01.safetensors        what training reads
    qc/pictures/sub-01_ses-01.png      what a person looks at
    qc/records/sub-01.json             what was found; written last, so that where it stands all else does

Every file appears whole. A record that was made from the same scans with the same settings is not made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuro4d_lib.config import to_dict
from neuro4d_lib.data.flow_volumes import FlowVolumes
from neuro4d_lib.data.prepared import subject_path, write_subject
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.study import StudySubject
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.person import prepare_person
from neuro4d_lib.progress import Progress, silent

RECORDS, PICTURES = Path("qc", "records"), Path("qc", "pictures")
VERSION = 2
"""Of the preparation: raise it when its results change, so that no record of an earlier one is taken for the same."""


@dataclass(frozen=True)
class Job:
    """One person to prepare.

    Attributes:
        output: folder of the prepared study.
        reference: folder that holds the reference anatomy.
    """

    person: StudySubject
    output: Path
    reference: Path
    config: PreparationConfig

    @property
    def record_file(self) -> Path:
        return self.output / RECORDS / f"{self.person.id}.json"

    def fingerprint(self) -> str:
        """Of all that the result depends on: scans (by size and time of change), times, covariates, settings."""
        visits = []
        for visit in self.person.visits:
            path = Path(str(visit.scan).partition("::")[0])
            about = path.stat() if path.exists() else None
            size, changed = (about.st_size, about.st_mtime_ns) if about else (-1, -1)
            visits.append([visit.session, visit.years, str(visit.scan), size, changed, visit.covariates.as_dict()])
        changes = self.person.changes_scanner
        said = json.dumps([VERSION, self.person.id, visits, changes, to_dict(self.config)])
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def earlier(self) -> dict[str, Any] | None:
        """The record of an earlier run, if it still holds."""
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
            holds = record["fingerprint"] == self.fingerprint() and not record.get("again")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        files = [subject_path(self.output, self.person.id)] if record["state"] == "used" else []
        files += [self.output / PICTURES / visit["picture"] for visit in record.get("visits", [])]
        return record if holds and all(path.is_file() for path in files) else None


def run_job(job: Job, progress: Progress = silent) -> dict[str, Any]:
    """Prepare one person and return the record. Whatever is wrong with the person ends up there, as the reason why they
    are excluded; only what is wrong with the place to write to is raised."""
    subject_file = subject_path(job.output, job.person.id)
    record: dict[str, Any] = {"id": job.person.id, "fingerprint": job.fingerprint(), "state": "excluded", "reason": ""}
    try:
        reference, volumes = _anatomy(job.reference)
        found = prepare_person(job.person, reference, volumes, job.config, progress)
    except InputError as problem:
        record["reason"] = str(problem)
    except MemoryError:
        record |= {"reason": "The memory was full. Use fewer workers, and run the same command again.", "again": True}
    except OSError as problem:
        record |= {"reason": f"A scan could not be read: {problem}. Run the same command again.", "again": True}
    except Exception as problem:  # one person must not stop the study; the next run tries again
        kind = type(problem).__name__
        record |= {"reason": f"An unexpected error: {kind}: {problem}. Please report it.", "again": True}
    else:
        record["state"] = "used"
        record["left_out"] = [{"session": session, "reason": reason} for session, reason in found.left_out]
        record["warnings"] = [{"session": session, "warning": text} for session, text in found.warnings]
        subject = found.subject
        record["visits"] = [
            {"session": session, "years": years, "picture": f"{subject.id}_{session}.png", **numbers}
            for session, years, numbers in zip(subject.sessions, subject.years, subject.quality, strict=True)
        ]
        write_subject(subject_file, subject)
        for visit, content in zip(record["visits"], found.pictures, strict=True):
            write_whole(job.output / PICTURES / visit["picture"], content)
    if record["state"] != "used":
        subject_file.unlink(missing_ok=True)
    write_whole(job.record_file, json.dumps(record, indent=1) + "\n")
    return record


@lru_cache(maxsize=1)
def _anatomy(folder: Path) -> tuple[Reference, FlowVolumes]:
    reference = Reference.load(folder)
    return reference, FlowVolumes(reference)
