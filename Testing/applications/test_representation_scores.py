"""Scores of frames against courses whose scores are known in closed form."""

import pytest
import torch

from neuro4d_lib.applications.representation_scores import Scores, score_person, table
from neuro4d_lib.data.image_courses import IMAGE_SHAPE, MEASURED, VOXEL_MM3, Courses, Given
from neuro4d_lib.representations.base import Frames

YEARS = (1.0, 3.0)


def person(seed, lesion=True):
    """A bright box whose signal changes at random; two lesions in its white matter; a ventricle of 6 x 6 x 6 voxels."""
    generator = torch.Generator().manual_seed(seed)
    scan = torch.zeros(1, 1, *IMAGE_SHAPE)
    box = (..., slice(15, 43), slice(15, 43), slice(15, 43))
    scan[box] = 0.8
    change = torch.zeros(1, len(YEARS), 1, *IMAGE_SHAPE)
    change[box] = 0.1 * torch.randn(1, len(YEARS), 1, 28, 28, 28, generator=generator)
    lesions = torch.zeros(1, 1 + len(YEARS), *IMAGE_SHAPE)
    if lesion:
        lesions[:, 1:, 20:23, 20:23, 20:23] = 1
    shares = torch.zeros(1, len(MEASURED), *IMAGE_SHAPE)
    shares[:, 0, 25:29, 25:29, 25:29] = 1
    shares[:, 1, 30:36, 30:36, 30:36] = 1
    shares[:, 2, 17:41, 17:25, 17:41] = 1
    before_mm3 = shares.sum(dim=(2, 3, 4)) * VOXEL_MM3
    volumes_mm3 = torch.stack([before_mm3, 0.9 * before_mm3, 0.8 * before_mm3], dim=1)
    years = torch.tensor([YEARS])
    given = Given(scan, torch.zeros(1, 3, *IMAGE_SHAPE), torch.zeros(1, 5), years)
    return Courses(given, scan[:, None] + change, torch.zeros(1, len(YEARS), 29), lesions, shares, volumes_mm3)


def part_of(truth, share):
    """Frames with a share of the true change."""
    scan = truth.given.scan[:, None]
    return Frames(scan + share * (truth.frames - scan), torch.zeros(1, len(YEARS), 3, *IMAGE_SHAPE))


@pytest.fixture(scope="module")
def rows():
    scores = Scores()
    for truth in (person(0), person(1), person(2, lesion=False)):
        for method, share in (("copy", 0.0), ("half", 0.5), ("perfect", 1.0)):
            score_person(scores, method, part_of(truth, share), truth)
        score_person(scores, "image", Frames(part_of(truth, 1.0).images), truth)
    return scores.rows()


def value(rows, metric, method, horizon="all"):
    (found,) = [row for row in rows if (row[0], row[2], row[3]) == (metric, horizon, method)]
    return found


@pytest.mark.parametrize("metric", ["change_skill_score", "lesion_change_skill", "lesion_load_skill"])
@pytest.mark.parametrize("horizon", ["1", "3", "all"])
def test_half_of_the_change_has_a_skill_of_three_quarters(rows, metric, horizon):
    for method, expected in (("copy", 0.0), ("half", 0.75), ("perfect", 1.0)):
        row = value(rows, metric, method, horizon)
        assert row[4] == pytest.approx(expected, abs=1e-5)
        assert row[5] == pytest.approx(0, abs=1e-4)
        assert row[6] == (3 if metric == "change_skill_score" else 2)


def test_similarity_rises_and_a_perfect_forecast_is_identical(rows):
    ssim = [value(rows, "ssim", method)[4] for method in ("copy", "half", "perfect")]
    assert ssim == sorted(ssim) and ssim[2] == pytest.approx(1, abs=1e-5) and ssim[0] < 0.95
    # Half of the error is 6.02 dB.
    gain = value(rows, "psnr", "half")[4] - value(rows, "psnr", "copy")[4]
    assert gain == pytest.approx(6.02, abs=0.01)


def test_volumes_are_read_off_the_map_where_there_is_one(rows):
    scored = {(row[1], row[2]): row[4] for row in rows if row[0] == "volume_error_percent" and row[3] == "copy"}
    assert scored["hippocampus", "1"] == pytest.approx(10, abs=1e-3)
    assert scored["lateral_ventricle", "3"] == pytest.approx(20, abs=1e-3)
    assert not [row for row in rows if row[0] in ("volume_error_percent", "fold_failures") and row[3] == "image"]


def test_a_map_that_folds_is_counted():
    truth, scores = person(0), Scores()
    folded = part_of(truth, 0.0)
    folded.displacement_vox[:, 1, 0, 30] = 2.5
    score_person(scores, "bad", folded, truth)
    failures = {row[2]: row[4] for row in scores.rows() if row[0] == "fold_failures"}
    assert failures["1"] == 0 and failures["3"] > 1000


def test_fluid_is_read_off_the_darkness_around_the_ventricle():
    """One more voxel of fluid where the ventricle has 216."""
    truth, scores = person(0), Scores()
    wrong = part_of(truth, 1.0)
    wrong.images[:, :, 0, 29, 32, 32] -= 0.78 - 0.33
    score_person(scores, "dark", wrong, truth)
    row = value(scores.rows(), "fluid_error_percent", "dark")
    assert row[4] == pytest.approx(100 / 216, rel=1e-3)


def test_the_standard_error_is_that_of_the_mean_over_people():
    scores = Scores()
    for number in (1.0, 2.0, 6.0):
        for years in (1.0, 3.0):
            scores.add("psnr", "brain", "m", years, number + years)
    row = next(row for row in scores.rows() if row[2] == "all")
    assert row[4] == pytest.approx(5.0) and row[5] == pytest.approx((7 / 3) ** 0.5) and row[6] == 3


def test_the_table_leaves_empty_what_is_not_defined(rows):
    text = table(rows, ("copy", "image"), (("folds", "fold_failures", "brain", "all"), ("SSIM", "ssim", "brain", "1")))
    lines = text.splitlines()
    assert lines[0] == "| method | folds | SSIM |"
    assert lines[2].startswith("| copy | 0 | 0.") and "±" in lines[2]
    assert lines[3].startswith("| image |  | 1.0000")
