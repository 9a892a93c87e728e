"""The processes that train together under torchrun: each has a part of every batch, and the first one writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(days=7)
"""The others wait while the first measures, however long that takes; a process that has died is noticed at once."""


@dataclass(frozen=True)
class World:
    """Who trains together.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """What of a batch of ``n`` is this process's; parts differ in size by one at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum over the processes of each tensor, in one exchange; the tensors themselves stay.

        Raises:
            RuntimeError: Another process has ended.
        """
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _others_there():
            distributed.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]

    def any(self, here: bool) -> bool:
        """Whether it is so in any process; all must ask."""
        if self.size == 1:
            return here
        return float(self.total([torch.tensor(float(here))])[0]) > 0

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.size > 1:
            with _others_there():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started with this one, or this one alone.

    Raises:
        RuntimeError: They cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "MASTER_ADDR" not in os.environ:
        yield World()
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def synchronised(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """The model with batch norm over the whole batch, whichever process has it.

    Raises:
        ValueError: The device is not a GPU: torch has it for these alone.
    """
    if world.size == 1:
        return model
    if device.type != "cuda":
        raise ValueError(
            f"compute.sync_batch_norm needs GPUs. Got {device.type}: set it to false, and each process normalises by "
            "its own part of a batch."
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


@contextmanager
def _others_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "all processes of a training must stay to its end. Another one has ended, or cannot be reached: see its "
            "log, then run the same command again; training goes on from the last checkpoint."
        ) from error
