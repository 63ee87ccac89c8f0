"""Scores of a model on simulated people beside the exact best forecast and the simple ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.exact_unknown import exact_forecast_of_unknown, hidden
from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    PEOPLE_AT_A_TIME,
    Cases,
    closed_form_futures,
    exact_posterior,
    model_futures,
    simulate_cases,
)
from neuro4d_lib.applications.line_law import EVERYBODY, People
from neuro4d_lib.applications.score_table import ALL, Score
from neuro4d_lib.applications.score_table import Cases as Cells
from neuro4d_lib.applications.scoring import (
    ControlledFutures,
    Distribution,
    Futures,
    Gaussian,
    score_changes,
    score_pit,
)
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ForecastModel, TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

# Both sides together and the large sums: the table of all 29 regions would be ten times as long.
SCORED = ("hippocampus", "entorhinal_cortex", "amygdala", "lateral_ventricle", "cortex", "white_matter", "whole_brain",
          "thalamus", "caudate")  # fmt: skip
SIMPLE = tuple(baselines.METHODS)
NEEDS_TWO_SCANS = ("personal_slope", "registration_extrapolation")
TRAINING_PEOPLE, TRAINING_SCANS = 3000, 8
EXACT_DRAWS = 400
_SEED, _TRAINING_SEED, NOISE_SEED, _EXACT_SEED = 777, 1, 5, 6


@dataclass(frozen=True)
class Request:
    """Whose futures are drawn, and how.

    Attributes:
        people, draws: how many, and how many futures of each.
        scans: numbers of scans, the latest among them.
        steps: denoising steps; the model's own where None.
        hide_covariates: nobody is told age, sex, education, APOE or diagnosis: neither model, nor exact, nor simple ones.
        population: what the people are like.
    """

    people: int
    draws: int
    scans: tuple[int, ...]
    steps: int | None = None
    hide_covariates: bool = False
    population: PopulationConfig = field(default_factory=PopulationConfig)

    def law(self) -> Population:
        """Of the people."""
        return Population(self.population)


def scored_cases(request: Request, scans: int) -> Cases:
    """The people who are scored, the same for every number of scans; none of them was trained on."""
    return simulate_cases(request.law(), request.people, scans, torch.Generator().manual_seed(_SEED))


def draw_futures(
    network: TrajectoryModel,
    sha256: str,
    output: Path,
    request: Request,
    device: torch.device,
    progress: Progress = silent,
) -> None:
    """Draw what is not yet in `output`, a file for every number of scans: a run that was ended goes on with the next.

    Needs PyTorch and safetensors alone.
    """
    output.mkdir(parents=True, exist_ok=True)
    batches = SimulatedBatches(request.law(), network.deformation, state_maps(network.deformation.fields.cpu()))
    for i, count in enumerate(request.scans):
        path, cases = futures_file(output, count), scored_cases(request, count)
        if path.is_file():
            read_futures(path, sha256, request, cases)
            continue
        told = part(progress, i / len(request.scans), (i + 1) / len(request.scans))
        told_of = hidden(cases) if request.hide_covariates else cases
        rates = model_futures(
            network, batches, told_of, request.draws, torch.Generator().manual_seed(NOISE_SEED), device, request.steps,
            progress=told,
        )  # fmt: skip
        tensors = {"rates": rates.float().contiguous(), "mean_truth": cases.truth.mean(dim=0).float()}
        said = {"model": sha256, "steps": str(request.steps), "covariates": _told(request)}
        write_whole(path, save(tensors, {**said, "people_at_a_time": str(PEOPLE_AT_A_TIME)}))


def futures_file(output: Path, scans: int) -> Path:
    """Where the futures of people with so many scans are kept."""
    return output / f"futures_{scans}.safetensors"


def read_futures(path: Path, sha256: str, request: Request, cases: Cases) -> Tensor:
    """Rates [draws, N, H, R] that were drawn before, if they are of this model, these people and these steps."""
    with safe_open(path, framework="pt") as file:
        said, names = file.metadata() or {}, set(file.keys())
        rates = file.get_tensor("rates")
        mean_truth = file.get_tensor("mean_truth") if "mean_truth" in names else torch.zeros(0)
    expected = (request.draws, *cases.truth.shape)
    same_people = mean_truth.shape == cases.truth.shape[1:] and torch.allclose(
        mean_truth.double(), cases.truth.mean(dim=0), atol=1e-6
    )
    if (
        rates.shape != expected
        or not same_people
        or said.get("model") != sha256
        or said.get("steps") != str(request.steps)
        or said.get("covariates", "known") != _told(request)
    ):
        raise InputError(
            f"{path} holds futures of another model, of other people, of another knowledge of them, or with another number of steps. "
            "Choose a new folder, or remove the file to draw it again."
        )
    return rates


def _told(request: Request) -> str:
    return "hidden" if request.hide_covariates else "known"


def some_courses(sha256: str, output: Path, request: Request, count: int) -> Tensor:
    """The first future of the first people with the fewest scans: rates [count, H, R]."""
    scans = request.scans[0]
    rates = read_futures(futures_file(output, scans), sha256, request, scored_cases(request, scans))
    return rates[0, :count]


def score_futures(model: ForecastModel, output: Path, request: Request, progress: Progress = silent) -> list[Score]:
    """All rows of the table, from the futures in `output`; needs scipy and statsmodels."""
    network, reference = model.network, model.reference
    weights = region_shares(reference)
    batches = SimulatedBatches(request.law(), network.deformation, state_maps(network.deformation.fields.cpu()))
    fitted = fitted_baselines(weights, part(progress, 0.0, 0.6), population=request.law())
    rows: list[Score] = []
    for i, count in enumerate(request.scans):
        progress(0.6 + 0.4 * i / len(request.scans), f"Scoring people with {count} scans")
        cases = scored_cases(request, count)
        path = futures_file(output, count)
        rates = read_futures(path, model.sha256, request, cases)
        told_of = hidden(cases) if request.hide_covariates else cases
        noise = torch.Generator().manual_seed(NOISE_SEED)
        twins, mean, root = closed_form_futures(
            network, batches, told_of, request.draws, noise, _people_at_a_time(path)
        )
        futures = ControlledFutures(changes(rates, weights), changes(twins, weights), changes_law(mean, root, weights))
        rows += score_cases(cases, futures, weights, fitted, brain_shares(reference), request)
    return rows


def _people_at_a_time(path: Path) -> int:
    """How many people drew their noise together."""
    with safe_open(path, framework="pt") as file:
        return int((file.metadata() or {}).get("people_at_a_time", PEOPLE_AT_A_TIME))


def changes(rates: Tensor, weights: Tensor) -> np.ndarray:
    """Log-volume change of sums of regions, weights [A, R], from rates [..., H, R]: [..., H, A]."""
    horizons = torch.tensor(HORIZONS, dtype=torch.float64)[:, None]
    return np.asarray(((rates.double() * horizons) @ weights.T).numpy())


def changes_law(mean: Tensor, root: Tensor, weights: Tensor) -> Gaussian:
    """The same of a Gaussian law of rates: mean [N, H, R], root [N, H * R, J]."""
    horizons = torch.tensor(HORIZONS, dtype=torch.float64)[:, None]
    frames = root.unflatten(1, mean.shape[1:])
    sd = (weights @ frames).square().sum(dim=-1).sqrt() * horizons
    return Gaussian(changes(mean, weights), sd.numpy())


def score_cases(
    cases: Cases,
    futures: Futures,
    weights: Tensor,
    fitted: dict[str, baselines.Forecaster],
    share_of_brain: np.ndarray,
    request: Request,
) -> list[Score]:
    """Rows of people with one number of scans, of the model's futures, the exact forecast and the simple ones."""
    people, scans = len(cases.past), cases.past.shape[1] + 1
    truth = changes(cases.truth, weights)
    told_of = hidden(cases) if request.hide_covariates else cases
    past = as_people(told_of, weights)
    exact = best_forecast(request, told_of, weights)
    forecasts: dict[str, Distribution] = {
        "model": futures,
        "exact": exact,
    }
    for name, forecaster in fitted.items():
        if scans > 1 or name not in NEEDS_TWO_SCANS:
            prediction = forecaster(past, np.tile(np.array(HORIZONS), (people, 1)))
            forecasts[name] = Gaussian(prediction.mean, prediction.sd)
    cells = Cells(SCORED, HORIZONS, np.arange(people), diagnoses(cases), np.full(people, scans))
    group_rate, rows = forecasts["group_rate"], []
    for name, forecast in forecasts.items():
        rows += score_changes(cells, name, forecast, truth, group_rate, exact, share_of_brain=share_of_brain)
        if name in ("model", "exact"):
            rows += [row for row in score_pit(cells, name, forecast, truth) if row.diagnosis == ALL]
    return [row for row in rows if row.scans is not None]


def best_forecast(request: Request, told_of: Cases, weights: Tensor) -> Distribution:
    """The exact forecast of what is known of the people."""
    if not request.hide_covariates:
        return exact_forecast(told_of, weights, request.law())
    generator = torch.Generator().manual_seed(_EXACT_SEED)
    return exact_forecast_of_unknown(request.law(), told_of, weights, EXACT_DRAWS, generator)


def exact_forecast(cases: Cases, weights: Tensor, population: Population) -> Gaussian:
    """The best possible forecast of the log-volume changes of sums of regions, weights [A, R]: [N, H, A]."""
    posterior = exact_posterior(population, cases)
    return changes_law(posterior.mean, posterior.root, weights)


def fitted_baselines(
    weights: Tensor,
    progress: Progress = silent,
    people: int = TRAINING_PEOPLE,
    population: Population | None = None,
) -> dict[str, baselines.Forecaster]:
    """The simple forecasters, each fitted to that many other people with eight scans."""
    training = training_people(weights, people, population)
    fitted = {}
    for i, name in enumerate(SIMPLE):
        progress(i / len(SIMPLE), f"Fitting {name} to {people} other people")
        fitted[name] = baselines.fit(name, training)
    return fitted


def training_people(weights: Tensor, people: int = TRAINING_PEOPLE, population: Population | None = None) -> People:
    """Whom the simple forecasters learn from."""
    generator = torch.Generator().manual_seed(_TRAINING_SEED)
    return as_people(simulate_cases(population or Population(), people, TRAINING_SCANS, generator), weights)


def region_shares(reference: Reference) -> Tensor:
    """Log-volume change of SCORED, to first order, from that of the driven regions: [A, R]."""
    driven = len(DRIVEN)
    if any(reference.aggregates[name][driven:].any() for name in SCORED) or len(REGIONS) != driven + 1:
        raise ValueError("An aggregate holds a region that is not driven.")
    return torch.from_numpy(np.stack([reference.aggregates[name][:driven] for name in SCORED]))


def brain_shares(reference: Reference) -> np.ndarray:
    """Volume of SCORED per volume of the whole brain, in the reference: [A]."""
    volumes = np.array([reference.volumes_mm3[reference.aggregates[name] > 0].sum() for name in SCORED])
    return np.asarray(volumes / volumes[SCORED.index("whole_brain")])


def as_people(cases: Cases, weights: Tensor) -> People:
    """The scans of the cases as measured log-volumes against the reference."""
    changes = cases.seen * cases.past[..., None]
    last = torch.zeros(len(changes), 1, weights.shape[1], dtype=torch.float64)
    volumes = cases.seen_state[:, None] + torch.cat([changes, last], dim=1)
    years = torch.cat([cases.past, torch.zeros(len(volumes), 1, dtype=torch.float64)], dim=1).numpy()
    return People(years, (volumes @ weights.T).numpy(), cases.covariates[:, 0].numpy(), diagnoses(cases))


def diagnoses(cases: Cases) -> np.ndarray:
    """[N] names; of everybody where it is unknown."""
    return np.array([EVERYBODY if np.isnan(d) else DIAGNOSES[int(d)] for d in cases.covariates[:, 4].tolist()])
