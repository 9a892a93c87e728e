"""Ctrl-C that waits for a step to end, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt(alone: bool = True) -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM is only remembered; a second one interrupts at once.

    Args:
        alone: Without other processes. Under torchrun, False, one Ctrl-C may come twice, from the terminal and from
            torchrun, which itself ends who has not stopped after half a minute: every signal is only remembered.

    Yields:
        A function that tells whether a signal has come. Outside the main thread signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and alone:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
