"""A reference anatomy of 8 x 8 x 8 control points, so that a step of training takes milliseconds."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuro4d_lib.data.population import Population
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.trainer import pooled_covariance

LATTICE = (8, 8, 8)


@pytest.fixture(scope="session")
def fields(tmp_path_factory):
    """The file that `training_fields` writes, of random fields."""
    generator, regions = torch.Generator().manual_seed(0), len(DRIVEN)
    pooling = torch.rand(regions, *LATTICE, generator=generator)
    tensors = {
        "fields": torch.randn(regions, 3, *LATTICE, generator=generator),
        "pooling": pooling / pooling.flatten(1).sum(1)[:, None, None, None],
        "state_maps": torch.randn(regions, *LATTICE, generator=generator),
    }
    path = tmp_path_factory.mktemp("fields") / "fields.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def model_config():
    return ModelConfig(lattice=LATTICE, widths=(8, 16), condition=16)


@pytest.fixture
def model_and_batches(fields, model_config):
    torch.manual_seed(0)
    tensors, population = load_file(fields), Population()
    covariance = pooled_covariance(population, torch.Generator().manual_seed(0))
    model = TrajectoryModel(model_config)
    model.deformation = Deformation.of(tensors["fields"], covariance, tensors["pooling"])
    return model, SimulatedBatches(population, model.deformation, tensors["state_maps"])
