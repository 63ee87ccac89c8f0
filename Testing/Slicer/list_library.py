"""Write neuro4d_lib/CMakeLists.txt and the SCRIPTS lists of the modules anew: a file not listed would not be installed.

make list        or        python Testing/Slicer/list_library.py [--check]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = ROOT / "neuro4d_lib"
LEFT_OUT = {"__pycache__", "CMakeLists.txt", ".DS_Store"}

TEXT = """# Written by `make list` (Testing/Slicer/list_library.py). Installs the library beside the Slicer modules.
set(NEURO4D_LIB_SCRIPTS
{scripts}
  )

set(NEURO4D_LIB_RESOURCES
{resources}
  )

slicerMacroBuildScriptedModule(
  NAME neuro4d_lib
  SCRIPTS ${{NEURO4D_LIB_SCRIPTS}}
  RESOURCES ${{NEURO4D_LIB_RESOURCES}}
  WITH_SUBDIR
  )
"""


def library_files() -> tuple[list[str], list[str]]:
    """(Python files, everything else) of the library, relative to it."""
    files = [
        path for path in LIBRARY.rglob("*") if path.is_file() and not LEFT_OUT & set(path.relative_to(LIBRARY).parts)
    ]
    names = sorted(path.relative_to(LIBRARY).as_posix() for path in files if path.suffix != ".pyc")
    return [name for name in names if name.endswith(".py")], [name for name in names if not name.endswith(".py")]


def library_text() -> str:
    scripts, resources = library_files()
    return TEXT.format(
        scripts="\n".join(f"  {name}" for name in scripts), resources="\n".join(f"  {n}" for n in resources)
    )


def module_text(module: str) -> str:
    """The module's CMakeLists.txt with the list of its Lib brought up to date."""
    folder = ROOT / module
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    names = sorted(path.name for path in (folder / f"{module}Lib").glob("*.py"))
    wanted = "".join(f"  ${{MODULE_NAME}}Lib/{name}\n" for name in names)
    return re.sub(r"(  \$\{MODULE_NAME\}Lib/\w+\.py\n)+", lambda _: wanted, text)


def texts() -> dict[Path, str]:
    modules = ("Neuro4DForecast", "Neuro4DTraining")
    found = {ROOT / module / "CMakeLists.txt": module_text(module) for module in modules}
    return {LIBRARY / "CMakeLists.txt": library_text(), **found}


if __name__ == "__main__":
    old = [path for path, text in texts().items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv and old:
        sys.exit(f"{', '.join(str(path.relative_to(ROOT)) for path in old)}: not up to date, run `make list`.")
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
