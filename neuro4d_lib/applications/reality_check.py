"""Simulated people beside real ones, by the same estimators: does the population lose brain as people do?

Real, from public tables that are not part of this repository:
- `oasis2_longitudinal_shared.csv`: OASIS-2 (doi:10.1162/jocn.2009.21407), brain volume over intracranial volume (nWBV)
  and area of the ventricles on an axial slice, 2 to 5 visits a person; "level" is the mean of a person's log-volumes,
  age apart;
- `kirby21_scanrescan_volumes_shared.csv`: Kirby-21 (doi:10.1016/j.neuroimage.2010.11.047), people scanned twice.

Every simulated cohort has the ages, diagnoses and visit times of the real one, and the noise that was found in it: how
OASIS-2 was measured is no property of people. The spread of an estimate over cohorts is its sampling error: that of the
real value too, if the population is true.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neuro4d_lib.applications.baselines import person_slopes, rates_of_group
from neuro4d_lib.applications.line_law import People
from neuro4d_lib.data.population_volumes import PopulationVolumes
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, silent

OASIS = "oasis2_longitudinal_shared.csv"
KIRBY = "kirby21_scanrescan_volumes_shared.csv"

MEASURES = ("whole_brain", "lateral_ventricle")
"""Regions of the population beside nWBV and the axial area of the ventricles."""

AREA_PER_VOLUME = 2 / 3
"""Relative growth of an area per relative growth of its volume, where it grows alike in all directions: assumed."""

SCAN_RESCAN = {
    "whole_brain": ("1", None),
    "hippocampus": ("4", ("Hippo_L", "Hippo_R")),
    "lateral_ventricle": ("3", ("LateralVentricle_L", "LateralVentricle_R")),
}
"""Region of the population: level of the Kirby table, and its parts (None: everything but CSF)."""


@dataclass(frozen=True)
class Comparison:
    """One estimate, in %, %/year, or a correlation.

    Attributes:
        quantity, group: what, and of whom.
        real: estimate from the real people.
        simulated: mean over simulated cohorts of the same design.
        standard_error: sampling error of the real estimate, were the population true.
        n: people.
    """

    quantity: str
    group: str
    real: float
    simulated: float
    standard_error: float
    n: int

    @property
    def z(self) -> float:
        """Difference, real minus simulated, in standard errors."""
        return (self.real - self.simulated) / self.standard_error


def reality_check(
    folder: Path,
    population: PopulationVolumes,
    generator: torch.Generator,
    cohorts: int = 100,
    progress: Progress = silent,
) -> list[Comparison]:
    """Estimate rates, their spread and the noise in real people and in simulated ones.

    Args:
        folder: holds the tables OASIS and KIRBY.
        cohorts: simulated ones, each as large as the real one.
    """
    people, diagnosis = read_oasis(folder / OASIS)
    groups = sorted(set(people.diagnosis.tolist()))
    real, noise_sd = _estimates(people, groups)
    draws = []
    for i in range(cohorts):
        progress(i / cohorts, "simulating cohorts like OASIS-2")
        volumes = population.log_volumes(people.age, diagnosis, people.years, MEASURES, generator)
        noise = torch.randn(volumes.shape, generator=generator, dtype=torch.float64).numpy() * noise_sd
        measured = np.where(np.isfinite(people.log_volumes), volumes * [1.0, AREA_PER_VOLUME] + noise, np.nan)
        draws.append(_estimates(People(people.years, measured, people.age, people.diagnosis), groups)[0])
    rows = []
    for (quantity, group), value in real.items():
        simulated = np.array([draw[quantity, group] for draw in draws])
        n = int((people.diagnosis == group).sum())
        rows.append(Comparison(quantity, group, value, float(simulated.mean()), float(simulated.std(ddof=1)), n))
    return rows + _noise(folder / KIRBY, population)


def render_comparison(rows: Sequence[Comparison]) -> str:
    """A Markdown table; differences beyond two standard errors are marked."""
    lines = [
        "| quantity | group | n | real | simulated | standard error | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mark = " (!)" if abs(row.z) > 2 else ""
        lines.append(
            f"| {row.quantity} | {row.group} | {row.n} | {row.real:.2f} | {row.simulated:.2f} "
            f"| {row.standard_error:.2f} | {row.z:+.1f} SE{mark} |"
        )
    return "\n".join(lines)


def read_oasis(path: Path) -> tuple[People, np.ndarray]:
    """People with the logarithms of nWBV and of ventricle area; year 0 is the first visit, `diagnosis` OASIS's group.

    Returns:
        The people, and their diagnosis [N] in the population's terms.
    """
    rows = _read(path, ("Subject ID", "Group", "MR Delay", "Age", "CDR", "nWBV", "ventricle_area_mm2_axl"))
    visits: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        visits.setdefault(row["Subject ID"], []).append(row)
    most = max(map(len, visits.values()))
    years, values = np.full((len(visits), most), np.nan), np.full((len(visits), most, 2), np.nan)
    for i, of_person in enumerate(visits.values()):
        for k, row in enumerate(of_person):
            years[i, k] = float(row["MR Delay"]) / 365.25
            for r, column in enumerate(("nWBV", "ventricle_area_mm2_axl")):
                if row[column]:
                    values[i, k, r] = np.log(float(row[column]))
    first = [of_person[0] for of_person in visits.values()]
    people = People(
        years, values, np.array([float(row["Age"]) for row in first]), np.array([row["Group"] for row in first])
    )
    return people, np.array([_diagnosis(row) for row in first])


def _diagnosis(first: dict[str, str]) -> str:
    """OASIS-2's groups by the first visit: very mild impairment (CDR 0.5) is MCI here, mild dementia (1 and up) AD."""
    if first["Group"] == "Nondemented":
        return "CN"
    return "AD" if float(first["CDR"] or 0.5) >= 1 else "MCI"


def _estimates(people: People, groups: Sequence[str]) -> tuple[dict[tuple[str, str], float], np.ndarray]:
    """Estimates in %/year by quantity and group, and the SD [2] of the noise of a visit, of logarithms."""
    slopes = person_slopes(people)
    found: dict[tuple[str, str], float] = {}
    for r, measure in enumerate(("brain volume", "ventricle area")):
        for group in groups:
            here = (people.diagnosis == group) & np.isfinite(slopes.slope[:, r])
            slope, variance = slopes.slope[here, r : r + 1], slopes.variance[here, r : r + 1]
            law = rates_of_group(np.full(len(slope), np.nan), slope, variance, np.zeros(1))
            found[f"{measure}, mean rate", group] = 100 * float(slope.mean())
            found[f"{measure}, SD of slopes", group] = 100 * float(slope.std(ddof=1))
            found[f"{measure}, SD between people", group] = 100 * float(np.sqrt(law.covariance[1, 1, 0]))
    for group in groups:
        here = (people.diagnosis == group) & np.isfinite(slopes.slope).all(axis=1)
        rate, age = slopes.slope[here], people.age[here]
        found["brain volume and ventricle area, correlation of rates", group] = _correlation(rate[:, 0], rate[:, 1])
        level = _without_age(np.nanmean(people.log_volumes[here], axis=1), age)
        of_rate = _without_age(rate, age)
        for r, measure in enumerate(("brain volume", "ventricle area")):
            found[f"{measure}, SD of level", group] = 100 * float(level[:, r].std(ddof=2))
            found[f"{measure}, correlation of level and rate", group] = _correlation(level[:, r], of_rate[:, r])
    return found, np.sqrt(slopes.noise_variance)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _without_age(values: np.ndarray, age: np.ndarray) -> np.ndarray:
    """What a straight line on age leaves of values [n, R]."""
    design = np.stack([np.ones_like(age), age], axis=1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def _noise(path: Path, population: PopulationVolumes) -> list[Comparison]:
    """Noise of one scan, in %, from people scanned twice: root mean square difference over root two."""
    rows = _read(path, ("subject", "visit", "level", "region", "mm3"))
    subjects = sorted({row["subject"] for row in rows})
    volumes = np.zeros((len(subjects), 2, len(SCAN_RESCAN)))
    for row in rows:
        for r, (level, parts) in enumerate(SCAN_RESCAN.values()):
            wanted = row["region"] != "CSF" if parts is None else row["region"] in parts
            if row["level"] == level and wanted:
                volumes[subjects.index(row["subject"]), int(row["visit"]) - 1, r] += float(row["mm3"])
    n, regions = len(subjects), list(SCAN_RESCAN)
    real = 100 * np.sqrt(np.square(np.diff(np.log(volumes), axis=1)[:, 0]).mean(axis=0) / 2)
    simulated = 100 * population.noise_sd(regions)
    return [
        Comparison(f"{name}, noise of a scan", "scanned twice", float(r), float(s), float(s / np.sqrt(2 * n)), n)
        for name, r, s in zip(regions, real, simulated, strict=True)
    ]


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(
            f"The real data {path} cannot be read: {error.strerror}. Give the folder that holds it."
        ) from error
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}.")
    return rows
