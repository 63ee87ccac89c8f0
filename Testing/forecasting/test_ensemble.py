import numpy as np
import pytest

from neuro4d_lib.forecasting.ensemble import COVERAGES, VolumeTable, predictive_bands, student_t_quantile


class TestStudentTQuantile:
    @pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 31, 100, 999])
    @pytest.mark.parametrize("probability", [0.5, 0.75, 0.9, 0.95, 0.975, 0.9995])
    def test_equals_scipy(self, probability, freedom):
        stats = pytest.importorskip("scipy.stats")
        assert student_t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), abs=1e-9)

    def test_refuses_what_has_no_quantile(self):
        for probability, freedom in ((0.4, 3), (1.0, 3), (0.9, 0)):
            with pytest.raises(ValueError, match="No quantile"):
                student_t_quantile(probability, freedom)


class TestPredictiveBands:
    @pytest.mark.parametrize("draws", [2, 8, 30])
    def test_hold_the_next_draw_as_often_as_they_say_however_few_the_futures(self, draws):
        people = 40_000
        volumes = np.exp(8 + 0.03 * np.random.default_rng(0).standard_normal((draws + 1, people)))
        _, bands = predictive_bands(volumes[:-1])
        for coverage in COVERAGES:
            low, high = bands[coverage]
            held = 100 * np.mean((low <= volumes[-1]) & (volumes[-1] <= high))
            assert held == pytest.approx(coverage, abs=0.8)  # three standard errors

    def test_are_nested_around_the_median(self):
        median, bands = predictive_bands(np.array([90.0, 100, 104, 99])[:, None])
        ends = [bands[c][0][0] for c in (95, 90, 80, 50)] + [median[0]] + [bands[c][1][0] for c in (50, 80, 90, 95)]
        assert ends == sorted(ends)

    def test_of_one_future_do_not_exist(self):
        median, bands = predictive_bands(np.array([[3000.0, 4000.0]]))
        np.testing.assert_allclose(median, [3000, 4000])
        assert bands == {}


class TestVolumeTable:
    def test_has_a_row_for_every_region_and_year_with_the_simple_forecasts_beside(self):
        futures_mm3 = np.array([[[90.0, 200], [80, 200]], [[92, 201], [84, 199]]])
        table = VolumeTable(("a", "b"), (1, 2), np.array([100.0, 200]), futures_mm3, np.array([[95.0, 200], [90, 200]]))
        rows = list(table.rows())
        assert [(row["region"], row["year"]) for row in rows] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        assert rows[1]["median_mm3"] == pytest.approx(np.sqrt(80 * 84))
        assert rows[1]["copy_last_mm3"] == rows[1]["baseline_mm3"] == 100
        assert rows[1]["group_rate_mm3"] == 90
        assert rows[1]["low_90_mm3"] < 80 < 84 < rows[1]["high_90_mm3"]

    def test_leaves_bands_empty_for_one_future(self):
        table = VolumeTable(("a",), (1,), np.array([100.0]), np.array([[[90.0]]]), np.array([[95.0]]))
        (row,) = table.rows()
        assert row["median_mm3"] == pytest.approx(90)
        assert row["low_50_mm3"] is None and row["high_95_mm3"] is None
