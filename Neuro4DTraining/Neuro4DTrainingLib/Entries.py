"""What the panel asks, as values: the choices, and what a training is told."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from Neuro4DForecastLib import Models
from Neuro4DForecastLib.Problem import Problem

OWN_STUDY, SIMULATED = "A study of my own", "Simulated people (no study needed)"
SOURCES = [OWN_STUDY, SIMULATED]
NO_COLUMNS, COLUMNS_FILE = "Neuro4D's own names", "A file that names them…"
COLUMNS = {NO_COLUMNS: "", "ADNI (ADNIMERGE)": "adnimerge", "OASIS-3": "oasis3", COLUMNS_FILE: ""}
SHIPPED, ANEW, OTHER_MODEL = "The shipped model (for small studies)", "Nothing: train anew", "Another model folder…"
STARTS = [SHIPPED, ANEW, OTHER_MODEL]
PRECISIONS = ["auto", "float32", "bfloat16"]
# As the command line's: a study has few people, and its network seldom gains by many steps.
DEFAULTS = {
    OWN_STUDY: {"steps": 1000, "people": 16, "validateEvery": 50, "saveEvery": 50},
    SIMULATED: {"steps": 6000, "people": 48, "validateEvery": 500, "saveEvery": 500},
}
MISSING = "missing"  # kind of a Problem: nothing is wrong, something has yet to be chosen or done


@dataclass(frozen=True)
class Study:
    """What `study` and `prepare` read.

    Attributes:
        columns: of a table, a known mapping or a file of one; may be empty.
        files: of a table without paths, where its scans are; may be empty.
    """

    path: Path
    columns: str = ""
    files: str = ""

    def arguments(self) -> list[str]:
        words = [str(self.path), *(["--columns", self.columns] if self.columns else [])]
        return [*words, *(["--files", self.files] if self.files else [])]


@dataclass(frozen=True)
class Preparation:
    """What `prepare` is told. `workers`: processes; 0 is one for each core. `quick`: coarser, in half the time."""

    study: Study
    output: Path
    workers: int = 0
    quick: bool = False

    def arguments(self) -> list[str]:
        words = [*self.study.arguments(), "--output", str(self.output)]
        words += ["--workers", str(self.workers)] if self.workers else []
        return [*words, *(["--quick"] if self.quick else [])]


@dataclass(frozen=True)
class Training:
    """What `train` is told.

    Attributes:
        prepared: folder of a prepared study; None trains on simulated people.
        start: model folder to start from; None trains anew.
        settings: as `--config` reads them.
    """

    output: Path
    prepared: Path | None = None
    start: Path | None = None
    settings: dict = field(default_factory=dict)
    device: str = "auto"

    def arguments(self) -> list[str]:
        words = [str(self.prepared)] if self.prepared else []
        words += ["--output", str(self.output), "--device", self.device.partition(":")[0]]
        return [*words, *(["--from", str(self.start)] if self.start else [])]


def existing(text: str, what: str, name: str) -> Path:
    """The file or folder that was typed; a Problem of the field `name` where there is none."""
    if not text.strip():
        raise Problem(f"Choose {what}.", name, MISSING)
    path = Path(text.strip()).expanduser()
    if not path.exists():
        raise Problem(f"{path} does not exist. Choose {what}.", name)
    return path.resolve()


def outputFolder(text: str, what: str, name: str) -> Path:
    if not text.strip():
        raise Problem(f"Choose {what}.", name, MISSING)
    path = Path(text.strip()).expanduser()
    if not path.is_absolute():
        raise Problem(f"{path} does not say in which folder it lies. Choose {what} by its whole path.", name)
    if path.exists() and not path.is_dir():
        raise Problem(f"{path} is a file. Choose {what}.", name)
    return path


def preparedFolder(text: str) -> Path:
    path = outputFolder(text, "a folder for the prepared study", "prepared")
    about = path / "prepared.json"
    if not about.is_file():
        raise Problem(f"{path} holds no prepared study yet. Press “Prepare” first.", "prepared", MISSING)
    try:
        complete = json.loads(about.read_text(encoding="utf-8")).get("complete", True)
    except (OSError, ValueError, AttributeError) as error:
        raise Problem(f"{about} cannot be read ({error}). Prepare the study again.", "prepared") from error
    if not complete:
        raise Problem(f"The study in {path} is not prepared to the end yet.", "prepared", MISSING)
    return path


def columns(choice: str, file: str) -> str:
    return (
        str(existing(file, "the file that names the columns", "columns")) if choice == COLUMNS_FILE else COLUMNS[choice]
    )


def start(choice: str, folder: str) -> Path | None:
    if choice == ANEW:
        return None
    if choice == SHIPPED:
        models = Models.shipped()
        if not models:
            raise Problem("No model comes with this installation. Train anew, or choose a model folder.", "start")
        return models[0].folder
    try:
        return Models.load(existing(folder, "the folder of a model", "start")).folder
    except Problem as problem:
        raise Problem(problem.sentence, "start") from problem


def settingsFile(text: str) -> dict:
    """Settings of the person's own; those of the panel are put over them."""
    if not text.strip():
        return {}
    path = existing(text, "a settings file, or leave it empty", "settingsFile")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read as JSON ({error}).", "settingsFile") from error
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise Problem(f'{path} holds no settings. Expected {{"training": {{...}}, "model": {{...}}}}.', "settingsFile")
    return found
