"""ImageNet-1k (ILSVRC 2012): too large for memory, so that its images are decoded when they are seen.

imagenet/
    train/<wnid>/*.JPEG             1,281,167 in 1,000 classes
    val/<wnid>/*.JPEG               50,000, held out
or, as some publish it, val/*.JPEG beside LOC_val_solution.csv, which names the class of each. The labels are the places
of the wnids in the order of their names. It may be downloaded by those who have agreed to its terms only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dot.data import corrupt, remembered
from dot.data.images import ImageSet
from dot.data.listing import Listing, Picture
from dot.data.sources import root
from dot.data.streaming import image_set

_FOLDER = "imagenet"
_ANNOTATIONS = "LOC_val_solution.csv"
_PARTS = ("train", "val")


@dataclass(frozen=True)
class ImageNet:
    """The set; a `Source`.

    Attributes:
        name: As in the registry.
        classes: How many it has.
        train: Images to train on.
        test: Held out.
        size: Edge of the square that an image is brought to.
        workers: See `dot.data.streaming.Streamed`.
    """

    name: str = "imagenet"
    classes: int = 1000
    train: int = 1_281_167
    test: int = 50_000
    size: int = 224
    workers: int | None = None

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return (
            f"{self.train + self.test:,} colour images in {self.classes:,} classes, decoded at {self.size}x{self.size} "
            "when they are seen (155 GB)"
        )

    def find(self) -> Path | None:
        """Its folder, where it has both parts; else None."""
        base = root() / _FOLDER
        return base if all((base / part).is_dir() for part in _PARTS) else None

    def where(self) -> Path:
        """The same; its absence is an error.

        Raises:
            FileNotFoundError: It is not on this machine.
        """
        found = self.find()
        if found is None:
            raise FileNotFoundError(
                f"{self.name} must be in {root() / _FOLDER}, with train/<wnid>/ and val/<wnid>/ in it. It is not, and "
                "cannot be downloaded without an account: get ILSVRC2012_img_train.tar (148 GB) and "
                "ILSVRC2012_img_val.tar (7 GB) from https://image-net.org, unpack them, and put or link the folder "
                f"there. In place of val/<wnid>/ all images may lie in val, beside {_ANNOTATIONS}."
            )
        return found

    def fetch(self) -> Path:
        """List its files, unless the list is kept. Returns its folder.

        Raises:
            FileNotFoundError: It is not there; the message says which files to get.
            ValueError: Images are missing, or there are others.
        """
        self._listing()
        return self.where()

    def load(self) -> ImageSet:
        """Its images, which stay in their files; see `fetch` for the errors."""
        return image_set(self.name, self._listing(), self.size, workers=self.workers)

    def check(self) -> None:
        """List its files anew, read and decode every one; see `fetch` for further errors.

        Raises:
            ValueError: Images are corrupt; they are counted, and the first are named.
        """
        corrupt.check(self._listing(anew=True))

    def _listing(self, anew: bool = False) -> Listing:
        """The images; any other number of them is refused."""
        base = self.where()
        files = {part: dict(remembered.files(base / part, anew)) for part in _PARTS}
        classes = tuple(sorted({_parent(path) for path in files["train"]} - {""}))
        wnids = _wnids(base)
        train, test = (_pictures(part, files[part], classes, wnids) for part in _PARTS)
        found = Listing(base, classes, train, test)
        self._count(found)
        return found

    def _count(self, found: Listing) -> None:
        for part, images, wanted in (("train", found.train, self.train), ("val", found.test, self.test)):
            classes = len({picture.label for picture in images})
            if (len(images), classes) != (wanted, self.classes):
                raise ValueError(
                    f"{found.base / part} must hold {wanted:,} images in {self.classes:,} classes. Got {len(images):,} "
                    f"in {classes:,}. Unpack it again, into a folder for each class."
                )


def _parent(path: str) -> str:
    """The folder that a file lies in, by its path in the part; empty beside the folders."""
    return path.rpartition("/")[0]


def _pictures(
    part: str, files: Mapping[str, str], classes: Iterable[str], wnids: Mapping[str, str]
) -> tuple[Picture, ...]:
    """The images of known classes, by class and name; the class of one that lies in no folder is looked up."""
    labels = {wnid: label for label, wnid in enumerate(classes)}
    found = []
    for path, stamp in files.items():
        name = path.rpartition("/")[2]
        wnid = _parent(path) or wnids.get(name.partition(".")[0], "")
        if wnid in labels:
            found.append(Picture(f"{part}/{path}", f"{wnid}/{name}", labels[wnid], stamp))
    return tuple(sorted(found, key=lambda picture: picture.key))


def _wnids(base: Path) -> dict[str, str]:
    """The class of each held-out image by its name without ending, where a file says so.

    Its lines are ``ILSVRC2012_val_00048981,n03995372 85 1 499 272``: image, class, box.
    """
    if not (base / _ANNOTATIONS).exists():
        return {}
    rows = (line.partition(",") for line in (base / _ANNOTATIONS).read_text().splitlines()[1:])
    return {image: boxes.split()[0] for image, _, boxes in rows if boxes}


def source(name: str) -> ImageNet:
    """The set of a name."""
    return ImageNet(name)
