"""Check this machine and installation: versions, device, threads, free disk, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from dot.cli._shared import Common, Reply

EXAMPLES = ("doctor", "doctor --json")
_ENOUGH_DISK = 2**30


@dataclass(frozen=True)
class Options(Common):
    """Options of ``doctor``."""


def run(options: Options) -> Reply:
    """Run the verb."""
    import torch

    from dot import devices
    from landscape.provenance import machine

    device = devices.pick("auto")
    free = shutil.disk_usage(".").free
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": _versions(),
        "device": f"{device} ({machine(device)})",
        "threads": torch.get_num_threads(),
        "free disk here (GB)": round(free / 1e9, 1),
    }
    wrong = _missing()
    if free < _ENOUGH_DISK:
        wrong.append(f"less than 1 GB of disk is free here ({free / 1e9:.2f} GB): free some, or work elsewhere.")
    if not os.access(".", os.W_OK):
        wrong.append("this folder cannot be written: give another with -o.")
    wrong += _broken(device)
    shown = {key: value for key, value in facts.items() if key != "versions"} | facts["versions"]
    text = "\n".join(f"{key}: {value}" for key, value in shown.items())
    verdict = "\n".join(f"wrong: {fault}" for fault in wrong) or "nothing is wrong"
    return Reply(f"{text}\n{verdict}", facts | {"wrong": wrong}, ok=not wrong)


def _requirements() -> list[Requirement]:
    found = [Requirement(text) for text in metadata.requires("dot-landscape") or []]
    return [need for need in found if need.marker is None or need.marker.evaluate({"extra": ""})]


def _versions() -> dict[str, str]:
    names = ["dot-landscape", *(need.name for need in _requirements())]
    return {name: _version(name) or "missing" for name in names}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _missing() -> list[str]:
    wrong = []
    for need in _requirements():
        there = _version(need.name)
        if there is None or not need.specifier.contains(there, prereleases=True):
            wrong.append(f"{need} must be installed. Got {there or 'none'}: pip install '{need}'.")
    return wrong


def _broken(device: Any) -> list[str]:
    """What fails when it is tried: a computation on the device, and a file of results."""
    import h5py
    import torch

    wrong = []
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4, device=device), torch.ones(1, 1, 3, 3, device=device)).cpu()
    except RuntimeError as error:
        wrong.append(f"a convolution on {device} must run. Got {error}: use --device cpu, or mend the driver.")
    try:
        with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/check.h5", "w") as file:
            file["x"] = [1.0]
    except OSError as error:
        wrong.append(f"an HDF5 file must be writable in the temporary folder. Got {error}: set TMPDIR elsewhere.")
    return wrong
