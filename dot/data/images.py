"""The one interface of image sets: whole arrays on the device, seeded batches, augmentation of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of a set.

    Attributes:
        images: uint8 ``[N, C, H, W]``, 0 to the set's ``white``.
        labels: int64 ``[N]``.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

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
    train: Split
    test: Split
    num_classes: int
    white: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str = ""
    skipped: int = 0

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.train.images.shape[1]

    def to(self, device: torch.device) -> ImageSet:
        """The same with both splits on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised float32 inputs ``[N, C, H, W]`` of uint8 images."""
        mean, std = self._scale
        return (images.float() / self.white - mean) / std

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        device = self.train.images.device  # made once: a copy to a GPU in each step would wait for it
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (self.mean, self.std))
        return mean, std


def generator(*key: int) -> torch.Generator:
    """A CPU generator for a key, such as ``(seed, epoch, step)``: no state to keep between calls or to restore."""
    sequence = np.random.SeedSequence((len(key), *key))  # with its length, or (1, 0) would be (1,)
    seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def batches(n: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of each batch of an epoch, in an order that depends on the seed and the epoch only.

    Batches differ in size by one at most and hold at most ``batch_size``: a rest of two images, say, would be a step
    whose batch norm rests on two images.
    """
    return list(torch.randperm(n, generator=generator(seed, epoch)).tensor_split(-(-n // batch_size)))


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for what the device is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def shift(images: Tensor, pixels: int, draw: torch.Generator) -> Tensor:
    """Move each image by up to ``pixels`` in both directions, drawn evenly; what comes in is black.

    Args:
        images: ``[N, C, H, W]``.
        pixels: At least 0.
        draw: A CPU generator.
    """
    if pixels == 0:
        return images
    n, _, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    down, right = upload(torch.randint(0, 2 * pixels + 1, (2, n), generator=draw), images.device)
    return windows[torch.arange(n, device=images.device), :, down, right]
