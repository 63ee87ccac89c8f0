"""Settings of training on a study of one's own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.training.config import RunConfig, TrainingConfig

LEAST_PEOPLE, LEAST_PEOPLE_FROM_SCRATCH = 8, 20
"""Usable people that a study needs, with a model to start from and without one."""


@dataclass(frozen=True)
class StudyConfig:
    """How a study is used."""

    validation_share: float = documented(
        0.15, help="Share of the people who are validated with: when to stop, how far the network is trusted."
    )
    test_share: float = documented(0.15, help="Share of the people who are kept for the final scores.")
    strengths: tuple[float, ...] = documented(
        (0.1, 0.3, 1.0, 3.0, 10.0),
        help="How many people of the law that is started from count as much as one of the study. All are tried, and that "
        "alone as well; what foretells people who were left out best is taken.",
    )
    law_steps: int = documented(150, help="Steps of fitting the closed form, for each strength and each fold.")
    folds: int = documented(3, help="Parts of the people that are left out in turn to choose the strength.")
    simulated_share: float = documented(0.0, help="Share of simulated people among those that the network learns from.")
    mirrored_share: float = documented(
        0.5, help="Share of the people who are shown with left and right exchanged; 0 where the sides differ."
    )
    fresh_errors: float = documented(0.5, help="Share of the people whose scan errors are drawn anew.")
    time_jitter_years: float = documented(0.1, help="Future frames lie up to so far from the visit that shows them.")

    def __post_init__(self) -> None:
        for name in ("simulated_share", "mirrored_share", "fresh_errors"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(name, f"expected a share from 0 to 1, found {getattr(self, name):g}.")
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) <= 0.4:
                raise SettingError(name, f"expected a share above 0, at most 0.4, found {getattr(self, name):g}.")
        if not self.strengths or min(self.strengths) <= 0:
            raise SettingError("strengths", f"expected positive numbers, found {list(self.strengths)}.")
        if self.law_steps < 1:
            raise SettingError("law_steps", f"expected 1 or more, found {self.law_steps}.")
        if self.folds < 2:
            raise SettingError("folds", f"expected 2 or more, found {self.folds}.")
        if not 0 <= self.time_jitter_years <= 0.2:
            raise SettingError("time_jitter_years", f"expected 0 to 0.2, found {self.time_jitter_years:g}.")


@dataclass(frozen=True)
class StudyTrainingConfig(TrainingConfig):
    """As for simulated people, shorter: a study has few, and its network seldom gains by many steps."""

    steps: int = documented(1000, help="Steps of the network; 0 leaves it as it is and fits the closed form alone.")
    people: int = documented(16, help="People per step, over all parts and processes together.")
    learning_rate: float = documented(1e-4, help="Of AdamW; warmed up, then lowered along a cosine.")
    save_every: int = documented(50, help="Steps between checkpoints.")
    validate_every: int = documented(50, help="Steps between validations on held-out people.")
    validation_people: int = documented(90, help="Held-out people of a validation, each as often as it takes.")
    patience: int = documented(5, help="Stop after so many validations without a better one; 0 trains all steps.")
    gate_people: int = documented(24, help="Held-out people on whom the gate is measured, each as often as it takes.")


@dataclass(frozen=True)
class StudyRunConfig(RunConfig):
    """What a configuration file holds where a study is trained on."""

    training: StudyTrainingConfig = dataclasses.field(default_factory=StudyTrainingConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)
