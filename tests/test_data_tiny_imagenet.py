"""Tiny-ImageNet in its published layout, as a zip file and unpacked."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from image_files import Pixels
from PIL import Image

from dot import data
from dot.data.images import ImageSet
from dot.data.tiny_imagenet import TinyImageNet


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def shipped(name: str) -> TinyImageNet:
    found = data.source(name)
    assert isinstance(found, TinyImageNet)
    return found


def unpack(path: Path) -> Path:
    with zipfile.ZipFile(path) as file:
        file.extractall(path.parent)
    path.unlink()
    return path.parent / "tiny-imagenet-200"


def by_hand(path: Path) -> dict[str, list[tuple[int, Pixels]]]:
    """Labels and images of both parts, in order, from the zip file."""
    with zipfile.ZipFile(path) as file:
        lines = file.read("tiny-imagenet-200/val/val_annotations.txt").decode().splitlines()
        where = [(f"val/images/{line.split()[0]}", line.split()[1]) for line in lines]
        train = [(f"train/{c}/images/{c}_{i}.JPEG", c) for c in ("n01", "n02", "n03") for i in range(4)]

        def images(pairs: list[tuple[str, str]]) -> list[tuple[int, Pixels]]:
            found = []
            for name, wnid in pairs:
                with Image.open(io.BytesIO(file.read(f"tiny-imagenet-200/{name}"))) as image:
                    pixels = np.asarray(image)
                rgb = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)
                found.append((int(wnid[1:]) - 1, rgb.transpose(2, 0, 1)))
            return found

        return {"train": images(train), "test": images(sorted(where, key=lambda pair: (pair[1], pair[0])))}


def assert_holds(found: ImageSet, wanted: dict[str, list[tuple[int, Pixels]]]) -> None:
    for part, pairs in wanted.items():
        split = getattr(found, part)
        assert split.labels.tolist() == [label for label, _ in pairs]
        np.testing.assert_array_equal(split.images, np.stack([pixels for _, pixels in pairs]))


def test_zip_file_and_folder_hold_the_same(root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), root)
    wanted = by_hand(path)
    assert any(np.array_equal(pixels[0], pixels[1]) for _, pixels in wanted["train"]), "one is greyscale"
    zipped = made.load()
    assert_holds(zipped, wanted)
    made.check()
    unpack(path)
    unpacked = made.load()
    assert_holds(unpacked, wanted)
    assert unpacked.digest == zipped.digest
    assert unpacked.mean == (0.4802, 0.4481, 0.3975)
    assert unpacked.std == (0.2302, 0.2265, 0.2262)


def test_the_first_classes_small(root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet-20-32"), root)
    wanted = by_hand(path)
    found = made.load()
    assert (found.name, found.num_classes) == ("tiny-imagenet-20-32", 2)
    assert found.train.images.shape == (8, 3, 32, 32)
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    big = np.stack([pixels for label, pixels in wanted["train"] if label < 2]).astype(np.float64)
    means = big.reshape(8, 3, 32, 2, 32, 2).mean((3, 5))
    errors = np.abs(found.train.images.numpy() - means).mean()
    mixed_up = np.abs(found.train.images.numpy() - means[::-1]).mean()
    assert errors < mixed_up / 2, "each image is the small form of its own"
    pixels = found.train.images.double() / 255
    torch.testing.assert_close(torch.tensor(found.mean, dtype=torch.float64), pixels.mean((0, 2, 3)))


def test_what_is_shipped() -> None:
    whole, part = shipped("tiny-imagenet"), shipped("tiny-imagenet-20-32")
    assert (whole.all_classes, whole.train_each, whole.test_each) == (200, 500, 50)
    assert (part.classes, part.size) == (20, 32)
    assert whole.archive == part.archive
    assert re.fullmatch("[0-9a-f]{64}", whole.archive.sha256)


def test_the_zip_file_is_fetched(root: Path, tmp_path: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), tmp_path / "published")
    with image_files.server(tmp_path / "published") as server:
        here = replace(made, archive=replace(made.archive, url=f"{server.url}/{path.name}"))
        assert here.find() is None
        decoded = here.fetch()
        assert_holds(here.load(), by_hand(path))
        assert server.asked == [f"/{path.name}"]
    assert decoded.parent == root / "cache"


@pytest.mark.parametrize("size", [-100, 100])
def test_a_zip_file_of_another_length(size: int, root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), root)
    whole = path.read_bytes()
    path.write_bytes(whole[:size] if size < 0 else whole + bytes(size))
    with pytest.raises(ValueError, match=f"{path} must have {len(whole):,} bytes. Got {len(whole) + size:,}"):
        made.load()


def test_a_damaged_zip_file(root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), root)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(ValueError, match="must have the SHA-256"):
        made.load()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("train/n01/images/n01_2.JPEG", "{base} must hold 4 train images of each of 3 classes. Got 11 of 3 classes."),
        ("val/images/val_3.JPEG", "val_annotations.txt names. Got no val/images/val_3.JPEG. Unpack"),
        ("val/val_annotations.txt", "{base} must hold val/val_annotations.txt"),
        ("train/n02/images", "val_annotations.txt names. Got no class n02 to train on."),
        ("train", "Got no class n03 to train on."),
        ("a line", "{base} must hold 2 val images of each of 3 classes. Got 5 of 3 classes."),
    ],
)
def test_what_was_unpacked_in_part_is_refused(missing: str, message: str, root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), root)
    base = unpack(path)
    if missing == "a line":
        annotations = base / "val" / "val_annotations.txt"
        annotations.write_text("".join(annotations.read_text().splitlines(keepends=True)[1:]) + "\n")
    else:
        (base / missing).rename(root / "away")
    with pytest.raises(ValueError, match=re.escape(message.format(base=base))):
        made.load()


def test_a_corrupt_image_is_refused(root: Path) -> None:
    made, path = image_files.tiny_imagenet(shipped("tiny-imagenet"), root)
    base = unpack(path)
    broken = base / "train" / "n02" / "images" / "n02_3.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(ValueError, match=re.escape(f"Got 1 that cannot be decoded: {broken} (")):
        made.load()
