"""A forecast from start to end: nodes -> files -> the command line in its own process -> nodes. No widget."""

import enum
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from Neuro4DForecastLib import (
    Dependencies,
    Entries,
    Estimate,
    Failures,
    Library,
    Machine,
    Models,
    Nodes,
    Parameters,
    Results,
    RunFolder,
)
from Neuro4DForecastLib.BackgroundRun import BackgroundRun, State
from Neuro4DForecastLib.Problem import Problem, withNames

SLICE_SECONDS = 0.02  # the longest that loading results may hold up the panel at a time
LEARNED = "Neuro4D/SecondsFactor"  # in the settings: by kind of device, what runs really took over what was said
WORKER_SHARE = 0.95  # of the progress bar; the rest is loading


@dataclass(frozen=True)
class Given:
    """All that a forecast takes from the scene, as it was when Forecast was pressed.

    Attributes:
        files: name of a file of the run -> voxels and matrix that go into it.
        names: name of a file of the run -> name of the node behind it.
        labels: label -> name and color, of the segmentation.
        others: names of the other modalities.
        yearsBefore: of the earlier scans.
    """

    scan: Nodes.Snapshot
    files: dict[str, tuple]
    names: dict[str, str]
    labels: dict
    others: list[str]
    yearsBefore: list[float]

    @classmethod
    def of(cls, scan, earlier, segmentation, others) -> "Given":
        """Copies of the nodes' voxels; raises a Problem for a node that cannot be used."""
        taken, labels = Nodes.snapshot(scan), {}
        files, names = {"scan.nii": (taken.array, taken.affine)}, {"scan.nii": taken.name}
        past = [(f"past{index}.nii", node, "earlierScans") for index, (node, _) in enumerate(earlier)]
        also = [(f"also{index}.nii", node, "otherVolumes") for index, node in enumerate(others)]
        for name, node, field in [*past, *also]:
            other = Nodes.snapshot(node, field)
            files[name], names[name] = (other.array, other.affine), other.name
        if segmentation is not None:
            array, labels = Nodes.labelSnapshot(segmentation, taken)
            files["segmentation.nii"], names["segmentation.nii"] = (array, taken.affine), segmentation.GetName()
        return cls(taken, files, names, labels, [node.GetName() for node in others], [years for _, years in earlier])


class Stage(enum.Enum):
    PREPARING = "preparing"
    WORKING = "working"
    LOADING = "loading"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


class Job:
    """One forecast under way. `poll` drives it and never holds up its caller; callbacks tell how it goes."""

    def __init__(self, run: BackgroundRun, folder: Path, given: Given, moving: bool) -> None:
        self._run, self.folder, self._given, self._moving = run, folder, given, moving
        self._unwritten = dict(given.files)
        self._importer: Results.Importer | None = None
        self._steps = None
        self.stage = Stage.PREPARING
        self.result: Results.Run | None = None
        self.problem: Problem | None = None
        self.log = ""
        self.facts: dict = {}
        self.startedAt = time.monotonic()
        self.secondsToFirstFrame = self.seconds = 0.0
        self.onProgress: Callable[[float, str, float | None], None] = lambda fraction, message, secondsLeft: None
        self.onEnd: Callable[[Job], None] = lambda job: None
        run.onProgress = lambda fraction, message, left: self.onProgress(fraction * WORKER_SHARE, message, left)

    @property
    def active(self) -> bool:
        return self.stage in (Stage.PREPARING, Stage.WORKING, Stage.LOADING)

    @property
    def pid(self) -> int:
        """Process id of the worker; -1 before there is one."""
        return self._run.pid

    def poll(self) -> Stage:
        try:
            if self.stage is Stage.PREPARING:
                self._prepare()
            elif self.stage is Stage.WORKING:
                self._work()
            if self.stage is Stage.LOADING:
                self._load()
        except Problem as problem:
            self._end(Stage.FAILED, problem)
        except Exception as error:  # a defect of ours: the scene stays clean and the sentence names it
            self._end(Stage.FAILED, Problem(f"The forecast could not be loaded: {type(error).__name__}: {error}."))
            raise
        return self.stage

    def _prepare(self) -> None:
        """Write one file of what was given, or start the worker when all are there."""
        if not self._unwritten:
            self._run.start()
            self.stage = Stage.WORKING
            return
        if "nibabel" not in sys.modules:
            import nibabel  # noqa: F401 (a step of its own: it takes as long as writing a file)

            return
        name = next(iter(self._unwritten))
        array, affine = self._unwritten.pop(name)
        try:
            Nodes.writeNifti(self.folder / name, array, affine)
        except OSError as error:
            raise Problem(spaceSentence(error, self.folder.parent), kind="noSpace") from error

    def _work(self) -> None:
        state = self._run.poll()
        if state is State.FAILED:
            problem = self._run.problem
            self._end(Stage.FAILED, Problem(withNames(problem.sentence, self._given.names), kind=problem.kind))
        elif state is State.SUCCEEDED:
            output = self.folder / "out"
            given = self._given
            self._importer = importer = Results.Importer(output, given.scan, given.labels, given.others, self._moving)
            self.result, self.facts = importer.run, importer.facts
            self.result.warnings = [withNames(warning, self._given.names) for warning in importer.run.warnings]
            self._steps = importer.steps()
            self.stage = Stage.LOADING

    def _load(self) -> None:
        until = time.monotonic() + SLICE_SECONDS
        while time.monotonic() < until:
            step = next(self._steps, None)
            if step is None:
                self._end(Stage.DONE)
                return
            fraction, message = step
            if not self.secondsToFirstFrame and self._importer.shown:
                self.secondsToFirstFrame = time.monotonic() - self.startedAt
            self.onProgress(WORKER_SHARE + (1 - WORKER_SHARE) * fraction, message, None)

    def cancel(self) -> None:
        """Kill the processes, delete the files, leave the scene as it was before."""
        if not self.active:
            return
        self._run.cancel()
        if self._steps is not None:
            self._steps.close()
        self._end(Stage.CANCELED)

    def _end(self, stage: Stage, problem: Problem | None = None) -> None:
        self.stage, self.problem = stage, problem
        if stage is not Stage.DONE:
            self.result = None
        self.seconds = time.monotonic() - self.startedAt
        self.log = self._run.log()
        self._importer = self._steps = self._given = None  # with the copies of the images that they hold
        RunFolder.remove(self.folder)
        self.onEnd(self)


def pythonProgram() -> str:
    """Slicer's own Python, which knows where Slicer's libraries lie; elsewhere the Python that runs this."""
    return shutil.which("PythonSlicer") or sys.executable


def workerCommand() -> list[str]:
    """The command line that ends with this Slicer."""
    return [pythonProgram(), "-m", "Neuro4DForecastLib.Worker", str(os.getpid())]


class Neuro4DForecastLogic(ScriptedLoadableModuleLogic):
    """Forecast a brain scan from a script or from the panel.

    In Slicer's Python console:

        from Neuro4DForecast import Neuro4DForecastLogic
        run = Neuro4DForecastLogic().forecast(getNode("MRHead"), years=[1, 2, 3, 5], age=74, sex="F", diagnosis="MCI")
        run.browser, run.sequence
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.job: Job | None = None
        self.worker = workerCommand()

    def getParameterNode(self):
        return Parameters.Neuro4DForecastParameterNode(super().getParameterNode())

    def forecast(
        self,
        scan,
        years,
        *,
        earlier=(),
        segmentation=None,
        others=(),
        futures=8,
        seed=0,
        model="",
        device="auto",
        movingVolume=False,
        progress=None,
        **covariates,
    ) -> Results.Run:
        """Forecast and wait for it; Slicer's windows stay alive meanwhile.

        Args:
            scan: volume node.
            years: years ahead.
            earlier: pairs of (volume node, years before the scan).
            segmentation: segmentation or label map node that rides along.
            others: further volume nodes that ride along.
            futures: number of futures drawn; bands need some.
            seed: the same seed gives the same forecast.
            model: model folder; empty for the shipped one.
            device: auto, cpu or cuda:N.
            movingVolume: play one moving volume instead of a copy for each year.
            progress: called with (fraction, message, seconds left or None).
            covariates: age, sex, education, apoe4, diagnosis; leave out what is unknown.

        Raises:
            Problem: with a sentence for a person.
        """
        request = Entries.Request(
            years=Entries.years(" ".join(f"{year:g}" for year in years)),
            covariates=checkedCovariates(covariates),
            futures=futures, seed=seed, model=str(model), device=device, movingVolume=movingVolume,
        )  # fmt: skip
        job = self.start(request, scan, earlier, segmentation, others)
        if progress:
            job.onProgress = progress
        try:
            while job.active:
                slicer.app.processEvents()
                job.poll()
                if job.stage is Stage.WORKING:
                    time.sleep(0.02)
        finally:
            job.cancel()  # an interrupt leaves nothing behind; a job that has ended stays as it is
        if job.problem:
            raise job.problem
        if job.result is None:
            raise Problem("The forecast was canceled.", kind="canceled")
        return job.result

    def start(self, request: Entries.Request, scan, earlier=(), segmentation=None, others=()) -> Job:
        """Begin a forecast; the caller polls the job. Nothing is left behind if it cannot begin."""
        if self.job is not None and self.job.active:
            raise Problem("A forecast is already running. Wait for it, or press Cancel first.", kind="busy")
        Dependencies.requireComplete()
        model = Models.load(request.model) if request.model else None
        given = Given.of(scan, earlier, segmentation, others)
        command = self._command(request, given, model)
        folder = self._newFolder(given.scan, request)
        run = BackgroundRun(command, folder, Library.workerEnvironment(folder, request.device))
        self.job = Job(run, folder, given, request.movingVolume)
        return self.job

    def _newFolder(self, scan: Nodes.Snapshot, request: Entries.Request) -> Path:
        base = slicer.app.temporaryPath
        try:
            folder = RunFolder.make(base)
        except OSError as error:
            raise Problem(f"{Failures.KNOWN['notWritable'][1]} (It is {base}.)", kind="notWritable") from error
        wanted = scan.array.size * 4 * (len(request.years) + 2) * 2
        if shutil.disk_usage(folder).free < wanted:
            RunFolder.remove(folder)
            raise Problem(f"{Failures.KNOWN['noSpace'][1]} (About {wanted / 1e9:.1f} GB are needed.)", kind="noSpace")
        return folder

    def _command(self, request, given: Given, model) -> list[str]:
        """The command of a run. Names of files are short and relative: no long or foreign path reaches it."""
        command = [*self.worker, "forecast", "scan.nii", "--output", "out", "--progress", "json"]
        command += ["--years", *(f"{year:g}" for year in request.years)]
        command += ["--futures", str(request.futures), "--seed", str(request.seed), "--displacement"]
        for name, value in request.covariates.items():
            command += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
        if given.yearsBefore:
            command += ["--past", *(f"past{index}.nii:-{years:g}" for index, years in enumerate(given.yearsBefore))]
        if "segmentation.nii" in given.files:
            command += ["--segmentation", "segmentation.nii"]
        if given.others:
            command += ["--also", *(f"also{index}.nii" for index in range(len(given.others)))]
        if model is not None:
            command += ["--model", str(model.folder.resolve())]
        return [*command, "--device", request.device.partition(":")[0]]

    def estimate(
        self, request: Entries.Request, device: Machine.Device, scan, earlier=(), segmentation=None, others=()
    ) -> Estimate.Estimate:
        """What `start` with the same arguments would take."""
        image = scan.GetImageData()
        size = Estimate.Size(
            voxels=image.GetNumberOfPoints(),
            voxelBytes=image.GetScalarSize(),
            voxelMm3=math.prod(scan.GetSpacing()),
            years=len(request.years),
            futures=request.futures,
            earlier=len(earlier),
            others=len(others),
            segmentation=segmentation is not None,
            moving=request.movingVolume,
        )
        return Estimate.estimate(size, device, self._factor(device.key.partition(":")[0]))

    def learn(self, estimate: Estimate.Estimate, seconds: float) -> None:
        """Remember how this machine compares with the one the estimate was made on."""
        factor = min(max(self._factor(estimate.kind) * seconds / estimate.seconds, 0.05), 50.0)
        slicer.app.userSettings().setValue(f"{LEARNED}/{estimate.kind}", factor)

    def _factor(self, kind: str) -> float:
        settings = slicer.app.userSettings()
        return slicer.util.settingsValue(f"{LEARNED}/{kind}", 1.0, converter=float, settings=settings)


def checkedCovariates(given: dict) -> dict:
    """Covariates of a script, by the same rules as the panel's."""
    known = ("age", "sex", "education", "apoe4", "diagnosis")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise Problem(f"“{unknown[0]}” is not known. A forecast takes {', '.join(known)}.", unknown[0])
    texts = {name: Entries.UNKNOWN if given.get(name) is None else str(given[name]) for name in known}
    if texts["apoe4"] not in Entries.APOE4_COUNTS:
        raise Problem(f"The number of APOE e4 alleles is {texts['apoe4']}. Expected 0, 1 or 2.", "apoe4")
    return Entries.covariates(texts["age"], texts["sex"], texts["education"], texts["apoe4"], texts["diagnosis"])


def spaceSentence(error: OSError, folder: Path) -> str:
    kind = "noSpace" if error.errno == 28 else "notWritable"
    return f"{Failures.KNOWN[kind][1]} ({folder}: {error.strerror or error}.)"
