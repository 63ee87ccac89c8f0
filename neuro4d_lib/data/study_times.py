"""When visits were: columns of a table to years, whatever the unit, and what they may be mistaken for."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence

from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.data.study_values import number
from neuro4d_lib.data.text_tables import Row

DAYS_PER_YEAR = 365.25
LEAST_GAP_YEARS, MOST_YEARS = 1 / DAYS_PER_YEAR, 40.0
# Columns that say when, and years per unit of each; the first one that is known at most visits is used.
TIME_COLUMNS = {
    "days_since_first": 1 / DAYS_PER_YEAR,
    "days_since_baseline": 1 / DAYS_PER_YEAR,
    "days": 1 / DAYS_PER_YEAR,
    "months_since_first": 1 / 12,
    "months_since_baseline": 1 / 12,
    "months": 1 / 12,
    "years_since_first": 1.0,
    "years_since_baseline": 1.0,
    "years": 1.0,
}
DATE_COLUMNS = ("acq_time", "date", "session_date", "scan_date", "visit_date")
ORDER = (*TIME_COLUMNS, *DATE_COLUMNS, "age")
BASELINE = ("bl", "baseline", "sc", "screening")
AGE_SLACK_YEARS = 1.5
_CLEAR_FORMATS = ("%Y/%m/%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%Y%m%d")
_UNCLEAR_FORMATS = ("%m/%d/%Y", "%d/%m/%Y")


class Calendar:
    """Reads dates. Which of day and month comes first is decided by all dates of a column together, never guessed."""

    def __init__(self, rows: Iterable[Row], findings: Findings, date_format: str | None = None) -> None:
        self._findings, self._own = findings, date_format
        self._order: dict[str, str | None] = {}
        texts: dict[str, list[str]] = {}
        for row in rows:
            for column in DATE_COLUMNS:
                if row.get(column):
                    texts.setdefault(column, []).append(row.get(column))
        for column, found in texts.items():
            self._order[column] = self._decided(found)

    def years(self, row: Row, column: str) -> float | None:
        """Years from a common origin; None where the date is unknown or cannot be read, which is reported."""
        text = row.get(column)
        if not text:
            return None
        moment = self._clear(text)
        unclear = re.fullmatch(r"\d{1,2}[/-]\d{1,2}[/-]\d{4}", text)
        if moment is None and unclear and self._order.get(column):
            moment = _parsed(text.replace("-", "/"), str(self._order[column]))
        if moment is not None and not 1900 <= moment.year <= datetime.datetime.now().year + 1:
            moment, unclear = None, None
        if moment is not None:
            return (moment - datetime.datetime(1970, 1, 1)).total_seconds() / 86_400 / DAYS_PER_YEAR
        if unclear and self._own is None and column in self._order and self._order[column] is None:
            said = f"the dates of the column {column!r} do not tell whether day or month comes first"
            todo = 'write them as 2021-05-30, or say "date_format": "%m/%d/%Y" in a file for --columns'
            self._findings.repeat("dates", f"{said}; they are treated as unknown: {todo}", row.file, row.line)
        else:
            said = f"{column} is {text!r}; expected a date such as 2021-05-30"
            self._findings.repeat("dates", f"{said}. It is treated as unknown", row.file, row.line)
        return None

    def _clear(self, text: str) -> datetime.datetime | None:
        if self._own is not None and (moment := _parsed(text, self._own)) is not None:
            return moment
        try:
            if re.match(r"\d{4}-", text):
                seconds = re.sub(r"\.\d+|Z$|[+-]\d\d:?\d\d$", "", text)  # of no account over years
                return datetime.datetime.fromisoformat(seconds)
        except ValueError:
            return None
        return next((moment for style in _CLEAR_FORMATS if (moment := _parsed(text, style)) is not None), None)

    def _decided(self, texts: Sequence[str]) -> str | None:
        """The one reading that fits more dates than the other."""
        plain = [text.replace("-", "/") for text in texts]
        fits = [sum(_parsed(text, style) is not None for text in plain) for style in _UNCLEAR_FORMATS]
        if fits[0] == fits[1]:
            return None
        return _UNCLEAR_FORMATS[fits.index(max(fits))]


def years_in(row: Row, column: str, calendar: Calendar, findings: Findings) -> float | None:
    """Years by one column, from any origin."""
    if column in DATE_COLUMNS:
        return calendar.years(row, column)
    value = number(row, column, findings)
    return None if value is None else value * TIME_COLUMNS.get(column, 1.0)


def chosen_column(rows: Sequence[Row], calendar: Calendar, findings: Findings) -> str | None:
    """The column by which most visits have a time; the earlier in ORDER of several such."""
    known = {c: sum(years_in(row, c, calendar, Findings()) is not None for row in rows) for c in ORDER}
    best = max(ORDER, key=lambda column: known[column])
    for column in ORDER:  # tell what could not be read, of the columns that were preferred to the chosen one
        if column == best or known[best] == 0:
            break
        for row in rows:
            years_in(row, column, calendar, findings)
    return best if known[best] else None


def doubtful_unit(years: Sequence[float], column: str) -> str:
    """Why times cannot be in the unit of their column, or "". They are since the first."""
    last = max(years)
    if last > MOST_YEARS:
        return f"its visits lie {last:g} years apart by the column {column!r}; are these {_smaller(column)}?"
    if column.startswith("days") and 0 < last < 15 / DAYS_PER_YEAR:
        return f"its visits lie {last * DAYS_PER_YEAR:g} days apart by the column {column!r}; are these years?"
    return ""


def perhaps_months(years: Sequence[float], column: str) -> bool:
    """Whether times in days or years look as if they were months: multiples of 6, and an unlikely time as they stand."""
    unit = TIME_COLUMNS.get(column, 1.0)
    values = [value / unit for value in years if value > 0]
    whole = bool(values) and all(abs(value / 6 - round(value / 6)) < 1e-6 for value in values)
    return whole and (column.startswith("years") or (column.startswith("days") and max(values) <= 60))


def out_of_order(sessions: Sequence[str], years: Sequence[float]) -> tuple[int, int] | None:
    """Two visits whose numbered labels say another order than their times, as (the earlier by label, the other)."""
    labels = [_numbered(session) for session in sessions]
    for i, session in enumerate(sessions):
        if session.removeprefix("ses-").lower() in BASELINE:
            for j, other in enumerate(sessions):
                if years[j] < years[i] and other.removeprefix("ses-").lower() not in BASELINE:
                    return i, j
    for i, (prefix, count) in enumerate(labels):
        for j, (other, later) in enumerate(labels):
            if prefix == other and count is not None and later is not None and count < later and years[i] > years[j]:
                return i, j
    return None


def session_order(session: str) -> tuple[str, float, str]:
    """By number, so that ses-2 comes before ses-10."""
    prefix, count = _numbered(session)
    return (prefix, -1.0 if count is None else count, session)


def _numbered(session: str) -> tuple[str, float | None]:
    """What stands before the number of a label, and the number. The baseline (bl) is month 0 of m06, m12, ..."""
    label = session.removeprefix("ses-").lower()
    if label in BASELINE:
        return "m", 0.0
    match = re.fullmatch(r"([a-z_ -]*?)(\d{1,7})", label)
    return (match[1], float(match[2])) if match else (label, None)


def _smaller(column: str) -> str:
    if column == "age":
        return "days, or ages of different people"
    return "days" if column.startswith(("years", "months")) else "hours" if column.startswith("days") else "other dates"


def _parsed(text: str, style: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(text, style)
    except ValueError:
        return None
