import nibabel
import numpy as np
import pytest
import torch

from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.scanner import BRIGHTNESS, acquire, scan_grid, subgrid
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import Grid

BOX = Grid((60, 70, 50), np.array([[1.0, 0, 0, -30], [0, 1, 0, -40], [0, 0, 1, -20], [0, 0, 0, 1]]))
STILL = {"rotation_degrees": 0.0, "shift_mm": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def center_mm(grid):
    return (grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1])[:3]


class TestScanGrid:
    @pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR", "LIA"])
    def test_axes_point_where_they_should(self, orientation):
        settings = ScannerSettings(spacing_mm=(2.0, 1.0, 3.0), orientation=orientation, **STILL)
        grid, _ = scan_grid(BOX, settings, 1.0, generator())
        assert "".join(nibabel.aff2axcodes(grid.affine)) == orientation
        length = dict(zip("RAS", (30, 70, 17), strict=True)) | dict(zip("LPI", (30, 70, 17), strict=True))
        assert grid.shape == tuple(length[letter] for letter in orientation)
        np.testing.assert_allclose(center_mm(grid), center_mm(BOX), atol=1e-9)

    def test_slices_tilt(self):
        grid, _ = scan_grid(BOX, ScannerSettings(oblique_degrees=10, **STILL), 1.0, generator())
        assert np.degrees(nibabel.affines.obliquity(grid.affine)).max() == pytest.approx(10)

    def test_a_still_head_is_where_it_was(self):
        np.testing.assert_allclose(scan_grid(BOX, ScannerSettings(**STILL), 1.0, generator())[1], np.eye(4), atol=1e-12)

    def test_a_head_moves_rigidly_and_has_its_size(self):
        _, to_aligned = scan_grid(BOX, ScannerSettings(), 1.1, generator())
        singular = np.linalg.svd(to_aligned[:3, :3], compute_uv=False)
        np.testing.assert_allclose(singular, 1 / 1.1, rtol=1e-6)
        assert np.linalg.norm(to_aligned - np.eye(4)) > 0.1

    def test_an_unknown_orientation_is_named(self):
        with pytest.raises(InputError, match="'XYZ'"):
            scan_grid(BOX, ScannerSettings(orientation="XYZ"), 1.0, generator())


class TestSubgrid:
    def test_divides_every_voxel_about_its_center(self):
        grid = Grid((4, 5, 6), np.diag([2.0, 1.0, 3.0, 1.0]))
        fine, pooled = subgrid(grid)
        assert fine.shape == (8, 5, 18)
        np.testing.assert_allclose(fine.spacing_mm, 1)
        ramp = torch.arange(8.0)[:, None, None].expand(fine.shape)
        assert pooled(ramp)[:, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
        np.testing.assert_allclose(center_mm(fine), center_mm(grid))


class TestAcquire:
    signal = torch.full((40, 40, 40), 0.8)

    def test_noise_has_its_standard_deviation(self):
        settings = ScannerSettings(noise=0.03, shading=0, contrast=0)
        scan = acquire(self.signal, settings, generator()).astype(float)
        assert scan.std() == pytest.approx(0.03 * BRIGHTNESS, rel=0.02)
        assert scan.mean() == pytest.approx(0.8 * BRIGHTNESS, rel=0.01)

    def test_stripped_background_stays_zero(self):
        signal = self.signal.clone()
        signal[:20] = 0
        scan = acquire(signal, ScannerSettings(noise=0.1), generator())
        assert not scan[:20].any() and scan[20:].all()

    def test_shading_is_smooth_and_of_the_asked_size(self):
        scan = acquire(self.signal, ScannerSettings(noise=0, shading=0.2, contrast=0), generator()).astype(float)
        assert np.log(scan).std() == pytest.approx(0.2, rel=0.02)
        assert np.abs(np.diff(np.log(scan), axis=0)).max() < 0.1

    def test_contrast_changes_the_ratio_of_tissues(self):
        signal = self.signal.clone()
        signal[:20] = 0.4
        settings = ScannerSettings(noise=0, shading=0, contrast=0.3)
        ratios = [acquire(signal, settings, generator(seed)).astype(float)[[0, -1], 0, 0] for seed in range(2)]
        assert ratios[0][0] / ratios[0][1] != pytest.approx(ratios[1][0] / ratios[1][1], rel=0.01)

    def test_the_same_seed_gives_the_same_bytes(self):
        first, second, other = (acquire(self.signal, ScannerSettings(), generator(seed)) for seed in (1, 1, 2))
        assert first.tobytes() == second.tobytes() != other.tobytes()
        assert first.dtype == np.int16
