"""Leaving the caller's process as it was found: random states and the number of threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch


@contextmanager
def preserve_rng(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Put the random states of Python, numpy and torch back on exit, exceptions included.

    Args:
        seed: Where given, what all of them are seeded with inside.
        device: An accelerator whose generator is treated alike; the CPU's always is.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    accelerator = _accelerator(device)
    where = (device,) if device is not None and device.type == "cuda" else ()
    own = accelerator.get_rng_state(*where) if accelerator is not None else None
    try:
        if seed is not None:
            seed_all(seed, device)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if accelerator is not None:
            accelerator.set_rng_state(own, *where)


def seed_all(seed: int, device: torch.device | None = None) -> None:
    """Seed the generators that `preserve_rng` puts back."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed costs as much as a small network
    accelerator = _accelerator(device)
    if accelerator is not None:
        with torch.cuda.device(device) if accelerator is torch.cuda else nullcontext():
            accelerator.manual_seed(seed)


def _accelerator(device: torch.device | None) -> Any:
    return {"cuda": torch.cuda, "mps": torch.mps}.get(device.type) if device is not None else None


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Run with ``threads`` CPU threads, or as many as before for 0; the last bits of sums depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
