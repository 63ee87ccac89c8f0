"""A small run in a process of its own, to be killed or started by torchrun: tiny_run.py FIELDS OUTPUT SETTINGS [study]."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from neuro4d_lib.data.population import Population
from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.distributed import joined
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.simulated_study import simulated_people
from neuro4d_lib.training.study_config import StudyConfig, StudyRunConfig
from neuro4d_lib.training.study_people import split
from neuro4d_lib.training.study_run import Start, StudyOfRun, study_task
from neuro4d_lib.training.trainer import run_task, train

MODEL = ModelConfig(lattice=(8, 8, 8), widths=(8, 16), condition=16)
SMALL = {"people": 8, "prior_steps": 2, "validation_people": 9, "gate_people": 8}


def study_run(fields, output, config, group=None):
    """Twenty-one people of a study, from scratch."""
    tensors, population = load_file(fields), Population()
    covariance = torch.diag(population.rate_sd[2] ** 2)
    batches = SimulatedBatches(
        population, Deformation.of(tensors["fields"], covariance, tensors["pooling"]), tensors["state_maps"]
    )
    people = simulated_people(batches, population, 21, 3, torch.Generator().manual_seed(0))
    parts = split(people, 0.15, 0.15, torch.Generator().manual_seed(0))
    study = StudyOfRun(Path("study"), {"study": "tiny", "subjects": {}}, tuple(people), parts)
    start = Start(None, None, None, tensors["fields"], None, tensors["pooling"])
    settings = StudyConfig(strengths=(1.0,), law_steps=3, folds=2)
    settings = StudyRunConfig(training=config, study=settings, model=MODEL)
    device = torch.device("cpu") if group is None else group.device
    run_task(lambda: study_task(start, study, settings, output), output, config, device, group=group)


def main(fields, output, settings, kind="simulated"):
    torch.set_num_threads(1)
    config = TrainingConfig(**{**SMALL, **settings})
    try:
        with joined(torch.device("cpu")) as group:
            if kind == "study":
                study_run(Path(fields), Path(output), config, group)
            else:
                train(Path(fields), Path(output), MODEL, config, group.device, group=group)
    except InputError as problem:
        sys.exit(f"Error: {problem}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), *sys.argv[4:])
