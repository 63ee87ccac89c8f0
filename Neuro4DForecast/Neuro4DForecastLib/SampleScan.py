"""A brain scan that comes with the extension: the reference image of the shipped model, an average of many people."""

import hashlib

import slicer

from Neuro4DForecastLib import Library, Models, Nodes, Views
from Neuro4DForecastLib.Problem import Problem

NAME = "Neuro4DSampleBrain"
PERSON = {"age": "74", "sex": "F", "education": "16", "apoe4": "1", "diagnosis": "MCI"}
PATTERNS = ("sample*.nii.gz", "reference_T1*.nii.gz", "reference_image*.nii.gz", "reference*.nii.gz")


def path():
    """The sample's file inside the library; a Problem where none was shipped."""
    for model in Models.shipped():
        for pattern in PATTERNS:
            for found in sorted(model.folder.glob(pattern)):
                return found
    raise Problem("No sample scan comes with this installation. Load a scan of your own, for example MRHead.", "scan")


def load():
    """The sample as a volume, shown in the slice views."""
    file = path()
    existing = slicer.mrmlScene.GetFirstNodeByName(NAME)
    if existing is not None and Nodes.problemWith(existing) is None:
        return existing
    node = slicer.modules.volumes.logic().AddArchetypeVolume(str(file), NAME, 0)
    if node is None:
        raise Problem(f"The sample scan {file} could not be read. Install the extension again.", "scan")
    node.SetName(NAME)
    Views.show(node)
    return node


def register() -> None:
    """Offer the sample in Slicer's Sample Data module. The file is local, so it works without a network."""
    try:
        import SampleData

        file = path()
    except (ImportError, Problem):
        return  # no Sample Data module in this Slicer, or no model shipped: nothing to offer
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Neuro4D",
        sampleName=NAME,
        uris=file.as_uri(),
        fileNames=f"{NAME}.nii.gz",
        nodeNames=NAME,
        thumbnailFileName=str(Library.MODULE_FOLDER / "Resources" / "Icons" / f"{NAME}.png"),
        checksums=f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
        loadFileTypes="VolumeFile",
    )
