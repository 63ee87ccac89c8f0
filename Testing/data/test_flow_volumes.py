import numpy as np
import pytest
import torch

from neuro4d_lib.data.flow_volumes import FINE, FlowVolumes, flow_vox, motion_with_log_change, on_fine, volume_ratio
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.simulation import smooth_random_motion
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.deformation import compose, exponentiate
from neuro4d_lib.geometry.grids import sample
from neuro4d_lib.geometry.spaces import voxel_to_voxel

pytestmark = pytest.mark.slow
RATES = torch.tensor(
    [{"hippocampus": -0.047, "lateral_ventricle": 0.098}.get(region.group, -0.018) for region in DRIVEN],
    dtype=torch.float64,
)


@pytest.fixture(scope="module")
def volumes(simulator) -> FlowVolumes:
    return simulator.volumes


def shares_after(anatomy, motion_mm):
    """Volume of each region in units of its first one, by counting places whose place before lay in it.

    One random place in each voxel: the centers themselves would all jump to the next voxel at once, or none.
    """
    pull_vox = on_fine(flow_vox(-motion_mm))
    to_fine = torch.from_numpy(voxel_to_voxel(anatomy.grid, FINE)).float()
    to_voxel = torch.from_numpy(voxel_to_voxel(FINE, anatomy.grid)).float()
    voxels = torch.stack(torch.meshgrid(*(torch.arange(n) for n in anatomy.grid.shape), indexing="ij")).float()
    voxels += torch.rand(voxels.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    places = torch.einsum("ij,jdhw->idhw", to_fine[:3, :3], voxels) + to_fine[:3, 3].view(3, 1, 1, 1)
    places = places + sample(pull_vox, places[None])[0]
    places = torch.einsum("ij,jdhw->idhw", to_voxel[:3, :3], places) + to_voxel[:3, 3].view(3, 1, 1, 1)
    labels = sample(torch.from_numpy(anatomy.labels).float()[None, None], places[None], mode="nearest", padding="zeros")
    counts = np.bincount(labels.numpy().astype(int).ravel(), minlength=len(REGIONS) + 1)[1:]
    return counts / anatomy.volumes_mm3


class TestFlow:
    def test_there_and_back_ends_where_it_began(self, fields):
        """After three years nearly everywhere within 0.1 mm, on average within 0.01 mm."""
        motion_mm = fields.velocity(3 * RATES)
        there, back = on_fine(flow_vox(motion_mm)), on_fine(flow_vox(-motion_mm))
        miss_mm = (compose(back, there) * FINE.spacing_mm[0]).norm(dim=1)
        assert (miss_mm > 0.1).float().mean() < 2e-3
        assert miss_mm.mean() < 0.01

    def test_agrees_with_scaling_and_squaring_of_a_gentle_motion(self, fields):
        motion_mm = fields.velocity(0.5 * RATES)
        squared = exponentiate(bspline.refine(motion_mm[None], 2) / 2.625)
        assert ((flow_vox(motion_mm) - squared) * 2.625).norm(dim=1).max() < 0.05


class TestFlowVolumes:
    def test_without_motion_are_the_volumes_of_the_labels(self, anatomy, volumes):
        np.testing.assert_allclose(volumes.before_mm3[: len(REGIONS)], anatomy.volumes_mm3, rtol=1e-5)
        zero = torch.zeros(3, 32, 40, 32)
        assert volumes.log_change(zero).abs().max() == 0

    def test_agree_with_counting_the_voxels_of_moved_labels(self, anatomy, fields, volumes):
        motion_mm = fields.velocity(3 * RATES)
        ratio = volumes.log_change(motion_mm)[: len(REGIONS)].exp().numpy()
        np.testing.assert_allclose(shares_after(anatomy, motion_mm), ratio, atol=0.015)

    def test_one_year_follows_the_rates_within_half_a_percent_of_the_region(self, fields, volumes):
        change = volumes.log_change(fields.velocity(RATES))[: len(DRIVEN)].exp()
        assert (change - RATES.exp()).abs().max() < 0.007

    def test_sums_add_up(self, volumes):
        by_name = dict(zip(volumes.names, volumes.before_mm3.tolist(), strict=True))
        assert by_name["hippocampus"] == pytest.approx(by_name["left_hippocampus"] + by_name["right_hippocampus"])


class TestMotionWithLogChange:
    def test_five_years_reach_exp_rate_years_within_a_third_of_a_percent(self, fields, volumes):
        motion_mm = motion_with_log_change(fields, volumes, 5 * RATES)
        change = volumes.log_change(motion_mm)[: len(DRIVEN)]
        assert (change.exp() / (5 * RATES).exp() - 1).abs().max() < 0.0033

    def test_makes_up_for_what_another_motion_does(self, fields, volumes):
        added_mm = fields.velocity(torch.linspace(-0.1, 0.1, len(DRIVEN)))
        motion_mm = motion_with_log_change(fields, volumes, 0 * RATES, added_mm=added_mm)
        assert volumes.log_change(motion_mm)[: len(DRIVEN)].abs().max() < 2e-3

    def test_changes_a_person_as_asked(self, anatomy, fields, volumes):
        bumps_mm = smooth_random_motion(anatomy, torch.Generator().manual_seed(0))
        shape_ratio = volume_ratio(flow_vox(bumps_mm))
        motion_mm = motion_with_log_change(fields, volumes, 3 * RATES, shape_ratio=shape_ratio)
        change = volumes.log_change(motion_mm, shape_ratio)[: len(DRIVEN)]
        assert (change - 3 * RATES).abs().max() < 2e-3

    def test_says_when_the_change_is_out_of_reach(self, fields, volumes):
        with pytest.raises(ValueError, match="smaller changes"):
            motion_with_log_change(fields, volumes, 30 * RATES, most=3)
