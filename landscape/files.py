"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
