"""Shape, regions and motion are found again in simulated people, whose truth is known."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neuro4d_lib.data.carrying import log_volume
from neuro4d_lib.data.flow_volumes import FINE, flow_vox, volume_ratio
from neuro4d_lib.data.images import read_image
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.preprocessing import observed_velocity, preprocess
from neuro4d_lib.data.regions import REGIONS
from neuro4d_lib.data.simulation import simulate_scan, smooth_random_motion
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.grids import resample
from neuro4d_lib.geometry.spaces import LATTICE

SHARED = Path(os.environ.get("NEURO4D_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real scans at {SHARED}; see NEURO4D_DATA")
# One scanner, one sequence: another contrast (gamma 1.1) alone looks like 2 % of ventricular volume.
SETTINGS = ScannerSettings(spacing_mm=(2, 2, 2), orientation="PSR", oblique_degrees=8, contrast=0)
VENTRICLES = [region.index for region in REGIONS if region.group == "lateral_ventricle"]


def scan_of(anatomy, shape_mm, motion_mm, seed):
    return simulate_scan(anatomy, shape_mm, motion_mm, SETTINGS, torch.Generator().manual_seed(seed), head_size=0.95)


@pytest.fixture(scope="module")
def shape_mm(anatomy):
    return smooth_random_motion(anatomy, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def latest(anatomy, shape_mm):
    return scan_of(anatomy, shape_mm, torch.zeros_like(shape_mm), 2)


@pytest.fixture(scope="module")
def aligned(anatomy, latest):
    return preprocess(latest.image, anatomy)


def narrowed_ventricles():
    """Motion in reference space, control points in mm: everything near the ventricles moves toward the midline."""
    places = np.stack(np.meshgrid(*map(np.arange, LATTICE.shape), indexing="ij"), axis=-1)
    mm = places @ LATTICE.affine[:3, :3] + LATTICE.affine[:3, 3]
    near = np.exp(-(((mm - (0, -15, 15)) / (35, 45, 25)) ** 2).sum(axis=-1))
    return torch.from_numpy(np.stack([-0.3 * mm[..., 0] * near, 0 * near, 0 * near])).float()


def dice(found, truth, regions):
    one, other = np.isin(found, regions), np.isin(truth, regions)
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def mean_change(anatomy, motion_mm, regions):
    """Change of volume, %, by a motion in reference space."""
    ratio = resample(volume_ratio(flow_vox(motion_mm)), FINE, anatomy.grid)[0, 0].numpy()
    return 100 * (ratio[np.isin(anatomy.labels, regions)].mean() - 1)


class TestPreprocess:
    def test_regions_lie_on_the_scans_own_voxels_as_in_truth(self, aligned, latest):
        assert aligned.labels.shape == latest.image.array.shape and aligned.labels.dtype == np.uint8
        truth = latest.labels.array
        assert dice(aligned.labels, truth, range(1, len(REGIONS) + 1)) > 0.97
        for group, least in (("hippocampus", 0.85), ("lateral_ventricle", 0.85), ("thalamus", 0.9), ("caudate", 0.85)):
            for side in ("left", "right"):
                index = next(r.index for r in REGIONS if r.name == f"{side}_{group}")
                assert dice(aligned.labels, truth, [index]) > least, (side, group)

    def test_the_shape_is_found(self, anatomy, aligned, shape_mm):
        found, truth = log_volume(aligned.psi)[0].numpy(), log_volume(shape_mm)[0].numpy()
        inside = resample(torch.from_numpy(anatomy.mask).float()[None, None], anatomy.grid, LATTICE)[0, 0].numpy() > 0.9
        assert np.corrcoef(found[inside], truth[inside])[0, 1] > 0.8
        np.testing.assert_array_equal(aligned.anatomy[0].numpy(), found)

    def test_quality_is_good_and_fit_for_json(self, aligned):
        quality = json.loads(json.dumps(aligned.quality_as_dict()))
        assert quality["agreement"] > 0.8 and quality["agreement"] > quality["agreement_affine"]
        assert not aligned.warnings
        np.testing.assert_allclose(np.prod(quality["brain_size"]), 0.95**3, rtol=0.05)

    def test_reports_progress(self, anatomy, latest, monkeypatch):
        monkeypatch.setattr(
            "neuro4d_lib.data.preprocessing.align", lambda *_, **__: (_ for _ in ()).throw(InputError("x"))
        )
        seen = []
        with pytest.raises(InputError, match="x"):
            preprocess(latest.image, anatomy, lambda fraction, message: seen.append((fraction, message)))
        assert seen == [(0.0, "Aligning the scan with the reference")]


class TestObservedVelocity:
    def test_finds_how_much_larger_the_ventricles_have_become(self, anatomy, aligned, shape_mm):
        motion_mm = narrowed_ventricles()
        truth = mean_change(anatomy, motion_mm, VENTRICLES)
        past = scan_of(anatomy, shape_mm, motion_mm, 3)
        observed = observed_velocity(past.image, aligned, -2.0)
        found = mean_change(anatomy, -2.0 * observed.velocity_mm, VENTRICLES)
        assert truth < -9
        assert found == pytest.approx(truth, rel=0.25)
        assert observed.likeness > 0.8 and observed.agreement > observed.likeness
        assert observed.velocity_mm.shape == (3, *LATTICE.shape)

    def test_another_person_is_refused(self, anatomy, aligned):
        stranger_mm = 1.5 * smooth_random_motion(anatomy, torch.Generator().manual_seed(5))
        stranger = scan_of(anatomy, stranger_mm, torch.zeros_like(stranger_mm), 6)
        with pytest.raises(InputError, match="does not look like the same person"):
            observed_velocity(stranger.image, aligned, -2.0)

    @pytest.mark.parametrize("years", [0.0, 1.5, float("nan")])
    def test_the_past_is_negative(self, aligned, latest, years):
        with pytest.raises(InputError, match="expected a negative number"):
            observed_velocity(latest.image, aligned, years)


@needs_shared_data
class TestRealScans:
    def test_regions_of_a_whole_head_lie_where_an_atlas_program_puts_them(self, anatomy):
        folder = SHARED / "single_scans" / "ixi_2mm"
        scan = read_image(folder / "IXI049-HH-1358-T1_ds.nii.gz")
        theirs = read_image(folder / "IXI049-HH-1358-T1_ds_DLMUSE.nii.gz", allow_labels=True).array
        ours = preprocess(scan, anatomy).labels
        codes = {"hippocampus": (47, 48), "lateral_ventricle": (49, 50, 51, 52), "thalamus": (59, 60)}
        for group, least in (("hippocampus", 0.55), ("lateral_ventricle", 0.75), ("thalamus", 0.8)):
            indices = [region.index for region in REGIONS if region.group == group]
            found, truth = np.isin(ours, indices), np.isin(theirs, codes[group])
            assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > least, group

    def test_an_epi_is_refused(self, anatomy):
        with pytest.raises(InputError, match="is it T1-weighted"):
            preprocess(read_image(SHARED / "single_scans" / "coreg_qa_example_func_EPI.nii.gz"), anatomy)
