"""Ventricle growth of real people (OASIS-2, one axial slice a visit) beside the forecast for people like them.

The area of the lateral ventricles is measured on the slice of each visit. The forecast for the same age, sex and
diagnosis, from the first visit to the last, is drawn twice: with the mean anatomy of such people, and with the size of
the ventricles that the first slice shows. No volume of these people exists, so the forecast's motion is read in the
slice's plane of the reference: growth of the area is the mean divergence in the plane over the ventricles.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from tables import arguments, markdown, publish
from torch import Tensor
from ventricle_area import ventricle_area_mm2

from neuro4d_lib.applications.reality_check import AREA_PER_VOLUME
from neuro4d_lib.checkpoint import load_model
from neuro4d_lib.data.population import Population, covariate_values
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

FOLDER, TABLE = "oasis2_slices", "sessions.csv"
PLANE_MM = 15.0
FUTURES, STEPS = 16, 2
FAULTY = ("skull left in", "badly registered", "failed", "masked to zero")
VENTRICLES = torch.tensor([region.group == "lateral_ventricle" for region in DRIVEN])


@dataclass(frozen=True)
class Person:
    """Someone with two usable visits or more: years since the first, ventricle areas in mm2."""

    group: str
    covariates: Covariates
    years: np.ndarray
    areas_mm2: np.ndarray

    @property
    def growth(self) -> float:
        """Slope of the logarithm of the area, per year."""
        return float(np.polyfit(self.years, np.log(self.areas_mm2), 1)[0])


def read_people(folder: Path) -> list[Person]:
    """Everybody whose usable axial slices were made at two times or more; faulty slices are left out."""
    visits: dict[str, list[tuple[dict[str, str], float]]] = {}
    with (folder / TABLE).open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["axl"] and not any(fault in row["qc_note"] for fault in FAULTY):
                area = ventricle_area_mm2(np.asarray(nibabel.load(folder / row["axl"]).dataobj))
                if np.isfinite(area):
                    visits.setdefault(row["subject"], []).append((row, area))
    people = []
    for of_person in visits.values():
        if len(of_person) > 1:
            first = of_person[0][0]
            days = np.array([float(row["days"]) for row, _ in of_person])
            covariates = Covariates(age=float(first["age"]), sex=first["sex"], diagnosis=_diagnosis(first))
            areas = np.array([area for _, area in of_person])
            people.append(Person(first["group"], covariates, (days - days[0]) / 365.25, areas))
    return people


def _diagnosis(first: dict[str, str]) -> str:
    """As in `reality_check`: very mild impairment (CDR 0.5) is MCI, mild dementia (1 and up) AD."""
    if first["group"] == "Nondemented":
        return "CN"
    return "AD" if float(first["cdr"] or 0.5) >= 1 else "MCI"


class SliceGrowth:
    """The rate at which the ventricles' area on the slice starts to grow, as a linear function of a velocity field."""

    def __init__(self, reference: Reference) -> None:
        fine = LATTICE.refined(4)
        labels = torch.from_numpy(reference.labels.astype(np.int64))
        to_voxel = np.linalg.inv(reference.grid.affine) @ fine.affine
        axes = [
            torch.from_numpy(np.rint(np.arange(n) * to_voxel[a, a] + to_voxel[a, 3]).astype(int)).clamp(
                0, labels.shape[a] - 1
            )
            for a, n in enumerate(fine.shape)
        ]
        height = round((PLANE_MM - fine.affine[2, 3]) / fine.spacing_mm[2])
        on_plane = labels[axes[0]][:, axes[1]][:, :, axes[2][height]]
        wanted = torch.tensor([region.index for region in REGIONS if region.group == "lateral_ventricle"])
        inside = torch.isin(on_plane, wanted)
        self.area_mm2 = float(inside.sum()) * fine.spacing_mm[0] * fine.spacing_mm[1]
        control = torch.zeros(1, 3, *LATTICE.shape, requires_grad=True)
        slopes = bspline.gradient(control, 4)[..., height]
        divergence = (slopes[0, 0, 0] + slopes[0, 1, 1])[inside].mean() / LATTICE.spacing_mm[0]
        (self.weights,) = torch.autograd.grad(divergence, control)

    def of(self, velocity_mm: Tensor) -> Tensor:
        """[..., 3, 32, 40, 32] mm per year -> [...] per year."""
        return (velocity_mm * self.weights[0]).sum(dim=(-4, -3, -2, -1))


class Forecaster:
    """Draws the growth of the ventricles' area for people of whom there is no volume."""

    def __init__(self, model: ForecastModel) -> None:
        self.model, self.growth, self.population = model, SliceGrowth(model.reference), Population()
        fields = model.network.deformation.fields
        self.people = SimulatedBatches(self.population, model.network.deformation, state_maps(fields))

    def state(self, person: Person, seen: bool) -> Tensor:
        """Log-volumes against the reference [1, R]: the mean of such people, or the best guess with these ventricles."""
        law = self.population
        mean = law.state_given(covariate_values(person.covariates)[None])
        if not seen:
            return mean
        ventricles = np.log(person.areas_mm2[0] / self.growth.area_mm2) / AREA_PER_VOLUME
        covariance = law.state_sd[:, None] * law.correlation * law.state_sd
        own = covariance[VENTRICLES][:, VENTRICLES].mean()
        return mean + covariance[:, VENTRICLES].mean(dim=1) / own * (ventricles - mean[0, VENTRICLES].mean())

    def draws(self, person: Person, seen: bool, seed: int) -> np.ndarray:
        """[FUTURES], growth of the area per year until the last visit; the noise is the person's own."""
        anatomy = self.people.anatomy(self.state(person, seen))[0]
        known = self.model.condition(person.covariates, anatomy, [])
        years = [float(person.years[-1])]
        noise = [torch.Generator().manual_seed(1000 * seed + i) for i in range(FUTURES)]
        drawn = [self.model.draw(known, years, generator, STEPS)[0] for generator in noise]
        return self.growth.of(torch.stack(drawn)).numpy()


def noise_sd(people: list[Person]) -> float:
    """Of the logarithm of a measured area: what a straight line leaves of people with three visits or more."""
    left = degrees = 0.0
    for person in people:
        if len(person.years) > 2:
            values = np.log(person.areas_mm2)
            left += np.square(values - np.polyval(np.polyfit(person.years, values, 1), person.years)).sum()
            degrees += len(values) - 2
    return float(np.sqrt(left / degrees))


def rows_of(people: list[Person], drawn: np.ndarray) -> list[tuple[str, ...]]:
    """Mean growth by group and age: real, forecast [N, FUTURES], and their difference in standard errors of the real mean."""
    rows = []
    for group in ("Nondemented", "Converted", "Demented"):
        for name, chosen in (
            ("all", lambda age: True), ("below 75", lambda age: age < 75), ("75 and up", lambda age: age >= 75)
        ):  # fmt: skip
            here = np.array([p.group == group and chosen(p.covariates.age) for p in people])
            if here.sum() < 3:
                continue
            real = 100 * np.array([p.growth for p, is_here in zip(people, here, strict=True) if is_here])
            error = real.std(ddof=1) / np.sqrt(len(real))
            expected = 100 * drawn[here].mean(axis=1)
            rows.append((
                group, name, str(len(real)), f"{real.mean():+.1f} ± {error:.1f}", f"{expected.mean():+.1f}",
                f"{(real.mean() - expected.mean()) / error:+.1f} SE", f"{real.std(ddof=1):.1f}",
            ))  # fmt: skip
    return rows


def person_by_person(people: list[Person], drawn: np.ndarray, noise: float, random: np.random.Generator) -> str:
    """Correlation of expected and real growth, and how many real changes lie within the middle 90 % of the forecast."""
    real = np.array([p.growth for p in people])
    expected = drawn.mean(axis=1)
    span = np.array([p.years[-1] for p in people])
    change = np.array([np.log(p.areas_mm2[-1] / p.areas_mm2[0]) for p in people])
    many = drawn.mean(axis=1)[:, None] + drawn.std(axis=1, ddof=1)[:, None] * random.standard_normal(
        (len(people), 4000)
    )
    measured = span[:, None] * many + noise * np.sqrt(2) * random.standard_normal(many.shape)
    low, high = np.quantile(measured, (0.05, 0.95), axis=1)
    inside = (low <= change) & (change <= high)
    error = np.sqrt(0.9 * 0.1 / len(people))
    squares = [
        np.square(100 * (real - guess)).mean()
        for guess in (np.zeros(len(real)), np.full(len(real), real.mean()), expected)
    ]
    return (
        f"correlation of real and expected growth {np.corrcoef(real, expected)[0, 1]:+.2f}; "
        f"root mean square error {np.sqrt(squares[2]):.1f} %/year (no change {np.sqrt(squares[0]):.1f}, "
        f"mean of these very people {np.sqrt(squares[1]):.1f}); 90 % bands with the noise of measurement hold "
        f"{100 * inside.mean():.0f} % of the changes (sampling error {100 * error:.0f})"
    )


def main() -> None:
    chosen = arguments(__doc__)
    people = read_people(chosen.data / FOLDER)
    noise = noise_sd(people)
    forecaster = Forecaster(load_model(None, torch.device("cpu")))
    by_volume = sum(
        float(forecaster.growth.of(f))
        for f, v in zip(forecaster.model.network.deformation.fields, VENTRICLES, strict=True)
        if v
    )
    text = [
        f"{len(people)} people of OASIS-2 with two usable axial slices or more, "
        f"{sum(len(p.years) for p in people)} visits. A measured area has a noise of {100 * noise:.1f} %. In the reference, "
        f"1 % more ventricle is {by_volume:.2f} % more area (the population assumes {AREA_PER_VOLUME:.2f}).",
    ]
    head = ("group", "age", "people", "real, %/year", "forecast, %/year", "difference", "real SD")
    for seen, title in ((False, "Age, sex and diagnosis alone"), (True, "With the ventricles of the first slice")):
        drawn = np.stack([forecaster.draws(person, seen, i) for i, person in enumerate(people)])
        text += [f"{title}:", markdown(head, rows_of(people, drawn))]
        text += ["Person by person: " + person_by_person(people, drawn, noise, np.random.default_rng(0)) + "."]
    publish("\n\n".join(text), chosen.table)


if __name__ == "__main__":
    main()
