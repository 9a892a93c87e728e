"""Where a result comes from: versions, digests, the command and the kind of machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PACKAGES = ("dot-landscape", "torch", "numpy", "scipy", "h5py", "matplotlib", "plotly")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def command_line() -> str:
    """The command that this process was started with, without the folders of its program."""
    return shlex.join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine(device: torch.device) -> str:
    """The kind of machine, such as ``x86_64, 2 CPU cores`` or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} CPU cores" + (", MPS" if device.type == "mps" else "")


def stamp(device: torch.device) -> dict[str, Any]:
    """What every result says of its making: when, by which command, with which versions, on what kind of machine."""
    return {"created_at": now(), "command": command_line(), "versions": versions(), "machine": machine(device)}


def update_digest(digest: hashlib._Hash, name: str, value: Any) -> None:
    """Add a value with its name: tensors and arrays with dtype and shape, plain values, and containers of these.

    The attributes of a dataclass count; any other object counts by its type only.
    """
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous()
        digest.update(f"{name}|{raw.dtype}|{list(raw.shape)}|".encode())
        digest.update(raw.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        digest.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            update_digest(digest, f"{name}/{key}", item)
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            update_digest(digest, f"{name}/{i}", item)
    elif is_dataclass(value):
        for entry in fields(value):
            update_digest(digest, f"{name}/{entry.name}", getattr(value, entry.name))
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        digest.update(f"{name}|{value!r}|".encode())
    else:
        digest.update(f"{name}|{type(value).__qualname__}|".encode())


def digest_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors with their names, dtypes and shapes, in order."""
    digest = hashlib.sha256()
    for name, tensor in named:
        update_digest(digest, name, tensor)
    return digest.hexdigest()


def digest_model(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers with their names."""
    return digest_tensors([*model.named_parameters(), *model.named_buffers()])
