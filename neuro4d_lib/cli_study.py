"""The command that tells what is understood of a study before anything runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  A longitudinal BIDS data set:
    python -m neuro4d_lib study STUDY

  A table with a line for each scan: subject, file, and date, age, years, months or days:
    python -m neuro4d_lib study scans.csv

  ADNI's table, with the scans beside it:
    python -m neuro4d_lib study ADNIMERGE.csv --columns adnimerge --files 'scans/{PTID}/{VISCODE}/*.nii.gz'

  A table with columns of other names, which mapping.json tells:
    python -m neuro4d_lib study scans.csv --columns mapping.json

  docs/studies.md shows all layouts. The study itself is never written to."""


def add_study(commands: Any) -> None:
    """study: what is understood of a study."""
    parser = commands.add_parser(
        "study",
        help="tell what is understood of a longitudinal study, and what is wrong with it",
        description="Read a longitudinal study without opening its images: people, visits, times, covariates, scanners, "
        "and every problem with its file and line and what to do about it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, help="folder of a longitudinal BIDS data set, or a table (.csv, .tsv)")
    parser.add_argument(
        "--columns", metavar="FILE|PRESET", help="of a table: adnimerge, oasis3, or a JSON or TOML file"
    )
    parser.add_argument("--files", default="", metavar="TEMPLATE", help="of a table without paths: where its scans are")
    parser.add_argument("--subjects", nargs="+", default=[], metavar="ID", help="these people only")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with everything")
    parser.set_defaults(run=run_study)


def run_study(chosen: argparse.Namespace) -> None:
    from neuro4d_lib.data.study import read_study
    from neuro4d_lib.data.study_summary import as_json, as_text

    study = read_study(chosen.study, chosen.subjects, columns=chosen.columns, files=chosen.files)
    name = chosen.study.resolve().name
    if chosen.json:
        print(json.dumps(as_json(study, name)))
    else:
        print(as_text(study, name))
