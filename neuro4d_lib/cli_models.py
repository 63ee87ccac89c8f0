"""Commands that make models and the people they learn from: simulate, train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from neuro4d_lib.errors import InputError
from neuro4d_lib.progress import Progress, part

_ABOUT: dict[str, Any] = {
    "name": "simulated-ageing",
    "version": "0.1.0",
    "license": "Apache-2.0; reference image and regions under the ICBM 152 notice in NOTICE.txt",
    "use": "Research use only. Not for diagnosis, treatment or advice.",
    "training_data": "Simulated people only (neuro4d_lib/data/population.py): published mean rates, assumed spreads. No real scan was used.",
    "limits": [
        "Learned from simulated rates of region volumes; says nothing that the published rates do not contain.",
        "Earlier scans enter by registration, whose errors are larger than the simulated scan noise.",
        "Lesions, tumours, strokes and growth in childhood are not modelled.",
    ],
    "ranges": {"age": [18, 100], "years": [0.25, 10], "past_years": [-8, -0.25]},
}


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
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM", help="voxel size (default: 2)")
    parser.add_argument("--whole-head", action="store_true", help="with skull and scalp")
    parser.set_defaults(run=run_simulate)


def run_simulate(chosen: argparse.Namespace) -> None:
    if not 1 <= chosen.subjects <= 100_000:
        raise InputError(f"The number of subjects is {chosen.subjects}; expected 1 to 100000.")
    if not 1 <= chosen.visits <= 8:
        raise InputError(f"The number of visits is {chosen.visits}; expected 1 to 8.")
    if not 0.5 <= chosen.spacing <= 4:
        raise InputError(f"The spacing is {chosen.spacing:g} mm; expected 0.5 to 4.")
    from neuro4d_lib.data.cohort import write_cohort
    from neuro4d_lib.data.rate_fields import rate_fields
    from neuro4d_lib.data.reference import build_reference
    from neuro4d_lib.data.scanner import ScannerSettings
    from neuro4d_lib.data.simulated_subjects import simulated_subjects
    from neuro4d_lib.data.simulation import Simulator
    from neuro4d_lib.progress import TerminalBar

    progress: Progress = TerminalBar()
    progress(0.0, "Building the reference anatomy")
    reference = build_reference()
    progress(0.02, "Solving for the velocity field of each region")
    simulator = Simulator.of(reference, rate_fields(reference))
    subjects = simulated_subjects(chosen.subjects, chosen.visits, chosen.seed)
    settings = ScannerSettings(spacing_mm=(chosen.spacing,) * 3)
    write_cohort(
        simulator, subjects, chosen.output, settings, whole_head=chosen.whole_head, seed=chosen.seed,
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
    import nibabel
    import numpy as np
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=1)
    image = nibabel.Nifti1Image(np.rint(template.get_fdata() * 1000).astype(np.int16), template.affine)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = chosen.output.with_name("part-" + chosen.output.name)
    nibabel.save(image, temporary)
    temporary.replace(chosen.output)
    print(f"Wrote {chosen.output}, the average brain of 152 people (MNI152, ICBM 2009a).")


def add_train(commands: Any) -> None:
    """train: a model on simulated people."""
    parser = commands.add_parser(
        "train",
        help="train a model on simulated people",
        description="Train a model on simulated people and write a model folder. Run it again to go on where it stopped.",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the run; model/ in it at the end"
    )
    parser.add_argument("--steps", type=int, default=7500, help="steps of the network (default: 7500)")
    parser.add_argument("--people", type=int, default=48, help="simulated people per step (default: 48)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="make the folder of these weights, without training"
    )
    parser.set_defaults(run=run_train)


def run_train(chosen: argparse.Namespace) -> None:
    import torch

    from neuro4d_lib.model import ModelConfig
    from neuro4d_lib.progress import TerminalBar
    from neuro4d_lib.training.model_folder import make_model_folder
    from neuro4d_lib.training.trainer import WEIGHTS_FILE, TrainingConfig, train

    if chosen.steps < 1 or chosen.people < 1:
        raise InputError(f"--steps is {chosen.steps} and --people {chosen.people}; expected 1 or more.")
    progress: Progress = TerminalBar()
    chosen.output.mkdir(parents=True, exist_ok=True)
    config, weights = ModelConfig(), chosen.weights
    about = {**_ABOUT, "command": "python -m neuro4d_lib train --output RUN"}
    if weights is None:
        from neuro4d_lib.training.fields import training_fields

        fields = training_fields(chosen.output / "fields.safetensors", progress)
        name = ("cuda" if torch.cuda.is_available() else "cpu") if chosen.device == "auto" else chosen.device
        settings = TrainingConfig(steps=chosen.steps, people=chosen.people, seed=chosen.seed)
        train(fields, chosen.output, config, settings, torch.device(name), progress)
        weights = chosen.output / WEIGHTS_FILE
        about["command"] += f" --steps {chosen.steps} --people {chosen.people} --seed {chosen.seed}"
    elif not weights.is_file():
        raise InputError(f"There is no file {weights}. Name the weights.safetensors of a run.")
    folder = make_model_folder(weights, chosen.output / "model", config, about)
    print(f"Wrote the model folder {folder}. Forecast with it: --model {folder}")
