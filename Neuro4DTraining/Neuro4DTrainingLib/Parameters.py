"""Every choice in the panel, kept in the scene and saved with it."""

from typing import Annotated

from Neuro4DForecastLib.Problem import Problem
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from Neuro4DTrainingLib import Entries


@parameterNodeWrapper
class Neuro4DTrainingParameterNode:
    """Texts stay as they were typed; `study` and `training` turn them into values or a Problem."""

    source: Annotated[str, Choice(Entries.SOURCES)] = Entries.OWN_STUDY
    study: str = ""
    columns: Annotated[str, Choice(list(Entries.COLUMNS))] = Entries.NO_COLUMNS
    columnsFile: str = ""
    files: str = ""
    prepared: str = ""
    workers: Annotated[int, WithinRange(0, 1024)] = 0
    quick: bool = False
    output: str = ""
    start: Annotated[str, Choice(Entries.STARTS)] = Entries.SHIPPED
    startFolder: str = ""
    steps: Annotated[int, WithinRange(1, 1_000_000)] = Entries.DEFAULTS[Entries.OWN_STUDY]["steps"]
    people: Annotated[int, WithinRange(1, 4096)] = Entries.DEFAULTS[Entries.OWN_STUDY]["people"]
    parts: Annotated[int, WithinRange(1, 4096)] = 1
    hours: Annotated[float, WithinRange(0, 10_000)] = 0.0
    precision: Annotated[str, Choice(Entries.PRECISIONS)] = "auto"
    saveMemory: bool = False
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    validateEvery: Annotated[int, WithinRange(1, 1_000_000)] = Entries.DEFAULTS[Entries.OWN_STUDY]["validateEvery"]
    saveEvery: Annotated[int, WithinRange(1, 1_000_000)] = Entries.DEFAULTS[Entries.OWN_STUDY]["saveEvery"]
    settingsFile: str = ""
    device: str = "auto"
    examples: bool = False


def changeDefaults(node: Neuro4DTrainingParameterNode, before: str) -> None:
    """What is learned from changed: where nothing else was chosen, take the defaults of what it is now."""
    for name, value in Entries.DEFAULTS[node.source].items():
        if getattr(node, name) == Entries.DEFAULTS[before][name]:
            setattr(node, name, value)


def study(node: Neuro4DTrainingParameterNode) -> Entries.Study:
    path = Entries.existing(node.study, "the folder or the table of a study", "study")
    if path.is_dir():
        return Entries.Study(path)
    return Entries.Study(path, Entries.columns(node.columns, node.columnsFile), node.files.strip())


def preparation(node: Neuro4DTrainingParameterNode) -> Entries.Preparation:
    """What a preparation is told; raises the first Problem."""
    chosen = study(node)
    output = Entries.outputFolder(node.prepared, "a folder for the prepared study", "prepared")
    return Entries.Preparation(chosen, output, node.workers, node.quick)


def training(node: Neuro4DTrainingParameterNode) -> Entries.Training:
    """What a training is told; raises the first Problem."""
    settings = Entries.settingsFile(node.settingsFile)
    chosen = {
        "steps": node.steps,
        "people": node.people,
        "parts": node.parts,
        "seconds": round(3600 * node.hours, 1),
        "precision": node.precision,
        "checkpointing": node.saveMemory,
        "seed": node.seed,
        "validate_every": node.validateEvery,
        "save_every": node.saveEvery,
    }
    if node.people % node.parts:
        raise Problem(
            f"{node.people} people cannot be computed in {node.parts} equal parts. Choose another number.", "parts"
        )
    return Entries.Training(
        output=Entries.outputFolder(node.output, "a folder for the run", "output"),
        prepared=None if node.source == Entries.SIMULATED else Entries.preparedFolder(node.prepared),
        start=None if node.source == Entries.SIMULATED else Entries.start(node.start, node.startFolder),
        settings={**settings, "training": {**settings.get("training", {}), **chosen}},
        device=node.device,
    )


def entryProblems(node: Neuro4DTrainingParameterNode) -> dict[str, Problem]:
    """Field of the panel -> what keeps a training from starting."""
    checks = {
        "output": lambda: Entries.outputFolder(node.output, "a folder for the run", "output"),
        "settingsFile": lambda: Entries.settingsFile(node.settingsFile),
        "parts": lambda: training(node),
    }
    if node.source == Entries.OWN_STUDY:
        checks["prepared"] = lambda: Entries.preparedFolder(node.prepared)
        checks["start"] = lambda: Entries.start(node.start, node.startFolder)
    found = {}
    for check in checks.values():
        try:
            check()
        except Problem as problem:
            found.setdefault(problem.field, problem)
    return found


def studyProblems(node: Neuro4DTrainingParameterNode) -> dict[str, Problem]:
    """Field of the panel -> what keeps a preparation from starting."""
    if node.source != Entries.OWN_STUDY:
        return {"source": Problem("Simulated people need no preparation.", "source", Entries.MISSING)}
    try:
        preparation(node)
    except Problem as problem:
        return {problem.field: problem}
    return {}
