"""Scores of a model on simulated people beside the exact best forecast and the simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    Cases,
    exact_posterior,
    model_futures,
    simulate_cases,
)
from neuro4d_lib.applications.line_law import People
from neuro4d_lib.applications.score_report import render_scores
from neuro4d_lib.applications.score_table import Cases as Cells
from neuro4d_lib.applications.score_table import write_scores, write_whole
from neuro4d_lib.applications.scoring import Distribution, Gaussian, score_changes
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.forecasting.ensemble import student_t_quantile
from neuro4d_lib.metrics import calibration
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

# Both sides together and the large sums: the table of all 29 regions would be ten times as long.
SCORED = ("hippocampus", "entorhinal_cortex", "amygdala", "lateral_ventricle", "cortex", "white_matter", "whole_brain",
          "thalamus", "caudate")  # fmt: skip
SIMPLE = ("copy_last", "group_rate", "personal_slope", "shrunk_slope")
_SEED = 777


@dataclass(frozen=True)
class Futures:
    """samples [M, N, H, R] with the bands that a forecast states: Student's t around their mean."""

    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.samples.mean(axis=0)

    def crps(self, truth: np.ndarray) -> np.ndarray:
        return calibration.crps_ensemble(self.samples, truth)

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        count = len(self.samples)
        half = (
            student_t_quantile((1 + level) / 2, count - 1) * self.samples.std(axis=0, ddof=1) * (1 + 1 / count) ** 0.5
        )
        return self.mean - half, self.mean + half


def score_model(
    model: ForecastModel,
    output: Path,
    *,
    people: int,
    draws: int,
    scans: Sequence[int],
    steps: int | None = None,
    progress: Progress = silent,
) -> None:
    """Draw futures of the test people (kept in `output`, so that scoring can be repeated) and write scores.csv and scores.md."""
    output.mkdir(parents=True, exist_ok=True)
    population = Population()
    batches = SimulatedBatches(
        population, model.network.deformation, state_maps(model.network.deformation.fields.cpu())
    )
    rows, names = [], (*(region.name for region in DRIVEN), *SCORED)
    weights = _weights(model.reference)
    fitted = {
        name: baselines.fit(
            name, _as_people(simulate_cases(population, 3000, 8, torch.Generator().manual_seed(1)), weights)
        )
        for name in SIMPLE
    }
    for i, count in enumerate(scans):
        cases = simulate_cases(population, people, count, torch.Generator().manual_seed(_SEED))
        saved = output / f"futures_{count}.safetensors"
        if saved.is_file():
            rates = load_file(saved)["rates"]
        else:
            rates = model_futures(
                model.network, batches, cases, draws, torch.Generator().manual_seed(5), model.device, steps,
                progress=lambda done, text, i=i: progress((i + done) / len(scans), text),  # type: ignore[misc]
            )  # fmt: skip
            save_file({"rates": rates.float().contiguous()}, saved)
        horizons = torch.tensor(HORIZONS, dtype=torch.float64)[:, None]
        truth = ((cases.truth * horizons) @ weights.T).numpy()
        posterior = exact_posterior(population, cases)
        exact = Gaussian(
            ((posterior.mean * horizons) @ weights.T).numpy(), _exact_sd(posterior.root, weights, horizons)
        )
        past = _as_people(cases, weights)
        ahead = np.tile(np.array(HORIZONS), (people, 1))
        forecasts: dict[str, Distribution] = {
            "model": Futures(((rates.double() * horizons) @ weights.T).numpy()),
            "exact": exact,
        }
        for name in SIMPLE:
            if name == "personal_slope" and count < 2:
                continue
            prediction = fitted[name](past, ahead)
            forecasts[name] = Gaussian(prediction.mean, prediction.sd)
        cells = Cells(names, HORIZONS, np.arange(people), past.diagnosis, np.full(people, count))
        for name, forecast in forecasts.items():
            rows += [
                row
                for row in score_changes(cells, name, forecast, truth, forecasts["group_rate"], exact)
                if row.scans is not None and row.region in SCORED
            ]
    write_scores(output / "scores.csv", rows)
    title = f"Known-truth benchmark: {people} simulated people"
    command = f"python -m neuro4d_lib known-truth --people {people} --draws {draws} --scans {' '.join(map(str, scans))}"
    write_whole(output / "scores.md", render_scores(rows, title, command))


def _weights(reference: Reference) -> Tensor:
    """Log-volume change of regions and aggregates, to first order, from that of the driven regions: [R + A, R]."""
    driven = len(DRIVEN)
    shares = np.stack([reference.aggregates[name][:driven] for name in SCORED])
    if any(reference.aggregates[name][driven:].any() for name in SCORED) or len(REGIONS) != driven + 1:
        raise ValueError("An aggregate holds a region that is not driven.")
    return torch.cat([torch.eye(driven, dtype=torch.float64), torch.from_numpy(shares)])


def _as_people(cases: Cases, weights: Tensor) -> People:
    """The scans of the cases as measured log-volumes, those of the latest scan being 0."""
    changes = (cases.seen * cases.past[..., None]) @ weights.T
    last = torch.zeros_like(changes[:, :1]) if changes.shape[1] else torch.zeros(len(changes), 1, len(weights))
    volumes = torch.cat([changes, last], dim=1).numpy()
    years = torch.cat([cases.past, torch.zeros(len(volumes), 1, dtype=torch.float64)], dim=1).numpy()
    diagnosis = np.array([DIAGNOSES[int(d)] for d in cases.covariates[:, 4]])
    return People(years, volumes, cases.covariates[:, 0].numpy(), diagnosis)


def _exact_sd(root: Tensor, weights: Tensor, horizons: Tensor) -> np.ndarray:
    """[N, H, R + A] of the log-volume change."""
    people, horizon_count, regions = len(root), len(horizons), weights.shape[1]
    frames = root.reshape(people, horizon_count, regions, -1)
    return ((weights @ frames).square().sum(dim=-1).sqrt() * horizons).numpy()
