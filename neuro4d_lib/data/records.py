"""What the other parts pass to each other: covariates and images."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

DIAGNOSES = ("CN", "MCI", "AD", "PD", "MS")
SEXES = ("F", "M")


@dataclass(frozen=True)
class Covariates:
    """What is known of a person at the latest scan. None means unknown.

    Attributes:
        age: years, 18 to 100.
        sex: "F" or "M".
        education_years: years of education, 0 to 30.
        apoe4: number of APOE e4 alleles: 0, 1 or 2.
        diagnosis: CN, MCI, AD, PD or MS.
    """

    age: float | None = None
    sex: str | None = None
    education_years: float | None = None
    apoe4: int | None = None
    diagnosis: str | None = None

    def __post_init__(self) -> None:
        # Numbers of numpy and pandas become Python's own, which JSON can hold.
        for name in ("age", "education_years", "apoe4"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        _check_number("age", self.age, 18, 100, "years")
        _check_number("education", self.education_years, 0, 30, "years")
        _check_choice("sex", self.sex, SEXES)
        _check_choice("APOE e4 count", self.apoe4, (0, 1, 2))
        _check_choice("diagnosis", self.diagnosis, DIAGNOSES)

    def as_dict(self) -> dict[str, float | int | str | None]:
        return dataclasses.asdict(self)


def _plain(value: Any) -> Any:
    """A number as Python's int or float; anything else as it is."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def _check_number(name: str, value: float | None, low: float, high: float, unit: str) -> None:
    if value is not None and not (
        isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    ):
        raise InputError(f"The {name} is {value!r}; expected {low} to {high} {unit}. Leave it out if it is unknown.")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value is not None and (isinstance(value, bool) or value not in choices):
        listed = ", ".join(map(str, choices))
        raise InputError(f"The {name} is {value!r}; expected one of {listed}. Leave it out if it is unknown.")


@dataclass(frozen=True, eq=False)
class Image:
    """One 3D image with its place in the world.

    Attributes:
        array: [D, H, W] as stored in the file: own axis order, own type, own scale of intensity.
        affine: 4x4, voxel indices to RAS mm.
        dtype: type on disk, in this machine's byte order.
        slope, inter: stored value * slope + inter = intensity.
        path: where it came from, for messages.
        sform_code, qform_code: what the coordinates mean, by NIfTI's codes; 0 where the file states no such affine.
    """

    array: np.ndarray
    affine: np.ndarray
    dtype: np.dtype
    slope: float = 1.0
    inter: float = 0.0
    path: str = ""
    sform_code: int = 1
    qform_code: int = 1

    @property
    def grid(self) -> Grid:
        depth, height, width = self.array.shape
        return Grid((depth, height, width), self.affine)

    def intensities(self) -> np.ndarray:
        """[D, H, W] float32: the stored values, scaled."""
        return self.array.astype(np.float32) * np.float32(self.slope) + np.float32(self.inter)
