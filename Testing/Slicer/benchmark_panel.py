"""What the panel costs: `python Testing/Slicer/benchmark_panel.py` (part of `make benchmark`).

Runs the real panel with the real worker and the shipped model over its 1 mm scan for six years, in turn with the same
forecast by the command line alone. With --fake (or without a shipped model) the stand-in worker takes the command line's
place, over a head of 182 x 218 x 182 voxels: it takes much less time, so the share of the panel is larger.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "Neuro4DForecast"), str(ROOT)]
SHAPE = (182, 218, 182)
YEARS = "1-6"


def resident_bytes() -> float:
    """Memory of this process now (Linux), else the most it ever had."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # freed memory is given back, or it would hide what comes next
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def synthetic_head():
    import slicer
    from Neuro4DForecastLib import Nodes

    axes = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    array = np.where(radius < 0.9, 400 - 200 * radius + noise, 0).astype(np.int16)
    return slicer.mrmlScene.AddNode(Nodes.volumeNode(array, np.diag([1.0, 1, 1, 1]), "head"))


def scan(shipped):
    import slicer

    files = [path for model in shipped for path in sorted(model.folder.glob("*T1*.nii.gz"))]
    return slicer.modules.volumes.logic().AddArchetypeVolume(str(files[0]), "head", 0) if files else synthetic_head()


def forecast(app, panel, moving: bool) -> dict:
    """Click and wait; what was measured on the way."""
    from stand_in.heartbeat import Heartbeat

    panel.ui.movingVolumeCheck.checked = moving
    app.processEvents()
    before, heartbeat, estimate = resident_bytes(), Heartbeat(), panel.run._estimate
    while not heartbeat.ticks:
        app.processEvents()
    clicked = time.perf_counter()
    panel.ui.forecastButton.click()
    returned = time.perf_counter()
    while panel.run.running:
        app.processEvents()
        time.sleep(0.001)
    ended = time.perf_counter()
    if panel.playback.run is None:
        raise SystemExit(panel.ui.statusLabel.text)
    panel.ui.playButton.checked = False
    return {
        "click_seconds": returned - clicked,
        "first_frame_seconds": panel.logic.job.secondsToFirstFrame,
        "all_frames_seconds": ended - clicked,
        "longest_gap_ms": 1000 * heartbeat.longest_seconds(),
        "longest_work_ms": 1000 * heartbeat.longest_work_seconds(),
        "memory_mb": (resident_bytes() - before) / 1e6,
        "estimated_seconds": estimate.seconds,
        "estimated_worker_gb": estimate.workerBytes / 1e9,
        "estimated_memory_mb": estimate.slicerBytes / 1e6,
        "worker_gb": panel.logic.job.facts["peak_memory_bytes"] / 1e9,
    }


def alone(panel) -> float:
    """Seconds of the command line for the same forecast, without the panel and without what only the panel asks for."""
    from Neuro4DForecastLib import Library, Models, Nodes
    from Neuro4DForecastLib.Logic import Given

    request, volumes = panel.inputs.request(), panel.inputs.volumes()
    model = Models.load(request.model) if request.model else None
    with tempfile.TemporaryDirectory() as folder:
        given = Given.of(volumes["scan"], [], None, [])
        Nodes.writeNifti(Path(folder) / "scan.nii", given.scan.array, given.scan.affine)
        command = panel.logic._command(request, given, model)
        command.remove("--displacement")
        environment = {**os.environ, **Library.workerEnvironment(Path(folder), request.device)}
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def cancel_seconds(app, panel, fake: bool) -> float:
    """From the click on Cancel, in the middle of the work, until no process and no file is left."""
    from Neuro4DForecastLib import ProcessTree

    os.environ["NEURO4D_FAKE"] = "children" if fake else ""
    panel.ui.forecastButton.click()
    while panel.ui.progressBar.value < 50:
        if not panel.run.running:
            raise SystemExit(panel.ui.statusLabel.text)
        app.processEvents()
        time.sleep(0.001)
    folder, family = panel.logic.job.folder, {panel.logic.job.pid, *ProcessTree.descendants(panel.logic.job.pid)}
    started = time.perf_counter()
    panel.ui.forecastButton.click()
    while folder.exists() or family & set(ProcessTree.parents()):
        time.sleep(0.001)
    seconds = time.perf_counter() - started
    os.environ["NEURO4D_FAKE"] = ""
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fake", action="store_true", help="the stand-in worker, even where a model is shipped")
    parser.add_argument("--repeats", type=int, default=2, help="the quickest of so many runs counts (default: 2)")
    options = parser.parse_args()
    import stand_in
    from stand_in.application import load_module, open_panel, temporary_folder

    app = stand_in.install(temporary_folder())
    module = load_module(ROOT / "Neuro4DForecast" / "Neuro4DForecast.py")
    from Neuro4DForecastLib import Models

    shipped = [] if options.fake else Models.shipped()
    node = scan(shipped)
    node.CreateDefaultDisplayNodes()
    panel = open_panel(module)
    panel.ui.yearsEdit.text = YEARS
    if not shipped:
        panel.logic.worker = [sys.executable, str(HERE / "fake_worker.py")]
        folder = Path(app.temporaryPath) / "model"
        folder.mkdir()
        (folder / "card.json").write_text('{"name": "stand-in"}')
        (folder / "weights.safetensors").write_bytes(b"")
        panel.logic.getParameterNode().model = str(folder)
    command, frames, moving = [], [], []
    for _ in range(options.repeats):  # in turn: a machine that grows busier does so for all of them
        command.append(alone(panel))
        for moved, kept in ((False, frames), (True, moving)):
            kept.append(forecast(app, panel, moving=moved))
            panel.ui.removeButton.click()
    report(node, bool(shipped), min(command), best(frames), best(moving), cancel_seconds(app, panel, not shipped))


def best(runs: list[dict]) -> dict:
    """The quickest of each time; the longest of all gaps; memory and estimates of the first run, before any learning."""
    first = {key: value for key, value in runs[0].items() if "memory" in key or "estimated" in key}
    longest = {key: max(run[key] for run in runs) for key in runs[0] if "longest" in key}
    return {key: min(run[key] for run in runs) for key in runs[0]} | first | longest


def report(node, shipped: bool, command: float, frames: dict, moving: dict, cancel: float) -> None:
    print(f"panel, {'x'.join(map(str, node.GetImageData().GetDimensions()))} voxels, {YEARS} years, "
          f"{'shipped model' if shipped else 'stand-in worker'}")  # fmt: skip
    print("  clicks from a loaded volume to a playing sequence: 2 (open the module, Forecast)")
    print(f"  command line alone                 {command:8.2f} s")
    print(f"  Forecast to first frame            {frames['first_frame_seconds']:8.2f} s")
    print(f"  Forecast to all frames             {frames['all_frames_seconds']:8.2f} s")
    overhead = frames["all_frames_seconds"] - command
    print(
        f"  panel overhead                     {overhead:8.2f} s ({100 * overhead / command:.0f} % of the command line)"
    )
    print(f"  estimated before                   {frames['estimated_seconds']:8.2f} s, {frames['estimated_worker_gb']:.2f} GB "
          f"for the worker, which took {frames['worker_gb']:.2f} GB")  # fmt: skip
    print(f"  the click itself                   {1000 * frames['click_seconds']:8.0f} ms")
    for what, run in (("", frames), (", one moving volume", moving)):
        print(f"  longest hold of the event loop     {run['longest_gap_ms']:8.0f} ms (bound: 100{what}), "
              f"of it {run['longest_work_ms']:.0f} ms work of the panel")  # fmt: skip
    print(f"  cancel to nothing left             {cancel:8.2f} s (bound: 3)")
    for what, run in (("memory of seven frames and maps", frames), ("the same, one moving volume", moving)):
        print(f"  {what:34s} {run['memory_mb']:8.0f} MB (estimated: {run['estimated_memory_mb']:.0f})")
    print(
        json.dumps(
            {"panel": {"command_line_seconds": command, "frames": frames, "moving": moving, "cancel_seconds": cancel}}
        )
    )


if __name__ == "__main__":
    main()
