"""A finished forecast: what was drawn and measured; its images are made on demand, one at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro4d_lib.data.preprocessing import AlignedScan
from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting import native_grid
from neuro4d_lib.forecasting.ensemble import VolumeTable
from neuro4d_lib.forecasting.inputs import Inputs
from neuro4d_lib.forecasting.label_warping import WarpedLabels
from neuro4d_lib.forecasting.warping import WarpedImage
from neuro4d_lib.geometry.jacobian import FoldCount
from neuro4d_lib.geometry.spaces import Grid
from neuro4d_lib.geometry.unfolding import unfolded
from neuro4d_lib.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Forecast:
    """The brain of one person in the coming years. `save` writes everything; the methods give single images.

    Attributes:
        inputs: what it was made from.
        years: T years after the scan, ascending.
        seed: future i was drawn with the seed `seed` + i.
        model: card of the model.
        model_sha256: hash of its weights.
        network_calls: passes through the network for one future, all years together.
        aligned: how the scan lies in the model's space, and its regions.
        registration: quality of all registrations, ready for JSON.
        psi_vox: the map to reference space on the refined lattice [1, 3, 71, 87, 71], voxels of it.
        drawn_mm: mean velocities as control points in reference space [n, T, 3, 32, 40, 32], mm per year.
        volumes: of every region.
        spread_percent: standard deviation of the volume change over futures [T, 141, 173, 141] on the fine lattice.
        folds: outcome of the fold test over all maps, on all voxels of the grids that images are delivered on.
        fold_tested_maps: number of these maps.
        warnings: sentences that the reader of the result has to see.
        seconds: time that each stage took.
    """

    inputs: Inputs
    years: tuple[float, ...]
    seed: int
    model: Mapping[str, Any]
    model_sha256: str
    network_calls: int
    aligned: AlignedScan
    registration: Mapping[str, Any]
    psi_vox: Tensor
    drawn_mm: Tensor
    volumes: VolumeTable
    spread_percent: Tensor
    folds: FoldCount
    fold_tested_maps: int
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def scan(self) -> Image:
        return self.inputs.scan

    @property
    def futures(self) -> int:
        return len(self.drawn_mm)

    def flow(self, time: int, future: int | None = None) -> native_grid.Flow:
        """The motion until year number `time` (from 0): the central one, through the mean velocity, or a future's."""
        drawn = self.drawn_mm[:, time].mean(dim=0) if future is None else self.drawn_mm[future, time]
        return native_grid.flow(native_grid.carried_to_aligned(drawn[None], self.psi_vox)[0], self.years[time])

    def displacement_vox(self, flow: native_grid.Flow, grid: Grid | None = None) -> Tensor:
        """The pull map of a flow, [1, 3, D, H, W] in voxels of the scan's grid or another one in its space."""
        displacement_vox = native_grid.displacement_on(grid or self.scan.grid, self.aligned.affine, flow.pull_mm)
        return unfolded(displacement_vox).displacement_vox if self.folds.mended else displacement_vox

    def image(self, time: int, future: int | None = None) -> np.ndarray:
        """The scan as it is expected to look at year number `time`: [D, H, W] in its own type."""
        return self.warped_scan.pulled(self.displacement_vox(self.flow(time, future)))

    def segmentation(self, time: int, future: int | None = None) -> np.ndarray:
        """The segmentation carried to year number `time`: [D, H, W] in its own type."""
        if self.inputs.segmentation is None:
            raise ValueError("No segmentation was given to this forecast.")
        flow = self.flow(time, future)
        labels = WarpedLabels(self.inputs.segmentation, self.device)
        return labels.pulled(self.displacement_vox(flow), self.on_scan(flow.volume_ratio))

    def volume_change_percent(self, time: int, future: int | None = None) -> np.ndarray:
        """Change of volume until year number `time` at every voxel of the scan, %, loss negative: [D, H, W] float32."""
        return self.on_scan(100 * (self.flow(time, future).volume_ratio - 1)).cpu().numpy()

    def on_scan(self, lattice_values: Tensor) -> Tensor:
        """Values on the fine lattice [1, 1, 141, 173, 141] at the voxels of the scan: [D, H, W] float32."""
        return native_grid.values_on(self.scan.grid, self.aligned.affine, lattice_values)[0, 0]

    @cached_property
    def warped_scan(self) -> WarpedImage:
        """The scan, ready to be pulled through maps."""
        return WarpedImage(self.scan, self.device)

    @property
    def device(self) -> torch.device:
        return self.drawn_mm.device

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        each_future: bool = False,
        displacement: bool = False,
        progress: Progress = silent,
    ) -> dict[str, str]:
        """Write images, tables, figure, report and record into a folder, all or nothing.

        Args:
            overwrite: replace an earlier forecast there, once this one is complete.
            each_future: a 4D image for every future too.
            displacement: the maps themselves too, as displacement fields for 3D Slicer's grid transforms.

        Returns:
            The name of each file written and what it is.
        """
        from neuro4d_lib.forecasting.outputs import write_results

        options = {"overwrite": overwrite, "each_future": each_future, "displacement": displacement}
        return write_results(self, Path(folder), progress=progress, **options)
