"""Blocks of trials over processes or a Dask cluster. What is finished is kept: the same run goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

import neuro4d_lib
from neuro4d_lib.applications.trials.law import Law
from neuro4d_lib.applications.trials.simulation import BLOCK, Arrays, block_of
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.progress import Progress

UNFINISHED = "unfinished"
_RUN = "run.json"
_SUMS = ("courses", "squares", "counts", "screened", "enrolled")


@dataclass(frozen=True)
class Workers:
    """Who computes: so many processes of this machine, or the Dask cluster at an address."""

    processes: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= 1024:
            raise InputError(f"--workers is {self.processes}; expected 1 to 1024.")


def run_trials(
    law: Law, sizes: list[list[int]], trials: int, folder: Path, workers: Workers, progress: Progress
) -> Arrays:
    """All trials, see `simulate_block`, with B = trials. Finished blocks lie in `folder`; other runs' are refused."""
    text = law.as_json()
    blocks = -(-trials // BLOCK)
    check_unfinished(folder, fingerprint(text, sizes))
    write_whole(folder / _RUN, json.dumps({"fingerprint": fingerprint(text, sizes), "blocks": blocks}))
    done = {index for index in range(blocks) if _readable(_file(folder, index))}
    progress(len(done) / blocks, f"Simulating {trials} trials")
    todo = [index for index in range(blocks) if index not in done]
    for index, arrays in _computed(text, sizes, todo, workers):
        write_whole(_file(folder, index), save({key: np.ascontiguousarray(value) for key, value in arrays.items()}))
        done.add(index)
        progress(len(done) / blocks, f"Simulating {trials} trials")
    return _joined([load(_file(folder, index).read_bytes()) for index in range(blocks)], trials)


def fingerprint(law_json: str, sizes: Sequence[Sequence[int]]) -> str:
    """What decides the content of a block."""
    content = json.dumps([law_json, sizes, BLOCK, neuro4d_lib.__version__])
    return hashlib.sha256(content.encode()).hexdigest()


def check_unfinished(folder: Path, expected: str) -> None:
    """Refuse to mix two runs."""
    try:
        found = json.loads((folder / _RUN).read_text(encoding="utf-8"))["fingerprint"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        found = ""
    if found != expected:
        raise InputError(
            f"{folder} holds the unfinished trials of another design or version. Choose another output folder, or "
            "remove that one."
        )


def discard(folder: Path) -> None:
    """Remove the blocks of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


def _computed(text: str, sizes: list[list[int]], todo: list[int], workers: Workers) -> Iterator[tuple[int, Arrays]]:
    """Blocks as they are finished."""
    if not todo:
        return
    if workers.scheduler is not None:
        yield from _on_cluster(text, sizes, todo, workers.scheduler)
    elif workers.processes == 1:
        for index in todo:
            yield index, block_of(text, sizes, index)
    else:
        yield from _in_processes(text, sizes, todo, workers.processes)


def _in_processes(text: str, sizes: list[list[int]], todo: list[int], processes: int) -> Iterator[tuple[int, Arrays]]:
    pool = ProcessPoolExecutor(min(processes, len(todo)), get_context("spawn"), initializer=_leave_interrupts)
    try:
        futures = {pool.submit(block_of, text, sizes, index): index for index in todo}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BrokenProcessPool:
        raise InputError(
            "A worker was ended from outside, most likely because the memory is full. Run the same command with fewer "
            "--workers; it goes on where it stopped."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_cluster(text: str, sizes: list[list[int]], todo: list[int], address: str) -> Iterator[tuple[int, Arrays]]:
    try:
        from distributed import Client
        from distributed import as_completed as finished
    except ImportError:
        raise InputError(
            "--scheduler needs Dask. Install it here and on the workers with: pip install 'neuro4d-lib[cluster]'"
        ) from None
    try:
        client = Client(address, timeout="5s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address} ({error}). Start one with 'dask scheduler' and name its address, such "
            "as tcp://127.0.0.1:8786."
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise InputError(f"The Dask scheduler at {address} has no workers. Start some with: dask worker {address}")
        law = client.scatter(text, broadcast=True, hash=False)
        futures = {client.submit(block_of, law, sizes, index, pure=False): index for index in todo}
        for future in finished(list(futures)):
            yield futures.pop(future), future.result()
            future.release()


def _file(folder: Path, index: int) -> Path:
    return folder / f"block_{index:05d}.safetensors"


def _readable(path: Path) -> bool:
    try:
        load(path.read_bytes())
    except (OSError, SafetensorError):
        return False
    return True


def _joined(blocks: list[Arrays], trials: int) -> Arrays:
    """Trials one after the other; sums added up, the true effects averaged."""
    joined: Arrays = {}
    for key in blocks[0]:
        every = [block[key] for block in blocks]
        if key in _SUMS:
            joined[key] = np.sum(every, axis=0)
        elif key == "true_effect":
            joined[key] = np.mean(every, axis=0)
        else:
            joined[key] = np.concatenate(every, axis=2)[:, :, :trials]
    return joined
