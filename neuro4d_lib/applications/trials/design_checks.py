"""Checks of single settings of a design, each with the sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from neuro4d_lib.config import SettingError
from neuro4d_lib.data.treatment import members


def is_region(name: str) -> bool:
    try:
        return bool(members(name))
    except SettingError:
        return False


def check_region(key: str, name: str) -> None:
    try:
        members(name)
    except SettingError as error:
        raise SettingError(key, f"found {name!r}; {error.problem}") from None


def check_within(key: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise SettingError(key, f"found {value:g}; expected {low:g} to {high:g} {unit}".rstrip() + ".")


def check_all_within(key: str, values: Iterable[float], low: float, high: float, unit: str) -> None:
    if not values:
        raise SettingError(key, "expected one value or more.")
    for value in values:
        check_within(key, value, low, high, unit)


def check_choices(key: str, values: Iterable[object], known: Iterable[object]) -> None:
    known, values = list(known), list(values)
    listed = ", ".join(map(str, known)) or "nothing"
    if not values:
        raise SettingError(key, f"expected one or more of {listed}.")
    for value in values:
        if value not in known:
            raise SettingError(key, f"found {value!r}; expected one of {listed}.")
