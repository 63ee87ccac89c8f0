import numpy as np
import pytest
import torch

from neuro4d_lib.data.flow_volumes import flow_vox
from neuro4d_lib.data.rate_fields import RateFields
from neuro4d_lib.data.regions import AGGREGATES, DRIVEN, REGIONS
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry import bspline
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.geometry.spaces import LATTICE

pytestmark = pytest.mark.slow
REFINED = LATTICE.refined(2)

# About the yearly log-volume rates of Alzheimer's disease (atrophy-rates.md; what is not listed there, assumed).
ALZHEIMER = {
    "hippocampus": -0.047,
    "amygdala": -0.035,
    "entorhinal_cortex": -0.07,
    "lateral_ventricle": 0.098,
    "third_ventricle": 0.06,
    "temporal_cortex": -0.028,
    "cerebellum": -0.005,
    "brainstem": -0.006,
}
RATES = torch.tensor([ALZHEIMER.get(region.group, -0.018) for region in DRIVEN])


class TestResponse:
    def test_each_field_drives_its_own_region_and_no_other(self, fields):
        response = fields.response(fields.control)[:, : len(DRIVEN)]
        torch.testing.assert_close(response, torch.eye(len(DRIVEN)), atol=1e-4, rtol=0)

    def test_is_the_mean_divergence_on_the_grid_where_flows_are_integrated(self, anatomy, fields):
        """Divergence at points 1.3 mm apart, averaged over the labels read there: another way to the same number."""
        fine = LATTICE.refined(4)
        labels = resample(torch.from_numpy(anatomy.labels)[None, None], anatomy.grid, fine, mode="nearest")[0, 0]
        control = fields.velocity(RATES)[None]
        slopes = bspline.gradient(control, 4)[0] / LATTICE.spacing_mm[0]
        divergence = slopes[0, 0] + slopes[1, 1] + slopes[2, 2]
        for region, rate in zip(DRIVEN, RATES, strict=True):
            assert divergence[labels == region.index].mean() == pytest.approx(float(rate), abs=0.003)

    def test_sulci_take_up_what_is_lost(self, anatomy, fields):
        """The volume inside the skull is constant."""
        response = fields.response(fields.control)[:, : len(REGIONS)].double()
        change_mm3 = response @ torch.from_numpy(anatomy.volumes_mm3)
        own_mm3 = torch.from_numpy(anatomy.volumes_mm3[: len(DRIVEN)])
        assert (change_mm3 / own_mm3).abs().max() < 1e-3

    def test_sums_are_means_by_volume(self, anatomy, fields):
        response = fields.response(fields.velocity(RATES))
        names = dict(zip(fields.names, response.tolist(), strict=True))
        volumes = {region.name: anatomy.volumes_mm3[region.index - 1] for region in REGIONS}
        assert fields.names[len(REGIONS) :] == tuple(AGGREGATES)
        for name, members in AGGREGATES.items():
            expected = np.average([names[member] for member in members], weights=[volumes[m] for m in members])
            assert names[name] == pytest.approx(expected, abs=1e-5)

    def test_takes_any_leading_axes(self, fields):
        rates = torch.randn(2, 3, len(DRIVEN), generator=torch.Generator().manual_seed(0))
        velocity = fields.velocity(rates)
        assert velocity.shape == (2, 3, 3, *LATTICE.shape)
        torch.testing.assert_close(fields.response(velocity)[..., : len(DRIVEN)], rates, atol=1e-3, rtol=0)


class TestFields:
    def test_leave_the_skull_in_place(self, anatomy, fields):
        """A year of Alzheimer's disease moves what lies more than 5 mm outside by less than 0.15 mm."""
        inside = resample(torch.from_numpy(anatomy.mask).float()[None, None], anatomy.grid, REFINED)[0, 0]
        speed_mm = bspline.refine(fields.velocity(RATES)[None], 2)[0].norm(dim=0)
        near = torch.nn.functional.max_pool3d(inside[None], 5, stride=1, padding=2)[0]
        assert speed_mm[near == 0].max() < 0.15 < 0.3 * speed_mm.max()

    def test_seven_years_of_alzheimers_disease_fold_nothing_forwards_or_backwards(self, fields):
        for years in (7, -7):
            assert count_fold_failures(flow_vox(fields.velocity(years * RATES))).failed == 0

    def test_are_gentle(self, fields):
        """No place grows three times as fast as its region, none in the sulci shrinks four times as fast."""
        slopes = torch.stack([bspline.gradient(control[None], 2)[0] for control in fields.control])
        divergence = slopes.diagonal(dim1=1, dim2=2).sum(dim=-1) / LATTICE.spacing_mm[0]
        assert divergence.max() < 3
        assert divergence.min() > -4

    def test_come_back_from_a_file(self, anatomy, fields, tmp_path):
        fields.save(tmp_path / "fields.safetensors")
        again = RateFields.load(tmp_path / "fields.safetensors", anatomy)
        assert torch.equal(again.control, fields.control)
        assert again.names == fields.names

    def test_of_another_anatomy_are_refused(self, anatomy, fields, tmp_path):
        RateFields(fields.control.roll(2, dims=2), fields.measure, fields.names).save(tmp_path / "fields.safetensors")
        with pytest.raises(InputError, match="another reference"):
            RateFields.load(tmp_path / "fields.safetensors", anatomy)
