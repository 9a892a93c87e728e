"""Which device to run on, and in which precision."""

from __future__ import annotations

import os

import torch


def pick(name: str) -> torch.device:
    """The device of a name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the best that is there.

    Under torchrun and srun ``auto`` and ``cuda`` give each local rank a GPU of its own, in turn where there are fewer.

    Raises:
        ValueError: The name is unknown, or that device is not there; nothing falls back to the CPU silently.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = _gpu()
    elif name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps. Got {name!r}.") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[device.type]:
        raise ValueError(f"device {name} must be there. This machine does not have it: use --device auto or cpu.")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, a network computes in ``"bf16"`` where that is safe; with ``"float32"`` nothing changes."""
    low = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16 if low else torch.float32, enabled=low)


def _gpu() -> str:
    rank = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    return "cuda" if rank is None else f"cuda:{int(rank) % torch.cuda.device_count()}"
