"""Scores of forecasters whose analytic values are known: truth N(m + s, 1) where only the model sees the signal s."""

import numpy as np
import pytest

from neuro4d_lib.applications.figures import draw_scores
from neuro4d_lib.applications.score_report import render_scores
from neuro4d_lib.applications.score_table import ALL, Cases, select
from neuro4d_lib.applications.scoring import (
    ControlledFutures,
    Futures,
    Gaussian,
    noise_ceiling,
    score_changes,
    score_pit,
)
from neuro4d_lib.errors import InputError

N, SIGNAL_SD, NOISE_SD, MEAN = 4000, 0.02, 0.015, -0.03
REGIONS, HORIZONS = ("hippocampus", "lateral_ventricle"), (1.0, 2.0)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(9)
    shape = (N, len(HORIZONS), len(REGIONS))
    signal = rng.normal(0, SIGNAL_SD, shape)
    truth = MEAN + signal + rng.normal(0, NOISE_SD, shape)
    cases = Cases(REGIONS, HORIZONS, np.arange(N), rng.choice(["CN", "AD"], N), rng.choice([1, 2, 3], N))
    spread = np.full(shape, 1.0)
    forecasts = {
        "exact": Gaussian(MEAN + signal, NOISE_SD * spread),
        "group_rate": Gaussian(MEAN * spread, np.hypot(SIGNAL_SD, NOISE_SD) * spread),
        "copy_last": Gaussian(0 * spread),
        "model": Futures(MEAN + signal + rng.normal(0, NOISE_SD, (40, *shape))),
    }
    rows = [
        row
        for name, forecast in forecasts.items()
        for row in score_changes(cases, name, forecast, truth, forecasts["group_rate"], forecasts["exact"])
    ]
    return rows, cases, truth, forecasts


def cell(world, metric, method, region="hippocampus"):
    (row,) = select(world[0], metric=metric, method=method, region=region, horizon_years=2.0, diagnosis=ALL, scans=None)
    return row


class TestMeasurementNoise:
    """A perfect forecaster, scored against noisy changes of 10 noise SDs in one region and of 1 in the other."""

    def test_gets_the_ceiling_where_change_is_measurable_and_no_score_elsewhere(self):
        rng = np.random.default_rng(1)
        noise_sd = np.array([0.004, 0.04])
        change = rng.normal(0, 0.04, (N, 2, 2))
        measured = change + rng.normal(0, 1, change.shape) * noise_sd
        cases = Cases(REGIONS, HORIZONS, np.arange(N), np.full(N, "CN"), np.full(N, 1))
        rows = score_changes(cases, "perfect", Gaussian(change), measured, Gaussian(0 * change), noise_sd=noise_sd)
        ceiling = noise_ceiling(cases, measured, noise_sd)
        for metric in ("change_skill_score", "pattern_correlation", "amplitude_ratio"):
            assert {row.region for row in select(rows, metric=metric)} == {"hippocampus"}
        assert {row.region for row in ceiling} == {"hippocampus"}
        assert {row.region for row in select(rows, metric="crps")} == set(REGIONS)
        for row in select(rows, metric="change_skill_score"):
            (limit,) = [one for one in ceiling if one.cell == row.cell]
            assert limit.value == pytest.approx(1 - 0.004**2 / (0.04**2 + 0.004**2), abs=1e-3)
            assert row.value == pytest.approx(limit.value, abs=4 * row.standard_error)


class TestScoreChanges:
    def near(self, row, expected):
        assert abs(row.value - expected) < 4 * row.standard_error, (row, expected)

    def test_crps_and_its_skill(self, world):
        total = np.hypot(SIGNAL_SD, NOISE_SD)
        for method in ("exact", "model"):
            self.near(cell(world, "crps", method), 100 * NOISE_SD / np.sqrt(np.pi))
            self.near(cell(world, "crps_skill", method), 1 - NOISE_SD / total)
        assert cell(world, "crps_skill", "group_rate").value == 0
        # A point forecast scores its absolute error: that of N(m, s) is s sqrt(2/pi) exp(-m^2/2s^2) + |m| erf(...).
        from scipy.stats import foldnorm

        self.near(cell(world, "crps", "copy_last"), 100 * foldnorm(abs(MEAN) / total, scale=total).mean())

    def test_share_of_exact(self, world):
        assert cell(world, "crps_share_of_exact", "exact").value == 1
        assert cell(world, "crps_share_of_exact", "group_rate").value == 0
        self.near(cell(world, "crps_share_of_exact", "model"), 1)

    def test_change_skill_score(self, world):
        power = MEAN**2 + SIGNAL_SD**2 + NOISE_SD**2
        assert cell(world, "change_skill_score", "copy_last").value == 0
        self.near(cell(world, "change_skill_score", "exact"), 1 - NOISE_SD**2 / power)
        self.near(cell(world, "change_skill_score", "group_rate"), 1 - (SIGNAL_SD**2 + NOISE_SD**2) / power)

    @pytest.mark.parametrize("level", [50, 80, 90, 95])
    def test_coverage(self, world, level):
        for method in ("exact", "group_rate", "model"):
            self.near(cell(world, f"coverage_{level}", method), level / 100)
        assert not select(world[0], metric=f"coverage_{level}", method="copy_last")

    def test_volume_error_is_in_percent_of_the_last_volume(self, world):
        truth = world[2]
        assert cell(world, "volume_error_percent", "copy_last").value == pytest.approx(
            100 * np.abs(np.exp(truth[:, 1, 0]) - 1).mean()
        )

    def test_interval_score_prefers_the_exact_band(self, world):
        assert (
            cell(world, "interval_score_90", "exact").value < 0.7 * cell(world, "interval_score_90", "group_rate").value
        )

    def test_a_method_without_an_answer_gives_no_row(self, world):
        _, cases, truth, forecasts = world
        nothing = Gaussian(np.full_like(truth, np.nan), np.full_like(truth, np.nan))
        assert score_changes(cases, "personal_slope", nothing, truth, forecasts["group_rate"], forecasts["exact"]) == []


class TestPit:
    def test_is_uniform_for_a_calibrated_forecast_and_says_what_is_wrong_with_others(self, world):
        _, cases, truth, forecasts = world
        exact = forecasts["exact"]
        wide, high = Gaussian(exact.mean, 2 * exact.sd), Gaussian(exact.mean + exact.sd, exact.sd)
        rows = [
            r for name, f in {**forecasts, "wide": wide, "high": high}.items() for r in score_pit(cases, name, f, truth)
        ]
        for method in ("exact", "group_rate", "model"):
            for i in range(1, 11):
                row = cell((rows,), f"pit_tenth_{i}", method)
                assert abs(row.value - 0.1) < 4 * row.standard_error
        assert cell((rows,), "pit_dispersion", "exact").value == pytest.approx(1, abs=0.06)
        assert cell((rows,), "pit_dispersion", "wide").value < 0.6
        assert cell((rows,), "pit_bias", "high").value == pytest.approx(-0.26, abs=0.02)  # Phi(-1 / sqrt 2) - 1/2
        assert not select(rows, method="copy_last")


class TestThreeWays:
    def test_the_error_of_the_brain_and_of_the_rate_follow_from_that_of_the_region(self, world):
        _, cases, truth, forecasts = world
        years = np.full(truth.shape[:2], 4.0)
        rows = score_changes(
            cases,
            "m",
            forecasts["exact"],
            truth,
            forecasts["group_rate"],
            years=years,
            share_of_brain=np.array([0.1, 0.5]),
        )
        own, brain = cell((rows,), "volume_error_percent", "m"), cell((rows,), "volume_error_percent_of_brain", "m")
        assert brain.value == pytest.approx(own.value / 10)
        expected = 100 * NOISE_SD * np.sqrt(2 / np.pi) / 4
        assert cell((rows,), "rate_error_percent_per_year", "m").value == pytest.approx(expected, rel=0.05)

    def test_correlation_and_amplitude(self, world):
        power, signal = MEAN**2 + SIGNAL_SD**2 + NOISE_SD**2, MEAN**2 + SIGNAL_SD**2
        r, m = cell(world, "pattern_correlation", "exact"), cell(world, "amplitude_ratio", "exact")
        assert abs(r.value - np.sqrt(signal / power)) < 4 * r.standard_error < 0.03
        assert abs(m.value - np.sqrt(signal / power)) < 4 * m.standard_error < 0.05
        assert not select(world[0], metric="pattern_correlation", method="copy_last")


class TestReport:
    def test_tables_without_rows_are_left_out(self, world):
        of_scans = [row for row in world[0] if row.scans is not None]
        text = render_scores(of_scans, "t", "c")
        assert "| region | horizon_years | n |" not in text
        assert "By horizon:" in text and "| hippocampus | 1 | 3 |" in text
        assert render_scores([], "t", "c").count("|") == 0

    def test_shows_the_pit_histogram(self, world):
        _, cases, truth, forecasts = world
        text = render_scores(score_pit(cases, "exact", forecasts["exact"], truth), "t", "c")
        line = next(s for s in text.splitlines() if s.startswith("| exact | hippocampus | 1 |"))
        assert sum(float(part) for part in line.split("|")[4:14]) == pytest.approx(100, abs=0.6)

    def test_shows_value_error_and_n_by_region_and_horizon(self, world):
        text = render_scores(world[0], "Simulated people", "python -m neuro4d_lib evaluate")
        assert text.startswith("# Simulated people\n\nMade by `python -m neuro4d_lib evaluate`.")
        line = next(s for s in text.split("## crps_skill")[1].splitlines() if s.startswith("| hippocampus | 1 |"))
        assert line.endswith("| 4000 |")
        value, error = (float(part) for part in line.split("|")[3].split("±"))
        row = cell(world, "crps_skill", "exact")
        assert abs(value - row.value) < 0.02 and error == pytest.approx(row.standard_error, rel=0.1)
        assert "At 2 years, by scans:" in text
        assert "At 2 years, by diagnosis:" in text

    def test_every_table_is_regular(self, world):
        text = render_scores(world[0], "t", "c")
        for block in text.split("\n\n"):
            lines = block.splitlines()
            if lines and lines[0].startswith("|"):
                assert len({line.count("|") for line in lines}) == 1


class TestFigures:
    def test_draws_one_page(self, world, tmp_path):
        pytest.importorskip("matplotlib")
        for name, magic in (("scores.png", b"\x89PNG"), ("scores.pdf", b"%PDF")):
            draw_scores(world[0], tmp_path / name, "Simulated people", REGIONS)
            assert (tmp_path / name).read_bytes().startswith(magic)

    def test_says_what_is_not_in_the_table(self, tmp_path):
        pytest.importorskip("matplotlib")
        draw_scores([], tmp_path / "empty.svg", "Nothing", ["hippocampus"])
        assert (tmp_path / "empty.svg").stat().st_size > 1000

    def test_too_many_regions_are_refused(self, tmp_path):
        pytest.importorskip("matplotlib")
        with pytest.raises(InputError, match="1 to 8 regions"):
            draw_scores([], tmp_path / "x.png", "t", ["r"] * 9)


class TestControlledFutures:
    """One standard normal truth after another, few futures of each."""

    CASES, DRAWS = 4000, 4

    def of_shift(self, shift):
        random = np.random.default_rng(0)
        truth = random.normal(size=(self.CASES, 1, 1))
        twins = random.normal(size=(self.DRAWS, self.CASES, 1, 1))
        law = Gaussian(np.zeros_like(truth), np.ones_like(truth))
        shifted = Gaussian(np.full_like(truth, shift), np.ones_like(truth))
        return truth, ControlledFutures(twins + shift, twins, law), Futures(twins + shift), shifted

    def test_futures_of_the_law_have_its_crps(self):
        truth, controlled, _, law = self.of_shift(0.0)
        np.testing.assert_allclose(controlled.crps(truth), law.crps(truth))

    def test_the_mean_is_that_of_many_futures_and_the_noise_smaller(self):
        truth, controlled, plain, law = self.of_shift(0.2)
        wanted = law.crps(truth)
        off, plainly_off = controlled.crps(truth) - wanted, plain.crps(truth) - wanted
        assert abs(off.mean()) < 3 * off.std() / self.CASES**0.5
        assert off.std() < plainly_off.std() / 3
        assert np.abs(controlled.mean - plain.mean).max() == 0
