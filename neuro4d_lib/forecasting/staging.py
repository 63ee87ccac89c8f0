"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from neuro4d_lib.errors import InputError

RECORD = "forecast.json"
"""The file that names all others of a folder of results; it is delivered last."""

_UNFINISHED = ".partial-"
_EARLIER = "earlier-forecast"
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
        names = {RECORD, *record["outputs"]} if "schema_version" in record else set()
        return {name for name in names if _is_plain(name) and not (folder / name).is_dir()}
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
        with _interrupts_held() as held:
            if inside:
                _move_into(folder, staging)
            else:
                staging.rename(folder)
            _discard(staging)
        if held:
            raise KeyboardInterrupt(f"Interrupted, but too late: the forecast in {folder} is complete.")
    except (OSError, InputError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError):
            raise InputError(_what_to_do(cause, folder)) from error
        raise
    finally:
        with _interrupts_held():
            _discard(staging)
            if not folder.exists():
                _remove_empty(new_parents)


def _what_to_do(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk for {folder}. Free some and run again."
    if error.errno == errno.EFBIG:
        return (
            f"The disk of {folder} takes no files as large as this forecast's. "
            "Choose a folder on another disk, or ask for fewer years."
        )
    return (
        f"The results could not be put into {folder} ({error.strerror or error}). "
        "Close what has files open there, or choose another folder."
    )


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Note Ctrl-C and requests to end instead of obeying them. Python hears of them in its main thread alone."""
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    own = [number for number, handler in handlers.items() if handler is not None]
    if threading.current_thread() is not threading.main_thread():
        own = []
    try:
        for number in own:
            signal.signal(number, lambda number, frame: held.append(number))
        yield held
    finally:
        for number in own:
            signal.signal(number, handlers[number])


def _is_plain(name: str) -> bool:
    """Whether a name stays in its folder, on any system."""
    return name == PurePosixPath(name).name == PureWindowsPath(name).name and name != ".."


def _found(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith(_UNFINISHED)} - _NOBODYS_FILES


def _move_into(folder: Path, staging: Path) -> None:
    """Put the files of `staging` in the place of an earlier forecast, which is put back if that fails.

    The record goes first and comes last, both ways: without it a folder that is caught half-way is known as unfinished.
    """
    new = sorted((file.name for file in staging.iterdir()), key=_record_last)
    old = sorted(earlier_results(folder), key=_record_last)
    aside = staging / _EARLIER
    aside.mkdir()
    try:
        for name in reversed(old):
            if (folder / name).exists():  # anyone may have removed one
                os.replace(folder / name, aside / name)
        for name in new:
            os.replace(staging / name, folder / name)
    except BaseException:
        for name in reversed(new):
            if not (staging / name).exists():
                os.replace(folder / name, staging / name)
        for name in old:
            if (aside / name).exists():
                os.replace(aside / name, folder / name)
        raise


def _record_last(name: str) -> tuple[bool, str]:
    return name == RECORD, name


def _discard(staging: Path) -> None:
    """Remove a staging folder, except where it has all that is left of an earlier forecast."""
    aside = staging / _EARLIER
    if (staging.parent / RECORD).exists() or not aside.is_dir() or not any(aside.iterdir()):
        shutil.rmtree(staging, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove what runs left behind that were killed."""
    candidates = list(folder.parent.glob(f".{folder.name}{_UNFINISHED}*")) if folder.parent.is_dir() else []
    candidates += folder.glob(f"{_UNFINISHED}*") if folder.is_dir() else []
    for candidate in candidates:
        if not _at_work(candidate):
            _discard(candidate)


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
