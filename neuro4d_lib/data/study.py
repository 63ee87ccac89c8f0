"""A longitudinal study, as a BIDS folder or a table: who was scanned when, what is known of them, who cannot be used and
why, and what a person should look at. Nothing is ever written to it, and no image is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuro4d_lib.data.study_people import usable_people
from neuro4d_lib.data.study_records import Findings, Problem, Scanner, Study, StudySubject, Unusable, Visit
from neuro4d_lib.data.study_times import DAYS_PER_YEAR, Calendar
from neuro4d_lib.errors import InputError

__all__ = ["DAYS_PER_YEAR", "Problem", "Scanner", "Study", "StudySubject", "Unusable", "Visit", "read_study"]


def read_study(
    source: Path,
    wanted: Sequence[str] = (),
    least_visits: int = 2,
    columns: str | Path | None = None,
    files: str = "",
) -> Study:
    """Everybody, or those who are wanted, with at least so many scans at different times.

    Args:
        source: folder of a BIDS data set, or a table (.csv, .tsv).
        wanted: ids with or without "sub-".
        columns: of a table: adnimerge, oasis3, or a JSON or TOML file that names its columns.
        files: of a table without paths: where a scan is, by columns in braces, such as "{PTID}/{VISCODE}/T1.nii.gz".
    """
    findings = Findings()
    if source.is_dir():
        if columns or files:
            raise InputError(f"{source} is a folder; names of columns are for tables. Leave out --columns and --files.")
        from neuro4d_lib.data.bids import read_bids

        people = read_bids(source, wanted, findings)
        rows = [row for person in people for row in (*person.listed, *(r for v in person.visits for r in v.rows))]
        calendar, folder, kind = Calendar(rows, findings), source, "BIDS"
    elif source.is_file():
        from neuro4d_lib.data.study_table import read_study_table

        people, calendar = read_study_table(source, wanted, columns, files, findings)
        folder, kind = source.parent, "table"
    else:
        raise InputError(
            f"There is no folder {source}. Name the folder of a longitudinal BIDS data set, or a table (.csv, .tsv)."
        )
    subjects, unusable = usable_people(people, calendar, findings, least_visits)
    changed = sum(subject.changes_scanner for subject in subjects)
    if changed:
        findings.count("people whose scanner changed", changed)
    return Study(folder, subjects, unusable, findings.problems(), dict(findings.counts), kind)
