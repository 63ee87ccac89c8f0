"""From what was found of each person of a study to rows of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.evaluation_baselines import study_predictions
from neuro4d_lib.applications.evaluation_subject import REAL
from neuro4d_lib.applications.known_truth_scores import NEEDS_TWO_SCANS, SCORED
from neuro4d_lib.applications.line_law import People, Prediction
from neuro4d_lib.applications.score_report import OWN, TRUE
from neuro4d_lib.applications.score_table import ALL, Cases, Score
from neuro4d_lib.applications.scoring import (
    Distribution,
    Futures,
    Gaussian,
    noise_ceiling,
    score_changes,
    score_pit,
)
from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics import distribution

HORIZONS = (1.0, 2.0, 3.0, 5.0)
_BIN_EDGES = (1.5, 2.5, 4.0)
UNKNOWN_DIAGNOSIS = "unknown"
BRAIN = "brain"
# The most cases whose PIT histogram has ten bins that hold something.
LEAST_PIT_CASES = 50

Found = Sequence[Mapping[str, Any]]
"""What `evaluate_subject` returns, of all people."""


def horizon_bin(years: float) -> int:
    """The place in HORIZONS of the bin: up to 1.5, 2.5, 4 years, and beyond."""
    return int(np.searchsorted(_BIN_EDGES, years))


def score_study(
    found: Found, fitted: Mapping[str, baselines.Forecaster], noise_sd: np.ndarray | None = None
) -> list[Score]:
    """All rows.

    Args:
        fitted: the simple forecasters for SCORED, by name.
        noise_sd: of the measured changes of SCORED [R].
    """
    cases = [{**case, "subject": person["subject"]} for person in found for case in person["cases"]]
    forecasts = [{**one, "subject": person["subject"]} for person in found for one in person["forecasts"]]
    own: dict[str, Prediction] = {}
    # A study of few people, or of few with three visits, says too little of its own rates.
    with suppress(InputError):
        own = study_predictions(cases, past_of(cases), np.array([[case["years"]] for case in cases]))
    rows = _volume_scores(cases, fitted, own, "measured", "", noise_sd)
    if all(case["true"] is not None for case in cases):
        rows += _volume_scores(cases, fitted, own, "true", TRUE)
    rows += _label_scores([case for case in cases if case.get("labels")])
    rows += _image_scores(cases)
    rows += _set_scores(cases)
    rows += _consistency_scores(forecasts)
    return without_doubles(rows)


def without_doubles(rows: Sequence[Score]) -> list[Score]:
    """Where all cases have one number of scans, rows over all numbers say the same again: they are left out."""
    counts = {row.scans for row in rows} - {None}
    return [row for row in rows if len(counts) > 1 or row.scans is None]


def _cases(rows: Found, regions: Sequence[str]) -> Cases:
    return Cases(
        regions,
        HORIZONS,
        np.array([row["subject"] for row in rows]),
        np.array([row["diagnosis"] or UNKNOWN_DIAGNOSIS for row in rows]),
        np.array([row["scans"] for row in rows]),
    )


def _volume_scores(
    cases: Found,
    fitted: Mapping[str, baselines.Forecaster],
    own: Mapping[str, Prediction],
    truth_name: str,
    prefix: str,
    noise_sd: np.ndarray | None = None,
) -> list[Score]:
    """Log-volume changes against what the follow-up scan shows, or against the simulated truth.

    Args:
        own: what forecasters fitted to the study predict of every case [N, 1, R], by name.
    """
    cells = _cases(cases, SCORED)
    years = np.array([case["years"] for case in cases])
    in_bin = np.array([horizon_bin(value) for value in years])[:, None] == np.arange(len(HORIZONS))

    def placed(values: np.ndarray) -> np.ndarray:
        """[N, R] -> [N, H, R], NaN but in the bin of the horizon."""
        return np.where(in_bin[:, :, None], values[:, None], np.nan)

    truth = placed(_floats([case[truth_name] for case in cases]))
    draws = min(len(case["futures"]) for case in cases)
    samples = np.stack([placed(_floats([case["futures"][m] for case in cases])) for m in range(draws)])
    forecasts: dict[str, Distribution] = {"model": Futures(samples)}
    past, in_years = past_of(cases), np.where(in_bin, years[:, None], np.nan)
    several = np.array([case["scans"] > 1 for case in cases])
    predictions = {name: forecaster(past, in_years) for name, forecaster in fitted.items()}
    for name, prediction in own.items():
        sd = None if prediction.sd is None else placed(prediction.sd[:, 0])
        predictions[name] = Prediction(placed(prediction.mean[:, 0]), sd)
    for name, prediction in predictions.items():
        told = np.ones_like(several) if name not in NEEDS_TWO_SCANS else several
        mean = np.where(told[:, None, None], prediction.mean, np.nan)
        sd = None if prediction.sd is None else np.where(told[:, None, None], prediction.sd, np.nan)
        forecasts[name] = Gaussian(mean, sd)
    share = _floats([case["brain_share"] for case in cases])
    rows = [] if noise_sd is None else noise_ceiling(cells, truth, noise_sd, prefix)
    for name, forecast in forecasts.items():
        rows += score_changes(
            cells, name, forecast, truth, forecasts["group_rate"], years=in_years, share_of_brain=share,
            noise_sd=noise_sd, prefix=prefix,
        )  # fmt: skip
        if name == "model":
            pit = score_pit(cells, name, forecast, truth, prefix)
            rows += [row for row in pit if row.n >= LEAST_PIT_CASES or "tenth" not in row.metric]
    return rows


def _label_scores(cases: Found) -> list[Score]:
    """Log-volume changes by the segmentations that came with the data."""
    if not cases:
        return []
    names = list(dict.fromkeys(name for case in cases for name in case["labels"]["names"]))
    cells = _cases(cases, names)
    years = np.array([case["years"] for case in cases])
    in_bin = np.array([horizon_bin(value) for value in years])[:, None] == np.arange(len(HORIZONS))

    def placed(lists: Sequence[Any]) -> np.ndarray:
        """Lists in the order of each case's own labels, or None -> [N, H, R]."""
        values = np.full((len(cases), len(names)), np.nan)
        for i, (case, found) in enumerate(zip(cases, lists, strict=True)):
            if found is not None:
                values[i, [names.index(name) for name in case["labels"]["names"]]] = _floats(found)
        return np.where(in_bin[:, :, None], values[:, None], np.nan)

    of_labels = [case["labels"] for case in cases]
    truth = placed([one["true"] for one in of_labels])
    draws = min(len(one["futures"]) for one in of_labels)
    forecasts: dict[str, Distribution] = {
        "model": Futures(np.stack([placed([one["futures"][m] for one in of_labels]) for m in range(draws)])),
        "copy_last": Gaussian(np.where(np.isfinite(truth), 0.0, np.nan)),
        "personal_slope": Gaussian(placed([one["personal_slope"] for one in of_labels])),
    }
    for name in dict.fromkeys(name for one in of_labels for name in one["others"]):
        forecasts[name] = Gaussian(placed([one["others"].get(name) for one in of_labels]))
    share = np.full((len(cases), len(names)), np.nan)
    for i, one in enumerate(of_labels):
        share[i, [names.index(name) for name in one["names"]]] = _floats(one["brain_share"])
    in_years = np.where(in_bin, years[:, None], np.nan)
    rows: list[Score] = []
    for name, forecast in forecasts.items():
        rows += score_changes(
            cells, name, forecast, truth, forecasts["group_rate"], years=in_years, share_of_brain=share, prefix=OWN
        )
    return rows


def past_of(cases: Found) -> People:
    """The past scans of every case, the latest at years 0."""
    most = max(len(case["past_years"]) for case in cases)
    years = np.full((len(cases), most), np.nan)
    volumes = np.full((len(cases), most, len(SCORED)), np.nan)
    for i, case in enumerate(cases):
        count = len(case["past_years"])
        years[i, :count] = case["past_years"]
        volumes[i, :count] = _floats(case["past"])
    age = np.array([np.nan if case["age"] is None else case["age"] for case in cases])
    return People(years, volumes, age, np.array([case["diagnosis"] or "" for case in cases]))


def _image_scores(cases: Found) -> list[Score]:
    """SSIM, PSNR, LPIPS and the skill of the voxels' changes."""
    cells = _cases(cases, (BRAIN,))
    in_bin = np.array([[horizon_bin(case["years"]) == h for h in range(len(HORIZONS))] for case in cases])

    def of(method: str, name: str) -> np.ndarray:
        values = _floats([[case["images"].get(method, {}).get(name)] for case in cases])
        return np.where(in_bin[:, :, None], values[:, None], np.nan)

    methods = list(dict.fromkeys(method for case in cases for method in case["images"]))
    measures = dict.fromkeys(name for case in cases for scores in case["images"].values() for name in scores)
    rows: list[Score] = []
    for name in (name for name in measures if name not in ("predicted_power", "product")):
        for method in methods:
            rows += cells.means(name, method, of(method, name))
    true = np.where(in_bin[:, :, None], _floats([[case["true_power"]] for case in cases])[:, None], np.nan)
    for method in methods:
        predicted, product = of(method, "predicted_power"), of(method, "product")
        rows += cells.ratios("image_change_skill_score", method, 2 * product - predicted, true)
        rows += cells.patterns("image_", method, true, predicted, product)
    return rows


def _set_scores(cases: Found) -> list[Score]:
    """FID and KID: the forecasts as a set against the follow-up scans as a set."""
    with_features = [case for case in cases if case["features"]]
    if not with_features:
        return []
    network = with_features[0]["feature_network"]
    rows: list[Score] = []
    for method in dict.fromkeys(name for case in with_features for name in case["features"] if name != REAL):
        chosen = [case["features"] for case in with_features if method in case["features"]]
        ours, real = (np.array([features[name] for features in chosen]) for name in (method, REAL))
        n = len({case["subject"] for case in with_features})
        if len(ours) >= 3:
            value, error = distribution.kernel_distance(ours, real)
            rows.append(Score(f"kid_{network}", BRAIN, None, ALL, None, method, value, error, n))
        if len(ours) >= distribution.LEAST_IMAGES:
            value = distribution.frechet_distance(ours, real)
            rows.append(Score(f"fid_{network}", BRAIN, None, ALL, None, method, value, float("nan"), n))
    return rows


# Of a forecast: its name there, and the name of the metric.
_CONSISTENCY = {
    "fold_failures": "fold_failures",
    "network_calls": "network_calls",
    "seconds": "seconds",
    "semigroup_mean_mm": "semigroup_error_mm",
    "semigroup_95_mm": "semigroup_error_95_mm",
    "semigroup_max_mm": "semigroup_error_max_mm",
    "log_determinant_curvature": "log_determinant_curvature",
    "wrong_sign": "wrong_sign_share",
    "adjacent_change_ratio": "adjacent_change_ratio",
}


def _consistency_scores(forecasts: Found) -> list[Score]:
    """Folds and the four figures of temporal consistency, by the last year that was forecast."""
    cells = _cases(forecasts, (BRAIN,))
    in_bin = np.array([[horizon_bin(one["years"]) == h for h in range(len(HORIZONS))] for one in forecasts])
    rows: list[Score] = []
    for name, metric in _CONSISTENCY.items():
        values = _floats([[one.get(name)] for one in forecasts])
        rows += cells.means(metric, "model", np.where(in_bin[:, :, None], values[:, None], np.nan))
    return rows


def _floats(values: Sequence[Any]) -> np.ndarray:
    """Nested lists with None where nothing is known."""
    return np.array(values, dtype=float)
