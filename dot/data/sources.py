"""What every image set can do, and where image sets lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dot.data.images import ImageSet


class Source(Protocol):
    """An image set that may or may not be on this machine."""

    @property
    def name(self) -> str:
        """As in the registry."""
        ...

    @property
    def about(self) -> str:
        """What it is, in a line."""
        ...

    def find(self) -> Path | None:
        """Where its files lie; None where they are not on this machine."""
        ...

    def where(self) -> Path:
        """Where its files lie.

        Raises:
            FileNotFoundError: They are not on this machine; the message says what to do.
        """
        ...

    def fetch(self) -> Path:
        """Make it ready to load: download what is missing, decode what is not decoded. Returns where its files lie."""
        ...

    def load(self) -> ImageSet:
        """The set on the CPU; fetched first where need be."""
        ...

    def check(self) -> None:
        """Look at every byte of it.

        Raises:
            ValueError: Something is not as it should be.
            FileNotFoundError: It is not on this machine.
        """
        ...


def root() -> Path:
    """The folder of image sets: the environment variable ``DOT_DATA``, else the user's cache folder."""
    chosen = os.environ.get("DOT_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("dot-landscape"))


def required(name: str, found: Path | None) -> Path:
    """Where a set that could be fetched lies.

    Raises:
        FileNotFoundError: It is not there; the message says what to do.
    """
    if found is not None:
        return found
    raise FileNotFoundError(
        f"{name} must be in {root()}. It is not: run dot-landscape data fetch {name}, or set DOT_DATA to the folder "
        "that holds it."
    )
