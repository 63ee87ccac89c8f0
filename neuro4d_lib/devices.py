"""Where tensors live."""

from __future__ import annotations

import torch

from neuro4d_lib.errors import InputError


def checked_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu` or `cuda`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise InputError(f"The device is {name!r}; expected auto, cpu or cuda.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"The device is {name!r}; expected auto, cpu, cuda or one GPU, such as cuda:1.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("The device is cuda, but PyTorch finds no CUDA GPU here. Use --device auto or --device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"The device is {name!r}, but there are {torch.cuda.device_count()} GPUs, from cuda:0 on.")
    return device
