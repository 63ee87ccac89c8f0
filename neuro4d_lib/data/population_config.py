"""Every assumption about the simulated people, with its source. What has none is assumed, and says so.

Values by diagnosis are in the order of records.DIAGNOSES: CN, MCI, AD, PD, MS. Values by region hold for both sides. What
was compared with real people, and how well it fits, is in docs/population.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from neuro4d_lib.config import SettingError, documented
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.regions import DRIVEN

ByDiagnosis = tuple[float, ...]

_OASIS = "means and spreads together give the whole-brain change of OASIS-2"


@dataclass(frozen=True)
class RegionRate:
    """Change of a region's volume, % of it per year: mean and SD between people, by diagnosis."""

    mean: ByDiagnosis
    sd: ByDiagnosis
    source: str


_RATES = {
    "hippocampus": RegionRate(
        (-1.41, -2.55, -4.66, -1.4, -1.0),
        (1.0, 1.6, 2.0, 1.0, 1.0),
        "means of CN and AD Barnes 2009, of MCI Jack 2000; the rest assumed",
    ),
    "amygdala": RegionRate(
        (-0.81, -2.0, -3.5, -1.0, -0.8), (1.0, 1.4, 1.8, 1.0, 0.9), "CN Fjell 2009, recalled; the rest assumed"
    ),
    "entorhinal_cortex": RegionRate(
        (-1.4, -4.0, -7.1, -1.4, -1.0),
        (1.2, 2.2, 3.2, 1.2, 1.0),
        "CN and AD Du 2004, recalled; MCI their midpoint; the rest assumed",
    ),
    "caudate": RegionRate((-0.5, -0.8, -1.2, -1.1, -0.8), (0.6, 0.7, 0.9, 0.8, 0.6), "assumed"),
    "putamen": RegionRate((-0.5, -0.7, -1.0, -0.9, -0.7), (0.5, 0.6, 0.8, 0.7, 0.6), "assumed"),
    "thalamus": RegionRate(
        (-0.5, -0.8, -1.1, -0.8, -1.2), (0.5, 0.6, 0.8, 0.6, 0.8), "assumed; early in MS by Eshaghi 2018"
    ),
    "lateral_ventricle": RegionRate(
        (4.4, 6.5, 9.8, 1.4, 3.0),
        (3.2, 6.5, 7.0, 2.9, 2.5),
        "means of CN and AD Fjell 2009, recalled; PD Mak 2017 per year; MCI and MS assumed; SD of CN, MCI and AD from "
        "ventricle areas of OASIS-2",
    ),
    "frontal_cortex": RegionRate(
        (-0.45, -0.8, -1.4, -0.55, -0.5), (0.3, 0.75, 1.0, 0.5, 0.4), f"CN Fjell 2009; the rest assumed; {_OASIS}"
    ),
    "temporal_cortex": RegionRate(
        (-0.45, -1.1, -2.2, -0.4, -0.5), (0.3, 0.9, 1.2, 0.5, 0.4), f"CN Fjell 2009; the rest assumed; {_OASIS}"
    ),
    "parietal_cortex": RegionRate((-0.45, -0.9, -1.8, -0.4, -0.5), (0.3, 0.8, 1.1, 0.5, 0.4), f"assumed; {_OASIS}"),
    "occipital_cortex": RegionRate((-0.35, -0.6, -1.1, -0.35, -0.4), (0.3, 0.7, 0.9, 0.5, 0.4), f"assumed; {_OASIS}"),
    "cingulate_cortex": RegionRate(
        (-0.45, -0.95, -1.8, -0.5, -0.7),
        (0.3, 0.8, 1.1, 0.5, 0.5),
        f"assumed; early in MS by Eshaghi 2018; {_OASIS}",
    ),
    "white_matter": RegionRate((-0.5, -0.85, -1.3, -0.25, -0.5), (0.35, 1.05, 1.3, 0.6, 0.4), f"assumed; {_OASIS}"),
    "cerebellum": RegionRate((-0.35, -0.45, -0.6, -0.25, -0.35), (0.3, 0.5, 0.6, 0.4, 0.3), "assumed"),
    "brainstem": RegionRate(
        (-0.25, -0.3, -0.4, -0.4, -0.7), (0.3, 0.4, 0.5, 0.4, 0.5), "assumed; early in MS by Eshaghi 2018"
    ),
    "third_ventricle": RegionRate((3.0, 4.5, 6.5, 1.5, 3.0), (2.5, 3.0, 3.5, 2.5, 2.5), "assumed"),
}
_ACCELERATION = {
    "hippocampus": (-0.02, -0.22, -0.2, -0.02, 0.0),
    "lateral_ventricle": (0.0, 0.25, 0.6, 0.0, 0.0),
}
_AGE_EFFECT = {
    "hippocampus": (-0.05, 0.01, 0.03, -0.03, 0.0),
    "entorhinal_cortex": (-0.04, 0.02, 0.03, -0.02, 0.0),
    "amygdala": (-0.03, 0.01, 0.02, -0.02, 0.0),
    "lateral_ventricle": (0.05, -0.05, -0.1, 0.05, 0.02),
    "third_ventricle": (0.04, -0.03, -0.06, 0.03, 0.02),
}
_STATE_BY_DIAGNOSIS = {
    "hippocampus": (0.0, -0.1, -0.2, -0.02, -0.03),
    "amygdala": (0.0, -0.08, -0.17, -0.02, -0.02),
    "entorhinal_cortex": (0.0, -0.1, -0.2, -0.02, -0.02),
    "lateral_ventricle": (0.0, 0.2, 0.4, 0.1, 0.2),
    "third_ventricle": (0.0, 0.15, 0.3, 0.1, 0.2),
    "frontal_cortex": (0.0, -0.01, -0.03, -0.01, -0.01),
    "temporal_cortex": (0.0, -0.03, -0.07, -0.01, -0.01),
    "parietal_cortex": (0.0, -0.02, -0.05, -0.01, -0.01),
    "occipital_cortex": (0.0, -0.01, -0.02, -0.01, -0.01),
    "cingulate_cortex": (0.0, -0.02, -0.05, -0.01, -0.02),
    "white_matter": (0.0, -0.02, -0.04, -0.01, -0.03),
    "thalamus": (0.0, -0.01, -0.03, -0.01, -0.06),
}
_STATE_SD = {
    "hippocampus": 0.12,
    "amygdala": 0.12,
    "entorhinal_cortex": 0.12,
    "caudate": 0.1,
    "putamen": 0.1,
    "thalamus": 0.08,
    "cerebellum": 0.08,
    "brainstem": 0.08,
    "lateral_ventricle": 0.5,
    "third_ventricle": 0.35,
}
_SCAN_NOISE = {
    "hippocampus": 1.7,
    "amygdala": 3.0,
    "entorhinal_cortex": 3.0,
    "lateral_ventricle": 1.9,
    "third_ventricle": 3.0,
    "caudate": 1.6,
    "putamen": 1.6,
    "thalamus": 1.6,
    "white_matter": 0.3,
}


@dataclass(frozen=True)
class LesionConfig:
    """The law of lesions in people with MS."""

    new_per_year: float = documented(
        2.3,
        help="Mean number of new T1-dark lesions per year.",
        source="Miller 2007, Neurology 68:1390: 4.6 in 2 years, placebo arm, relapsing MS (of which some fade later)",
    )
    rate_shape: float = documented(
        1.0,
        help="Shape of the gamma distribution of the rate among people, so that counts are negative binomial.",
        source="assumed",
    )
    disease_years: float = documented(
        8.0, help="Mean time since onset at the first scan, exponential, at most age minus 18.", source="assumed"
    )
    periventricular_share: float = documented(
        0.6, help="Share of the lesions that lie close to the lateral ventricles by preference.", source="assumed"
    )
    periventricular_reach_mm: float = documented(
        5.0, help="Distance over which that preference falls by 1/e, mm.", source="assumed"
    )
    radius_mm: float = documented(3.0, help="Median radius when a lesion appears, mm.", source="assumed")
    radius_log_sd: float = documented(0.3, help="SD of the logarithm of that radius.", source="assumed")
    growing_share: float = documented(0.3, help="Share of the lesions that grow slowly.", source="assumed")
    growth_mm_per_year: float = documented(0.3, help="Growth of the radius of those, mm per year.", source="assumed")
    growth_years: float = documented(10.0, help="How long they grow.", source="assumed")
    darkness: tuple[float, float] = documented(
        (0.25, 0.45), help="Least and most share of the signal lost at the center.", source="assumed"
    )
    years_ahead: float = documented(
        12.0, help="Lesions are drawn up to so many years after the first scan.", source="a choice, beyond all visits"
    )

    def __post_init__(self) -> None:
        _check_range(self, ("periventricular_share", "growing_share", "darkness"), 0, 1)
        _check_range(self, ("rate_shape", "periventricular_reach_mm", "radius_mm"), 0.001)
        _check_range(self, ("new_per_year", "disease_years", "radius_log_sd", "growth_years", "years_ahead"), 0)


@dataclass(frozen=True)
class ScannerSettings:
    """How simulated people are scanned. What is random differs from scan to scan."""

    spacing_mm: tuple[float, float, float] = documented(
        (2.0, 2.0, 2.0), help="Voxel size along R, A and S, mm.", source="a choice, for speed"
    )
    orientation: str = documented("RAS", help="Where the voxel axes point, such as RAS, LAS or PSR.", source="assumed")
    oblique_degrees: float = documented(0.0, help="Tilt of the slices about the left-right axis.", source="assumed")
    rotation_degrees: float = documented(3.0, help="SD of the rotation of the head about each axis.", source="assumed")
    shift_mm: float = documented(3.0, help="SD of the shift of the head along each axis, mm.", source="assumed")
    noise: float = documented(0.02, help="SD of the noise, as a share of the signal of white matter.", source="assumed")
    shading: float = documented(0.1, help="SD of the logarithm of the receive field.", source="assumed")
    contrast: float = documented(0.1, help="SD of the logarithm of gamma in signal ** gamma.", source="assumed")

    def __post_init__(self) -> None:
        _check_range(self, ("spacing_mm",), 0.5, 10)
        _check_range(self, ("rotation_degrees", "shift_mm", "noise", "shading", "contrast"), 0)


@dataclass(frozen=True)
class PopulationConfig:
    """What the simulated people are assumed to be like."""

    diagnosis_shares: ByDiagnosis = documented(
        (0.3, 0.25, 0.2, 0.125, 0.125), help="Shares of the diagnoses.", source="assumed"
    )
    ages: tuple[tuple[float, float], ...] = documented(
        ((73.0, 8.0), (74.0, 7.5), (75.0, 8.0), (66.0, 9.0), (42.0, 11.0)),
        help="Mean and SD of age at the latest scan, years, by diagnosis; kept within 18 to 100.",
        source="assumed",
    )
    male_shares: ByDiagnosis = documented(
        (0.45, 0.5, 0.48, 0.6, 0.28), help="Shares of men by diagnosis.", source="assumed"
    )
    education_years: tuple[float, float] = documented(
        (15.0, 3.0), help="Mean and SD of years of education.", source="assumed"
    )
    apoe4_shares: tuple[tuple[float, ...], ...] = documented(
        ((0.73, 0.24, 0.03), (0.5, 0.38, 0.12), (0.35, 0.45, 0.2), (0.73, 0.24, 0.03), (0.73, 0.24, 0.03)),
        help="Shares of 0, 1 and 2 e4 alleles by diagnosis.",
        source="assumed",
    )
    rates: dict[str, RegionRate] = documented(
        _RATES, help="Change per year at the mean age, by region.", source="by region; between-person, noise removed"
    )
    acceleration: dict[str, ByDiagnosis] = documented(
        _ACCELERATION,
        help="Change of the rate, percent per year, per year since the latest scan; 0 in other regions.",
        source="Leung 2013 for the hippocampus in MCI, and for ventricles in MCI and AD (mL turned to percent, "
        "less what constant relative growth explains, roughly); the rest assumed",
    )
    acceleration_sd: float = documented(
        0.08, help="Personal acceleration, as a share of the spread of rates, per year.", source="assumed"
    )
    unevenness: float = documented(
        0.05, help="Uneven course between scans, as a share of the spread of rates.", source="assumed"
    )
    age_effect: dict[str, ByDiagnosis] = documented(
        _AGE_EFFECT,
        help="Change of the rate, percent per year, per year of age.",
        source="CN hippocampus and entorhinal cortex Du 2006; slower with age in MCI and AD by Holland 2012, size "
        "assumed; the rest assumed",
    )
    age_effect_elsewhere: ByDiagnosis = documented(
        (-0.005, 0.005, 0.01, -0.008, -0.003), help="The same, other regions.", source="assumed"
    )
    apoe4_regions: tuple[str, ...] = documented(
        ("hippocampus", "entorhinal_cortex", "amygdala"),
        help="Regions that APOE e4 makes lose faster.",
        source="Chiang 2011 for the hippocampus; the rest assumed",
    )
    apoe4_effect: ByDiagnosis = documented(
        (0.1, 0.1, 0.0, 0.0, 0.0),
        help="Faster loss per e4 allele, as a share of the mean rate, by diagnosis.",
        source="CN and MCI, not AD: Chiang 2011; size assumed",
    )
    male_effect: float = documented(-0.05, help="Slower change in men, as a share of the mean rate.", source="assumed")
    education_effect: float = documented(
        -0.01, help="Slower change per year of education above the mean, likewise.", source="assumed"
    )
    region_correlation: float = documented(
        0.5,
        help="Correlation of the rates of two regions of a person; of a tissue and a fluid, minus that.",
        source="assumed; agrees with brain against ventricles in OASIS-2",
    )
    side_correlation: float = documented(0.8, help="Correlation of left and right beyond that.", source="assumed")
    state_correlation: ByDiagnosis = documented(
        (0.1, 0.3, 0.3, 0.3, 0.3),
        help="Correlation of a region's volume with its rate, by diagnosis: faster where less is left.",
        source="assumed; MCI and AD agree with OASIS-2, which shows none in CN",
    )
    state_by_diagnosis: dict[str, ByDiagnosis] = documented(
        _STATE_BY_DIAGNOSIS, help="Mean log-volume against CN; 0 in other regions.", source="assumed"
    )
    state_per_year_of_age: dict[str, float] = documented(
        {"hippocampus": -0.006, "lateral_ventricle": 0.025, "third_ventricle": 0.02},
        help="Change of the mean log-volume per year of age above 60.",
        source="assumed",
    )
    state_per_year_of_age_elsewhere: float = documented(-0.002, help="The same, other regions.", source="assumed")
    state_sd: dict[str, float] = documented(
        _STATE_SD,
        help="Spread of log-volume between people of the same sex, age, diagnosis and head size.",
        source="assumed; lateral ventricle from areas of OASIS-2",
    )
    state_sd_elsewhere: float = documented(
        0.055, help="The same, other regions.", source="gives the spread of brain volume in OASIS-2"
    )
    state_error: float = documented(0.06, help="Error of reading a log-volume off a scan.", source="assumed")
    scan_noise: dict[str, float] = documented(
        _SCAN_NOISE,
        help="Percent of the region, one scan against another of the same day.",
        source="Kirby-21 for hippocampus and lateral ventricle, both sides 1.2 to 1.6; the rest assumed",
    )
    scan_noise_elsewhere: float = documented(0.6, help="The same, other regions.", source="assumed")
    shared_noise: float = documented(
        0.15, help="Percent of every region, shared by all regions of a scan.", source="Kirby-21, whole brain 0.20"
    )
    missing: float = documented(0.15, help="Chance that a covariate is unknown.", source="assumed")
    nothing_known: float = documented(0.03, help="Chance that all covariates are unknown.", source="assumed")
    visit_gap_years: tuple[float, float] = documented(
        (0.25, 2.5), help="Least and most time between two planned visits, uniform.", source="assumed"
    )
    longest_years: float = documented(10.0, help="No visit is planned later than this.", source="assumed")
    missed_visit: float = documented(0.1, help="Chance that a planned later visit is missed.", source="assumed")
    dropout_per_year: tuple[float, ...] = documented(
        (0.05, 0.08, 0.15, 0.08, 0.05), help="Rate of leaving for good, per year, by diagnosis.", source="assumed"
    )
    head_size: tuple[float, float] = documented(
        (0.98, 1.02), help="Mean length of the head against the reference, women and men.", source="assumed"
    )
    head_size_sd: float = documented(0.03, help="Its spread between people.", source="assumed")
    largest_ventricles: float = documented(
        2.0,
        help="No scans are made of people whose lateral ventricles are larger than this, in log-volume against the "
        "reference (77 mL each side).",
        source="what the simulation of scans can make",
    )
    lesions: LesionConfig = field(
        default_factory=LesionConfig, metadata={"help": "The law of lesions in people with MS.", "source": "by field"}
    )
    scanner: ScannerSettings = field(
        default_factory=ScannerSettings, metadata={"help": "How people are scanned.", "source": "by field"}
    )

    def __post_init__(self) -> None:
        groups = {region.group for region in DRIVEN}
        for name in (one.name for one in fields(self) if isinstance(getattr(self, one.name), dict)):
            table = getattr(self, name)
            for group in sorted(set(table) - groups):
                raise SettingError(f"{name}.{group}", f"there is no such region. Regions: {', '.join(sorted(groups))}.")
            for group, values in table.items():
                if isinstance(values, tuple):
                    _check_number_of_values(f"{name}.{group}", values)
        for group in sorted(groups - set(self.rates)):
            raise SettingError("rates", f"the region {group!r} is missing; every region needs a rate.")
        for group, rate in self.rates.items():
            _check_number_of_values(f"rates.{group}.mean", rate.mean)
            _check_number_of_values(f"rates.{group}.sd", rate.sd)
            if min(rate.sd) <= 0:
                raise SettingError(f"rates.{group}.sd", f"found {min(rate.sd):g}; expected more than 0.")
        for name in _BY_DIAGNOSIS:
            _check_number_of_values(name, getattr(self, name))
        shares = [("diagnosis_shares", self.diagnosis_shares)]
        shares += [(f"apoe4_shares[{i}]", of_diagnosis) for i, of_diagnosis in enumerate(self.apoe4_shares)]
        for name, values in shares:
            if min(values) < 0 or abs(sum(values) - 1) > 1e-6:
                raise SettingError(name, f"found shares {values} with the sum {sum(values):g}; expected 1.")
        if max(abs(value) for value in self.state_correlation) >= 1:
            raise SettingError(
                "state_correlation", f"found {self.state_correlation}; expected values between -1 and 1."
            )
        for name in ("region_correlation", "side_correlation"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(name, f"found {getattr(self, name):g}; expected 0 to less than 1.")
        for i, shares_of_alleles in enumerate(self.apoe4_shares):
            if len(shares_of_alleles) != 3:
                raise SettingError(f"apoe4_shares[{i}]", f"found {len(shares_of_alleles)} shares; expected 3.")
        _check_range(self, ("missing", "nothing_known", "missed_visit", "male_shares"), 0, 1)
        _check_range(self, _NOT_NEGATIVE, 0)
        _check_range(self, ("state_sd", "state_sd_elsewhere", "head_size", "longest_years"), 0.001)
        for i, (mean, sd) in enumerate(self.ages):
            if not 18 <= mean <= 100 or sd < 0:
                raise SettingError(f"ages[{i}]", f"found mean {mean:g}, SD {sd:g}; expected a mean of 18 to 100 years.")
        least, most = self.visit_gap_years
        if not 0 < least <= most:
            raise SettingError("visit_gap_years", f"found {least:g} to {most:g}; expected more than 0, ascending.")


_NOT_NEGATIVE = ("acceleration_sd", "unevenness", "state_error", "scan_noise", "scan_noise_elsewhere", "shared_noise",
                 "dropout_per_year", "head_size_sd")  # fmt: skip
_BY_DIAGNOSIS = ("diagnosis_shares", "ages", "male_shares", "apoe4_shares", "age_effect_elsewhere", "apoe4_effect",
                 "state_correlation", "dropout_per_year")  # fmt: skip


def _check_range(settings: object, names: tuple[str, ...], least: float, most: float = float("inf")) -> None:
    """Numbers, and those in lists and tables, lie within limits."""
    for name in names:
        value = getattr(settings, name)
        table = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
        places = {f"{name}.{key}" if isinstance(value, dict) else f"{name}[{key}]": item for key, item in table}
        for place, number in (places or {name: value}).items():
            if not least <= number <= most:
                upper = "" if most == float("inf") else f" to {most:g}"
                raise SettingError(place, f"found {number:g}; expected {least:g}{upper or ' or more'}.")


def _check_number_of_values(name: str, values: tuple[object, ...]) -> None:
    if len(values) != len(DIAGNOSES):
        raise SettingError(name, f"found {len(values)} values; expected {len(DIAGNOSES)}, for {', '.join(DIAGNOSES)}.")
