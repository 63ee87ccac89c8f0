"""A simulated study whose true motion is known, once as scans that were prepared and once as the truth.

    OUTPUT/study/      the scans, a longitudinal BIDS data set
    OUTPUT/prepared/   what `prepare` makes of the scans
    OUTPUT/true/       the same people in the same format, with the motion that the scans were made by

Person i is the same however many others there are; who is finished is not made again. Research use only: nobody of them exists.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuro4d_lib import __version__
from neuro4d_lib.config import to_dict
from neuro4d_lib.data.carrying import mean_log_ratio
from neuro4d_lib.data.flow_volumes import flow_vox
from neuro4d_lib.data.images import write_like
from neuro4d_lib.data.population import People, Population, covariates_of
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.prepared import PreparedSubject, subject_path, write_about, write_subject
from neuro4d_lib.data.rate_fields import RateFields
from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.simulation import simulate_scan, smooth_random_motion
from neuro4d_lib.data.study import DAYS_PER_YEAR, read_study
from neuro4d_lib.files import write_whole
from neuro4d_lib.geometry.deformation import compose
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.jobs import Job, run_job
from neuro4d_lib.progress import Progress, silent

STUDY, PREPARED, TRUE = "study", "prepared", "true"
STUDIED = ("CN", "MCI", "AD")
VISITS = 3
_GAP_YEARS = (1.0, 2.0)


@dataclass(frozen=True, eq=False)
class Course:
    """One simulated person.

    Attributes:
        id: such as "sub-0001".
        years: [V] since the first visit; covariates: [V].
        rates: [V - 1, R] mean log-volume rate from the last visit to each earlier one, per year.
        state: [R] log-volume at the last visit.
    """

    id: str
    years: tuple[float, ...]
    covariates: tuple[Covariates, ...]
    rates: Tensor
    state: Tensor


def studied_population() -> Population:
    """Who is in the study: a third each without dementia, with mild impairment, with Alzheimer's disease."""
    shares = tuple(1 / len(STUDIED) if name in STUDIED else 0.0 for name in DIAGNOSES)
    return Population(PopulationConfig(diagnosis_shares=shares))


def course(population: Population, i: int, seed: int) -> Course:
    """Person i, whose diagnosis follows from i, so that any number of people is balanced."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
    diagnosis = torch.tensor([DIAGNOSES.index(STUDIED[i % len(STUDIED)])])
    mean, sd = population.mean_age[diagnosis].unbind(1)
    age = (mean + sd * torch.randn(1, generator=generator, dtype=torch.float64)).clamp(50, 90)
    people = population.people_with(population.draw_covariates_of(age, diagnosis, generator), generator)
    low, high = _GAP_YEARS
    gaps = low + (high - low) * torch.rand(VISITS - 1, generator=generator, dtype=torch.float64)
    days = [round(float(years) * DAYS_PER_YEAR) for years in gaps.cumsum(dim=0)]
    past = torch.tensor([day / DAYS_PER_YEAR - days[-1] / DAYS_PER_YEAR for day in (0, *days[:-1])])
    rates = population.mean_velocity_rates(people, past[None].double(), generator)[0]
    years = tuple(day / DAYS_PER_YEAR for day in (0, *days))
    return Course(f"sub-{i + 1:04d}", years, _covariates(people, years), rates, people.state[0])


def make_studies(
    people: int,
    output: Path,
    reference: Path,
    fields: RateFields,
    config: PreparationConfig,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Simulate, scan and prepare so many people; those who are finished are left as they are.

    Args:
        reference: folder with the reference anatomy, such as that of a model.
    """
    anatomy, population = Reference.load(reference), studied_population()
    courses = [course(population, i, seed) for i in range(people)]
    _write_tables(output / STUDY, courses)
    states = {}
    for i, one in enumerate(courses):
        progress(i / people, f"Person {i + 1} of {people}: simulating and preparing")
        if not subject_path(output / TRUE, one.id).is_file():
            _simulate(one, output, anatomy, fields, population, seed * 1_000_003 + 500_009 + i)
        study = read_study(output / STUDY, [one.id])
        job = Job(study.subjects[0], (output / PREPARED).resolve(), reference.resolve(), config)
        record = job.earlier() or run_job(job)
        states[one.id] = {"state": record["state"], "reason": record["reason"]}
    about = {"study": STUDY, "settings": to_dict(config), "versions": {"neuro4d_lib": __version__}, "simulated": True}
    write_about(output / PREPARED, {**about, "complete": True, "subjects": states})
    # Who could not be prepared is left out of both, so that both hold the same people.
    write_about(output / TRUE, {**about, "settings": {"motion": "true"}, "complete": True, "subjects": states})
    progress(1.0, f"{people} simulated people")


def _simulate(
    one: Course, output: Path, anatomy: Reference, fields: RateFields, population: Population, seed: int
) -> None:
    """Scans and truth of one person; the truth is written last."""
    generator = torch.Generator().manual_seed(seed)
    bumps_mm = smooth_random_motion(anatomy, generator)
    # To first order the shape has the volumes of the person's state, whatever the bumps do to them.
    own = one.state - fields.response(bumps_mm)[: len(DRIVEN)]
    psi_mm = -(bumps_mm + fields.velocity(own))
    back_vox = flow_vox(-psi_mm)
    past = torch.tensor(one.years, dtype=torch.float64) - one.years[-1]
    changes = torch.cat([one.rates * past[:-1, None], torch.zeros(1, one.rates.shape[1], dtype=torch.float64)])
    motion_mm = fields.velocity(changes)
    maps = []
    for session, motion in zip(_sessions(one), motion_mm, strict=True):
        scan = simulate_scan(anatomy, psi_mm, motion, population.config.scanner, generator)
        folder = output / STUDY / one.id / session / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        write_like(scan.image, scan.image.array, folder / f"{one.id}_{session}_T1w.nii.gz")
        maps.append(mean_log_ratio(compose(back_vox, flow_vox(motion))))
    nothing: tuple[dict[str, float], ...] = tuple({} for _ in one.years)
    subject = PreparedSubject(
        one.id, _sessions(one), one.years, one.covariates, motion_mm, torch.cat(maps).float(), nothing
    )
    write_subject(subject_path(output / TRUE, one.id), subject)


def _write_tables(folder: Path, courses: list[Course]) -> None:
    """The tables of a BIDS data set; the folders of the scans come later."""
    about = {"Name": "Neuro4D simulated study", "BIDSVersion": "1.10.0", "DatasetType": "raw", "Simulated": True}
    write_whole(folder / "dataset_description.json", json.dumps(about, indent=1) + "\n")
    rows = ["participant_id\tage\tsex\teducation_years\tapoe4\tdiagnosis"]
    for one in courses:
        known = one.covariates[0]
        rows.append(
            f"{one.id}\t{known.age:.4f}\t{known.sex}\t{known.education_years:g}\t{known.apoe4}\t{known.diagnosis}"
        )
        sessions = [
            f"{session}\t{round(years * DAYS_PER_YEAR)}\t{covariates.age:.4f}"
            for session, years, covariates in zip(_sessions(one), one.years, one.covariates, strict=True)
        ]
        table = "\n".join(["session_id\tdays_since_first\tage", *sessions])
        write_whole(folder / one.id / f"{one.id}_sessions.tsv", table + "\n")
    write_whole(folder / "participants.tsv", "\n".join(rows) + "\n")


def _covariates(people: People, years: tuple[float, ...]) -> tuple[Covariates, ...]:
    made = []
    for year in years:
        values = people.covariates[0].clone()
        values[0] += year - years[-1]
        made.append(covariates_of(values))
    return tuple(made)


def _sessions(one: Course) -> tuple[str, ...]:
    return tuple(f"ses-{number:02d}" for number in range(1, len(one.years) + 1))
