"""A whole study: who is still to be done, the work on them, and what is written at the end."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from neuro4d_lib import __version__
from neuro4d_lib.config import to_dict
from neuro4d_lib.data.prepared import ABOUT_FILE, read_about, write_about
from neuro4d_lib.data.study import Study
from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.jobs import RECORDS, VERSION, Job
from neuro4d_lib.preparation.workers import Records, one_by_one, over_dask, over_processes
from neuro4d_lib.progress import Progress, silent


def check_output(output: Path, study: Path, config: PreparationConfig) -> None:
    """Refuse a folder that may not be written to: one of the study's, one with other things, one prepared otherwise."""
    inside, place = study.resolve(), output.resolve()
    if study.is_dir() and (place == inside or inside in place.parents):
        raise InputError(
            f"The output {output} lies inside the study {study}, which is never written to. Choose a folder elsewhere."
        )
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"The output {output} is a file; expected a new folder, or one that was prepared before.")
    if not (output / ABOUT_FILE).is_file():
        if any(output.iterdir()):
            raise InputError(f"{output} is not empty and holds no prepared study. Choose a new folder.")
        return
    earlier = read_about(output)
    name, settings = earlier.get("study"), earlier.get("settings", {})
    if name != study.resolve().name:
        raise InputError(f"{output} was prepared from another study, {name}. Choose a new folder for {study.name}.")
    other = [key for key, value in to_dict(config).items() if settings.get(key) != value]
    if other:
        raise InputError(
            f"{output} was prepared with other settings: {other[0]} was {settings.get(other[0])}, now "
            f"{to_dict(config)[other[0]]}. Choose a new folder, or the same settings."
        )


def prepare_study(
    study: Study,
    source: Path,
    output: Path,
    reference: Path,
    config: PreparationConfig,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Prepare everybody who is not prepared yet.

    Args:
        source: the folder or table that the study was read from.
        output: see `check_output`.
        reference: folder with the reference anatomy, such as that of a model.
        scheduler: address of a Dask scheduler to use instead of processes of this machine.

    Returns:
        What stands in prepared.json.
    """
    check_output(output, source, config)
    about = _about(source, config)
    jobs = [Job(person, output.resolve(), reference.resolve(), config) for person in study.subjects]
    records = {job.person.id: record for job in jobs if (record := job.earlier()) is not None}
    waiting = [job for job in jobs if job.person.id not in records]
    if waiting or not (output / ABOUT_FILE).is_file():
        write_about(output, {**about, "complete": False, "subjects": {}})
    visits = {job.person.id: len(job.person.visits) for job in waiting}
    tally = _Tally(visits, len(records), progress)
    with contextlib.closing(_done(waiting, tally, workers, scheduler)) as done:  # ends the workers, whatever happens
        for record in done:
            records[record["id"]] = record
            tally.finished(record)
    excluded = {person.subject: person.reason for person in study.unusable}
    about |= {"complete": True, "subjects": dict(sorted(_states(records.values(), excluded)))}
    write_about(output, about)
    return about


def ordered_records(output: Path) -> list[dict[str, Any]]:
    """The records of everybody that was prepared, by id."""
    files = [output / RECORDS / f"{name}.json" for name in sorted(read_about(output)["subjects"])]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def _done(jobs: Sequence[Job], tally: _Tally, workers: int, scheduler: str | None) -> Records:
    if scheduler is not None:
        return over_dask(jobs, tally.report, scheduler)
    if workers > 1 and len(jobs) > 1:
        return over_processes(jobs, tally.report, min(workers, len(jobs)))
    return one_by_one(jobs, tally.report)


def _states(records: Iterable[dict[str, Any]], unusable: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    for record in records:
        yield record["id"], {"state": record["state"], "reason": record["reason"]}
    for name, reason in unusable.items():
        yield name, {"state": "excluded", "reason": reason}


def _about(source: Path, config: PreparationConfig) -> dict[str, Any]:
    import nibabel
    import numpy
    import SimpleITK
    import torch

    return {
        "study": source.resolve().name,
        "settings": to_dict(config),
        "versions": {
            "neuro4d_lib": __version__,
            "preparation": str(VERSION),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "nibabel": nibabel.__version__,
            "SimpleITK": SimpleITK.__version__,
        },
    }


class _Tally:
    """Adds up the progress of many people at once, by visits."""

    def __init__(self, visits: dict[str, int], earlier: int, progress: Progress) -> None:
        self.visits, self.progress = visits, progress
        self.earlier, self.done = earlier, 0
        self.fractions: dict[str, float] = dict.fromkeys(visits, 0.0)
        self.states: Counter[str] = Counter()
        self._tell("Preparing" if visits else "Everybody was prepared before")

    def report(self, person: str, fraction: float, message: str) -> None:
        if self.fractions[person] < 1:
            self.fractions[person] = max(self.fractions[person], min(fraction, 0.99))
            self._tell(f"{person}: {message}")

    def finished(self, record: dict[str, Any]) -> None:
        self.fractions[record["id"]] = 1.0
        self.states[record["state"]] += 1
        self._tell(f"{record['id']}: {record['state']}" + (f", {record['reason']}" if record["reason"] else ""))

    def _tell(self, message: str) -> None:
        total = sum(self.visits.values())
        part = sum(self.fractions[person] * count for person, count in self.visits.items()) / total if total else 1.0
        finished = sum(self.states.values())
        counted = f"{finished} of {len(self.visits)} people" + (f", {self.earlier} before" if self.earlier else "")
        self.progress(part, f"{counted}. {message}")
