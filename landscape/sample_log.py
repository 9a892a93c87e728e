"""Losses of samples as they come: appended to a file beside the surface, so that a killed process loses none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct("<iiiI")
"""Line, cell, number of examples, and a checksum of what follows."""


def log_path(surface: Path) -> Path:
    """Where the samples of a surface lie until it is finished."""
    return surface.with_name(f"{surface.name}.samples")


class SampleLog:
    """Appends records, and has those that were there before.

    Args:
        path: Of the file; None keeps nothing.
        session: What the samples are of: a file of another session is begun anew.
        terms: How many.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path | None, session: bytes, terms: int) -> None:
        self._file: BinaryIO | None = None
        self._known = LogReader(path, session, terms)
        if path is None:
            return
        self._known.read()
        end = self._known.end
        self._file = open(path, "r+b" if end else "w+b", buffering=0)  # noqa: SIM115
        if not end:
            self._file.write(session)
        self._file.truncate(end or len(session))  # what a killed process has left half written
        self._file.seek(0, os.SEEK_END)

    def find(self, line: int, cell: int, positions: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Losses that were there before; None where there are none."""
        return self._known.find(line, cell, positions)

    def add(self, line: int, cell: int, positions: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Append losses ``[terms, k]`` of k examples.

        Raises:
            OSError: The file cannot be written.
        """
        if self._file is not None:
            body = positions.astype("<i4").tobytes() + values.astype("<f4").tobytes()
            self._file.write(_HEAD.pack(line, cell, len(positions), zlib.crc32(body)) + body)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class LogReader:
    """Reads the log of this process, or follows that of another one."""

    def __init__(self, path: Path | None, session: bytes, terms: int) -> None:
        self._path, self._session, self._terms = path, session, terms
        self._found: dict[tuple[int, int, bytes], NDArray[np.float32]] = {}
        self.end = 0

    def find(self, line: int, cell: int, positions: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Losses ``[terms, k]`` of these examples, as they were asked for; None where there are none yet."""
        return self._found.get((line, cell, positions.astype("<i4").tobytes()))

    def read(self) -> None:
        """Take in the whole records that have come since the last call."""
        if self._path is None or not self._path.exists():
            return
        with open(self._path, "rb") as file:
            if file.read(len(self._session)) != self._session:
                self.end = 0
                return
            self.end = max(self.end, len(self._session))
            file.seek(self.end)
            while self._take(file):
                self.end = file.tell()

    def _take(self, file: BinaryIO) -> bool:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return False
        line, cell, count, checksum = _HEAD.unpack(head)
        size = 4 * count * (1 + self._terms)
        body = file.read(size) if size >= 0 else b""
        if len(body) != size or zlib.crc32(body) != checksum:
            return False
        values = np.frombuffer(body, "<f4", offset=4 * count).reshape(self._terms, count)
        self._found[line, cell, body[: 4 * count]] = values
        return True
