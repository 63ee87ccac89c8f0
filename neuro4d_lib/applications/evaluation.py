"""A study, simulated or real, forecast person by person and compared with the scans that came later."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro4d_lib import __version__
from neuro4d_lib.applications import known_truth_scores
from neuro4d_lib.applications.evaluation_baselines import PREFIX
from neuro4d_lib.applications.evaluation_labels import Segmentations
from neuro4d_lib.applications.evaluation_scores import BRAIN, score_study
from neuro4d_lib.applications.evaluation_subject import Networks, Settings, evaluate_subject
from neuro4d_lib.applications.figures import draw_scores
from neuro4d_lib.applications.score_report import TRUE, render_scores
from neuro4d_lib.applications.score_table import Score, select, write_scores
from neuro4d_lib.checkpoint import load_model
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_volumes import PopulationVolumes
from neuro4d_lib.data.study import Study, Unusable, read_study
from neuro4d_lib.devices import checked_device
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, part, silent

SETTINGS_FILE, SUBJECTS_FILE, PARTS = "settings.json", "subjects.csv", "subjects"
FIGURE_REGIONS = ("hippocampus", "lateral_ventricle", "entorhinal_cortex", "whole_brain")
_SCORING_SHARE = 0.1
TRAINING_PEOPLE = 1000
_SETTING_NAMES = {
    "model_sha256": "model (weights)",
    "version": "version of neuro4d_lib",
    "futures": "number of futures",
    "steps": "number of steps",
    "scans": "choice of past scans",
    "labels": "folder of segmentations",
    "perceptual_network": "perceptual network",
    "feature_network": "feature network",
}


@dataclass(frozen=True)
class Outcome:
    """Who was evaluated and who was not, and the rows of the table."""

    evaluated: tuple[str, ...]
    unusable: tuple[Unusable, ...]
    scores: tuple[Score, ...]


def evaluate_study(
    folder: Path,
    output: Path,
    settings: Settings,
    networks: Networks,
    wanted: Sequence[str] = (),
    command: str = "python -m neuro4d_lib evaluate",
    progress: Progress = silent,
) -> Outcome:
    """Evaluate everybody who can be used, a file for each, and write scores.csv, scores.md, scores.png and subjects.csv.

    A run that was ended goes on with the next person. An InputError says why, if nobody can be used.

    Args:
        wanted: ids of subjects; everybody where none is named.
        command: named in scores.md.
    """
    progress(0.0, "Reading the data set")
    study = read_study(folder, wanted)
    if not study.subjects:
        raise InputError(_nobody(folder, study.unusable))
    if settings.labels is not None:
        Segmentations.of(settings.labels)
    model = load_model(settings.model, checked_device(settings.device))
    _check_settings(output, _described(folder, model, settings, networks))
    found: list[dict[str, Any]] = []
    unusable = list(study.unusable)
    for i, subject in enumerate(study.subjects):
        path = output / PARTS / f"{subject.id}.json"
        told = part(
            progress,
            (1 - _SCORING_SHARE) * i / len(study.subjects),
            (1 - _SCORING_SHARE) * (i + 1) / len(study.subjects),
        )
        if path.is_file():
            result = _read_part(path)
        else:
            result = _of_subject(study, i, model, settings, networks, told)
            write_whole(path, json.dumps(result) + "\n")
        if "unusable" in result:
            unusable.append(Unusable(subject.id, result["unusable"]))
        else:
            found.append(result)
    write_whole(output / SUBJECTS_FILE, _subjects_table([person["subject"] for person in found], unusable))
    if not found:
        raise InputError(_nobody(folder, unusable) + f" All reasons are in {output / SUBJECTS_FILE}.")
    rows = _score(found, model, part(progress, 1 - _SCORING_SHARE, 1.0))
    _write(output, study, model, networks, rows, found, unusable, command)
    progress(1.0, "Evaluated")
    return Outcome(tuple(person["subject"] for person in found), tuple(unusable), tuple(rows))


def _of_subject(
    study: Study, i: int, model: ForecastModel, settings: Settings, networks: Networks, progress: Progress
) -> dict[str, Any]:
    """What is found of one person, or why nothing is."""
    subject = study.subjects[i]
    named = part(progress, 0.0, 1.0)

    def told(fraction: float, message: str) -> None:
        named(fraction, f"{subject.id} ({i + 1} of {len(study.subjects)}): {message}")

    try:
        result = evaluate_subject(study.folder, subject, model, settings, networks, told)
    except InputError as problem:
        return {"subject": subject.id, "unusable": str(problem).rstrip(".")}
    for case in result["cases"]:
        if networks.features is not None:
            case["feature_network"] = networks.features[0]
    return result


def _score(found: Sequence[dict[str, Any]], model: ForecastModel, progress: Progress) -> list[Score]:
    shares = known_truth_scores.region_shares(model.reference)
    fitted = known_truth_scores.fitted_baselines(shares, progress, TRAINING_PEOPLE)
    noise_sd = math.sqrt(2) * PopulationVolumes(Population(), model.reference).noise_sd(known_truth_scores.SCORED)
    return score_study(found, fitted, noise_sd)


def _described(folder: Path, model: ForecastModel, settings: Settings, networks: Networks) -> dict[str, Any]:
    """What the files of the people depend on."""
    return {
        "study": folder.resolve().name,
        "model_sha256": model.sha256,
        "version": __version__,
        "futures": settings.futures,
        "seed": settings.seed,
        "steps": settings.steps,
        "scans": None if settings.scans is None else list(settings.scans),
        "labels": None if settings.labels is None else settings.labels.resolve().name,
        "perceptual_network": None if networks.perceptual is None else networks.perceptual[0],
        "feature_network": None if networks.features is None else networks.features[0],
    }


def _check_settings(output: Path, described: dict[str, Any]) -> None:
    """Go on in a folder of the same evaluation, begin in a new one, refuse any other."""
    path = output / SETTINGS_FILE
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise InputError(f"{path} cannot be read: {problem}. Choose a new folder.") from None
        different = [name for name, value in described.items() if before.get(name) != value]
        if different:
            name = different[0]
            raise InputError(
                f"{output} holds an evaluation with another {_SETTING_NAMES.get(name, name)}: {_short(before.get(name))}, "
                f"now {_short(described[name])}. Choose a new folder."
            )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} holds files of something else. Choose a new folder for the evaluation.")
    write_whole(path, json.dumps(described, indent=1) + "\n")


def _short(value: object) -> str:
    """A setting in a message; a hash by its beginning."""
    return str(value)[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _read_part(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InputError(f"{path} cannot be read: {problem}. Remove it, and the person is evaluated again.") from None
    return result


def _subjects_table(evaluated: Sequence[str], unusable: Sequence[Unusable]) -> str:
    """subjects.csv: everybody, whether they were used, and why not."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("subject", "evaluated", "reason"))
    rows = [(name, "yes", "") for name in evaluated] + [(one.subject, "no", one.reason) for one in unusable]
    writer.writerows(sorted(rows))
    return text.getvalue()


def _nobody(folder: Path, unusable: Sequence[Unusable]) -> str:
    reasons = "; ".join(f"{one.subject}: {one.reason}" for one in unusable[:3])
    more = f"; and {len(unusable) - 3} more" if len(unusable) > 3 else ""
    return (
        f"Nobody in {folder} can be evaluated: two scans of a person at different times are needed ({reasons}{more})."
    )


def _write(
    output: Path,
    study: Study,
    model: ForecastModel,
    networks: Networks,
    rows: Sequence[Score],
    found: Sequence[dict[str, Any]],
    unusable: Sequence[Unusable],
    command: str,
) -> None:
    """scores.csv, scores.md and scores.png."""
    simulated = any(case["true"] is not None for person in found for case in person["cases"])
    title = f"{'Simulated' if simulated else 'Real'} study {study.folder.resolve().name}: {len(found)} people"
    write_scores(output / "scores.csv", rows)
    labels = any(case.get("labels") for person in found for case in person["cases"])
    preface = _preface(model, networks, simulated, labels, rows)
    if unusable:
        listed = "\n".join(f"- {one.subject}: {one.reason}." for one in unusable)
        preface += [f"## Not evaluated: {len(unusable)} of {len(unusable) + len(found)} people", listed]
    write_whole(output / "scores.md", render_scores(rows, title, command, _main_horizon(rows), preface))
    prefix = TRUE if simulated else ""
    draw_scores(rows, output / "scores.png", title, FIGURE_REGIONS, horizon=_main_horizon(rows), prefix=prefix)


def _main_horizon(rows: Sequence[Score]) -> float:
    """Two years where there are some, else the horizon with most people."""
    counts = {row.horizon_years: row.n for row in select(rows, metric="ssim", method="model", scans=None, region=BRAIN)}
    known = {years: n for years, n in counts.items() if years is not None}
    return 2.0 if not known or 2.0 in known else max(known, key=lambda years: known[years])


def _of_the_study(rows: Sequence[Score]) -> str:
    """Whether the study has simple forecasters of its own."""
    if any(row.method.startswith(PREFIX) for row in rows):
        return f"Those named `{PREFIX}` were fitted to the study's own people, each forecast without the person (five parts)."
    return "The study has too few people with three or more visits to fit them to its own people."


def _left_out(rows: Sequence[Score]) -> str:
    """Where change was too small to be scored."""
    cells = {row.cell for row in select(rows, metric="volume_error_percent", method="model")}
    scored = {row.cell for row in select(rows, metric="change_skill_score", method="model")}
    small = sorted({cell[0] for cell in cells - scored})
    where = f" That is so in {len(cells - scored)} of {len(cells)} cells, of {', '.join(small)}." if small else ""
    return (
        "A change skill score stands where the measured change is at least three SDs of its noise, that of the simulated "
        f"scans (docs/population.md); `noise_ceiling` is what a perfect forecaster would reach.{where}"
    )


def _preface(
    model: ForecastModel, networks: Networks, simulated: bool, labels: bool, rows: Sequence[Score]
) -> list[str]:
    """What was compared with what."""
    volumes = (
        "Volumes: the scan's regions (propagated from the reference by registration) carried by the forecast, against the "
        "same regions carried to the follow-up scan by registration of the two scans; both are integrals of det J over one "
        "segmentation, so the tool is the same. Registration shrinks small changes, for all methods alike."
    )
    parts = [
        f"Model {model.card['name']} {model.card.get('version', '')}, weights {model.sha256[:12]}. Research use only.",
        "![Figures](scores.png)",
        volumes,
        "Horizons are bins: up to 1.5 years (1), 2.5 (2), 4 (3), beyond (5); rates are by the real time. The simple forecasts "
        "see the same past volumes as the model, and were fitted to "
        f"{TRAINING_PEOPLE} simulated people. `registration_extrapolation` lets the "
        "motion between the last two scans go on. " + _of_the_study(rows),
        _left_out(rows),
    ]
    if simulated:
        parts.append(
            "The data set is simulated: metrics named `true_` compare with the true volumes instead of a scan."
        )
    if labels:
        parts.append(
            "Metrics named `own_` go by the segmentations that came with the data: the labels of the last scan, "
            "carried by the forecast, against those of the follow-up scan."
        )
    names = [network[0] for network in (networks.perceptual, networks.features) if network is not None]
    parts.append(
        f"Networks of features: {', '.join(names)}; never compare across networks."
        if names
        else "LPIPS, FID and KID were left out: no network was named."
    )
    return parts
