"""A run's forecast as files for others: 4D NIfTI, .seq.nrrd, GIF, MP4, CSV, HTML; and 4D NIfTI back into a sequence."""

import csv
import itertools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import slicer

from Neuro4DForecastLib import FourD, Nodes, Results, SlicePictures, Views
from Neuro4DForecastLib.Problem import Problem

FORMATS = {
    "4D NIfTI (*.nii.gz)": ".nii.gz",
    "Slicer sequence (*.seq.nrrd)": ".seq.nrrd",
    "Moving picture (*.gif)": ".gif",
    "Film (*.mp4)": ".mp4",
    "Table of volumes (*.csv)": ".csv",
    "Report (*.html)": ".html",
}
SECONDS_PER_FRAME = 1 / Results.FRAMES_PER_SECOND
VIEWS = ["Red", "Yellow", "Green"]


def targets(path: Path | str) -> list[Path]:
    """All files that an export to this path writes: a 4D NIfTI has a file with its years beside it."""
    path = Path(path)
    return [path, FourD.sidecar(path)] if path.name.endswith(".nii.gz") else [path]


def export(run: Results.Run, path: Path | str, overwrite: bool = False) -> list[Path]:
    """Write a run in the format of the path's ending; returns what was written. Half a file is not left behind."""
    path = Path(path)
    ending = next((ending for ending in FORMATS.values() if path.name.endswith(ending)), None)
    if ending is None:
        raise Problem(f"{path.name} has none of the endings {', '.join(FORMATS.values())}.")
    write = {".nii.gz": nifti, ".seq.nrrd": sequence, ".gif": gif, ".mp4": mp4, ".csv": table, ".html": report}[ending]
    try:
        taken = [one.name for one in targets(path) if one.exists()]
        if taken and not overwrite:
            said = f"{path.parent} has {' and '.join(taken)} already."
            raise Problem(f"{said} Choose another name, or allow to overwrite.")
        with tempfile.TemporaryDirectory(prefix="n4d-", dir=path.parent) as folder:
            write(run, Path(folder) / path.name)
            written = sorted(Path(folder).iterdir())
            return [one.replace(path.parent / one.name) for one in written]
    except OSError as error:
        raise Problem(f"{path} could not be written: {error.strerror or error}. Choose another place.") from error


def frameNodes(run: Results.Run) -> list:
    """Volume of each year. A run that plays one moving volume makes them here, year by year."""
    if run.sequence is not None:
        return [run.sequence.GetNthDataNode(index) for index in range(run.sequence.GetNumberOfDataNodes())]
    raise Problem("This run plays one moving volume; it has no frames to export. Forecast again without “Save memory”.")


def nifti(run, path: Path) -> None:
    nodes = frameNodes(run)
    notes = {
        name: run.browser.GetAttribute(f"Neuro4D.{name}") for name in ("Note", "Model", "Seed", "Covariates", "Scan")
    }
    arrays = [Nodes.arrayOf(node) for node in nodes]
    FourD.write(path, arrays, Nodes.matrixOf(nodes[0]), run.years, {"provenance": notes})


def sequence(run, path: Path) -> None:
    frameNodes(run)
    storage = slicer.vtkMRMLVolumeSequenceStorageNode()
    storage.SetScene(slicer.mrmlScene)
    storage.SetFileName(str(path))
    if not storage.WriteData(run.sequence):
        raise Problem(f"Slicer could not write {path.name}.")


def pictures(run) -> list:
    note = run.browser.GetAttribute("Neuro4D.Note")
    shown = SlicePictures.throughTheYears(run, VIEWS)
    return [
        SlicePictures.labeled(pixels, f"{'scan' if year == 0 else f'+{year:g} years'}   {note}")
        for year, pixels in shown
    ]


def gif(run, path: Path) -> None:
    first, *rest = pictures(run)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 * SECONDS_PER_FRAME), loop=0)


def mp4(run, path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise Problem("A film needs the program ffmpeg, which was not found. Install it, or export a GIF instead.")
    with tempfile.TemporaryDirectory(prefix="n4d-film-") as folder:
        for index, image in enumerate(pictures(run)):
            width, height = (side // 2 * 2 for side in image.size)  # the codec wants even sides
            image.crop((0, 0, width, height)).save(Path(folder) / f"{index:03d}.png")
        command = [program, "-loglevel", "error", "-y", "-framerate", str(Results.FRAMES_PER_SECOND)]
        command += ["-i", str(Path(folder) / "%03d.png"), "-pix_fmt", "yuv420p", str(path)]
        # Slicer's own libraries, which its environment puts first, do not fit a program of the system.
        environment = slicer.util.startupEnvironment()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise Problem(f"ffmpeg could not make the film: {done.stderr.strip()[-300:]}")


def table(run, path: Path) -> None:
    node = run.node("volumes")
    if node is None:
        raise Problem("This run has no table of volumes.")
    columns = [node.GetTable().GetColumn(index) for index in range(node.GetNumberOfColumns())]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column.GetName() for column in columns])
        for row in range(node.GetNumberOfRows()):
            writer.writerow([column.GetValue(row) for column in columns])


def report(run, path: Path) -> None:
    node = run.node("report")
    if node is None:
        raise Problem("This run has no report.")
    path.write_text(node.GetText(), encoding="utf-8")


def loadSequence(path: Path | str):
    """Any 4D NIfTI as a sequence with its years (or time steps), its browser and its volume; returns the browser.

    Slicer itself does not read a 4D NIfTI as a sequence.
    """
    path = Path(path)
    image = FourD.header(path)
    if len(image.shape) != 4:
        raise Problem(f"{path.name} has {len(image.shape)} dimensions. A 4D NIfTI, one volume a time, was expected.")
    times, unit = FourD.timesOf(path, image)
    affine = np.asarray(image.affine, float)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    try:
        node.SetIndexName(Results.INDEX_NAME)
        node.SetIndexUnit(unit)
        smallest = min((later - time for time, later in itertools.pairwise(times)), default=1.0)
        node.SetNumericIndexValueTolerance(min(0.001, smallest / 2))  # or close frames would replace each other
        frames = (frame for frame in FourD.frames(path, image) if frame is not None)
        for time, frame in zip(times, frames, strict=True):
            node.SetDataNodeAtValue(Nodes.volumeNode(frame, affine, name), f"{time:g}")
    except BaseException:
        slicer.mrmlScene.RemoveNode(node)
        raise
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetPlaybackRateFps(Results.FRAMES_PER_SECOND)
    browser.SetAndObserveMasterSequenceNodeID(node.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(node)
    proxy.SetName(f"{name} now")
    low, high = (float(value) for value in np.percentile(Nodes.arrayOf(proxy)[::4, ::4, ::4], (1, 99.5)))
    proxy.CreateDefaultDisplayNodes()
    proxy.GetDisplayNode().SetAutoWindowLevel(False)
    proxy.GetDisplayNode().SetWindowLevelMinMax(low, max(high, low + 1e-3))
    Views.show(proxy)
    return browser


def provenance(run) -> str:
    """What a run was made from, in a few lines."""
    browser = run.browser
    value = lambda name: browser.GetAttribute(f"Neuro4D.{name}") or "unknown"  # noqa: E731
    lines = [value("Note"), f"Model: {value('Model')}", f"Seed: {value('Seed')}, futures: {value('Futures')}"]
    covariates = json.loads(browser.GetAttribute("Neuro4D.Covariates") or "null") or {}
    known = [
        f"{name.removesuffix('_years')} {fact:g}"
        if isinstance(fact, float)
        else f"{name.removesuffix('_years')} {fact}"
        for name, fact in covariates.items()
        if fact is not None
    ]
    lines.append(f"Known: {', '.join(known) or 'nothing'}")
    certificate = json.loads(browser.GetAttribute("Neuro4D.FoldCertificate") or "null") or {}
    if certificate:
        lines.append(f"Folds: {certificate.get('failed')} of {certificate.get('voxels')} voxels fail")
    return "\n".join(lines)
