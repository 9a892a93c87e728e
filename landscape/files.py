"""Writing a file whole or not at all, and by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows: no lock
    fcntl = None  # type: ignore[assignment]


class Taken(OSError):
    """Another process writes the file or folder that was to be claimed."""


_HELD: set[str] = set()
"""Lock files that this process holds."""


def write_whole(path: str | Path, data: bytes) -> None:
    """Write under a temporary name, sync, and rename: under its own name a file is always whole.

    Raises:
        OSError: The folder is not there, not writable or full; a file that was there is kept, and nothing is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # one name, so that what a killed process leaves is written over
    try:
        _sync(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def create_once(path: Path, data: bytes) -> None:
    """Write a file whole unless it is there: of several processes the first one's stays.

    Raises:
        OSError: The folder is not there, not writable or full; nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")  # several may be at it
    try:
        _sync(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links: of two at the very same moment the second one's stays
            os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def claim(path: Path) -> Iterator[None]:
    """Be the only writer of a file or folder that need not be there yet, through a lock file beside it.

    The lock ends with the process, however that ends. HDF5's own is not enough: it can be switched off, and it keeps
    readers out.

    Raises:
        Taken: Another process writes the file.
        OSError: The folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.lock")
    key = os.path.abspath(beside)
    if key in _HELD:  # the system's lock is one of processes
        raise _taken(path)
    _HELD.add(key)
    try:
        with _locked(path, beside):
            yield
    finally:
        _HELD.discard(key)


def claimed(path: Path) -> bool:
    """Whether a process is the writer of a file at this moment."""
    beside = path.with_name(f".{path.name}.lock")
    if os.path.abspath(beside) in _HELD:
        return True
    try:
        handle = os.open(beside, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(path: Path, beside: Path) -> Iterator[None]:
    while True:
        try:
            handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            if not _lock(handle):
                raise _taken(path)
            if _is_at(handle, beside):  # else the one who held it has just removed it
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        beside.unlink()
                return
        finally:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the lock is ours; on a system or file system that has none, nobody's is."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, no forked worker of a loader inherits it
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _taken(path: Path) -> Taken:
    return Taken(f"{path} must have one writer. Another process writes it: wait for it to end.")


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _unwritable(path: Path, error: OSError) -> OSError:
    return OSError(
        f"{path} cannot be written: {error.strerror or error}. Check that its folder exists, is writable and has space."
    )
