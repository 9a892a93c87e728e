"""Records that grow while training: a line of JSON each, appended, and cut back to a checkpoint when it is resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dot.plain import to_json
from landscape.files import write_whole


class Journal:
    """An append-only file of JSON lines in the order of the key ``at``.

    Args:
        path: Of the file.
        at: The key of every record that says when it was made, such as ``"epoch"``.
    """

    def __init__(self, path: Path, at: str) -> None:
        self.path = path
        self._at = at
        self._waiting: list[str] = []

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is in the file after the next `sync`."""
        self._waiting.append(to_json(record, indent=None) + "\n")

    def sync(self) -> None:
        """Have what was appended on the disk, before anything that counts on it.

        Raises:
            OSError: The file cannot be written; it is as it was, and what was appended is kept for the next attempt.
        """
        if not self._waiting:
            return
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab") as file:
                file.write("".join(self._waiting).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if self.path.exists():
                os.truncate(self.path, before)
            raise OSError(f"{self.path} cannot be written: {error.strerror}. Check that its disk has space.") from error
        self._waiting.clear()

    def read(self) -> list[dict[str, Any]]:
        """Every whole record of the file; a number that was not finite is None, a line cut short by a kill is left out.

        Raises:
            ValueError: Another line is no JSON; the file is named.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]  # what follows the last line end is empty, or cut short
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise ValueError(f"{self.path} must hold a JSON record a line. Got another: {error}.") from error

    def cut(self, last: int) -> None:
        """Drop the records after ``last``: they are made again when training goes on from there."""
        if not self.path.exists():
            return
        kept = [record for record in self.read() if record[self._at] <= last]
        write_whole(self.path, "".join(to_json(record, indent=None) + "\n" for record in kept).encode())
