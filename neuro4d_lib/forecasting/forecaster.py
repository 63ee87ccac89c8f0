"""From a scan to a forecast: the whole way, to be read from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.checkpoint import load_model
from neuro4d_lib.data.preprocessing import AlignedScan, ObservedMotion, observed_velocity, preprocess
from neuro4d_lib.data.records import Covariates, Image
from neuro4d_lib.devices import checked_device
from neuro4d_lib.forecasting import inputs, native_grid
from neuro4d_lib.forecasting.ensemble import VolumeTable
from neuro4d_lib.forecasting.region_volumes import NAMES, RegionVolumes
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.geometry.jacobian import DETERMINANTS_PER_VOXEL, FoldCount
from neuro4d_lib.geometry.unfolding import unfolded
from neuro4d_lib.model import ForecastModel, Known
from neuro4d_lib.progress import Progress, part, silent

FEW_FUTURES = 5
"""Fewer than this make bands of one spread in four degrees of freedom or less."""


def forecast(
    scan: inputs.Scan,
    covariates: Covariates | None = None,
    years: Iterable[float] = (1, 2, 3, 5),
    *,
    past: Sequence[tuple[inputs.Scan, float]] = (),
    segmentation: inputs.Scan | None = None,
    also: Sequence[inputs.Scan] = (),
    futures: int = 8,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    steps: int | None = None,
    progress: Progress = silent,
) -> Forecast:
    """Forecast a brain scan through the coming years. Research use only.

    Args:
        scan: T1-weighted scan: a file, a DICOM folder or an image in memory.
        covariates: what is known of the person at the scan; anything may be left unknown.
        years: years after the scan, ascending.
        past: earlier scans of the person, each with its years before the scan, as a negative number.
        segmentation: label map on the scan's voxels that is carried along.
        also: other modalities in the scan's space that are carried along, each on its own grid.
        futures: how many futures are drawn. One gives no bands; future i is the same however many are drawn.
        model: folder of a model; the shipped one where none is named.
        device: auto, cpu or cuda.
        seed: future i is drawn with the seed `seed` + i, so that 8 runs of 1 future make 1 run of 8.
        steps: denoising steps; the model's own choice where none is given.
    """
    return forecasts(
        scan, (covariates,), years, past=past, segmentation=segmentation, also=also, futures=futures, model=model,
        device=device, seed=seed, steps=steps, progress=progress,
    )[0]  # fmt: skip


@torch.no_grad()
def forecasts(
    scan: inputs.Scan,
    covariates: Sequence[Covariates | None],
    years: Iterable[float] = (1, 2, 3, 5),
    *,
    past: Sequence[tuple[inputs.Scan, float]] = (),
    segmentation: inputs.Scan | None = None,
    also: Sequence[inputs.Scan] = (),
    futures: int = 8,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    steps: int | None = None,
    progress: Progress = silent,
) -> list[Forecast]:
    """One forecast for each of several covariates: of the same scan, registered once, with the same future noise.

    Arguments are those of `forecast`; so is each of the results.
    """
    clock = Clock()
    with clock.stage("reading"):
        progress(0.0, "Reading the scan")
        chosen_device = checked_device(device)
        futures = inputs.checked_count("futures", futures, 1, inputs.MOST_FUTURES)
        seed = inputs.checked_seed(seed)
        if steps is not None:
            steps = inputs.checked_count("denoising steps", steps, 1, inputs.MOST_STEPS)
        loaded = load_model(Path(model) if model is not None else None, chosen_device)
        horizons = inputs.checked_years(years, loaded.card["ranges"])
        given = inputs.gather(scan, None, past, segmentation, also)
    share = 0.4 / len(covariates)  # of the time, for what is done once
    with clock.stage("registration"):
        aligned = preprocess(given.scan, loaded.reference, part(progress, 0.02, 0.8 * share))
        psi_vox = native_grid.psi_displacement(aligned.psi.to(chosen_device))
    with clock.stage("observed_motion"):
        motions = observed_motions(given.past, aligned, part(progress, 0.8 * share, 1.25 * share))
    begun = _Begun(loaded, given, aligned, psi_vox, motions, horizons, futures, seed, steps, clock.seconds)
    results = []
    for i, known in enumerate(covariates):
        ends = (1.25 * share + (1 - 1.25 * share) * k / len(covariates) for k in (i, i + 1))
        results.append(_finished(begun, known or Covariates(), part(progress, *ends)))
    return results


@dataclass(frozen=True, eq=False)
class _Begun:
    """What does not depend on the covariates; see `forecast` and `Forecast`."""

    model: ForecastModel
    given: inputs.Inputs
    aligned: AlignedScan
    psi_vox: Tensor
    motions: Sequence[ObservedMotion]
    horizons: tuple[float, ...]
    futures: int
    seed: int
    steps: int | None
    seconds: Mapping[str, float]


def _finished(begun: _Begun, covariates: Covariates, progress: Progress) -> Forecast:
    """Draw and measure the futures of a person with these covariates."""
    loaded, aligned, psi_vox = begun.model, begun.aligned, begun.psi_vox
    horizons, motions = begun.horizons, begun.motions
    futures, seed, steps, chosen_device = begun.futures, begun.seed, begun.steps, begun.psi_vox.device
    given, ranges = replace(begun.given, covariates=covariates), loaded.card["ranges"]
    clock = Clock()
    clock.seconds.update(begun.seconds)
    observed = [(years, motion.velocity_mm) for (_, years), motion in zip(given.past, motions, strict=True)]
    with clock.stage("drawing"):
        known = loaded.condition(given.covariates, aligned.anatomy, observed)
        drawn_mm = draw(loaded, known, horizons, futures, seed, steps, part(progress, 0.0, 0.4))
        group_mm = loaded.group_rate(given.covariates, horizons).to(chosen_device)
    with clock.stage("measuring"):
        measured = measure(given, aligned, psi_vox, drawn_mm, group_mm, horizons, part(progress, 0.4, 1.0))

    warnings = [*aligned.warnings, *inputs.outside_ranges(given.covariates, given.past, ranges)]
    if futures == 1:
        warnings.append("Only one future was drawn, so there are no bands. Ask for 8 or more to see the spread.")
    elif futures < FEW_FUTURES:
        warnings.append(
            f"Only {futures} futures were drawn: median and bands swing widely with the seed. Ask for 8 or more."
        )
    if measured.folds.mended:
        warnings.append(
            f"{measured.folds.mended} of {measured.folds.voxels} voxels, all maps together, were smoothed because the "
            "map folded between them."
        )
    if measured.folds.failed:
        warnings.append(f"{measured.folds.failed} voxels fail the fold test: do not use the images there.")
    return Forecast(
        inputs=given,
        years=horizons,
        seed=seed,
        model=loaded.card,
        model_sha256=loaded.sha256,
        network_calls=loaded.network_calls(steps),
        aligned=aligned,
        registration={
            **aligned.quality_as_dict(),
            "past": [
                {"years": years, "likeness": round(motion.likeness, 4), "agreement": round(motion.agreement, 4)}
                for (_, years), motion in zip(given.past, motions, strict=True)
            ],
        },
        psi_vox=psi_vox,
        drawn_mm=drawn_mm,
        volumes=measured.volumes,
        spread_percent=measured.spread_percent,
        folds=measured.folds,
        fold_tested_maps=measured.maps,
        warnings=tuple(warnings),
        seconds=clock.seconds,
    )


class Clock:
    """Seconds that the stages of the work took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def observed_motions(
    past: Sequence[tuple[Image, float]], aligned: AlignedScan, progress: Progress
) -> list[ObservedMotion]:
    """How the brain has moved from each earlier scan to the latest."""
    motions = []
    for i, (image, years) in enumerate(past):
        progress(i / len(past), f"Comparing with the scan of {-years:g} years before")
        motions.append(observed_velocity(image, aligned, years))
    return motions


def draw(
    model: ForecastModel,
    known: Known,
    years: Sequence[float],
    futures: int,
    seed: int,
    steps: int | None,
    progress: Progress,
) -> Tensor:
    """Independent joint draws, [futures, T, 3, 32, 40, 32] mm per year.

    One after the other, each with a generator of its own: in a batch, a future's last bits would depend on the others.
    """
    drawn = []
    for i in range(futures):
        generator = torch.Generator().manual_seed(seed + i)
        told = part(progress, i / futures, (i + 1) / futures)
        told(0.0, f"Drawing future {i + 1} of {futures}")
        drawn.append(model.draw(known, years, generator, steps, told))
    return torch.stack(drawn)


@dataclass(frozen=True)
class Measured:
    """What is measured on every future: see `Forecast`."""

    volumes: VolumeTable
    spread_percent: Tensor
    folds: FoldCount
    maps: int


def measure(
    given: inputs.Inputs,
    aligned: AlignedScan,
    psi_vox: Tensor,
    drawn_mm: Tensor,
    group_mm: Tensor,
    years: Sequence[float],
    progress: Progress,
) -> Measured:
    """Volumes of regions and the fold test for every future and year, one at a time; the spread over futures.

    Args:
        drawn_mm: [n, T, 3, 32, 40, 32], reference space, mm per year.
        group_mm: [T, 3, 32, 40, 32], reference space, mm per year.
    """
    regions = RegionVolumes(aligned.labels, given.scan.grid, aligned.affine)
    futures = len(drawn_mm)
    volumes_mm3 = np.empty((futures, len(years), len(NAMES)))
    group_mm3 = np.empty((len(years), len(NAMES)))
    spread_percent: list[Tensor] = []

    def followed(lattice_mm: Tensor, year: float) -> native_grid.Flow:
        return native_grid.flow(native_grid.carried_to_aligned(lattice_mm[None], psi_vox)[0], year)

    with FoldTests(aligned) as folds:
        for k, year in enumerate(years):
            mean, squares = torch.zeros(1, device=drawn_mm.device), torch.zeros(1, device=drawn_mm.device)
            for i in range(futures):
                progress((k + i / futures) / len(years), f"Following future {i + 1} of {futures} to year {year:g}")
                flow = followed(drawn_mm[i, k], year)
                volumes_mm3[i, k] = regions.of(flow.volume_ratio[0, 0].cpu().numpy())
                difference = 100 * (flow.volume_ratio[0, 0] - 1) - mean  # Welford's running mean and sum of squares
                mean = mean + difference / (i + 1)
                squares = squares + difference * (100 * (flow.volume_ratio[0, 0] - 1) - mean)
                folds.start(given.scan, flow)
            spread_percent.append((squares / max(futures - 1, 1)).sqrt())
            central = followed(drawn_mm[:, k].mean(dim=0), year)
            delivered = {image.grid: image for image in ((given.scan,) if futures > 1 else ()) + given.also}
            for image in delivered.values():
                folds.start(image, central)
            group_mm3[k] = regions.of(followed(group_mm[k], year).volume_ratio[0, 0].cpu().numpy())
        counts = folds.finished()
    seen = np.flatnonzero(regions.baseline_mm3 > 0)  # the scan may end above the cerebellum
    table = VolumeTable(
        names=tuple(NAMES[region] for region in seen),
        years=tuple(years),
        baseline_mm3=regions.baseline_mm3[seen],
        futures_mm3=volumes_mm3[..., seen],
        group_rate_mm3=group_mm3[..., seen],
    )
    total = FoldCount(
        sum(count.voxels for count in counts),
        counts[0].determinants_per_voxel,
        sum(count.failed for count in counts),
        sum(count.mended for count in counts),
    )
    return Measured(table, torch.stack(spread_percent), total, len(counts))


class FoldTests:
    """Fold tests in a second thread, one at a time: the next motion is followed meanwhile."""

    def __init__(self, aligned: AlignedScan) -> None:
        self._aligned = aligned
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._tests: list[Future[FoldCount]] = []

    def __enter__(self) -> FoldTests:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self, image: Image, flow: native_grid.Flow) -> None:
        """Test a motion on the voxels of an image, as soon as the test before has ended."""
        if self._tests:
            self._tests[-1].result()
        self._tests.append(self._thread.submit(self._count, image, flow.pull_mm))

    def finished(self) -> list[FoldCount]:
        """The outcomes of all tests."""
        return [test.result() for test in self._tests]

    @torch.no_grad()  # which is a matter of each thread
    def _count(self, image: Image, pull_mm: Tensor) -> FoldCount:
        displacement_vox = native_grid.displacement_on(image.grid, self._aligned.affine, pull_mm)
        mended = unfolded(displacement_vox)
        voxels = mended.failed.numel()
        return FoldCount(voxels, DETERMINANTS_PER_VOXEL, int(mended.failed.sum()), int(mended.changed.sum()))
