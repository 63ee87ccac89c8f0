"""A trial from its design to its files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import neuro4d_lib
from neuro4d_lib.applications.trials.cohort import check_criteria
from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.design_file import read_design
from neuro4d_lib.applications.trials.law import Law, law_of, region_sum
from neuro4d_lib.applications.trials.optimization import Candidate, optimize
from neuro4d_lib.applications.trials.report import draw_figures, render_report
from neuro4d_lib.applications.trials.run import UNFINISHED, Workers, check_unfinished, discard, fingerprint, run_trials
from neuro4d_lib.applications.trials.simulation import Arrays, generator_of, one_thread, pilot
from neuro4d_lib.applications.trials.sizes import ladder, needed_n
from neuro4d_lib.applications.trials.summary import Summary, summarize, to_csv
from neuro4d_lib.config import SettingError, to_dict
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.progress import Progress, part

RECORD = "trial.json"
NOTICE = "Simulated people; no evidence about real ones. Research use only."
_PILOT_PEOPLE = 3000
_CRITERIA, _PILOT = -5, -4
FILES = {
    "report.html": "everything on one page, for a web browser",
    "results.csv": "effect, bias, power, type-I error and sample size by arm, biomarker and analysis",
    "power.csv": "power against the number of people",
    "courses.csv": "mean change of every arm and biomarker by visit",
    "optimization.csv": "schedules, durations and enrichments by cost",
    "power.png": "power curves of the first treated arm",
    "biomarkers.png": "people that each biomarker and analysis needs",
    "courses.png": "mean courses",
    "design.toml": "the design",
    RECORD: "all of it, with versions and seed, for a program",
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A design that can be simulated: everything that can be wrong with it has been looked at.

    Attributes:
        sizes: [K, A] numbers of people that are simulated.
        qualifying: share of the people with an allowed diagnosis who meet the criteria.
    """

    law: Law
    sizes: list[list[int]]
    qualifying: float


@dataclass(frozen=True, eq=False)
class TrialResult:
    prepared: Prepared
    summary: Summary
    plans: tuple[Candidate, ...]

    @property
    def design(self) -> TrialDesign:
        return self.prepared.law.design


def prepare(path: Path) -> Prepared:
    """Read and check a design; write nothing."""
    design, config = read_design(path)
    try:
        return prepared(law_of(design, config))
    except SettingError as error:
        raise InputError(f"{path}: {error}") from None


def prepared(law: Law) -> Prepared:
    """Look at who qualifies, and at one large trial."""
    design = law.design
    _check_units(law)
    with one_thread():
        qualifying = check_criteria(law, generator_of(design.seed, _CRITERIA))
    moments = pilot(law, _PILOT_PEOPLE, _PILOT)
    _check_moments(law, moments)
    effect = moments["effect"][:, :, 0, 0] - moments["null_effect"][:, :, 0, 0]
    wanted = needed_n(_PILOT_PEOPLE, moments["standard_error"][:, :, 0, 0], effect, design.alpha, design.power)
    return Prepared(law, ladder(design.people(), wanted, design.most_people_per_arm), qualifying)


def _check_units(law: Law) -> None:
    """Volumes far beyond those of anybody are in another unit."""
    for name, allowed in law.design.criteria.volume_ml.items():
        usual_ml = float((law.volumes_mm3.numpy() * region_sum(name)).sum()) / 1000
        for value in (allowed.min, allowed.max):
            if value is not None and value > 50 * usual_ml:
                raise SettingError(
                    f"criteria.volume_ml.{name}",
                    f"found {value:g}; expected mL, of which people have about {usual_ml:.3g}. 1000 mm3 are 1 mL.",
                )


def _check_moments(law: Law, moments: Arrays) -> None:
    """Refuse a cohort in which nothing varies or nobody stays."""
    design = law.design
    for a, arm in enumerate(design.arms):
        left = moments["counts"][a, -1] / moments["counts"][a, 0] * design.people()[a]
        if left < 3:
            raise SettingError(
                "dropout_per_year",
                f"of {design.people()[a]} people of {arm.name!r} about {left:.1f} come to the last visit. Plan more people, "
                "a shorter trial or less dropout.",
            )
    for q, name in enumerate(law.markers):
        error = moments["standard_error"][:, :, 0, 0, q]
        change = np.abs(moments["courses"][:, -1, q] / moments["counts"][:, -1]).max()
        if not np.isfinite(error).all() or (error <= 1e-6 * max(change, 1e-6)).any():
            raise SettingError(
                f"biomarkers.{name}",
                "nobody differs from anybody else: neither people nor scans vary, so there is nothing to test. State a "
                "spread or a noise.",
            )


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse to write where something else would be lost."""
    parent = next(place for place in (folder, *folder.parents) if place.exists())
    if not parent.is_dir():
        raise InputError(f"{parent} is a file. Name a folder for the results.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent} may not be written to. Choose another folder for the results.")
    if not folder.is_dir():
        return
    found = {entry.name for entry in folder.iterdir()} - {UNFINISHED}
    if RECORD in found and not overwrite:
        raise InputError(
            f"{folder} holds a finished trial already. Choose a new folder, or replace it with --overwrite."
        )
    strangers = sorted(found - set(FILES))
    if strangers or (found and RECORD not in found and not (folder / UNFINISHED).is_dir()):
        name = (strangers or sorted(found))[0]
        raise InputError(f"{folder} holds files that no trial wrote, such as {name}. Choose another folder.")


def simulate_trial(
    path: Path, folder: Path, workers: Workers, progress: Progress, overwrite: bool = False
) -> tuple[TrialResult, dict[str, str]]:
    """Check, simulate, summarize, write. What was simulated before an interruption is not simulated again.

    Returns:
        The result, and the name of each file with what it is.
    """
    check_output(folder, overwrite)
    progress(0.0, "Checking the design")
    ready = prepare(path)
    design, law, blocks = ready.law.design, ready.law, folder / UNFINISHED
    check_unfinished(blocks / "trials", fingerprint(law.as_json(), ready.sizes))
    end = 0.9 if design.optimization is None else 0.5
    arrays = run_trials(law, ready.sizes, design.trials, blocks / "trials", workers, part(progress, 0.02, end))
    summary = summarize(design, law.markers, ready.sizes, arrays)
    plans: tuple[Candidate, ...] = ()
    if design.optimization is not None:
        plans = tuple(optimize(law, design.trials, blocks / "plan", workers, part(progress, end, 0.97)))
    progress(0.97, "Writing the report")
    result = TrialResult(ready, summary, plans)
    written = write_trial(result, path.read_bytes(), folder)
    discard(blocks)
    progress(1.0, "Done")
    return result, written


def write_trial(result: TrialResult, design_file: bytes, folder: Path) -> dict[str, str]:
    """The files of a trial, each whole; the record, which says that all are there, last."""
    tables = {
        "results.csv": to_csv(result.summary.rows),
        "power.csv": to_csv(result.summary.powers),
        "courses.csv": to_csv(result.summary.courses),
        "optimization.csv": to_csv(result.plans),
    }
    contents: dict[str, str | bytes] = {name: text for name, text in tables.items() if text}
    contents["report.html"] = render_report(result.design, result.prepared.qualifying, result.summary, result.plans)
    contents |= draw_figures(result.design, result.summary)
    contents["design.toml"] = design_file
    contents[RECORD] = json.dumps(_finite(_record(result)), indent=1, allow_nan=False) + "\n"
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return {name: what for name, what in FILES.items() if name in contents}


def _record(result: TrialResult) -> dict[str, Any]:
    law = result.prepared.law
    return {
        "notice": NOTICE,
        "version": neuro4d_lib.__version__,
        "design": to_dict(law.design),
        "population": to_dict(law.config),
        "qualifying_share": result.prepared.qualifying,
        "screened_per_person": result.summary.screened_per_person,
        "results": [dataclasses.asdict(row) for row in result.summary.rows],
        "power": [dataclasses.asdict(point) for point in result.summary.powers],
        "courses": [dataclasses.asdict(point) for point in result.summary.courses],
        "optimization": [dataclasses.asdict(plan) for plan in result.plans],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
