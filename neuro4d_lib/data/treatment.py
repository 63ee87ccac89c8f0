"""What a hypothetical treatment does to the rates of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    """Slower, or faster, change of regions from some time on, and volume that is added beside it."""

    slowing: dict[str, float] = documented(
        {}, help="Share by which change is slowed, by region or sum of regions: 0.25 is 25 %, negative is faster."
    )
    onset_years: float = documented(0.0, help="Years after the scan at which the effect begins, at once in full.")
    added_ml: dict[str, float] = documented({}, help="Volume added (or taken, negative), mL, by region or sum.")
    added_over_years: float = documented(1.0, help="Years after the onset in which that is added, evenly.")

    def __post_init__(self) -> None:
        check_slowing(self.slowing)
        for name in self.added_ml:
            try:
                members(name)
            except SettingError as error:
                raise SettingError(f"added_ml.{name}", error.problem) from None
        if not 0 <= self.onset_years < float("inf"):
            raise SettingError("onset_years", f"found {self.onset_years:g}; expected 0 or more years.")
        if not 0 < self.added_over_years < float("inf"):
            raise SettingError("added_over_years", f"found {self.added_over_years:g}; expected more than 0 years.")

    def rates(self, rates: np.ndarray, years: np.ndarray, baseline_mm3: np.ndarray) -> np.ndarray:
        """Mean log-volume rates with the treatment.

        The course before the onset is taken as even: of tau years the last tau - onset count as treated.

        Args:
            rates: [..., T, R] of the driven regions without it, per year, each the mean from 0 to its year.
            years: [T].
            baseline_mm3: [R] volumes at year 0; NaN or 0 where the scan does not show a region, to which nothing is added.
        """
        treated = np.clip(years - self.onset_years, 0, None)[:, None]
        change = rates * (years[:, None] - by_region(self.slowing) * treated)
        if any(self.added_ml.values()):
            share = np.clip(treated / self.added_over_years, 0, 1) * self._added_shares(baseline_mm3)
            grown = np.exp(change) + share
            if (grown <= 0).any():
                region = _NAMES[int((grown <= 0).reshape(-1, len(_NAMES)).any(axis=0).argmax())]
                raise SettingError(
                    "added_ml", f"more is taken than {region} has: its volume would be negative. Take less."
                )
            change = np.where(share == 0, change, np.log(grown))
        return change / years[:, None]

    def _added_shares(self, baseline_mm3: np.ndarray) -> np.ndarray:
        """[R] what is added in the end, as a share of the region's volume."""
        shares = np.zeros(len(_NAMES))
        for name, added_ml in self.added_ml.items():
            places = [_NAMES.index(part) for part in members(name)]
            shown = [place for place in places if baseline_mm3[place] > 0]
            if shown:
                shares[shown] += 1000 * added_ml / baseline_mm3[shown].sum()
        return shares
