"""The same person with a hypothetical treatment: the drawn futures of a forecast, slowed region by region."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.checkpoint import load_model
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.treatment import Treatment
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.forecaster import measure
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, silent


@torch.no_grad()
def treated(
    forecast: Forecast,
    treatment: Treatment,
    model: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Forecast:
    """The forecast of the same person, future by future, if a treatment changed the rates of regions. Hypothetical.

    A drawn velocity is a sum of one field per region, times that region's rate. What the treatment takes off a rate is taken
    off the velocity: a treatment without effect leaves every number as it is. The group's rate stays untreated.

    Args:
        model: folder of the model that made the forecast; the shipped one where none is named.
    """
    loaded = load_model(Path(model) if model is not None else None, forecast.device)
    drawn_mm = treated_velocities(forecast, treatment, loaded)
    group_mm = loaded.group_rate(forecast.inputs.covariates, forecast.years).to(forecast.device)
    measured = measure(
        forecast.inputs, forecast.aligned, forecast.psi_vox, drawn_mm, group_mm, forecast.years, progress
    )
    sentence = f"With a hypothetical treatment, not a real one: {_described(treatment)}."
    return replace(
        forecast,
        drawn_mm=drawn_mm,
        volumes=measured.volumes,
        spread_percent=measured.spread_percent,
        folds=measured.folds,
        warnings=(sentence, *forecast.warnings),
    )


def treated_velocities(forecast: Forecast, treatment: Treatment, model: ForecastModel) -> Tensor:
    """The drawn mean velocities with the treatment: [n, T, 3, 32, 40, 32], mm per year."""
    if model.sha256 != forecast.model_sha256:
        raise InputError(
            "The forecast was made by another model than this one. Name the folder of the model that made it."
        )
    rates = velocity_rates(model, forecast.drawn_mm)
    changed = treatment.rates(rates.cpu().numpy(), np.array(forecast.years), _baseline_mm3(forecast))
    taken = rates - torch.from_numpy(changed).to(rates)
    fields = model.network.deformation.fields
    return forecast.drawn_mm - (taken.to(fields) @ fields.flatten(1)).unflatten(-1, fields.shape[1:])


def velocity_rates(model: ForecastModel, velocity_mm: Tensor) -> Tensor:
    """Log-volume rates of the driven regions of drawn velocities: [..., 3, 32, 40, 32] -> [..., R] per year, float64."""
    fields = model.network.deformation.fields.flatten(1).double()
    products = velocity_mm.flatten(-4).double() @ fields.T
    return torch.linalg.solve(fields @ fields.T, products[..., None])[..., 0]


def _baseline_mm3(forecast: Forecast) -> np.ndarray:
    """[R] volumes of the driven regions in the scan; 0 where it does not show them."""
    shown = dict(zip(forecast.volumes.names, forecast.volumes.baseline_mm3.tolist(), strict=True))
    return np.array([shown.get(region.name, 0.0) for region in DRIVEN])


def _described(treatment: Treatment) -> str:
    parts = [
        f"{name.replace('_', ' ')} changes {100 * abs(share):g} % {'slower' if share > 0 else 'faster'}"
        for name, share in treatment.slowing.items()
    ]
    parts += [
        f"{name.replace('_', ' ')} {'gains' if volume_ml > 0 else 'loses'} {abs(volume_ml):g} mL in "
        f"{_years(treatment.added_over_years)}"
        for name, volume_ml in treatment.added_ml.items()
    ]
    return f"{', '.join(parts) or 'no effect'}, from {_years(treatment.onset_years)} on"


def _years(years: float) -> str:
    return f"{years:g} year{'' if years == 1 else 's'}"
