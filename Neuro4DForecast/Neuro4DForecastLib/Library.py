"""Where `neuro4d_lib` lies: beside the installed module file, or one folder up in a source tree."""

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
