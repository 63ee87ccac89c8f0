"""Stands in for `python -m neuro4d_lib`: same arguments, same events, same files, but the "future" is the scan shifted
along its first axis by one voxel a year. NEURO4D_FAKE makes it slow, fail, crash, or start children.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

BEHAVIOR = os.environ.get("NEURO4D_FAKE", "")


def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["forecast"])
    parser.add_argument("scan")
    parser.add_argument("--output", required=True)
    parser.add_argument("--years", type=float, nargs="+", required=True)
    parser.add_argument("--progress", choices=["json"], required=True)
    parser.add_argument("--futures", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--displacement", action="store_true")
    parser.add_argument("--past", nargs="+", default=[])
    parser.add_argument("--segmentation")
    parser.add_argument("--also", nargs="+", default=[])
    parser.add_argument("--model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--age", type=float)
    parser.add_argument("--sex", choices=["F", "M"])
    parser.add_argument("--education", type=float)
    parser.add_argument("--apoe4", type=int)
    parser.add_argument("--diagnosis")
    return parser.parse_args()


def misbehave(options):
    if BEHAVIOR == "input":
        say("error", message=f"The scan {options.scan} has no brain in it: give a T1-weighted brain scan.")
        sys.exit(2)
    texts = {
        "full": "RuntimeError: DefaultCPUAllocator: can't allocate memory",
        "gpu": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "notorch": "ModuleNotFoundError: No module named 'torch'",
        "cuda": "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "space": "OSError: [Errno 28] No space left on device: 'out/forecast.nii.gz'",
        "registration": "RuntimeError: registration failed: the scan could not be aligned",
        "memory": "MemoryError",
        "strange": "ZeroDivisionError: division by zero",
    }
    if BEHAVIOR in texts:
        print(f"Traceback (most recent call last):\n{texts[BEHAVIOR]}", file=sys.stderr)
        sys.exit(1)
    if BEHAVIOR == "crash":
        os.abort()
    if BEHAVIOR == "killed":
        os.kill(os.getpid(), 9)
    if BEHAVIOR in ("children", "slow"):
        children = []
        if BEHAVIOR == "children":
            sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
            children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
        Path("half-written.bin").write_bytes(bytes(5_000_000))
        say("progress", fraction=0.1, message=f"children {[child.pid for child in children]}", seconds_left=60.0)
        for index in range(600):
            say("progress", fraction=0.1 + index / 1000, message="Working", seconds_left=60 - index / 10)
            time.sleep(0.1)


def shifted(array, voxels):
    result = np.zeros_like(array)
    result[: array.shape[0] - voxels] = array[voxels:]
    return result


def main():
    options = arguments()
    misbehave(options)
    scan = nibabel.load(options.scan)
    array, affine = np.asarray(scan.dataobj), scan.affine
    out = Path(options.output)
    out.mkdir()
    years = options.years
    say("progress", fraction=0.3, message="Drawing futures", seconds_left=1.0)

    def save(name, data):
        nibabel.save(nibabel.Nifti1Image(data, affine), out / name)
        return name

    def moved(data):
        return np.stack([shifted(data, round(year)) for year in [0, *years]], axis=-1)

    save("forecast.nii.gz", moved(array))
    change = np.stack([np.full(array.shape, -year, np.float32) for year in years], axis=-1)
    save("volume_change.nii.gz", change)
    save("volume_change_spread.nii.gz", np.abs(change) / 2)
    if options.segmentation:
        save("segmentation.nii.gz", moved(np.asarray(nibabel.load(options.segmentation).dataobj)))
    for name in options.also:
        save(f"also_{Path(name).stem}.nii.gz", moved(np.asarray(nibabel.load(name).dataobj)))
    if options.displacement:
        coarse = affine @ np.diag([2, 2, 2, 1])  # every second voxel, to the last one or beyond
        shape = [size // 2 + 1 for size in array.shape]
        for year in years:
            field = np.zeros((*shape, 1, 3), np.float32)
            field[..., 0, :] = affine[:3, 0] * round(year)
            image = nibabel.Nifti1Image(field, coarse)
            image.header.set_intent(1006)
            nibabel.save(image, out / f"displacement_{year:g}y.nii.gz")
    bands = ["low_50", "high_50", "low_80", "high_80", "low_90", "high_90", "low_95", "high_95"]
    with (out / "volumes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["region", "year", "median", *bands, "copy_last", "group_rate", "baseline"])
        for region, volume in (("hippocampus_left", 3500), ("lateral_ventricle", 20000)):
            for year in years:
                median = volume * (1 - 0.02 * year)
                spread = [median * (1 + sign * 0.01 * k) for k in (1, 2, 3, 4) for sign in (-1, 1)]
                writer.writerow([region, year, median, *spread, volume, volume * (1 - 0.01 * year), volume])
    facts = {
        "schema_version": 1,
        "years": years,
        "futures": options.futures,
        "seed": options.seed,
        "network_calls": 20,
        "seconds": 1.0,
        "peak_memory_bytes": 10**9,
        "model": {"name": Path(options.model).name if options.model else "fake", "sha256": "0" * 64},
        "registration": {},
        "fold_certificate": {"voxels": int(array.size), "determinants_per_voxel": 10, "failed": 0},
        "outputs": {},
        "covariates": {"age": options.age, "sex": options.sex, "diagnosis": options.diagnosis},
        "warnings": [],
        "arguments": sys.argv[1:],
    }
    (out / "forecast.json").write_text(json.dumps(facts), encoding="utf-8")
    (out / "report.html").write_text("<html><body>Simulated. Research use only.</body></html>", encoding="utf-8")
    if BEHAVIOR == "broken":
        (out / "volume_change.nii.gz").write_bytes((out / "volume_change.nii.gz").read_bytes()[:200])
    say("progress", fraction=1.0, message="Done", seconds_left=0.0)
    say("done", folder=options.output, files={}, warnings=[])


if __name__ == "__main__":
    main()
