"""Persons at work: one after the other, over processes of this machine, or over a cluster by Dask."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation.jobs import Job, run_job

Report = Callable[[str, float, str], None]
"""(person, fraction 0 to 1, what is being done), while the work on a person goes on."""

Records = Generator[dict[str, Any], None, None]

_reports: Any = None


def one_by_one(jobs: Sequence[Job], report: Report) -> Records:
    """In this process."""
    for job in jobs:
        yield run_job(job, partial(report, job.person.id))


def over_processes(jobs: Sequence[Job], report: Report, workers: int) -> Records:
    """In so many processes of one thread each. Records come as they are done."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(reports, os.getpid()))
    try:
        pending = {pool.submit(_run, job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            with contextlib.suppress(queue.Empty):
                while True:
                    report(*reports.get_nowait())
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise InputError(
            "A worker was ended from outside, most likely because the memory was full. What is finished is kept: run the "
            "same command again with fewer --workers."
        ) from None
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # idle, unless the work was broken off
            process.terminate()
        for process in processes:
            process.join()


def over_dask(jobs: Sequence[Job], report: Report, address: str) -> Records:
    """On the workers of a Dask scheduler, which see the same folders under the same names."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise InputError(
            "--scheduler needs Dask. Install it with: pip install 'neuro4d-lib[cluster]', or leave --scheduler out."
        ) from None
    try:
        client = Client(address, timeout="20s")
    except (OSError, ValueError) as problem:
        raise InputError(f"No Dask scheduler answers at {address}: {problem}. Start one with: dask scheduler") from None
    with client:
        futures = client.map(run_job_single_threaded, jobs, pure=False, retries=2)
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            client.cancel(futures, force=True)
            raise


def run_job_single_threaded(job: Job) -> dict[str, Any]:
    """What a Dask worker does: one thread of computing for each of its own threads."""
    import torch

    torch.set_num_threads(1)
    return run_job(job)


def _begin(reports: Any, parent: int) -> None:
    """Once in every process of the pool."""
    global _reports
    import torch

    _reports = reports
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that started it was killed; nothing else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(job: Job) -> dict[str, Any]:
    def report(fraction: float, message: str) -> None:
        _reports.put((job.person.id, fraction, message))

    return run_job(job, report)
