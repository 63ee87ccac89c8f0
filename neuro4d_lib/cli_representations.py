"""The command that compares what may be diffused: compare-representations."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from neuro4d_lib.errors import InputError


def add_compare_representations(commands: Any) -> None:
    """compare-representations: deformation, intensity, and both, on the same simulated people."""
    parser = commands.add_parser(
        "compare-representations",
        help="train deformation, intensity and deformation + residual on the same simulated people",
        description="Train three small models on the same simulated people, MS lesions among them, and print how well "
        "each forecasts the same other people. The defaults take some 20 minutes of one core.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="weights, tables, velocity fields")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each (default: 300)")
    parser.add_argument(
        "--people", type=int, default=48, help="people to learn from, of whom an eighth are only watched (default: 48)"
    )
    parser.add_argument("--test-people", type=int, default=24, help="people to forecast (default: 24)")
    parser.add_argument("--batch", type=int, default=4, help="people per step (default: 4)")
    parser.add_argument("--draws", type=int, default=4, help="futures of each person (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--plain",
        action="store_true",
        help="the networks alone: no regression on covariates to begin with, no augmentation, nobody held out",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.set_defaults(run=run_compare_representations)


def run_compare_representations(chosen: argparse.Namespace) -> None:
    numbers = {"--steps": 1, "--people": 4, "--test-people": 2, "--batch": 1, "--draws": 1}
    for name, least in numbers.items():
        value = getattr(chosen, name[2:].replace("-", "_"))
        if value < least:
            raise InputError(f"{name} is {value}; expected {least} or more.")
    held_out = 0 if chosen.plain else chosen.people // 8
    if chosen.batch > chosen.people - held_out:
        raise InputError(
            f"--batch is {chosen.batch}, more than the {chosen.people - held_out} people who are left to learn from."
        )
    if chosen.output.exists() and not chosen.output.is_dir():
        raise InputError(f"{chosen.output} is a file; expected a folder. Choose another name.")
    if (chosen.output / "representations.csv").exists():
        raise InputError(f"{chosen.output} holds a comparison already. Choose another folder; nothing is overwritten.")
    from neuro4d_lib.applications.representation_comparison import ComparisonConfig, compare
    from neuro4d_lib.devices import checked_device
    from neuro4d_lib.progress import TerminalBar
    from neuro4d_lib.training.image_training import ImageTrainingConfig

    device = checked_device(chosen.device)
    training = ImageTrainingConfig(steps=chosen.steps, people=chosen.batch, held_out=held_out)
    if chosen.plain:
        training = dataclasses.replace(training, regression=False, scanned=0.0, years_jitter=0.0)
    config = ComparisonConfig(
        people=chosen.people,
        test_people=chosen.test_people,
        draws=chosen.draws,
        seed=chosen.seed,
        training=training,
    )
    try:
        text = compare(config, chosen.output, device, TerminalBar())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted. {chosen.output} keeps the velocity fields, which the same command need not make again, and no table."
        ) from None
    print(text)
    print("\nSimulated people; no evidence about real ones.")
