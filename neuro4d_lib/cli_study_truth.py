"""The command that measures what is lost between true motion and prepared scans: study-truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import TerminalBar, part


def add_study_truth(commands: Any) -> None:
    """study-truth: learning from prepared scans against learning from the true motion, of simulated people."""
    parser = commands.add_parser(
        "study-truth",
        help="measure what is lost where a model learns from prepared scans and not from the true motion",
        description="Simulate people with scans, prepare the scans, learn from them and from the true motion of the same people, "
        "and score both against the exact forecast. One to two minutes a person on one core; run it again to go on where it "
        "stopped, with fewer or more --people.",
    )
    parser.add_argument("--people", type=int, default=60, metavar="N", help="people who are scanned (default: 60)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for study, prepared, true and study_truth.md"
    )
    parser.add_argument(
        "--larger", type=int, nargs="*", default=[60], metavar="N",
        help="so many people more, without scans, whose motion carries the errors that were measured (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--test-people", type=int, default=600, metavar="N", help="people who are forecast (default: 600)"
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the shipped model)")
    parser.add_argument("--quick", action="store_true", help="prepare without the finest resolution")
    parser.add_argument("--seed", type=int, default=0, help="of everybody (default: 0)")
    parser.set_defaults(run=run_study_truth)


def run_study_truth(chosen: argparse.Namespace) -> None:
    """Simulate, prepare, learn, score, write the table."""
    if chosen.people < 8 or chosen.test_people < 20 or any(count < 20 for count in chosen.larger):
        raise InputError("Expected at least 8 people, 20 test people, and 20 people in each larger study.")
    from neuro4d_lib.applications.study_truth import render, study_truth
    from neuro4d_lib.applications.study_truth_cohort import make_studies
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.rate_fields import RateFields, measure_regions
    from neuro4d_lib.files import write_whole
    from neuro4d_lib.preparation.config import PreparationConfig
    from neuro4d_lib.training.study_run import start_from

    folder, progress = chosen.model or SHIPPED, TerminalBar()
    start = start_from(folder)
    fields = RateFields(start.fields.float(), *measure_regions(start.reference))
    config = PreparationConfig().coarser() if chosen.quick else PreparationConfig()
    make_studies(chosen.people, chosen.output, folder, fields, config, chosen.seed, part(progress, 0.0, 0.8))
    errors, rows = study_truth(
        chosen.output, folder, chosen.test_people, chosen.larger, chosen.seed, part(progress, 0.8, 1.0)
    )
    larger = " ".join(map(str, chosen.larger))
    command = f"python -m neuro4d_lib study-truth --people {chosen.people} --larger {larger} --test-people {chosen.test_people}"
    command += " --quick" * chosen.quick + (f" --seed {chosen.seed}" if chosen.seed else "")
    text = render(errors, rows, command)
    write_whole(chosen.output / "study_truth.md", text)
    print(f"\n{text}\nWrote {chosen.output / 'study_truth.md'}.")
