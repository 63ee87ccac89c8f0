"""`make fold-survey`: many forecasts of different people, and the fold test on every image each of them could deliver.

Scans are simulated (`simulate`): other shapes, diagnoses, voxel sizes, with and without skull; with `--scans` also the
files named. Prints one line per forecast and the sum; ends with status 1 if any voxel fails.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from neuro4d_lib import Covariates, forecast
from neuro4d_lib.data.cohort import write_cohort
from neuro4d_lib.data.population_config import PopulationConfig, ScannerSettings
from neuro4d_lib.data.rate_fields import rate_fields
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.reference import build_reference
from neuro4d_lib.data.simulated_subjects import simulated_subjects
from neuro4d_lib.data.simulation import Simulator
from neuro4d_lib.errors import InputError

SCANNERS = (((1.5, 1.5, 1.5), False), ((1.0, 1.0, 3.0), True), ((2.0, 2.0, 2.0), True), ((1.2, 1.2, 1.2), False))
HORIZONS = ((1, 2, 3, 5), (0.5, 2, 10), (5, 10), (1, 4, 7), (3,))


def simulated_scans(folder: Path, count: int) -> list[Path]:
    """One scan of each of `count` people; the scanner changes from one to the next."""
    reference = build_reference()
    simulator = Simulator.of(reference, rate_fields(reference))
    scans = []
    for i, subject in enumerate(simulated_subjects(count, 1, seed=50)):
        spacing, whole_head = SCANNERS[i % len(SCANNERS)]
        place, config = folder / f"{i}", PopulationConfig(scanner=ScannerSettings(spacing_mm=spacing))
        write_cohort(simulator, [subject], place, config, whole_head=whole_head, seed=i)
        scans += sorted(place.glob("sub-*/**/*_T1w.nii.gz"))
    return scans


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecasts", type=int, default=50, help="how many (default: 50)")
    parser.add_argument("--futures", type=int, default=2, help="of each (default: 2)")
    parser.add_argument("--people", type=int, default=8, help="simulated scans (default: 8)")
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="real scans to forecast too")
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    voxels = maps = failed = mended = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        scans = simulated_scans(Path(folder), chosen.people) + chosen.scans
        for i in range(chosen.forecasts):
            scan, diagnosis = scans[i % len(scans)], DIAGNOSES[i % len(DIAGNOSES)]
            age, years = float(random.integers(45, 96)), HORIZONS[int(random.integers(len(HORIZONS)))]
            covariates = Covariates(age=age, sex="FM"[i // 2 % 2], apoe4=int(random.integers(3)), diagnosis=diagnosis)
            try:
                made = forecast(scan, covariates, years, futures=chosen.futures, seed=1000 * i)
            except InputError as error:
                refused += 1
                print(f"{i + 1}: {scan.name} refused: {error}", flush=True)
                continue
            size = " x ".join(map(str, made.scan.array.shape))
            print(
                f"{i + 1}: {scan.name}, {size}, {diagnosis}, {age:.0f} years old, years {years}: "
                f"{made.fold_tested_maps} maps, {made.folds.voxels} voxels, {made.folds.failed} fail, {made.folds.mended} mended",
                flush=True,
            )
            voxels, maps, failed = voxels + made.folds.voxels, maps + made.fold_tested_maps, failed + made.folds.failed
            mended += made.folds.mended
    print(
        f"{chosen.forecasts - refused} forecasts, {maps} maps, {voxels} voxels, 10 determinants each: {failed} fail, "
        f"{mended} mended"
    )
    return 1 if failed or refused else 0


if __name__ == "__main__":
    sys.exit(main())
