import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import forecaster, native_grid
from neuro4d_lib.forecasting.forecaster import forecast
from neuro4d_lib.forecasting.warping import WarpedImage
from neuro4d_lib.geometry.jacobian import count_fold_failures
from neuro4d_lib.progress import silent


def volume(result, name):
    """[n, T]"""
    return result.volumes.futures_mm3[..., result.volumes.names.index(name)]


class TestSeeds:
    def test_the_same_seed_gives_the_same_forecast(self, known_model, scan):
        first, second = (forecast(scan, Covariates(age=70), (2,), futures=2, device="cpu") for _ in range(2))
        assert torch.equal(first.drawn_mm, second.drawn_mm)
        np.testing.assert_array_equal(first.image(0), second.image(0))
        np.testing.assert_array_equal(first.volumes.futures_mm3, second.volumes.futures_mm3)

    def test_eight_runs_of_one_future_are_one_run_of_eight(self, known_model, scan):
        together = forecast(scan, None, (1,), futures=8, seed=40, device="cpu")
        for i in (0, 3, 7):
            alone = forecast(scan, None, (1,), futures=1, seed=40 + i, device="cpu")
            assert torch.equal(alone.drawn_mm[0], together.drawn_mm[i])
            np.testing.assert_array_equal(volume(alone, "hippocampus")[0], volume(together, "hippocampus")[i])

    def test_other_seeds_give_other_futures(self, known_model, scan):
        draws = [forecast(scan, None, (1,), futures=1, seed=seed, device="cpu").drawn_mm for seed in (0, 1)]
        assert not torch.equal(*draws)


class TestForecast:
    def test_what_the_images_gain_and_lose_is_the_integral_of_the_volume_change_map(self, example, scan):
        """A smooth stain over each structure is carried along: its sum changes as the map says."""
        corner = scan.affine[:3, 3][:, None, None, None]
        places = np.tensordot(scan.affine[:3, :3], np.indices(scan.array.shape), 1) + corner
        for center in ((-26, -22, -14), (16, 0, 18), (0, 20, 30)):
            away = places - np.reshape(center, (3, 1, 1, 1))
            stain = np.exp(-np.square(away).sum(axis=0) / 200).astype(np.float32)
            carried = WarpedImage(Image(stain, scan.affine, stain.dtype), torch.device("cpu"))
            for time in range(2):
                found = carried.pulled(example.displacement_vox(example.flow(time))).sum() / stain.sum()
                stated = 1 + (stain * example.volume_change_percent(time)).sum() / stain.sum() / 100
                assert found == pytest.approx(stated, abs=2e-3)

    def test_the_tables_volumes_are_the_integral_of_the_map(self, example, aligned, scan):
        voxel_mm3 = abs(np.linalg.det(scan.affine[:3, :3]))
        ratio = 1 + example.volume_change_percent(1, future=2) / 100
        integral_mm3 = ratio[aligned.labels == 1].sum() * voxel_mm3
        assert volume(example, "left_hippocampus")[2, 1] == pytest.approx(integral_mm3, rel=1e-5)

    def test_loss_is_negative_and_growth_positive(self, example, aligned):
        change_percent = example.volume_change_percent(1)
        names = dict(zip(example.volumes.names, example.volumes.baseline_mm3, strict=True))
        assert volume(example, "hippocampus")[:, 1].max() < 0.95 * names["hippocampus"]
        assert volume(example, "lateral_ventricle")[:, 1].min() > 1.05 * names["lateral_ventricle"]
        assert change_percent[aligned.labels == 1].mean() < -5  # left hippocampus is the first region

    def test_regions_outside_the_scan_are_left_out(self, example):
        assert "cerebellum" not in example.volumes.names
        assert np.isfinite(example.volumes.median_and_bands[0]).all()

    def test_the_central_future_is_the_flow_of_the_mean_velocity(self, known_model, scan):
        result = forecast(scan, None, (3,), futures=2, device="cpu")
        mean = result.drawn_mm[:, 0].mean(dim=0, keepdim=True)
        alone = dataclasses.replace(result, drawn_mm=mean[None])
        np.testing.assert_array_equal(result.image(0), alone.image(0, future=0))

    def test_the_spread_is_the_deviation_over_futures(self, example):
        changes = np.stack([example.volume_change_percent(1, future) for future in range(3)])
        spread = example.on_scan(example.spread_percent[1][None, None]).numpy()
        # Reading a deviation between points is not quite the deviation of what is read there.
        np.testing.assert_allclose(spread, changes.std(axis=0, ddof=1), atol=0.02 * spread.max())

    def test_every_map_of_every_future_is_tested_for_folds(self, example, scan):
        coarse = example.inputs.also[0]
        central = scan.array.size + coarse.array.size  # on the grid of each image that is delivered
        assert example.folds.voxels == 2 * (3 * scan.array.size + central)
        assert example.fold_tested_maps == 2 * (3 + 2)
        assert (example.folds.determinants_per_voxel, example.folds.failed) == (10, 0)

    def test_one_future_has_no_bands_and_says_so(self, known_model, scan):
        result = forecast(scan, None, (1,), futures=1, device="cpu")
        assert result.volumes.median_and_bands[1] == {}
        assert not result.spread_percent.any()
        assert any("no bands" in warning for warning in result.warnings)

    def test_what_the_model_does_not_know_is_said(self, known_model, scan):
        result = forecast(scan, Covariates(age=20), (1,), futures=2, device="cpu")
        assert any("age 20" in warning for warning in result.warnings)

    def test_worse_diagnoses_lose_more_and_bands_widen_with_time(self, known_model, scan):
        medians = {}
        for diagnosis in ("CN", "MCI", "AD"):
            result = forecast(scan, Covariates(diagnosis=diagnosis), (1, 3), futures=2, device="cpu")
            region = result.volumes.names.index("hippocampus")
            median, bands = result.volumes.median_and_bands
            medians[diagnosis] = median[1, region]
            widths = np.diff([end[:, region] for end in bands[90]], axis=0)[0]
            assert widths[1] > widths[0]
        assert medians["AD"] < medians["MCI"] < medians["CN"]

    def test_earlier_scans_are_compared_in_order_of_time_and_that_is_recorded(self, known_model, scan):
        earlier = [dataclasses.replace(scan, array=scan.array + n) for n in (1, 2)]
        past = [(earlier[0], -1.0), (earlier[1], -2.5)]
        result = forecast(scan, None, (1,), past=past, futures=1, device="cpu")
        assert [item["years"] for item in result.registration["past"]] == [-2.5, -1.0]
        assert result.registration["past"][0]["likeness"] == 0.9

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"years": (0,)}, "years contain 0"),
            ({"years": (1, 99)}, "years contain 99"),
            ({"futures": 0}, "number of futures is 0"),
            ({"device": "gpu"}, "device is 'gpu'"),
        ],
    )
    def test_bad_requests_are_refused_before_any_work(self, known_model, scan, monkeypatch, options, message):
        monkeypatch.setattr(forecaster, "preprocess", lambda *_: pytest.fail("worked on a request that is refused"))
        with pytest.raises(InputError, match=message):
            forecast(scan, **{"device": "cpu", **options})


def test_futures_are_drawn_one_by_one_with_their_own_generators():
    class Counting:
        seeds = []  # noqa: RUF012

        def draw(self, condition, years, generator, steps, progress):
            self.seeds.append(generator.initial_seed())
            return torch.zeros(len(years), 3, 2, 2, 2)

    drawn = forecaster.draw(Counting(), None, (1, 2), futures=3, seed=7, steps=None, progress=silent)
    assert Counting.seeds == [7, 8, 9]
    assert drawn.shape == (3, 2, 3, 2, 2, 2)


class TestFolds:
    """Motion that is rougher between two voxels than the voxels are apart."""

    @pytest.fixture
    def rough(self):
        pull_mm = torch.zeros(1, 3, *native_grid.FINE.shape)
        pull_mm[0, :, 60:80, 80:100, 60:80] = 3 * torch.randn(3, 20, 20, 20, generator=torch.Generator().manual_seed(1))
        return native_grid.Flow(pull_mm, torch.ones(1, 1, *native_grid.FINE.shape))

    def test_are_mended_and_told(self, scan, aligned, rough):
        displacement_vox = native_grid.displacement_on(scan.grid, aligned.affine, rough.pull_mm)
        assert count_fold_failures(displacement_vox).failed > 0
        with forecaster.FoldTests(aligned) as tests:
            tests.start(scan, rough)
            (count,) = tests.finished()
        assert count.failed == 0 and 0 < count.mended < count.voxels

    def test_are_mended_in_what_is_delivered(self, example, rough):
        mended = dataclasses.replace(example.folds, mended=1)
        delivered = dataclasses.replace(example, folds=mended).displacement_vox(rough)
        assert count_fold_failures(delivered).failed == 0
        assert count_fold_failures(example.displacement_vox(rough)).failed > 0

    def test_a_failing_test_ends_the_forecast(self, scan, aligned, rough, monkeypatch):
        def broken(displacement_vox):
            raise MemoryError

        monkeypatch.setattr(forecaster, "unfolded", broken)
        with pytest.raises(MemoryError), forecaster.FoldTests(aligned) as tests:
            tests.start(scan, rough)
            tests.finished()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -3}, {"seed": 10**30}])
def test_what_no_sampler_takes_is_refused_at_once(known_model, scan, wrong):
    with pytest.raises(InputError, match="expected a whole number"):
        forecast(scan, None, (1,), futures=1, device="cpu", **wrong)


def test_few_futures_are_called_few(known_model, scan):
    made = forecast(scan, None, (1,), futures=2, device="cpu")
    assert any("Only 2 futures" in warning for warning in made.warnings)
