"""Examples that are read once and kept on the device, in batches of any size and any choice of them."""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.batches import Reader, joined, rows_of, size_of

_SHARE = 0.25
"""Of the memory that is free, what examples may take: while they are joined, they are there twice."""


class Kept(NamedTuple):
    """The examples of a reader.

    Attributes:
        sha256: Digest of all of them.
        batches: A single batch of all; those of the reader, where they cannot be put together; none, where there is no
            room.
        head: The first batches of the reader, as they came.
    """

    sha256: str
    batches: list[Any]
    head: list[Any]

    @property
    def whole(self) -> bool:
        """Whether any choice of examples makes a batch."""
        return len(self.batches) == 1 and size_of(self.batches[0]) > 0

    @property
    def first(self) -> list[Any]:
        """The examples of `head`, in one batch if all are."""
        return [rows_of(self.batches[0], slice(0, sum(map(size_of, self.head))))] if self.whole else self.head


def keep(reader: Reader, head: int) -> Kept:
    """Read all batches once, and keep them where they take less than a quarter of the free memory.

    Args:
        reader: Of the data, on the device and in the precision wanted.
        head: How many examples, at least, are also kept as they came.
    """
    digest, room = hashlib.sha256(), _SHARE * free_memory(reader.device)
    batches: list[Any] = []
    first: list[Any] = []
    count = 0
    for batch in reader.read(digest):
        if count < head:
            first.append(batch)
        count += size_of(batch)
        room -= sum(t.numel() * t.element_size() for t in tree_leaves(batch) if isinstance(t, Tensor))
        if room > 0:
            batches.append(batch)
        else:
            batches.clear()
    return Kept(digest.hexdigest(), joined(batches), first)


def free_memory(device: torch.device) -> int:
    """Bytes that may be had on a device; those of the main memory on an accelerator other than CUDA's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/meminfo") as file:  # page caches are free, too
            found = [line.split()[1] for line in file if line.startswith("MemAvailable:")]
        return max(available, 1024 * int(found[0]) if found else 0)
    except (OSError, ValueError, AttributeError):
        return 4 << 30
