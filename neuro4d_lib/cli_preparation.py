"""Commands that make a study ready for training: prepare."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, Progress, TerminalBar, part, silent

EXAMPLES = """\
examples:
  A longitudinal BIDS data set, on all cores of this machine:
    python -m neuro4d_lib prepare STUDY --output PREPARED

  What it would take, without doing it:
    python -m neuro4d_lib prepare STUDY --output PREPARED --estimate

  Over a cluster, through a Dask scheduler (see docs/preparation.md for Slurm):
    python -m neuro4d_lib prepare STUDY --output PREPARED --scheduler tcp://head-node:8786

  Stopped, killed, or new visits in the study: run the same command again; what is finished is kept.
  Then look at PREPARED/qc/index.html, and train on it:
    python -m neuro4d_lib train PREPARED --output RUN

  The study itself is never written to. Research use only."""


def add_prepare(commands: Any) -> None:
    """prepare: a study to the motion between the visits of its people."""
    parser = commands.add_parser(
        "prepare",
        help="make a longitudinal study ready for training",
        description="Align the T1-weighted scans of every person of a study, without favoring a visit, follow the motion "
        "between them, and write what a model learns from, with a page to check its quality.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, help="folder of a longitudinal BIDS data set, or a table (.csv, .tsv)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder, or one to go on with")
    parser.add_argument("--subjects", nargs="+", default=[], metavar="ID", help="these people only")
    parser.add_argument(
        "--columns", metavar="FILE|PRESET", help="of a table: adnimerge, oasis3, or a JSON or TOML file; see `study`"
    )
    parser.add_argument("--files", default="", metavar="TEMPLATE", help="of a table without paths: where its scans are")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="JSON of other settings, such as similarity")
    parser.add_argument("--quick", action="store_true", help="motion at 2.6 mm instead of 1.3: half the time, coarser")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="model whose reference anatomy is used (default: shipped)"
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    machine.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler to use instead, such as tcp://host:8786"
    )
    machine.add_argument("--estimate", action="store_true", help="print time, memory and disk, and do nothing")
    machine.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="auto: a bar; json: one JSON object a line on the standard output; none (default: auto)",
    )
    parser.set_defaults(run=run_prepare)


def run_prepare(chosen: argparse.Namespace) -> None:
    workers = os.cpu_count() or 1 if chosen.workers is None else chosen.workers
    if not 1 <= workers <= 1024:
        raise InputError(f"The number of workers is {workers}; expected 1 to 1024.")
    import torch

    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.config import read_settings
    from neuro4d_lib.data.study import read_study
    from neuro4d_lib.preparation.config import PreparationConfig
    from neuro4d_lib.preparation.estimate import estimate
    from neuro4d_lib.preparation.quality_page import write_quality_page
    from neuro4d_lib.preparation.study import check_output, prepare_study

    torch.set_num_threads(1)
    config = read_settings(chosen.settings, PreparationConfig) if chosen.settings else PreparationConfig()
    if chosen.quick:
        config = config.coarser()
    study = read_study(chosen.study, chosen.subjects, columns=chosen.columns, files=chosen.files)
    check_output(chosen.output, chosen.study, config)
    expected = estimate(study, config, chosen.output, 1 if chosen.scheduler else workers)
    if chosen.estimate:
        _tell_estimate(expected, chosen.progress)
        return
    expected.check_disk()
    progress = _progress(chosen.progress)
    if chosen.progress == "auto":
        print(expected.sentence())
    try:
        about = prepare_study(
            study, chosen.study, chosen.output, chosen.model or SHIPPED, config,
            workers=workers, scheduler=chosen.scheduler, progress=part(progress, 0.0, 0.99),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "Interrupted. Everybody who was finished is kept; run the same command again to go on."
        ) from None
    progress(0.99, "Writing the page of quality")
    page = write_quality_page(chosen.output)
    progress(1.0, "Prepared")
    _tell(about, page, chosen.output, progress)


def _study(chosen: argparse.Namespace) -> Any:
    from neuro4d_lib.data.study import read_study

    return read_study(chosen.study, chosen.subjects, columns=chosen.columns, files=chosen.files)


def _tell_estimate(expected: Any, choice: str) -> None:
    if choice == "json":
        JsonLines().event("estimate", **expected.as_dict())
    else:
        print(expected.sentence())


def _tell(about: dict[str, Any], page: Path, folder: Path, progress: Progress) -> None:
    excluded = {name: person["reason"] for name, person in about["subjects"].items() if person["state"] != "used"}
    used = len(about["subjects"]) - len(excluded)
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(folder), used=used, excluded=excluded, page=str(page))
        return
    print(f"{used} people are prepared in {folder}, {len(excluded)} are excluded:")
    for name, reason in excluded.items():
        print(f"  {name}: {reason}")
    print(f"Look at {page} (worst cases first), then: python -m neuro4d_lib train {folder} --output RUN")


def _progress(choice: str) -> Progress:
    if choice == "none":
        return silent
    return JsonLines() if choice == "json" else TerminalBar()
