"""Does a cohort show the simulator's own effects, and does the model believe in them? On simulated people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from neuro4d_lib.applications.cohorts.effects import Effect, Recovery, cohort_effects, recovery
from neuro4d_lib.applications.cohorts.rates import REGIONS, draw_cohort
from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.known_truth import (
    HORIZONS,
    Cases,
    closed_form_futures,
    exact_posterior,
    model_futures,
    simulate_cases,
)
from neuro4d_lib.applications.page import as_csv, figure, png_of
from neuro4d_lib.data.population import COVARIATES, Population
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.training.fields import state_maps
from neuro4d_lib.training.simulated import SimulatedBatches

CHANGES: Mapping[str, tuple[str, float, float]] = {
    "APOE e4: 0 to 2 alleles, in CN": ("apoe4", 0.0, 2.0),
    "APOE e4: 0 to 2 alleles, in MCI": ("apoe4", 0.0, 2.0),
    "diagnosis: CN to MCI": ("diagnosis", 0.0, 1.0),
    "diagnosis: MCI to AD": ("diagnosis", 1.0, 2.0),
    "age: 65 to 80, in CN": ("age", 65.0, 80.0),
    "women to men, in AD": ("sex", 0.0, 1.0),
}
_AMONG = (0, 1, None, None, 0, 2)
"""The diagnosis of the people, by change; None where that is what is changed."""
_CLEAR = 0.05
"""% per year: smaller effects have no sign that matters."""
_HORIZON = 3.0
_SEED = 99


@dataclass(frozen=True, eq=False)
class Belief:
    """What a change of a covariate does to the forecast rate over three years, % per year [R]: mean over people.

    Attributes:
        exact: by the law of the simulator, given the same scans; model: by the model's closed form.
        network, network_error: by the network with common noise, and the standard error of its mean; None: not asked.
    """

    change: str
    exact: np.ndarray
    model: np.ndarray
    network: np.ndarray | None
    network_error: np.ndarray | None


def repeated_recovery(cohorts: int, people: int, seed: int = 0, progress: Progress = silent) -> Recovery:
    """Recovery over many simulated cohorts, all their effects together."""
    population, effects = Population(), list[Effect]()
    for i in range(cohorts):
        progress(i / cohorts, f"Cohort {i + 1} of {cohorts}")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        covariates = population.draw_covariates(people, generator)
        effects += cohort_effects(draw_cohort(population, covariates, generator))
    found = recovery(effects)
    assert found is not None  # simulated cohorts know their truth
    return found


def beliefs(
    model: ForecastModel, people: int, scans: int, network_people: int, draws: int, progress: Progress
) -> list[Belief]:
    """Of every change, in people who keep their scans."""
    population = Population()
    deformation = model.network.deformation
    batches = SimulatedBatches(population, deformation, state_maps(deformation.fields))
    horizon = HORIZONS.index(_HORIZON)
    found = []
    for i, ((change, (column, old, new)), among) in enumerate(zip(CHANGES.items(), _AMONG, strict=True)):
        told = part(progress, i / len(CHANGES), (i + 1) / len(CHANGES))
        told(0.0, change)
        cases = simulate_cases(population, people, scans, torch.Generator().manual_seed(_SEED))
        if among is not None:
            cases = _with(cases, "diagnosis", float(among))
        sides = [_with(cases, column, value) for value in (old, new)]
        exact = [exact_posterior(population, side).mean[:, horizon] for side in sides]
        model_of = [
            closed_form_futures(model.network, batches, side, 1, torch.Generator().manual_seed(1))[1][:, horizon]
            for side in sides
        ]
        network, error = None, None
        if network_people:
            drawn = [
                model_futures(
                    model.network, batches, _first(side, network_people), draws, torch.Generator().manual_seed(1),
                    torch.device("cpu"), people=8,
                )[:, :, horizon]
                for side in sides
            ]  # fmt: skip
            each = 100 * (drawn[1] - drawn[0]).double().mean(dim=0)
            network, error = each.mean(dim=0).numpy(), (each.std(dim=0) / network_people**0.5).numpy()
        by_law, by_model = (100 * (pair[1] - pair[0]).mean(dim=0).numpy() for pair in (exact, model_of))
        found.append(Belief(change, by_law, by_model, network, error))
    return found


def check_effects(
    model: ForecastModel, cohorts: int, cohort_people: int, people: int, network_people: int, draws: int, output: Path,
    progress: Progress = silent,
) -> str:  # fmt: skip
    """Measure, write effects_check.csv, .md and .png; the text."""
    from neuro4d_lib.applications.cohorts.effects_report import said

    met = repeated_recovery(cohorts, cohort_people, progress=part(progress, 0.0, 0.5))
    all_beliefs = beliefs(model, people, 1, network_people, draws, part(progress, 0.5, 1.0))
    command = (
        f"python -m neuro4d_lib effects-check --cohorts {cohorts} --cohort-people {cohort_people} --people {people}"
    )
    command += f" --network-people {network_people} --draws {draws}" if network_people else ""
    lines = [
        f"Simulated people; no evidence about real ones. Made by `{command}`.", "", f"**Cohorts** of {cohort_people}, {cohorts} times. {said(met)}", "",
        f"**The model**, {people} people with one scan each: change of the forecast rate over {_HORIZON:g} years, the scan staying as it is. Of the regions "
        f"in which the exact law says more than {_CLEAR} % per year:", "",
        "| change | clear regions | sign right | size, model / exact (slope) | largest difference, %/year |", "|---|---|---|---|---|",
    ]  # fmt: skip
    rows = []
    for belief in all_beliefs:
        for name, values in (("closed form", belief.model), ("network", belief.network)):
            if values is None:
                continue
            clear = np.abs(belief.exact) > _CLEAR
            slope = float(values[clear] @ belief.exact[clear] / np.square(belief.exact[clear]).sum())
            right = int((np.sign(values) == np.sign(belief.exact))[clear].sum())
            lines.append(
                f"| {belief.change}, {name} | {clear.sum()} | {right} of {clear.sum()} | {slope:.2f} | {np.abs(values - belief.exact).max():.2f} |"
            )
        rows += [
            {
                "change": belief.change, "region": region, "exact": float(belief.exact[r]), "closed_form": float(belief.model[r]),
                "network": None if belief.network is None else float(belief.network[r]),
                "network_standard_error": None if belief.network_error is None else float(belief.network_error[r]),
            }
            for r, region in enumerate(REGIONS)
        ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    write_whole(output / "effects_check.csv", as_csv(rows))
    write_whole(output / "effects_check.md", text)
    write_whole(output / "effects_check.png", _draw(all_beliefs))
    progress(1.0, "Done")
    return text


def _with(cases: Cases, column: str, value: float) -> Cases:
    covariates = cases.covariates.clone()
    covariates[:, COVARIATES.index(column)] = value
    return replace(cases, covariates=covariates)


def _first(cases: Cases, count: int) -> Cases:
    return Cases(
        cases.covariates[:count], cases.seen_state[:count], cases.past[:count], cases.seen[:count], cases.truth[:count]
    )


def _draw(all_beliefs: Sequence[Belief]) -> bytes:
    made = figure(11, 6.6)
    for axes, belief in zip(made.subplots(2, 3).ravel(), all_beliefs, strict=True):
        reach = 1.1 * max(np.abs(belief.exact).max(), np.abs(belief.model).max())
        axes.plot([-reach, reach], [-reach, reach], color="0.6", linewidth=0.8, linestyle="--")
        axes.plot(belief.exact, belief.model, "o", ms=4, color=COLORS[0], label="closed form")
        if belief.network is not None and belief.network_error is not None:
            axes.errorbar(
                belief.exact,
                belief.network,
                2 * belief.network_error,
                fmt="s",
                ms=3,
                lw=0.8,
                color=COLORS[1],
                label="network",
            )
        axes.set_title(belief.change, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    made.supxlabel("exact law: change of the rate, % per year; a dot is a region", fontsize=9)
    made.supylabel("model", fontsize=9)
    return png_of(made)
