"""Random draws from a key, such as (seed, epoch, step): no state to keep, and the same on every device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator(*key: int) -> torch.Generator:
    """A CPU generator for a key."""
    sequence = np.random.SeedSequence((len(key), *key))  # with its length, or (1, 0) would be (1,)
    seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def drawn(n: int, wanted: int, seed: int) -> Tensor:
    """Indices of so many of n images, of all for 0, in a drawn order: a set may lie in that of its classes."""
    return torch.randperm(n, generator=generator(seed))[: wanted or n]


def shuffled(n: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of each batch of an epoch, in an order that depends on the seed and the epoch only.

    Batches differ in size by one at most and hold at most ``batch_size``: a rest of two images, say, would be a step
    whose batch norm rests on two images.
    """
    return list(torch.randperm(n, generator=generator(seed, epoch)).tensor_split(-(-n // batch_size)))


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for what the device is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
