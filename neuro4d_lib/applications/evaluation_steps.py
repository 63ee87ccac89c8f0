"""What fewer network calls cost: the same futures of the same people, drawn in different numbers of steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.known_truth import HORIZONS, model_futures
from neuro4d_lib.applications.known_truth_scores import (
    NOISE_SEED,
    Request,
    as_people,
    exact_forecast,
    scored_cases,
    training_people,
)
from neuro4d_lib.applications.line_law import People
from neuro4d_lib.applications.score_table import ratio_of_sums
from neuro4d_lib.applications.scoring import Futures, Gaussian
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches


@dataclass(frozen=True)
class StepsRow:
    """Scores over all driven regions and horizons, of people with one number of scans.

    Attributes:
        crps: mean, of each region's log-volume change in units of the group rate's mean CRPS of that region and horizon.
        share: of the exact forecaster's gain over the group rate, by these units, and its standard error by subject.
        cost: what the share lacks against that of the most steps, and its standard error, in pairs.
        coverage_90: share of truths inside the 90 % band.
        seconds: that drawing took.
    """

    scans: int
    steps: int
    calls: int
    crps: float
    share: tuple[float, float]
    cost: tuple[float, float]
    coverage_90: float
    seconds: float


def compare_steps(
    network: TrajectoryModel,
    request: Request,
    steps: Sequence[int],
    device: torch.device,
    progress: Progress = silent,
) -> list[StepsRow]:
    """Draw and score; every number of steps starts from the same noise. Needs PyTorch, safetensors and scipy alone."""
    batches = SimulatedBatches(request.law(), network.deformation, state_maps(network.deformation.fields.cpu()))
    sampler = SAMPLERS[network.config.sampler](network.denoiser)
    eye = torch.eye(len(DRIVEN), dtype=torch.float64)
    horizons = np.array(HORIZONS)[:, None]
    rows = []
    parts = len(request.scans) * len(steps)
    for i, scans in enumerate(request.scans):
        cases = scored_cases(request, scans)
        truth = cases.truth.numpy() * horizons
        reference = _group_rate(as_people(cases, eye), request.law()).crps(truth)
        unit = reference.mean(axis=0)
        of_group = (reference / unit).mean(axis=(1, 2))
        of_exact = (exact_forecast(cases, eye, request.law()).crps(truth) / unit).mean(axis=(1, 2))
        found: dict[int, tuple[np.ndarray, float, float]] = {}
        for j, count in enumerate(sorted(steps)):
            told = part(progress, (i * len(steps) + j) / parts, (i * len(steps) + j + 1) / parts)
            started = time.monotonic()
            rates = model_futures(
                network, batches, cases, request.draws, torch.Generator().manual_seed(NOISE_SEED), device, count,
                progress=told,
            )  # fmt: skip
            seconds = time.monotonic() - started
            futures = Futures(rates.double().numpy() * horizons)
            pit = futures.pit(truth)
            covered = float("nan") if pit is None else float((np.abs(pit - 0.5) <= 0.45).mean())
            found[count] = ((futures.crps(truth) / unit).mean(axis=(1, 2)), covered, seconds)
        people, best = np.arange(request.people), found[max(steps)][0]
        gain = of_group - of_exact
        for count, (crps, covered, seconds) in found.items():
            share = ratio_of_sums(of_group - crps, gain, people)[:2]
            cost = ratio_of_sums(crps - best, gain, people)[:2]
            rows.append(
                StepsRow(scans, count, sampler.network_calls(count), float(crps.mean()), share, cost, covered, seconds)
            )
    return rows


def render_steps(rows: Sequence[StepsRow], request: Request) -> str:
    """A table in Markdown."""
    lines = [
        f"Network calls and score: {request.people} simulated people, {request.draws} futures each, all regions and horizons.",
        "",
        "| scans | steps | network calls | CRPS / group rate's | share of exact skill, % | lost against most steps, % | 90 % band covers, % | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.scans} | {row.steps} | {row.calls} | {row.crps:.4f} | {100 * row.share[0]:.1f} ± {100 * row.share[1]:.1f} "
        f"| {100 * row.cost[0]:.2f} ± {100 * row.cost[1]:.2f} | {100 * row.coverage_90:.1f} | {row.seconds:.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _group_rate(people: People, population: Population) -> Gaussian:
    """The last scan and the group's mean rate, with the spread of people's rates."""
    training = training_people(torch.eye(len(DRIVEN), dtype=torch.float64), population=population)
    prediction = baselines.fit("group_rate", training)(people, np.tile(np.array(HORIZONS), (len(people.age), 1)))
    return Gaussian(prediction.mean, prediction.sd)
