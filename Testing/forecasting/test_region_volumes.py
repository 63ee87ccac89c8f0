import numpy as np
import pytest
import torch

from neuro4d_lib.data.regions import AGGREGATES, REGIONS
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.native_grid import FINE
from neuro4d_lib.forecasting.region_volumes import NAMES, RegionVolumes

INDEX = {region.name: region.index for region in REGIONS}


@pytest.fixture(scope="module")
def regions(scan, aligned):
    return RegionVolumes(aligned.labels, scan.grid, aligned.affine)


class TestRegionVolumes:
    def test_at_the_scan_are_voxels_times_their_size(self, regions, scan, aligned):
        voxel_mm3 = abs(np.linalg.det(scan.affine[:3, :3]))
        counted = [np.sum(aligned.labels == region.index) * voxel_mm3 for region in REGIONS]
        np.testing.assert_allclose(regions.baseline_mm3[: len(REGIONS)], counted, rtol=1e-9)

    def test_are_the_integral_of_the_map_that_is_delivered(self, regions, scan, aligned):
        ratio = 1 + 0.3 * torch.rand(1, 1, *FINE.shape, generator=torch.Generator().manual_seed(0))
        delivered = native_grid.values_on(scan.grid, aligned.affine, ratio)[0, 0].numpy()
        voxel_mm3 = abs(np.linalg.det(scan.affine[:3, :3]))
        volumes_mm3 = regions.of(ratio[0, 0].numpy())
        for name in ("left_hippocampus", "right_white_matter"):
            integral = delivered[aligned.labels == INDEX[name]].sum() * voxel_mm3
            assert volumes_mm3[NAMES.index(name)] == pytest.approx(integral, rel=1e-5)

    def test_sums_are_sums_of_their_members(self, regions):
        volumes_mm3 = dict(zip(NAMES, regions.baseline_mm3, strict=True))
        for name, members in AGGREGATES.items():
            assert volumes_mm3[name] == pytest.approx(sum(volumes_mm3[member] for member in members))

    def test_outside_the_scan_are_zero(self, regions):
        assert regions.baseline_mm3[NAMES.index("cerebellum")] == 0
