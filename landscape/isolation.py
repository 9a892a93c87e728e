"""Leaving the caller's process as it was found: random states and the number of threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserve_rng(seed: int | None = None) -> Iterator[None]:
    """Put the random states of Python, numpy and torch (every device) back on exit, exceptions included.

    Args:
        seed: Where given, what all of them are seeded with inside.
    """
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=True):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed)
                torch.default_generator.manual_seed(seed)  # torch.manual_seed costs as much as a small network
                if torch.cuda.is_available():
                    torch.cuda.manual_seed_all(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Run with ``threads`` CPU threads, or as many as before for 0; the last bits of sums depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
