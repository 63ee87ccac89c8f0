"""The design of a trial: who enters, when they are scanned, what the arms get, what is measured and how it is analyzed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from neuro4d_lib.applications.trials.design_checks import (
    check_all_within,
    check_choices,
    check_region,
    check_within,
    is_region,
)
from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.data.records import DIAGNOSES, SEXES
from neuro4d_lib.data.treatment import check_slowing, members

CHANGE, ANCOVA, SLOPE, MIXED = ANALYSES = ("change", "ancova", "slope", "mixed")
MIXED_VISITS = 3
"""The mixed model has as many unknowns of variance as two visits have numbers: it needs one more."""
MOST_VISITS = 24
MOST_YEARS = 50.0
MOST_PEOPLE = 20_000
MOST_TRIALS = 1_000_000


@dataclass(frozen=True)
class Range:
    """From min to max, both included; without one of them, open to that side."""

    min: float | None = documented(None, help="Least value that is allowed.")
    max: float | None = documented(None, help="Largest value that is allowed.")

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not low <= high:
            raise SettingError("", f"the least value, {low:g}, lies above the largest, {high:g}.")

    @property
    def bounds(self) -> tuple[float, float]:
        return (-float("inf") if self.min is None else self.min, float("inf") if self.max is None else self.max)


@dataclass(frozen=True)
class Criteria:
    """Who may enter. Volumes are as a scan shows them, of people of the reference's head size."""

    diagnoses: tuple[str, ...] = documented(("AD",), help=f"Any of {', '.join(DIAGNOSES)}.")
    age_years: Range = documented(Range(), help="Age at the first visit.")
    sexes: tuple[str, ...] = documented(SEXES, help="Any of F, M.")
    apoe4: tuple[int, ...] = documented((0, 1, 2), help="Numbers of APOE e4 alleles that are allowed.")
    education_years: Range = documented(Range(), help="Years of education.")
    volume_ml: dict[str, Range] = documented({}, help="Volumes at the first visit, mL, by region or sum of regions.")
    baseline_percent: dict[str, Range] = documented(
        {}, help="Biomarkers of this design at the first visit, in percent of the reference (100 ln ratio)."
    )
    run_in_years: float = documented(
        0.0, help="Years between a screening scan and the first visit; 0: there is no such scan."
    )
    run_in_percent_per_year: dict[str, Range] = documented(
        {}, help="Change of biomarkers of this design seen from the screening scan to the first visit, % a year."
    )

    def __post_init__(self) -> None:
        check_choices("diagnoses", self.diagnoses, DIAGNOSES)
        check_choices("sexes", self.sexes, SEXES)
        check_choices("apoe4", self.apoe4, (0, 1, 2))
        for name in self.volume_ml:
            check_region(f"volume_ml.{name}", name)
        check_within("run_in_years", self.run_in_years, 0, 5, "years")
        if self.run_in_percent_per_year and self.run_in_years < 0.05:
            raise SettingError(
                "run_in_percent_per_year", "expected a screening scan: set run_in_years to 0.05 or more."
            )
        if self.run_in_years and not self.run_in_percent_per_year:
            raise SettingError(
                "run_in_years", "expected a limit in run_in_percent_per_year that uses the screening scan."
            )


@dataclass(frozen=True)
class Arm:
    """One arm. The first of a design is the control."""

    name: str = documented("", help="Such as placebo.")
    people: int | None = documented(None, help="People in this arm; without it, people_per_arm of the design.")
    slowing: dict[str, float] = documented(
        {}, help="Share by which change is slowed, by region or sum of regions: 0.25 is 25 %, negative is faster."
    )
    effect: str = documented(
        "proportional",
        help="proportional: everybody's own change is slowed by the share; shift: everybody is spared the share of the "
        "mean change of people with the same covariates, so that the spread stays as it is.",
    )
    onset_years: float = documented(
        0.0, help="Years after the first visit at which the slowing begins, at once in full."
    )
    added_ml: dict[str, float] = documented(
        {}, help="Volume that the treatment adds (or takes, negative) beside the slowing, mL, by region or sum."
    )
    added_over_years: float = documented(1.0, help="Years after the onset in which that is added, evenly.")
    dropout_per_year: float | None = documented(None, help="Rate of leaving in this arm; without it, the design's.")

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise SettingError("name", "every arm needs a name.")
        if self.effect not in ("proportional", "shift"):
            raise SettingError("effect", f"found {self.effect!r}; expected proportional or shift.")
        if self.people is not None:
            check_within("people", self.people, 4, MOST_PEOPLE, "people")
        check_within("onset_years", self.onset_years, 0, MOST_YEARS, "years")
        check_within("added_over_years", self.added_over_years, 0.01, MOST_YEARS, "years")
        for name in self.added_ml:
            check_region(f"added_ml.{name}", name)
            check_within(f"added_ml.{name}", self.added_ml[name], -2000, 2000, "mL")
        if self.dropout_per_year is not None:
            check_within("dropout_per_year", self.dropout_per_year, 0, 5, "a year")

    @property
    def has_effect(self) -> bool:
        return any(self.slowing.values()) or any(self.added_ml.values())


@dataclass(frozen=True)
class Biomarker:
    """What is measured. One of three: regions, weights, or a law of its own; with none, the region of its name."""

    regions: tuple[str, ...] = documented((), help="Regions or sums of regions whose volumes are added up.")
    weights: dict[str, float] = documented(
        {}, help="A composite: the percent changes of regions or sums, times these weights, added up."
    )
    mean_percent_per_year: float | None = documented(
        None, help="A biomarker of your own: mean change, percent of the first visit per year."
    )
    sd_percent_per_year: float = documented(0.0, help="Its spread between people, noise removed.")
    noise_percent: float = documented(0.0, help="Its error of one scan (SD).")
    level_sd_percent: float = documented(10.0, help="Spread of its first values between people, noise removed.")

    def __post_init__(self) -> None:
        kinds = bool(self.regions) + bool(self.weights) + self.stated
        if kinds > 1:
            raise SettingError("", "expected only one of regions, weights and mean_percent_per_year.")
        for name in self.regions:
            check_region("regions", name)
        parts = [part for name in self.regions for part in members(name)]
        if len(set(parts)) < len(parts):
            raise SettingError("regions", "a region is counted twice.")
        for name, weight in self.weights.items():
            check_region(f"weights.{name}", name)
            check_within(f"weights.{name}", weight, -1e3, 1e3, "")
        if self.weights and not any(self.weights.values()):
            raise SettingError("weights", "all weights are 0.")
        if self.mean_percent_per_year is not None:
            check_within("mean_percent_per_year", self.mean_percent_per_year, -50, 50, "percent")
        elif self.sd_percent_per_year or self.noise_percent:
            raise SettingError("", "sd_percent_per_year and noise_percent need mean_percent_per_year beside them.")
        check_within("sd_percent_per_year", self.sd_percent_per_year, 0, 50, "percent")
        check_within("noise_percent", self.noise_percent, 0, 50, "percent")
        check_within("level_sd_percent", self.level_sd_percent, 0, 200, "percent")

    @property
    def stated(self) -> bool:
        """Whether it has a law of its own instead of the population's."""
        return self.mean_percent_per_year is not None

    def combined(self, name: str) -> list[tuple[float, tuple[str, ...]]]:
        """Weight and driven regions of each sum that it is made of."""
        if self.weights:
            return [(weight, members(part)) for part, weight in self.weights.items()]
        return [(1.0, tuple(part for region in self.regions or (name,) for part in members(region)))]


@dataclass(frozen=True)
class Cost:
    """What a trial costs, in any one currency."""

    per_screened: float = documented(500.0, help="For everybody who is screened.")
    per_person: float = documented(2000.0, help="For everybody who enters.")
    per_scan: float = documented(1000.0, help="For every scan of them.")
    per_person_year: float = documented(5000.0, help="Treatment and care of one person for a year.")
    per_year: float = documented(500_000.0, help="Running the trial for a year, whatever its size.")

    def __post_init__(self) -> None:
        for name in ("per_screened", "per_person", "per_scan", "per_person_year", "per_year"):
            check_within(name, getattr(self, name), 0, 1e12, "")


@dataclass(frozen=True)
class Optimization:
    """Which schedules, durations and enrichments are compared, for one biomarker and one analysis."""

    biomarker: str = documented("", help="A biomarker of this design.")
    analysis: str = documented(MIXED, help=f"One of {', '.join(ANALYSES)}.")
    durations_years: tuple[float, ...] = documented((1.0, 1.5, 2.0), help="Years from the first visit to the last.")
    visits_every_years: tuple[float, ...] = documented((0.25, 0.5), help="Years between two visits.")
    enrich_by: str = documented(
        "", help="A biomarker of this design: only people with its most diseased first values enter; without it, all."
    )
    enrich_shares: tuple[float, ...] = documented(
        (1.0, 0.5, 0.25), help="Shares of those who meet the other criteria that are let in."
    )
    cost: Cost = documented(Cost(), help="See Cost.")

    def __post_init__(self) -> None:
        check_choices("analysis", (self.analysis,), ANALYSES)
        for name, low, high in (("durations_years", 0.1, MOST_YEARS), ("visits_every_years", 0.05, MOST_YEARS)):
            check_all_within(name, getattr(self, name), low, high, "years")
        check_all_within("enrich_shares", self.enrich_shares, 0.02, 1, "")

    def schedules(self) -> list[tuple[float, ...]]:
        """Visits in years, one schedule for every duration and interval that go together."""
        found: dict[tuple[float, ...], None] = {}
        for duration in self.durations_years:
            for interval in self.visits_every_years:
                gaps = duration / interval
                count = round(gaps)
                if abs(gaps - count) < 1e-6 and 1 <= count < MOST_VISITS:
                    found[tuple(round(duration * i / count, 6) for i in range(count + 1))] = None
        return list(found)


_USUAL = ("hippocampus", "lateral_ventricle", "whole_brain", "cortex")


@dataclass(frozen=True)
class TrialDesign:
    """Everything that a simulated trial depends on."""

    title: str = documented("Simulated trial", help="Heads the report.")
    seed: int = documented(0, help="The same seed gives the same table, whatever the number of workers.")
    trials: int = documented(1000, help="How often the trial is simulated.")
    alpha: float = documented(0.05, help="Two-sided level of the tests.")
    power: float = documented(0.8, help="Power that the sample size is asked for.")
    people_per_arm: int = documented(100, help="People in each arm that names no number of its own.")
    most_people_per_arm: int = documented(600, help="Power curves go no further than this.")
    visits_years: tuple[float, ...] = documented(
        (0.0, 0.5, 1.0, 1.5), help="Scans, years from the first, which is at 0."
    )
    dropout_per_year: float | None = documented(
        None, help="Rate of leaving for good, per year; without it, the population's by diagnosis."
    )
    missed_visit: float | None = documented(
        None, help="Chance that a later visit is missed; without it, the population's."
    )
    noise_percent: dict[str, float] = documented(
        {}, help="Error of one scan by structure, percent, in place of the population's."
    )
    noise_factor: float = documented(1.0, help="By this the population's scan error is multiplied.")
    population: str = documented("", help="JSON file with other assumptions about people, beside the design file.")
    analyses: tuple[str, ...] = documented(ANALYSES, help=f"Any of {', '.join(ANALYSES)}.")
    criteria: Criteria = documented(Criteria(), help="See Criteria.")
    arms: tuple[Arm, ...] = documented((), help="Two or more; the first is the control.")
    biomarkers: dict[str, Biomarker] = field(
        default_factory=lambda: {name: Biomarker() for name in _USUAL},
        metadata={"help": "See Biomarker.", "source": ""},
    )
    optimization: Optimization | None = documented(None, help="See Optimization.")

    def __post_init__(self) -> None:
        check_within("seed", self.seed, 0, 2**31, "")
        check_within("trials", self.trials, 2, MOST_TRIALS, "trials")
        for name in ("alpha", "power"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise SettingError(name, f"found {value:g}; expected a share between 0 and 1, such as 0.8 for 80 %.")
        if not self.alpha < self.power:
            raise SettingError("power", f"found {self.power:g}; expected more than alpha, {self.alpha:g}.")
        check_within("people_per_arm", self.people_per_arm, 4, MOST_PEOPLE, "people")
        check_within("most_people_per_arm", self.most_people_per_arm, 4, MOST_PEOPLE, "people")
        if self.dropout_per_year is not None:
            check_within("dropout_per_year", self.dropout_per_year, 0, 5, "a year")
        if self.missed_visit is not None:
            check_within("missed_visit", self.missed_visit, 0, 0.95, "")
        check_within("noise_factor", self.noise_factor, 0, 100, "")
        for name, value in self.noise_percent.items():
            check_within(f"noise_percent.{name}", value, 0, 50, "percent")
        check_choices("analyses", self.analyses, ANALYSES)
        self._check_visits()
        self._check_biomarkers()
        self._check_arms()
        self._check_optimization()

    def _check_visits(self) -> None:
        visits = self.visits_years
        example = "such as [0, 0.5, 1, 1.5]"
        if len(visits) < 2 or len(visits) > MOST_VISITS or visits[0] != 0:
            raise SettingError("visits_years", f"expected 2 to {MOST_VISITS} visits, the first at 0, {example}.")
        if not all(later - earlier >= 0.01 for earlier, later in pairwise(visits)):
            raise SettingError("visits_years", f"found {list(visits)}; expected ascending years, {example}.")
        if MIXED in self.analyses and len(visits) < MIXED_VISITS:
            raise SettingError(
                "analyses",
                f"the mixed model needs {MIXED_VISITS} visits or more; found {len(visits)}. Leave out 'mixed'.",
            )

    def _check_biomarkers(self) -> None:
        if not self.biomarkers:
            raise SettingError("biomarkers", "expected one or more.")
        for name, marker in self.biomarkers.items():
            named = is_region(name)
            if marker.stated and named:
                raise SettingError(f"biomarkers.{name}", "a biomarker of your own needs a name that no region has.")
            if not (named or marker.regions or marker.weights or marker.stated):
                check_region(f"biomarkers.{name}", name)
        for key in ("baseline_percent", "run_in_percent_per_year"):
            for name in getattr(self.criteria, key):
                check_choices(
                    f"criteria.{key}.{name}", (name,), [n for n, b in self.biomarkers.items() if not b.stated]
                )

    def _check_arms(self) -> None:
        if len(self.arms) < 2:
            raise SettingError("arms", f"found {len(self.arms)}; expected two or more, the first of them the control.")
        names = [arm.name for arm in self.arms]
        stated = [name for name, marker in self.biomarkers.items() if marker.stated]
        for i, arm in enumerate(self.arms):
            if names.index(arm.name) != i:
                raise SettingError(f"arms[{i}].name", f"a second arm is named {arm.name!r}.")
            try:
                check_slowing(arm.slowing, stated)
            except SettingError as error:
                raise SettingError(f"arms[{i}].{error.key}", error.problem) from None
            if arm.has_effect and arm.onset_years >= self.visits_years[-1]:
                raise SettingError(
                    f"arms[{i}].onset_years",
                    f"the effect begins at {arm.onset_years:g} years, when the trial has ended "
                    f"({self.visits_years[-1]:g} years): nothing of it would be seen.",
                )

    def _check_optimization(self) -> None:
        chosen = self.optimization
        if chosen is None:
            return
        check_choices("optimization.biomarker", (chosen.biomarker,), list(self.biomarkers))
        if chosen.enrich_by:
            drawn = [name for name, marker in self.biomarkers.items() if not marker.stated]
            check_choices("optimization.enrich_by", (chosen.enrich_by,), drawn)
        schedules = chosen.schedules()
        if not schedules:
            raise SettingError(
                "optimization.visits_every_years", "no duration is a whole number of intervals; nothing to compare."
            )
        if chosen.analysis == MIXED and all(len(visits) < MIXED_VISITS for visits in schedules):
            raise SettingError("optimization.analysis", f"the mixed model needs {MIXED_VISITS} visits or more.")
        shortest = min(visits[-1] for visits in schedules)
        for arm in self.arms[1:2]:
            if arm.onset_years >= shortest:
                raise SettingError(
                    "optimization.durations_years",
                    f"in {shortest:g} years nothing is seen of an effect that begins at {arm.onset_years:g} years.",
                )

    @property
    def duration_years(self) -> float:
        return self.visits_years[-1]

    def people(self) -> tuple[int, ...]:
        """In each arm."""
        return tuple(self.people_per_arm if arm.people is None else arm.people for arm in self.arms)
