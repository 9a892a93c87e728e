"""Archives that are published at an address: downloaded once, and known by their digest."""

from __future__ import annotations

import hashlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from dot.data.disk import alone
from dot.data.sources import root

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        url: Its address, which ends in its name.
        size: In bytes.
        sha256: Of its bytes.
    """

    url: str
    size: int
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies, or would lie, in the data folder."""
        return root() / self.url.rsplit("/", 1)[1]

    def check(self) -> Path:
        """Where it lies, once its bytes are known to be those that were published.

        Raises:
            FileNotFoundError: It is not there.
            ValueError: It is cut short, or another file.
        """
        size = self.path.stat().st_size
        if size != self.size:
            raise ValueError(
                f"{self.path} must have {self.size:,} bytes. Got {size:,}: it is cut short, or another file. Delete "
                f"it; it is then fetched again from {self.url}."
            )
        digest = sha256(self.path)
        if digest != self.sha256:
            raise ValueError(
                f"{self.path} must have the SHA-256 {self.sha256}. Got {digest}: it is damaged, or another file. "
                f"Delete it; it is then fetched again from {self.url}."
            )
        return self.path

    def fetch(self, unpacked: str) -> Path:
        """Download it unless it is there; either way its bytes are checked.

        Args:
            unpacked: The folder that may lie in its place, to be named where it cannot be downloaded.

        Raises:
            OSError: It cannot be downloaded; the message says which file to put where.
            ValueError: What is there is cut short, or another file.
        """
        if not self.path.exists():
            with alone(self.path):
                if not self.path.exists():
                    self._download(unpacked)
        return self.check()

    def _download(self, unpacked: str) -> None:
        import pooch

        log.info("fetching %s (%.0f MB) into %s", self.url, self.size / 1e6, self.path.parent)
        pooch.get_logger().setLevel("WARNING")  # it would say the same again
        shown = pooch.HTTPDownloader(progressbar=sys.stderr.isatty())
        known, path = f"sha256:{self.sha256}", self.path
        try:
            pooch.retrieve(self.url, known_hash=known, fname=path.name, path=path.parent, downloader=shown)
        except (OSError, ValueError) as error:  # no connection, or other bytes
            raise OSError(
                f"{self.url} must give the file with SHA-256 {self.sha256}. Got {error}. Without a network: download "
                f"it elsewhere and put it at {path}, or unpacked at {path.parent / unpacked}."
            ) from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
