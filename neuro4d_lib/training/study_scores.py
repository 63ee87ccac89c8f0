"""How a model forecasts people of its study whom it has not seen, beside the simple forecasts: a first look, in coordinates.

`evaluate` measures the same on the scans themselves, with more methods and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.diffusion.samplers import SAMPLERS
from neuro4d_lib.model import TrajectoryModel
from neuro4d_lib.progress import Progress, silent
from neuro4d_lib.training.study_people import Person, mean_rates, moments

SCORED = ("hippocampus", "lateral_ventricle", "temporal_cortex")
METHODS = ("no_change", "group_rate", "closed_form", "model")
_PAIRS = 2


@torch.no_grad()
def score_held_out(
    model: TrajectoryModel,
    people: Sequence[Person],
    device: torch.device,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Mean absolute error of the change of volume until the last visit, in % of the volume, for people with one visit before it
    at least; all visits but the last are told. The last visit carries its own scan error, which no forecast can foretell."""
    generator = torch.Generator().manual_seed(seed)
    errors: dict[str, list[Tensor]] = {name: [] for name in METHODS}
    years_ahead = []
    for i, person in enumerate(people):
        progress(i / len(people), "Scoring people who were kept for it")
        found = [moment for moment in moments(person) if moment.future]
        if not found:
            continue
        moment = max(found, key=lambda one: (len(one.past), one.latest))
        years, rates = mean_rates(person, moment.latest, (*moment.past, moment.future[-1]))
        truth = rates[-1] * years[-1]
        for name, forecast in _forecasts(model, person, moment.latest, years, rates[:-1], device, generator).items():
            errors[name].append(100 * (forecast * years[-1] - truth).abs())
        years_ahead.append(float(years[-1]))
    if not years_ahead:
        return {}
    groups = {name: [i for i, region in enumerate(DRIVEN) if region.group == name] for name in SCORED}
    groups["all_regions"] = list(range(len(DRIVEN)))
    table = {
        group: {name: round(float(torch.stack(errors[name])[:, chosen].mean()), 3) for name in METHODS}
        for group, chosen in groups.items()
    }
    return {
        "what": "Mean absolute error of the change of log-volume until the last visit, in %, of people who were kept for "
        "it; the scan error of that visit is part of it.",
        "people": len(years_ahead),
        "mean_years_ahead": round(sum(years_ahead) / len(years_ahead), 2),
        "mean_absolute_error": table,
    }


def _forecasts(
    model: TrajectoryModel,
    person: Person,
    latest: int,
    years: Tensor,
    seen: Tensor,
    device: torch.device,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Mean rate until the last of `years` by every method: [K], per year."""
    deformation = model.deformation
    covariates = person.covariates[latest][None]
    # Pairs of opposite noise: the mean of few draws is that of the law, where the law is Gaussian.
    count = 2 * _PAIRS
    half = torch.randn(_PAIRS, 1, model.config.modes, generator=generator)
    noise = torch.cat([half, -half]).to(device)
    coordinates = deformation.from_rates(seen.float().to(device)) if len(seen) else torch.zeros(0, model.config.modes)
    condition = model.condition(
        covariates.to(device).expand(count, -1),
        person.anatomy[latest].float().to(device)[None].expand(count, -1, -1, -1, -1),
        years.to(device)[None].expand(count, -1),
        coordinates.to(device)[None].expand(count, -1, -1),
    )
    sampler = SAMPLERS[model.config.sampler](model.denoiser)
    z = sampler.sample(noise, condition, model.config.steps)
    drawn = deformation.rates(condition.posterior.from_standard(z))[:, -1].mean(dim=0)
    plain = deformation.rates(condition.posterior.mean[0, -1])
    group = deformation.rates(model.prior.group(covariates.to(device))[0].to(deformation.fields))
    found = {"no_change": torch.zeros_like(plain), "group_rate": group, "closed_form": plain, "model": drawn}
    return {name: value.double().cpu() for name, value in found.items()}
