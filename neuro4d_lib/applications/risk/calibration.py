"""Are the chances true? Stated for simulated people, and compared with what happened to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    Cases,
    closed_form_futures,
    exact_posterior,
    model_futures,
    simulate_cases,
    some_people,
)
from neuro4d_lib.applications.known_truth_scores import changes, changes_law
from neuro4d_lib.applications.page import as_csv, figure, png_of
from neuro4d_lib.applications.risk.assessment import probability_below
from neuro4d_lib.applications.risk.thresholds import Threshold, read_threshold
from neuro4d_lib.applications.risk.volume_file import weights_of
from neuro4d_lib.applications.scoring import Gaussian
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

THRESHOLDS = tuple(
    read_threshold(text)
    for text in ("hippocampus < -5%", "hippocampus < -10%", "lateral_ventricle > 20%", "whole_brain < -2%",
                 "hippocampus < -3 %/year", "lateral_ventricle > 8 %/year")
)  # fmt: skip
BINS = 10
_SEED, _BASE_SEED, _NOISE_SEED = 4711, 4712, 5
_BASE_PEOPLE = 20_000


@dataclass(frozen=True)
class Reliability:
    """How stated chances met what happened.

    Attributes:
        n: forecasts; every person counts once per threshold and horizon.
        brier: mean squared error of the chance; base_brier: of the rate at which it happens to people of the same
            diagnosis, learned from 20,000 others. skill = 1 - brier / base_brier; skill_error: its standard error, people
            taken as independent.
        stated, happened, counts: [BINS] mean stated chance, share in which it happened, forecasts.
        error: mean distance of the two, weighted by counts; noise: what a true forecast of as many independent cases
            would show.
    """

    n: int
    brier: float
    base_brier: float
    skill: float
    skill_error: float
    stated: np.ndarray
    happened: np.ndarray
    counts: np.ndarray
    error: float
    noise: float


def reliability(stated: np.ndarray, happened: np.ndarray, base: np.ndarray) -> Reliability:
    """Chances, outcomes and base rates of N people and E events each: [N, E]."""
    outcome = happened.astype(float)
    squares, base_squares = np.square(stated - outcome), np.square(base - outcome)
    place = np.minimum((stated * BINS).astype(int), BINS - 1).ravel()
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean_stated = np.bincount(place, stated.ravel(), BINS) / counts
        mean_happened = np.bincount(place, outcome.ravel(), BINS) / counts
        spread = np.bincount(place, (stated * (1 - stated)).ravel(), BINS) / counts
    used = counts > 0
    weight = counts[used] / counts.sum()
    error = float(weight @ np.abs(mean_stated - mean_happened)[used])
    noise = float(weight @ np.sqrt(2 / np.pi * spread[used] / counts[used]))
    brier, base_brier = float(squares.mean()), float(base_squares.mean())
    skill = 1 - brier / base_brier
    # Of a ratio of means over people, to first order.
    residual = (squares - (1 - skill) * base_squares).mean(axis=1) / base_brier
    return Reliability(
        stated.size, brier, base_brier, skill, float(residual.std(ddof=1) / np.sqrt(len(residual))), mean_stated,
        mean_happened, counts, error, noise,
    )  # fmt: skip


def check_risk(
    model: ForecastModel, people: int, scans: Sequence[int], network_people: int, draws: int, output: Path,
    progress: Progress = silent,
) -> str:  # fmt: skip
    """Measure, write risk_check.csv, reliability.png and risk_check.md; the latter as text."""
    population = Population()
    regions = tuple(dict.fromkeys(threshold.region for threshold in THRESHOLDS))
    weights = weights_of(regions, model.reference)
    base = base_rates(population, weights, regions)
    batches = SimulatedBatches(population, model.network.deformation, state_maps(model.network.deformation.fields))
    rows, diagrams = [], {}
    for i, count in enumerate(scans):
        told = part(progress, i / len(scans), (i + 1) / len(scans))
        told(0.0, f"People with {count} scan{'s' if count > 1 else ''}")
        cases = simulate_cases(population, people, count, torch.Generator().manual_seed(_SEED))
        truth = changes(cases.truth, weights)
        happened = np.stack([crossed(t, truth, regions) for t in THRESHOLDS], axis=-1)  # [N, H, E]
        of_people = base[cases.covariates[:, 4].long().numpy()]
        posterior = exact_posterior(population, cases)
        exact = changes_law(posterior.mean, posterior.root, weights)
        told(0.2, "The model's closed form")
        noise = torch.Generator().manual_seed(_NOISE_SEED)
        _, mean, root = closed_form_futures(model.network, batches, cases, 1, noise)
        chances = {
            "exact law": gaussian_chances(exact, regions),
            "model, closed form": gaussian_chances(changes_law(mean, root, weights), regions),
        }
        if network_people:
            some = some_people(cases, 0, network_people)
            chances["model, network"] = network_chances(
                model, batches, some, draws, weights, regions, part(told, 0.3, 1.0)
            )
        for name, stated in chances.items():
            n = len(stated)
            whole = reliability(stated.reshape(n, -1), happened[:n].reshape(n, -1), of_people[:n].reshape(n, -1))
            diagrams[name, count] = whole
            rows.append(_row(name, count, "all", n, whole))
            for e, threshold in enumerate(THRESHOLDS):
                of_event = reliability(stated[..., e], happened[:n, :, e], of_people[:n, :, e])
                rows.append(_row(name, count, threshold.text, n, of_event))
    command = f"python -m neuro4d_lib risk-check --people {people} --scans {' '.join(map(str, scans))}"
    if network_people:
        command += f" --network-people {network_people} --draws {draws}"
    text = _render(rows, command)
    write_whole(output / "risk_check.csv", as_csv(rows))
    write_whole(output / "reliability.png", _draw(diagrams, scans))
    write_whole(output / "risk_check.md", text)
    progress(1.0, "Done")
    return text


def base_rates(population: Population, weights: torch.Tensor, regions: tuple[str, ...]) -> np.ndarray:
    """How often each threshold is crossed by people of each diagnosis: [5, H, E]."""
    cases = simulate_cases(population, _BASE_PEOPLE, 1, torch.Generator().manual_seed(_BASE_SEED))
    truth = changes(cases.truth, weights)
    happened = np.stack([crossed(t, truth, regions) for t in THRESHOLDS], axis=-1)
    diagnosis = cases.covariates[:, 4].long().numpy()
    return np.stack([happened[diagnosis == d].mean(axis=0) for d in range(len(DIAGNOSES))])


def crossed(threshold: Threshold, change: np.ndarray, regions: tuple[str, ...]) -> np.ndarray:
    """Whether log-volume changes [N, H, A] are beyond a threshold of a change or a rate: [N, H]."""
    limit = threshold.log_change(np.array(HORIZONS), np.nan)
    value = change[..., regions.index(threshold.region)]
    return value < limit if threshold.below else value > limit


def gaussian_chances(law: Gaussian, regions: tuple[str, ...]) -> np.ndarray:
    """Chance of each threshold: [N, H, E]."""
    from scipy.special import ndtr

    assert law.sd is not None
    result = []
    for threshold in THRESHOLDS:
        a = regions.index(threshold.region)
        below = ndtr((threshold.log_change(np.array(HORIZONS), np.nan) - law.mean[..., a]) / law.sd[..., a])
        result.append(below if threshold.below else 1 - below)
    return np.stack(result, axis=-1)


def network_chances(
    model: ForecastModel, batches: SimulatedBatches, cases: Cases, draws: int, weights: torch.Tensor,
    regions: tuple[str, ...], progress: Progress,
) -> np.ndarray:  # fmt: skip
    """Chance of each threshold from futures that the network draws, as `risk` states it: [N, H, E]."""
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    rates = model_futures(
        model.network, batches, cases, draws, generator, torch.device("cpu"), people=8, progress=progress
    )
    drawn = changes(rates, weights)  # [draws, N, H, A]
    result = []
    for threshold in THRESHOLDS:
        limit = threshold.log_change(np.array(HORIZONS), np.nan)
        below = probability_below(drawn[..., regions.index(threshold.region)], limit)
        result.append(below if threshold.below else 1 - below)
    return np.stack(result, axis=-1)


def _row(name: str, scans: int, threshold: str, people: int, found: Reliability) -> dict[str, Any]:
    return {
        "forecast": name, "scans": scans, "threshold": threshold, "people": people, "brier": found.brier,
        "base_rate_brier": found.base_brier, "skill": found.skill, "skill_standard_error": found.skill_error,
        "calibration_error": found.error, "expected_of_true_chances": found.noise,
    }  # fmt: skip


def _render(rows: Sequence[dict[str, Any]], command: str) -> str:
    lines = [
        f"Simulated people; no evidence about real ones. Made by `{command}`.", "",
        "| forecast | scans | threshold | people | Brier | base rate's | skill (SE) | calibration error (of true chances) |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['forecast']} | {row['scans']} | {row['threshold']} | {row['people']} | {row['brier']:.4f} | "
            f"{row['base_rate_brier']:.4f} | {100 * row['skill']:.1f} % ({100 * row['skill_standard_error']:.1f}) | "
            f"{100 * row['calibration_error']:.2f} % ({100 * row['expected_of_true_chances']:.2f} %) |"
        )
    return "\n".join(lines) + "\n"


def _draw(diagrams: dict[tuple[str, int], Reliability], scans: Sequence[int]) -> bytes:
    made = figure(4 * len(scans), 4)
    for axes, count in zip(made.subplots(1, len(scans), squeeze=False)[0], scans, strict=True):
        axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle="--")
        for name, number in diagrams:
            if number != count:
                continue
            found = diagrams[name, number]
            bars = 200 * np.sqrt(np.maximum(found.happened * (1 - found.happened), 0) / np.maximum(found.counts, 1))
            color = COLORS[[key[0] for key in diagrams].index(name) % len(COLORS)]
            label = f"{name}, {found.n:,} chances"
            axes.errorbar(
                100 * found.stated,
                100 * found.happened,
                bars,
                color=color,
                marker="o",
                ms=3,
                lw=1,
                capsize=2,
                label=label,
            )
        axes.set(
            xlabel="stated chance, %",
            ylabel="share in which it happened, %",
            title=f"{count} scan{'s' if count > 1 else ''}",
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return png_of(made)
