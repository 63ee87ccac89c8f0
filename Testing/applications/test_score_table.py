import os

import numpy as np
import pytest

from neuro4d_lib.applications.score_table import (
    ALL,
    COLUMNS,
    Cases,
    Score,
    jackknife,
    pivot,
    ratio_of_sums,
    read_scores,
    select,
    write_scores,
)
from neuro4d_lib.errors import InputError

SCORES = [
    Score("crps", "hippocampus", 2.0, "CN", 3, "model", 0.8125, 0.01, 40),
    Score("crps", "hippocampus", None, ALL, None, "exact", 0.75, float("nan"), 90),
]


@pytest.fixture
def rng():
    return np.random.default_rng(6)


class TestFile:
    def test_columns_and_missing_values_as_agreed(self, tmp_path):
        write_scores(tmp_path / "scores.csv", SCORES)
        assert (tmp_path / "scores.csv").read_text().splitlines() == [
            "metric,region,horizon_years,diagnosis,scans,method,value,standard_error,n",
            "crps,hippocampus,2,CN,3,model,0.8125,0.01,40",
            "crps,hippocampus,all,all,all,exact,0.75,,90",
        ]

    def test_comes_back_as_it_was(self, tmp_path):
        write_scores(tmp_path / "new" / "scores.csv", SCORES)
        found = read_scores(tmp_path / "new" / "scores.csv")
        assert found[0] == SCORES[0]
        assert repr(found[1]) == repr(SCORES[1])

    def test_pandas_reads_it(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        write_scores(tmp_path / "scores.csv", SCORES)
        assert tuple(pandas.read_csv(tmp_path / "scores.csv").columns) == COLUMNS

    def test_a_failed_write_leaves_the_earlier_file(self, tmp_path, monkeypatch):
        path = tmp_path / "scores.csv"
        write_scores(path, SCORES)
        before = path.read_bytes()

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_scores(path, SCORES[:1])
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["scores.csv"]

    def test_other_files_are_refused_with_the_line(self, tmp_path):
        with pytest.raises(InputError, match=r"gone\.csv cannot be read"):
            read_scores(tmp_path / "gone.csv")
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match="first line must be metric,region"):
            read_scores(tmp_path / "other.csv")
        (tmp_path / "short.csv").write_text(",".join(COLUMNS) + "\ncrps,x\n")
        with pytest.raises(InputError, match="line 2: expected 9 values, found 2"):
            read_scores(tmp_path / "short.csv")
        (tmp_path / "bad.csv").write_text(",".join(COLUMNS) + "\ncrps,x,2,CN,many,model,1,1,1\n")
        with pytest.raises(InputError, match=r"line 2: .*many"):
            read_scores(tmp_path / "bad.csv")


class TestJackknife:
    def test_of_a_ratio_is_the_ratio_of_sums(self, rng):
        parts, subject = rng.normal(3, 1, (2, 60)), np.repeat(np.arange(30), 2)
        parts[0, 3] = np.nan
        value, error, n = jackknife(parts, subject, lambda sums: sums[0] / sums[1])
        expected = ratio_of_sums(*parts, subject)
        assert (value, n) == (pytest.approx(expected[0]), expected[2])
        assert error == pytest.approx(expected[1], rel=0.05)

    def test_no_case(self):
        assert np.isnan(jackknife(np.full((2, 3), np.nan), np.arange(3), lambda sums: sums[0])[0])


class TestRatioOfSums:
    def test_of_ones_is_the_mean_and_its_standard_error(self, rng):
        values = rng.normal(3, 2, 50)
        value, error, n = ratio_of_sums(values, np.ones(50), np.arange(50))
        assert (value, error, n) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1) / np.sqrt(50)), 50)

    def test_error_is_that_of_repeated_samples(self, rng):
        def sample():
            size = rng.gamma(2, 1, (60, 1)) * np.ones((60, 3))  # three cases a subject, alike in size and in ratio
            return size * rng.normal(0.7, 0.3, (60, 1)) + rng.normal(0, 0.2, (60, 3)), size

        subject = np.repeat(np.arange(60), 3)
        found = np.array([ratio_of_sums(a.ravel(), b.ravel(), subject) for a, b in (sample() for _ in range(600))])
        assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.1)
        as_if_independent = [ratio_of_sums(a.ravel(), b.ravel(), np.arange(180))[1] for a, b in [sample()]]
        assert as_if_independent[0] < 0.8 * found[:, 1].mean()

    def test_agrees_with_the_bootstrap_by_subject(self, rng):
        under = rng.gamma(3, 1, 80)
        over = 0.4 * under + rng.normal(0, 0.5, 80)
        draws = rng.integers(0, 80, (4000, 80))
        bootstrap = (over[draws].sum(axis=1) / under[draws].sum(axis=1)).std()
        assert ratio_of_sums(over, under, np.arange(80))[1] == pytest.approx(bootstrap, rel=0.06)

    def test_unknown_values_are_no_cases(self):
        value, _, n = ratio_of_sums(np.array([1.0, np.nan, 3.0]), np.array([1.0, 1.0, np.nan]), np.arange(3))
        assert (value, n) == (1.0, 1)


class TestCases:
    CASES = Cases(("a", "b"), (1.0, 5.0), np.arange(6), np.array(["CN"] * 4 + ["AD"] * 2), np.array([1, 1, 1, 2, 2, 2]))

    def test_every_cell_with_cases_and_no_other(self):
        values = np.arange(24.0).reshape(6, 2, 2)
        values[:, 1, 1] = np.nan
        rows = self.CASES.means("m", "model", values)
        assert {(s.region, s.horizon_years) for s in rows} == {("a", 1.0), ("b", 1.0), ("a", 5.0)}
        groups = {(s.diagnosis, s.scans): s.n for s in select(rows, region="a", horizon_years=5.0)}
        assert groups == {
            ("CN", 1): 3,
            ("CN", 2): 1,
            ("CN", None): 4,
            ("AD", 2): 2,
            ("AD", None): 2,
            (ALL, 1): 3,
            (ALL, 2): 3,
            (ALL, None): 6,
        }
        (row,) = select(rows, region="b", horizon_years=1.0, diagnosis="AD", scans=None)
        assert row.value == values[4:, 0, 1].mean()

    def test_the_error_of_a_share_does_not_vanish(self):
        rows = self.CASES.means("coverage_90", "model", np.ones((6, 2, 2)), claimed=0.9)
        (row,) = select(rows, region="a", horizon_years=1.0, diagnosis=ALL, scans=None)
        assert (row.value, row.standard_error) == (1.0, pytest.approx(np.sqrt(0.09 / 6)))

    def test_subjects_count_once_however_many_cases_they_are(self):
        cases = Cases(("a",), (1.0,), np.array([0, 0, 1, 1]), np.array(["CN"] * 4), np.array([1, 2, 1, 2]))
        rows = cases.means("m", "model", np.array([1.0, 1.0, 2.0, 2.0])[:, None, None])
        (row,) = select(rows, diagnosis=ALL, scans=None)
        assert (row.value, row.n, row.standard_error) == (1.5, 2, pytest.approx(0.5))

    def test_another_shape_is_refused(self):
        with pytest.raises(InputError, match="m of model: expected cases x horizons x regions"):
            self.CASES.means("m", "model", np.zeros((6, 2)))


class TestPivot:
    def test_by_rows_and_method(self):
        table = pivot(SCORES, ("region", "scans"))
        assert list(table) == [("hippocampus", 3), ("hippocampus", None)]
        assert table["hippocampus", 3]["model"].value == 0.8125

    def test_an_ambiguous_place_is_refused(self):
        with pytest.raises(ValueError, match="Two scores of model"):
            pivot([SCORES[0], SCORES[0]], ("region",))
