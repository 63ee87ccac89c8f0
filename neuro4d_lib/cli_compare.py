"""Commands for cohorts: effects of covariates, comparisons, and the checks of both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from neuro4d_lib.cli_arguments import add_progress, check_new_folder, need, progress_of
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import JsonLines, Progress, TerminalBar

COHORTS = """\
A cohort is a prepared study (what `prepare` writes), a simulated data set (what `simulate` writes; its true volumes), or
people drawn on the spot from the simulated population: simulated:COUNT, with :diagnosis=AD, :seed=3 and :REGION=SHIFT
(such as :hippocampus=-1, 1 % a year more loss than the population has)."""


def add_effects(commands: Any) -> None:
    """effects: which regions answer to which covariate."""
    parser = commands.add_parser(
        "effects",
        help="which regions of a cohort answer to which covariate",
        description="Effect of age, sex, education, APOE and diagnosis on the rate of every region, with 95 % intervals, "
        "corrected for many regions; beside the simulator's truth where the people are simulated.",
        epilog=f"{COHORTS}\n\nexample:\n  python -m neuro4d_lib effects simulated:1000 --output out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cohort", help="whose rates are explained")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the results")
    add_progress(parser)
    parser.set_defaults(run=run_effects)


def run_effects(chosen: argparse.Namespace) -> None:
    need("scipy", "statsmodels", "matplotlib")
    from neuro4d_lib.applications.cohorts.effects import cohort_effects, recovery
    from neuro4d_lib.applications.cohorts.effects_report import said, write_effects
    from neuro4d_lib.applications.cohorts.rates import read_cohort

    check_new_folder(chosen.output)
    progress = progress_of(chosen.progress)
    cohort = read_cohort(chosen.cohort, _reference(), progress)
    effects = cohort_effects(cohort)
    files = write_effects(cohort, effects, chosen.output)
    progress(1.0, "Done")
    met = recovery(effects)
    tell(files, chosen.output, progress, () if met is None else (said(met),))


def add_effects_check(commands: Any) -> None:
    """effects-check: are the simulator's own effects recovered?"""
    parser = commands.add_parser(
        "effects-check",
        help="measure whether cohorts show, and the model believes in, the simulator's own effects",
        description="Estimate all effects in many simulated cohorts and compare with the simulator's; then change covariates of "
        "simulated people and compare the change of the model's forecast with that of the exact law.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for tables and figure")
    parser.add_argument("--cohorts", type=int, default=200, metavar="N", help="simulated cohorts (default: 200)")
    parser.add_argument("--cohort-people", type=int, default=600, metavar="N", help="people of each (default: 600)")
    parser.add_argument("--people", type=int, default=1000, metavar="N", help="whose covariates change (default: 1000)")
    parser.add_argument(
        "--network-people", type=int, default=0, metavar="N", help="of them by the network (default: 0)"
    )
    parser.add_argument(
        "--draws", type=int, default=4, metavar="N", help="pairs of futures of each of those (default: 4)"
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the shipped model)")
    parser.set_defaults(run=run_effects_check)


def run_effects_check(chosen: argparse.Namespace) -> None:
    if chosen.cohorts < 1 or chosen.cohort_people < 200 or chosen.people < 10 or chosen.draws < 1:
        raise InputError("Expected at least 1 cohort of 200 people, 10 people, and 1 draw.")
    if not 0 <= chosen.network_people <= chosen.people or chosen.network_people == 1:
        raise InputError("Expected no people of the network, or 2 to as many as people.")
    need("scipy", "statsmodels", "matplotlib")
    import torch

    from neuro4d_lib.applications.cohorts.effects_check import check_effects
    from neuro4d_lib.checkpoint import load_model

    model = load_model(chosen.model, torch.device("cpu"))
    numbers = (chosen.cohorts, chosen.cohort_people, chosen.people, chosen.network_people, chosen.draws)
    print(f"\n{check_effects(model, *numbers, chosen.output, TerminalBar())}")


def tell(files: dict[str, str], folder: Path, progress: Progress, sentences: tuple[str, ...] = ()) -> None:
    if isinstance(progress, JsonLines):
        progress.event("done", folder=str(folder), files=files)
        return
    for name, what in files.items():
        print(f"  {folder / name}  ({what})")
    for sentence in sentences:
        print(sentence)
    print("This is research, not advice.")


def _reference() -> Any:
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.reference import Reference

    return Reference.load(SHIPPED)


def add_compare(commands: Any) -> None:
    """compare: two cohorts or two scanners."""
    parser = commands.add_parser(
        "compare",
        help="two cohorts or two scanners: rates, maps, their difference by permutation, normal ageing",
        description="Rates of every region and maps of progression of two cohorts, and their difference: adjusted, tested by "
        "permutation (Freedman and Lane), corrected for all regions, and all places, by the largest |t|.",
        epilog=f"{COHORTS}\n\nexample:\n  python -m neuro4d_lib compare simulated:150:diagnosis=CN simulated:150:diagnosis=MCI:seed=1 "
        "--output out\n\nWith --harmonize, the two are taken for two scanners: ComBat makes their rates alike.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", help="a cohort")
    parser.add_argument("second", help="another")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the results")
    parser.add_argument(
        "--adjust", nargs="*", default=["age", "sex", "diagnosis"], metavar="NAME",
        help="covariates to take out: age, sex, education, apoe4, diagnosis (default: age sex diagnosis)",
    )  # fmt: skip
    parser.add_argument("--harmonize", action="store_true", help="two scanners: harmonize the rates by ComBat first")
    parser.add_argument("--permutations", type=int, default=999, metavar="N", help="(default: 999)")
    parser.add_argument("--seed", type=int, default=0, help="of the permutations (default: 0)")
    add_progress(parser)
    parser.set_defaults(run=run_compare)


def run_compare(chosen: argparse.Namespace) -> None:
    need("scipy", "matplotlib", "pandas")
    from neuro4d_lib.applications.cohorts.compare import ADJUSTABLE, compare
    from neuro4d_lib.applications.cohorts.compare_report import scanner_sentence, write_comparison
    from neuro4d_lib.applications.cohorts.maps import brain_places, mean_maps
    from neuro4d_lib.applications.cohorts.rates import read_cohort

    check_new_folder(chosen.output)
    unknown = [name for name in chosen.adjust if name not in ADJUSTABLE]
    if unknown:
        raise InputError(f"--adjust names {unknown[0]!r}; expected some of {', '.join(ADJUSTABLE)}.")
    if chosen.first == chosen.second:
        raise InputError("Both cohorts are the same. Name two.")
    if not 99 <= chosen.permutations <= 100_000 or chosen.seed < 0:
        raise InputError("Expected 99 to 100000 permutations, and a seed of 0 or more.")
    progress, reference = progress_of(chosen.progress), _reference()
    first, second = (read_cohort(name, reference, progress) for name in (chosen.first, chosen.second))
    found = compare(
        first, second, list(dict.fromkeys(chosen.adjust)), harmonize=chosen.harmonize, mask=brain_places(reference),
        permutations=chosen.permutations, seed=chosen.seed, progress=progress,
    )  # fmt: skip
    files = write_comparison(found, mean_maps(found.first, found.second), reference, chosen.output)
    progress(1.0, "Done")
    sentences = [f"Not adjusted: {text}." for text in found.left_out]
    different = int((found.regions.p_max < 0.05).sum())
    sentences.append(f"{different} of {len(found.regions.t)} regions differ (p < 0.05 for all regions together).")
    tell(files, chosen.output, progress, (*sentences, *filter(None, [scanner_sentence(found)])))


def add_compare_check(commands: Any) -> None:
    """compare-check: is nothing found where nothing is, and a known difference where it is?"""
    parser = commands.add_parser(
        "compare-check",
        help="measure false positives, detection and harmonization of compare on simulated cohorts",
        description="Compare many pairs of simulated cohorts: of one population, with a known difference, and from two scanners.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the table")
    parser.add_argument("--pairs", type=int, default=1000, metavar="N", help="pairs of cohorts (default: 1000)")
    parser.add_argument("--people", type=int, default=60, metavar="N", help="people of each cohort (default: 60)")
    parser.set_defaults(run=run_compare_check)


def run_compare_check(chosen: argparse.Namespace) -> None:
    if chosen.pairs < 10 or chosen.people < 20:
        raise InputError("Expected at least 10 pairs of cohorts of 20 people.")
    need("scipy", "pandas")
    from neuro4d_lib.applications.cohorts.compare_check import check_compare

    print(f"\n{check_compare(chosen.pairs, chosen.people, chosen.output, TerminalBar())}")
