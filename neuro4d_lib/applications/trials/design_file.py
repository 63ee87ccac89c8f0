"""A design in a TOML file: what is wrong with it is said with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.law import with_noise
from neuro4d_lib.config import SettingError, from_dict, read_settings
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.errors import InputError

_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n=]|[^\[\]{}\n="\'#]+',
    re.S,
)


def read_design(path: Path) -> tuple[TrialDesign, PopulationConfig]:
    """The design, and the assumptions about people that it goes with. Anything wrong is an InputError."""
    values, lines = _read(path)
    try:
        design = from_dict(TrialDesign, values, "")
        config = PopulationConfig()
        if design.population:
            config = read_settings(path.parent / design.population, PopulationConfig)
        with_noise(config, design)
        if design.duration_years > config.longest_years:
            raise SettingError("visits_years", _too_late(design.duration_years, config.longest_years))
        if design.optimization and max(design.optimization.durations_years) > config.longest_years:
            longest = max(design.optimization.durations_years)
            raise SettingError("optimization.durations_years", _too_late(longest, config.longest_years))
        return design, config
    except SettingError as error:
        raise InputError(f"{path}, line {_line(lines, error.key)}: {error}".replace(": : ", ": ")) from None


def _too_late(years: float, longest: float) -> str:
    hint = " Visits are in years: 18 months are 1.5." if years > 2 * longest else ""
    return f"found {years:g} years; the law of the simulated people ends at {longest:g} years.{hint}"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Values and lines of a TOML file."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib  # type: ignore[no-redef]
        except ImportError:
            raise InputError("Python 3.10 reads designs with tomli. Install it with: pip install tomli") from None
    if not path.is_file():
        raise InputError(f"There is no design file {path}. docs/examples/trial_ad.toml is one to start from.")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        return tomllib.loads(text), key_lines(text)
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file; expected a design in TOML.") from None
    except tomllib.TOMLDecodeError as problem:
        place = re.search(r"\(at line (\d+)", str(problem))
        where = f", line {place.group(1)}" if place else ""
        what = re.sub(r" \(at [^)]*\)$", "", str(problem))
        raise InputError(f"{path}{where}: no valid TOML ({what}).") from None


def key_lines(text: str) -> dict[str, int]:
    """The line in which each key and table of a valid TOML text begins, by its place, such as arms[1].slowing."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table, line, depth, statement = "", 1, 0, ""
    began, value = 1, False
    for token in [match.group() for match in _TOKEN.finditer(text + "\n")]:
        if token == "\n" and depth == 0:
            if statement.strip().startswith("["):
                table = _header(statement.strip(), counts)
                lines.setdefault(table, began)
            elif value:
                place = table
                for part in _keys(statement):
                    place = f"{place}.{part}" if place else part
                    lines.setdefault(place, began)
            statement, value = "", False
        elif token.startswith("#"):
            pass
        elif value:
            depth += (token in "[{") - (token in "]}") if len(token) == 1 else 0
        elif token == "=":
            value = True
        else:
            if not statement.strip():
                began = line
            statement += token
        line += token.count("\n")
    return lines


def _header(statement: str, counts: dict[str, int]) -> str:
    """`[a.b]` or `[[a]]` as the place of that table; a list of tables is counted."""
    place = ""
    parts = _keys(statement)
    for i, part in enumerate(parts):
        place = f"{place}.{part}" if place else part
        if statement.startswith("[[") and i == len(parts) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = f"{place}[{counts[place]}]"
    return place


def _keys(statement: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in _PARTS.findall(statement)]


def _line(lines: dict[str, int], key: str) -> int:
    """The line of a key, or of the table that it stands in; a list's items stand in the line of the list."""
    while key and key not in lines:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return lines.get(key, 1)
