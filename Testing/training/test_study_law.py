"""The law of a study against the law that its people were drawn from: four coordinates, so that a fit takes a second."""

import copy
import math

import pytest
import torch

from neuro4d_lib.networks.gaussian_prior import GaussianPrior
from neuro4d_lib.training.simulated_study import simulated_people
from neuro4d_lib.training.study_config import StudyConfig
from neuro4d_lib.training.study_law import (
    Designs,
    adapt_law,
    designs,
    expected_loss,
    fit_law,
    loss_of,
    regressed_law,
    scale_law,
    shrunk_covariance,
)

CPU = torch.device("cpu")
MODES = 4
CONFIG = StudyConfig(strengths=(0.1, 3.0), law_steps=60, folds=2)


@pytest.fixture(scope="module")
def law():
    """Of people with MCI or Alzheimer's disease; rates of about 1 with a spread of 0.5, scan errors of about 0.3."""
    generator = torch.Generator().manual_seed(0)
    prior = GaussianPrior(MODES).double().requires_grad_(False)
    prior.rate.copy_(0.05 * torch.randn(prior.rate.shape, generator=generator))
    prior.rate[:, 0] += torch.randn(6, MODES, generator=generator)
    prior.rate_root.copy_(0.5 * torch.eye(MODES) + 0.1)
    prior.acceleration.fill_(0.05)
    prior.acceleration_root.copy_(0.05 * torch.eye(MODES))
    prior.noise_root.copy_(torch.diag(torch.tensor([0.2, 0.3, 0.4, 0.3])))
    return prior


def people_of(law, count, seed, frames=2):
    """One moment each of people of this law, drawn exactly."""
    generator = torch.Generator().manual_seed(seed)
    diagnosis = 1.0 + torch.arange(count) % 2
    age = 75 + 8 * torch.randn(count, generator=generator)
    rest = torch.randint(0, 2, (count, 3), generator=generator) * torch.tensor([1.0, 8.0, 1.0]) + torch.tensor(
        [0, 10, 0]
    )
    covariates = torch.cat([age[:, None], rest, diagnosis[:, None]], dim=1).double()
    state = torch.randn(count, MODES, generator=generator, dtype=torch.float64)
    years = 1 + 3 * torch.rand(count, frames, generator=generator, dtype=torch.float64).sort(dim=1).values
    years[:, 0] *= -1
    mean, covariance = law.joint(covariates, state, years, frames)
    z = torch.randn(count, frames * MODES, 1, generator=generator, dtype=torch.float64)
    seen = mean + (torch.linalg.cholesky(covariance) @ z)[..., 0].reshape(mean.shape)
    whole = torch.ones(count, dtype=torch.float64)
    return [Designs(torch.arange(count), whole, covariates, state, years, seen, torch.ones(count, dtype=torch.bool))]


@torch.no_grad()
def mean_loss(law, groups):
    return float(torch.cat([loss_of(law, group) for group in groups]).mean())


def test_expected_loss_is_the_mean_over_many_people_of_the_other_law(law):
    other = copy.deepcopy(law)
    other.rate *= 1.5
    other.noise_root *= 2
    (one,) = people_of(law, 1, 0)
    mean, covariance = other.joint(one.covariates, one.state, one.years, 2)
    z = torch.randn(20_000, 2 * MODES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = (mean.flatten(1) + z @ torch.linalg.cholesky(covariance)[0].T).reshape(-1, 2, MODES)
    many = one.where(torch.zeros(len(drawn), dtype=torch.long))
    sampled = loss_of(law, Designs(*(drawn if n == "seen" else getattr(many, n) for n in Designs.__dataclass_fields__)))
    error = float(sampled.std()) / math.sqrt(len(drawn))
    assert float(expected_loss(law, other, one)) == pytest.approx(float(sampled.mean()), abs=4 * error)


def test_scaling_finds_mean_spread_and_scan_errors_of_the_study(law):
    scaled = copy.deepcopy(law)
    scaled.rate *= 0.5
    scaled.rate_root *= 2.0
    scaled.noise_root *= torch.tensor([3.0, 1.0, 0.5, 2.0])[:, None]
    scale_law(scaled, people_of(law, 400, 1))
    assert float(scaled.rate.norm() / law.rate.norm()) == pytest.approx(1.0, abs=0.1)
    assert float(scaled.rate_root.tril().norm() / law.rate_root.tril().norm()) == pytest.approx(1.0, abs=0.1)
    assert torch.allclose(scaled.noise_root.tril().norm(dim=1), law.noise_root.diagonal(), rtol=0.15)


def test_an_endless_strength_keeps_the_start_and_a_small_one_follows_the_people(law):
    groups, losses = people_of(law, 12, 2), {}
    for strength in (0.01, 1e6):
        moved = copy.deepcopy(law)
        adapt_law(moved, law, groups, strength, 60, torch.Generator().manual_seed(0))
        losses[strength] = mean_loss(moved, groups)
    before = mean_loss(law, groups)
    assert losses[0.01] < before - 0.1
    assert losses[1e6] == pytest.approx(before, abs=0.02)


class TestFitLaw:
    def fitted(self, start, groups, config=CONFIG):
        law = copy.deepcopy(start)
        choice = fit_law(law, groups, len(groups[0].weight), config, CPU, torch.Generator().manual_seed(0))
        return law, choice

    def test_twenty_people_do_not_break_a_law_that_is_right(self, law):
        now, choice = self.fitted(law, people_of(law, 20, 3))
        others = people_of(law, 400, 4)
        assert mean_loss(now, others) < mean_loss(law, others) + 0.06
        assert choice.losses[0.1] > choice.losses[choice.strength] and choice.strength > 0.1

    def test_a_hundred_people_mend_a_law_that_scaling_cannot(self, law):
        wrong = copy.deepcopy(law)
        wrong.rate[:, :, :2] *= -1  # growth instead of loss in half of the coordinates
        now, choice = self.fitted(wrong, people_of(law, 100, 5), StudyConfig(strengths=(0.1,), law_steps=300, folds=2))
        others = people_of(law, 400, 6)
        right, after, before = (mean_loss(one, others) for one in (law, now, wrong))
        assert right < after < right + 0.5 * (before - right)
        assert choice.strength == 0.1

    def test_is_the_same_whenever_it_is_made(self, law):
        config = StudyConfig(strengths=(1.0,), law_steps=5)
        laws = [self.fitted(law, people_of(law, 12, 7), config)[0].state_dict() for _ in range(2)]
        assert all(torch.equal(laws[0][name], laws[1][name]) for name in laws[0])

    def test_a_diagnosis_that_nobody_has_keeps_the_start(self, law):
        now = copy.deepcopy(law)
        adapt_law(now, law, people_of(law, 12, 8), 0.1, 10, torch.Generator().manual_seed(0))
        assert torch.equal(now.rate[0], law.rate[0]) and not torch.equal(now.rate[1], law.rate[1])

    def test_the_simple_forecast_follows_the_people(self, law):
        now, _ = self.fitted(law, people_of(law, 200, 9), StudyConfig(strengths=(1.0,), law_steps=5))
        covariates = torch.tensor([[75.0, 0.5, 14, 0.5, 1]], dtype=torch.float64)
        expected = torch.einsum("bf,fk->bk", law.features(covariates, torch.zeros(1, MODES).double()), law.rate[1])
        assert (now.group(covariates) - expected).abs().max() < 0.25


def test_without_a_model_a_regression_starts_the_law(law):
    groups, others = people_of(law, 80, 10), people_of(law, 400, 11)
    found = GaussianPrior(MODES).double()
    nothing = mean_loss(found, others)
    regressed_law(found, groups)
    first = mean_loss(found, others)
    fit_law(found, groups, 80, CONFIG, CPU, torch.Generator().manual_seed(0))
    right = mean_loss(law, others)
    assert mean_loss(found, others) < first < nothing
    assert mean_loss(found, others) - right < 0.4 * (nothing - right)


def test_every_moment_of_a_person_counts_one_together_and_gives_the_measured_rates(model_and_batches):
    model, batches = model_and_batches
    some = simulated_people(batches, batches.population, 3, 3, torch.Generator().manual_seed(0))
    (group,) = designs(some, model.deformation, lambda known: known, mirror=True)
    assert group.years.shape == (3 * 3 * 2 * 2, 2)
    for i in range(3):
        assert float(group.weight[(group.person == i) & group.told].sum()) == pytest.approx(1.0)
    last = group.where((group.person == 1) & group.told).where(torch.tensor([2]))
    expected = (some[1].place[0] - some[1].place[2]) / (some[1].years[0] - some[1].years[2])
    assert torch.allclose(model.deformation.rates(last.seen[0, 0].float()).double(), expected, atol=1e-5)


def test_a_covariance_of_few_people_is_drawn_to_its_diagonal():
    values = torch.randn(5, 29, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    few = shrunk_covariance(values, torch.ones(5, dtype=torch.float64))
    assert torch.linalg.eigvalsh(few).min() > 0
    plain = values.T @ values / 5
    share = (few - torch.diag(few.diagonal())).norm() / (plain - torch.diag(plain.diagonal())).norm()
    assert float(share) == pytest.approx(5 / 34, rel=1e-6)
