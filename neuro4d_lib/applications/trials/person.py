"""One person in every arm of a trial: forecasts of the same scan with the same future noise."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from neuro4d_lib.applications.trials.design import Arm, TrialDesign
from neuro4d_lib.config import SettingError
from neuro4d_lib.data.treatment import Treatment
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.forecaster import forecast
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.forecasting.staging import staged
from neuro4d_lib.forecasting.treatment import treated
from neuro4d_lib.progress import Progress, part

_BAND = (5.0, 95.0)


def treat_person(design: TrialDesign, scan: str, folder: Path, progress: Progress, **options: Any) -> dict[str, str]:
    """Forecast a scan at the visits of a design, once for every arm, and write forecasts and differences, all or nothing.

    Args:
        options: of `forecaster.forecast`: covariates, past, futures, model, device, seed, steps.

    Returns:
        The name of each file or folder and what it is.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already. Name a new folder for the forecasts.")
    treatments = {arm.name: treatment_of(arm, design) for arm in design.arms}
    names = {
        arm: re.sub(r"[^A-Za-z0-9]+", "_", arm).strip("_").lower() or f"arm_{i}" for i, arm in enumerate(treatments)
    }
    if len(set(names.values())) < len(names):
        raise InputError(f"The names of the arms, {', '.join(names)}, give the same names of folders. Change one.")
    untreated = forecast(scan, years=design.visits_years[1:], progress=part(progress, 0.0, 0.4), **options)
    written, rows = {}, []
    steps = np.linspace(0.4, 1.0, len(treatments) + 1).tolist()
    with staged(folder) as place:
        for (arm, treatment), start, end in zip(treatments.items(), steps, steps[1:], strict=False):
            told = part(progress, start, end)
            result = untreated
            if treatment is not None:
                result = treated(untreated, treatment, options.get("model"), part(told, 0.0, 0.6))
                rows += _differences(arm, untreated, result)
                name = f"{names[arm]}_difference.nii.gz"
                _write_map(untreated, result, place / name)
                written[name] = f"{arm}: what it changes in the volume of every voxel, % points, one volume per visit"
            result.save(place / names[arm], progress=part(told, 0.6, 0.99))
            written[names[arm]] = f"{arm}: the forecast" + ("" if treatment is None else " with the treatment")
        (place / "differences.csv").write_text(_csv(rows), encoding="utf-8")
        written["differences.csv"] = "treated minus untreated by region and visit, with the band over the same futures"
        progress(1.0, "Done")
    return written


def treatment_of(arm: Arm, design: TrialDesign) -> Treatment | None:
    """What an arm does to single regions; None where it does nothing."""
    if not arm.has_effect:
        return None
    if arm.effect != "proportional":
        raise SettingError(
            "arms", f"the effect of {arm.name!r} is {arm.effect!r}; of one person only proportional is known."
        )
    own = {name for name, marker in design.biomarkers.items() if marker.stated}
    slowing = {name: share for name, share in arm.slowing.items() if name not in own}
    return Treatment(slowing, arm.onset_years, arm.added_ml, arm.added_over_years)


def _differences(arm: str, untreated: Forecast, result: Forecast) -> list[dict[str, object]]:
    """Rows of differences.csv: change since the scan, %, median over futures, and the difference future by future."""
    table = untreated.volumes
    changes = [100 * (each.volumes.futures_mm3 / table.baseline_mm3 - 1) for each in (untreated, result)]
    rows: list[dict[str, object]] = []
    for t, years in enumerate(table.years):
        for r, region in enumerate(table.names):
            difference = changes[1][:, t, r] - changes[0][:, t, r]
            low, high = np.percentile(difference, _BAND)
            rows.append(
                {
                    "arm": arm,
                    "region": region,
                    "years": years,
                    "untreated_percent": round(float(np.median(changes[0][:, t, r])), 4),
                    "treated_percent": round(float(np.median(changes[1][:, t, r])), 4),
                    "difference_percent": round(float(difference.mean()), 4),
                    "difference_low_90": round(float(low), 4),
                    "difference_high_90": round(float(high), 4),
                }
            )
    return rows


def _write_map(untreated: Forecast, result: Forecast, path: Path) -> None:
    """[D, H, W, T] float32: volume change of the central course, treated minus untreated, on the scan's voxels."""
    times = range(len(untreated.years))
    maps = [result.volume_change_percent(t) - untreated.volume_change_percent(t) for t in times]
    image = nibabel.Nifti1Image(np.stack(maps, axis=-1).astype(np.float32), untreated.scan.affine)
    nibabel.save(image, path)


def _csv(rows: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
