"""Writing a file whole or not at all, and by one process at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows: no lock
    fcntl = None  # type: ignore[assignment]


def write_whole(path: str | Path, data: bytes) -> None:
    """Write under a temporary name, sync, and rename: under its own name a file is always whole.

    Raises:
        OSError: The folder is not there, not writable or full; a file that was there is kept, and nothing is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Check that its folder exists, is writable and has space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold a lock that a file stands for; it ends with the process, however that ends.

    Raises:
        OSError: Another process holds it.
    """
    with open(path, "rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(f"{path.parent} is being written by another process: wait for it to end.") from error
        yield
