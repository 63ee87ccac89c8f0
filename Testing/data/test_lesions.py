"""Lesions follow their law, stay in white matter and darken it by what is stated."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from neuro4d_lib.data.lesions import (
    Lesion,
    LesionSites,
    draw_lesions,
    subjects_with_lesions,
    with_lesions,
)
from neuro4d_lib.data.population_config import LesionConfig
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.simulation import Subject
from neuro4d_lib.geometry.spaces import Grid

LAW = LesionConfig()
PEOPLE = 1500
ZERO = np.zeros(len(DRIVEN))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def index(name):
    return next(region.index for region in REGIONS if region.name == name)


@pytest.fixture(scope="module")
def brain():
    """A ventricle in white matter in cortex: cubes of half-width 4, 24 and 28 mm. A dark nucleus counts as white matter."""
    away = np.abs(np.indices((60, 60, 60)) - 29.5).max(axis=0)
    labels = np.zeros(away.shape, np.uint8)
    labels[away < 28] = index("left_frontal_cortex")
    labels[away < 24] = index("left_white_matter")
    labels[away < 4] = index("left_lateral_ventricle")
    image = np.select([away < 4, away < 24, away < 28], [0.2, 1.0, 0.6], 0.0).astype(np.float32)
    image[10:14, 10:14, 10:14] = 0.7
    affine = np.eye(4)
    affine[:3, 3] = -29.5
    return Reference(image, labels, Grid(away.shape, affine))


@pytest.fixture(scope="module")
def sites(brain):
    return LesionSites.of(brain)


@pytest.fixture(scope="module")
def people(sites):
    """The lesions of many people of unknown age."""
    source = generator()
    return [draw_lesions(sites, None, LAW, source) for _ in range(PEOPLE)]


def count(lesions, start, end):
    return sum(start <= lesion.appears_years < end for lesion in lesions)


class TestLaw:
    def test_new_lesions_per_year_have_the_stated_mean_and_spread(self, people):
        """Five years: mean 5 m and, as the rate is gamma, variance 5 m + 25 m2 / shape."""
        new = np.array([count(lesions, 0, 5) for lesions in people])
        mean = 5 * LAW.new_per_year
        variance = mean + mean**2 / LAW.rate_shape
        assert new.mean() == pytest.approx(mean, abs=4 * (variance / PEOPLE) ** 0.5)
        assert new.var() == pytest.approx(variance, rel=0.25)

    def test_they_appear_evenly_over_the_years(self, people):
        halves = [sum(count(lesions, *years) for lesions in people) for years in ((0, 6), (6, 12))]
        assert halves[0] == pytest.approx(halves[1], rel=0.05)

    def test_the_first_scan_shows_what_came_since_onset(self, people):
        before = np.array([count(lesions, -100, 0) for lesions in people])
        assert before.mean() == pytest.approx(LAW.new_per_year * LAW.disease_years, rel=0.15)

    def test_who_has_many_gets_more(self, people):
        before = np.array([count(lesions, -100, 0) for lesions in people])
        new = np.array([count(lesions, 0, 5) for lesions in people])
        assert np.corrcoef(before, new)[0, 1] > 0.3

    def test_the_disease_is_younger_than_the_adult(self, sites):
        source = generator(1)
        first = [lesion.appears_years for _ in range(200) for lesion in draw_lesions(sites, 20.0, LAW, source)]
        assert -2 <= min(first) < -1

    def test_size_growth_and_darkness_are_as_stated(self, people):
        lesions = [lesion for of_person in people for lesion in of_person]
        radius_mm = np.array([lesion.radius_mm for lesion in lesions])
        assert np.median(radius_mm) == pytest.approx(LAW.radius_mm, rel=0.02)
        assert np.log(radius_mm).std() == pytest.approx(LAW.radius_log_sd, rel=0.03)
        growing = np.array([lesion.growth_mm_per_year > 0 for lesion in lesions])
        assert growing.mean() == pytest.approx(LAW.growing_share, abs=0.02)
        darkness = np.array([lesion.darkness for lesion in lesions])
        assert (darkness.min(), darkness.max()) == pytest.approx(LAW.darkness, abs=0.01)

    def test_they_keep_to_the_ventricles_by_the_stated_share(self, people, sites):
        """The expected share within 5 mm of the ventricles, from the two laws of place."""
        close = sites.distance_mm <= 5
        weights = np.exp(-sites.distance_mm / LAW.periventricular_reach_mm)
        share = LAW.periventricular_share
        expected = share * weights[close].sum() / weights.sum() + (1 - share) * close.mean()
        places = np.array([lesion.center_mm for of_person in people for lesion in of_person])
        distance_mm = np.linalg.norm(np.clip(np.abs(places) - 3.5, 0, None), axis=1)
        found = (distance_mm <= 5).mean()
        assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(places)) ** 0.5)
        assert found > 3 * close.mean()

    def test_they_lie_in_bright_white_matter(self, people, brain):
        places = np.array([lesion.center_mm for of_person in people[:200] for lesion in of_person])
        voxels = tuple(np.rint(places + 29.5).astype(int).T)
        assert (brain.labels[voxels] == index("left_white_matter")).all()
        assert (brain.image[voxels] == 1).all()

    def test_the_same_seed_gives_the_same_lesions(self, sites):
        first, again, other = (draw_lesions(sites, 40.0, LAW, generator(seed)) for seed in (3, 3, 4))
        assert first == again != other

    def test_every_assumption_states_its_source_or_that_it_is_assumed(self):
        for field in dataclasses.fields(LesionConfig):
            assert field.metadata["help"] and field.metadata["source"]


class TestSubjects:
    def test_only_people_with_ms_get_them_and_each_the_same_among_any_others(self, brain):
        ill, well = (Subject(name, Covariates(age=40, diagnosis=name), ZERO, ZERO) for name in ("MS", "CN"))
        among = subjects_with_lesions([well, ill, ill], brain, LAW, seed=1)
        alone = subjects_with_lesions([well, ill], brain, LAW, seed=1)
        assert not among[0].lesions
        assert among[1].lesions == alone[1].lesions != among[2].lesions

    def test_lesions_that_are_given_stay(self, brain):
        given = (Lesion((20, 0, 0), 3),)
        ill = Subject("M", Covariates(diagnosis="MS"), ZERO, ZERO, lesions=given)
        assert subjects_with_lesions([ill], brain, LAW, seed=1)[0].lesions == given


@pytest.fixture(scope="module")
def visits(brain, sites):
    many = dataclasses.replace(LAW, new_per_year=6.0, rate_shape=1000.0)
    lesions = draw_lesions(sites, 40.0, many, generator(5))
    return lesions, [with_lesions(brain, lesions, years) for years in (0, 2, 5)]


class TestImage:
    def test_masks_stay_in_white_matter(self, brain, visits):
        for _, mask in visits[1]:
            assert mask.any() and (brain.labels[mask.numpy()] == index("left_white_matter")).all()

    def test_later_masks_contain_earlier_ones_and_are_larger(self, visits):
        masks = [mask for _, mask in visits[1]]
        for earlier, later in itertools.pairwise(masks):
            assert not (earlier & ~later).any()
            assert later.sum() > earlier.sum()

    def test_each_center_is_dark_from_the_year_it_appears_by_the_stated_contrast(self, brain, visits):
        """By at least its own darkness, and never by more than the darkest lesion's."""
        lesions, scans = visits
        for years, (t1, _) in zip((0, 2, 5), scans, strict=True):
            for lesion in lesions:
                if lesion.radius_at(years) < 2.5:
                    continue
                voxel = tuple(np.rint(np.array(lesion.center_mm) + 29.5).astype(int))
                left = float(t1[voxel]) / float(brain.image[voxel])
                assert 1 - LAW.darkness[1] - 1e-6 <= left <= 1 - 0.98 * lesion.darkness

    def test_nothing_outside_white_matter_changes(self, brain, visits):
        outside = brain.labels != index("left_white_matter")
        for t1, _ in visits[1]:
            np.testing.assert_array_equal(t1.numpy()[outside], brain.image[outside])

    def test_a_lesion_grows_for_the_stated_time(self):
        lesion = Lesion((0, 0, 0), 3, appears_years=1, growth_mm_per_year=0.5, growth_years=4)
        assert [lesion.radius_at(years) for years in (0, 1, 3, 5, 9)] == [0, 3, 4, 5, 5]
