"""Several processes that train one model: torchrun starts them, DistributedDataParallel averages their gradients."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from neuro4d_lib.errors import InputError


@dataclass(frozen=True)
class Group:
    """The processes of a run; one that is alone needs no communication. Only the first one writes files and speaks."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, parts: int) -> range:
        """Which of the parts of a step are this process's."""
        return range(self.rank, parts, self.size)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes. Every process must hold the same weights."""
        if self.size == 1:
            return module
        # Buffers are constants here; by default they would be sent with every step. PyTorch 2.13 renamed the option.
        known = inspect.signature(DistributedDataParallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {option: False}
        return DistributedDataParallel(module, **options)

    def keeping_to_itself(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Inside it, gradients are added up without being averaged."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes, on the CPU."""
        if self.size > 1:
            values = values.to(self.device)
            distributed.all_reduce(values)
        return values.cpu()

    def first_says(self, flag: bool) -> bool:
        """What the first process passes, known to all."""
        return bool(self.total(torch.tensor(float(flag and self.first))))

    def wait(self) -> None:
        """Until all processes are here."""
        self.total(torch.zeros(1))


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun started this process in, with a GPU for each process; alone without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(device=device)
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"Process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}. "
                "Start at most as many processes (--nproc_per_node), or use --device cpu."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # The first process fits the closed form and builds the anatomy while the others wait.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Group(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
