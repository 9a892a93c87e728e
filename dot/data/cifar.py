"""CIFAR-10 and CIFAR-100 from their binary archives, which hold plain bytes where the others hold pickles.

A record is the label (CIFAR-100: the coarse one, then the fine one, which is used) and 3,072 bytes: the red, green and
blue plane of a 32x32 image. A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dot.data.archives import Archive
from dot.data.decoding import Moments
from dot.data.images import ImageSet, Split
from dot.data.sources import required, root

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Part:
    """A file of records.

    Attributes:
        records: How many.
        sha256: Of its bytes.
    """

    records: int
    sha256: str


@dataclass(frozen=True)
class Cifar:
    """One of the two sets; a `Source`.

    Attributes:
        name: As in the registry.
        archive: As published.
        folder: Inside the archive; it may lie unpacked in its place.
        train: Files of the training images, in order.
        test: The file of the test images.
        num_classes: Of the labels that are used.
        label_bytes: Before the pixels of a record; the last of them is used.
        mean: Of each channel; None: it and `std` are computed from the training images.
        std: Likewise.
    """

    name: str
    archive: Archive
    folder: str
    train: Mapping[str, Part]
    test: Mapping[str, Part]
    num_classes: int
    label_bytes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return f"60,000 colour images of 32x32 in {self.num_classes} classes ({self.archive.size / 1e6:.0f} MB)"

    def find(self) -> Path | None:
        """The unpacked folder, else the archive, else None."""
        return next((path for path in (root() / self.folder, self.archive.path) if path.exists()), None)

    def where(self) -> Path:
        """The same; its absence is an error.

        Raises:
            FileNotFoundError: It is not on this machine.
        """
        return required(self.name, self.find())

    def fetch(self) -> Path:
        """Download the archive unless it or the unpacked folder is there.

        Raises:
            OSError: It cannot be downloaded; the message says which file to put where.
            ValueError: The archive is cut short, or another file.
        """
        unpacked = root() / self.folder
        return unpacked if unpacked.exists() else self.archive.fetch(self.folder)

    def load(self) -> ImageSet:
        """Every image, from the archive or the unpacked folder, fetched first where need be.

        Raises:
            OSError: It cannot be downloaded or read.
            ValueError: A file is missing, cut short, or another file.
        """
        contents = self._contents(self.fetch())
        train, test = (self._split(parts, contents) for parts in (self.train, self.test))
        mean, std = self.mean, self.std
        if mean is None or std is None:
            mean, std = Moments.of(train.images.numpy()).mean_and_std()
        return ImageSet(
            name=self.name, train=train, test=test, num_classes=self.num_classes, white=255, mean=mean, std=std
        )

    def check(self) -> None:
        """Read every byte; see `load` for errors.

        Raises:
            FileNotFoundError: It is not on this machine.
        """
        self.where()
        self.load()

    def _contents(self, where: Path) -> dict[str, bytes]:
        """The files by their names, known to be whole."""
        names = [*self.train, *self.test]
        if where == self.archive.path:
            with tarfile.open(where, "r:gz") as archive:
                return {name: self._member(archive, name) for name in names}
        return {name: self._unpacked(where / name) for name in names}

    def _member(self, archive: tarfile.TarFile, name: str) -> bytes:
        file = archive.extractfile(f"{self.folder}/{name}")
        assert file is not None  # the archive is the published one
        return file.read()

    def _unpacked(self, path: Path) -> bytes:
        part = (dict(self.train) | dict(self.test))[path.name]
        again = f"Unpack {self.archive.url} again, or delete the folder: the archive is then fetched."
        if not path.exists():
            raise ValueError(f"{path} must be there. Got none. {again}")
        data = path.read_bytes()
        size = part.records * (self.label_bytes + _PIXELS)
        if len(data) != size:
            raise ValueError(f"{path} must have {size:,} bytes. Got {len(data):,}. {again}")
        digest = hashlib.sha256(data).hexdigest()
        if digest != part.sha256:
            raise ValueError(f"{path} must have the SHA-256 {part.sha256}. Got {digest}. {again}")
        return data

    def _split(self, parts: Mapping[str, Part], contents: Mapping[str, bytes]) -> Split:
        data = np.frombuffer(b"".join(contents[name] for name in parts), np.uint8)
        records = data.reshape(-1, self.label_bytes + _PIXELS)
        images = np.ascontiguousarray(records[:, self.label_bytes :]).reshape(-1, 3, 32, 32)
        labels = records[:, self.label_bytes - 1].astype(np.int64)
        return Split(torch.from_numpy(images), torch.from_numpy(labels))


CIFAR10 = Cifar(
    name="cifar10",
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        size=170_052_171,
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    folder="cifar-10-batches-bin",
    train={
        "data_batch_1.bin": Part(10_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        "data_batch_2.bin": Part(10_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        "data_batch_3.bin": Part(10_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        "data_batch_4.bin": Part(10_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        "data_batch_5.bin": Part(10_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    },
    test={"test_batch.bin": Part(10_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b")},
    num_classes=10,
    label_bytes=1,
)

CIFAR100 = Cifar(
    name="cifar100",
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        size=168_513_733,
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    folder="cifar-100-binary",
    train={"train.bin": Part(50_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29")},
    test={"test.bin": Part(10_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a")},
    num_classes=100,
    label_bytes=2,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


def source(name: str) -> Cifar:
    """The set of a name."""
    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
