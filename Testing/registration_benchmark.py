"""How well the motion between two scans is found: on simulated pairs, whose motion is known, beside other programs.

    python Testing/registration_benchmark.py --pairs 3 --output docs/benchmark/registration

Prints the table and writes it to OUTPUT.md and OUTPUT.csv. All programs get the same two images, rigidly aligned without
favoring one, on the 1.3 mm grid; their maps are compared with the true one, the errors of the rigid alignment included.
Regions are the true ones of the first scan; their change of volume is the mean of det J, for the true map as for the found.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from torch import Tensor

from neuro4d_lib.checkpoint import SHIPPED, load_network
from neuro4d_lib.data.agreement import local_agreement
from neuro4d_lib.data.alignment import align, reference_volumes
from neuro4d_lib.data.flow_volumes import FINE, REFINED, flow_vox, on_fine
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.preprocessing import to_reference
from neuro4d_lib.data.rate_fields import RateFields, measure_regions
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.regions import AGGREGATES, REGIONS
from neuro4d_lib.data.simulated_subjects import simulated_subjects
from neuro4d_lib.data.simulation import Simulator, simulate_scan
from neuro4d_lib.files import write_whole
from neuro4d_lib.geometry.deformation import compose
from neuro4d_lib.geometry.grids import identity, resample, sample, warp
from neuro4d_lib.geometry.jacobian import count_fold_failures, jacobian_determinant
from neuro4d_lib.geometry.registration import register_group
from neuro4d_lib.geometry.spaces import Grid
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.within_person import gathered

YEARS = 3.0
SHOWN = ("hippocampus", "lateral_ventricle", "cortex", "whole_brain")
DEMONS_LEVELS = ((4, 40), (2, 30), (1, 10))
DEMONS_SMOOTHING_VOX = 1.5


@dataclass(frozen=True, eq=False)
class Pair:
    """Two visits of a simulated person, three years apart, rigidly aligned, and the true map from the first to the second.

    Attributes:
        first, second, mask: [1, 1, 125, 157, 125], on FINE.
        true_vox: [1, 3, 125, 157, 125], voxels.
        labels: [125, 157, 125], regions at the first visit.
    """

    diagnosis: str
    first: Tensor
    second: Tensor
    mask: Tensor
    true_vox: Tensor
    labels: Tensor

    @staticmethod
    def of(simulator: Simulator, number: int, seed: int, spacing_mm: float) -> Pair:
        """Person `number` of a simulated cohort."""
        reference = simulator.reference
        generator = torch.Generator().manual_seed(1000 * seed + number)
        subject = simulated_subjects(number + 1, 2, seed)[number]
        psi_mm = simulator.shape(subject, generator)
        motion_mm = simulator.motion(subject, psi_mm, YEARS)
        settings = ScannerSettings(spacing_mm=(spacing_mm,) * 3, contrast=0)
        scans = [
            simulate_scan(reference, psi_mm, moved, settings, generator, head_size=subject.head_size)
            for moved in (torch.zeros_like(motion_mm), motion_mm)
        ]
        found = [align(scan.image, reference) for scan in scans]
        gathering = gathered([volume for _, volume in found], [fit.affine for fit, _ in found], reference)
        placed = [gathering.space.stretch @ pose for pose in gathering.space.poses]
        grid = scans[0].labels.grid
        labels = torch.from_numpy(scans[0].labels.array.astype(np.float32))[None, None]
        _, mask = reference_volumes(reference)
        return Pair(
            diagnosis=str(subject.covariates.diagnosis),
            first=gathering.images[0],
            second=gathering.images[1],
            mask=resample(mask.on(REFINED), REFINED, FINE),
            true_vox=_true_map(psi_mm, motion_mm, [scan.scan_to_aligned for scan in scans], placed),
            labels=resample(labels, Grid(grid.shape, placed[0] @ grid.affine), FINE, mode="nearest")[0, 0],
        )


def _true_map(psi_mm: Tensor, motion_mm: Tensor, true: list[np.ndarray], found: list[np.ndarray]) -> Tensor:
    """The displacement on FINE, in its voxels, from where the first scan was placed to where the second was."""
    motion_vox = on_fine(flow_vox(to_reference(motion_mm, -psi_mm)))
    places = _moved(np.linalg.solve(FINE.affine, true[0] @ np.linalg.inv(found[0]) @ FINE.affine), identity(FINE.shape))
    places = places + sample(motion_vox, places)
    places = _moved(np.linalg.solve(FINE.affine, found[1] @ np.linalg.inv(true[1]) @ FINE.affine), places)
    return places - identity(FINE.shape)


def _moved(matrix: np.ndarray, places: Tensor) -> Tensor:
    made = torch.from_numpy(matrix).float()
    return torch.einsum("ij,bjdhw->bidhw", made[:3, :3], places) + made[:3, 3].view(1, 3, 1, 1, 1)


def ours(pair: Pair, config: PreparationConfig) -> Tensor:
    """What `prepare` does."""
    motion_mm, _ = register_group(
        [pair.first, pair.second], pair.mask, similarity="ssd", iterations=config.iterations,
        regularization=config.regularization,
    )  # fmt: skip
    return compose(on_fine(flow_vox(motion_mm[1])), on_fine(flow_vox(-motion_mm[0])))


def demons(pair: Pair) -> Tensor:
    """SimpleITK's diffeomorphic demons (Vercauteren et al., 2009), coarse to fine, after matching the histograms."""
    fixed, moving = (_itk(image) for image in (pair.first, pair.second))
    moving = SimpleITK.HistogramMatching(moving, fixed, 256, 12, True)
    method = SimpleITK.DiffeomorphicDemonsRegistrationFilter()
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations(DEMONS_SMOOTHING_VOX)
    field = None
    for factor, iterations in DEMONS_LEVELS:
        small = [SimpleITK.Shrink(SimpleITK.SmoothingRecursiveGaussian(i, factor / 2), [factor] * 3) if factor > 1 else i
                 for i in (fixed, moving)]  # fmt: skip
        method.SetNumberOfIterations(iterations)
        if field is None:
            field = method.Execute(*small)
        else:
            start = SimpleITK.Resample(
                field, small[0], SimpleITK.Transform(), SimpleITK.sitkLinear, 0.0, field.GetPixelID()
            )
            field = method.Execute(*small, start)
    vectors = torch.from_numpy(SimpleITK.GetArrayFromImage(field)).float()  # [k, j, i, (x, y, z)], in voxels of FINE
    return vectors.permute(3, 2, 1, 0)[None].contiguous()


def demons_after_n4(pair: Pair) -> Tensor:
    """Demons takes shading for motion, so it is also given images without: N4 (Tustison et al., 2010) on each."""
    return demons(
        replace(pair, first=_without_shading(pair.first, pair.mask), second=_without_shading(pair.second, pair.mask))
    )


def _without_shading(image: Tensor, mask: Tensor) -> Tensor:
    whole, brain = _itk(image), SimpleITK.Cast(_itk(mask) > 0.5, SimpleITK.sitkUInt8)
    method = SimpleITK.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations([30, 30, 20])
    method.Execute(SimpleITK.Shrink(whole, [3] * 3), SimpleITK.Shrink(brain, [3] * 3))
    even = whole / SimpleITK.Exp(method.GetLogBiasFieldAsImage(whole))
    return torch.from_numpy(SimpleITK.GetArrayFromImage(even).transpose(2, 1, 0).copy()).float()[None, None]


def ants(pair: Pair) -> Tensor:
    """SyN of ANTs (Avants et al., 2008) through antspyx, where it is installed; local correlation."""
    import ants as package

    fixed, moving = (package.from_numpy(image[0, 0].numpy()) for image in (pair.first, pair.second))
    found = package.registration(
        fixed,
        moving,
        "SyNOnly",
        syn_metric="CC",
        syn_sampling=3,
        reg_iterations=(40, 20, 10),
        initial_transform="Identity",
    )
    warp_file = next(name for name in found["fwdtransforms"] if name.endswith("Warp.nii.gz"))
    vectors = torch.from_numpy(package.image_read(warp_file).numpy()).float()
    return vectors.permute(3, 0, 1, 2)[None].contiguous()


def _itk(image: Tensor) -> SimpleITK.Image:
    """With voxels of unit size, so that what comes back is in voxels."""
    return SimpleITK.GetImageFromArray(image[0, 0].numpy().transpose(2, 1, 0))


def scores(pair: Pair, found_vox: Tensor) -> dict[str, float]:
    """Errors in mm inside the brain, of volumes in % of the region, folds, agreement."""
    brain = pair.labels > 0
    miss_mm = (found_vox - pair.true_vox)[0].square().sum(dim=0).sqrt()[brain] * FINE.spacing_mm[0]
    ratios = [jacobian_determinant(field)[0, 0] for field in (pair.true_vox, found_vox)]
    table = {
        "error_mm": float(miss_mm.mean()),
        "error_p95_mm": float(miss_mm.quantile(0.95)) if miss_mm.numel() < 1 << 24 else float("nan"),
        "folds": count_fold_failures(found_vox).failed,
        "agreement": local_agreement(
            *(x[:, :, ::2, ::2, ::2] for x in (pair.first, warp(pair.second, found_vox), pair.mask))
        ),
    }
    misses = []
    for region in REGIONS[:-1]:
        inside = pair.labels == region.index
        true, found = (100 * (float(ratio[inside].mean()) - 1) for ratio in ratios)
        misses.append(abs(found - true))
    table["volume_error_percent"] = float(np.mean(misses))
    for name in SHOWN:
        members = [region.index for region in REGIONS if region.name in AGGREGATES[name]]
        inside = torch.isin(pair.labels, torch.tensor(members, dtype=pair.labels.dtype))
        for kind, ratio in zip(("true", "found"), ratios, strict=True):
            table[f"{name}_{kind}"] = 100 * (float(ratio[inside].mean()) - 1)
    return table


def measured(method: Callable[[Pair], Tensor], pair: Pair) -> dict[str, float]:
    """Scores, and seconds of computing on all cores together."""
    started = time.process_time()
    found = method(pair)
    return {"seconds": time.process_time() - started, **scores(pair, found)}


def table_of(rows: list[dict[str, float | str]], pairs: int, spacing_mm: float, seed: int) -> str:
    """Markdown: one line per method, means over the pairs."""
    lines = [
        f"Simulated pairs (ours, simulated people): {pairs} people, two scans of {spacing_mm:g} mm {YEARS:g} years apart, "
        f"noise 2 %, shading 10 %, seed {seed}. Made by `make registration-benchmark`. Seconds are those of one core for the registration "
        "alone. Shares are found over true change, both summed over people after weighting by the true change (1 is "
        "perfect).",
        "",
        "| method | error, mm | 95th percentile, mm | volume error, % of a region | "
        + " | ".join(f"share of {name.replace('_', ' ')}" for name in SHOWN)
        + " | folds | agreement | seconds |",
        "| --- |" + " --- |" * (6 + len(SHOWN)),
    ]
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]

        def mean(key: str, own: list = own) -> float:
            return float(np.mean([row[key] for row in own]))

        shares = []
        for name in SHOWN:
            true, found = (np.array([row[f"{name}_{kind}"] for row in own]) for kind in ("true", "found"))
            shares.append(f"{true @ found / (true @ true):.2f}")
        lines.append(
            f"| {method} | {mean('error_mm'):.3f} | {mean('error_p95_mm'):.3f} | {mean('volume_error_percent'):.2f} | "
            + " | ".join(shares)
            + f" | {mean('folds'):.0f} | {mean('agreement'):.3f} | {mean('seconds'):.0f} |"
        )
    return "\n".join(lines) + "\n"


def _write(stem: Path, text: str, rows: list[dict[str, float | str]]) -> None:
    write_whole(stem.with_suffix(".md"), f"# Registration\n\n{text}")
    with stem.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument(
        "--output", type=Path, metavar="STEM", help="writes STEM.md and STEM.csv, anew after every registration"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reference = Reference.load(SHIPPED)
    network, _ = load_network(SHIPPED)
    simulator = Simulator.of(reference, RateFields(network.deformation.fields.float(), *measure_regions(reference)))
    config = PreparationConfig()
    methods: dict[str, Callable[[Pair], Tensor]] = {
        "nothing": lambda pair: torch.zeros_like(pair.true_vox),
        "prepare --quick": lambda pair: ours(pair, config.coarser()),
        "prepare": lambda pair: ours(pair, config),
        "diffeomorphic demons (SimpleITK)": demons,
        "N4, then diffeomorphic demons (SimpleITK)": demons_after_n4,
    }
    try:
        import ants as _  # noqa: F401

        methods["SyN, CC (ANTs)"] = ants
    except ImportError:
        print("ANTs is not installed (antspyx): left out.")
    rows: list[dict[str, float | str]] = []
    text = ""
    for number in range(chosen.pairs):
        pair = Pair.of(simulator, number, chosen.seed, chosen.spacing)
        for name, method in methods.items():
            row = {"pair": number, "diagnosis": pair.diagnosis, "method": name, **measured(method, pair)}
            rows.append(row)
            print(
                ", ".join(
                    f"{key} {value:.3f}" if isinstance(value, float) else f"{value}" for key, value in row.items()
                ),
                flush=True,
            )
            text = table_of(rows, number + 1, chosen.spacing, chosen.seed)
            if chosen.output:
                _write(chosen.output, text, rows)
    print(text)


if __name__ == "__main__":
    main()
