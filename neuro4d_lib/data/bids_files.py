"""The anatomical images and sidecars of a BIDS data set, and what lies there under names that BIDS does not have.

Names and entities are read by ancpbids.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neuro4d_lib.data.study_records import Findings
from neuro4d_lib.errors import InputError

IMAGES = (".nii.gz", ".nii")
MODALITIES = ("FLAIR", "T2w", "PDw", "T2starw", "T1map", "T2map", "UNIT1")
DATATYPES = ("anat", "func", "dwi", "fmap", "perf", "pet", "meg", "eeg", "ieeg", "beh", "micr", "nirs", "motion", "mrs")
LABEL = r"[A-Za-z0-9+]+"
_T1 = re.compile(r"(t1|mprage|mpr|spgr|t1w|t1-?weighted)$", re.IGNORECASE)


def anatomical_images(folder: Path, findings: Findings) -> tuple[dict[tuple[str, str], list[Any]], Sidecars]:
    """Anatomical images by subject and session, and their sidecars."""
    try:
        import ancpbids
        from ancpbids.vfs import LocalVfs
    except ImportError as problem:
        raise InputError(
            f"Reading BIDS needs {problem.name or 'ancpbids'}, which is not installed. Install it with: "
            "pip install 'neuro4d-lib[training]'"
        ) from None

    class AnatomyOnly(LocalVfs):
        """Shows images of sub-*/[ses-*/]anat and sidecars; a link back to a folder above it is not followed."""

        def exists(self, path: str) -> bool:
            return False  # no description of the data set: names are read by the newest rules

        def listdir(self, path: str) -> list[str]:
            place = Path(path)
            parts = place.relative_to(folder).parts
            try:
                names = os.listdir(place)
            except OSError as problem:
                findings.add("unreadable folders", f"{place.name} cannot be opened ({problem.strerror})", place)
                return []
            return [name for name in names if _belongs(place / name, parts, findings)]

    # A pickle in the data set would be run by opening it.
    options = ancpbids.DatasetOptions(ignore_pickle_file=True)
    dataset = ancpbids.load_dataset(str(folder), options, vfs=AnatomyOnly())
    found: dict[tuple[str, str], list[Any]] = {}
    artifacts: list[Any] = dataset.query(suffix=["T1w", *MODALITIES], extension=list(IMAGES), return_type="object")
    for artifact in artifacts:
        path = Path(artifact.get_absolute_path())
        parts = path.relative_to(folder).parts
        subject, session = parts[0], parts[1] if len(parts) == 4 else ""
        expected = "_".join(part for part in (subject, session) if part)
        if parts[-2] == "anat" and path.name.startswith(f"{expected}_"):
            found.setdefault((subject, session or "ses-none"), []).append(artifact)
        elif artifact.suffix == "T1w" and parts[-2] != "anat":
            said = f"{path.name} lies outside of a folder anat; it is not used. Move it into one"
            findings.add("names", said, path, subject=subject)
    _tell_misnamed(folder, {Path(a.get_absolute_path()) for group in found.values() for a in group}, findings)
    return found, Sidecars(folder, dataset.query(suffix="T1w", extension=".json", return_type="object"), findings)


class Sidecars:
    """What JSON files say of a scan: those beside it and in the folders above, the nearer one is believed.

    ancpbids finds the same, but looks through the whole data set for every scan.
    """

    def __init__(self, root: Path, artifacts: Iterable[Any], findings: Findings) -> None:
        self._root, self._findings = root, findings
        self._read: dict[Path, dict[str, Any]] = {}
        self._by_folder: dict[Path, list[Any]] = {}
        for artifact in artifacts:
            self._by_folder.setdefault(Path(artifact.get_absolute_path()).parent, []).append(artifact)

    def of(self, scan: Any, path: Path) -> dict[str, Any]:
        everywhere = self._root / f"{scan.suffix}.json"  # without entities, ancpbids does not see it
        known = dict(self._content(everywhere)) if everywhere.is_file() else {}
        for folder in reversed(path.parents):
            for sidecar in sorted(self._by_folder.get(folder, []), key=lambda one: len(one.get_entities())):
                if sidecar.suffix == scan.suffix and sidecar.get_entities().items() <= scan.get_entities().items():
                    known |= self._content(Path(sidecar.get_absolute_path()))
        return known

    def _content(self, path: Path) -> dict[str, Any]:
        if path not in self._read:
            self._read[path], line = {}, None
            try:
                found = json.loads(path.read_text(encoding="utf-8-sig"))
                fault = "" if isinstance(found, dict) else "it holds no object"
                self._read[path] = {} if fault else found
            except json.JSONDecodeError as problem:
                fault, line = problem.msg, problem.lineno
            except (OSError, UnicodeDecodeError) as problem:
                fault = str(getattr(problem, "strerror", None) or "it is no text")
            if fault:
                said = f"this sidecar cannot be read ({fault}); what it says of scanners is unknown. Convert the scan again"
                self._findings.add("sidecars", said, path, line)
        return self._read[path]


def _belongs(path: Path, parts: tuple[str, ...], findings: Findings) -> bool:
    """Whether a file or folder is looked at."""
    depth, name = len(parts), path.name
    if not path.is_dir():
        return name.endswith("T1w.json") or (depth > 0 and name.endswith(IMAGES))
    inside = name == "anat" or (name.startswith("ses-") and depth == 1)
    if not (name.startswith("sub-") if depth == 0 else inside and parts[-1] != "anat"):
        if path.is_symlink() and _leads_back(path):
            if depth > 0:
                _tell_loop(path, findings)
        elif depth == 1 and name not in DATATYPES and _holds_images(path):
            said = f"the folder {name} holds images but is not named ses-... or anat; it is not read. Rename it"
            findings.add("names", said, path, subject=parts[0])
        return False
    if path.is_symlink() and _leads_back(path):
        _tell_loop(path, findings)
        return False
    return True


def _leads_back(path: Path) -> bool:
    """Whether a link leads to a folder that it lies in."""
    target = path.resolve()
    return target == path.parent.resolve() or target in path.parent.resolve().parents


def _holds_images(path: Path) -> bool:
    places = ("", "*/", "*/*/")
    return any(next(path.glob(place + ending), None) for place in places for ending in ("*.nii", "*.nii.gz"))


def _tell_loop(path: Path, findings: Findings) -> None:
    findings.add(
        "link loops",
        f"{path.name} is a symbolic link to a folder that it lies in; it is not followed. Remove the link",
        path,
    )


def _tell_misnamed(folder: Path, known: set[Path], findings: Findings) -> None:
    """Images in the anatomy folders that BIDS has no name for, and T1w scans of another subject or session."""
    for anat in (*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")):
        for path in sorted(anat.iterdir()) if os.access(anat, os.R_OK) else []:
            if not path.name.endswith(IMAGES) or path.name.startswith(".") or path in known:
                continue
            subject = path.relative_to(folder).parts[0]
            suffix = path.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
            if re.fullmatch(rf"{subject}(_{LABEL}-{LABEL})*_{LABEL}\.nii(\.gz)?", path.name) and not _T1.match(suffix):
                continue  # another kind of image, properly named
            session = f"_{anat.parent.name}" if anat.parent.name.startswith("ses-") else ""
            findings.add(
                "names",
                f"{path.name} is not named as BIDS has it; it is not used. Expected {subject}{session}_T1w.nii.gz, with "
                "entities such as _run-2 before _T1w",
                path, subject=subject,
            )  # fmt: skip


def tell_other_folders(folder: Path, findings: Findings) -> None:
    """Folders beside sub-* that hold images, but are not named for it."""
    usual = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith((".", "sub-")) or path.name in usual:
            continue
        if path.is_symlink() and _leads_back(path):
            _tell_loop(path, findings)
        elif _holds_images(path):
            findings.add(
                "names",
                f"the folder {path.name} holds images but is not named sub-...; it is not read. Rename it",
                path,
            )
