"""Is nothing found where there is nothing, and a known difference where there is one? On simulated cohorts."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neuro4d_lib.applications.cohorts.compare import compare
from neuro4d_lib.applications.cohorts.harmonization import PACKAGE
from neuro4d_lib.applications.cohorts.rates import REGIONS, Cohort, draw_cohort
from neuro4d_lib.data.population import Population
from neuro4d_lib.files import write_whole
from neuro4d_lib.progress import Progress, part, silent

SHIFT = -0.01
"""Known difference of both hippocampi, per year."""
OFFSET, STRETCH = 0.01, 1.4
"""What the second scanner adds to every rate, per year, and by how much it scatters more."""
_PERMUTATIONS = 199
_ADJUST = ("age", "sex", "diagnosis")
_HIPPOCAMPI = [REGIONS.index("left_hippocampus"), REGIONS.index("right_hippocampus")]
_LEVEL = 0.05


def pair(population: Population, people: int, generator: torch.Generator, shift: float = 0.0) -> tuple[Cohort, Cohort]:
    """Two cohorts of one population, the second with a shift of both hippocampi."""
    extra = np.zeros(len(REGIONS))
    extra[_HIPPOCAMPI] = shift
    cohorts = [
        draw_cohort(population, population.draw_covariates(people, generator), generator, shift=move, name=name)
        for name, move in (("first", None), ("second", extra))
    ]
    return cohorts[0], cohorts[1]


def false_positives(pairs: int, people: int, progress: Progress = silent) -> tuple[float, float]:
    """Share of pairs of one population in which any region is found (all regions together), and share of single regions (alone)."""
    population, any_region, single = Population(), [], []
    for i in range(pairs):
        progress(i / pairs, f"No difference, pair {i + 1} of {pairs}")
        first, second = pair(population, people, torch.Generator().manual_seed(i))
        found = compare(first, second, _ADJUST, permutations=_PERMUTATIONS, seed=i).regions
        any_region.append(found.p_max.min() <= _LEVEL)
        single.append((found.p <= _LEVEL).mean())
    return float(np.mean(any_region)), float(np.mean(single))


def detection(pairs: int, people: int, progress: Progress = silent) -> tuple[float, float, float, float]:
    """Of a known shift: share of hippocampi found, mean estimate, coverage of 95 % intervals; share of other regions found."""
    from scipy import stats

    population, hit, estimate, held, other = Population(), [], [], [], []
    for i in range(pairs):
        progress(i / pairs, f"Known difference, pair {i + 1} of {pairs}")
        first, second = pair(population, people, torch.Generator().manual_seed(100_000 + i), SHIFT)
        found = compare(first, second, _ADJUST, permutations=_PERMUTATIONS, seed=i).regions
        hit.append(found.p_max[_HIPPOCAMPI] <= _LEVEL)
        estimate.append(found.estimate[_HIPPOCAMPI])
        reach = stats.t.ppf(0.975, found.freedom) * found.standard_error[_HIPPOCAMPI]
        held.append(np.abs(found.estimate[_HIPPOCAMPI] - SHIFT) < reach)
        other.append(np.delete(found.p_max, _HIPPOCAMPI).min() <= _LEVEL)
    return float(np.mean(hit)), float(np.mean(estimate)), float(np.mean(held)), float(np.mean(other))


def scanners(pairs: int, people: int, progress: Progress = silent) -> dict[str, float]:
    """Two scanners and one population: what is found before and after ComBat, and how well the difference of AD and CN is kept."""
    population, found = Population(), []
    for i in range(pairs):
        progress(i / pairs, f"Two scanners, pair {i + 1} of {pairs}")
        first, second = pair(population, people, torch.Generator().manual_seed(200_000 + i))
        center = second.rates.mean(axis=0)
        second = replace(second, rates=center + STRETCH * (second.rates - center) + OFFSET)
        raw = compare(first, second, _ADJUST, permutations=_PERMUTATIONS, seed=i)
        after = compare(first, second, _ADJUST, harmonize=True, permutations=_PERMUTATIONS, seed=i)
        assert after.scanner is not None  # it was asked for
        found.append(
            (raw.regions.p_max.min() <= _LEVEL, after.regions.p_max.min() <= _LEVEL, np.abs(after.scanner.shift_before).mean(),
             np.abs(after.scanner.shift_after).mean(), after.scanner.ratio_before.mean(), after.scanner.ratio_after.mean())
        )  # fmt: skip
    names = ("found_before", "found_after", "shift_before", "shift_after", "ratio_before", "ratio_after")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def check_compare(pairs: int, people: int, output: Path, progress: Progress = silent) -> str:
    """Measure, write compare_check.md; the text."""
    everywhere, alone = false_positives(pairs, people, part(progress, 0.0, 0.45))
    hit, estimate, held, other = detection(pairs, people, part(progress, 0.45, 0.9))
    error = 100 * (0.05 * 0.95 / pairs) ** 0.5
    lines = [
        f"Simulated people; no evidence about real ones. Made by `python -m neuro4d_lib compare-check --pairs {pairs} --people {people}`: "
        f"pairs of cohorts of {people} people each, {_PERMUTATIONS} permutations, adjusted for {', '.join(_ADJUST)}.", "",
        "| | measured | expected |", "|---|---|---|",
        f"| no difference: pairs in which any of {len(REGIONS)} regions is found, all together | {100 * everywhere:.1f} % | 5 ± {2 * error:.1f} % |",
        f"| no difference: regions found, each alone | {100 * alone:.1f} % | 5 % |",
        f"| hippocampi {100 * SHIFT:+.1f} %/year in the second: estimate | {100 * estimate:+.3f} %/year | {100 * SHIFT:+.3f} |",
        f"| the same: 95 % intervals that hold it | {100 * held:.1f} % | 95 % |",
        f"| the same: hippocampi found, all regions together | {100 * hit:.1f} % | |",
        f"| the same: pairs in which any other region is found | {100 * other:.1f} % | at most 5 ± {2 * error:.1f} % |",
    ]  # fmt: skip
    if importlib.util.find_spec(PACKAGE) is not None:
        some = max(10, pairs // 10)
        two = scanners(some, people, part(progress, 0.9, 1.0))
        lines += [
            f"| two scanners ({OFFSET * 100:+.0f} %/year, {STRETCH:g} × the spread; {some} pairs): pairs with a difference, before / after ComBat | "
            f"{100 * two['found_before']:.0f} / {100 * two['found_after']:.0f} % | |",
            f"| the same: mean shift, SD, before / after | {two['shift_before']:.2f} / {two['shift_after']:.2f} | 0 |",
            f"| the same: ratio of spreads, before / after | {two['ratio_before']:.2f} / {two['ratio_after']:.2f} | 1 |",
        ]
    text = "\n".join(lines) + "\n"
    write_whole(output / "compare_check.md", text)
    progress(1.0, "Done")
    return text
