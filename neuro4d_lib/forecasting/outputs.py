"""The files of a forecast, written all or nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch

from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.frames import Frames
from neuro4d_lib.forecasting.inputs import Inputs
from neuro4d_lib.forecasting.label_warping import WarpedLabels
from neuro4d_lib.forecasting.provenance import record
from neuro4d_lib.forecasting.report import write_figure, write_report
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.forecasting.slices import Slices
from neuro4d_lib.forecasting.staging import RECORD, check_folder, check_space, staged
from neuro4d_lib.forecasting.warping import WarpedImage
from neuro4d_lib.geometry.spaces import Grid
from neuro4d_lib.progress import Progress, part

_TABLES_BYTES = 20_000_000
_MOST_PACKERS = 4  # each holds a stack of frames in memory
# Changes are kept to a thousandth of a percent: enough, and the files become half as large.
_STEPS_PER_PERCENT = 1024
_DISPLACEMENT_INTENT = 1006  # NIFTI_INTENT_DISPVECT, which 3D Slicer reads as RAS
# Displacements are smooth on the scale of the lattice's control points, 5.25 mm: half of that is fine enough.
_MAP_STEP_MM = 2.625


def check_room(
    folder: Path, given: Inputs, years: int, futures: int, *, overwrite: bool, each_future: bool, displacement: bool
) -> None:
    """Raise an InputError unless the results can be put there: nothing else is lost and the disk has room for them.

    What counts is the most that can lie there at a time: unpacked frames of all outputs beside their files.
    """
    check_folder(folder, overwrite)
    images = [given.scan] * (2 + each_future * futures) + [*given.also] + [given.segmentation or given.scan]
    frame_bytes = sum(2 * image.array.size * image.dtype.itemsize for image in images)
    map_bytes = 4 * 3 * math.prod(map_grid(given.scan.grid).shape) * displacement
    change_bytes = given.scan.array.size * 4 * 4
    check_space(folder, (years + 1) * (frame_bytes + change_bytes + map_bytes) + _TABLES_BYTES)


def write_results(
    forecast: Forecast, folder: Path, *, overwrite: bool, each_future: bool, displacement: bool, progress: Progress
) -> dict[str, str]:
    """See `Forecast.save`."""
    started = time.monotonic()
    options = {"each_future": each_future, "displacement": displacement}
    check_room(folder, forecast.inputs, len(forecast.years), forecast.futures, overwrite=overwrite, **options)
    with staged(folder, overwrite) as place:
        written, slices = _write_images(forecast, place, part(progress, 0.0, 0.8), **options)
        progress(0.8, "Writing tables and report")
        written["volumes.csv"] = "volume of every region and year with its bands, mm3"
        _write_volumes(forecast, place / "volumes.csv")
        try:
            write_figure(forecast, slices, place / "forecast.png")
            written["forecast.png"] = "the brain through the years, where it changes, volumes with bands"
        except ImportError:
            sentence = "The figure was left out: it needs matplotlib. Install it with: pip install matplotlib"
            forecast = dataclasses.replace(forecast, warnings=(*forecast.warnings, sentence))
        written["report.html"] = "everything on one page, for a web browser"
        written[RECORD] = "years, inputs, model, seed, versions, fold test: how this forecast was made"
        write_report(forecast, slices, place, written)
        seconds = {**forecast.seconds, "writing": time.monotonic() - started}
        text = json.dumps(record(forecast, written, seconds), indent=1, allow_nan=False)
        (place / RECORD).write_text(text + "\n", encoding="utf-8")
        progress(1.0, "Done")  # all but the delivery, after which nobody may stop this and say that nothing was written
    return written


@dataclass(frozen=True)
class _Track:
    """One image that is carried through the years: its file name, what that file holds, and what pulls it."""

    name: str
    what: str
    warped: WarpedImage | WarpedLabels


_CHANGE, _SPREAD = "volume_change", "volume_change_spread"
_MAPS = {
    _CHANGE: "change of volume since the scan, %, loss negative, one volume per year, in the scan's space",
    _SPREAD: "standard deviation of that change over the futures, % points",
}


def _write_images(
    forecast: Forecast, place: Path, progress: Progress, *, each_future: bool, displacement: bool
) -> tuple[dict[str, str], Slices]:
    """All images, one year in memory at a time. Returns what was written and the slices for figure and report."""
    written: dict[str, str] = {}
    scan, years = forecast.scan, forecast.years
    tracks = _tracks(forecast)
    slices = Slices(scan, forecast.aligned.labels)
    with tempfile.TemporaryDirectory(dir=place, prefix=".frames-") as folder:
        frames = [Frames(Path(folder, track.name), track.warped.image) for track in tracks]
        maps = {name: Frames(Path(folder, name), scan, np.float32) for name in _MAPS}
        for track, spool in zip(tracks, frames, strict=True):
            spool.append(track.warped.image.array)
        slices.add(0, scan.array)
        for k, year in enumerate(years):
            progress(k / len(years) * 0.6, f"Carrying the scan to year {year:g}")
            flow = forecast.flow(k)
            ratio = forecast.on_scan(flow.volume_ratio)
            moved: dict[Grid, torch.Tensor] = {}
            for track, spool in zip(tracks, frames, strict=True):
                grid = track.warped.image.grid
                if grid not in moved:
                    moved[grid] = forecast.displacement_vox(flow, grid)
                if isinstance(track.warped, WarpedLabels):
                    spool.append(track.warped.pulled(moved[grid], ratio))
                else:
                    spool.append(track.warped.pulled(moved[grid]))
            maps[_CHANGE].append(_rounded(100 * (ratio - 1)))
            maps[_SPREAD].append(_rounded(forecast.on_scan(forecast.spread_percent[k][None, None])))
            slices.add(year, frames[0].last(), maps[_CHANGE].last())
            if displacement:
                name = f"displacement_{year:g}y.nii.gz"
                coarse = map_grid(scan.grid)
                _write_displacement(forecast.displacement_vox(flow, coarse), coarse, place / name)
                written[name] = f"pull map to year {year:g}, RAS mm, for a grid transform of 3D Slicer"
        jobs: dict[Path, Callable[[Path], None]] = {}
        jobs[place / "forecast.seq.nrrd"] = partial(frames[0].write_sequence, years=(0, *years))
        for track, spool in zip(tracks, frames, strict=True):
            jobs[place / f"{track.name}.nii.gz"] = spool.write_nifti
            written[f"{track.name}.nii.gz"] = track.what
        written["forecast.seq.nrrd"] = "the same as a sequence for 3D Slicer, indexed in years"
        for name, what in _MAPS.items():
            jobs[place / f"{name}.nii.gz"] = maps[name].write_nifti
            written[f"{name}.nii.gz"] = what
        _pack(jobs, part(progress, 0.6, 0.7 if each_future else 1.0))
    if each_future:
        written |= _write_futures(forecast, place, part(progress, 0.7, 1.0))
    return written, slices


def _pack(jobs: Mapping[Path, Callable[[Path], None]], progress: Progress) -> None:
    """Write some files at a time: zlib lets other threads run. After a failure no further one is begun."""
    progress(0.0, "Packing the images")
    packers = ThreadPoolExecutor(min(_MOST_PACKERS, os.cpu_count() or 1))
    try:
        packed = [packers.submit(write, path) for path, write in jobs.items()]
        for count, file in enumerate(as_completed(packed), start=1):
            file.result()
            progress(count / len(packed), f"Packing the images, {count} of {len(packed)} done")
    finally:
        packers.shutdown(wait=True, cancel_futures=True)


def _tracks(forecast: Forecast) -> list[_Track]:
    """The scan first, then the segmentation and the other modalities."""
    given = forecast.inputs
    tracks = [_Track("forecast", "the expected brain: the scan, then one volume per year", forecast.warped_scan)]
    if given.segmentation is not None:
        warped = WarpedLabels(given.segmentation, forecast.device)
        tracks.append(_Track("segmentation", "the segmentation at the scan, then carried to each year", warped))
    for image in given.also:
        stem = Path(image.path.partition("::")[0]).name.partition(".")[0] or "image"
        name, number = f"also_{stem}", 1
        while name in {track.name for track in tracks}:
            number += 1
            name = f"also_{stem}_{number}"
        what = f"{stem} at the scan, then carried to each year"
        tracks.append(_Track(name, what, WarpedImage(image, forecast.device)))
    return tracks


def _write_futures(forecast: Forecast, place: Path, progress: Progress) -> dict[str, str]:
    """One 4D image for every future: the scan, then one volume per year."""
    written = {}
    for i in range(forecast.futures):
        progress(i / forecast.futures, f"Writing future {i + 1} of {forecast.futures}")
        name = f"future_{i + 1}.nii.gz"
        with tempfile.TemporaryDirectory(dir=place, prefix=".frames-") as folder:
            frames = Frames(Path(folder, "future"), forecast.scan)
            frames.append(forecast.scan.array)
            for k in range(len(forecast.years)):
                frames.append(forecast.image(k, i))
            frames.write_nifti(place / name)
        written[name] = f"one possible course, drawn with seed {forecast.seed + i}: the scan, then one volume per year"
    return written


def map_grid(grid: Grid) -> Grid:
    """The grid of the written displacements: along the axes of `grid`, from its first voxel to its last or beyond."""
    step_vox = [_MAP_STEP_MM / spacing for spacing in grid.spacing_mm]
    depth, height, width = (math.ceil((n - 1) / step) + 1 for n, step in zip(grid.shape, step_vox, strict=True))
    return Grid((depth, height, width), grid.affine @ np.diag([*step_vox, 1.0]))


def _write_displacement(displacement_vox: torch.Tensor, grid: Grid, path: Path) -> None:
    """A displacement field [D, H, W, 1, 3] in RAS mm as NIfTI; a grid transform from parent when 3D Slicer reads it."""
    field = native_grid.displacement_ras_mm(grid, displacement_vox)[0].movedim(0, -1)[:, :, :, None]
    image = nibabel.Nifti1Image(field.cpu().numpy().astype(np.float32), grid.affine)
    image.header.set_intent(_DISPLACEMENT_INTENT)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_volumes(forecast: Forecast, path: Path) -> None:
    rows = list(forecast.volumes.rows())
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})


def _rounded(percent: torch.Tensor) -> np.ndarray:
    return ((percent * _STEPS_PER_PERCENT).round() / _STEPS_PER_PERCENT).cpu().numpy()
