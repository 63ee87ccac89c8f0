"""Every choice in the panel, kept in the scene and saved with it."""

from typing import Annotated, Union

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from Neuro4DForecastLib import Entries
from Neuro4DForecastLib.Problem import Problem


@parameterNodeWrapper
class Neuro4DForecastParameterNode:
    """Texts stay as they were typed; `request` turns them into values or a Problem."""

    scan: vtkMRMLScalarVolumeNode
    earlierScans: list[vtkMRMLScalarVolumeNode]
    earlierYears: list[str]
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 (what Slicer reads)
    otherVolumes: list[vtkMRMLScalarVolumeNode]
    age: str = ""
    sex: Annotated[str, Choice(Entries.SEXES)] = Entries.UNKNOWN
    education: str = ""
    apoe4: Annotated[str, Choice(Entries.APOE4_COUNTS)] = Entries.UNKNOWN
    diagnosis: Annotated[str, Choice(Entries.DIAGNOSES)] = Entries.UNKNOWN
    years: str = "1 2 3 5"
    futures: Annotated[int, WithinRange(1, 200)] = 8
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    model: str = ""
    device: str = "auto"
    movingVolume: bool = False


def request(node: Neuro4DForecastParameterNode) -> Entries.Request:
    """The values behind the texts; raises the first Problem."""
    covariates = Entries.covariates(node.age, node.sex, node.education, node.apoe4, node.diagnosis)
    return Entries.Request(
        years=Entries.years(node.years),
        covariates=covariates,
        futures=node.futures,
        seed=node.seed,
        model=node.model,
        device=node.device,
        movingVolume=node.movingVolume,
    )


def earlier(node: Neuro4DForecastParameterNode) -> list[tuple]:
    """(volume, years before the scan) of each earlier scan."""
    pairs = zip(node.earlierScans, node.earlierYears, strict=False)
    return [(volume, Entries.yearsBefore(text)) for volume, text in pairs]


def entryProblems(node: Neuro4DForecastParameterNode) -> dict[str, str]:
    """Field of the panel -> sentence about what was typed there."""
    texts = {
        "age": lambda: Entries.number(node.age, 18, 100, "age", "years", "age"),
        "education": lambda: Entries.number(node.education, 0, 30, "education", "years", "education"),
        "years": lambda: Entries.years(node.years),
        "earlierScans": lambda: earlier(node),
    }
    found = {}
    for field, read in texts.items():
        try:
            read()
        except Problem as problem:
            found[field] = problem.sentence
    return found
