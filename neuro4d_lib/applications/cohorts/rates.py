"""A cohort as a table: how fast every region of everybody changed, and what is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.cohort import TRUTH
from neuro4d_lib.data.population import Population, covariate_values
from neuro4d_lib.data.prepared import ABOUT_FILE, read_prepared
from neuro4d_lib.data.rate_fields import measure_regions
from neuro4d_lib.data.records import DIAGNOSES, Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.treatment import by_region
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.fields import state_maps

SIMULATED = "simulated:"
FORMS = (
    "Expected a prepared study (a folder with prepared.json), a simulated data set (a folder with derivatives/truth), or "
    "people drawn on the spot, such as simulated:200, simulated:100:diagnosis=AD:seed=3 or "
    "simulated:100:diagnosis=MCI:hippocampus=-1 (1 % a year more loss there than the population has)."
)
REGIONS = tuple(region.name for region in DRIVEN)
_MOST_PEOPLE = 100_000
_SPAN_YEARS, _VISITS = 2.0, 3


@dataclass(frozen=True, eq=False)
class Cohort:
    """N people with two visits or more, R driven regions.

    Attributes:
        covariates: [N, 5] at the last visit, NaN where unknown; see population.COVARIATES.
        rates: [N, R] least-squares slope of log-volume, per year, as measured.
        expected: [N, R] mean of `rates` given the covariates, by the law that simulated them; None where it is not known.
        maps: [N, V] the same as log-Jacobian per year on the lattice, in float32, or None: they follow from `rates`.
    """

    name: str
    ids: tuple[str, ...]
    covariates: np.ndarray
    rates: np.ndarray
    expected: np.ndarray | None = None
    maps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read_cohort(text: str, reference: Reference, progress: Progress = silent) -> Cohort:
    """A cohort by its name: see FORMS."""
    if text.startswith(SIMULATED):
        return _simulated(text)
    folder = Path(text)
    if (folder / ABOUT_FILE).is_file():
        return _prepared(folder, reference, progress)
    if (folder / TRUTH).is_dir():
        return _data_set(folder)
    raise InputError(f"{text} is no cohort. {FORMS}")


def slopes(years: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares slope of values [V, ...] over years [V]."""
    centered = years - years.mean()
    return np.asarray(np.tensordot(centered, values, axes=1) / (centered @ centered))


def draw_cohort(
    population: Population, covariates: Tensor, generator: torch.Generator, *, shift: np.ndarray | None = None,
    visits: int = _VISITS, span_years: float = _SPAN_YEARS, name: str = "simulated",
) -> Cohort:  # fmt: skip
    """People with these covariates [N, 5], scanned at even times up to the latest scan.

    Args:
        shift: [R] added to everybody's rate, per year.
    """
    people = population.people_with(covariates, generator)
    years = torch.linspace(-span_years, 0, visits, dtype=torch.float64)
    course = population.mean_velocity_rates(people, years.expand(len(covariates), -1), generator) * years[:, None]
    errors = population.scan_error((len(covariates), visits), generator)
    when = years.numpy()
    measured = slopes(when, (course + errors).numpy().transpose(1, 0, 2))
    bend = float(slopes(when, when**2 / 2)) * population.mean_acceleration[covariates[:, 4].long()]
    expected = (population.rate_given(covariates) + bend).numpy()
    extra = np.zeros(len(REGIONS)) if shift is None else shift
    ids = tuple(f"{name}-{i + 1}" for i in range(len(covariates)))
    return Cohort(name, ids, covariates.numpy(), measured + extra, expected + extra)


def _simulated(text: str) -> Cohort:
    count, *settings = text.removeprefix(SIMULATED).split(":")
    if not count.isdigit() or not 2 <= int(count) <= _MOST_PEOPLE:
        raise InputError(f"{text} says {count!r} people; expected 2 to {_MOST_PEOPLE}. {FORMS}")
    population, seed, diagnosis, shift = Population(), 0, None, {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            if name == "seed":
                seed = int(value)
            elif name == "diagnosis":
                diagnosis = DIAGNOSES.index(value.upper())
            else:
                shift[name] = float(value) / 100
        except ValueError:
            raise InputError(f"{text}: {setting!r} is not understood. {FORMS}") from None
    generator = torch.Generator().manual_seed(seed)
    covariates = population.draw_covariates(int(count), generator)
    if diagnosis is not None:
        d = torch.full((int(count),), diagnosis)
        mean, sd = population.mean_age[diagnosis]
        age = (mean + sd * torch.randn(int(count), generator=generator, dtype=torch.float64)).clamp(18, 100)
        covariates = population.draw_covariates_of(age, d, generator)
    extra = by_region(shift)
    return draw_cohort(population, covariates, generator, shift=extra, name=text)


def _data_set(folder: Path) -> Cohort:
    """A simulated data set: the true volumes at its visits."""
    ids, covariates, rates = [], [], []
    for path in sorted((folder / TRUTH).glob("sub-*/*_truth.json")):
        truth = json.loads(path.read_text(encoding="utf-8"))
        visits = sorted(truth["visits"].values(), key=lambda visit: visit["years"])
        if len(visits) < 2:
            continue
        years = np.array([visit["years"] for visit in visits])
        volumes = np.array([[visit["volumes_mm3"][name] for name in REGIONS] for visit in visits])
        ids.append(path.parent.name)
        covariates.append(covariate_values(Covariates(**truth["covariates_at_years_0"])).numpy())
        rates.append(slopes(years, np.log(volumes)))
    return _checked(str(folder), ids, covariates, rates, None)


def _prepared(folder: Path, reference: Reference, progress: Progress) -> Cohort:
    """Regional rates of the motion between visits, and its divergence: the log-Jacobian per year, to first order."""
    progress(0.0, f"Measuring the regions of {folder.name}")
    measure = measure_regions(reference)[0][: len(REGIONS)]
    ids, covariates, rates, maps = [], [], [], []
    for subject in read_prepared(folder).subjects:
        years = torch.tensor(subject.years)
        centered = years - years.mean()
        velocity = torch.tensordot(centered, subject.motion, dims=1) / (centered @ centered)
        ids.append(subject.id)
        covariates.append(covariate_values(subject.covariates[-1]).numpy())
        rates.append((measure @ velocity.flatten()).double().numpy())
        maps.append(state_maps(velocity[None])[0].flatten().numpy())
    return _checked(str(folder), ids, covariates, rates, maps)


def _checked(
    name: str, ids: list[str], covariates: list[np.ndarray], rates: list[np.ndarray], maps: list[np.ndarray] | None
) -> Cohort:
    if len(ids) < 2:
        raise InputError(f"{name} has {len(ids)} people with two visits or more; expected at least 2.")
    return Cohort(
        name, tuple(ids), np.stack(covariates), np.stack(rates), None, np.stack(maps) if maps is not None else None
    )


def known_columns(covariates: np.ndarray) -> np.ndarray:
    """Which columns [5] everybody's value is known of."""
    return np.asarray(~np.isnan(covariates).any(axis=0))
