"""The check against itself: 'real' tables written here, of people whose law is known; and the page that shows it."""

import argparse
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from neuro4d_lib.applications.reality_check import (
    AREA_PER_VOLUME,
    KIRBY,
    OASIS,
    read_oasis,
    reality_check,
    render_comparison,
)
from neuro4d_lib.cli_population import run_population, run_reality_check
from neuro4d_lib.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "population.md"
RATES = {"whole_brain": {"CN": (-0.5, 0.3), "MCI": (-0.9, 0.8), "AD": (-1.2, 0.9)}}
RATES["lateral_ventricle"] = {"CN": (4.0, 3.0), "MCI": (6.5, 4.0), "AD": (8.0, 5.0)}
NOISE = {"whole_brain": 0.2, "lateral_ventricle": 1.2, "hippocampus": 1.0}


class Lines:
    """Straight lines with Gaussian rates, all rates times a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def log_volumes(self, age, diagnosis, years, regions, generator):
        values = np.zeros((*years.shape, len(regions)))
        for r, region in enumerate(regions):
            mean, sd = np.array([RATES[region][d] for d in diagnosis]).T
            draw = torch.randn(len(age), generator=generator, dtype=torch.float64).numpy()
            values[..., r] = 13 + self.factor * (mean + sd * draw)[:, None] * years / 100
        return values

    def noise_sd(self, regions):
        return np.array([NOISE[region] for region in regions]) / 100


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """People of the law `Lines()`, in the columns of the public tables."""
    folder = tmp_path_factory.mktemp("tabular")
    rng = np.random.default_rng(2)
    groups = [("Nondemented", "CN", "0.0")] * 60 + [("Demented", "MCI", "0.5")] * 40 + [("Demented", "AD", "1.0")] * 20
    with (folder / OASIS).open("w", newline="") as file:
        write = csv.writer(file)
        write.writerow(["Subject ID", "Group", "MR Delay", "Age", "CDR", "nWBV", "ventricle_area_mm2_axl"])
        for i, (group, diagnosis, cdr) in enumerate(groups):
            brain, ventricle = (rng.normal(*RATES[r][diagnosis]) for r in ("whole_brain", "lateral_ventricle"))
            days = np.r_[0, np.sort(rng.integers(250, 2500, rng.integers(1, 5)))]
            for k, day in enumerate(days):
                volume = 0.74 * np.exp((brain * day / 365.25 + rng.normal(0, 0.7)) / 100)
                area = 2300 * np.exp((AREA_PER_VOLUME * ventricle * day / 365.25 + rng.normal(0, 3)) / 100)
                area_text = "" if (i, k) == (0, 0) else f"{area:.1f}"
                write.writerow([f"S{i}", group, day, 75 + round(day / 365), cdr, f"{volume:.4f}", area_text])
    with (folder / KIRBY).open("w", newline="") as file:
        write = csv.writer(file)
        write.writerow(["subject", "visit", "type", "level", "region", "mm3"])
        for subject in range(40):
            for visit in (1, 2):
                e = {r: np.exp(rng.normal(0, sd) / 100) for r, sd in NOISE.items()}
                for region in ("Telencephalon_L", "Mesencephalon"):
                    write.writerow([subject, visit, 1, 1, region, 5e5 * e["whole_brain"]])
                write.writerow([subject, visit, 1, 1, "CSF", 3e5 * rng.uniform(0.5, 2)])
                for side in "LR":
                    write.writerow([subject, visit, 1, 4, f"Hippo_{side}", 3500 * e["hippocampus"]])
                    write.writerow([subject, visit, 1, 3, f"LateralVentricle_{side}", 9000 * e["lateral_ventricle"]])
    return folder


def check(tables, population):
    rows = reality_check(tables, population, torch.Generator().manual_seed(3), cohorts=60)
    return {(row.quantity, row.group): row for row in rows}


class TestRealityCheck:
    def test_a_true_population_agrees_within_sampling_error(self, tables):
        rows = check(tables, Lines())
        z = np.array([row.z for row in rows.values()])
        assert np.abs(z).max() < 3
        assert np.sqrt(np.mean(z**2)) < 1.5

    def test_estimates_are_those_of_the_law(self, tables):
        rows = check(tables, Lines())
        row = rows["brain volume, mean rate", "Nondemented"]
        assert (row.n, row.simulated) == (60, pytest.approx(-0.5, abs=0.03))
        assert rows["ventricle area, mean rate", "Nondemented"].simulated == pytest.approx(4 * AREA_PER_VOLUME, abs=0.3)
        assert rows["brain volume, SD between people", "Nondemented"].simulated == pytest.approx(0.3, abs=0.05)
        assert rows["hippocampus, noise of a scan", "scanned twice"].simulated == 1.0

    def test_correlations_are_those_of_the_law(self, tables):
        rows = check(tables, Lines())
        of_rates = rows["brain volume and ventricle area, correlation of rates", "Nondemented"]
        assert of_rates.simulated == pytest.approx(0, abs=0.06)  # drawn independently
        assert 0.05 < of_rates.standard_error < 0.25  # about 1/sqrt(60)
        # All levels are alike at year 0, so that who grows faster is larger on average over the visits.
        assert rows["ventricle area, correlation of level and rate", "Nondemented"].simulated > 0.5

    def test_a_population_that_loses_twice_as_much_is_found_out(self, tables):
        rows = check(tables, Lines(2.0))
        assert rows["brain volume, mean rate", "Nondemented"].z > 4
        assert rows["brain volume, SD between people", "Demented"].z < -2
        marked = [line for line in render_comparison(list(rows.values())).splitlines() if "(!)" in line]
        assert any("| brain volume, mean rate | Nondemented | 60 |" in line for line in marked)

    def test_reads_years_ages_and_diagnoses(self, tables):
        people, diagnosis = read_oasis(tables / OASIS)
        assert [(diagnosis == d).sum() for d in ("CN", "MCI", "AD")] == [60, 40, 20]
        assert np.all(people.years[:, 0] == 0)
        assert np.nanmax(people.years) < 2500 / 365.25
        assert np.isnan(people.log_volumes[0, 0, 1]) and np.isfinite(people.log_volumes[0, 0, 0])

    def test_a_missing_table_and_a_missing_column_are_named(self, tables, tmp_path):
        with pytest.raises(InputError, match=r"oasis2.*cannot be read.*Give the folder"):
            check(tmp_path, Lines())
        (tmp_path / OASIS).write_text("Subject ID,Group\nS1,Demented\n")
        with pytest.raises(InputError, match="no column 'MR Delay'"):
            check(tmp_path, Lines())


class TestCommands:
    def test_print_the_comparison_and_count_what_differs(self, tables, capsys):
        run_reality_check(argparse.Namespace(folder=tables, cohorts=5, seed=0, population=None))
        said = capsys.readouterr().out
        assert "| brain volume, mean rate | Nondemented | 60 |" in said
        assert "differ by more than two standard errors" in said

    def test_the_page_shows_the_population_as_it_is(self, capsys):
        run_population(argparse.Namespace(population=None))
        said = capsys.readouterr().out.strip()
        shown = PAGE.read_text(encoding="utf-8").split("<!-- population -->")[1].split("<!-- end -->")[0].strip()
        assert shown == said, "Put the output of `python -m neuro4d_lib population` into docs/population.md."

    def test_refuse_too_few_cohorts(self, tables):
        with pytest.raises(InputError, match="number of cohorts is 1; expected 2"):
            run_reality_check(argparse.Namespace(folder=tables, cohorts=1, seed=0, population=None))
