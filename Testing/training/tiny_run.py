"""A small run in a process of its own, to be killed or started by torchrun: tiny_run.py FIELDS OUTPUT SETTINGS."""

import json
import sys
from pathlib import Path

import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.distributed import joined
from neuro4d_lib.training.trainer import train

MODEL = ModelConfig(lattice=(8, 8, 8), widths=(8, 16), condition=16)
SMALL = {"people": 8, "prior_steps": 2, "validation_people": 9, "gate_people": 8}


def main(fields, output, settings):
    torch.set_num_threads(1)
    config = TrainingConfig(**{**SMALL, **settings})
    try:
        with joined(torch.device("cpu")) as group:
            train(Path(fields), Path(output), MODEL, config, group.device, group=group)
    except InputError as problem:
        sys.exit(f"Error: {problem}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
