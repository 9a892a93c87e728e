"""Tiny-ImageNet: 200 classes of 64x64 JPEG, from its zip file or unpacked, decoded once.

tiny-imagenet-200/
    train/<wnid>/images/*.JPEG      500 of each class
    val/images/*.JPEG               50 of each class, held out
    val/val_annotations.txt         the class of each of these
The labels are the places of the wnids in the order of their names. The test part has no labels and is not used.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dot.data.archives import Archive
from dot.data.cache import Cache
from dot.data.decoding import read
from dot.data.images import ImageSet
from dot.data.listing import Listing, Picture, files
from dot.data.sources import required, root

_FOLDER = "tiny-imagenet-200"


@dataclass(frozen=True)
class TinyImageNet:
    """The set, or a part of it; a `Source`.

    Attributes:
        name: As in the registry.
        archive: As published.
        all_classes: How many it has.
        train_each: Images of each class to train on.
        test_each: Held out.
        classes: Use the first so many by name; None for all.
        size: Edge of the square that the images are brought to; None for their own.
        mean: Of each channel; None: it and `std` are computed from the training images.
        std: Likewise.
    """

    name: str
    archive: Archive
    all_classes: int = 200
    train_each: int = 500
    test_each: int = 50
    classes: int | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def about(self) -> str:
        """What it is, in a line."""
        edge, classes = self.size or 64, self.classes or self.all_classes
        number = classes * (self.train_each + self.test_each)
        return f"{number:,} colour images of {edge}x{edge} in {classes} classes ({self.archive.size / 1e6:.0f} MB)"

    def find(self) -> Path | None:
        """The unpacked folder, else the zip file, else None."""
        return next((path for path in (root() / _FOLDER, self.archive.path) if path.exists()), None)

    def where(self) -> Path:
        """The same; its absence is an error.

        Raises:
            FileNotFoundError: It is not on this machine.
        """
        return required(self.name, self.find())

    def fetch(self) -> Path:
        """Download the zip file unless it or the folder is there, and decode it. Returns the decoded images' folder.

        Raises:
            OSError: It cannot be downloaded (the message says which file to put where), or not be written.
            ValueError: The zip file is cut short or another file, or the folder is not laid out as published.
        """
        return self._built().folder

    def load(self) -> ImageSet:
        """The decoded images; see `fetch` for further errors.

        Raises:
            ValueError: An image is corrupt.
        """
        return self._built().image_set(self.name, mean=self.mean, std=self.std)

    def check(self) -> None:
        """Read every byte of the images and of what was decoded; see `load` for further errors.

        Raises:
            FileNotFoundError: It is not on this machine.
            ValueError: They have changed.
        """
        if self.where() == self.archive.path:
            self.archive.check()
        cache = self._built()
        cache.image_set(self.name)
        cache.check()

    def _built(self) -> Cache:
        found = self.find() or self.archive.fetch(_FOLDER)
        try:
            listing = self._listing(found)
        except zipfile.BadZipFile:
            self.archive.check()
            raise
        cache = Cache(self.name, listing.first(self.classes), self.size)
        if not cache.ready:
            if found == self.archive.path:
                self.archive.check()
            cache.build()
        return cache

    def _listing(self, base: Path) -> Listing:
        """The images with labels; what is not as published is refused."""
        again = f"Unpack {self.archive.url} again, or delete {base}."
        found = _zipped(base) if base == self.archive.path else _unpacked(base)
        train = _to_train_on(found)
        test: dict[str, tuple[str, ...]] = dict.fromkeys(train, ())
        for path, wnid in _annotations(base):
            if wnid not in train or path not in found:
                missing = path if wnid in train else f"class {wnid} to train on"
                raise ValueError(f"{base} must hold what val_annotations.txt names. Got no {missing}. {again}")
            test[wnid] = (*test[wnid], path)
        for part, images, number in (("train", train, self.train_each), ("val", test, self.test_each)):
            if len(images) != self.all_classes or {len(paths) for paths in images.values()} != {number}:
                raise ValueError(
                    f"{base} must hold {number} {part} images of each of {self.all_classes} classes. Got "
                    f"{sum(map(len, images.values())):,} of {len(images)} classes. {again}"
                )
        parts = [
            tuple(
                Picture(path, f"{wnid}/{path.rsplit('/', 1)[1]}", label, found[path])
                for label, wnid in enumerate(sorted(train))
                for path in sorted(images[wnid])
            )
            for images in (train, test)
        ]
        return Listing(base, tuple(sorted(train)), *parts)


def _unpacked(base: Path) -> dict[str, str]:
    """Stamps of the image files by their paths."""
    parts = [part for part in ("train", "val") if (base / part).is_dir()]
    return {f"{part}/{path}": stamp for part in parts for path, stamp in files(base / part)}


def _zipped(path: Path) -> dict[str, str]:
    """Stamps of the files by their paths."""
    with zipfile.ZipFile(path) as file:
        return {info.filename: f"{info.file_size} {info.CRC}" for info in file.infolist() if not info.is_dir()}


def _to_train_on(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Paths by the class that their folder is called after."""
    found: dict[str, list[str]] = {}
    for path in paths:
        match path.removeprefix(f"{_FOLDER}/").split("/"):
            case ["train", wnid, "images", _]:
                found.setdefault(wnid, []).append(path)
    return {wnid: tuple(images) for wnid, images in found.items()}


def _annotations(base: Path) -> list[tuple[str, str]]:
    """Paths of the held-out images, each with its class."""
    inside = "" if base.is_dir() else f"{_FOLDER}/"
    try:
        lines = read(base, f"{inside}val/val_annotations.txt").decode().splitlines()
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{base} must hold val/val_annotations.txt, the classes of the held-out images. Got none."
        ) from error
    fields = (line.split("\t") for line in lines)
    return [(f"{inside}val/images/{name}", wnid) for name, wnid, *_box in (f for f in fields if len(f) > 1)]


_ARCHIVE = Archive(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    size=248_100_043,
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)
_SETS = {
    found.name: found
    for found in (
        TinyImageNet("tiny-imagenet", _ARCHIVE, mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
        TinyImageNet("tiny-imagenet-20-32", _ARCHIVE, classes=20, size=32),
    )
}


def source(name: str) -> TinyImageNet:
    """The set of a name."""
    return _SETS[name]
