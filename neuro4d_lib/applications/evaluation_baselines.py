"""The simple forecasters as a study has them: fitted to its own people, each person's forecast without that person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuro4d_lib.applications import baselines
from neuro4d_lib.applications.line_law import People, Prediction

LEARNED = ("group_rate", "shrunk_slope", "mixed_effects")
"""What is learned from other people; the other methods look at nobody else."""
PREFIX = "study_"
FOLDS = 5


def study_predictions(
    cases: Sequence[Mapping[str, Any]], past: People, years: np.ndarray, methods: Sequence[str] = LEARNED
) -> dict[str, Prediction]:
    """Cross-validated forecasts of all cases, by name: study_group_rate, ...

    The people are dealt into five parts; those of a part are forecast by what was fitted to the measured volumes of the
    other four. An InputError says if they are too few for that.

    Args:
        cases: of `evaluate_subject`, each with its subject.
        past: [N] of the cases; years: [N, H] asked for.
    """
    training, subjects = measured_people(cases)
    part_of = {name: i % FOLDS for i, name in enumerate(subjects)}
    of_training = np.array([part_of[name] for name in subjects])
    of_cases = np.array([part_of[case["subject"]] for case in cases])
    shape = (*years.shape, past.log_volumes.shape[2])
    found = {name: (np.full(shape, np.nan), np.full(shape, np.nan)) for name in methods}
    for fold in range(FOLDS):
        here = of_cases == fold
        for name, (mean, sd) in found.items() if here.any() else ():
            forecaster = baselines.fit(name, training.only(of_training != fold))
            prediction = forecaster(past.only(here), years[here])
            mean[here] = prediction.mean
            sd[here] = np.nan if prediction.sd is None else prediction.sd
    return {PREFIX + name: Prediction(mean, sd) for name, (mean, sd) in found.items()}


def measured_people(cases: Sequence[Mapping[str, Any]]) -> tuple[People, list[str]]:
    """Everybody's measured volumes at all visits, seen from the earliest scan that was forecast from; and their names."""
    of_subject: dict[str, list[Mapping[str, Any]]] = {}
    for case in cases:
        of_subject.setdefault(case["subject"], []).append(case)
    rows = []
    for of_one in of_subject.values():
        fewest = min(case["scans"] for case in of_one)
        chosen = [case for case in of_one if case["scans"] == fewest]
        first = chosen[0]
        volumes = np.array(first["past"], dtype=float)
        later = volumes[-1] + np.array([case["measured"] for case in chosen], dtype=float)
        rows.append(([*first["past_years"], *(case["years"] for case in chosen)], np.vstack([volumes, later])))
    most = max(len(times) for times, _ in rows)
    years = np.full((len(rows), most), np.nan)
    measured = np.full((len(rows), most, rows[0][1].shape[1]), np.nan)
    for i, (times, values) in enumerate(rows):
        years[i, : len(times)], measured[i, : len(times)] = times, values
    first_cases = [of_one[0] for of_one in of_subject.values()]
    age = np.array([np.nan if case["age"] is None else case["age"] for case in first_cases])
    diagnosis = np.array([case["diagnosis"] or "" for case in first_cases])
    return People(years, measured, age, diagnosis), list(of_subject)
