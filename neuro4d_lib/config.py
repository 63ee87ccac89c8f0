"""Settings: frozen dataclasses whose help is written once and serves command line, panel and model card."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from neuro4d_lib.errors import InputError

T = TypeVar("T")


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
        raise InputError(f"{where}: expected a table of settings, found {type(values).__name__}.")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{where}: unknown setting {unknown[0]!r}. Known settings: {', '.join(sorted(known))}.")
    return kind(**{name: _typed(hints[name], value, f"{where}.{name}") for name, value in values.items()})


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
            raise InputError(f"{where}: expected a list, found {value!r}.")
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise InputError(f"{where}: expected {len(kinds)} values, found {len(value)}.")
        return tuple(
            _typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected a table, found {value!r}.")
        return {key: _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (bool, int, float, str) and type(value) is not hint:
        raise InputError(f"{where}: expected {hint.__name__}, found {value!r}.")
    return value
