"""Thresholds that a person's volume or rate may cross, as people write them: "hippocampus < -10%"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuro4d_lib.data.regions import AGGREGATES, DRIVEN
from neuro4d_lib.errors import InputError

Kind = Literal["change", "volume", "rate"]
REGION_NAMES = (*AGGREGATES, *(region.name for region in DRIVEN))
EXAMPLES = '"hippocampus < -10%" (change since the scan), "hippocampus < 5.5 ml" or "hippocampus < -3 %/year"'
MM3_PER_ML = 1000.0

_KINDS: dict[str, Kind] = {"%": "change", "ml": "volume", "mm3": "volume", "%/year": "rate", "%/y": "rate"}
_FORM = re.compile(r"\s*([A-Za-z_][\w ]*?)\s*([<>])\s*([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*(\S.*?)?\s*")


@dataclass(frozen=True)
class Threshold:
    """Region `below` (or above) a value.

    Attributes:
        value: of a change %, of a volume mm3, of a rate %/year, compounded.
    """

    text: str
    region: str
    below: bool
    value: float
    kind: Kind

    def log_change(self, years: np.ndarray | float, baseline_mm3: float) -> np.ndarray:
        """The log-volume change since the scan at which it is crossed, at `years` after the scan."""
        years = np.asarray(years, dtype=float)
        if self.kind == "rate":
            return np.asarray(years * math.log1p(self.value / 100))
        if self.kind == "volume":
            return np.full_like(years, math.log(self.value / baseline_mm3))
        return np.full_like(years, math.log1p(self.value / 100))


def read_threshold(text: str) -> Threshold:
    """`text` understood, or an InputError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InputError(f"The threshold {text!r} is not understood. Write it as {EXAMPLES}.")
    region = checked_region(found[1].strip().replace(" ", "_"))
    unit = re.sub(r"\s+", "", (found[4] or "").lower()).replace("peryear", "/year").replace("³", "3")
    if unit not in _KINDS:
        stated = f"the unit {found[4]!r}" if found[4] else "no unit"
        raise InputError(
            f"The threshold {text!r} has {stated}; expected one of %, ml, mm3 or %/year, as in {EXAMPLES}."
        )
    kind, value = _KINDS[unit], float(found[3]) * (MM3_PER_ML if unit == "ml" else 1.0)
    if kind == "volume" and value <= 0:
        raise InputError(f"The threshold {text!r} is a volume of 0 or less; expected more than 0 {unit}.")
    if kind != "volume" and value <= -100:
        raise InputError(f"The threshold {text!r} is a loss of everything; expected more than -100 {unit}.")
    return Threshold(text.strip(), region, found[2] == "<", value, kind)


def checked_region(name: str) -> str:
    if name not in REGION_NAMES:
        single = ", ".join(region.name for region in DRIVEN if region.side == "both")
        raise InputError(
            f"There is no region {name!r}. Regions: {', '.join(AGGREGATES)}, {single}; "
            "left_ and right_ of those with two sides."
        )
    return name


def check_not_crossed(threshold: Threshold, baseline_mm3: float) -> None:
    """Refuse a threshold that this person, or everybody, has crossed at the scan."""
    if threshold.kind == "rate":
        return  # compared with people of the same covariates where their law is known
    limit = float(threshold.log_change(0.0, baseline_mm3))
    if (limit > 0) if threshold.below else (limit < 0):
        side = "below" if threshold.below else "above"
        now = (
            f"the scan shows {baseline_mm3 / MM3_PER_ML:.3g} ml"
            if threshold.kind == "volume"
            else "a change starts at 0 %"
        )
        raise InputError(
            f"The threshold {threshold.text!r} is crossed already: {now}, which is {side} it. "
            "Choose one that lies ahead."
        )


def checked_thresholds(texts: Sequence[str]) -> tuple[Threshold, ...]:
    """All of them, each once; one region is not asked about in two units of volume."""
    read = tuple(read_threshold(text) for text in texts)
    if len(set(read)) < len(read):
        raise InputError("The same threshold is given twice. Give it once.")
    return read
