import numpy as np
import torch

from neuro4d_lib.data import flow_volumes
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.native_grid import FINE, REFINED
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.geometry.spaces import LATTICE

IDENTITY = torch.zeros(1, 3, *REFINED.shape)
RATE = 0.06


def places_mm(grid):
    """[3, D, H, W]: RAS mm of every voxel."""
    return np.tensordot(grid.affine[:3, :3], np.indices(grid.shape), 1) + grid.affine[:3, 3][:, None, None, None]


def radial(grid, rate=RATE):
    """v(x) = rate x around the middle of the lattice, [1, 3, D, H, W] mm per year: its flow is known."""
    center = np.array(LATTICE.affine[:3, 3] + 5.25 * (np.array(LATTICE.shape) - 1) / 2)[:, None, None, None]
    return torch.as_tensor(rate * (places_mm(grid) - center), dtype=torch.float32)[None], center


def inner(grid, reach_mm=35):
    _, center = radial(grid)
    return (np.abs(places_mm(grid) - center) < reach_mm).all(axis=0)


class TestFlow:
    def test_of_no_motion_is_exactly_nothing(self):
        flow = native_grid.flow(torch.zeros(3, *REFINED.shape), 5)
        assert not flow.pull_mm.any()
        assert torch.equal(flow.volume_ratio, torch.ones_like(flow.volume_ratio))

    def test_of_a_radial_field_is_exponential(self):
        velocity, center = radial(REFINED)
        flow, years = native_grid.flow(velocity[0], 3), 3
        truth_mm = (np.exp(-RATE * years) - 1) * (places_mm(FINE) - center)
        region = inner(FINE)
        assert np.abs(flow.pull_mm[0].numpy() - truth_mm)[:, region].max() < 0.02
        np.testing.assert_allclose(flow.volume_ratio[0, 0].numpy()[region], np.exp(3 * RATE * years), rtol=2e-3)

    def test_volume_ratio_and_pull_map_tell_of_the_same_motion(self):
        """det D exp(+v) at x times det D exp(-v) at exp(v)(x) is 1; tested where the flow hardly moves."""
        places = places_mm(REFINED)
        center = places[:, 30, 40, 30][:, None, None, None]
        away = places - center
        velocity = torch.as_tensor(away * 0.08 * np.exp(-np.square(away).sum(axis=0) / 300), dtype=torch.float32)
        ratio = native_grid.flow(velocity, 1).volume_ratio[0, 0, 60, 80, 60]
        opposite = native_grid.flow(-velocity, 1).volume_ratio[0, 0, 60, 80, 60]
        np.testing.assert_allclose(float(ratio * opposite), 1, atol=2e-3)

    def test_is_the_flow_that_the_simulated_people_were_made_with(self):
        control = torch.zeros(3, *LATTICE.shape)
        control[:, 8:24, 10:30, 8:24] = torch.randn(3, 16, 20, 16, generator=torch.Generator().manual_seed(2))
        truth = flow_volumes.volume_ratio(flow_volumes.flow_vox(control))
        found = native_grid.flow(native_grid.carried_to_aligned(control[None] / 4, IDENTITY)[0], 4)
        torch.testing.assert_close(found.volume_ratio[:, :, 8:-8, 8:-8, 8:-8], truth, atol=2e-3, rtol=0)


class TestCarriedToAligned:
    def test_without_a_difference_of_shape_is_the_spline_itself(self):
        control = torch.randn(1, 3, *LATTICE.shape, generator=torch.Generator().manual_seed(0))
        carried = native_grid.carried_to_aligned(control, IDENTITY)
        torch.testing.assert_close(carried[:, :, 4:-4, 4:-4, 4:-4], bspline.refine(control, 2))

    def test_ends_smoothly_so_that_nothing_leaves_the_box(self):
        carried = native_grid.carried_to_aligned(torch.ones(2, 3, *LATTICE.shape), IDENTITY)
        for axis in (2, 3, 4):
            for end in (0, -1):
                assert not carried.select(axis, end).any()
            assert carried.select(axis, 1).abs().max() < 0.03


class TestDisplacementOn:
    def test_an_oblique_anisotropic_grid_gets_the_motion_in_its_own_voxels(self, scan, aligned):
        velocity, center = radial(REFINED)
        flow = native_grid.flow(velocity[0], 2)
        displacement_vox = native_grid.displacement_on(scan.grid, aligned.affine, flow.pull_mm)
        homogeneous = np.concatenate([places_mm(scan.grid), np.ones((1, *scan.grid.shape))])
        places = np.tensordot(aligned.affine, homogeneous, 1)[:3]
        truth_mm = (np.exp(-2 * RATE) - 1) * (places - center)
        truth_vox = np.tensordot(np.linalg.inv((aligned.affine @ scan.affine)[:3, :3]), truth_mm, 1)
        region = (np.abs(places - center) < 35).all(axis=0)
        assert region.sum() > 1000
        assert np.abs(displacement_vox[0].numpy() - truth_vox)[:, region].max() < 0.02

    def test_is_nothing_outside_the_lattice(self, scan):
        far = np.eye(4)
        far[:3, 3] = 1000
        flow = native_grid.flow(native_grid.carried_to_aligned(torch.ones(1, 3, *LATTICE.shape), IDENTITY)[0], 1)
        assert native_grid.displacement_on(scan.grid, far, flow.pull_mm).abs().max() < 1e-5

    def test_in_ras_mm_follows_the_axes_of_the_grid(self, scan):
        one_voxel = torch.zeros(1, 3, *scan.grid.shape)
        one_voxel[:, 1] = 1
        moved_mm = native_grid.displacement_ras_mm(scan.grid, one_voxel)
        np.testing.assert_allclose(moved_mm[0, :, 5, 5, 5], scan.affine[:3, 1], rtol=1e-6)


def test_rough_motion_of_ten_years_does_not_fold_on_the_delivered_grid(scan, aligned):
    control = torch.zeros(1, 3, *LATTICE.shape)
    control[0, :, 4:28, 4:36, 4:28] = 0.3 * torch.randn(3, 24, 32, 24, generator=torch.Generator().manual_seed(1))
    psi_vox = native_grid.psi_displacement(aligned.psi)
    flow = native_grid.flow(native_grid.carried_to_aligned(control, psi_vox)[0], 10)
    displacement_vox = native_grid.displacement_on(scan.grid, aligned.affine, flow.pull_mm)
    assert displacement_vox.abs().max() > 1
    assert count_fold_failures(displacement_vox).failed == 0
