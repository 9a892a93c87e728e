"""The processes that train together under torchrun: each has a part of every batch, and the first one writes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

_MEETING = timedelta(minutes=10)
"""Time to find each other in."""
_PATIENCE = timedelta(days=7)
"""The others wait while the first measures, however long that takes; a process that has died is noticed at once."""

_MEETINGS = itertools.count()


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

    def same(self, number: int) -> bool:
        """Whether it is the same in every process, where all must ask; exact below 2**53."""
        everywhere = self.total([torch.tensor(float(number), dtype=torch.float64)])[0]
        return not self.any(float(everywhere) != number * self.size)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.size > 1:
            with _others_there():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)


ALONE = World()
"""One process."""


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started with this one, or this one alone.

    An error in one of them ends all: the first to fail raises it, the others follow without a word.

    Args:
        device: Of this process.

    Raises:
        RuntimeError: They cannot be reached.
        SystemExit: Another one has failed before; with status 130 where it was interrupted, else 1.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(distributed.rendezvous("env://", timeout=_MEETING))
        store = _met(store, rank, size)
        distributed.init_process_group(_backend(device), store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"the {os.environ['WORLD_SIZE']} processes that RANK and WORLD_SIZE speak of must find each other. Start "
            f"them with torchrun, or unset both for one alone. Got: {error}"
        ) from error
    try:
        yield World(rank, size)
    except BaseException as error:
        if not _first_to_fail(store):
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from error
        raise
    finally:
        distributed.destroy_process_group()


def _met(store: distributed.Store, rank: int, size: int) -> distributed.Store:
    """Wait for all; the part of the store for this meeting, since an earlier one has left its addresses there."""
    own = distributed.PrefixStore(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_MEETINGS)}", store)
    own.set(f"here/{rank}", "")
    own.wait([f"here/{i}" for i in range(size)], _MEETING)
    own.set_timeout(_PATIENCE)
    return own


def _backend(device: torch.device) -> str:
    """What carries tensors: NCCL between GPUs, where each process of this machine has one of its own; else gloo."""
    own = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" and own else "gloo"


def _first_to_fail(store: distributed.Store) -> bool:
    """Whether no other process has failed yet, as far as can be known: torchrun's store outlives them, others not."""
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:
        return True


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
