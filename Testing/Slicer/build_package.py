"""Build the archive that Slicer's "Install extension from file" accepts, without a Slicer build tree.

    make package     or     python Testing/Slicer/build_package.py --output dist [--system linux]

The archive has one top folder with lib/Slicer-X.Y/qt-scripted-modules and share/Slicer-X.Y/Neuro4D.s4ext for every
supported Slicer X.Y; Slicer looks only into its own. What goes in is what CMakeLists.txt list.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VERSIONS = ("5.10", "5.12", "5.13")
# macOS wants the folder of one revision of Slicer; the others take any.
MAC_REVISIONS = {"5.10": "34045", "5.12": "34627"}
FIELDS = {
    "HOMEPAGE": "homepage",
    "CONTRIBUTORS": "contributors",
    "CATEGORY": "category",
    "ICONURL": "iconurl",
    "DESCRIPTION": "description",
    "SCREENSHOTURLS": "screenshoturls",
    "DEPENDS": "depends",
}


def metadata() -> dict[str, str]:
    """The EXTENSION_* values of the top CMakeLists.txt, under their names in an .s4ext file."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"\)', text))
    missing = sorted(set(FIELDS) - set(found))
    if missing:
        raise SystemExit(f"CMakeLists.txt does not set EXTENSION_{missing[0]}.")
    return {key: found[name] for name, key in FIELDS.items()}


def revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def s4ext() -> str:
    values = {
        "scm": "git",
        "scmurl": metadata()["homepage"] + ".git",
        "scmrevision": revision(),
        "build_subdirectory": ".",
    }
    values |= metadata() | {"enabled": "1", "status": "Development"}
    return "".join(f"{key} {value}\n" for key, value in values.items())


def listed(folder: Path) -> list[str]:
    """Files that a module's CMakeLists.txt install, relative to the module."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", text).replace("${MODULE_NAME}", folder.name)
    words = re.findall(r"[\w.@/+-]+\.[\w]+", text)
    return sorted(set(words))


def contents() -> dict[str, bytes]:
    """Path below qt-scripted-modules -> bytes."""
    found = {}
    for module, prefix in (("Neuro4DForecast", ""), ("Neuro4DTraining", ""), ("neuro4d_lib", "neuro4d_lib/")):
        for name in listed(ROOT / module):
            path = ROOT / module / name
            if not path.is_file():
                raise SystemExit(f"{path.relative_to(ROOT)} is listed in CMakeLists.txt but does not exist.")
            if prefix + name in found:
                raise SystemExit(f"{prefix + name} is installed twice.")
            found[prefix + name] = path.read_bytes()
    return found


def layout(system: str) -> dict[str, bytes]:
    """Path in the archive -> bytes, below one top folder."""
    files, about, top = contents(), s4ext().encode(), f"Neuro4D-{revision()}-{system}"
    found = {}
    for version in VERSIONS:
        base = top
        if system == "macosx":
            if version not in MAC_REVISIONS:
                continue
            base = f"{top}/Slicer.app/Contents/Extensions-{MAC_REVISIONS[version]}/Neuro4D"
        for name, data in files.items():
            found[f"{base}/lib/Slicer-{version}/qt-scripted-modules/{name}"] = data
        found[f"{base}/share/Slicer-{version}/Neuro4D.s4ext"] = about
        found[f"{base}/share/Slicer-{version}/Neuro4D/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return found


def build(output: Path, system: str) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    files = layout(system)
    if system == "win":
        path = output / f"Neuro4D-{revision()}-{system}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    path = output / f"Neuro4D-{revision()}-{system}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    here = {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux")
    parser.add_argument("--system", choices=["linux", "macosx", "win"], default=here)
    options = parser.parse_args()
    print(build(options.output, options.system))
