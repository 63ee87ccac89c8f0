"""A simulated cohort as a longitudinal BIDS data set, with all that is true of it beside the scans."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from neuro4d_lib import __version__
from neuro4d_lib.config import to_dict
from neuro4d_lib.data.head import with_head
from neuro4d_lib.data.images import write_like
from neuro4d_lib.data.lesions import subjects_with_lesions
from neuro4d_lib.data.population_config import PopulationConfig, ScannerSettings
from neuro4d_lib.data.records import Image
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.simulation import Simulator, Subject, simulate_scan
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, silent

TRUTH = Path("derivatives", "truth")
DAYS_PER_YEAR = 365.25
_BIDS_VERSION = "1.10.0"
_README = """\
People who do not exist, made by Neuro4D {version}: the ICBM 152 average brain in random shapes, aged at rates from
published and assumed numbers. Research use only; every number computed from it is a simulated one.

derivatives/truth/sub-*/ holds what is true of each of them:
- sub-*_truth.json: state, rate and acceleration of every region (log-volume, per year, per year per year), volumes in
  mm3 at every visit (with the uneven course), 4x4 from RAS mm of every scan to aligned space.
- sub-*_motion.safetensors: `psi` (shape) and, per visit, `ses-*` (motion since years 0): control points of stationary
  velocity fields on the 5.25 mm lattice, mm.
- ses-*/anat/*_dseg.nii.gz: regions, *_label-lesion_mask.nii.gz: lesions (of people with MS), on the voxels of the scan.
"""


def write_cohort(
    simulator: Simulator,
    subjects: Sequence[Subject],
    folder: Path,
    config: PopulationConfig,
    *,
    whole_head: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Scan all subjects at all their visits. The folder appears whole or not at all.

    People with MS who have no lesions yet get them by the law of `config.lesions`.

    Args:
        folder: new or empty.
        config: lesions and scanner; what the subjects were drawn from goes into the description of the data set.
        whole_head: with skull and scalp.
        seed: of shapes, lesions and scans. Subject i is the same however many others there are.
    """
    check_cohort(subjects, folder)
    subjects = subjects_with_lesions(subjects, simulator.reference, config.lesions, seed)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        _write_descriptions(temporary, config)
        _write_tables(subjects, temporary)
        anatomy = with_head(simulator.reference) if whole_head else simulator.reference
        for i, subject in enumerate(subjects):
            progress(i / len(subjects), f"Simulating subject {i + 1} of {len(subjects)}")
            generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
            _write_subject(simulator, anatomy, subject, temporary, config.scanner, generator)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress(1.0, f"{len(subjects)} simulated subjects")


def check_cohort(subjects: Sequence[Subject], folder: Path) -> None:
    """Refuse, before anything is simulated, what could not be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty. Choose a new folder; nothing is overwritten.")
    names = [subject.id for subject in subjects]
    for name in names:
        if not (name.isascii() and name.isalnum()):
            raise InputError(f"The subject id {name!r} cannot name files in BIDS; expected letters and digits only.")
    if len({name.lower() for name in names}) < len(names):
        raise InputError("Two subjects have the same id. Give each its own.")
    for subject in subjects:
        if not subject.visit_years or list(subject.visit_years) != sorted(set(subject.visit_years)):
            raise InputError(
                f"Subject {subject.id} has visits at {subject.visit_years} years; expected ascending times."
            )


def _write_subject(
    simulator: Simulator,
    anatomy: Reference,
    subject: Subject,
    folder: Path,
    settings: ScannerSettings,
    generator: torch.Generator,
) -> None:
    name = f"sub-{subject.id}"
    truth_folder = folder / TRUTH / name
    psi_mm = simulator.shape(subject, generator)
    tensors, visits = {"psi": psi_mm}, {}
    for number, years in enumerate(subject.visit_years, start=1):
        session = f"ses-{number:02d}"
        tensors[session] = motion_mm = simulator.motion(subject, psi_mm, years)
        scan = simulate_scan(
            anatomy,
            psi_mm,
            motion_mm,
            settings,
            generator,
            years=years,
            lesions=subject.lesions,
            head_size=subject.head_size,
        )
        stem = f"{name}_{session}"
        anat = folder / name / session / "anat"
        _write_image(scan.image, anat / f"{stem}_T1w.nii.gz")
        _write_json(anat / f"{stem}_T1w.json", {"Modality": "MR", "Manufacturer": "Neuro4D simulation"})
        truth_anat = truth_folder / session / "anat"
        _write_image(scan.labels, truth_anat / f"{stem}_dseg.nii.gz")
        if subject.lesions or subject.covariates.diagnosis == "MS":
            _write_image(scan.lesion_mask, truth_anat / f"{stem}_label-lesion_mask.nii.gz")
        volumes = simulator.true_volumes_mm3(psi_mm, motion_mm, subject.head_size)
        visits[session] = {
            "years": years,
            "volumes_mm3": _named(simulator.volumes.names, volumes),
            "lesions_mm3": float(scan.lesion_mask.array.sum() * np.prod(scan.lesion_mask.grid.spacing_mm)),
            "scan_to_aligned": scan.scan_to_aligned.tolist(),
        }
    names = tuple(region.name for region in DRIVEN)
    truth = {
        "covariates_at_years_0": subject.covariates.as_dict(),
        "head_size": subject.head_size,
        "state": _named(names, subject.state),
        "rate_per_year": _named(names, subject.rate),
        "acceleration_per_year2": _named(names, subject.acceleration),
        "lesions": [asdict(lesion) for lesion in subject.lesions],
        "visits": visits,
    }
    _write_json(truth_folder / f"{name}_truth.json", truth)
    save_file({key: value.contiguous() for key, value in tensors.items()}, truth_folder / f"{name}_motion.safetensors")


def _write_descriptions(folder: Path, config: PopulationConfig) -> None:
    common = {
        "Name": "Neuro4D simulated cohort",
        "BIDSVersion": _BIDS_VERSION,
        "GeneratedBy": [{"Name": "neuro4d_lib", "Version": __version__}],
    }
    _write_json(
        folder / "dataset_description.json",
        {**common, "DatasetType": "raw", "Simulated": True, "Population": to_dict(config)},
    )
    _write_json(folder / TRUTH / "dataset_description.json", {**common, "DatasetType": "derivative"})
    (folder / "README").write_text(_README.format(version=__version__), encoding="utf-8")
    _write_json(
        folder / "participants.json",
        {
            "age": {"Description": "Age at the first session", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
            "education_years": {"Description": "Years of education", "Units": "year"},
            "apoe4": {"Description": "Number of APOE e4 alleles"},
            "diagnosis": {"Description": "CN, MCI, AD, PD or MS"},
        },
    )
    _write_json(
        folder / "sessions.json",
        {
            "days_since_first": {"Description": "Time since the first session", "Units": "day"},
            "age": {"Description": "Age at the session", "Units": "year"},
        },
    )
    regions = [(region.index, region.name) for region in REGIONS]
    _write_table(folder / TRUTH / "dseg.tsv", ("index", "name"), regions)


def _write_tables(subjects: Sequence[Subject], folder: Path) -> None:
    people = []
    for subject in subjects:
        known, first = subject.known or subject.covariates, subject.visit_years[0]
        sessions = [
            (
                f"ses-{number:02d}",
                round((years - first) * DAYS_PER_YEAR),
                None if known.age is None else known.age + years,
            )
            for number, years in enumerate(subject.visit_years, start=1)
        ]
        name = f"sub-{subject.id}"
        people.append((name, sessions[0][2], known.sex, known.education_years, known.apoe4, known.diagnosis))
        _write_table(folder / name / f"{name}_sessions.tsv", ("session_id", "days_since_first", "age"), sessions)
    header = ("participant_id", "age", "sex", "education_years", "apoe4", "diagnosis")
    _write_table(folder / "participants.tsv", header, people)


def _named(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _write_image(image: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_like(image, image.array, path)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Tab-separated values; unknown is n/a."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *([_cell(value) for value in row] for row in rows)]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
