"""What fewer network calls cost: the same futures of the same people, drawn in different numbers of steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.exact_unknown import hidden
from neuro4d_lib.applications.known_truth import HORIZONS, closed_form_futures, model_futures
from neuro4d_lib.applications.known_truth_scores import (
    NOISE_SEED,
    Request,
    as_people,
    best_forecast,
    changes,
    changes_law,
    scored_cases,
    training_people,
)
from neuro4d_lib.applications.line_law import People
from neuro4d_lib.applications.score_table import ratio_of_sums
from neuro4d_lib.applications.scoring import ControlledFutures, Distribution, Gaussian
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
    """Draw and score; every number of steps starts from the same noise. Needs PyTorch, safetensors and scipy alone.

    The first row of each number of scans, of 0 steps, is the closed form alone: what v = 0 would give.
    """
    law = request.law()
    batches = SimulatedBatches(law, network.deformation, state_maps(network.deformation.fields.cpu()))
    sampler = SAMPLERS[network.config.sampler](network.denoiser)
    eye = torch.eye(len(DRIVEN), dtype=torch.float64)
    rows = []
    parts = len(request.scans) * len(steps)
    for i, scans in enumerate(request.scans):
        cases = scored_cases(request, scans)
        told_of = hidden(cases) if request.hide_covariates else cases
        truth = changes(cases.truth, eye)
        reference = _group_rate(as_people(told_of, eye), law).crps(truth)
        unit = reference.mean(axis=0)
        gain = ((reference - best_forecast(request, told_of, eye).crps(truth)) / unit).mean(axis=(1, 2))
        twins, mean, root = closed_form_futures(network, batches, told_of, request.draws, _noise())
        closed_form = changes_law(mean, root, eye)
        found: dict[int, tuple[Distribution, float]] = {0: (closed_form, 0.0)}
        for j, count in enumerate(sorted(steps)):
            told = part(progress, (i * len(steps) + j) / parts, (i * len(steps) + j + 1) / parts)
            started = time.monotonic()
            rates = model_futures(
                network, batches, told_of, request.draws, _noise(), device, count, progress=told
            )  # fmt: skip
            futures = ControlledFutures(changes(rates, eye), changes(twins, eye), closed_form)
            found[count] = futures, time.monotonic() - started
        people = np.arange(request.people)
        of_group = (reference / unit).mean(axis=(1, 2))
        scores = {count: (forecast.crps(truth) / unit).mean(axis=(1, 2)) for count, (forecast, _) in found.items()}
        for count, (forecast, seconds) in found.items():
            crps = scores[count]
            share = ratio_of_sums(of_group - crps, gain, people)[:2]
            cost = ratio_of_sums(crps - scores[max(steps)], gain, people)[:2]
            pit = forecast.pit(truth)
            covered = float("nan") if pit is None else float((np.abs(pit - 0.5) <= 0.45).mean())
            calls = sampler.network_calls(count) if count else 0
            rows.append(StepsRow(scans, count, calls, float(crps.mean()), share, cost, covered, seconds))
    return rows


def _noise() -> torch.Generator:
    return torch.Generator().manual_seed(NOISE_SEED)


def render_steps(rows: Sequence[StepsRow], request: Request) -> str:
    """A table in Markdown."""
    lines = [
        f"Network calls and score: {request.people} simulated people, {'only their scans known' if request.hide_covariates else 'everything known'}, "
        f"{request.draws} futures each, all regions and horizons. 0 steps: the closed form alone.",
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
