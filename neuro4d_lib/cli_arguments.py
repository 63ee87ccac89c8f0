"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, Progress, TerminalBar, silent

if TYPE_CHECKING:
    from neuro4d_lib.data.population_config import PopulationConfig


def add_population_file(parser: Any) -> None:
    """--population, for every command that simulates people."""
    parser.add_argument(
        "--population", type=Path, metavar="FILE", help="JSON with other assumptions; `population` lists them"
    )


def population_config(file: Path | None) -> PopulationConfig:
    """The assumptions of a file, or the shipped ones."""
    from neuro4d_lib.config import read_settings
    from neuro4d_lib.data.population_config import PopulationConfig

    return PopulationConfig() if file is None else read_settings(file, PopulationConfig)


def add_person(parser: Any) -> None:
    """What is known of one person."""
    person = parser.add_argument_group("the person (leave out what is unknown)")
    person.add_argument("--age", type=float, metavar="YEARS", help="age at the scan")
    person.add_argument("--sex", type=str.upper, help="F or M")
    person.add_argument("--education", type=float, metavar="YEARS", help="years of education")
    person.add_argument("--apoe4", type=int, metavar="COUNT", help="number of APOE e4 alleles: 0, 1 or 2")
    person.add_argument("--diagnosis", type=str.upper, help="CN, MCI, AD, PD or MS")
    person.add_argument(
        "--past",
        nargs="+",
        default=[],
        metavar="FILE:YEARS",
        help="earlier scans with their time, in years before the scan, such as earlier.nii.gz:-1.5",
    )


def covariates_from(chosen: argparse.Namespace) -> Any:
    """The Covariates that `add_person` was told."""
    from neuro4d_lib.data.records import Covariates

    return Covariates(chosen.age, chosen.sex, chosen.education, chosen.apoe4, chosen.diagnosis)


def with_years(text: str) -> tuple[str, float]:
    """`earlier.nii.gz:-1.5` as file and years."""
    path, _, years = text.rpartition(":")
    try:
        return path or text, float(years)
    except ValueError:
        raise InputError(
            f"The past scan {text} has no time. Add the years before the scan as a negative number, such as {text}:-1.5"
        ) from None


def add_progress(parser: Any) -> None:
    parser.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="auto: a bar; json: one JSON object a line on the standard output; none (default: auto)",
    )


def progress_of(choice: str) -> Progress:
    if choice == "none":
        return silent
    return JsonLines() if choice == "json" else TerminalBar()


def set_threads(threads: int | None) -> None:
    if threads is None:
        return
    import SimpleITK
    import torch

    if threads < 1:
        raise InputError(f"The number of threads is {threads}; expected 1 or more.")
    torch.set_num_threads(threads)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def need(*packages: str) -> None:
    """Packages of the evaluation extra, asked for before the work begins."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"This needs {', '.join(missing)}, which is not installed. Install it with: "
            "pip install 'neuro4d-lib[evaluation]'"
        )


def check_new_folder(folder: Path) -> None:
    """Raise an InputError unless results can be put there and nothing is there yet."""
    from neuro4d_lib.forecasting.staging import check_folder

    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty. Choose a new folder; nothing is overwritten.")
    check_folder(folder, False)
