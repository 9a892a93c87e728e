"""Image files too many for memory: read and decoded batch by batch, ahead of their use, by worker processes.

A worker gets paths and random chances and gives pixels: it holds nothing of the set, and what it gives depends on
nothing else. Workers are forked by a server that is started afresh and imports torch once, so that they start at once.
A fork of this process itself would have locks that its other threads hold, and a GPU that a fork must not touch.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dot.data.augment import Views, apply
from dot.data.decoding import read, start_worker, why
from dot.data.drawing import upload
from dot.data.fitting import fit
from dot.data.images import ImageSet, Order
from dot.data.listing import Listing, Picture
from dot.data.pool import cpus

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of each channel over ImageNet's training images, white being 1, as is customary for photographs."""


@dataclass(frozen=True)
class Streamed:
    """A part whose images stay in their files until they are asked for; a `Part`.

    Attributes:
        base: The folder that they lie in.
        members: Their paths in it.
        labels: int64 ``[N]``; batches come to its device.
        size: Edge of the square that each image is brought to.
        workers: Processes that decode; 0: this one; None: one for each CPU of this process, divided by
            ``LOCAL_WORLD_SIZE`` where several processes share them.
    """

    base: Path
    members: tuple[str, ...]
    labels: Tensor
    size: int
    workers: int | None = None

    @classmethod
    def of(cls, base: Path, pictures: Iterable[Picture], size: int, workers: int | None = None) -> Streamed:
        """That of image files, on the CPU."""
        pictures = tuple(pictures)
        labels = torch.tensor([picture.label for picture in pictures], dtype=torch.int64)
        return cls(base, tuple(picture.member for picture in pictures), labels, size, workers)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, ``(3, size, size)``."""
        return 3, self.size, self.size

    def batches(self, orders: Iterable[Order]) -> Iterator[Tensor]:
        """For each order its images, uint8 ``[N, 3, size, size]`` on the device of the labels.

        An image whose views have crops is cut where `dot.data.augment.rectangles` says for its own height and width,
        and brought to the size, smoothed; without crops it is the middle square, see `dot.data.fitting.fit`. The other
        views are applied on the device. The same whatever the number of workers, and however orders are cut.

        Orders are asked for ahead of the batches: two for each worker, which is also how many batches wait in memory.

        Raises:
            ValueError: An image cannot be decoded; it is named.
            RuntimeError: A worker could not be started, or ended.
        """
        waiting: deque[Views] = deque()
        for found in _results(self._loader(self._tasks(orders, waiting))):
            if isinstance(found, str):
                raise ValueError(found)
            yield apply(waiting.popleft(), upload(found, self.labels.device))

    def to(self, device: torch.device) -> Streamed:
        """The same with its batches on another device."""
        return replace(self, labels=self.labels.to(device))

    def _tasks(self, orders: Iterable[Order], waiting: deque[Views]) -> Iterator[_Task]:
        """What workers are asked to do for each order; how its images are then to be seen is put where they wait."""
        for indices, views in orders:
            waiting.append(replace(views, crops=None))
            chances = None if views.crops is None else views.crops.numpy()
            yield _Task([self.members[i] for i in indices.tolist()], chances)

    def _loader(self, tasks: Iterable[_Task]) -> DataLoader[Tensor | str]:
        workers = max(1, cpus() // _processes_here()) if self.workers is None else self.workers
        return DataLoader(
            _Decoder(self.base, self.size),
            sampler=tasks,
            batch_size=None,  # a task is a whole batch already
            num_workers=workers,
            pin_memory=self.labels.device.type == "cuda",
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # or it would draw from the generator that a user's network draws from
        )


def image_set(
    name: str,
    listing: Listing,
    size: int,
    *,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    workers: int | None = None,
) -> ImageSet:
    """The image files of a listing as a set that is streamed, its digest that of the stamps of the files.

    Args:
        name: Of the set.
        listing: Which images, their sizes in bytes as stamps; see `dot.data.remembered`.
        size: Edge of the square that they are brought to.
        mean: Of each channel.
        std: Likewise.
        workers: See `Streamed`.
    """
    train, test = (Streamed.of(listing.base, part, size, workers) for part in (listing.train, listing.test))
    digest = listing.digest([picture.stamp for picture in listing.pictures])
    return ImageSet(name, train, test, len(listing.classes), white=255, mean=mean, std=std, digest=digest)


class _Task(NamedTuple):
    """A batch for a worker: paths, and the chances of the rectangles ``[N, 4, tries]``, or None for the middle."""

    members: list[str]
    chances: NDArray[np.float64] | None


class _Decoder(Dataset[Tensor | str]):
    """Does tasks: pixels uint8 ``[N, 3, size, size]``, or what is wrong with an image."""

    def __init__(self, base: Path, size: int) -> None:
        self.base, self.size = base, size

    def __getitem__(self, task: _Task) -> Tensor | str:
        batch = np.empty((len(task.members), 3, self.size, self.size), np.uint8)
        for i, member in enumerate(task.members):
            chances = None if task.chances is None else torch.from_numpy(task.chances[i : i + 1])
            try:
                batch[i] = fit(read(self.base, member), self.size, chances)
            except Exception as error:  # a decoder that is fed with broken files raises anything
                return (
                    f"{self.base / member} must be a whole image. Got one that cannot be decoded ({why(error)}). Mend "
                    "or remove it: dot-landscape data verify, with the name of the set, names all such."
                )
        return torch.from_numpy(batch)


def _results(loader: DataLoader[Tensor | str]) -> Iterator[Tensor | str]:
    """What comes of each task, in order."""
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise RuntimeError(  # connection: it ended while its batch was fetched
            "the processes that decode images must start and stay. One ended: put the script that loads the images "
            "under if __name__ == '__main__'. Else memory ran out, perhaps that in /dev/shm: use smaller batches."
        ) from error


def _context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(number: int) -> None:
    start_worker()


def _processes_here() -> int:
    """Of this computation, on this machine, as torchrun tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
