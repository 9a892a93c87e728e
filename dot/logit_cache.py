"""A teacher's logits of every image in every view, kept in a file that all runs of a study share.

Pad-crop and flip give a finite number of views an image (`dot.data.augment.Augmentation.views`), so that a study of
many runs asks its teacher for the same logits again and again. A logit is kept in float16, for the run that computes it
too: a run sees the same numbers whether its entries were there before or not.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dot.data.drawing import upload

log = logging.getLogger(__name__)

_SHARE = 0.25
"""Of a device's free memory that the logits may take."""


class LogitCache:
    """Logits by image and view.

    On a GPU with room for them they lie there, and in the file after each `flush`; else in the file, mapped to memory.

    Args:
        path: Of the file of logits (``.npy``, float16 ``[images, views, classes]``); beside it another says which of
            them are there. Its name must say which teacher, data and augmentation they are of.
        images: How many.
        views: How many there are of each.
        classes: Of the logits.
        device: Where they are needed.

    Raises:
        OSError: The disk has no space for it, or the file cannot be written.
    """

    def __init__(self, path: Path, images: int, views: int, classes: int, device: torch.device) -> None:
        self._views, self._device = views, device
        table, there = path, path.with_suffix(".there.npy")
        if not (table.exists() and there.exists()):
            _allocate(table, (images * views, classes), np.float16)
            _allocate(there, (images * views,), np.bool_)
        self._file = np.load(table, mmap_mode="r+")
        self._file_there = np.load(there, mmap_mode="r+")
        self._there = np.array(self._file_there)
        self._new: list[Tensor] = []
        self._table = torch.from_numpy(self._file)
        if device.type == "cuda" and self._file.nbytes < _SHARE * torch.cuda.mem_get_info(device)[0]:
            self._table = self._table.to(device)

    def rows(self, indices: Tensor, numbers: Tensor) -> Tensor:
        """Where the logits of images in views are kept, int64 ``[N]`` on the CPU, as are the arguments."""
        return indices * self._views + numbers

    def missing(self, rows: Tensor) -> Tensor:
        """Which places of ``rows`` are not there yet, int64 on the CPU."""
        return torch.from_numpy(np.flatnonzero(~self._there[rows.numpy()]))

    def put(self, rows: Tensor, logits: Tensor) -> None:
        """Keep logits ``[N, C]`` of the device."""
        self._table[upload(rows, self._table.device)] = logits.half().to(self._table.device)
        self._there[rows.numpy()] = True
        self._new.append(rows)

    def get(self, rows: Tensor) -> Tensor:
        """Logits float32 ``[N, C]`` on the device."""
        return self._table[upload(rows, self._table.device)].to(self._device).float()

    def flush(self) -> None:
        """Have everything on the disk: first the logits, then the word that they are there."""
        if not self._new:
            return
        rows = torch.cat(self._new)
        if self._table.device.type != "cpu":
            self._file[rows.numpy()] = self._table[upload(rows, self._table.device)].cpu().numpy()
        self._file.flush()
        self._file_there[rows.numpy()] = True
        self._file_there.flush()
        self._new.clear()


def _allocate(path: Path, shape: tuple[int, ...], kind: type) -> None:
    """An empty array file; on most file systems it takes space only where it is written."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    log.info("teacher's logits: up to %.0f MB in %s", size / 1e6, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            f"{path} needs {size / 1e6:,.0f} MB. Got a disk with {free / 1e6:,.0f} MB free: free some, or set "
            "compute.cache_teacher = false."
        )
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    np.lib.format.open_memmap(new, "w+", kind, shape).flush()
    os.replace(new, path)
