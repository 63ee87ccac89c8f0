"""What the panel costs: `python Testing/Slicer/benchmark_panel.py` (part of `make benchmark`).

Runs the real panel over a 1 mm scan for six years, next to the same command line alone. Without a shipped model the
stand-in worker takes the command line's place; the real one takes much longer, so the share of the panel is smaller.
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
    import qt

    panel.ui.movingVolumeCheck.checked = moving
    app.processEvents()
    before, ticks = resident_bytes(), []
    timer = qt.QTimer()
    timer.setInterval(5)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    clicked = time.perf_counter()
    panel.ui.forecastButton.click()
    returned = time.perf_counter()
    ticks.clear()
    while panel.run.running:
        app.processEvents()
        time.sleep(0.001)
    ended = time.perf_counter()
    timer.stop()
    if panel.playback.run is None:
        raise SystemExit(panel.ui.statusLabel.text)
    panel.ui.playButton.checked = False
    return {
        "click_seconds": returned - clicked,
        "first_frame_seconds": panel.logic.job.secondsToFirstFrame,
        "all_frames_seconds": ended - clicked,
        "longest_gap_ms": 1000 * float(np.diff(ticks).max()),
        "memory_mb": (resident_bytes() - before) / 1e6,
    }


def alone(panel) -> float:
    """Seconds of the same command line without the panel."""
    with tempfile.TemporaryDirectory() as folder:
        request, volumes = panel.inputs.request(), panel.inputs.volumes()
        from Neuro4DForecastLib import Models, Nodes

        model = Models.load(request.model) if request.model else None
        taken = Nodes.snapshot(volumes["scan"])
        command, _ = panel.logic._prepare(Path(folder), request, taken, [], None, [], model)
        environment = {**os.environ, **panel.logic._environment(request.device)}
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def cancel_seconds(app, panel) -> float:
    """From the click on Cancel until no process and no file is left."""
    os.environ["NEURO4D_FAKE"] = "children"
    worker, panel.logic.worker = panel.logic.worker, [sys.executable, str(HERE / "fake_worker.py")]
    from Neuro4DForecastLib import ProcessTree

    panel.ui.forecastButton.click()
    while len(ProcessTree.descendants(panel.logic.job.pid)) < 2:
        app.processEvents()
    folder, family = panel.logic.job.folder, {panel.logic.job.pid, *ProcessTree.descendants(panel.logic.job.pid)}
    started = time.perf_counter()
    panel.ui.forecastButton.click()
    while folder.exists() or family & set(ProcessTree.parents()):
        time.sleep(0.001)
    seconds = time.perf_counter() - started
    os.environ["NEURO4D_FAKE"] = ""
    panel.logic.worker = worker
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fake", action="store_true", help="the stand-in worker, even where a model is shipped")
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
    command = alone(panel)
    moving = forecast(app, panel, moving=True)
    panel.ui.removeButton.click()
    frames = forecast(app, panel, moving=False)
    panel.ui.removeButton.click()
    cancel = cancel_seconds(app, panel)
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
    print(f"  the click itself                   {1000 * frames['click_seconds']:8.0f} ms")
    print(f"  longest hold of the event loop     {frames['longest_gap_ms']:8.0f} ms (bound: 100; "
          f"{moving['longest_gap_ms']:.0f} with one moving volume)")  # fmt: skip
    print(f"  cancel to nothing left             {cancel:8.2f} s (bound: 3)")
    print(f"  memory of seven frames and maps    {frames['memory_mb']:8.0f} MB")
    print(f"  the same, one moving volume        {moving['memory_mb']:8.0f} MB")
    print(
        json.dumps(
            {"panel": {"command_line_seconds": command, "frames": frames, "moving": moving, "cancel_seconds": cancel}}
        )
    )


if __name__ == "__main__":
    main()
