"""Commands for one person: risk, the check of its chances, what-if."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from neuro4d_lib.cli_arguments import (
    add_person,
    add_population_file,
    add_progress,
    check_new_folder,
    covariates_from,
    need,
    population_config,
    progress_of,
    set_threads,
    with_years,
)
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, part

RISK_EXAMPLES = """\
examples:
  From a scan: centiles, and the chance that the hippocampus loses 10 % or falls below 5.5 ml:
    python -m neuro4d_lib risk scan.nii.gz --age 74 --sex F --diagnosis MCI --past first.nii.gz:-2 \\
        --threshold "hippocampus < -10%" --threshold "hippocampus < 5.5 ml" --output out

  From volumes alone, in seconds. volumes.csv has one row per scan:
    years,hippocampus_ml,lateral_ventricle_ml,icv_ml
    -2,6.9,38.1,1490
    0,6.6,41.0,1490
    python -m neuro4d_lib risk --volumes volumes.csv --age 74 --sex F --diagnosis MCI \\
        --threshold "lateral_ventricle > 10 %/year" --output out

  A threshold is a region, < or >, and a value: % (change since the scan), ml or mm3 (volume), %/year (mean rate since
  the scan). Regions: hippocampus, lateral_ventricle, cortex, whole_brain, thalamus, ..., left_hippocampus, ...
  Research, not advice."""

_LONGEST = 10.0


def add_risk(commands: Any) -> None:
    """risk: where a person stands, what may be crossed when, when the next scan tells something."""
    parser = commands.add_parser(
        "risk",
        help="one person: centiles, chance of crossing a threshold, when the next scan tells something",
        description="Where a person lies among people of the same age, sex and diagnosis; the chance over time that a "
        "volume or a rate crosses a threshold; when change exceeds what two scans of one day differ by, and by how much the "
        "next scan would narrow the band. Research, not advice.",
        epilog=RISK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", nargs="?", help="T1-weighted scan: a file or a DICOM folder")
    parser.add_argument("--volumes", type=Path, metavar="FILE", help="a table of regional volumes in place of scans")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the results")
    add_person(parser)
    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="TEXT",
        help='such as "hippocampus < -10%%"; may be repeated',
    )
    asked.add_argument(
        "--years",
        type=float,
        nargs="+",
        help="years after the scan (default: 1 2 3 5; of volumes, every half year to 10)",
    )
    asked.add_argument(
        "--horizon", type=float, default=5.0, metavar="YEARS", help="whose band the next scan narrows (default: 5)"
    )
    asked.add_argument("--futures", type=int, default=16, metavar="N", help="futures to draw of a scan (default: 16)")
    asked.add_argument("--seed", type=int, default=0, help="future i is drawn with seed + i (default: 0)")
    asked.add_argument("--model", type=Path, metavar="DIR", help="folder of a model (default: the shipped one)")
    add_population_file(asked)
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add_progress(machine)
    parser.set_defaults(run=run_risk)


def run_risk(chosen: argparse.Namespace) -> None:
    """Check what can be checked at once, assess, write, name the files."""
    if (chosen.scan is None) == (chosen.volumes is None):
        raise InputError("Name either a scan or, with --volumes, a table of volumes. See: risk --help")
    if chosen.volumes is not None and chosen.past:
        raise InputError("With --volumes, earlier scans are rows of the table: leave out --past.")
    if not 0.5 <= chosen.horizon <= _LONGEST:
        raise InputError(f"The horizon is {chosen.horizon:g} years; expected 0.5 to {_LONGEST:g}.")
    need("scipy", "matplotlib")
    from neuro4d_lib.applications.risk.report import write_assessment
    from neuro4d_lib.applications.risk.thresholds import checked_thresholds

    check_new_folder(chosen.output)
    thresholds = checked_thresholds(chosen.threshold)
    person = covariates_from(chosen)
    progress = progress_of(chosen.progress)
    set_threads(chosen.threads)
    if chosen.volumes is not None:
        assessment, how = _from_volumes(chosen, person, thresholds)
    else:
        assessment, how = _from_scan(chosen, person, thresholds, part(progress, 0.0, 0.9))
    progress(0.95, "Writing")
    files = write_assessment(assessment, chosen.output, how)
    progress(1.0, "Done")
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(chosen.output), files=files, warnings=list(assessment.warnings))
        return
    for name, what in files.items():
        print(f"  {chosen.output / name}  ({what})")
    print("This is research, not advice.")


def _from_volumes(chosen: argparse.Namespace, person: Any, thresholds: Any) -> tuple[Any, dict[str, Any]]:
    from dataclasses import replace

    import numpy as np

    from neuro4d_lib.applications.risk.assessment import assess_volumes
    from neuro4d_lib.applications.risk.volume_file import read_volumes
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.reference import Reference
    from neuro4d_lib.forecasting.inputs import checked_years

    reference = Reference.load(SHIPPED)
    volumes = read_volumes(chosen.volumes, reference)
    if person.age is None and volumes.age is not None:
        person = replace(person, age=volumes.age)
    years = np.array(checked_years(chosen.years or np.arange(0.5, _LONGEST + 0.1, 0.5), {"years": (0.25, _LONGEST)}))
    from neuro4d_lib.data.population import Population

    law = Population(population_config(chosen.population))
    assessment = assess_volumes(volumes, person, thresholds, years, chosen.horizon, law, reference)
    return assessment, {"volumes": chosen.volumes.name, "years": years.tolist()}


def _from_scan(chosen: argparse.Namespace, person: Any, thresholds: Any, progress: Any) -> tuple[Any, dict[str, Any]]:
    from neuro4d_lib.applications.risk.assessment import assess_forecast
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.reference import Reference
    from neuro4d_lib.forecasting.forecaster import forecast
    from neuro4d_lib.forecasting.provenance import record

    if chosen.futures < 8:
        raise InputError(f"{chosen.futures} futures say too little of a chance. Ask for 8 or more.")
    from neuro4d_lib.data.population import Population

    law = Population(population_config(chosen.population))
    result = forecast(
        chosen.scan, person, chosen.years or (1, 2, 3, 5), past=[with_years(text) for text in chosen.past],
        futures=chosen.futures, model=chosen.model, device=chosen.device, seed=chosen.seed, progress=progress,
    )  # fmt: skip
    reference = Reference.load(SHIPPED)
    assessment = assess_forecast(result, thresholds, chosen.horizon, law, reference)
    return assessment, {"forecast": record(result, {}, result.seconds)}


def add_risk_check(commands: Any) -> None:
    """risk-check: are the stated chances true?"""
    parser = commands.add_parser(
        "risk-check",
        help="measure on simulated people whether the chances that risk states are true",
        description="Draw simulated people, state the chance of each threshold at 1, 2, 3 and 5 years, and look whether it "
        "was crossed: Brier score against the base rate, and a reliability diagram. The exact law and the model's closed form "
        "are checked on --people, the network, which is slow on a CPU, on --network-people.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the table and the figure")
    parser.add_argument("--people", type=int, default=2000, metavar="N", help="simulated people (default: 2000)")
    parser.add_argument(
        "--scans", type=int, nargs="+", default=[1, 2, 3], metavar="K", help="numbers of scans (default: 1 2 3)"
    )
    parser.add_argument(
        "--network-people", type=int, default=0, metavar="N", help="people whose futures the network draws (default: 0)"
    )
    parser.add_argument("--draws", type=int, default=16, metavar="N", help="futures of each of those (default: 16)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the shipped model)")
    parser.set_defaults(run=run_risk_check)


def run_risk_check(chosen: argparse.Namespace) -> None:
    if not 100 <= chosen.people <= 100_000 or not all(1 <= scans <= 8 for scans in chosen.scans):
        raise InputError("Expected 100 to 100000 people, and 1 to 8 scans.")
    if chosen.network_people < 0 or chosen.network_people > chosen.people or not 8 <= chosen.draws <= 1000:
        raise InputError("Expected no more people of the network than people, and 8 to 1000 draws.")
    need("scipy", "matplotlib")
    import torch

    from neuro4d_lib.applications.risk.calibration import check_risk
    from neuro4d_lib.checkpoint import load_model
    from neuro4d_lib.progress import TerminalBar

    scans = tuple(sorted(set(chosen.scans)))
    model = load_model(chosen.model, torch.device("cpu"))
    text = check_risk(model, chosen.people, scans, chosen.network_people, chosen.draws, chosen.output, TerminalBar())
    print(f"\n{text}")


WHAT_IF_EXAMPLES = """\
examples:
  The same person without and with two APOE e4 alleles, and with another diagnosis:
    python -m neuro4d_lib what-if scan.nii.gz --age 74 --sex F --apoe4 1 --diagnosis MCI \\
        --change apoe4=0 --change apoe4=2 --change diagnosis=AD --output out

  Several at once: --change diagnosis=AD,age=80. Not knowing one of them: --change diagnosis=unknown.
  Associations in simulated people: no change of a covariate would do this to a real person. Research, not advice."""


def add_what_if(commands: Any) -> None:
    """what-if: the same person under other covariates."""
    parser = commands.add_parser(
        "what-if",
        help="the same scan and the same future noise under other covariates, and what differs",
        description="Forecast a scan under the person's own covariates and under others, with the same future noise: maps "
        "of the difference on the scan's voxels, and volumes with bands.",
        epilog=WHAT_IF_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", help="T1-weighted scan: a file or a DICOM folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the results")
    add_person(parser)
    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "--change", action="append", default=[], metavar="NAME=VALUE", help="age, sex, education, apoe4 or diagnosis"
    )
    asked.add_argument("--years", type=float, nargs="+", default=[1, 2, 3, 5], help="after the scan (default: 1 2 3 5)")
    asked.add_argument("--futures", type=int, default=8, metavar="N", help="pairs of futures to draw (default: 8)")
    asked.add_argument("--seed", type=int, default=0, help="future i is drawn with seed + i (default: 0)")
    asked.add_argument("--model", type=Path, metavar="DIR", help="folder of a model (default: the shipped one)")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add_progress(machine)
    parser.set_defaults(run=run_what_if)


def run_what_if(chosen: argparse.Namespace) -> None:
    """Check what can be checked at once, forecast under each, write, name the files."""
    need("matplotlib")
    from neuro4d_lib.applications.what_if import checked_changes, write_what_if
    from neuro4d_lib.forecasting.forecaster import forecasts

    check_new_folder(chosen.output)
    person = covariates_from(chosen)
    changes = checked_changes(chosen.change, person)
    if chosen.futures < 2:
        raise InputError("One pair of futures gives no bands. Ask for 2 or more.")
    progress = progress_of(chosen.progress)
    set_threads(chosen.threads)
    results = forecasts(
        chosen.scan, [person, *(change.covariates for change in changes)], chosen.years,
        past=[with_years(text) for text in chosen.past], futures=chosen.futures, model=chosen.model,
        device=chosen.device, seed=chosen.seed, progress=part(progress, 0.0, 0.9),
    )  # fmt: skip
    files = write_what_if(results, changes, chosen.output, part(progress, 0.9, 1.0))
    progress(1.0, "Done")
    if isinstance(progress, JsonLines):
        progress.event(
            "done", folder=str(chosen.output), files=files, warnings=[w for r in results for w in r.warnings]
        )
        return
    for name, what in files.items():
        print(f"  {chosen.output / name}  ({what})")
    print("This is research, not advice.")
