"""A head whose hippocampi shrink at a known rate, scanned three times: what is measured, and what a true forecast scores."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuro4d_lib.applications import evaluation_person, evaluation_subject
from neuro4d_lib.applications.evaluation_labels import Segmentations, line_at
from neuro4d_lib.applications.evaluation_person import Person, in_aligned_space, on_voxels_of, simulated_truth
from neuro4d_lib.applications.evaluation_subject import Networks, Settings, evaluate_subject
from neuro4d_lib.applications.known_truth_scores import SCORED
from neuro4d_lib.data.flow_volumes import REFINED
from neuro4d_lib.data.images import write_like
from neuro4d_lib.data.preprocessing import FollowedMotion
from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.study import StudySubject, Visit
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import forecaster, native_grid
from neuro4d_lib.forecasting.warping import WarpedImage
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.spaces import LATTICE, Grid

pytestmark = pytest.mark.slow
CENTERS, RADIUS_MM, REACH_MM, RATE = ((-26, -22, -14), (26, -22, -14)), 12.0, 12.0, -0.05
YEARS, LABELS_LOST = (0.0, 2.0, 4.0), 0.04
INDEX = {region.name: region.index for region in REGIONS}


def places_mm(grid):
    return np.tensordot(grid.affine[:3, :3], np.indices(grid.shape), 1) + grid.affine[:3, 3][:, None, None, None]


def distance_mm(places, center):
    return np.linalg.norm(places - np.reshape(center, (3, 1, 1, 1)), axis=0)


def swelling():
    """Velocity control points [3, 32, 40, 32] whose divergence is about 1 in the hippocampi."""
    places, total = places_mm(LATTICE), 0
    for center in CENTERS:
        away = places - np.reshape(center, (3, 1, 1, 1))
        total = total + away * np.exp(-np.square(away).sum(axis=0) / (2 * REACH_MM**2)) / 3
    return bspline.fit(torch.as_tensor(total, dtype=torch.float32)[None])[0]


MOTION = RATE * swelling()


class TrueModel:
    """Draws the truth, a little faster or slower; says half of it for the group."""

    sha256 = "0" * 64
    reference = None
    card = {"name": "true", "version": "1", "ranges": {"years": [0.25, 10], "past_years": [-6, -0.25]}}  # noqa: RUF012
    network = SimpleNamespace(
        deformation=SimpleNamespace(fields=torch.zeros(1), state=lambda anatomy: torch.full((1, len(DRIVEN)), 3.0))
    )

    def condition(self, covariates, anatomy, observed):
        return None

    def draw(self, condition, years, generator, steps, progress):
        factor = 1 + 0.1 * torch.randn(1, generator=generator)
        return torch.stack([factor * MOTION for _ in years])

    def group_rate(self, covariates, years):
        return torch.stack([MOTION / 2 for _ in years])

    def network_calls(self, steps):
        return 9


@pytest.fixture(scope="module")
def head():
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-75, -93, -75)
    grid = Grid((51, 55, 51), affine)
    places = places_mm(grid)
    inside = distance_mm(places / np.reshape([65, 75, 62], (3, 1, 1, 1)), (0, -12 / 75, 0)) < 1
    texture = 300 * np.sin(places[0] / 5) * np.sin(places[1] / 6) * np.sin(places[2] / 5)
    noise = np.random.default_rng(0).normal(0, 3, grid.shape)
    values = np.where(inside, 700 + texture + noise, 0)
    labels = np.where(inside, INDEX["left_white_matter"], 0).astype(np.uint8)
    for center, side in zip(CENTERS, ("left", "right"), strict=True):
        labels[distance_mm(places, center) < RADIUS_MM] = INDEX[f"{side}_hippocampus"]
    image = Image(values.round().astype(np.int16), affine, np.dtype(np.int16))
    aligned = SimpleNamespace(
        affine=np.eye(4), psi=torch.zeros(3, *LATTICE.shape), labels=labels, brain=torch.ones(1, 1, *REFINED.shape),
        anatomy=torch.zeros(1, *LATTICE.shape), warnings=(), quality_as_dict=dict,
    )  # fmt: skip
    return image, aligned


@pytest.fixture(scope="module")
def subject(head, tmp_path_factory):
    """Scans on disk; the later ones are the first, pulled through the true motion, brighter and with a gain."""
    image, _ = head
    folder, visits = tmp_path_factory.mktemp("study"), []
    labels = folder / "labels"
    for i, years in enumerate(YEARS, start=1):
        path = folder / f"sub-1_ses-{i:02d}_T1w.nii.gz"
        array = image.array
        if years:
            flow = native_grid.flow(in_aligned_space(MOTION), years)
            pull = native_grid.displacement_on(image.grid, np.eye(4), flow.pull_mm)
            array = WarpedImage(image, torch.device("cpu")).pulled(pull)
            array = np.where(array > 0, 1.2 * array + 40, 0).round().astype(np.int16)
        write_like(image, array, path)
        anat = labels / "sub-1" / f"ses-{i:02d}" / "anat"
        anat.mkdir(parents=True)
        seg = Image(head[1].labels, image.affine, np.dtype(np.uint8))
        left = np.flatnonzero(head[1].labels == INDEX["left_hippocampus"])
        fewer = head[1].labels.copy()
        fewer.reshape(-1)[left[: round(years * LABELS_LOST * len(left))]] = INDEX["left_white_matter"]
        write_like(seg, fewer, anat / f"sub-1_ses-{i:02d}_dseg.nii.gz")
        visits.append(Visit(f"ses-{i:02d}", years, path, Covariates(age=70 + years, diagnosis="AD")))
    return StudySubject("sub-1", tuple(visits))


@pytest.fixture(scope="module")
def result(head, subject, tmp_path_factory):
    """The evaluation, with the registrations replaced by what is true."""
    pytest.importorskip("monai")
    _, aligned = head
    labels = subject.visits[0].scan.parent / "labels"
    place = {visit.scan.name: visit.years for visit in subject.visits}

    def followed(other, first, progress, what):
        years = place[other.path.rsplit("/", 1)[-1]] - here["years"]
        return FollowedMotion(MOTION * years, np.eye(4), 1.0, 1.0)

    here = {"years": 0.0}
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecaster, "load_model", lambda folder, device: TrueModel())
        patch.setattr(forecaster, "preprocess", lambda image, reference, progress: aligned)
        motion = SimpleNamespace(velocity_mm=MOTION, likeness=1.0, agreement=1.0)
        patch.setattr(forecaster, "observed_velocity", lambda image, aligned, years: motion)
        original = Person.follow_up

        def follow_up(self, first, later, *rest):
            here["years"] = YEARS[first]
            return original(self, first, later, *rest)

        patch.setattr(Person, "follow_up", follow_up)
        patch.setattr(evaluation_person, "followed_motion", followed)
        patch.setattr(
            evaluation_subject,
            "region_shares",
            lambda reference: torch.full((len(SCORED), len(DRIVEN)), 1 / 29).double(),
        )
        settings = Settings(None, futures=2, seed=1, steps=None, scans=None, device="cpu", labels=labels)
        found = evaluate_subject(
            tmp_path_factory.mktemp("none"),
            subject,
            TrueModel(),
            settings,
            Networks(),
            lambda f, m: asked.append((f, m)),
        )
    assert [f for f, _ in asked] == sorted(f for f, _ in asked)
    return found


def case(result, scans, session):
    (one,) = [c for c in result["cases"] if (c["scans"], c["session"]) == (scans, session)]
    return one


def skill(case, method):
    scores = case["images"][method]
    return (2 * scores["product"] - scores["predicted_power"]) / case["true_power"]


HIPPOCAMPUS = SCORED.index("hippocampus")


class TestCases:
    def test_every_follow_up_from_every_number_of_scans(self, result):
        found = [(c["scans"], c["session"], c["years"], c["age"]) for c in result["cases"]]
        assert found == [(1, "ses-02", 2, 70), (1, "ses-03", 4, 70), (2, "ses-03", 2, 72)]

    def test_forecast_and_follow_up_are_measured_alike(self, result):
        one = case(result, 1, "ses-03")
        futures = np.array(one["futures"], dtype=float)[:, HIPPOCAMPUS]
        assert one["measured"][HIPPOCAMPUS] == pytest.approx(-0.1, abs=0.05)
        assert futures.mean() == pytest.approx(one["measured"][HIPPOCAMPUS], abs=0.02)
        assert len(set(futures)) == 2
        assert one["measured"][SCORED.index("caudate")] is None

    def test_a_true_forecast_explains_the_change_of_the_voxels(self, result):
        for one in result["cases"]:
            assert skill(one, "model") > 0.9
            assert skill(one, "group_rate") == pytest.approx(0.75, abs=0.1)
            assert skill(one, "copy_last") == 0
            assert one["images"]["model"]["ssim"] > one["images"]["copy_last"]["ssim"]
            assert one["images"]["model"]["psnr"] > one["images"]["copy_last"]["psnr"] + 5

    def test_the_motion_between_the_last_two_scans_goes_on(self, result):
        assert "registration_extrapolation" not in case(result, 1, "ses-02")["images"]
        one = case(result, 2, "ses-03")
        assert skill(one, "registration_extrapolation") > 0.9

    def test_the_past_is_told_as_volumes(self, result):
        one = case(result, 2, "ses-03")
        assert one["past_years"] == [-2, 0]
        level = one["past"][1][HIPPOCAMPUS]
        assert level == pytest.approx(0.3)  # the anatomy says 3 tenths everywhere
        before = case(result, 1, "ses-02")["measured"][HIPPOCAMPUS]
        assert one["past"][0][HIPPOCAMPUS] == pytest.approx(level - before, abs=1e-5)

    def test_segmentations_that_came_with_the_data(self, result):
        """The left hippocampus has 4 % fewer voxels of its first number every year."""
        one, two = case(result, 1, "ses-02"), case(result, 2, "ses-03")
        for found, change in ((one, 1 - 2 * LABELS_LOST), (two, (1 - 4 * LABELS_LOST) / (1 - 2 * LABELS_LOST))):
            names = found["labels"]["names"]
            left, right = (names.index(f"label_{INDEX[side + '_hippocampus']}") for side in ("left", "right"))
            assert found["labels"]["true"][left] == pytest.approx(np.log(change), abs=5e-3)
            assert found["labels"]["true"][right] == 0
            assert found["labels"]["others"]["group_rate"][right] == pytest.approx(
                found["measured"][HIPPOCAMPUS] / 2, rel=0.1
            )
            assert np.mean([row[right] for row in found["labels"]["futures"]]) == pytest.approx(
                found["measured"][HIPPOCAMPUS], rel=0.2
            )
            assert sum(found["labels"]["brain_share"]) == pytest.approx(1)
        assert one["labels"]["personal_slope"] is None
        assert two["labels"]["personal_slope"][left] == pytest.approx(one["labels"]["true"][left], abs=1e-6)

    def test_one_course_composes_and_does_not_fold(self, result):
        for one in result["forecasts"]:
            assert one["fold_failures"] == 0 and one["wrong_sign"] == 0
            assert one["semigroup_mean_mm"] < 0.01 and one["semigroup_max_mm"] < 0.1
            assert one["adjacent_change_ratio"] == pytest.approx(1, abs=0.15)
            assert one["log_determinant_curvature"] < 2e-3


class TestImages:
    def test_a_scan_that_lies_elsewhere_comes_back(self, head):
        image, aligned = head
        pose = np.eye(4)
        pose[:3, 3] = (4.5, -3, 2)
        turned = Image((2 * image.array + 100).astype(np.int16), pose @ image.affine, np.dtype(np.int16))
        back = on_voxels_of(image, turned, pose, aligned.labels > 0)
        inside = aligned.labels > 0
        assert np.abs(back - image.intensities())[inside].max() < 0.5

    def test_the_same_file_twice_is_refused(self, subject):
        twice = StudySubject("sub-1", (subject.visits[0], subject.visits[0]))
        with pytest.raises(InputError, match="is the same image as"):
            Person(twice, None)

    def test_nothing_within_the_years_of_the_model(self, subject, tmp_path):
        near = StudySubject("sub-1", (subject.visits[0], Visit("ses-02", 0.1, subject.visits[1].scan, Covariates())))
        settings = Settings(None, futures=2, seed=1, steps=None, scans=None, device="cpu")
        with pytest.raises(InputError, match=r"no follow-up within 0\.25 to 10 years"):
            evaluate_subject(tmp_path, near, TrueModel(), settings, Networks())


class TestSegmentations:
    def test_a_folder_without_any_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="holds no segmentation"):
            Segmentations.of(tmp_path)

    def test_names_from_the_table(self, tmp_path):
        anat = tmp_path / "sub-1" / "ses-01" / "anat"
        anat.mkdir(parents=True)
        (anat / "sub-1_ses-01_dseg.nii.gz").write_bytes(b"")
        (tmp_path / "dseg.tsv").write_text("index\tname\n17\thippocampus\n")
        assert Segmentations.of(tmp_path).names == {17: "hippocampus"}
        (tmp_path / "dseg.tsv").write_text("number\tname\n17\thippocampus\n")
        with pytest.raises(InputError, match="expected the columns index and name"):
            Segmentations.of(tmp_path)

    def test_a_line_through_the_past_goes_on(self):
        volumes = np.array([[1.0, 5.0], [1.3, 4.0], [1.6, 3.0]])
        assert line_at(np.array([-3.0, -1.5, 0.0]), volumes, 2.0) == pytest.approx([0.4, -4 / 3])


class TestTruth:
    def test_is_read_where_there_is_one(self, subject, tmp_path):
        assert simulated_truth(tmp_path, subject) is None
        folder = tmp_path / "derivatives" / "truth" / "sub-1"
        folder.mkdir(parents=True)
        volumes = {name: 1000.0 for name in SCORED}
        lines = ", ".join(f'"{name}": {value}' for name, value in volumes.items())
        visits = ", ".join(f'"{visit.session}": {{"volumes_mm3": {{{lines}}}}}' for visit in subject.visits)
        (folder / "sub-1_truth.json").write_text(f'{{"visits": {{{visits}}}}}')
        truth = simulated_truth(tmp_path, subject)
        assert len(truth) == 3 and truth[0] == pytest.approx(np.full(len(SCORED), np.log(1000)))
        (folder / "sub-1_truth.json").write_text('{"visits": {}}')
        with pytest.raises(InputError, match="is not what simulate writes"):
            simulated_truth(tmp_path, subject)
