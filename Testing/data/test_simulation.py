from functools import cache

import numpy as np
import pytest
import torch

from neuro4d_lib.data.head import with_head
from neuro4d_lib.data.lesions import Lesion, with_lesions
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.simulation import SHAPE_SD_MM, Subject, simulate_scan, smooth_random_motion

pytestmark = pytest.mark.slow
CLEAN = ScannerSettings(rotation_degrees=0, shift_mm=0, noise=0, shading=0, contrast=0)
STILL_MM = torch.zeros(3, 32, 40, 32)
LESION = Lesion(center_mm=(29, -8, 33), radius_mm=4, appears_years=1, growth_mm_per_year=0.5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def regional(**values):
    return np.array([values.get(region.group, 0.0) for region in DRIVEN])


def counted_mm3(labels):
    counts = np.bincount(labels.array.ravel(), minlength=len(REGIONS) + 1)[1:]
    return counts * np.prod(labels.grid.spacing_mm)


@pytest.fixture(scope="module")
def patient():
    return Subject(
        id="A01",
        covariates=Covariates(age=74, diagnosis="AD"),
        state=regional(lateral_ventricle=0.3, hippocampus=-0.1, white_matter=-0.03),
        rate=regional(lateral_ventricle=0.1, hippocampus=-0.05, temporal_cortex=-0.03),
    )


@pytest.fixture(scope="module")
def life(simulator, patient):
    """(Shape, motion over five years) of the patient."""
    psi_mm = simulator.shape(patient, generator())
    return psi_mm, simulator.motion(patient, psi_mm, 5)


@pytest.fixture(scope="module")
def scans(anatomy, life):
    """Clean 1 mm scans at years 0 and 5."""
    settings = ScannerSettings(**{**vars(CLEAN), "spacing_mm": (1.0, 1.0, 1.0)})
    return [simulate_scan(anatomy, life[0], motion_mm, settings, generator()) for motion_mm in (STILL_MM, life[1])]


class TestSubject:
    def test_changes_by_rate_and_acceleration(self, patient):
        subject = Subject("B", Covariates(), patient.state, patient.rate, acceleration=np.full(len(DRIVEN), -0.01))
        np.testing.assert_allclose(subject.log_change(2), 2 * patient.rate - 0.02)


class TestTrueVolumes:
    def test_start_at_the_state(self, anatomy, simulator, patient, life):
        volumes = simulator.true_volumes_mm3(life[0], STILL_MM)[: len(DRIVEN)]
        state = np.log(volumes.numpy() / anatomy.volumes_mm3[: len(DRIVEN)])
        np.testing.assert_allclose(state, patient.state, atol=3e-3)

    def test_change_by_the_rates(self, simulator, patient, life):
        before, after = (simulator.true_volumes_mm3(life[0], motion_mm) for motion_mm in (STILL_MM, life[1]))
        np.testing.assert_allclose(np.log((after / before).numpy())[: len(DRIVEN)], 5 * patient.rate, atol=3e-3)

    def test_grow_with_the_head(self, simulator, life):
        ratio = simulator.true_volumes_mm3(life[0], STILL_MM, 1.1) / simulator.true_volumes_mm3(life[0], STILL_MM)
        np.testing.assert_allclose(ratio, 1.1**3)

    @pytest.mark.parametrize("visit", [0, 1])
    def test_are_those_of_the_labels_of_the_scan(self, simulator, life, scans, visit):
        """Within 4 %, 1 % for regions above 50 mL: labels are whole voxels."""
        truth = simulator.true_volumes_mm3(life[0], (STILL_MM, life[1])[visit])[: len(DRIVEN)].numpy()
        error = np.abs(counted_mm3(scans[visit].labels)[: len(DRIVEN)] / truth - 1)
        assert error[truth > 50_000].max() < 0.01
        assert error.max() < 0.04


class TestScan:
    def test_of_the_reference_itself_is_the_reference(self, anatomy):
        settings = ScannerSettings(**{**vars(CLEAN), "spacing_mm": (1.0, 1.0, 1.0)})
        scan = simulate_scan(anatomy, STILL_MM, STILL_MM, settings, generator())
        np.testing.assert_allclose(scan.image.affine, anatomy.grid.affine, atol=1e-9)
        np.testing.assert_allclose(scan.image.array / 1000, anatomy.image, atol=1e-3)
        assert (scan.labels.array == anatomy.labels).mean() > 0.9999

    def test_image_and_labels_move_together(self, scans):
        for scan in scans:
            dark = scan.image.array[np.isin(scan.labels.array, [13, 14])].mean()
            bright = scan.image.array[np.isin(scan.labels.array, [25, 26])].mean()
            assert dark < 0.55 * bright

    def test_the_skull_stays_while_the_brain_shrinks(self, scans):
        first, last = (scan.labels.array > 0 for scan in scans)
        assert 2 * (first & last).sum() / (first.sum() + last.sum()) > 0.99

    def test_people_differ(self, anatomy, simulator):
        shapes = [-smooth_random_motion(anatomy, generator(seed)) for seed in (1, 2)]
        first, second = (simulate_scan(anatomy, psi, STILL_MM, CLEAN, generator()).labels.array for psi in shapes)
        brain = (first > 0) | (second > 0)
        assert 0.1 < (first != second)[brain].mean() < 0.6

    def test_shapes_are_random_in_the_stated_size(self, anatomy):
        middle = smooth_random_motion(anatomy, generator())[:, 10:22, 10:30, 10:22]
        assert middle.std() == pytest.approx(SHAPE_SD_MM, rel=0.3)

    def test_the_same_seed_gives_the_same_bytes(self, anatomy, life):
        scan = cache(lambda seed, again: simulate_scan(anatomy, *life, ScannerSettings(), generator(seed)).image.array)
        assert scan(1, 0).tobytes() == scan(1, 1).tobytes() != scan(2, 0).tobytes()

    def test_a_moved_head_lies_where_the_truth_says(self, anatomy):
        scan = simulate_scan(anatomy, STILL_MM, STILL_MM, ScannerSettings(), generator(3))
        voxels = np.argwhere(scan.labels.array == 26)
        mm = scan.scan_to_aligned @ scan.labels.affine @ np.column_stack([voxels, np.ones(len(voxels))]).T
        there = anatomy.grid.affine @ np.append(np.argwhere(anatomy.labels == 26).mean(axis=0), 1)
        np.testing.assert_allclose(mm.mean(axis=1), there, atol=0.2)


class TestLesions:
    def test_appear_and_grow(self):
        assert [LESION.radius_at(years) for years in (0, 1, 3)] == [0, 4, 5]

    def test_are_dark_balls_in_white_matter(self, anatomy):
        _, before = with_lesions(anatomy, (LESION,), 0)
        t1, mask = with_lesions(anatomy, (LESION,), 3)
        assert not before.any()
        assert int(mask.sum()) == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.1)
        assert t1[mask].mean() < 0.8 * anatomy.image[mask.numpy()].mean()
        np.testing.assert_array_equal(
            t1[~np.isin(anatomy.labels, [25, 26])], anatomy.image[~np.isin(anatomy.labels, [25, 26])]
        )

    def test_stay_out_of_gray_matter_and_of_the_box(self, anatomy):
        _, mask = with_lesions(anatomy, (Lesion((300, 0, 0), 5), Lesion((25, -20, -15), 5)), 0)
        assert not mask[torch.from_numpy(~np.isin(anatomy.labels, [25, 26]))].any()

    def test_are_in_the_scan(self, anatomy, life):
        scan = simulate_scan(anatomy, *life, CLEAN, generator(), years=3, lesions=(LESION,))
        inside = scan.lesion_mask.array > 0
        white = (scan.labels.array == 26) & ~inside
        assert scan.image.array[inside].mean() < 0.8 * scan.image.array[white].mean()


class TestHead:
    def test_adds_skull_and_scalp_and_leaves_the_brain(self, anatomy):
        head = with_head(anatomy)
        assert head.mask.sum() == anatomy.mask.sum()
        np.testing.assert_array_equal(head.image[head.mask], anatomy.image[anatomy.mask])
        around = head.image[~head.mask]
        assert (around > 0.5).mean() > 0.05
        edges = [
            head.image[0],
            head.image[-1],
            head.image[:, 0],
            head.image[:, -1],
            head.image[..., 0],
            head.image[..., -1],
        ]
        assert all(edge.max() < 0.05 for edge in edges)
        assert np.isclose(head.image[head.mask].mean(), anatomy.image[anatomy.mask].mean())
