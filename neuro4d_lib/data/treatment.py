"""What a hypothetical treatment does to the rates of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.data.regions import AGGREGATES, DRIVEN

_NAMES = tuple(region.name for region in DRIVEN)
MOST_SLOWING = 2.0


def members(name: str) -> tuple[str, ...]:
    """The driven regions behind a name: of one region, of both sides of a structure, of the cortex, of the whole brain."""
    parts = AGGREGATES.get(name, (name,))
    if not set(parts) <= set(_NAMES):
        known = ", ".join([*AGGREGATES, *(region.name for region in DRIVEN if region.side == "both")])
        raise SettingError(
            name, f"there is no such region. Regions: {known}; left_ and right_ of those with two sides."
        )
    return parts


def by_region(values: Mapping[str, float]) -> np.ndarray:
    """[R] one value for every driven region; where two names hold the same region the smaller one counts, else 0."""
    result = np.zeros(len(_NAMES))
    for name in sorted(values, key=lambda name: -len(members(name))):
        result[[_NAMES.index(part) for part in members(name)]] = values[name]
    return result


def check_slowing(slowing: Mapping[str, float], others: Sequence[str] = ()) -> None:
    """Refuse a region that does not exist, unless it is one of `others`, and a share that looks like percent."""
    for name, share in slowing.items():
        try:
            parts = members(name) if name not in others else ()
        except SettingError as error:
            raise SettingError(f"slowing.{name}", error.problem) from None
        if not -MOST_SLOWING <= share <= MOST_SLOWING:
            raise SettingError(
                f"slowing.{name}",
                f"found {share:g}; expected a share of the change, {-MOST_SLOWING:g} to {MOST_SLOWING:g}: 0.25 is 25 % "
                "slower, -0.25 is 25 % faster.",
            )
        for other in slowing:
            if other != name and len(parts) > 1 and other not in others and parts == members(other):
                raise SettingError(f"slowing.{name}", f"{other} is the same region. Name it once.")


@dataclass(frozen=True)
class Treatment:
    """Slower, or faster, change of regions from some time on."""

    slowing: dict[str, float] = documented(
        {}, help="Share by which change is slowed, by region or sum of regions: 0.25 is 25 %, negative is faster."
    )
    onset_years: float = documented(0.0, help="Years after the scan at which the effect begins, at once in full.")

    def __post_init__(self) -> None:
        check_slowing(self.slowing)
        if not 0 <= self.onset_years < float("inf"):
            raise SettingError("onset_years", f"found {self.onset_years:g}; expected 0 or more years.")

    def rate_factors(self, years: Sequence[float]) -> Tensor:
        """[T, R] by what the mean rate of each driven region up to each of `years` is multiplied.

        The course before the onset is taken as even: of tau years the last tau - onset count as treated.
        """
        import torch

        treated = np.array([max(0.0, year - self.onset_years) / year for year in years])
        return torch.from_numpy(1 - treated[:, None] * by_region(self.slowing))
