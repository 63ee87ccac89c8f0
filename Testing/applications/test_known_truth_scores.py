"""Futures drawn from the exact posterior must score as the exact forecast does."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuro4d_lib.applications import evaluation_steps, known_truth_scores
from neuro4d_lib.applications.evaluation_steps import compare_steps, render_steps
from neuro4d_lib.applications.exact_unknown import exact_mixture, hidden
from neuro4d_lib.applications.known_truth import exact_posterior
from neuro4d_lib.applications.known_truth_scores import (
    Request,
    changes,
    draw_futures,
    read_futures,
    score_cases,
    scored_cases,
)
from neuro4d_lib.applications.score_table import select
from neuro4d_lib.applications.scoring import Futures
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig, RegionRate
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.errors import InputError

REQUEST = Request(people=300, draws=24, scans=(1, 2))


def exact_draws(cases, draws, seed=0, wrong=0.0):
    """[draws, N, H, R] from the exact posterior, its mean off by `wrong` spreads."""
    posterior = exact_posterior(Population(), cases)
    people, frames, regions = posterior.mean.shape
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(draws, people, frames * regions, generator=generator, dtype=torch.float64)
    moved = torch.einsum("nij,mnj->mni", posterior.root, z + wrong)
    return posterior.mean + moved.reshape(draws, people, frames, regions)


@pytest.fixture(scope="module")
def shares():
    """Nine sums of regions, each of three."""
    weights = torch.zeros(len(known_truth_scores.SCORED), len(DRIVEN), dtype=torch.float64)
    for i in range(len(weights)):
        weights[i, 3 * i : 3 * i + 3] = 1 / 3
    return weights


@pytest.fixture(scope="module")
def rows(shares):
    known_truth_scores_simple = ("copy_last", "group_rate", "personal_slope")
    training = known_truth_scores.training_people(shares)
    fitted = {name: known_truth_scores.baselines.fit(name, training) for name in known_truth_scores_simple}
    found = []
    for scans in REQUEST.scans:
        cases = scored_cases(REQUEST, scans)
        found += score_cases(
            cases,
            Futures(changes(exact_draws(cases, REQUEST.draws), shares)),
            shares,
            fitted,
            np.ones(len(shares)),
            REQUEST,
        )
    return found


class TestScores:
    def test_exact_draws_reach_the_exact_skill(self, rows):
        ours = select(rows, metric="crps_share_of_exact", method="model", scans=2, diagnosis="all")
        assert len(ours) == 36
        assert np.mean([row.value for row in ours]) == pytest.approx(1, abs=0.03)

    def test_exact_bands_cover(self, rows):
        for method in ("model", "exact"):
            found = select(rows, metric="coverage_90", method=method, diagnosis="all")
            assert np.mean([row.value for row in found]) == pytest.approx(0.9, abs=0.015)

    def test_pit_is_uniform(self, rows):
        for method in ("model", "exact"):
            tenths = [select(rows, metric=f"pit_tenth_{i}", method=method) for i in range(1, 11)]
            assert np.mean([[row.value for row in cells] for cells in tenths], axis=1) == pytest.approx(
                [0.1] * 10, abs=0.02
            )
            dispersion = [row.value for row in select(rows, metric="pit_dispersion", method=method)]
            assert np.mean(dispersion) == pytest.approx(1, abs=0.05)

    def test_skill_is_made_of_correlation_and_amplitude(self, rows):
        wanted = {"method": "exact", "scans": 2, "diagnosis": "all", "region": "hippocampus", "horizon_years": 2.0}
        (skill,), (r,), (m,) = (
            select(rows, metric=metric, **wanted)
            for metric in ("change_skill_score", "pattern_correlation", "amplitude_ratio")
        )
        assert skill.value == pytest.approx(r.value**2 - (r.value - m.value) ** 2)
        assert 0 < r.standard_error < 0.05 and 0 < m.standard_error < 0.1

    def test_nobody_is_told_what_is_hidden(self, shares):
        """Draws of the exact mixture reach its skill; nobody does better, and simple forecasts know no diagnosis."""
        request = Request(people=300, draws=24, scans=(2,), hide_covariates=True)
        cases, training = scored_cases(request, 2), known_truth_scores.training_people(shares)
        fitted = {name: known_truth_scores.baselines.fit(name, training) for name in ("copy_last", "group_rate")}
        told = hidden(cases)
        draws = exact_mixture(Population(), told, request.draws, torch.Generator().manual_seed(4)).samples
        found = score_cases(cases, Futures(changes(draws, shares)), shares, fitted, np.ones(len(shares)), request)
        ours = select(found, metric="crps_share_of_exact", method="model", scans=2, diagnosis="all")
        assert np.mean([row.value for row in ours]) == pytest.approx(1, abs=0.03)
        covered = select(found, metric="coverage_90", method="exact", scans=2, diagnosis="all")
        assert np.mean([row.value for row in covered]) == pytest.approx(0.9, abs=0.02)
        by_group = fitted["group_rate"](known_truth_scores.as_people(told, shares), np.ones((300, 1)))
        assert np.ptp(by_group.mean, axis=0).max() == pytest.approx(0, abs=1e-12)
        assert {row.diagnosis for row in found} >= {"CN", "MCI", "AD", "PD", "MS"}

    def test_another_population_has_its_own_exact_forecast_and_group_rate(self, shares):
        """Twice as fast, and twice as different: bands of the shipped population would be too narrow by half."""
        shipped = PopulationConfig()
        rates = {
            name: RegionRate(tuple(2 * x for x in rate.mean), tuple(2 * x for x in rate.sd), "test")
            for name, rate in shipped.rates.items()
        }
        request = Request(people=300, draws=2, scans=(1,), population=dataclasses.replace(shipped, rates=rates))
        cases = scored_cases(request, 1)
        training = known_truth_scores.training_people(shares, population=request.law())
        fitted = {"group_rate": known_truth_scores.baselines.fit("group_rate", training)}
        few = Futures(np.zeros((2, 300, 4, len(shares))))
        found = score_cases(cases, few, shares, fitted, np.ones(len(shares)), request)
        for method in ("exact", "group_rate"):
            covered = select(found, metric="coverage_90", method=method, diagnosis="all")
            assert np.mean([row.value for row in covered]) == pytest.approx(0.9, abs=0.03)

    def test_a_slope_needs_two_scans(self, rows):
        assert not select(rows, method="personal_slope", scans=1)
        assert select(rows, method="personal_slope", scans=2)


class TestFutures:
    @pytest.fixture
    def drawn(self, tmp_path, monkeypatch):
        calls = []

        def draw(network, batches, cases, draws, generator, device, steps, progress):
            calls.append(cases.past.shape[1] + 1)
            return exact_draws(cases, draws)

        monkeypatch.setattr(known_truth_scores, "model_futures", draw)
        monkeypatch.setattr(known_truth_scores, "SimulatedBatches", lambda *_: None)
        monkeypatch.setattr(known_truth_scores, "state_maps", lambda fields: None)
        network = SimpleNamespace(deformation=SimpleNamespace(fields=torch.zeros(1)))
        return (
            lambda request, sha="a": draw_futures(network, sha, tmp_path, request, torch.device("cpu")),
            calls,
            tmp_path,
        )

    def test_what_is_there_is_not_drawn_again(self, drawn):
        draw, calls, folder = drawn
        small = Request(10, 3, (1, 2))
        draw(small)
        (folder / "futures_2.safetensors").unlink()
        draw(small)
        assert calls == [1, 2, 2]
        rates = read_futures(folder / "futures_2.safetensors", "a", small, scored_cases(small, 2))
        assert torch.allclose(rates.double(), exact_draws(scored_cases(small, 2), 3), atol=1e-6)

    def test_the_model_is_not_told_what_is_hidden(self, drawn, monkeypatch):
        told = []

        def draw(network, batches, cases, *_, **__):
            told.append(cases.covariates)
            return torch.zeros(3, *cases.truth.shape)

        monkeypatch.setattr(known_truth_scores, "model_futures", draw)
        drawn[0](Request(10, 3, (1,), hide_covariates=True))
        assert told[0].isnan().all()

    @pytest.mark.parametrize(
        ("request_", "sha"), [(Request(12, 3, (1,)), "a"), (Request(10, 4, (1,)), "a"), (Request(10, 3, (1,), 7), "a"),
                              (Request(10, 3, (1,)), "b"), (Request(10, 3, (1,), None, True), "a")]
    )  # fmt: skip
    def test_other_futures_are_refused(self, drawn, request_, sha):
        draw, _, _ = drawn
        draw(Request(10, 3, (1,)))
        with pytest.raises(InputError, match=r"futures_1\.safetensors holds futures of another model"):
            draw(request_, sha)


def test_drawing_needs_no_more_than_torch_safetensors_and_scipy():
    """A rented GPU machine has little else."""
    code = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"nibabel", "SimpleITK", "pandas", "statsmodels", "matplotlib", "nilearn", "monai"}:
            raise ImportError(name)
sys.meta_path.insert(0, Bare())
from neuro4d_lib import checkpoint
from neuro4d_lib.applications import evaluation_steps, known_truth_scores
from neuro4d_lib.cli_evaluation import add_known_truth
network, card = checkpoint.load_network(checkpoint.SHIPPED)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestSteps:
    def test_more_error_costs_score(self, monkeypatch):
        """A sampler that is off by a spread per step too few."""

        def draw(network, batches, cases, draws, generator, device, steps, progress):
            return exact_draws(cases, draws, wrong=(8 - steps) / 8)

        def closed_form(network, batches, cases, draws, generator):
            posterior = exact_posterior(Population(), cases)
            mean, root = posterior.mean, posterior.root
            return exact_draws(cases, draws), mean, root.unflatten(1, mean.shape[1:]).flatten(1, 2)

        monkeypatch.setattr(evaluation_steps, "model_futures", draw)
        monkeypatch.setattr(evaluation_steps, "closed_form_futures", closed_form)
        monkeypatch.setattr(evaluation_steps, "SimulatedBatches", lambda *_: None)
        monkeypatch.setattr(evaluation_steps, "state_maps", lambda fields: None)
        network = SimpleNamespace(
            deformation=SimpleNamespace(fields=torch.zeros(1)), denoiser=None, config=SimpleNamespace(sampler="heun")
        )
        request = Request(200, 24, (2,))
        nothing, few, many = compare_steps(network, request, [8, 4], torch.device("cpu"))
        # Here the closed form is exact, and draws with its own noise as a control variate score as it does.
        assert (nothing.steps, nothing.calls) == (0, 0) and nothing.share == (pytest.approx(1), pytest.approx(0))
        assert many.crps == pytest.approx(nothing.crps, rel=1e-6)
        assert (few.steps, few.calls, many.steps, many.calls) == (4, 7, 8, 15)
        assert many.share[0] == pytest.approx(1, abs=0.03) and many.cost == (0, 0)
        assert (
            few.cost[0] == pytest.approx(many.share[0] - few.share[0], rel=1e-6) and few.cost[0] > 5 * few.cost[1] > 0
        )
        assert few.coverage_90 < many.coverage_90 == pytest.approx(0.9, abs=0.02)
        text = render_steps([few, many], request)
        assert "| 2 | 4 | 7 |" in text and "| 2 | 8 | 15 |" in text
