"""Where `neuro4d_lib` lies: beside the installed module file, or one folder up in a source tree."""

import os
import sys
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parent.parent


def libraryParent() -> Path:
    for folder in (MODULE_FOLDER, MODULE_FOLDER.parent):
        if (folder / "neuro4d_lib" / "__init__.py").is_file():
            return folder
    raise FileNotFoundError(
        f"The library neuro4d_lib was not found beside {MODULE_FOLDER}. Install the Neuro4D extension again, or keep "
        "the module folder inside its repository."
    )


def makeImportable() -> None:
    """Let `import neuro4d_lib` find the library that belongs to this module."""
    folder = str(libraryParent())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def workerEnvironment(temporary: Path, device: str) -> dict[str, str]:
    """What a worker's environment has beyond Slicer's own. Any library's temporary files go to `temporary`.

    Args:
        device: auto, cpu or cuda:N, the only graphics card that the worker sees.
    """
    paths = [str(libraryParent()), str(MODULE_FOLDER), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    else:
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's own order, by which the panel counts
    if ":" in device:
        environment["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
    return environment
