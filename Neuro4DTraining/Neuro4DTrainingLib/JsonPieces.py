"""A JSON object with long lists, read a little at a time: reading it at once would hold up the panel."""

import json
import re
from collections.abc import Iterator

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def pieces(text: str, into: dict) -> Iterator[None]:
    """Fill `into` with what the object `text` holds; yields after every value and every item of its own lists.

    Raises:
        ValueError: where it is not an object, or not JSON.
    """
    place = _expect(text, _after(text, 0), "{")
    while not text.startswith("}", place):
        key, place = _DECODER.raw_decode(text, place)
        place = _after(text, _expect(text, _after(text, place), ":"))
        if text.startswith("[", place):
            into[key] = items = []
            place = _after(text, place + 1)
            while not text.startswith("]", place):
                item, place = _DECODER.raw_decode(text, place)
                items.append(item)
                place = _next(text, place, "]")
                yield
            place += 1
        else:
            into[key], place = _DECODER.raw_decode(text, place)
            yield
        place = _next(text, place, "}")


def _after(text: str, place: int) -> int:
    """Behind white space."""
    return _SPACE.match(text, place).end()


def _expect(text: str, place: int, sign: str) -> int:
    if not text.startswith(sign, place):
        raise ValueError(f"expected {sign} at character {place}")
    return _after(text, place + 1)


def _next(text: str, place: int, end: str) -> int:
    """Behind the comma, or at the end sign."""
    place = _after(text, place)
    return place if text.startswith(end, place) else _expect(text, place, ",")
