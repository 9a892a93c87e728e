"""Decoded images on disk: one uint8 array, mapped into memory, made once by worker processes.

<data folder>/cache/<label>-<fingerprint>/
    images.npy     uint8 [N, 3, H, W], the images to train on first
    labels.npy     int64 [N]; -1 at an image that could not be decoded
    about.json     classes, counts, digests, mean and deviation; written last

It is made under another name, in chunks of which each is recorded once it is on the disk: what was killed goes on where
it was. The fingerprint is that of the list of files, so that a changed folder is decoded again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import __version__ as pillow
from torch import Tensor

from dot.data.archives import sha256
from dot.data.corrupt import complaint
from dot.data.decoding import Chunk, decode, decode_chunk, read, read_record
from dot.data.disk import alone, write_whole
from dot.data.images import ImageSet, Split
from dot.data.listing import Listing
from dot.data.pool import as_done, decoders
from dot.data.sources import root

CHUNK = 512
"""Images that a worker decodes at a time, at most."""
_CHUNK_BYTES = 2**24
_REMEDY = "Mend or remove them; a set named folder:... can leave them out by ',skip-corrupt' in its name."

log = logging.getLogger(__name__)


class Cache:
    """The decoded images of a listing.

    Args:
        label: A name for its folder; what was made of other files under the same name is removed.
        listing: Which images.
        size: Edge of the square that they are brought to; None: they must all have one shape.
    """

    def __init__(self, label: str, listing: Listing, size: int | None) -> None:
        self.label, self.listing, self.size = label, listing, size
        self.folder = root() / "cache" / f"{label}-{listing.fingerprint(size)[:12]}"

    @property
    def ready(self) -> bool:
        """Whether it is made."""
        return (self.folder / "about.json").exists()

    @cached_property
    def about(self) -> dict[str, Any]:
        """What ``about.json`` says."""
        found: dict[str, Any] = json.loads((self.folder / "about.json").read_bytes())
        return found

    def build(self) -> None:
        """Make it, unless it is made; another process that makes it is waited for.

        Raises:
            OSError: The disk is full or cannot be written.
            ValueError: No image can be decoded, or they differ in shape and no size is given.
            RuntimeError: The worker processes cannot be started.
        """
        if self.ready:
            return
        with decoders() as pool, alone(self.folder):
            if not self.ready:
                self._make(pool)

    def image_set(
        self,
        name: str,
        *,
        skip_corrupt: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> ImageSet:
        """The images, mapped: they come into memory when they are used, once for all processes.

        Args:
            name: Of the set.
            skip_corrupt: Leave out what could not be decoded.
            mean: Of each channel; that of the images to train on by default.
            std: Likewise.

        Raises:
            ValueError: Images could not be decoded, and are not to be left out.
        """
        about = self.about
        if about["corrupt"] and not skip_corrupt:
            raise ValueError(complaint(self.listing.base, len(self.listing.pictures), about["corrupt"], _REMEDY))
        images = torch.from_numpy(np.load(self.folder / "images.npy", mmap_mode="c"))
        labels = torch.from_numpy(np.load(self.folder / "labels.npy"))
        n = len(self.listing.train)
        return ImageSet(
            name=name,
            train=_whole(images[:n], labels[:n]),
            test=_whole(images[n:], labels[n:]),
            num_classes=len(about["classes"]),
            white=255,
            mean=mean or tuple(about["mean"]),
            std=std or tuple(about["std"]),
            digest=about["content_sha256"],
            skipped=len(about["corrupt"]),
        )

    def check(self) -> None:
        """Read every byte of it and of the files that it was made of.

        Raises:
            ValueError: They are not those that were decoded.
        """
        again = f"Delete {self.folder}; the images are then decoded again."
        for name, digest in self.about["files"].items():
            path = self.folder / name
            if not path.exists() or sha256(path) != digest:
                raise ValueError(f"{path} must be as it was written. It is not. {again}")
        base, corrupt = self.listing.base, self.about["corrupt"]
        digests = ["" if p.member in corrupt else _digest(read(base, p.member)) for p in self.listing.pictures]
        found = self.listing.digest(digests)
        if found != self.about["content_sha256"]:
            raise ValueError(
                f"{self.listing.base} must hold what was decoded, of SHA-256 {self.about['content_sha256']}. "
                f"Got {found}. {again}"
            )

    @property
    def _building(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.building")

    def _make(self, pool: ProcessPoolExecutor) -> None:
        """Decode and finish; what cannot be finished as the files are is not left to be gone on with."""
        try:
            self._decode(pool)
            self._finish()
        except ValueError:
            shutil.rmtree(self._building, ignore_errors=True)
            raise

    def _decode(self, pool: ProcessPoolExecutor) -> None:
        """Have every chunk on the disk, with its record."""
        array = self._building / "images.npy"
        self._allocate(array)
        chunks = list(self._chunks(array))
        todo = [chunk for chunk in chunks if not chunk.record.exists()]
        if len(todo) < len(chunks):
            log.info("going on: %d of %d chunks are there", len(chunks) - len(todo), len(chunks))
        running = [pool.submit(decode_chunk, chunk) for chunk in todo]
        for future in as_done(running):
            try:
                future.result()
            except OSError as error:
                raise OSError(
                    f"{self.folder} cannot be written: {error.strerror or error}. Free some space and do it again: "
                    "what was decoded is kept."
                ) from error

    def _allocate(self, array: Path) -> None:
        """Make the empty array, unless it is there from an earlier attempt.

        Raises:
            OSError: The disk has no space for it.
            ValueError: No image can be decoded.
        """
        shape = (len(self.listing.pictures), *self._shape)
        size = int(np.prod(shape))
        log.info(
            "decoding %s images of %s (%.0f MB) into %s", f"{shape[0]:,}", self.listing.base, size / 1e6, self.folder
        )
        (self._building / "chunks").mkdir(parents=True, exist_ok=True)
        if array.exists():
            return
        free = shutil.disk_usage(self._building).free
        if free < size:
            raise OSError(
                f"{self.folder} needs {size / 1e6:,.0f} MB. Got a disk with {free / 1e6:,.0f} MB free: free some, or "
                "set DOT_DATA to another."
            )
        new = array.with_suffix(".tmp")
        np.lib.format.open_memmap(new, "w+", np.uint8, shape)
        os.replace(new, array)

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Of an image ``[3, H, W]``: that of the first which can be decoded, where no size is asked for."""
        if self.size is not None:
            return 3, self.size, self.size
        for picture in self.listing.pictures:
            try:
                return decode(read(self.listing.base, picture.member)).shape
            except Exception:  # it is named when its chunk is decoded
                continue
        raise ValueError(f"{self.listing.base} must hold images. Got none that can be decoded.")

    def _chunks(self, array: Path) -> Iterator[Chunk]:
        """In order; each within the train or the test images."""
        rows, bytes_each = len(self.listing.pictures), int(np.prod(self._shape))
        step = max(1, min(CHUNK, _CHUNK_BYTES // bytes_each))
        n = len(self.listing.train)
        starts = [*range(0, n, step), *range(n, rows, step)]
        for start, stop in zip(starts, [*starts[1:], rows], strict=True):
            members = [picture.member for picture in self.listing.pictures[start:stop]]
            record = self._building / "chunks" / f"{start}-{stop}.json"
            yield Chunk(self.listing.base, members, self.size, array, start, record)

    def _finish(self) -> None:
        """Put labels and what is known of the whole beside the array, and give the folder its name."""
        array, pictures, n = self._building / "images.npy", self.listing.pictures, len(self.listing.train)
        labels = np.array([picture.label for picture in pictures])
        digests: list[str] = []
        corrupt, moments = {}, []
        for chunk in self._chunks(array):
            found, faults, of_chunk = read_record(chunk.record)
            for i, fault in faults.items():
                found[i], labels[chunk.start + i], corrupt[chunk.members[i]] = "", -1, fault
            digests += found
            if chunk.start < n:
                moments.append(of_chunk)
        if (labels[:n] < 0).all() or (labels[n:] < 0).all():
            raise ValueError(f"{self.listing.base} must hold images of both parts. Got none of one that is whole.")
        mean, std = reduce(add, moments).mean_and_std()
        write_whole(self._building / "labels.npy", _npy(labels))
        about = {
            "classes": self.listing.classes,
            "train": len(self.listing.train),
            "test": len(self.listing.test),
            "corrupt": corrupt,
            "mean": mean,
            "std": std,
            "content_sha256": self.listing.digest(digests),
            "files": {name: sha256(self._building / name) for name in ("images.npy", "labels.npy")},
            "pillow": pillow,
        }
        write_whole(self._building / "about.json", json.dumps(about, indent=2).encode())
        os.replace(self._building, self.folder)
        shutil.rmtree(self.folder / "chunks")
        self._remove_old()

    def _remove_old(self) -> None:
        """What was made, or begun, of other files under this name."""
        ending = "-" + "[0-9a-f]" * 12
        for old in [
            *self.folder.parent.glob(self.label + ending),
            *self.folder.parent.glob(f".{self.label}{ending}.*"),
        ]:
            if old != self.folder and old.is_dir():
                log.info("removing %s: its files have changed", old)
                shutil.rmtree(old)


def _whole(images: Tensor, labels: Tensor) -> Split:
    """A part of the set without what could not be decoded."""
    there = labels >= 0
    return Split(images, labels) if there.all() else Split(images[there], labels[there])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _npy(array: NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
