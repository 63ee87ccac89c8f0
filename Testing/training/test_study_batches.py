"""Batches of a study: who is shown, when, and with which future, against laws that are known."""

import dataclasses
import itertools

import pytest
import torch

from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.networks.gaussian_prior import GaussianPrior
from neuro4d_lib.training.simulated import SimulatedBatches
from neuro4d_lib.training.simulated_study import simulated_people
from neuro4d_lib.training.study_batches import StudyBatches, course_law, plausible_course
from neuro4d_lib.training.study_config import StudyConfig
from neuro4d_lib.training.study_people import mirrored, moments, sides_exchanged, split, usable

PLAIN = StudyConfig(mirrored_share=0.0, fresh_errors=0.0, time_jitter_years=0.0)


@pytest.fixture
def study(model_and_batches):
    """Twelve people with four visits each, a law, and where they come from."""
    model, batches = model_and_batches
    people = simulated_people(batches, batches.population, 12, 4, torch.Generator().manual_seed(1))
    return model, batches, people


def batches_of(study, config=PLAIN, **more):
    model, batches, people = study
    return StudyBatches(people, model.prior, model.deformation, batches.population, config, **more)


def whose(people, anatomy):
    """Person and visit of an anatomy."""
    found = [
        (person, visit)
        for person in people
        for visit in range(len(person.years))
        if torch.equal(person.anatomy[visit].float(), anatomy)
    ]
    assert len(found) == 1
    return found[0]


class TestABatch:
    def test_shows_visits_of_one_person_as_the_scans_measured_them(self, study):
        model, _, people = study
        batch = batches_of(study).draw(30, 1, 2, torch.Generator().manual_seed(0), all_known=1.0)
        latest = set()
        for i in range(30):
            person, visit = whose(people, batch.anatomy[i])
            latest.add(visit)
            assert torch.equal(batch.covariates[i], person.covariates[visit])
            gaps = person.years - person.years[visit]
            earlier = int((gaps - batch.years[i, 0]).abs().argmin())
            assert earlier < visit and float(gaps[earlier]) == pytest.approx(float(batch.years[i, 0]))
            rate = (person.place[earlier] - person.place[visit]) / gaps[earlier]
            assert torch.allclose(model.deformation.rates(batch.seen[i, 0]).double(), rate, atol=1e-5)
            assert 0.25 <= batch.years[i, 1] < batch.years[i, 2]
            assert float(batch.years[i, 2]) <= float(gaps[-1]) + 0.02
        assert latest == {1, 2}  # any visit but the first, which has none before it, and the last

    def test_depends_on_its_generator_alone(self, study):
        made = [batches_of(study).draw(5, 2, 2, torch.Generator().manual_seed(3)) for _ in range(2)]
        for name in ("covariates", "anatomy", "years", "seen", "future"):
            first, second = (getattr(batch, name) for batch in made)
            assert torch.equal(first.nan_to_num(-1), second.nan_to_num(-1)), name

    def test_has_as_many_earlier_visits_as_there_are(self, study):
        batch = batches_of(study).draw(4, 7, 1, torch.Generator().manual_seed(0))
        assert batch.seen.shape[1] == 2 and batch.future.shape[1] == 1

    def test_future_lies_close_to_what_precise_scans_show(self, study):
        model, _, people = study
        model.prior.requires_grad_(False).noise_root.mul_(1e-4)
        model.prior.log_unevenness.fill_(1.0)  # every visit says something of its own
        batch = batches_of(study).draw(20, 0, 1, torch.Generator().manual_seed(0))
        for i in range(20):
            person, visit = whose(people, batch.anatomy[i])
            gaps = person.years - person.years[visit]
            later = int((gaps - batch.years[i, 0]).abs().argmin())
            assert float(gaps[later]) == pytest.approx(float(batch.years[i, 0]))
            expected = model.deformation.from_rates(((person.place[later] - person.place[visit]) / gaps[later]).float())
            assert (batch.future[i, 0] - expected).abs().max() < 0.1

    def test_hides_covariates_but_of_those_of_whom_all_is_to_be_known(self, study):
        batch = batches_of(study).draw(60, 0, 1, torch.Generator().manual_seed(0), all_known=0.5)
        unknown = torch.isnan(batch.covariates).any(dim=1)
        assert not bool(unknown[:30].any()) and 5 < int(unknown[30:].sum()) < 30

    def test_mixes_in_the_stated_share_of_simulated_people(self, study):
        _, batches, people = study
        config = dataclasses.replace(PLAIN, simulated_share=0.25)
        batch = batches_of(study, config, simulated=batches).draw(8, 1, 1, torch.Generator().manual_seed(0))
        known = [any(torch.equal(p.anatomy[v].float(), a) for p in people for v in range(4)) for a in batch.anatomy]
        assert known == [False] * 2 + [True] * 6

    def test_mirrors_anatomy_and_regions_together(self, study):
        _, _, people = study
        turned = mirrored(people[0])
        order = sides_exchanged()
        assert order[:2] == [1, 0] and sorted(order) == list(range(29))
        assert torch.equal(turned.place, people[0].place[:, order])
        assert torch.equal(mirrored(turned).anatomy, people[0].anatomy)
        config = dataclasses.replace(PLAIN, mirrored_share=1.0)
        batch = batches_of(study, config).draw(3, 1, 1, torch.Generator().manual_seed(0))
        whose([mirrored(person) for person in people], batch.anatomy[0])


class TestPlausibleCourses:
    def test_follow_the_law_given_the_visits(self):
        """One coordinate, one visit, one wanted time far from it: mean and variance by hand."""
        prior = GaussianPrior(1).double().requires_grad_(False)
        prior.rate.zero_()
        prior.rate[:, 0] = 2.0
        prior.rate_root.fill_(0.5)
        prior.acceleration_root.zero_()
        prior.noise_root.fill_(0.6)
        prior.log_unevenness.fill_(-20.0)
        n = 20_000
        covariates = torch.tensor([70.0, 0, 14, 0, 2]).double().expand(n, -1)
        ones = torch.ones(n, 1).double()
        true, errors = plausible_course(
            prior, covariates, 0 * ones, 2 * ones, 3 * ones[..., None], 5 * ones, torch.Generator().manual_seed(0)
        )
        # A rate of mean 2 and variance 0.25, measured as 3 with the variance 2 * 0.36 / 4 of two scans two years apart.
        gain = 0.25 / (0.25 + 0.18)
        assert true.shape == (n, 2, 1) and torch.allclose(true[:, 0], true[:, 1], atol=1e-3)
        assert float(true[:, 1].mean()) == pytest.approx(2 + gain, abs=0.01)
        assert float(true[:, 1].var()) == pytest.approx(0.25 * (1 - gain), rel=0.04)
        assert float(errors.var()) == pytest.approx(0.18, rel=0.04)

    def test_law_is_a_covariance_that_the_joint_one_agrees_with(self, model_and_batches):
        model, _ = model_and_batches
        covariates = torch.tensor([[70.0, 0, 14, 0, 2]]).double()
        years = torch.tensor([[-1.0, 2.0, 2.1, 1.9, 5.0]]).double()
        state = torch.zeros(1, 29).double()
        mean, true, errors = course_law(model.prior, covariates, state, years, 2)
        expected_mean, expected = model.prior.joint(covariates, state, years, 2)
        assert torch.allclose(mean, expected_mean)
        whole = true.clone()
        whole[:, :58, :58] += errors
        block = slice(0, 58)
        assert torch.allclose(whole[:, block, block], expected[:, block, block])
        assert torch.linalg.eigvalsh(true).min() > 0
        # The wanted time next to a visit is uneven as that is, one time only.
        assert (true - model.prior.joint(covariates, state, years, 0)[1]).abs().flatten(1).gt(1e-12).sum() == 2 * 29


class TestPeople:
    def test_visits_that_are_too_close_are_not_compared(self, study):
        person = dataclasses.replace(study[2][0], years=torch.tensor([0.0, 0.1, 2.0, 2.05]).double())
        found = moments(person)
        assert [(one.past, one.future) for one in found] == [((), (2, 3)), ((), (2, 3)), ((0, 1), ()), ((0, 1), ())]
        together = dataclasses.replace(person, years=torch.tensor([0.0, 0.1, 0.15, 0.2]).double())
        assert usable([person, together]) == [person]

    def test_are_split_by_person_with_every_diagnosis_in_each_part(self, model_and_batches):
        _, batches = model_and_batches
        population = Population(PopulationConfig(diagnosis_shares=(0.5, 0.25, 0.25, 0.0, 0.0)))
        people = simulated_people(batches, population, 120, 2, torch.Generator().manual_seed(0))
        parts = split(people, 0.15, 0.2, torch.Generator().manual_seed(0))
        assert {name: len(ids) for name, ids in parts.items()} == {"train": 78, "validation": 18, "test": 24}
        assert sorted(itertools.chain(*parts.values())) == sorted(person.id for person in people)
        of = {person.id: person.diagnosis for person in people}
        for diagnosis in ("CN", "MCI", "AD"):
            whole = sum(one == diagnosis for one in of.values()) / 120
            for ids in parts.values():
                assert sum(of[name] == diagnosis for name in ids) / len(ids) == pytest.approx(whole, abs=0.08)
        assert split(people, 0.15, 0.2, torch.Generator().manual_seed(0)) == parts
        assert split(people, 0.15, 0.2, torch.Generator().manual_seed(1)) != parts


def test_nobody_with_a_future_is_an_error(model_and_batches):
    model, batches = model_and_batches
    assert isinstance(batches, SimulatedBatches)
    with pytest.raises(ValueError, match="Nobody"):
        StudyBatches([], model.prior, model.deformation, batches.population, PLAIN)
