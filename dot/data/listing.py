"""Which image files make up a set, in which order, before any of them is decoded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class Picture(NamedTuple):
    """An image file.

    Attributes:
        member: Its path in the folder or zip file.
        key: What it is called in the digest of the set, ``<class>/<file>``.
        label: Of its class.
        stamp: What changes when the file does, as far as can be told without reading it.
    """

    member: str
    key: str
    label: int
    stamp: str


@dataclass(frozen=True)
class Listing:
    """The image files of a set.

    Attributes:
        base: A folder or zip file.
        classes: Their names, in order; the place of one is its label.
        train: To train on, by class and name.
        test: Held out, likewise.
    """

    base: Path
    classes: tuple[str, ...]
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Both parts, those to train on first."""
        return self.train + self.test

    def first(self, classes: int | None) -> Listing:
        """The same with the first so many classes alone; all of them where it is None.

        Raises:
            ValueError: There are fewer, or no image of these is held out.
        """
        if classes is None:
            return self
        if classes > len(self.classes):
            raise ValueError(f"classes must be at most the {len(self.classes)} of {self.base}. Got {classes}.")
        train, test = (tuple(p for p in part if p.label < classes) for part in (self.train, self.test))
        if not test:
            raise ValueError(f"{self.base} must hold out images of its first {classes} classes. Got none.")
        return replace(self, classes=self.classes[:classes], train=train, test=test)

    def fingerprint(self, size: int | None) -> str:
        """A digest that changes where the decoded pixels might; it does not depend on where the files lie."""
        return hashlib.sha256(json.dumps([size, self.classes, self.train, self.test]).encode()).hexdigest()

    def digest(self, digests: Sequence[str]) -> str:
        """SHA-256 of what the set holds: part, class, name and bytes of each image file.

        Args:
            digests: Of the bytes of each of `pictures`; an empty one leaves the image out.
        """
        total = hashlib.sha256()
        for i, (picture, digest) in enumerate(zip(self.pictures, digests, strict=True)):
            if digest:
                total.update(f"{'train' if i < len(self.train) else 'test'}/{picture.key}\n{digest}\n".encode())
        return total.hexdigest()


def files(folder: Path, enter: Callable[[Path], object] = lambda folder: None) -> Iterator[tuple[str, str]]:
    """Each image file below a folder: its path in it, with slashes, and its stamp; hidden ones are left out.

    In the order of the paths.

    Args:
        folder: Where to look.
        enter: Told of each folder before it is looked at.
    """
    enter(folder)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from ((f"{entry.name}/{path}", stamp) for path, stamp in files(Path(entry.path), enter))
        elif entry.name.lower().endswith(_ENDINGS):
            status = entry.stat()
            yield entry.name, f"{status.st_size} {status.st_mtime_ns}"
