"""How a model is trained: the settings of a run, as one file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.model import ModelConfig

PRECISIONS = ("auto", "float32", "bfloat16")
_AT_LEAST = {"steps": 0, "people": 1, "parts": 1, "prior_steps": 0, "seconds": 0, "save_every": 1, "validate_every": 0,
             "validation_people": 9, "patience": 0, "gate_people": 0, "all_known": 0}  # fmt: skip


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    steps: int = documented(6000, help="Steps of the network; 0 leaves it out.")
    people: int = documented(48, help="Simulated people per step, over all parts and processes together.")
    parts: int = documented(
        1,
        help="The people of a step are drawn and computed in so many equal parts, one after the other (gradient "
        "accumulation: less memory) or shared by as many processes. The result does not depend on who computes which.",
    )
    learning_rate: float = documented(4e-4, help="Of AdamW; warmed up, then lowered along a cosine.")
    prior_steps: int = documented(1500, help="Steps of the closed form.")
    seconds: float = documented(0.0, help="Stop the network after so many seconds; 0 trains all steps.")
    save_every: int = documented(500, help="Steps between checkpoints.")
    seed: int = documented(0, help="Of the simulated people and the weights.")
    earlier_visits: tuple[int, ...] = documented(
        (0, 0, 1, 2, 3, 0, 1, 4, 7),
        help="Earlier visits of the people of each step, in turn. 0 is one scan only: a third of all steps, as most people have one scan.",
    )
    future_frames: tuple[int, ...] = documented(
        (4, 1, 2, 5, 3, 2, 4, 3, 1), help="Years ahead that are asked of them, in turn; as many as earlier_visits."
    )
    all_known: float = documented(
        0.0, help="Share of the people of whom no covariate is hidden, on top of those to whom that happens by chance."
    )
    precision: str = documented("auto", help="auto (bfloat16 on a GPU, else float32), float32 or bfloat16.")
    checkpointing: bool = documented(
        False, help="Compute activations a second time instead of keeping them: less memory, a third more time."
    )
    validate_every: int = documented(
        500, help="Steps between validations on held-out people; 0 keeps the last weights."
    )
    validation_people: int = documented(432, help="Held-out simulated people, the same in every validation.")
    patience: int = documented(0, help="Stop after so many validations without a better one; 0 trains all steps.")
    gate_people: int = documented(
        2016, help="People on whom the gate (training/gate.py) is measured at the end; 0 leaves it out."
    )

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise SettingError(name, f"expected {least} or more, found {getattr(self, name)}.")
        if self.learning_rate <= 0:
            raise SettingError("learning_rate", f"expected more than 0, found {self.learning_rate:g}.")
        if self.all_known > 1:
            raise SettingError("all_known", f"expected a share from 0 to 1, found {self.all_known:g}.")
        if self.people % self.parts:
            raise SettingError("parts", f"{self.people} people cannot be drawn in {self.parts} equal parts.")
        if self.precision not in PRECISIONS:
            raise SettingError("precision", f"expected one of {', '.join(PRECISIONS)}, found {self.precision!r}.")
        if not self.earlier_visits or not all(0 <= visits <= 7 for visits in self.earlier_visits):
            raise SettingError("earlier_visits", f"expected numbers from 0 to 7, found {list(self.earlier_visits)}.")
        if len(self.future_frames) != len(self.earlier_visits) or not all(1 <= n <= 12 for n in self.future_frames):
            raise SettingError(
                "future_frames",
                f"expected {len(self.earlier_visits)} numbers from 1 to 12, one for each of earlier_visits, "
                f"found {list(self.future_frames)}.",
            )


@dataclass(frozen=True)
class RunConfig:
    """What a configuration file holds: {"training": {...}, "model": {...}, "population": {...}}; what is left out has its default."""

    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    population: PopulationConfig = dataclasses.field(default_factory=PopulationConfig)
