"""Images of simulated courses: they change as the rates say, and lesions darken those of people with MS."""

import pytest
import torch

from neuro4d_lib.data.image_courses import IMAGE_SHAPE, MEASURED, VOXEL_MM3, CourseSimulator, irregular_years
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_config import LesionConfig, PopulationConfig
from neuro4d_lib.data.regions import DRIVEN

slow = pytest.mark.slow
YEARS = torch.tensor([[2.0]])


def of_diagnosis(anatomy, fields, place):
    shares = tuple(float(i == place) for i in range(5))
    law = LesionConfig(new_per_year=6.0, rate_shape=1000.0)
    return CourseSimulator(anatomy, fields, Population(PopulationConfig(diagnosis_shares=shares, lesions=law)))


@pytest.fixture(scope="module")
def demented(anatomy, fields):
    return of_diagnosis(anatomy, fields, 2).simulate(YEARS, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ill(anatomy, fields):
    return of_diagnosis(anatomy, fields, 4).simulate(YEARS, torch.Generator().manual_seed(0))


def test_years_are_ascending_and_half_a_year_apart():
    years = irregular_years(200, 3, torch.Generator().manual_seed(0))
    assert float(years.min()) >= 0.5 and float(years.max()) <= 5
    assert float(years.diff(dim=1).min()) >= 0.5


@slow
class TestCourses:
    def test_volumes_change_by_the_rates(self, demented):
        """Within 1.5 % of the region: rates hold at the start of the motion."""
        change = (demented.volumes_mm3[0, 1] / demented.volumes_mm3[0, 0]).log()
        for g, group in enumerate(MEASURED):
            members = [i for i, region in enumerate(DRIVEN) if region.group == group]
            asked = 2 * float(demented.rates[0, 0, members].mean())
            assert float(change[g]) == pytest.approx(asked, abs=0.015), group

    def test_images_show_it_each_mm3_of_ventricle_is_darker_than_tissue(self, demented):
        """By 0.3 to 0.6: fluid has 0.33, what is around it 0.7 to 0.85."""
        one = demented.chosen([0])
        around = torch.nn.functional.max_pool3d(one.shares[:, 1:2], 3, 1, 1)[0, 0] > 0
        darker = (one.given.scan[0, 0] - one.frames[0, 0, 0])[around].sum() * VOXEL_MM3
        grown_mm3 = one.volumes_mm3[0, 1, 1] - one.volumes_mm3[0, 0, 1]
        assert abs(float(grown_mm3)) > 500
        assert 0.3 < float(darker / grown_mm3) < 0.6
        assert not one.lesions.any()

    def test_lesions_are_dark_and_get_more(self, ill):
        one = ill.chosen([0])
        before, after = one.lesions[0]
        assert 0 < float(before.sum()) < float(after.sum())
        scan, frame = one.given.scan[0, 0], one.frames[0, 0, 0]
        white = one.shares[0, 2] > 0.99
        assert float(scan[white & (before > 0.9)].mean()) < 0.8 * float(scan[white & (before == 0)].mean())
        new = white & (after > 0.9) & (before == 0)
        assert float((frame - scan)[new].mean()) < -0.15

    def test_the_same_seed_gives_the_same_people(self, anatomy, fields, ill):
        again = of_diagnosis(anatomy, fields, 4).simulate(YEARS, torch.Generator().manual_seed(0))
        assert torch.equal(again.frames, ill.frames) and torch.equal(again.given.covariates, ill.given.covariates)

    def test_a_choice_of_people_is_in_single_precision(self, ill):
        one = ill.chosen([0])
        assert one.frames.dtype == one.given.scan.dtype == torch.float32
        assert one.frames.shape == (1, 1, 1, *IMAGE_SHAPE)
