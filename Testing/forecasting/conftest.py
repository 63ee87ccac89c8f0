"""A small head, a model whose every draw is known, and the forecast made of them: seconds instead of minutes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.data.regions import REGIONS
from neuro4d_lib.forecasting import forecaster
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.spaces import LATTICE, Grid

HIPPOCAMPI = {"left_hippocampus": (-26, -22, -14), "right_hippocampus": (26, -22, -14)}
VENTRICLES = {"left_lateral_ventricle": (-16, 0, 18), "right_lateral_ventricle": (16, 0, 18)}
RADIUS_MM, REACH_MM = 11.0, 9.0
RATE = {"AD": -0.05, "MCI": -0.03, "CN": -0.01, None: -0.02}
INDEX = {region.name: region.index for region in REGIONS}


def places_mm(grid):
    """[3, D, H, W]: RAS mm of every voxel."""
    return np.tensordot(grid.affine[:3, :3], np.indices(grid.shape), 1) + grid.affine[:3, 3][:, None, None, None]


def distance_mm(places, center):
    return np.linalg.norm(places - np.reshape(center, (3, 1, 1, 1)), axis=0)


@pytest.fixture(scope="session")
def scan():
    """Oblique, anisotropic, left-handed, whole numbers with a scale factor: all that may differ from 1 mm RAS."""
    turn = np.deg2rad(12)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-3.0, 3.2, 2.8])
    shape = (52, 60, 54)
    affine[:3, 3] = np.array([0, -15, 3]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    places = places_mm(grid)
    inside = distance_mm(places / np.reshape([65, 80, 60], (3, 1, 1, 1)), (0, -15 / 80, 0)) < 1
    texture = 60 * np.sin(places[0] / 6) * np.sin(places[1] / 7) * np.sin(places[2] / 5)
    values = np.where(inside, 700 + texture, 0)
    for center in VENTRICLES.values():
        values[distance_mm(places, center) < RADIUS_MM] = 200
    return Image(values.round().astype(np.int16), affine, np.dtype(np.int16), slope=0.5, inter=3.0, path="head.nii.gz")


@pytest.fixture(scope="session")
def aligned(scan):
    """As preprocessing gives it: a small turn and shift into aligned space, a bent map to reference space."""
    places = places_mm(scan.grid)
    labels = np.where(scan.array > 0, INDEX["left_white_matter"], 0).astype(np.uint8)
    labels[(labels > 0) & (places[0] > 0)] = INDEX["right_white_matter"]
    labels[(labels > 0) & (places[2] > 40)] = INDEX["left_frontal_cortex"]
    for name, center in {**HIPPOCAMPI, **VENTRICLES}.items():
        labels[distance_mm(places, center) < RADIUS_MM] = INDEX[name]
    affine = np.array([[1.02, 0.05, 0, 1], [-0.05, 1.01, 0.02, -2], [0, -0.02, 0.99, 3], [0, 0, 0, 1.0]])
    psi = torch.zeros(3, *LATTICE.shape)
    psi[:, 6:26, 8:32, 6:26] = torch.randn(3, 20, 24, 20, generator=torch.Generator().manual_seed(5))
    return SimpleNamespace(
        affine=affine,
        psi=psi,
        labels=labels,
        anatomy=torch.zeros(2, *LATTICE.shape),
        warnings=(),
        quality_as_dict=lambda: {"correlation": 0.95},
    )


def swelling(centers):
    """Velocity control points [3, 32, 40, 32] whose divergence is positive around each center, in aligned space."""
    places = places_mm(LATTICE)
    total = np.zeros_like(places)
    for center in centers:
        away = places - np.reshape(center, (3, 1, 1, 1))
        total += away * np.exp(-np.square(away).sum(axis=0) / (2 * REACH_MM**2))
    return bspline.fit(torch.as_tensor(total, dtype=torch.float32)[None])[0]


class KnownModel:
    """Hippocampi shrink and ventricles grow at a rate by diagnosis, times a factor that the generator draws."""

    sha256 = "0" * 64
    reference = None
    card = {  # noqa: RUF012
        "name": "known",
        "version": "1",
        "training_data": "Simulated people.",
        "ranges": {"age": [40, 95], "years": [0.25, 10], "past_years": [-6, -0.25], "diagnosis": ["CN", "MCI", "AD"]},
    }
    motion = swelling(HIPPOCAMPI.values()) - swelling(VENTRICLES.values())

    def condition(self, covariates, anatomy, observed):
        return RATE[covariates.diagnosis] + sum(float(velocity.mean()) for _, velocity in observed)

    def draw(self, condition, years, generator, steps, progress):
        factor = 1 + 0.3 * torch.randn(1, generator=generator)
        return torch.stack([condition * factor * self.motion for _ in years])

    def group_rate(self, covariates, years):
        return torch.stack([RATE[covariates.diagnosis] * self.motion for _ in years])

    def network_calls(self, steps):
        return steps or 20


@pytest.fixture
def known_model(monkeypatch, aligned):
    """The forecaster with this model and this head in place of the real ones."""
    stand_in(monkeypatch, aligned)


def stand_in(patch, aligned):
    patch.setattr(forecaster, "load_model", lambda folder, device: KnownModel())
    patch.setattr(forecaster, "preprocess", lambda image, reference, progress: aligned)
    motion = SimpleNamespace(velocity_mm=torch.zeros(3, *LATTICE.shape), likeness=0.9, agreement=0.95)
    patch.setattr(forecaster, "observed_velocity", lambda image, aligned, years: motion)


@pytest.fixture
def stained(scan):
    """The stain of the other modality on the scan's voxels: [D, H, W]."""
    return stain(scan.grid)


@pytest.fixture(scope="session")
def example(scan, aligned):
    """A forecast with everything that can be carried along: 3 futures, 2 years, segmentation, another modality."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, aligned)
        return forecaster.forecast(
            scan,
            Covariates(age=74, diagnosis="AD"),
            (1, 4),
            futures=3,
            segmentation=Image(aligned.labels.astype(np.int16), scan.affine, np.dtype(np.int16), path="seg.nii.gz"),
            also=[other_modality(scan)],
            device="cpu",
        )


@pytest.fixture(scope="session")
def own_same_other(scan, aligned):
    """Three forecasts with the same noise: of a person with MCI, of the same covariates again, and as if with AD."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, aligned)
        covariates = [Covariates(age=74, diagnosis=diagnosis) for diagnosis in ("MCI", "MCI", "AD")]
        return forecaster.forecasts(scan, covariates, (3,), futures=2, device="cpu")


def stain(grid):
    """[D, H, W]: brightest at the left hippocampus, smooth."""
    center = HIPPOCAMPI["left_hippocampus"]
    return (1000 * np.exp(-np.square(distance_mm(places_mm(grid), center)) / 200)).astype(np.float32)


def other_modality(scan):
    """A stain over the left hippocampus, float, on every second voxel of the scan."""
    grid = Grid(tuple((n + 1) // 2 for n in scan.array.shape), scan.affine @ np.diag([2, 2, 2, 1.0]))
    return Image(stain(grid), grid.affine, np.dtype(np.float32), path="/data/flair.nii.gz")
