"""Files that are whole or not there, and work that one process does while others wait for it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows: no lock; what two processes make at a time is the same, and each file is whole
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name of this process, sync, and rename.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one who makes a file or folder; whoever else wants to make it waits here.

    The lock ends with the process, however that ends.

    Raises:
        OSError: The folder cannot be made or written.
    """
    beside = path.with_name(f".{path.name}.lock")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(beside, path)
    except OSError as error:
        raise OSError(
            f"{path} cannot be made: {error.strerror or error}. Set DOT_DATA to a folder that can be written; data "
            "that lie elsewhere may be linked into it."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
        os.close(handle)


def _locked(path: Path, made: Path) -> int:
    """An open handle that holds the lock of a file, which is there as long as it is held."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that makes %s", made)
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # the one who held it has removed it
