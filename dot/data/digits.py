"""scikit-learn's handwritten digits: 1,797 real 8x8 images that ship with the package."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dot.data.images import ImageSet, Split

WHITE = 16


def load() -> ImageSet:
    """Half of the digits to train on and half to test, stratified, the same halves always."""
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
