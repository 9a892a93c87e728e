"""scikit-learn's handwritten digits: 1,797 real 8x8 images that ship with the package."""

from __future__ import annotations

from pathlib import Path

import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dot.data.images import ImageSet, Split

WHITE = 16


class Digits:
    """The set; a `Source` that is always there."""

    name = "digits"
    about = "1,797 handwritten digits of 8x8 in 10 classes (in scikit-learn)"

    def find(self) -> Path:
        """The folder of scikit-learn."""
        return Path(sklearn.__file__).parent

    def where(self) -> Path:
        """The same."""
        return self.find()

    def fetch(self) -> Path:
        """Nothing to be done."""
        return self.find()

    def load(self) -> ImageSet:
        """Half of the digits to train on and half to test, stratified, the same halves always."""
        return _load()

    def check(self) -> None:
        """Load them."""
        self.load()


def source(name: str) -> Digits:
    """The set of a name."""
    return Digits()


def _load() -> ImageSet:
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.5, stratify=bunch.target, random_state=0)
    pixels = images[train].double() / WHITE
    return ImageSet(
        name="digits",
        train=Split(images[train], labels[train]),
        test=Split(images[test], labels[test]),
        num_classes=10,
        white=WHITE,
        mean=(float(pixels.mean()),),
        std=(float(pixels.std()),),
    )
