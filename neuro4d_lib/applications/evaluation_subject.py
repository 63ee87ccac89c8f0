"""One person of a study: forecasts from the first K scans, compared with the scans that came later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro4d_lib.applications.evaluation_labels import Segmentations, compared_labels
from neuro4d_lib.applications.evaluation_person import (
    FollowUp,
    Person,
    as_json,
    brain_share,
    simulated_truth,
)
from neuro4d_lib.applications.known_truth_scores import SCORED, region_shares
from neuro4d_lib.data.preprocessing import to_reference
from neuro4d_lib.data.study import StudySubject
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import forecaster, native_grid
from neuro4d_lib.forecasting.region_volumes import RegionVolumes
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import Grid
from neuro4d_lib.metrics import temporal
from neuro4d_lib.metrics.distribution import extract_features
from neuro4d_lib.metrics.image_quality import image_quality, lpips_2_5d
from neuro4d_lib.model import ForecastModel
from neuro4d_lib.progress import Progress, part, silent

REAL = "real"
_DRIVEN_STATE_UNIT = 10.0
_FEATURE_VOXEL_MM = 2.0


def _feature_grid() -> Grid:
    """As wide as `native_grid.FINE`."""
    depth, height, width = (
        round(n * native_grid.FINE.spacing_mm[0] / _FEATURE_VOXEL_MM) for n in native_grid.FINE.shape
    )
    affine = native_grid.FINE.affine.copy()
    affine[:3, :3] *= _FEATURE_VOXEL_MM / native_grid.FINE.spacing_mm[0]
    return Grid((depth, height, width), affine)


_FEATURE_GRID = _feature_grid()


@dataclass(frozen=True)
class Settings:
    """How forecasts are made.

    Attributes:
        model: folder; None for the shipped one.
        scans: numbers of past scans to forecast from; None: every number that leaves a follow-up.
        futures, seed, steps, device: see `forecaster.forecast`.
        labels: folder of segmentations that came with the data; see `evaluation_labels`.
    """

    model: Path | None
    futures: int
    seed: int
    steps: int | None
    scans: tuple[int, ...] | None
    device: str
    labels: Path | None = None


@dataclass(frozen=True)
class Networks:
    """Networks of LPIPS, and of FID and KID, with their names; None: left out."""

    perceptual: tuple[str, nn.Module] | None = None
    features: tuple[str, nn.Module] | None = None


@torch.no_grad()
def evaluate_subject(
    study: Path,
    subject: StudySubject,
    model: ForecastModel,
    settings: Settings,
    networks: Networks,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Everything that is scored of one person, ready for JSON; an InputError says why nothing can be."""
    progress(0.0, f"Reading the scans of {subject.id}")
    truth = simulated_truth(study, subject)
    person = Person(subject, model.reference)
    least, most = model.card["ranges"]["years"]
    cases: list[dict[str, Any]] = []
    forecasts: list[dict[str, Any]] = []
    visits = subject.visits
    numbers = [k for k in range(1, len(visits)) if settings.scans is None or k in settings.scans]
    for i, scans in enumerate(numbers):
        told = part(progress, i / len(numbers), (i + 1) / len(numbers))
        last = scans - 1
        ahead = [j for j in range(scans, len(visits)) if least <= visits[j].years - visits[last].years <= most]
        if not ahead:
            continue
        made = _forecast(person, last, ahead, settings, least, part(told, 0.0, 0.5))
        person.knows(last, made.aligned)
        found = [
            person.follow_up(last, j, part(told, 0.5 + 0.3 * n / len(ahead), 0.5 + 0.3 * (n + 1) / len(ahead)))
            for n, j in enumerate(ahead)
        ]
        told(0.8, f"Comparing {subject.id} with its later scans")
        past = person.past_log_volumes(last, _level(model, made), part(told, 0.8, 0.9))
        others = _other_motions(model, person, made, last)
        regions = RegionVolumes(made.aligned.labels, made.scan.grid, made.aligned.affine)
        frames: list[np.ndarray] = []
        for j, follow_up in zip(ahead, found, strict=True):
            years = visits[j].years - visits[last].years
            case = {
                "scans": scans,
                "session": visits[j].session,
                "years": years,
                "age": visits[last].covariates.age,
                "diagnosis": visits[last].covariates.diagnosis,
                "past_years": [visit.years - visits[last].years for visit in visits[:scans]],
                "past": [as_json(row) for row in past],
                "brain_share": as_json(brain_share(regions)),
                "futures": [as_json(row) for row in _futures(made, years)],
                "measured": as_json(follow_up.log_change),
                "true": None if truth is None else as_json(truth[j] - truth[last]),
            }
            case["labels"] = _labels(settings, person, made, others, last, j)
            images = _images(made, others, years)
            case |= _compared(made, follow_up, images, networks)
            frames.append(images["model"])
            cases.append(case)
        forecasts.append(
            _consistency(made, found, frames, [visits[j].years - visits[last].years for j in ahead], scans)
        )
        person.forget_images(last)
    if not cases:
        raise InputError(f"no follow-up within {least:g} to {most:g} years, which this model forecasts")
    return {"subject": subject.id, "cases": cases, "forecasts": forecasts}


def _forecast(
    person: Person, last: int, ahead: Sequence[int], settings: Settings, least: float, progress: Progress
) -> Forecast:
    """From visit `last` and all before it to the visits `ahead`; with one year only, to its middle too (see `_consistency`)."""
    visits = person.subject.visits
    years = {visits[j].years - visits[last].years for j in ahead}
    if len(years) == 1 and max(years) / 2 >= least:
        years.add(max(years) / 2)
    return forecaster.forecast(
        person.images[last],
        visits[last].covariates,
        sorted(years),
        past=[(person.images[i], visits[i].years - visits[last].years) for i in range(last)],
        futures=settings.futures,
        model=settings.model,
        device=settings.device,
        seed=settings.seed,
        steps=settings.steps,
        progress=progress,
    )


def _futures(made: Forecast, years: float) -> np.ndarray:
    """Log-volume changes [M, R] of SCORED that were drawn."""
    table, time = made.volumes, made.years.index(years)
    changes = np.full((made.futures, len(SCORED)), np.nan)
    for r, name in enumerate(SCORED):
        if name in table.names:
            place = table.names.index(name)
            changes[:, r] = np.log(table.futures_mm3[:, time, place] / table.baseline_mm3[place])
    return changes


def _level(model: ForecastModel, made: Forecast) -> np.ndarray:
    """Log-volumes [R] of SCORED against the reference, head size aside, as the scan shows them."""
    anatomy = made.aligned.anatomy[None].to(model.network.deformation.fields)
    state = model.network.deformation.state(anatomy)[0].double().cpu() / _DRIVEN_STATE_UNIT
    return np.asarray(region_shares(model.reference) @ state)


def _other_motions(model: ForecastModel, person: Person, made: Forecast, last: int) -> dict[str, Tensor]:
    """Velocities in reference space, mm per year, of the simple forecasts that have images."""
    visits = person.subject.visits
    motions = {"group_rate": model.group_rate(visits[last].covariates, [1.0])[0]}
    if last:
        seen = person.follow_up(last - 1, last).motion.motion_mm
        years = visits[last].years - visits[last - 1].years
        motions["registration_extrapolation"] = to_reference(seen, person.aligned(last - 1).psi) / years
    return motions


def _labels(
    settings: Settings, person: Person, made: Forecast, others: dict[str, Tensor], last: int, later: int
) -> dict[str, Any] | None:
    """By the segmentations that came with the data, if the last and the later scan have one."""
    if settings.labels is None:
        return None
    given = Segmentations.of(settings.labels)
    visits = person.subject.visits
    maps = {i: given.read(person.subject, i, person.images[i]) for i in (*range(last + 1), later)}
    now, then = maps[last], maps[later]
    if now is None or then is None:
        return None
    past = [(found, visits[i].years - visits[last].years) for i in range(last) if (found := maps[i]) is not None]
    years = visits[later].years - visits[last].years
    return compared_labels(made, years, others, [*past, (now, 0.0)], then, given.names)


def _images(made: Forecast, others: dict[str, Tensor], years: float) -> dict[str, np.ndarray]:
    """By method, the image after some years, [D, H, W] intensities."""
    images = {
        "model": _intensities(made, made.image(made.years.index(years))),
        "copy_last": made.scan.intensities(),
    }
    for name, velocity in others.items():
        carried = native_grid.carried_to_aligned(velocity[None].to(made.device), made.psi_vox)[0]
        image = made.warped_scan.pulled(made.displacement_vox(native_grid.flow(carried, years)))
        images[name] = _intensities(made, image)
    return images


def _intensities(made: Forecast, stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float32) * np.float32(made.scan.slope) + np.float32(made.scan.inter)


def _compared(made: Forecast, follow_up: FollowUp, images: dict[str, np.ndarray], networks: Networks) -> dict[str, Any]:
    """Scores of the images against the follow-up scan, in the brain of either."""
    brain, real = follow_up.brain, follow_up.image
    last = images["copy_last"]
    unit = float(np.ptp(real[brain]))
    true = (real - last)[brain] / unit
    of_method: dict[str, dict[str, float]] = {}
    for name, image in images.items():
        if name == "copy_last":
            continue
        quality = image_quality(image, real, last, brain)
        predicted = (image - last)[brain] / unit
        of_method[name] = {
            "ssim": quality.ssim,
            "psnr": quality.psnr,
            "predicted_power": float(np.square(predicted).mean()),
            "product": float((predicted * true).mean()),
        }
        copied = {
            "ssim": quality.ssim_copy_last,
            "psnr": quality.psnr_copy_last,
            "predicted_power": 0.0,
            "product": 0.0,
        }
    of_method["copy_last"] = copied
    features = {}
    if networks.perceptual is not None:
        bright = float(np.percentile(real[brain], 99.9))
        for name, image in images.items():
            ours, theirs = (torch.from_numpy(np.where(brain, one, 0).astype(np.float32)) for one in (image, real))
            of_method[name][f"lpips_{networks.perceptual[0]}"] = lpips_2_5d(
                ours, theirs, networks.perceptual[1], bright
            )
    if networks.features is not None:
        pictures = {REAL: real, **images}
        ready = (_aligned_brain(made, picture, brain) for picture in pictures.values())
        features = dict(zip(pictures, extract_features(ready, networks.features[1]).tolist(), strict=True))
    return {"true_power": float(np.square(true).mean()), "images": of_method, "features": features}


def _aligned_brain(made: Forecast, image: np.ndarray, brain: np.ndarray) -> Tensor:
    """The brain on a 2 mm grid of aligned space [93, 114, 93], so that all people lie alike."""
    depth, height, width = image.shape
    place = Grid((depth, height, width), made.aligned.affine @ made.scan.affine)
    masked = torch.from_numpy(np.where(brain, image, 0).astype(np.float32))[None, None]
    return resample(masked, place, _FEATURE_GRID)[0, 0]


def _consistency(
    made: Forecast,
    found: Sequence[FollowUp],
    frames: Sequence[np.ndarray],
    years: Sequence[float],
    scans: int,
) -> dict[str, Any]:
    """The fold test, and the four figures of temporal consistency, of one forecast.

    The first future is followed to the first and to the last year that was asked for; `evaluation_courses` says what
    the leg between them is.
    """
    scan = made.scan
    brain = torch.from_numpy(made.aligned.labels > 0)
    result: dict[str, Any] = {
        "scans": scans,
        "diagnosis": made.inputs.covariates.diagnosis,
        "years": float(made.years[-1]),
        "fold_failures": made.folds.failed,
        "fold_voxels": made.folds.voxels,
        "network_calls": made.network_calls,
        "seconds": round(sum(made.seconds.values()), 1),
        "warnings": list(made.warnings),
    }
    steps = list(zip(made.years[:-1], made.years[1:], strict=True))
    if steps:
        first, last = made.years[0], made.years[-1]
        early, late = made.drawn_mm[0, 0], made.drawn_mm[0, -1]
        between = (last * late - first * early) / (last - first)
        flows = [
            native_grid.flow(native_grid.carried_to_aligned(velocity[None], made.psi_vox)[0], span)
            for velocity, span in ((early, first), (between, last - first), (late, last))
        ]
        one, two, whole = (made.displacement_vox(flow).cpu() for flow in flows)
        error = temporal.semigroup_error(one, two, whole, scan.grid.spacing_mm, brain)
        logs = [flow.volume_ratio[0, 0].clamp_min(1e-3).log().cpu().numpy() for flow in (flows[0], flows[2])]
        inside = resample(
            brain[None, None].float(), Grid(scan.grid.shape, made.aligned.affine @ scan.affine), native_grid.FINE
        )
        curvature = temporal.log_determinant_curvature(
            np.stack([np.zeros_like(logs[0]), *logs]), [0.0, first, last], inside[0, 0].numpy() > 0.5
        )
        result |= {
            "semigroup_mean_mm": error.mean_mm,
            "semigroup_95_mm": error.percentile_95_mm,
            "semigroup_max_mm": error.max_mm,
            "log_determinant_curvature": curvature,
        }
    with_start = np.concatenate(
        [np.zeros((made.futures, 1, len(SCORED))), np.stack([_futures(made, year) for year in made.years], axis=1)],
        axis=1,
    )
    expected = _group_signs(made)
    wrong = temporal.wrong_sign_share(with_start, expected)
    result |= {"wrong_sign": None if math.isnan(wrong.value) else wrong.value, "wrong_sign_n": wrong.n}
    if len(frames) > 0:
        union = np.logical_or.reduce([follow_up.brain for follow_up in found])
        start = scan.intensities()
        ratio = temporal.adjacent_change_ratio(
            np.stack([start, *frames]), np.stack([start, *(follow_up.image for follow_up in found)]), union
        )
        result["adjacent_change_ratio"] = None if math.isnan(ratio) else ratio
    return result


def _group_signs(made: Forecast) -> np.ndarray:
    """[R]: direction in which SCORED change at the group's mean rate."""
    table = made.volumes
    signs = np.zeros(len(SCORED))
    for r, name in enumerate(SCORED):
        if name in table.names:
            place = table.names.index(name)
            signs[r] = np.sign(table.group_rate_mm3[-1, place] - table.baseline_mm3[place])
    return signs
