"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neuro4d_lib.errors import InputError

RECORD = "forecast.json"
"""The file that names all others of a folder of results; it is delivered last."""

_UNFINISHED = ".partial-"
_NOBODYS_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}
_DAY_SECONDS = 86_400


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise an InputError unless results can be put there without losing anything that no forecast wrote."""
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
    if not parent.is_dir():
        raise InputError(f"{parent} is a file. Name a folder for the results.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent} may not be written to. Choose another folder for the results.")
    if parent != folder:
        return
    found = _found(folder)
    strangers = found - earlier_results(folder)
    if found and not overwrite:
        what = "a forecast already" if not strangers else f"files already, such as {min(strangers)}"
        raise InputError(f"{folder} holds {what}. Choose a new folder, or replace a forecast with --overwrite.")
    if strangers:
        raise InputError(
            f"{folder} holds files that no forecast wrote, such as {min(strangers)}; they would be lost. "
            "Choose another folder."
        )


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise an InputError unless the disk has room for so much."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise InputError(
            f"The disk of {folder} has {free_bytes / 1e9:.2f} GB left; this forecast may need "
            f"{needed_bytes / 1e9:.2f} GB. Free some space, choose another folder or ask for fewer years."
        )


def earlier_results(folder: Path) -> set[str]:
    """The names of the files in a folder that a finished forecast wrote."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {RECORD, *record["outputs"]} if "schema_version" in record else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


@contextmanager
def staged(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to write into, which becomes `folder` at the end; after any exception nothing is left of it.

    Where `folder` is there already (it may be a mounted one), the files are moved into it, the record last.
    """
    folder = folder.expanduser().resolve()
    _remove_stale(folder)
    check_folder(folder, overwrite)
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    inside = folder.exists()
    name = f"{_UNFINISHED}{os.getpid()}"
    staging = folder / name if inside else folder.with_name(f".{folder.name}{name}")
    try:
        staging.mkdir(parents=True)
        yield staging
        if inside:
            _move_into(folder, staging)
        else:
            staging.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"No space is left on the disk for {folder}. Free some and run again.") from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not folder.exists():
            _remove_empty(new_parents)


def _found(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith(_UNFINISHED)} - _NOBODYS_FILES


def _move_into(folder: Path, staging: Path) -> None:
    """Replace an earlier forecast; without its record a folder that is caught half-way is known as unfinished."""
    old = earlier_results(folder)
    new = {file.name for file in staging.iterdir()}
    for name in sorted(old - new | {RECORD}):
        (folder / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: (name == RECORD, name)):
        os.replace(staging / name, folder / name)


def _remove_stale(folder: Path) -> None:
    """Remove what runs left behind that were killed."""
    candidates = list(folder.parent.glob(f".{folder.name}{_UNFINISHED}*")) if folder.parent.is_dir() else []
    candidates += folder.glob(f"{_UNFINISHED}*") if folder.is_dir() else []
    for candidate in candidates:
        if not _at_work(candidate):
            shutil.rmtree(candidate, ignore_errors=True)


def _at_work(staging: Path) -> bool:
    """Whether the process that made a staging folder may still be running."""
    if os.name == "nt":  # where a signal of 0 would end it
        return time.time() - staging.stat().st_mtime < _DAY_SECONDS
    try:
        os.kill(int(staging.name.rpartition("-")[2]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return int(staging.name.rpartition("-")[2]) != os.getpid()


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
