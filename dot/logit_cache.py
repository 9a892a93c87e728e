"""A teacher's logits of every image in every view, kept in files that all runs of a study share.

Pad-crop and flip give a finite number of views an image (`dot.config.Augmentation.views`), so that a study of many runs
asks its teacher for the same logits again and again. A logit is kept in float16, for the run that computes it too.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dot.data.drawing import upload

log = logging.getLogger(__name__)

_SHARE = 0.25
"""Of a GPU's free memory that the logits may take."""


class LogitCache:
    """Logits by image and view.

    They lie on a GPU with room for all of them; else they are read where they are in the file. New ones are in memory
    until `flush`. Runs that share a folder at the same time may each compute an entry; it is right whoever wrote it.

    Args:
        folder: Holds ``logits.npy``, float16 ``[images, views, classes]``, and ``there.npy``, which says of each image
            and view whether they are there. Made where it is not. Its name must say which teacher, data and
            augmentation they are of.
        images: How many.
        views: How many there are of each.
        classes: Of the logits.
        device: Where they are needed.

    Raises:
        OSError: The disk has no space for them, or the folder cannot be written.
        ValueError: A file is cut short, missing or of another shape.
    """

    def __init__(self, folder: Path, images: int, views: int, classes: int, device: torch.device) -> None:
        self._views, self._device = views, device
        self._path, self._there_path = folder / "logits.npy", folder / "there.npy"
        self._shape = images, views, classes
        if not folder.exists():
            _make(folder, images, views, classes)
        self._new: list[Tensor] = []
        self._table, self._there = self._mapped()
        self._resident = self._table.nbytes < _SHARE * _free(device)
        if self._resident:
            self._table = self._table.to(device, copy=True)

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
        """Have everything on the disk: first the logits, then the word that they are there.

        Raises:
            OSError: It cannot be written; what is new stays in memory for the next time.
        """
        if not self._new:
            return
        rows = torch.cat(self._new).sort().values
        _write(self._path, rows.tolist(), self._table[upload(rows, self._table.device)].cpu().numpy())
        _write(self._there_path, rows.tolist(), np.ones(len(rows), np.bool_))
        self._new.clear()
        if not self._resident:
            self._table, self._there = self._mapped()  # which frees the memory of what is in the file by now

    def _mapped(self) -> tuple[Tensor, np.ndarray]:
        """The table ``[images * views, classes]`` in the file, and which rows are there; changes stay in memory."""
        there = np.array(_open(self._there_path, self._shape[:2], np.bool_))
        table = _open(self._path, self._shape, np.float16)  # after the words, which are written after it
        return torch.from_numpy(table.reshape(-1, self._shape[-1])), there.reshape(-1)


def _free(device: torch.device) -> int:
    """Bytes of a GPU's memory that are free; 0 for what shares the memory of the CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _make(folder: Path, images: int, views: int, classes: int) -> None:
    """Files without an entry, both or none, their space reserved: a disk that fills up later does not matter."""
    size = images * views * (2 * classes + 1)
    log.info("teacher's logits: %.0f MB in %s", size / 1e6, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < size:
        raise OSError(
            f"{folder} needs {size / 1e6:,.0f} MB. Got a disk with {free / 1e6:,.0f} MB free: free some, or set "
            "compute.cache_teacher = false."
        )
    new = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.tmp")
    try:
        new.mkdir()
        _reserve(new / "logits.npy", (images, views, classes), np.float16)
        _reserve(new / "there.npy", (images, views), np.bool_)
        os.replace(new, folder)
    except OSError:
        if not folder.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _reserve(path: Path, shape: tuple[int, ...], kind: type) -> None:
    """An array file of zeros."""
    np.lib.format.open_memmap(path, "w+", kind, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _open(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    """An array file, mapped; what is written to it stays in memory."""
    try:
        found = np.lib.format.open_memmap(path, "c")
    except (OSError, ValueError) as error:
        raise _unfit(path, shape, kind, str(error)) from error
    if found.shape != shape or found.dtype != kind:
        raise _unfit(path, shape, kind, f"{found.dtype} of shape {list(found.shape)}")
    return found


def _unfit(path: Path, shape: tuple[int, ...], kind: type, found: str) -> ValueError:
    return ValueError(
        f"{path} must hold {np.dtype(kind)} of shape {list(shape)}. Got {found}. Delete the folder {path.parent}: the "
        "logits are computed again."
    )


def _write(path: Path, rows: Sequence[int], values: np.ndarray) -> None:
    """Write rows of an array file to the disk: not through a map, where an error would end the process."""
    start, size = np.lib.format.open_memmap(path, "r").offset, values[:1].nbytes
    with open(path, "r+b") as out:
        for row, value in zip(rows, values, strict=True):
            out.seek(start + row * size)
            out.write(value.tobytes())
        out.flush()
        os.fsync(out.fileno())
