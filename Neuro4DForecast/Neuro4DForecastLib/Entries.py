"""What was typed into the panel -> values, or a sentence about what is wrong with it. No Slicer, no Qt."""

import itertools
import math
import re
from dataclasses import dataclass, field

from Neuro4DForecastLib.Problem import Problem

UNKNOWN = "unknown"
SEXES = [UNKNOWN, "F", "M"]
APOE4_COUNTS = [UNKNOWN, "0", "1", "2"]
DIAGNOSES = [UNKNOWN, "CN", "MCI", "AD", "PD", "MS"]
LARGEST_YEAR, MOST_YEARS, LEAST_STEP = 30, 12, 0.01


@dataclass(frozen=True)
class Request:
    """All that a forecast needs to know beside the volumes."""

    years: tuple[float, ...]
    covariates: dict = field(default_factory=dict)
    futures: int = 8
    seed: int = 0
    model: str = ""
    device: str = "auto"
    movingVolume: bool = False


def number(text: str, low: float, high: float, name: str, unit: str, entry: str) -> float | None:
    """The number in `text`; None where it is empty or says unknown."""
    text = text.strip()
    if text in ("", UNKNOWN, "?"):
        return None
    expected = f"Expected {low:g} to {high:g} {unit}, or nothing if it is unknown."
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise Problem(f"The {name} is “{text}”, which is not a number. {expected}", entry) from None
    if not (math.isfinite(value) and low <= value <= high):
        raise Problem(f"The {name} is {text}. {expected}", entry)
    return value


def years(text: str) -> tuple[float, ...]:
    """`1 2 3 5`, `1, 2.5; 4`, `1-5` (each year) or `1-3:0.5` (each half year), with or without spaces around the signs."""
    example = "Write years ahead such as “1 2 3 5”, or a range such as “1-5” or “1-3:0.5”."
    found = []
    for piece in re.split(r"[\s,;]+", re.sub(r"(?<=\d)\s+([-–:])\s+(?=\d)", r"\1", text.strip())):
        if not piece:
            continue
        match = re.fullmatch(r"(\d+\.?\d*)(?:[-–](\d+\.?\d*)(?::(\d+\.?\d*))?)?", piece)
        if match is None:
            raise Problem(f"“{piece}” is not a year. {example}", "years")
        first, last, step = (float(part) if part else None for part in match.groups())
        if last is None:
            found.append(first)
            continue
        step = 1.0 if step is None else step
        if step <= 0 or last < first or (last - first) / step > 100:
            raise Problem(f"“{piece}” is not a range of years. {example}", "years")
        found += [round(first + i * step, 6) for i in range(int((last - first) / step + 1e-9) + 1)]
    if not found:
        raise Problem(f"No year to forecast. {example}", "years")
    result = tuple(sorted(set(found)))
    if result[0] < 0.05 or result[-1] > LARGEST_YEAR:
        raise Problem(f"Years ahead go from 0.05 to {LARGEST_YEAR}; found {result[0]:g} to {result[-1]:g}.", "years")
    for earlier, later in itertools.pairwise(result):
        if later - earlier < LEAST_STEP - 1e-9:
            raise Problem(
                f"The years {earlier:g} and {later:g} are less than {LEAST_STEP:g} apart. Leave one out.", "years"
            )
    if len(result) > MOST_YEARS:
        raise Problem(f"{len(result)} years were asked for; one forecast takes at most {MOST_YEARS}.", "years")
    return result


def covariates(age: str, sex: str, education: str, apoe4: str, diagnosis: str) -> dict:
    """Known covariates only."""
    values = {
        "age": number(age, 18, 100, "age", "years", "age"),
        "sex": None if sex == UNKNOWN else sex,
        "education": number(education, 0, 30, "education", "years", "education"),
        "apoe4": None if apoe4 == UNKNOWN else int(apoe4),
        "diagnosis": None if diagnosis == UNKNOWN else diagnosis,
    }
    for name, allowed in (("sex", SEXES), ("diagnosis", DIAGNOSES)):
        if values[name] is not None and values[name] not in allowed:
            raise Problem(f"The {name} is “{values[name]}”. Expected one of {', '.join(allowed)}.", name)
    return {name: value for name, value in values.items() if value is not None}


def yearsBefore(text: str) -> float:
    """Years from an earlier scan to the scan, as a positive number."""
    value = number(text.lstrip("-−"), 0.01, 60, "time before the scan", "years", "earlierScans")
    if value is None:
        raise Problem("An earlier scan has no date. Enter how many years before the scan it was taken.", "earlierScans")
    return value
