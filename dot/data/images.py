"""The one interface of image sets: two parts, each of which gives the batches it is asked for, and their scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dot.data.augment import Views, apply
from dot.data.drawing import upload

Order = tuple[Tensor, Views]
"""A batch that is asked for: indices of images, int64 ``[N]`` on the CPU, and how each is to be seen."""


class Part(Protocol):
    """Images and labels of one part of a set, wherever its pixels lie."""

    @property
    def labels(self) -> Tensor:
        """int64 ``[N]``, on the device."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image that `batches` gives, ``(C, H, W)``."""
        ...

    def __len__(self) -> int: ...

    def batches(self, orders: Iterable[Order]) -> Iterator[Tensor]:
        """For each order its images, uint8 ``[N, C, H, W]`` on the device, 0 to the set's ``white``."""
        ...

    def to(self, device: torch.device) -> Part:
        """The same on another device."""
        ...


@dataclass(frozen=True)
class Split:
    """A part whose images lie on the device; a `Part`.

    Attributes:
        images: uint8 ``[N, C, H, W]``, 0 to the set's ``white``.
        labels: int64 ``[N]``.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, ``(C, H, W)``."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def batches(self, orders: Iterable[Order]) -> Iterator[Tensor]:
        """For each order its images ``[N, C, H, W]``, augmented on the device."""
        for indices, views in orders:
            yield apply(views, self.images[upload(indices, self.images.device)])

    def to(self, device: torch.device) -> Split:
        """The same on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageSet:
    """A train and a test split, and how pixels become inputs.

    Attributes:
        name: As in the registry.
        train: Examples to train on.
        test: Examples held out.
        num_classes: Of the labels.
        white: The pixel value that stands for 1.
        mean: Of each channel of the training images, ``[C]``, white being 1.
        std: Likewise.
        digest: SHA-256 of its content, where the name alone does not say which images these are.
        skipped: Images that could not be decoded and were left out.
    """

    name: str
    train: Part
    test: Part
    num_classes: int
    white: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str = ""
    skipped: int = 0

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.train.shape[0]

    def to(self, device: torch.device) -> ImageSet:
        """The same with both splits on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised float32 inputs ``[N, C, H, W]`` of uint8 images."""
        mean, std = self._scale
        return (images.float() / self.white - mean) / std

    def inputs_of(self, part: Part, indices: Tensor) -> Tensor:
        """Inputs ``[N, C, H, W]`` of some images of a part (int64 ``[N]`` on the CPU), not augmented."""
        return self.inputs(next(part.batches([(indices, Views())])))

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        device = self.train.labels.device  # made once: a copy to a GPU in each step would wait for it
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (self.mean, self.std))
        return mean, std
