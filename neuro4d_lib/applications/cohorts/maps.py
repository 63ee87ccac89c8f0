"""Maps of progression on the lattice: log-Jacobian per year."""

from __future__ import annotations

import numpy as np
import torch

from neuro4d_lib.applications.cohorts.rates import Cohort
from neuro4d_lib.checkpoint import SHIPPED, load_network
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.training.fields import state_maps


def mean_maps(first: Cohort, second: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Of each cohort [V]: the mean of its own maps, or what its mean rates say, a velocity field per region."""
    return _mean_map(first), _mean_map(second)


def _mean_map(cohort: Cohort) -> np.ndarray:
    if cohort.maps is not None:
        return np.asarray(cohort.maps.mean(axis=0), dtype=np.float64)
    fields = load_network(SHIPPED)[0].deformation.fields
    of_region = state_maps(fields).flatten(1).double().numpy()
    return np.asarray(cohort.rates.mean(axis=0) @ of_region)


def brain_places(reference: Reference) -> np.ndarray:
    """[V] bool: the places of the lattice inside the brain."""
    inside = torch.from_numpy(reference.labels > 0).float()[None, None]
    return np.asarray(resample(inside, reference.grid, LATTICE)[0, 0].flatten().numpy() > 0.5)
