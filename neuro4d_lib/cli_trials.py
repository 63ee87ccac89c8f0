"""The command that simulates clinical trials: trial."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from neuro4d_lib.cli_arguments import add_person, add_progress, covariates_from, need, progress_of, with_years
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines

EXAMPLES = """\
examples:
  Simulate a trial, on two processes:
    python -m neuro4d_lib trial docs/examples/trial_ad.toml --output out --workers 2

  The same on a Dask cluster, with the same table:
    python -m neuro4d_lib trial docs/examples/trial_ad.toml --output out --scheduler tcp://127.0.0.1:8786

  The smallest design:
    visits_years = [0, 1, 2]
    people_per_arm = 150
    [criteria]
    diagnoses = ["MCI"]
    [[arms]]
    name = "placebo"
    [[arms]]
    name = "drug"
    slowing = { hippocampus = 0.3 }

  One person in every arm: forecasts of a scan at the visits of the design, with the same chances
    python -m neuro4d_lib trial DESIGN.toml --person scan.nii.gz --age 74 --diagnosis MCI --output out

  What each setting means: docs/trials.md. An interrupted run goes on with the same command.
  Simulated people; no evidence about real ones. Research use only."""


def add_trial(commands: Any) -> None:
    """trial: simulated clinical trials."""
    parser = commands.add_parser(
        "trial",
        help="simulate a clinical trial: power, sample size, biomarkers, schedules",
        description="Simulate a clinical trial many times on virtual people: estimated effect, bias, power, type-I error and "
        "sample size by biomarker and analysis, and the cheapest schedule.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("design", type=Path, nargs="?", metavar="DESIGN.toml", help="the design, in TOML")
    parser.add_argument("--output", type=Path, metavar="DIR", help="new folder, or that of an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier trial in the output folder")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, such as tcp://127.0.0.1:8786")
    parser.add_argument(
        "--check", action="store_true", help="no design: print how the simulation compares with closed forms"
    )
    parser.add_argument("--settings", action="store_true", help="no design: print every setting with its default")
    add_progress(parser)
    person = parser.add_argument_group("one person in place of a cohort")
    person.add_argument("--person", metavar="SCAN", help="a T1-weighted scan: forecast it once for every arm")
    person.add_argument("--futures", type=int, default=8, metavar="N", help="futures to draw (default: 8)")
    person.add_argument("--model", type=Path, metavar="DIR", help="folder of a model (default: the shipped one)")
    add_person(parser)
    parser.set_defaults(run=run_trial)


def run_trial(chosen: argparse.Namespace) -> None:
    """Simulate a design, forecast one person in its arms, or compare the simulation with closed forms."""
    if chosen.settings:
        from neuro4d_lib.applications.trials.design_table import render_settings

        print(render_settings())
        return
    if chosen.check:
        _run_check(chosen)
        return
    if chosen.design is None or chosen.output is None:
        raise InputError(
            "Name a design and a folder: python -m neuro4d_lib trial DESIGN.toml --output DIR. See --help."
        )
    if chosen.person is not None:
        _run_person(chosen)
        return
    need("scipy", "matplotlib")
    from neuro4d_lib.applications.trials.run import UNFINISHED, Workers
    from neuro4d_lib.applications.trials.trial import NOTICE, simulate_trial

    workers = Workers(chosen.workers, chosen.scheduler)
    progress = progress_of(chosen.progress)
    try:
        result, written = simulate_trial(chosen.design, chosen.output, workers, progress, chosen.overwrite)
    except KeyboardInterrupt:
        kept = (chosen.output / UNFINISHED).is_dir()
        text = f"{chosen.output} keeps the trials that are finished; the same command goes on from there."
        raise KeyboardInterrupt(f"Interrupted. {text if kept else 'Nothing was written.'}") from None
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(chosen.output), files=written)
        return
    for row in result.summary.rows:
        n = f"{math.ceil(row.n_closed_form)}" if math.isfinite(row.n_closed_form) else "–"
        print(
            f"{row.arm:16} {row.biomarker:20} {row.analysis:8} effect {row.effect:+7.3f} %  power {100 * row.power:5.1f} %  "
            f"type I {100 * row.type_1:4.1f} %  n per arm for {100 * result.design.power:g} %: {n}"
        )
    if result.plans:
        best = result.plans[0]
        print(
            f"Cheapest plan: {best.duration_years:g} years, {best.visits} visits, {100 * best.enriched_share:g} % let in, "
            f"{best.n_per_arm:g} people per arm, cost {best.cost:,.0f}."
        )
    print(f"Open {chosen.output / 'report.html'}. {NOTICE}")


def _run_check(chosen: argparse.Namespace) -> None:
    need("scipy", "matplotlib", "statsmodels")
    if chosen.design is not None:
        raise InputError("--check has designs of its own. Leave out the design file.")
    from neuro4d_lib.applications.trials.check import render_check
    from neuro4d_lib.applications.trials.run import Workers
    from neuro4d_lib.files import write_whole

    text = render_check(Workers(chosen.workers, chosen.scheduler), progress_of(chosen.progress))
    print(text)
    if chosen.output is not None:
        write_whole(chosen.output / "check.md", text)


def _run_person(chosen: argparse.Namespace) -> None:
    from neuro4d_lib.applications.trials.design_file import read_design
    from neuro4d_lib.applications.trials.person import treat_person

    if chosen.scheduler is not None:
        raise InputError("One person is forecast on this machine. Leave out --scheduler.")
    design, _ = read_design(chosen.design)
    progress = progress_of(chosen.progress)
    written = treat_person(
        design,
        chosen.person,
        chosen.output,
        progress,
        covariates=covariates_from(chosen),
        past=[with_years(text) for text in chosen.past],
        futures=chosen.futures,
        seed=design.seed,
        model=chosen.model,
    )
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(chosen.output), files=written)
        return
    for name, what in written.items():
        print(f"  {chosen.output / name}  ({what})")
    print("A hypothetical treatment of a forecast brain. Research use only.")
