"""Commands that make brains to try things on: simulate, sample."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from neuro4d_lib.cli_arguments import add_population_file, population_config
from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, part


def add_simulate(commands: Any) -> None:
    """simulate: a cohort of simulated people, as a BIDS data set with the truth beside it."""
    parser = commands.add_parser(
        "simulate",
        help="write simulated people as a longitudinal BIDS data set",
        description="Write simulated people as a longitudinal BIDS data set, with the truth in derivatives/truth. "
        "About half a minute per scan on two cores.",
    )
    parser.add_argument("--subjects", type=int, required=True, metavar="N", help="how many people")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument("--visits", type=int, default=3, metavar="N", help="most scans a person (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of people, shapes and scans (default: 0)")
    parser.add_argument("--spacing", type=float, metavar="MM", help="voxel size (default: 2, or scanner.spacing_mm)")
    parser.add_argument("--whole-head", action="store_true", help="with skull and scalp")
    add_population_file(parser)
    parser.set_defaults(run=run_simulate)


def run_simulate(chosen: argparse.Namespace) -> None:
    if not 1 <= chosen.subjects <= 100_000:
        raise InputError(f"The number of subjects is {chosen.subjects}; expected 1 to 100000.")
    if not 1 <= chosen.visits <= 8:
        raise InputError(f"The number of visits is {chosen.visits}; expected 1 to 8.")
    if chosen.spacing is not None and not 0.5 <= chosen.spacing <= 4:
        raise InputError(f"The spacing is {chosen.spacing:g} mm; expected 0.5 to 4.")
    from neuro4d_lib.data.cohort import check_cohort, write_cohort
    from neuro4d_lib.data.population import Population
    from neuro4d_lib.data.rate_fields import rate_fields
    from neuro4d_lib.data.reference import build_reference
    from neuro4d_lib.data.simulated_subjects import simulated_subjects
    from neuro4d_lib.data.simulation import Simulator
    from neuro4d_lib.progress import TerminalBar

    config = population_config(chosen.population)
    if chosen.spacing is not None:
        scanner = dataclasses.replace(config.scanner, spacing_mm=(chosen.spacing,) * 3)
        config = dataclasses.replace(config, scanner=scanner)
    subjects = simulated_subjects(chosen.subjects, chosen.visits, chosen.seed, Population(config))
    check_cohort(subjects, chosen.output)
    progress: Progress = TerminalBar()
    progress(0.0, "Building the reference anatomy")
    reference = build_reference()
    progress(0.02, "Solving for the velocity field of each region")
    simulator = Simulator.of(reference, rate_fields(reference))
    write_cohort(
        simulator, subjects, chosen.output, config, whole_head=chosen.whole_head, seed=chosen.seed,
        progress=part(progress, 0.05, 1.0),
    )  # fmt: skip
    print(f"Wrote {chosen.subjects} simulated people to {chosen.output}; the truth is in derivatives/truth.")


def add_sample(commands: Any) -> None:
    """sample: a brain to try things on."""
    parser = commands.add_parser(
        "sample",
        help="write a sample brain, the MNI152 average of 152 people at 1 mm",
        description="Write the MNI152 average brain (197 x 233 x 189 voxels of 1 mm), which comes with nilearn, offline.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="such as sample.nii.gz")
    parser.set_defaults(run=run_sample)


def run_sample(chosen: argparse.Namespace) -> None:
    if not chosen.output.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"The output is {chosen.output}; expected a name that ends in .nii or .nii.gz.")
    import numpy as np

    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise InputError(
            "The sample comes with nilearn, which is missing. Install it with: pip install 'neuro4d-lib[training]'"
        ) from error
    from neuro4d_lib.data.images import write_like
    from neuro4d_lib.data.records import Image

    template = load_mni152_template(resolution=1)
    array = np.rint(template.get_fdata() * 1000).astype(np.int16)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    write_like(Image(array, template.affine, array.dtype), array, chosen.output, overwrite=True)
    print(f"Wrote {chosen.output}, the average brain of 152 people (MNI152, ICBM 2009a).")
