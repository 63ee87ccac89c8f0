"""Settings: frozen dataclasses whose help is written once and serves command line, panel and model card."""

from __future__ import annotations

import bisect
import dataclasses
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from neuro4d_lib.errors import InputError

T = TypeVar("T")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class SettingError(InputError):
    """A setting that cannot be used. `key` is its place, such as training.steps."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


def documented(default: Any, *, help: str, source: str = "") -> Any:
    """A dataclass field with its help and, for an assumption about people, its source ("assumed" where there is none)."""
    metadata = {"help": help, "source": source}
    if isinstance(default, (list, dict, set)):
        return dataclasses.field(default_factory=lambda: default.copy(), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain JSON-ready values of a settings dataclass, nested ones included."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def from_dict(kind: type[T], values: dict[str, Any], where: str = "settings") -> T:
    """Build `kind` from plain values; an unknown key or a value of the wrong type is an InputError that names it."""
    if not isinstance(values, dict):
        raise SettingError(where, f"expected a table of settings, found {values!r}.")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        place = _place(where, unknown[0])
        raise SettingError(place, f"unknown setting. Known settings: {', '.join(sorted(known))}.")
    needed = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in values]
    if missing:
        raise SettingError(where, f"{missing[0]} is missing; expected {', '.join(needed)}.")
    typed = {name: _typed(hints[name], value, _place(where, name)) for name, value in values.items()}
    try:
        return kind(**typed)
    except SettingError as error:  # a value that the class itself refuses
        raise SettingError(_place(where, error.key), error.problem) from None


def read_settings(path: Path, kind: type[T]) -> T:
    """Settings from a JSON file. What is wrong is an InputError that names its line."""
    if not path.is_file():
        raise InputError(f"There is no configuration file {path}.")

    def refuse_constant(name: str) -> NoReturn:
        raise InputError(f"{path}: {name} is no value that a setting can have.")

    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text, parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise InputError(f'{path} is no text file. Expected JSON, such as {{"training": {{"steps": 6000}}}}.') from None
    except json.JSONDecodeError as problem:
        raise InputError(f"{path}, line {problem.lineno}: no valid JSON ({problem.msg}).") from None
    lines = key_lines(text)
    for key, found in lines.items():
        if len(found) > 1:
            raise InputError(f"{path}, line {found[1]}: {key} stands there a second time (first in line {found[0]}).")
    try:
        return from_dict(kind, values, "")
    except SettingError as error:
        line = lines.get(error.key, [1])[0]
        raise InputError(f"{path}, line {line}: {error}" if error.key else f"{path}: {error.problem}") from None


def key_lines(text: str) -> dict[str, list[int]]:
    """The lines in which each key and list item of a valid JSON text stands, by its place, such as training.widths[1]."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    tokens = [(match.group(), bisect.bisect_right(starts, match.start())) for match in _TOKEN.finditer(text)]
    lines: dict[str, list[int]] = {}

    def walk(i: int, where: str) -> int:
        """Past the value whose first token is `i`: the place of the token after it."""
        opening = tokens[i][0]
        if opening not in ("{", "["):
            return i + 1
        i, item = i + 1, 0
        while tokens[i][0] not in ("}", "]"):
            token, line = tokens[i]
            if token == ",":
                i += 1
                continue
            place = _place(where, json.loads(token)) if opening == "{" else f"{where}[{item}]"
            lines.setdefault(place, []).append(line)
            i, item = walk(i + 2 if opening == "{" else i, place), item + 1
        return i + 1

    walk(0, "")
    return lines


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` asks for, or an InputError that names the setting."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(next(kind for kind in arguments if kind is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingError(where, f"expected a list, found {value!r}.")
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise SettingError(where, f"expected {len(kinds)} values, found {len(value)}.")
        return tuple(
            _typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise SettingError(where, f"expected a table, found {value!r}.")
        return {key: _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (bool, int, float, str) and type(value) is not hint:
        raise SettingError(where, f"expected {hint.__name__}, found {value!r}.")
    return value
