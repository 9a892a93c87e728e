"""Image folders: ``train/<class>/...`` and ``val/<class>/...`` (or ``test/``), as most tools lay them out.

A study names one as ``folder:birds,classes=20,size=32@0123456789ab``: the folder ``birds`` in the data folder (a link
to where it lies will do), its first 20 classes by name, 32x32 pixels. The digits after the @ are the beginning of the
digest of part, class, name and bytes of its image files. So the name of a run says which images it was trained on and
not where they lay: it is the same on another machine, and another content under the same name is refused.

``folder:birds,size=224,stream@0123456789ab`` is the same folder where it is too large for memory: its images stay in
their files until they are seen. To name it no file is read, so that its digest is that of part, class, name and size in
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dot.data import corrupt, remembered
from dot.data.cache import Cache
from dot.data.images import ImageSet
from dot.data.listing import Listing, Picture, files
from dot.data.sources import root
from dot.data.streaming import image_set

PREFIX = "folder:"
_FORM = re.compile(
    r"folder:(?P<folder>\w[\w.-]*)(,classes=(?P<classes>[1-9]\d*))?(,size=(?P<size>[1-9]\d*)(?P<stream>,stream)?)?"
    r"((?(stream)(?!))(?P<skip>,skip-corrupt))?(@(?P<digest>[0-9a-f]{12}))?",
    re.ASCII,
)
_SHORT = 12


@dataclass(frozen=True)
class Folder:
    """An image folder in the data folder; a `Source`.

    Attributes:
        folder: Its name.
        classes: Use the first so many by name; None for all.
        size: Bring the shorter side to this and cut the middle square out; None: all images must have one shape.
        skip_corrupt: Leave out what cannot be decoded; else it is an error.
        digest: The first 12 digits of the content's; empty for whatever it holds.
    """

    folder: str
    classes: int | None = None
    size: int | None = None
    skip_corrupt: bool = False
    digest: str = ""

    @property
    def name(self) -> str:
        """As in the registry."""
        return f"{self._unpinned}@{self.digest}" if self.digest else self._unpinned

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return "an image folder"

    def find(self) -> Path | None:
        """The folder, where it has a ``train`` in it; else None."""
        return root() / self.folder if (root() / self.folder / "train").is_dir() else None

    def where(self) -> Path:
        """The same; its absence is an error.

        Raises:
            FileNotFoundError: It is not there.
        """
        found = self.find()
        if found is None:
            raise FileNotFoundError(
                f"{self.folder} must be in {root()}, with train/<class>/ and val/<class>/ in it. It is not: put or "
                "link it there, or set DOT_DATA to the folder that holds it."
            )
        return found

    def fetch(self) -> Path:
        """Decode the images, unless they are decoded. Returns the folder of the decoded images.

        Raises:
            FileNotFoundError: The folder is not there.
            OSError: The decoded images cannot be written.
            ValueError: The folder is laid out otherwise, or its images differ in shape and no size is given.
        """
        cache = self._cache()
        cache.build()
        return cache.folder

    def load(self) -> ImageSet:
        """The decoded images; see `fetch` for further errors.

        Raises:
            ValueError: An image is corrupt, or the content is another than the name says.
        """
        cache = self._cache()
        cache.build()
        name = self._named(cache.about["content_sha256"])
        return cache.image_set(name, skip_corrupt=self.skip_corrupt)

    def check(self) -> None:
        """Read every byte of the images and of what was decoded; see `load` for further errors.

        Raises:
            ValueError: They have changed.
        """
        self.load()
        self._cache().check()

    @property
    def _unpinned(self) -> str:
        classes = f",classes={self.classes}" if self.classes is not None else ""
        size = f",size={self.size}" if self.size is not None else ""
        return f"{PREFIX}{self.folder}{classes}{size}{',skip-corrupt' if self.skip_corrupt else ''}"

    def _named(self, digest: str) -> str:
        """Its name with the digest of what was found; another than it says is refused."""
        found = f"{self._unpinned}@{digest[:_SHORT]}"
        if self.digest and found != self.name:
            raise ValueError(
                f"{self.where()} must hold the images of {self.name}. Got others, of {found}: put those back, or name "
                "these."
            )
        return found

    def _cache(self) -> Cache:
        label = self._unpinned.replace(":", ".").removesuffix(",skip-corrupt")
        return Cache(label, listing(self.where()).first(self.classes), self.size)


@dataclass(frozen=True)
class StreamedFolder(Folder):
    """An image folder whose images stay in their files until they are seen; it has a size. A `Source`.

    Attributes:
        workers: See `dot.data.streaming.Streamed`.
    """

    workers: int | None = None

    def fetch(self) -> Path:
        """List its files, unless the list is kept. Returns the folder.

        Raises:
            FileNotFoundError: The folder is not there.
            ValueError: The folder is laid out otherwise.
        """
        self._listing()
        return self.where()

    def load(self) -> ImageSet:
        """Its images, normalised as those of ImageNet are; see `fetch` for further errors.

        Raises:
            ValueError: The files are others than the name says.
        """
        assert self.size is not None
        found = image_set("", self._listing(), self.size, workers=self.workers)
        return replace(found, name=self._named(found.digest))

    def check(self) -> None:
        """List its files anew, read and decode every one; see `load` for further errors.

        Raises:
            ValueError: Images are corrupt; they are counted, and the first are named.
        """
        found = self._listing(anew=True)
        self.load()
        corrupt.check(found)

    @property
    def _unpinned(self) -> str:
        return f"{super()._unpinned},stream"

    def _listing(self, anew: bool = False) -> Listing:
        return listing(self.where(), partial(remembered.files, anew=anew)).first(self.classes)


def source(name: str) -> Folder:
    """The folder of a name.

    Raises:
        ValueError: It is not of the form.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise ValueError(
            "data must be folder:NAME[,classes=K][,size=S][,skip-corrupt][@DIGEST], or with ,size=S,stream in place of "
            "[,size=S][,skip-corrupt], NAME of letters, digits, '.', '_' and '-', DIGEST of 12 hexadecimal digits. "
            f"Got {name!r}."
        )
    classes, size = (None if form[key] is None else int(form[key]) for key in ("classes", "size"))
    kind = StreamedFolder if form["stream"] else Folder
    return kind(form["folder"], classes, size, form["skip"] is not None, form["digest"] or "")


def listing(base: Path, files: Callable[[Path], Iterator[tuple[str, str]]] = files) -> Listing:
    """The images of a folder; held out are those in ``val``, or in ``test`` where there is no ``val``.

    Args:
        base: The folder.
        files: Lists the image files of a part of it, with their stamps.

    Raises:
        ValueError: A part is missing or empty, or a held-out class is not among those to train on.
    """
    held_out = _held_out(base)
    if held_out is None:
        raise ValueError(f"{base} must have a folder val or test beside train. Got neither.")
    train, test = (_by_class(part, files(part)) for part in (base / "train", held_out))
    strangers = sorted(set(test) - set(train))
    if strangers:
        raise ValueError(
            f"{held_out} must hold classes of {base / 'train'}. Got {', '.join(strangers[:5])}"
            f"{' ...' if len(strangers) > 5 else ''}, not among those."
        )
    classes = tuple(train)
    parts = []
    for part, found in (("train", train), (held_out.name, test)):
        parts.append(
            tuple(
                Picture(f"{part}/{name}/{path}", f"{name}/{path}", label, stamp)
                for label, name in enumerate(classes)
                for path, stamp in found.get(name, [])
            )
        )
    return Listing(base, classes, *parts)


def found_in(folder: Path) -> list[str]:
    """Names of the image folders that lie in a data folder."""
    if not folder.is_dir():
        return []
    names = (path.name for path in sorted(folder.iterdir()) if _FORM.fullmatch(f"{PREFIX}{path.name}"))
    return [f"{PREFIX}{name}" for name in names if _has_classes(folder / name)]


def _has_classes(base: Path) -> bool:
    """Whether a folder has classes to train on, and some of them held out."""
    held_out = _held_out(base)
    return held_out is not None and not _folders(base / "train").keys().isdisjoint(_folders(held_out))


def _held_out(base: Path) -> Path | None:
    return next((base / name for name in ("val", "test") if (base / name).is_dir()), None)


def _folders(part: Path) -> dict[str, Path]:
    """Those of the classes, by name."""
    if not part.is_dir():
        return {}
    return {path.name: path for path in sorted(part.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def _by_class(part: Path, files: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The images of each class, by name; a class without any, and a part without classes, are refused."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in _folders(part)}
    for path, stamp in files:
        name, _, inside = path.partition("/")
        if inside and name in found:
            found[name].append((inside, stamp))
    empty = [name for name, images in found.items() if not images]
    if empty or not found:
        came = f"no image in {', '.join(empty[:5])}" if empty else "no folder"
        raise ValueError(f"{part} must hold a folder of images for each class. Got {came}.")
    return found
