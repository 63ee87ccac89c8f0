"""The command line: `python -m neuro4d_lib <command>`. One function adds one command; COMMANDS lists them."""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import neuro4d_lib
from neuro4d_lib.cli_arguments import (
    add_person,
    add_progress,
    covariates_from,
    progress_of,
    set_threads,
    with_years,
)
from neuro4d_lib.cli_compare import add_compare, add_compare_check, add_effects, add_effects_check
from neuro4d_lib.cli_evaluation import add_evaluate, add_known_truth
from neuro4d_lib.cli_models import add_sample, add_simulate
from neuro4d_lib.cli_person import add_risk, add_risk_check, add_what_if
from neuro4d_lib.cli_population import add_population, add_reality_check
from neuro4d_lib.cli_preparation import add_prepare
from neuro4d_lib.cli_representations import add_compare_representations
from neuro4d_lib.cli_study import add_study
from neuro4d_lib.cli_study_truth import add_study_truth
from neuro4d_lib.cli_training import add_train
from neuro4d_lib.cli_trials import add_trial
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, Progress

if TYPE_CHECKING:
    from neuro4d_lib.forecasting.result import Forecast

# Everything heavy is imported by the command that needs it, so that --help answers at once.

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = "The memory is full. Close other programs, ask for fewer years, or crop the scan."
NO_GPU_MEMORY = "The memory of the GPU is full. Close what else runs on it, or use --device cpu."

FORECAST_EXAMPLES = """\
examples:
  The shortest. Everything about the person is unknown; 1, 2, 3 and 5 years ahead:
    python -m neuro4d_lib forecast scan.nii.gz --output out

  With what is known of the person, and more futures for smoother bands:
    python -m neuro4d_lib forecast scan.nii.gz --age 74 --sex F --education 16 --apoe4 1 --diagnosis MCI \\
        --futures 32 --output out

  With two earlier scans, 3 and 1.5 years before; their change makes the forecast personal:
    python -m neuro4d_lib forecast scan.nii.gz --past first.nii.gz:-3 second.nii.gz:-1.5 --age 74 --output out

  Carry a segmentation (on the scan's voxels) and a FLAIR (in the scan's space) along:
    python -m neuro4d_lib forecast scan.nii.gz --segmentation seg.nii.gz --also flair.nii.gz --output out

  A scan is a .nii, .nii.gz, .mgz, .nrrd or .mha file or a DICOM folder, with or without skull.
  scan.nii.gz::2 names the third volume of a 4D file, folder::UID one series of a DICOM folder.
  Then open report.html of the output folder in a browser, or forecast.seq.nrrd in 3D Slicer.
  Research use only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for input that cannot be used, 130 when it was interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait by spinning take the cores from whatever else runs: measured, a third of all work was that.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    as_json = "--progress=json" in arguments or ("--progress", "json") in itertools.pairwise(arguments)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # a run that is ended cleans up like one that is interrupted
        chosen = _parser().parse_args(arguments)
        chosen.run(chosen)
        return 0
    except KeyboardInterrupt as stop:
        return _failed(str(stop) or "Interrupted. Nothing was written.", EXIT_INTERRUPTED, as_json)
    except InputError as error:
        return _failed(str(error), EXIT_INPUT, as_json)
    except MemoryError:
        return _failed(NO_MEMORY, EXIT_INPUT, as_json)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        advice = " Choose a place on another disk, or make room." if error.errno in FULL_DISK else ""
        return _failed(f"{error.strerror or error}{place}.{advice}", EXIT_INPUT, as_json)
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" not in text and "can't allocate memory" not in text:
            raise
        return _failed(NO_GPU_MEMORY if "cuda" in text else NO_MEMORY, EXIT_INPUT, as_json)


def add_forecast(commands: Any) -> None:
    """forecast: one person's scan through the coming years."""
    parser = commands.add_parser(
        "forecast",
        help="carry a brain scan through the coming years",
        description="Forecast how a T1-weighted brain scan will look in the coming years, with the spread of plausible "
        "futures, on the scan's own voxels.",
        epilog=FORECAST_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", help="T1-weighted scan: a file or a DICOM folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the results")
    add_person(parser)
    asked = parser.add_argument_group("the forecast")
    asked.add_argument(
        "--years", type=float, nargs="+", default=[1, 2, 3, 5], help="years after the scan (default: 1 2 3 5)"
    )
    asked.add_argument(
        "--futures", type=int, default=8, metavar="N", help="futures to draw (default: 8; 1 gives no bands)"
    )
    asked.add_argument("--seed", type=int, default=0, help="future i is drawn with seed + i (default: 0)")
    asked.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the model's own choice)")
    asked.add_argument("--model", type=Path, metavar="DIR", help="folder of a model (default: the shipped one)")
    along = parser.add_argument_group("what is carried along and written")
    along.add_argument("--segmentation", metavar="FILE", help="label map on the scan's voxels")
    along.add_argument("--also", nargs="+", default=[], metavar="FILE", help="other images in the scan's space")
    along.add_argument("--each-future", action="store_true", help="write a 4D image for every future, too")
    along.add_argument("--displacement", action="store_true", help="write the maps as displacements every 2.6 mm, too")
    along.add_argument("--overwrite", action="store_true", help="replace an earlier forecast in the output folder")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add_progress(machine)
    parser.set_defaults(run=run_forecast)


def run_forecast(chosen: argparse.Namespace) -> None:
    """Check all that can be checked at once, forecast, write, name the files."""
    from neuro4d_lib.devices import checked_device
    from neuro4d_lib.forecasting import inputs
    from neuro4d_lib.forecasting.forecaster import forecast
    from neuro4d_lib.forecasting.outputs import check_room
    from neuro4d_lib.forecasting.staging import check_folder
    from neuro4d_lib.progress import part

    started = time.monotonic()
    progress = progress_of(chosen.progress)
    set_threads(chosen.threads)
    check_folder(chosen.output, chosen.overwrite)
    checked_device(chosen.device)
    person = covariates_from(chosen)
    past = [with_years(text) for text in chosen.past]
    progress(0.0, "Reading the scan")
    given = inputs.gather(chosen.scan, person, past, chosen.segmentation, chosen.also)
    options = {
        "overwrite": chosen.overwrite,
        "each_future": chosen.each_future,
        "displacement": chosen.displacement,
    }
    check_room(chosen.output, given, len(chosen.years), chosen.futures, **options)
    result = forecast(
        given.scan,
        given.covariates,
        chosen.years,
        past=given.past,
        segmentation=given.segmentation,
        also=given.also,
        futures=chosen.futures,
        model=chosen.model,
        device=chosen.device,
        seed=chosen.seed,
        steps=chosen.steps,
        progress=part(progress, 0.0, 0.85),
    )
    files = result.save(chosen.output, progress=part(progress, 0.85, 1.0), **options)
    try:
        _tell(result, files, chosen.output, progress, time.monotonic() - started)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted, but too late: the forecast in {chosen.output} is complete.") from None


def _tell(result: Forecast, files: Mapping[str, str], folder: Path, progress: Progress, seconds: float) -> None:
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(folder), files=files, warnings=list(result.warnings))
        return
    for warning in result.warnings:
        print(f"Note: {warning}", file=sys.stderr)
    print(f"Forecast finished in {seconds:.0f} s. Open:")
    for name in ("report.html", "forecast.png", "forecast.nii.gz", "forecast.seq.nrrd", "volumes.csv"):
        if name in files:
            print(f"  {folder / name}  ({files[name]})")
    print("Research use only.")


COMMANDS: tuple[Callable[[Any], None], ...] = (
    add_forecast, add_sample, add_simulate, add_population, add_reality_check, add_study, add_prepare, add_train, add_known_truth, add_study_truth,
    add_compare_representations, add_evaluate, add_trial, add_risk, add_risk_check, add_what_if,
    add_compare, add_compare_check, add_effects, add_effects_check,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the way every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}. See: {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m neuro4d_lib", description="Forecast brain scans through the coming years. Research use only."
    )
    parser.add_argument("--version", action="version", version=f"Neuro4D {neuro4d_lib.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in COMMANDS:
        add_command(commands)
    return parser


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _failed(message: str, code: int, as_json: bool) -> int:
    if as_json:
        JsonLines().event("error", message=message)
    print(message if code == EXIT_INTERRUPTED else f"Error: {message}", file=sys.stderr)
    return code
