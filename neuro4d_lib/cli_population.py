"""Commands that show what the simulated people are like: population, reality-check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro4d_lib.cli_arguments import add_population_file, population_config
from neuro4d_lib.errors import InputError

if TYPE_CHECKING:
    from neuro4d_lib.data.population import Population


def add_population(commands: Any) -> None:
    """population: what is assumed about the simulated people."""
    parser = commands.add_parser(
        "population",
        help="print what is assumed about the simulated people",
        description="Print rates of change by region and diagnosis, and every other assumption about the simulated "
        "people with its source, as Markdown.",
    )
    add_population_file(parser)
    parser.set_defaults(run=run_population)


def run_population(chosen: argparse.Namespace) -> None:
    from neuro4d_lib.applications.population_table import render_population
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.reference import Reference

    print(render_population(_population(chosen.population), Reference.load(SHIPPED)))


def add_reality_check(commands: Any) -> None:
    """reality-check: simulated people beside real ones."""
    parser = commands.add_parser(
        "reality-check",
        help="print how simulated people differ from real ones",
        description="Print rates, their spread and scan noise of real people and of simulated cohorts of the same ages, "
        "diagnoses and visit times, by the same estimators. The real tables are not part of Neuro4D: "
        "oasis2_longitudinal_shared.csv (OASIS-2 with ventricle areas) and kirby21_scanrescan_volumes_shared.csv.",
    )
    parser.add_argument("folder", type=Path, help="folder with the two tables of real people")
    parser.add_argument("--cohorts", type=int, default=100, metavar="N", help="simulated cohorts (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated people (default: 0)")
    add_population_file(parser)
    parser.set_defaults(run=run_reality_check)


def run_reality_check(chosen: argparse.Namespace) -> None:
    if not 2 <= chosen.cohorts <= 100_000:
        raise InputError(f"The number of cohorts is {chosen.cohorts}; expected 2 to 100000.")
    import torch

    from neuro4d_lib.applications.reality_check import reality_check, render_comparison
    from neuro4d_lib.checkpoint import SHIPPED
    from neuro4d_lib.data.population_volumes import PopulationVolumes
    from neuro4d_lib.data.reference import Reference
    from neuro4d_lib.progress import TerminalBar

    population = PopulationVolumes(_population(chosen.population), Reference.load(SHIPPED))
    generator = torch.Generator().manual_seed(chosen.seed)
    progress = TerminalBar()
    rows = reality_check(chosen.folder, population, generator, chosen.cohorts, progress)
    progress(1.0, f"{chosen.cohorts} simulated cohorts")
    print(render_comparison(rows))
    beyond = sum(abs(row.z) > 2 for row in rows)
    print(
        f"\n{beyond} of {len(rows)} differ by more than two standard errors; about {0.05 * len(rows):.0f} would by chance. "
        "Simulated people, for research only."
    )


def _population(file: Path | None) -> Population:
    from neuro4d_lib.data.population import Population

    return Population(population_config(file))
