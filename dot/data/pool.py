"""Worker processes that decode image files, for as long as they are needed.

They are spawned: they have nothing of the process that starts them, neither locks nor a GPU, and they import no torch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from dot.data.decoding import start_worker

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def decoders() -> Iterator[ProcessPoolExecutor]:
    """A process for each CPU; what they have not begun is left undone at the end.

    Raises:
        RuntimeError: One cannot be started, or ended.
    """
    pool = ProcessPoolExecutor(cpus(), get_context("spawn"), start_worker)
    try:
        pool.submit(int).result()  # a script that its own workers run again fails here, before it waits for itself
        yield pool
    except BrokenProcessPool as error:
        raise RuntimeError(
            "the processes that decode images must start and stay. One ended: run dot-landscape data fetch first, or "
            "put the script that loads the images under if __name__ == '__main__'. Else memory ran out."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def as_done(running: Sequence[Future[Result]]) -> Iterator[Future[Result]]:
    """Each when it is done; where there are many, the log says how far it is."""
    n = len(running)
    for done, future in enumerate(as_completed(running), 1):
        yield future
        if done * 10 // n > (done - 1) * 10 // n and n >= 10:
            log.info("%d %% decoded", done * 100 // n)
