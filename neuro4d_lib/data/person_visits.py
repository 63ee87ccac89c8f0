"""The visits of one person in order of time, with what is known at each; what cannot be used is left out and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuro4d_lib.data.found_people import FoundPerson, FoundVisit
from neuro4d_lib.data.scan_files import ScanFile
from neuro4d_lib.data.study_records import Findings, Visit
from neuro4d_lib.data.study_times import (
    AGE_SLACK_YEARS,
    LEAST_GAP_YEARS,
    MOST_YEARS,
    ORDER,
    TIME_COLUMNS,
    Calendar,
    chosen_column,
    doubtful_unit,
    out_of_order,
    perhaps_months,
    session_order,
    years_in,
)
from neuro4d_lib.data.study_values import AGE_RANGE, COLUMNS, covariates, number
from neuro4d_lib.data.text_tables import Row

_LEFT_OUT = "visits left out"
_TIME_SLACK_YEARS = 0.5  # between the day of a visit and that of its scan


class NotUsable(Exception):
    """Carries the reason why a person cannot be used."""


class Sorter:
    """The visits of one person."""

    def __init__(
        self,
        person: FoundPerson,
        calendar: Calendar,
        findings: Findings,
        files: Mapping[Path, ScanFile],
        twins: Mapping[tuple[str, str, Path], str],
    ) -> None:
        self.person, self.calendar, self.findings, self.files, self.twins = person, calendar, findings, files, twins
        self.reasons: list[str] = []

    def visits(self, least: int) -> tuple[Visit, ...]:
        found = sorted(self.person.visits, key=lambda visit: session_order(visit.session))
        with_scan = [(visit, scan) for visit in found if (scan := self._scan(visit)) is not None]
        self._check_count(len(with_scan), least)
        times, column = self._times([visit for visit, _ in with_scan])
        timed = [(*pair, time) for pair, time in zip(with_scan, times, strict=True) if time is not None]
        timed = self._apart(sorted(timed, key=lambda item: item[2]))
        self._check_count(len(timed), least)
        if not timed:
            return ()
        origin = timed[0][2]
        years = [time - origin for *_, time in timed]
        self._check_times([visit for visit, *_ in timed], years, column)
        ages = self._ages([visit for visit, *_ in timed], years, [time for *_, time in timed], column)
        self._check_sameness([visit for visit, *_ in timed])
        made = [
            self._visit(visit, scan, passed, age)
            for (visit, scan, _), passed, age in zip(timed, years, ages, strict=True)
        ]
        return tuple(made)

    def _scan(self, visit: FoundVisit) -> Path | None:
        """The first scan of a visit that is whole, and none of somebody else."""
        if not visit.scans:
            return None
        faults = []
        for scan in visit.scans:
            fault = self.files[scan].fault or self.twins.get((self.person.id, visit.session, scan), "")
            if not fault:
                break
            faults.append((scan, fault))
        else:
            self._leave_out(visit, " and ".join(f"{scan.name} {fault}" for scan, fault in faults), faults[0][0])
            return None
        for bad, fault in faults:
            self.findings.add(
                "damaged scans", f"{bad.name} {fault}; {scan.name} of the same visit is used. Export it again", bad,
                subject=self.person.id,
            )  # fmt: skip
        if len(visit.scans) > 1:
            self.findings.count("T1-weighted scans beside the chosen one", len(visit.scans) - 1)
        return scan

    def _leave_out(self, visit: FoundVisit, reason: str, file: Path | None = None) -> None:
        self.reasons.append(f"{visit.session}: {reason}")
        name = f"session {visit.session}" if visit.session.isdigit() else visit.session
        sentence = f"{name} of {self.person.id} is left out: {reason}"
        if visit.line is None and file is not None:
            self.findings.add(_LEFT_OUT, sentence, file, None, self.person.id)
        else:
            self.findings.add(_LEFT_OUT, sentence, visit.file, visit.line, self.person.id)

    def _check_count(self, count: int, least: int) -> None:
        if count >= least:
            return
        if not self.reasons:
            others = f" ({_shortened(self.person.other_visits)})" if self.person.other_visits else ""
            raise NotUsable(f"{_counted(count, 'visit')} with a T1w scan; expected at least {least}{others}")
        raise NotUsable(
            f"{_counted(count, 'usable visit')} with a T1w scan; expected at least {least} ({_shortened(self.reasons)})"
        )

    def _times(self, visits: Sequence[FoundVisit]) -> tuple[list[float | None], str]:
        """Years by the column that knows most of the visits."""
        if len(visits) < 2 and not any(visit.rows for visit in visits):
            return [0.0] * len(visits), "years"
        rows = [_merged(visit.rows) for visit in visits]
        if all(row is None for row in rows):
            raise NotUsable(f"no {self.person.id}_sessions.tsv says when the sessions were")
        known = [row for row in rows if row is not None]
        column = chosen_column(known, self.calendar, self.findings)
        if column is None:
            self._tell_unreadable(known)
            raise NotUsable(
                "its sessions have no time; expected a column such as days_since_first, acq_time, date or age"
            )
        times: list[float | None] = []
        for visit, row in zip(visits, rows, strict=True):
            time = None if row is None else years_in(row, column, self.calendar, Findings())
            if time is None:
                self._leave_out(visit, self._why_no_time(row, column))
            times.append(time)
        return times, column

    def _why_no_time(self, row: Row | None, column: str) -> str:
        if row is None:
            return "no table says when it was"
        text = row.get(column)
        return (
            f"the column {column!r} holds {text!r}"
            if text
            else f"the column {column!r}, which the other visits have, is empty"
        )

    def _tell_unreadable(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for column in ORDER:
                years_in(row, column, self.calendar, self.findings)

    def _apart(self, timed: list[tuple[FoundVisit, Path, float]]) -> list[tuple[FoundVisit, Path, float]]:
        """Of visits at one time, the first."""
        kept: list[tuple[FoundVisit, Path, float]] = []
        for visit, scan, time in timed:
            if kept and time - kept[-1][2] < LEAST_GAP_YEARS / 2:
                self._leave_out(visit, f"it has the same time as {kept[-1][0].session}")
            else:
                kept.append((visit, scan, time))
        return kept

    def _check_times(self, visits: Sequence[FoundVisit], years: Sequence[float], column: str) -> None:
        if not any(visit.rows for visit in visits):
            return
        order = out_of_order([visit.session for visit in visits], years)
        if order is not None:
            first, other = order
            raise NotUsable(
                f"{visits[other].session} lies {years[first] - years[other]:.2f} years before {visits[first].session}; "
                "expected follow-ups after the first session: are visits swapped, or dates wrong?"
            )
        if len(years) > 1 and (doubt := doubtful_unit(years, column)):
            raise NotUsable(doubt)
        rows = [_merged(visit.rows) or Row({}, Path(), 0) for visit in visits]
        for second in ORDER:
            if second in (column, "age"):
                continue
            by_second = [years_in(row, second, self.calendar, Findings()) for row in rows]
            shifts = [
                (time - passed, visit)
                for time, passed, visit in zip(by_second, years, visits, strict=True)
                if time is not None
            ]
            for shift, visit in shifts[1:]:
                if abs(shift - shifts[0][0]) > _TIME_SLACK_YEARS:
                    raise NotUsable(
                        f"the columns {column!r} and {second!r} say times of {visit.session} that lie "
                        f"{abs(shift - shifts[0][0]):.1f} years apart: is one of them in another unit?"
                    )
        if perhaps_months(years, column):
            times = ", ".join(f"{value:g}" for value in years)
            self.findings.add(
                "doubtful units",
                f"all times of {self.person.id} by the column {column!r} are multiples of 6; they are used as they are "
                f"({times} years). If they are months, call the column months",
                visits[0].file, visits[0].line, self.person.id,
            )  # fmt: skip

    def _ages(
        self, visits: Sequence[FoundVisit], years: Sequence[float], times: Sequence[float], column: str
    ) -> list[float | None]:
        """At each visit: its own, or that at the baseline and the time since."""
        own = [
            next((a for row in visit.rows if (a := number(row, "age", self.findings)) is not None), None)
            for visit in visits
        ]
        known = [(age, passed, visit) for age, passed, visit in zip(own, years, visits, strict=True) if age is not None]
        at_baseline = self._age_at_baseline()
        if known and len(known) == len(own) and len({age for age, *_ in known}) == 1 and years[-1] > AGE_SLACK_YEARS:
            self.findings.count("people with one age at all visits, taken as that at the first")
            at_baseline, known = known[0][0], []
        for later_age, passed, visit in known[1:]:
            first_age, first_passed, first = known[0]
            if abs(later_age - first_age - (passed - first_passed)) > AGE_SLACK_YEARS:
                raise NotUsable(
                    f"at {visit.session} the age says {later_age - first_age:g} years since {first.session}, the column "
                    f"{column!r} {passed - first_passed:g}: are visits of two people mixed, or units?"
                )
        since = self._baseline(column, times[0])
        ages: list[float | None] = []
        for age, time, passed in zip(own, times, years, strict=True):
            if known and age is not None:
                ages.append(age)
            elif at_baseline is not None:
                ages.append(at_baseline + (time - since))
            else:
                ages.append(None if not known else known[0][0] - known[0][1] + passed)
        return self._plausible(ages)

    def _age_at_baseline(self) -> float | None:
        rows = [*(row for visit in self.person.visits for row in visit.rows), *self.person.rows]
        for name, among in (("age_at_baseline", rows), ("age", self.person.rows)):
            for row in among:
                if (age := number(row, name, self.findings)) is not None:
                    return age
        return None

    def _baseline(self, column: str, first: float) -> float:
        """The time of the first listed visit, with a scan or without; 0 where a column counts from the baseline."""
        explicit = any(row.get("age_at_baseline") for row in self._rows())
        if column.endswith("since_baseline") or (explicit and column in TIME_COLUMNS and abs(first) < MOST_YEARS):
            return 0.0
        times = [years_in(row, column, self.calendar, Findings()) for row in self.person.listed]
        return min([time for time in times if time is not None] + [first])

    def _plausible(self, ages: list[float | None]) -> list[float | None]:
        low, high = AGE_RANGE
        wrong = next((age for age in ages if age is not None and not low <= age <= high), None)
        if wrong is None:
            return ages
        if 0 <= wrong <= 120:
            raise NotUsable(f"the age is {wrong:g}; the models are made for people of {low} to {high} years")
        row = next((row for row in self._rows() if row.get("age") or row.get("age_at_baseline")), None)
        self.findings.add(
            "impossible values",
            f"the age of {self.person.id} is {wrong:g}; expected {low} to {high} years. It is treated as unknown",
            row.file if row else None,
            row.line if row else None,
            self.person.id,
        )
        return [None] * len(ages)

    def _rows(self) -> list[Row]:
        return [*(row for visit in self.person.visits for row in visit.rows), *self.person.rows]

    def _check_sameness(self, visits: Sequence[FoundVisit]) -> None:
        """Sex and APOE of a person do not change; where they do, nobody knows which is right."""
        self.doubted: set[str] = set()
        for name in ("sex", "apoe4"):
            seen: dict[object, Row] = {}
            for row in [*(row for visit in visits for row in visit.rows), *self.person.rows]:
                value = getattr(covariates([row], None, Findings()), name)
                if value is not None:
                    seen.setdefault(value, row)
            if len(seen) > 1:
                (one, _), (other, row) = list(seen.items())[:2]
                self.doubted.add(name)
                self.findings.add(
                    "contradictions",
                    f"the {name} of {self.person.id} is {one} in one line and {other} in this one; it is treated as "
                    "unknown. Check that no visit of another person is listed here",
                    row.file, row.line, self.person.id,
                )  # fmt: skip

    def _visit(self, found: FoundVisit, scan: Path, years: float, age: float | None) -> Visit:
        rows = [*found.rows, *self.person.rows]
        if self.doubted:
            hidden = {column for name in self.doubted for column in COLUMNS[name]}
            rows = [
                Row({key: "" if key in hidden else value for key, value in row.values.items()}, row.file, row.line)
                for row in rows
            ]
        return Visit(
            session=found.session,
            years=years,
            scan=scan,
            covariates=covariates(rows, age, self.findings),
            scanner=found.scanner,
            other_scans=tuple(other for other in found.scans if other != scan),
            modalities=dict(found.modalities),
            voxel_mm=self.files[scan].voxel_mm,
            file=found.file,
            line=found.line,
        )


def _merged(rows: Sequence[Row]) -> Row | None:
    """One row that knows what any of them knows; the first is believed."""
    if not rows:
        return None
    values: dict[str, str] = {}
    for row in rows:
        for column in row.values:
            if not values.get(column):
                values[column] = row.get(column)
    return Row(values, rows[0].file, rows[0].line)


def _counted(count: int, noun: str) -> str:
    return f"{'no' if count == 0 else 'only one' if count == 1 else f'only {count}'} {noun}{'' if count == 1 else 's'}"


def _shortened(reasons: Sequence[str], most: int = 2) -> str:
    more = f"; and {len(reasons) - most} other visits" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more
