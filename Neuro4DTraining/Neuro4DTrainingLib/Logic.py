"""Study -> prepared study -> model, each by the command line in a process of its own. No widget."""

import json
import time
from dataclasses import replace
from pathlib import Path

import slicer
from Neuro4DForecastLib import Dependencies, Library, Models, RunFolder
from Neuro4DForecastLib.Library import makeImportable
from Neuro4DForecastLib.Logic import Neuro4DForecastLogic, pythonProgram, workerCommand
from Neuro4DForecastLib.Problem import Problem
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from Neuro4DTrainingLib import Entries, Failures, Parameters
from Neuro4DTrainingLib.Example import Example
from Neuro4DTrainingLib.Question import Question
from Neuro4DTrainingLib.Work import ACTIVE, PLACE, Work

REQUIREMENTS = Path(__file__).resolve().parent.parent / "Resources" / "neuro4d-training-requirements.txt"
REST_SECONDS = 60.0  # a log that changed more recently may be one that somebody else is writing


class Neuro4DTrainingLogic(ScriptedLoadableModuleLogic):
    """Prepare a study and train on it, from a script or from the panel.

    In Slicer's Python console:

        from Neuro4DTraining import Neuro4DTrainingLogic
        logic = Neuro4DTrainingLogic()
        prepared = logic.prepare("/data/study", "/data/prepared")
        prepared.poll(), prepared.message          # goes on by itself, also when Slicer is closed
        run = logic.train("/data/run", prepared="/data/prepared", steps=2000)
        run.poll(), run.fraction
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        makeImportable()
        self.worker = [pythonProgram(), "-m", "neuro4d_lib"]  # outlives Slicer
        self.asker = workerCommand()  # ends with it
        self.modelMaker = [pythonProgram(), str(Path(__file__).with_name("UnfinishedModel.py"))]
        self._estimates: Path | None = None

    def getParameterNode(self):
        return Parameters.Neuro4DTrainingParameterNode(super().getParameterNode())

    def prepare(self, study, output, columns="", files="", workers=0, quick=False) -> Work:
        """Begin to prepare a study; see Entries.Study and Entries.Preparation."""
        chosen = Entries.Study(Path(study).resolve(), str(columns), files)
        return self.startPreparation(Entries.Preparation(chosen, Path(output).resolve(), workers, quick))

    def train(self, output, prepared=None, start=None, device="auto", **settings) -> Work:
        """Begin to train.

        Args:
            output: folder of the run.
            prepared: folder of a prepared study; None trains on simulated people.
            start: model folder to start from; None trains anew.
            settings: of training, such as steps=2000.
        """
        training = Entries.Training(
            output=Entries.outputFolder(str(output), "a folder for the run", "output"),
            prepared=Entries.preparedFolder(str(prepared)) if prepared else None,
            start=Path(start).resolve() if start else None,
            settings={"training": settings},
            device=device,
        )
        return self.startTraining(training)

    # commands

    def readStudy(self, study: Entries.Study) -> Question:
        """Ask what is understood of a study; nothing of it is changed."""
        question = Question([*self.asker, "study", *study.arguments(), "--json"])
        question.start()
        return question

    def askEstimate(self, training: Entries.Training) -> Question:
        """Ask what a training on a study takes in time, memory and disk. Nothing is written into its folder."""
        question = Question([], training.device)
        try:
            if self._estimates is None or not self._estimates.is_dir():
                self._estimates = RunFolder.make(slicer.app.temporaryPath)  # keeps the anatomy, which takes a minute
            settings = question.folder / "settings.json"
            settings.write_text(json.dumps(training.settings), encoding="utf-8")
        except OSError as error:
            raise Problem(Failures.SENTENCES["notWritable"], kind="notWritable") from error
        words = replace(training, output=self._estimates / "run").arguments()
        config = ["--config", str(settings), "--estimate", "--progress", "json"]
        question.command = [*self.asker, "train", *words, *config]
        question.start()
        return question

    def close(self) -> None:
        """No file of an estimate stays."""
        if self._estimates is not None:
            RunFolder.remove(self._estimates)
            self._estimates = None

    def askPreparation(self, preparation: Entries.Preparation) -> Question:
        """Ask what a preparation takes in time, memory and disk."""
        question = Question([*self.asker, "prepare", *preparation.arguments(), "--estimate", "--progress", "json"])
        question.start()
        return question

    def preparationIn(self, folder: Path) -> Work:
        """The work that prepares a study in this folder. Its record lies beside the folder, which has to begin empty."""
        return Work(folder, folder.with_name(f"{folder.name}.{PLACE}"))

    def startPreparation(self, preparation: Entries.Preparation) -> Work:
        requirePackages()
        study, output = preparation.study.path.resolve(), preparation.output.resolve()
        if study in (output, output.parent, *output.parents):
            raise Problem("The prepared study cannot lie inside the study, to which nothing is written.", "prepared")
        work = self.preparationIn(preparation.output)
        command = [*self.worker, "prepare", *preparation.arguments(), "--progress", "json"]
        work.start(command, Library.workerEnvironment(work.place, "auto"))
        return work

    def startTraining(self, training: Entries.Training) -> Work:
        from neuro4d_lib import files

        requirePackages()
        work = Work(training.output)
        if work.poll() in ACTIVE:
            raise Problem(f"{training.output} is in use: {work.state.value}.", "output", kind="busy")
        requireRest(training.output)
        settings = training.output / PLACE / "settings.json"
        try:
            files.write_whole(settings, json.dumps(training.settings, indent=1))
        except OSError as error:
            raise Problem(
                f"The folder {training.output} cannot be written ({error.strerror or error}). Choose one in which you may "
                "write.",
                "output",
                kind="notWritable",
            ) from error
        command = [*self.worker, "train", *training.arguments(), "--config", str(settings), "--progress", "json"]
        work.start(command, Library.workerEnvironment(work.place, training.device), training.device)
        return work

    def resume(self, work: Work) -> None:
        """Start what was stopped, killed or failed again, with what it was told then; it goes on from its whole files."""
        requirePackages()
        record = work.record
        if record is None:
            raise Problem(f"Nothing was started in {work.folder} by this panel.", "output")
        command = [*self.worker, *_afterWorker(record.command)]
        work.start(command, Library.workerEnvironment(work.place, record.device), record.device)

    def example(self, run: Path, step: int) -> Example:
        """A forecast of the sample brain with the weights that a run has at this moment."""
        command = Work(run).current()
        named = command[command.index("--from") + 1] if "--from" in command else ""
        shipped = Models.shipped()
        if not named and not shipped:
            raise Problem("No model comes with this installation, so there is no sample brain.", "output")
        reference = Path(named) if named else shipped[0].folder
        return Example(self.modelMaker, self.asker, Neuro4DForecastLogic(), run, step, reference)

    def useModel(self, folder: Path) -> None:
        """Let the forecast panel forecast with this model, and go there."""
        Models.load(folder)  # a Problem where it is none
        Neuro4DForecastLogic().getParameterNode().model = str(folder)
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule("Neuro4DForecast")


def requirePackages() -> None:
    """A Problem that names the first package that training lacks."""
    found = Dependencies.lacking(REQUIREMENTS)
    if not found:
        return
    first = found[0]
    if first.name == "torch":
        kind = "halfTorch" if first.state == "half" else "noTorch"
        raise Problem(Failures.SENTENCES[kind], kind=kind)
    raise Problem(Failures.missing(first.name), kind="noPackage")


def _afterWorker(command: list[str]) -> list[str]:
    """The arguments of a recorded command: this Slicer's Python may lie elsewhere than the one that wrote it."""
    names = ("prepare", "train")
    place = next(index for index, word in enumerate(command) if word in names)
    return command[place:]


def requireRest(run: Path) -> None:
    """A Problem where a run without a panel's record is being written right now, by a command line for example."""
    log = run / "log.jsonl"
    if (run / PLACE / "record.json").exists() or not log.is_file():
        return
    ago = time.time() - log.stat().st_mtime
    if ago < REST_SECONDS:
        raise Problem(
            f"The log of {run} changed {ago:.0f} s ago: a command line seems to train there. Wait for it, or choose "
            "another folder.",
            "output",
            kind="busy",
        )
