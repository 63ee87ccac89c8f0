"""Tables as people keep them, CSV or TSV, to rows that know their file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.errors import InputError

UNKNOWN = ("", "n/a", "na", "nan", "none", "null", "unknown", ".", "?", "-")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".xlsm")
SEPARATORS = {".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True)
class Row:
    """One line of a table: text by column, with nothing known as "".

    Attributes:
        line: from 1; the header is line 1.
        own: where `values` go by meaning, the cells by the table's own names of columns.
    """

    values: Mapping[str, str]
    file: Path
    line: int
    own: Mapping[str, str] = field(default_factory=dict)

    def get(self, column: str) -> str:
        return known(self.values.get(column, ""))


def known(cell: str) -> str:
    """The text of a cell, "" where it says that nothing is known."""
    text = cell.strip()
    return "" if text.lower() in UNKNOWN else text


def read_table(path: Path, findings: Findings, needed: str | None = None) -> list[Row]:
    """Rows of a table that has a header. A line that has more cells than the header is reported and left out.

    Args:
        needed: a column that must be there.
    """
    text = _text(path)
    separator, usual = _separator(text), SEPARATORS.get(path.suffix.lower())
    if usual is not None and (usual in text.lstrip("\n\r").partition("\n")[0] or not separator):
        separator = usual
    elif usual is not None:
        findings.add("columns", f"the columns are separated by {separator!r}, not by tabs as the name says", path, 1)
    separator = separator or ","
    records = _records(path, text, separator, findings)
    header = [" ".join(name.split()) for name in records[0][1]] if records else []
    while header and not header[-1]:
        header.pop()
    if not header:
        raise InputError(f"{path} has no names of columns in its first line. Expected a table with a header.")
    twice = next((name for i, name in enumerate(header) if name and name in header[:i]), None)
    if twice is not None:
        findings.add("columns", f"two columns are called {twice!r}; the first is used. Rename or remove one", path, 1)
    if needed is not None and needed not in header:
        kind = "tab" if separator == "\t" else f"{separator!r}"
        raise InputError(
            f"{path} has no column {needed!r}; it has {', '.join(header[:8])}. Expected {kind}-separated columns, "
            f"{needed} among them."
        )
    rows = []
    for line, cells in records[1:]:
        if any(cell.strip() for cell in cells[len(header) :]):
            findings.add(
                "broken lines",
                f"this line has more cells than the header has columns ({len(header)}); it is left out. Look for a stray "
                "separator or quotation mark",
                path,
                line,
            )
            continue
        values: dict[str, str] = {}
        for name, cell in zip(header, cells, strict=False):
            values.setdefault(name, cell)
        rows.append(Row(values, path, line))
    return rows


def _records(path: Path, text: str, separator: str, findings: Findings) -> list[tuple[int, list[str]]]:
    """The cells of each line that has any, with its number: of a cell of several lines, that of the first."""
    quoted = separator != "\t"
    try:
        try:
            return _split(text, separator, quoted, strict=True)
        except csv.Error as problem:
            if "unexpected end" not in str(problem):
                return _split(text, separator, quoted, strict=False)
        said = "a quotation mark is not closed; quotation marks are taken as they stand. Close it"
        findings.add("broken lines", said, path)
        return _split(text, separator, quoted=False, strict=False)
    except csv.Error as problem:
        raise InputError(f"{path} cannot be read as a table ({problem}). Save it as CSV again.") from None


def _split(text: str, separator: str, quoted: bool, strict: bool) -> list[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=strict,
    )
    records, line = [], 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            records.append((line, cells))
        line = reader.line_num + 1
    return records


def _text(path: Path) -> str:
    if path.suffix.lower() in SPREADSHEETS:
        raise InputError(f"{path} is a spreadsheet. Save it as CSV (comma separated, UTF-8), and give that file.")
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path} cannot be read: {problem.strerror or problem}. Check its permissions.") from None
    if not content.strip():
        raise InputError(f"{path} is empty. Expected a table with names of columns in its first line.")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content or content.startswith(b"PK\x03\x04"):
        raise InputError(f"{path} is no text. Expected a table as text: in a spreadsheet program, save it as CSV.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode(
            "cp1252", errors="replace"
        )  # what spreadsheet programs write in western Europe and America


def _separator(text: str) -> str:
    """What the header separates its columns by; "" where it is one column."""
    header = text.lstrip("\n\r").partition("\n")[0]
    most = max((",", ";", "\t", "|"), key=header.count)
    return most if most in header else ""
