"""Learning from prepared scans against the truth: the people, the errors, the score; nothing is scanned here."""

import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.applications.known_truth import exact_posterior, simulate_cases
from neuro4d_lib.applications.known_truth_scores import changes_law, region_shares
from neuro4d_lib.applications.study_truth import (
    MotionErrors,
    Share,
    _share,
    motion_errors,
    render,
    with_errors,
)
from neuro4d_lib.applications.study_truth_cohort import STUDIED, course, studied_population
from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.training.study_people import Person


def people(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    years = torch.tensor([0.0, 1.5, 3.0]).double()
    return [
        Person(f"sub-{i}", years, torch.zeros(3, 5), torch.randn(3, 29, generator=generator).double(), torch.zeros(3, 29), torch.zeros(3, 1))
        for i in range(count)
    ]  # fmt: skip


class TestTheStudy:
    def test_is_balanced_and_its_people_do_not_depend_on_how_many_there_are(self):
        population = studied_population()
        some = [course(population, i, 0) for i in range(6)]
        assert [one.covariates[0].diagnosis for one in some] == [*STUDIED, *STUDIED]
        again = course(population, 4, 0)
        assert torch.equal(again.rates, some[4].rates) and again.years == some[4].years
        assert some[0].covariates[2].age - some[0].covariates[0].age == pytest.approx(some[0].years[2])

    def test_has_the_rates_of_the_population(self):
        population = studied_population()
        rates = torch.stack([course(population, 2 + 3 * i, 0).rates.mean(dim=0) for i in range(400)])
        mean = population.mean_rate[2]
        error = rates.std(dim=0) / 20
        # Mean over earlier years of people whose rates change with age and time: close to, not equal to, the rate now.
        assert ((rates.mean(dim=0) - mean).abs() < 4 * error + 0.25 * mean.abs()).all()


class TestErrors:
    def test_slope_and_rest_are_found_and_put_on_others(self):
        true = people(200)
        left = torch.randn(200, 3, 29, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        prepared = [
            dataclasses.replace(one, place=0.6 * one.place + 0.1 * rest) for one, rest in zip(true, left, strict=True)
        ]
        errors = motion_errors(prepared, true)
        assert torch.allclose(errors.slope, torch.full((29,), 0.6).double(), atol=0.03)
        assert float(errors.left[:, 0].std()) == pytest.approx(0.1 * 2**0.5, rel=0.05)
        others = people(50, seed=2)
        shown = motion_errors(with_errors(others, errors, torch.Generator().manual_seed(3)), others)
        assert torch.allclose(shown.slope, errors.slope, atol=0.06)

    def test_without_errors_nothing_changes(self):
        true = people(5)
        errors = motion_errors(true, true)
        assert torch.allclose(errors.slope, torch.ones(29).double()) and errors.left.abs().max() < 1e-12
        for one, other in zip(with_errors(true, errors, torch.Generator()), true, strict=True):
            assert torch.allclose(one.place, other.place - other.place[-1:])


class TestShare:
    def test_is_one_for_the_exact_forecast_and_zero_for_the_group_rate(self):
        population = studied_population()
        cases = simulate_cases(population, 60, 2, torch.Generator().manual_seed(0))
        weights = region_shares(Reference.load(SHIPPED))
        posterior = exact_posterior(population, cases)
        law = changes_law(posterior.mean, posterior.root, weights)
        exact = law.crps(np.zeros_like(law.mean))
        simple = exact + 1 + np.arange(60)[:, None, None] / 60
        assert _share(exact, exact, simple, 0)[0] == pytest.approx(1.0)
        assert _share(simple, exact, simple, 0)[0] == pytest.approx(0.0)
        half, error = _share((exact + simple) / 2, exact, simple, 0)
        assert half == pytest.approx(0.5) and error < 1e-9


def test_the_table_names_what_was_measured():
    errors = MotionErrors(torch.full((29,), 0.8).double(), torch.zeros(4, 3, 29).double())
    share = {1: (0.5, 0.02), 2: (0.8, 0.01), 3: (0.9, 0.01)}
    half = {scans: (value / 2, error) for scans, (value, error) in share.items()}
    rows = [
        Share("scans, prepared", "scratch", 20, 1.0, {"group_rate": half, "copy_last": share}),
        Share("true motion", "scratch", 20, 1.0, {"group_rate": share, "copy_last": share}),
    ]
    text = render(errors, rows, "python -m neuro4d_lib study-truth --people 20")
    over_group, over_nothing = text.split("## Share of the exact gain over")[1:]
    assert "| true motion | scratch | 20 | 1 | 50.0 +- 2.0 % | 80.0 +- 1.0 % | 90.0 +- 1.0 % |" in over_group
    assert "| scans, prepared | scratch | 20 | 50.0 % | 50.0 % | 50.0 % |" in over_group
    assert "| scans, prepared | scratch | 20 | 100.0 % | 100.0 % | 100.0 % |" in over_nothing
    assert "| hippocampus | 0.80 | 0.00 |" in text
