"""How a study is prepared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.geometry.registration import Similarity


@dataclass(frozen=True)
class PreparationConfig:
    """Settings that change what is written; all of them are kept in prepared.json."""

    similarity: str = documented(
        "ssd", help="How the visits of a person are compared: ssd (one sequence) or lncc (several)."
    )
    iterations: tuple[int, ...] = documented(
        (12, 8, 2), help="Most steps at 5.25, 2.6 and 1.3 mm; leave the last out for a quick look."
    )
    shape_iterations: tuple[int, ...] = documented(
        (12, 8), help="Most steps at 5.25 and 2.6 mm of the match with the reference."
    )
    regularization: float = documented(5e-5, help="Smoothness of the motion between visits; larger is smoother.")
    match_contrast: bool = documented(
        False, help="Make the contrast of the visits alike; always done where the tables name another scanner."
    )
    least_likeness: float = documented(
        0.7, help="Visits that agree less than this with the person's others, before bending, are left out."
    )

    def coarser(self) -> PreparationConfig:
        """The same without the finest resolution."""
        return replace(self, iterations=self.iterations[:2])

    def __post_init__(self) -> None:
        if self.similarity not in get_args(Similarity):
            raise SettingError("similarity", f"expected ssd or lncc, found {self.similarity!r}.")
        for name, most in (("iterations", 3), ("shape_iterations", 2)):
            steps = getattr(self, name)
            if not 1 <= len(steps) <= most or not all(0 <= n <= 100 for n in steps):
                raise SettingError(name, f"expected 1 to {most} numbers from 0 to 100, found {list(steps)}.")
        if not 0 < self.regularization < 1e6:
            raise SettingError("regularization", f"expected a positive number, found {self.regularization:g}.")
        if not -1 <= self.least_likeness <= 1:
            raise SettingError("least_likeness", f"expected a number from -1 to 1, found {self.least_likeness:g}.")
