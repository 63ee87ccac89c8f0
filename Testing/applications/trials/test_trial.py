"""The command: its truths, its files, its resumption, its refusals."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from neuro4d_lib import cli
from neuro4d_lib.applications.trials import run as run_module
from neuro4d_lib.applications.trials.check import (
    STATED_N,
    WHOLE_BRAIN,
    analytic_power,
    closed_form_design,
    level_design,
    proportional_sd,
    simulated,
)
from neuro4d_lib.applications.trials.design import Arm, Criteria
from neuro4d_lib.applications.trials.law import law_of
from neuro4d_lib.applications.trials.run import Workers, run_trials
from neuro4d_lib.applications.trials.sizes import closed_form_n, expected_power, ladder, simulated_n
from neuro4d_lib.progress import silent


def trial(*arguments):
    return cli.main(["trial", *map(str, arguments), "--progress", "none"])


class TestSizes:
    def test_closed_form_gives_the_sizes_stated_for_whole_brain_atrophy(self):
        for name, (mean, sd) in WHOLE_BRAIN.items():
            for share, stated in zip((0.2, 0.25, 0.3), STATED_N[name], strict=True):
                assert closed_form_n(share * mean, sd, sd) == pytest.approx(stated, abs=1)

    def test_power_at_the_closed_form_size_is_what_was_asked(self):
        n = closed_form_n(1.0, 4.0, 4.0, alpha=0.01, power=0.9)
        assert expected_power(np.array([n]), 100, np.sqrt(2 * 16 / 100), 1.0, 0.01)[0] == pytest.approx(0.9, abs=1e-6)

    def test_a_size_is_found_between_simulated_ones(self):
        people = [40, 80, 120, 200]
        powers = expected_power(np.array(people), 100, 0.3, 0.84, 0.05)
        truth = 100 * ((1.959964 + 0.841621) * 0.3 / 0.84) ** 2
        assert simulated_n(people, powers, 1000, 0.8, 0.05) == pytest.approx(truth, rel=1e-3)
        assert np.isnan(simulated_n(people[:2], powers[:2], 1000, 0.8, 0.05)), "not reached is not known"

    def test_the_ladder_holds_the_plan_and_spans_what_is_needed(self):
        steps = ladder([100, 200], np.array([60.0, 150.0, np.inf]), 600)
        assert [100, 200] in steps and steps[0][0] <= 60 and steps[-1][0] >= 150
        assert all(size[1] == 2 * size[0] for size in steps)


class TestTruth:
    def test_simulated_size_and_power_of_the_two_sample_case(self):
        """AD, whole brain, one year, 25 % slowing, 80 % power: 132 per arm within 5 %; power as statsmodels says."""
        people = (60, 110, 132, 160)
        found, _ = simulated(law_of(closed_form_design(1500)), people, Workers(), silent)
        (row,) = [row for row in found.rows if (row.arm, row.biomarker) == ("0.25", "AD")]
        assert row.n_simulated == pytest.approx(132, rel=0.05)
        assert row.n_closed_form == pytest.approx(132, rel=0.05)
        mean, sd = WHOLE_BRAIN["AD"]
        for point in found.powers:
            if (point.arm, point.biomarker) == ("0.25", "AD"):
                truth = analytic_power(point.people, 0.25 * mean, sd)
                assert point.power == pytest.approx(truth, abs=4 * np.sqrt(truth * (1 - truth) / 1500))
                assert point.analytic == pytest.approx(truth, abs=0.03)

    def test_where_everybody_is_slowed_in_proportion_the_spread_shrinks_too(self):
        found, _ = simulated(law_of(closed_form_design(1000, "proportional")), (90, 108, 132), Workers(), silent)
        (row,) = [row for row in found.rows if (row.arm, row.biomarker) == ("0.25", "AD")]
        mean, sd = WHOLE_BRAIN["AD"]
        assert row.n_simulated == pytest.approx(closed_form_n(0.25 * mean, sd, proportional_sd(sd, 0.25)), rel=0.07)

    def test_type_1_error_bias_and_coverage(self):
        """2,000 trials of four visits with dropout: every analysis rejects 5 % where nobody is treated."""
        design = level_design(2000)
        chosen = {name: design.biomarkers[name] for name in ("hippocampus", "composite")}
        design = dataclasses.replace(design, biomarkers=chosen, people_per_arm=40)
        found, _ = simulated(law_of(design), (), Workers(), silent)
        assert len(found.rows) == 2 * 4
        for row in found.rows:
            assert row.type_1 == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 2000)), row
            assert row.coverage == pytest.approx(0.95, abs=0.025), row
            if row.analysis in ("change", "ancova"):
                assert abs(row.bias) < 5 * row.bias_error, row
            assert abs(row.bias) < 0.08 * abs(row.true_effect), row  # a straight line through a bent course


class TestBias:
    @pytest.mark.parametrize("dropout", [None, 0.8])
    def test_arms_that_people_leave_at_different_rates_are_not_taken_for_alike(self, law, dropout):
        """Of MCI and AD, more of those with AD leave the control arm: then untreated arms differ, too."""
        arm = Arm(name="treated", slowing={"whole_brain": 0.3}, dropout_per_year=dropout)
        drawn = law(treated=arm, trials=50, analyses=("change",), criteria=Criteria(diagnoses=("MCI", "AD")))
        found, arrays = simulated(drawn, (), Workers(), silent)
        row = found.rows[0]
        null = arrays["null_effect"][0, 0, :, 0, 0].mean()
        plain = row.effect - row.true_effect
        assert row.bias == pytest.approx(plain if dropout else plain - null, abs=1e-9)
        assert abs(null) > 1e-3


class TestRuns:
    def test_the_same_whatever_the_workers_and_after_an_interruption(self, law, tmp_path):
        drawn, sizes = law(trials=55), [[10, 10], [30, 30]]
        whole = run_trials(drawn, sizes, 55, tmp_path / "a", Workers(), silent)
        many = run_trials(drawn, sizes, 55, tmp_path / "b", Workers(2), silent)

        class Stop(Exception):
            pass

        def stop(fraction, message):
            if fraction > 0.5:
                raise Stop

        with pytest.raises(Stop):
            run_trials(drawn, sizes, 55, tmp_path / "c", Workers(), stop)
        kept = sorted((tmp_path / "c").glob("*.safetensors"))
        assert len(kept) == 2
        times = [path.stat().st_mtime_ns for path in kept]
        resumed = run_trials(drawn, sizes, 55, tmp_path / "c", Workers(), silent)
        assert [path.stat().st_mtime_ns for path in kept] == times, "finished blocks are not computed again"
        assert whole["effect"].shape == (1, 4, 55, 2, 2)
        for key, values in whole.items():
            np.testing.assert_array_equal(values, many[key], err_msg=key)
            np.testing.assert_array_equal(values, resumed[key], err_msg=key)

    def test_a_damaged_block_is_computed_again(self, law, tmp_path):
        whole = run_trials(law(), [[30, 30]], 50, tmp_path, Workers(), silent)
        (tmp_path / "block_00001.safetensors").write_bytes(b"cut off")
        again = run_trials(law(), [[30, 30]], 50, tmp_path, Workers(), silent)
        np.testing.assert_array_equal(whole["effect"], again["effect"])

    def test_other_seeds_give_other_trials(self, law, tmp_path):
        effects = [
            run_trials(law(seed=seed), [[30, 30]], 25, tmp_path / str(seed), Workers(), silent)["effect"]
            for seed in (0, 1)
        ]
        assert not np.isclose(*effects).any()

    @pytest.mark.filterwarnings("ignore")
    def test_a_dask_cluster_gives_the_same(self, law, tmp_path):
        distributed = pytest.importorskip("distributed", reason="Dask is an optional extra")
        whole = run_trials(law(), [[30, 30]], 50, tmp_path / "a", Workers(), silent)
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
        ) as cluster:
            workers = Workers(scheduler=cluster.scheduler_address)
            found = run_trials(law(), [[30, 30]], 50, tmp_path / "b", workers, silent)
        for key, values in whole.items():
            np.testing.assert_array_equal(values, found[key], err_msg=key)

    def test_killed_and_run_again_gives_the_same_table(self, design_file, tmp_path):
        path = design_file(change={"trials = 60": "trials = 1500\nanalyses = ['change', 'ancova']"})
        command = [sys.executable, "-m", "neuro4d_lib", "trial", str(path), "--output"]
        process = subprocess.Popen([*command, str(tmp_path / "killed"), "--progress", "none"], stderr=subprocess.PIPE)
        blocks = tmp_path / "killed" / "unfinished" / "trials"
        deadline = time.monotonic() + 60
        while len(list(blocks.glob("block_*.safetensors"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert {entry.name for entry in (tmp_path / "killed").iterdir()} == {"unfinished"}
        assert trial(path, "--output", tmp_path / "killed") == 0
        assert trial(path, "--output", tmp_path / "whole") == 0
        for name in ("results.csv", "power.csv", "courses.csv", "trial.json"):
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert not blocks.exists()


class TestFiles:
    def test_tables_record_and_one_page(self, design_file, tmp_path, capsys):
        more = "[optimization]\nbiomarker = 'hippocampus'\nenrich_by = 'hippocampus'\nenrich_shares = [1, 0.5]\n"
        more += "durations_years = [1, 2]\nvisits_every_years = [0.5]\n"
        assert trial(design_file(more=more), "--output", tmp_path / "out") == 0
        assert "Simulated people" in capsys.readouterr().out
        names = {entry.name for entry in (tmp_path / "out").iterdir()}
        assert names == {
            "results.csv", "power.csv", "courses.csv", "optimization.csv", "trial.json", "report.html", "design.toml",
            "power.png", "biomarkers.png", "courses.png",
        }  # fmt: skip
        record = json.loads((tmp_path / "out" / "trial.json").read_text(encoding="utf-8"))
        assert len(record["results"]) == 4 and record["results"][0]["people"] == 30
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert "no evidence about real ones" in page and page.count("data:image/png") == 3
        assert "src='http" not in page and "href" not in page
        costs = [plan["cost"] for plan in record["optimization"]]
        assert len(costs) == 4 and costs == sorted(costs)
        best = record["optimization"][0]
        assert best["power"] == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 60))

    def test_an_effect_the_other_way_is_called_so(self, design_file, tmp_path):
        change = {"whole_brain = 0.5": "hippocampus = -0.5"}
        assert trial(design_file(change=change), "--output", tmp_path / "out") == 0
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert "change <b>more</b> than without treatment" in page

    def test_a_finished_trial_is_replaced_only_when_asked(self, design_file, tmp_path, capsys):
        path, out = design_file(), tmp_path / "out"
        assert trial(path, "--output", out) == 0
        before = (out / "results.csv").read_bytes()
        assert trial(path, "--output", out) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert trial(design_file(change={"seed = 3": "seed = 4"}), "--output", out, "--overwrite") == 0
        assert (out / "results.csv").read_bytes() != before


class TestRefusals:
    """Exit code 2, one sentence, nothing written."""

    @pytest.mark.parametrize(
        ("change", "parts"),
        [
            ({"seed = 3": "colour = 1"}, ["line 2: colour: unknown setting"]),
            ({'["AD"]': '["AD"]\nage_years = { max = 20 }'}, ["nobody meets all criteria", "age_years 20000"]),
            ({'["AD"]': '["AD"]\nvolume_ml.hippocampus = { max = 6000 }'}, ["found 6000", "1000 mm3 are 1 mL"]),
            ({"slowing = { whole_brain = 0.5 }": "added_ml = { hippocampus = -20 }"}, ["volume would be negative"]),
            ({"[0, 0.5, 1]": "[0, 0.5, 11]"}, ["line 6: visits_years: found 11 years"]),
            ({"seed = 3": "power = 1.5"}, ["line 2: power: found 1.5"]),
            ({"seed = 3": "dropout_per_year = 5"}, ["come to the last visit"]),
            ({"hippocampus = {}": "mine = { mean_percent_per_year = -1 }"}, ["biomarkers.mine", "nobody differs"]),
        ],
    )
    def test_a_design_that_cannot_be_simulated(self, design_file, tmp_path, capsys, change, parts):
        assert trial(design_file(change=change), "--output", tmp_path / "out") == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "Traceback" not in message
        for part in ("design.toml", *parts):
            assert part in message
        assert not (tmp_path / "out").exists()

    def test_folders_and_options(self, design_file, tmp_path, capsys):
        path, out = design_file(), tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work", encoding="utf-8")
        assert trial(path, "--output", out) == 2 and "thesis.txt" in capsys.readouterr().err
        assert trial(path, "--output", out / "thesis.txt" / "in") == 2 and "is a file" in capsys.readouterr().err
        assert trial(path) == 2 and "Name a design and a folder" in capsys.readouterr().err
        assert trial(path, "--output", tmp_path / "new", "--workers", 0) == 2
        assert not (tmp_path / "new").exists() and (out / "thesis.txt").read_text(encoding="utf-8") == "years of work"

    def test_unfinished_trials_of_another_design_are_not_mixed(self, design_file, law, tmp_path, capsys):
        run_trials(law(), [[30, 30]], 25, tmp_path / "out" / run_module.UNFINISHED / "trials", Workers(), silent)
        assert trial(design_file(), "--output", tmp_path / "out") == 2
        assert "unfinished trials of another design" in capsys.readouterr().err

    @pytest.mark.filterwarnings("ignore")
    def test_a_scheduler_that_does_not_answer(self, design_file, tmp_path, capsys):
        pytest.importorskip("distributed", reason="Dask is an optional extra")
        assert trial(design_file(), "--output", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9") == 2
        assert "No Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
