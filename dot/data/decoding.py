"""What the worker processes do: read image files, decode them, write their pixels into one array.

It imports no torch, so that a worker starts at once.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dot.data.disk import write_whole

_DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits begin with these."""
_OTHER_SHAPE = (
    "{} must have the {} pixels of the first image. Got {}: name a size that all are brought to, as in "
    "folder:birds,size=32."
)


@dataclass(frozen=True)
class Moments:
    """Exact sums over pixels of each channel.

    Attributes:
        pixels: How many, in each channel.
        sums: Of their values, ``[C]``.
        squares: Of the squares of their values, ``[C]``.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @staticmethod
    def of(images: NDArray[np.uint8]) -> Moments:
        """Those of images ``[N, C, H, W]``."""
        sums = images.sum((0, 2, 3), dtype=np.uint64)
        squares = np.einsum("nchw,nchw->c", images, images, dtype=np.uint64)
        return Moments(images[:, 0].size, tuple(map(int, sums)), tuple(map(int, squares)))

    def __add__(self, other: Moments) -> Moments:
        sums = tuple(a + b for a, b in zip(self.sums, other.sums, strict=True))
        squares = tuple(a + b for a, b in zip(self.squares, other.squares, strict=True))
        return Moments(self.pixels + other.pixels, sums, squares)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, 255 being 1; a channel of one value has the deviation 1."""
        mean = tuple(total / self.pixels / 255 for total in self.sums)
        spread = (self.pixels * square - total**2 for total, square in zip(self.sums, self.squares, strict=True))
        return mean, tuple(value**0.5 / self.pixels / 255 or 1.0 for value in spread)


@dataclass(frozen=True)
class Chunk:
    """A row of images to be decoded into consecutive places of an array.

    Attributes:
        base: The folder or zip file that the images are in.
        members: Their paths in it.
        size: Edge of the square that they are brought to; None: they must have the shape of the array.
        array: A ``.npy`` file, uint8 ``[N, 3, H, W]``.
        start: The place of the first.
        record: The file that says that it is done, written last.
    """

    base: Path
    members: Sequence[str]
    size: int | None
    array: Path
    start: int
    record: Path


def start_worker() -> None:
    """Leave Ctrl-C to the main process, and end when it ends, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of Pillow, about files that it can read
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def decode_chunk(chunk: Chunk) -> None:
    """Decode a chunk into its places, then write its record.

    The record holds the SHA-256 of each image file, why an image could not be decoded, by its place in the chunk (its
    pixels are 0), and the `Moments` of the others.

    Raises:
        ValueError: An image has another shape than the array.
        OSError: The array cannot be written.
    """
    array = np.load(chunk.array, mmap_mode="r")
    pixels = np.zeros((len(chunk.members), *array.shape[1:]), np.uint8)
    digests, faults = [], {}
    for i, member in enumerate(chunk.members):
        data = b""
        try:
            data = read(chunk.base, member)
            image = decode(data, chunk.size)
        except Exception as error:  # a decoder that is fed with broken files raises anything
            faults[i] = why(error)
        else:
            if image.shape != pixels[i].shape:
                raise ValueError(_OTHER_SHAPE.format(chunk.base / member, _edges(pixels[i]), _edges(image)))
            pixels[i] = image
        digests.append(hashlib.sha256(data).hexdigest())
    _write_rows(chunk.array, array.offset, chunk.start, pixels)
    good = np.delete(pixels, list(faults), axis=0)
    record = {"digests": digests, "faults": faults, "moments": vars(Moments.of(good))}
    write_whole(chunk.record, json.dumps(record).encode())


def read_record(path: Path) -> tuple[list[str], Mapping[int, str], Moments]:
    """Digests, faults and moments of a chunk that is done."""
    record: dict[str, Any] = json.loads(path.read_bytes())
    pixels, sums, squares = (record["moments"][name] for name in ("pixels", "sums", "squares"))
    faults = {int(i): fault for i, fault in record["faults"].items()}
    return record["digests"], faults, Moments(pixels, tuple(sums), tuple(squares))


def decode(data: bytes, size: int | None = None) -> NDArray[np.uint8]:
    """The pixels ``[3, H, W]`` of an image file, in RGB whatever its mode; transparency is dropped.

    Args:
        data: The bytes of the file.
        size: Bring the shorter side to this length, bilinear over all pixels that a new one covers, and cut the
            middle square out.

    Raises:
        ValueError: It has more than 8 bits a channel, which would be cut off.
        Exception: It is cut short, or no image: whatever Pillow raises.
    """
    with Image.open(io.BytesIO(data)) as image:
        rgb = in_rgb(image)
    if size is not None:
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb).transpose(2, 0, 1)


def in_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB whatever its mode; see `decode` for the errors."""
    if image.mode.startswith(_DEEP):
        raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
    return image.convert("RGB")


def faults(base: Path, members: Sequence[str]) -> dict[str, str]:
    """Why each of these image files that cannot be decoded cannot, by its path in the folder or zip file."""
    found = {}
    for member in members:
        try:
            decode(read(base, member))
        except Exception as error:
            found[member] = why(error)
    return found


def why(error: Exception) -> str:
    """What came instead of an image."""
    return "no image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def read(base: Path, member: str) -> bytes:
    """The bytes of a file in a folder or zip file.

    Raises:
        OSError: It cannot be read.
        zipfile.BadZipFile: Its bytes in the zip file are damaged.
    """
    if base.is_dir():
        return (base / member).read_bytes()
    return _zip(base, base.stat().st_mtime_ns).read(member)


@functools.cache
def _zip(path: Path, changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _edges(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _write_rows(path: Path, offset: int, start: int, rows: NDArray[np.uint8]) -> None:
    """Write rows of an array file and wait until they are on the disk: a mapped write to a full disk would kill."""
    with open(path, "r+b") as file:
        file.seek(offset + start * rows[0].nbytes)
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())
