"""Image folders: every kind of file becomes the right pixels, and a name says which images a study was trained on."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from pathlib import Path

import image_files
import numpy as np
import pytest
import tiny
import torch
from image_files import Pixels, encoded, noise, put
from PIL import Image

from dot import data
from dot.config import ConfigError, digest
from dot.data.decoding import decode
from dot.data.images import ImageSet


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def load(name: str) -> ImageSet:
    return data.load(name, torch.device("cpu"))


def test_images_and_labels_in_the_order_of_their_names(root: Path) -> None:
    base = image_files.folder(root / "pets")
    put(base / "train" / "ant" / ".hidden.png", b"no image")
    put(base / "train" / "ant" / "notes.txt", b"no image")
    put(base / "train" / "bee" / "more" / "last.png", encoded(noise(5, 8, 8, 3)))
    images = load("folder:pets")
    for part, split in (("train", images.train), ("val", images.test)):
        paths = [path for name in ("ant", "bee", "cat") for path in sorted((base / part / name).rglob("[!.]*.png"))]
        assert split.labels.tolist() == [
            ["ant", "bee", "cat"].index(p.relative_to(base / part).parts[0]) for p in paths
        ]
        assert split.images.dtype == torch.uint8
        np.testing.assert_array_equal(split.images, np.stack([image_files.pixels_of(path) for path in paths]))
    assert (len(images.train), len(images.test), images.num_classes, images.white) == (13, 6, 3, 255)
    pixels = images.train.images.numpy() / 255.0
    np.testing.assert_allclose(images.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(images.std, pixels.std((0, 2, 3)), rtol=1e-12)
    images.train.images[0] = 0
    assert load("folder:pets").train.images[0].any(), "what is written to the images stays in the process"


def test_test_is_read_where_there_is_no_val(root: Path) -> None:
    base = image_files.folder(root / "pets")
    wanted = load("folder:pets")
    (base / "val").rename(base / "test")
    found = load("folder:pets")
    assert torch.equal(found.test.images, wanted.test.images)
    assert found.digest == wanted.digest, "what is held out is called test in both"


# Kinds of files


def test_every_mode_becomes_rgb() -> None:
    grey, alpha = noise(0, 6, 5), noise(1, 6, 5)
    rgb = noise(2, 6, 5, 3)
    palette = noise(3, 256, 3)
    coloured = Image.fromarray(grey, "L").copy()
    coloured = Image.frombytes("P", (5, 6), grey.tobytes())
    coloured.putpalette(palette.tobytes())
    ink = noise(4, 6, 5, 4).astype(np.int64)
    printed = ((255 - ink[..., :3]) * (255 - ink[..., 3:])) / 255
    grey3 = np.repeat(grey[..., None], 3, axis=2)
    cases: dict[str, tuple[bytes, Pixels]] = {
        "RGB": (encoded(rgb), rgb),
        "L": (encoded(grey), grey3),
        "LA": (encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])), grey3),
        "RGBA": (encoded(np.dstack([rgb, alpha])), rgb),
        "P": (encoded(coloured), palette[grey]),
        "P, one colour transparent": (encoded(coloured, transparency=3), palette[grey]),
        "1": (encoded(Image.fromarray(grey > 99)), np.repeat(((grey > 99) * 255)[..., None], 3, axis=2)),
        "CMYK": (encoded(Image.frombytes("CMYK", (5, 6), ink.astype(np.uint8).tobytes()), "TIFF"), printed),
    }
    for mode, (file, wanted) in cases.items():
        found = decode(file)
        assert (found.dtype, found.shape) == (np.uint8, (3, 6, 5)), mode
        assert np.abs(found.transpose(1, 2, 0) - np.asarray(wanted, dtype=np.float64)).max() <= 1, mode
    smooth = np.linspace(20, 230, 1024).reshape(32, 32).astype(np.uint8)
    jpeg = decode(encoded(smooth, "JPEG", quality=95))
    assert np.array_equal(jpeg[0], jpeg[1])
    assert np.array_equal(jpeg[0], jpeg[2])
    assert np.abs(jpeg[0] - smooth.astype(int)).max() <= 4
    inked = Image.fromarray(np.stack([smooth, smooth, smooth, np.zeros_like(smooth)], 2), "CMYK")
    assert np.abs(decode(encoded(inked, "JPEG", quality=95)) - (255 - smooth.astype(int))).max() <= 6


def triangle(old: int, used: int, new: int) -> Pixels:
    """How a row of pixels is brought to a new length: the middle ones are used, and their neighbours at its ends.

    Each new one is the mean of the old, with weights that fall to 0 at a distance of one new pixel.
    """
    step = used / new
    weights = np.zeros((new, old))
    for i in range(new):
        for j in range(old):
            centre = (old - used) // 2 + (i + 0.5) * step
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / max(step, 1.0))
        weights[i] /= weights[i].sum()
    return weights


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (13, 9)])
@pytest.mark.parametrize("size", [4, 8, 11, 3])
def test_resizing_equals_a_slow_twin(shape: tuple[int, int], size: int) -> None:
    pixels = noise(7, *shape, 3)
    down, right = (triangle(edge, min(shape), size) for edge in shape)
    wanted = np.einsum("ia,jb,abc->ijc", down, right, pixels.astype(np.float64))
    found = decode(encoded(pixels), size).transpose(1, 2, 0)
    assert found.shape == (size, size, 3)
    assert np.abs(found - wanted).max() < 2, "rounded twice"


def test_a_size_and_the_first_classes(root: Path) -> None:
    base = image_files.folder(root / "pets")
    put(base / "train" / "bee" / "wide.png", encoded(noise(5, 8, 12, 3)))
    images = load("folder:pets,classes=2,size=4")
    assert images.num_classes == 2
    assert images.train.images.shape == (9, 3, 4, 4)
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(images.train.images[8], decode((base / "train/bee/wide.png").read_bytes(), 4))
    with pytest.raises(ValueError, match=re.escape(f"classes must be at most the 3 of {base}. Got 4.")):
        load("folder:pets,classes=4,size=4")


def test_images_of_several_shapes_need_a_size(root: Path) -> None:
    base = image_files.folder(root / "pets")
    odd = put(base / "train" / "bee" / "wide.png", encoded(noise(5, 8, 12, 3)))
    message = f"{odd} must have the 8x8 pixels of the first image. Got 12x8: name a size that all are brought to"
    with pytest.raises(ValueError, match=re.escape(message)):
        load("folder:pets")
    assert list((root / "cache").iterdir()) == [], "nothing is left of it"


def jpeg_cut_short() -> bytes:
    data = encoded(noise(9, 64, 64, 3), "JPEG")
    return data[: len(data) // 2]


BROKEN = {
    "cut short": (jpeg_cut_short(), "image file is truncated"),
    "empty": (b"", "no image"),
    "a page": (b"<html>404</html>", "no image"),
    "16 bits": (
        encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)),
        "more than 8 bits a channel",
    ),
    "damaged": (encoded(noise(9, 8, 8, 3))[:60] + b"\0\0\0\0" + encoded(noise(9, 8, 8, 3))[64:], ""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_corrupt_image_is_named_and_refused(kind: str, root: Path) -> None:
    base = image_files.folder(root / "pets")
    file, why = BROKEN[kind]
    path = put(base / "train" / "bee" / "broken.jpg", file)
    with pytest.raises(
        ValueError, match=r"each of the 19 images must be whole. Got 1 that cannot be decoded"
    ) as caught:
        load("folder:pets")
    assert f": {path} ({why}" in str(caught.value)
    assert ",skip-corrupt" in str(caught.value)


def test_corrupt_images_are_left_out_where_asked_and_counted(root: Path) -> None:
    base = image_files.folder(root / "pets")
    whole = load("folder:pets")
    put(base / "train" / "ant" / "000 first.jpg", jpeg_cut_short())
    put(base / "train" / "bee" / "001 broken.png", b"")
    put(base / "val" / "cat" / "broken.png", b"")
    found = load("folder:pets,skip-corrupt")
    assert found.skipped == 3
    assert whole.skipped == 0
    for name in ("train", "test"):
        assert torch.equal(getattr(found, name).images, getattr(whole, name).images)
        assert torch.equal(getattr(found, name).labels, getattr(whole, name).labels)
    assert (found.mean, found.std) == (whole.mean, whole.std)
    assert found.digest == whole.digest, "the same images are used"
    with pytest.raises(ValueError, match="Got 3 that cannot be decoded"):
        load("folder:pets")
    data.source("folder:pets,skip-corrupt").check()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_without_a_whole_image(part: str, root: Path) -> None:
    base = image_files.folder(root / "pets")
    for path in (base / part).rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="must hold images of both parts"):
        load("folder:pets,size=8,skip-corrupt")
    assert list((root / "cache").iterdir()) == []


def test_a_folder_without_a_whole_image(root: Path) -> None:
    base = image_files.folder(root / "pets")
    for path in base.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(f"{base} must hold images. Got none that can be decoded.")):
        load("folder:pets,skip-corrupt")


# Layout


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: shutil.rmtree(base / "val"), "{base} must have a folder val or test beside train. Got neither."),
        (
            lambda base: (base / "val" / "ant").rename(base / "val" / "ape"),
            "{base}/val must hold classes of {base}/train. Got ape, not among those.",
        ),
        (
            lambda base: [path.unlink() for path in (base / "train" / "bee").iterdir()],
            "{base}/train must hold a folder of images for each class. Got no image in bee.",
        ),
        (
            lambda base: [shutil.rmtree(path) for path in (base / "train").iterdir()],
            "{base}/train must hold a folder of images for each class. Got no folder.",
        ),
    ],
    ids=["nothing held out", "another class", "an empty class", "no class"],
)
def test_a_folder_that_is_laid_out_otherwise(spoil: object, message: str, root: Path) -> None:
    base = image_files.folder(root / "pets")
    spoil(base)  # type: ignore[operator]
    with pytest.raises(ValueError, match=re.escape(message.format(base=base))):
        load("folder:pets")


def test_classes_of_which_no_image_is_held_out(root: Path) -> None:
    base = image_files.folder(root / "pets")
    shutil.rmtree(base / "val" / "ant")
    assert load("folder:pets").test.labels.tolist() == [1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"must hold out images of its first 1 classes. Got none."):
        load("folder:pets,classes=1")


def test_a_folder_that_is_not_there(root: Path) -> None:
    message = f"pets must be in {root}, with train/<class>/ and val/<class>/ in it. It is not: put or link it there"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        load("folder:pets")
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        data.source("folder:pets").check()


# Names


def test_the_digest_is_of_part_class_name_and_bytes(root: Path) -> None:
    base = image_files.folder(root / "pets")
    total = hashlib.sha256()
    for part, named in (("train", "train"), ("val", "test")):
        for path in sorted((base / part).rglob("*.png")):
            file = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{named}/{path.relative_to(base / part)}\n{file}\n".encode())
    found = load("folder:pets")
    assert found.digest == total.hexdigest()
    assert found.name == f"folder:pets@{found.digest[:12]}"
    assert load(found.name).name == found.name


def test_a_name_says_which_images_and_not_where_they_lie(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_files.folder(root / "pets")
    name = load("folder:pets,size=4").name
    (tmp_path / "other").mkdir()
    shutil.copytree(root / "pets", tmp_path / "elsewhere", copy_function=shutil.copyfile)  # at another time
    (tmp_path / "other" / "pets").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "other"))
    assert load("folder:pets,size=4").name == name
    assert load(name).name == name


@pytest.mark.parametrize("change", ["a bit", "a name", "a class", "one less", "a part"])
def test_another_content_is_decoded_anew_and_has_another_name(change: str, root: Path) -> None:
    base = image_files.folder(root / "pets")
    before = load("folder:pets")
    path = base / "train" / "ant" / "000.png"
    if change == "a bit":
        data_before, status = path.read_bytes(), path.stat()
        pixels = image_files.pixels_of(path).transpose(1, 2, 0).copy()
        pixels[0, 0, 0] ^= 1
        path.write_bytes(encoded(pixels, compress_level=0))
        assert path.read_bytes() != data_before
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "a name":
        path.rename(path.with_name("00a.png"))
    elif change == "a class":
        path.rename(base / "train" / "bee" / "0.png")
    elif change == "one less":
        path.unlink()
    else:
        path.rename(base / "val" / "ant" / "0.png")
    after = load("folder:pets")
    assert after.digest != before.digest
    message = (
        f"{base} must hold the images of {before.name}. Got others, of {after.name}: put those back, or name these."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load(before.name)
    assert len(list((root / "cache").iterdir())) == 1, "what was decoded of the old files is removed"


def test_sets_of_similar_names_keep_what_they_decoded(root: Path) -> None:
    image_files.folder(root / "pets")
    image_files.folder(root / "pets-4", classes=("x", "y"))
    names = ["folder:pets", "folder:pets-4", "folder:pets,size=4", "folder:pets,classes=2", "folder:pets-4,size=4"]
    for name in [*names, *names]:
        load(name)
    assert len(list((root / "cache").iterdir())) == len(names)


@pytest.mark.parametrize(
    "name",
    [
        "folder:",
        "folder:a/b",
        "folder:..",
        "folder:/srv/pets",
        "folder:pets,size=0",
        "folder:pets,size=4,classes=2",
        "folder:pets,size=4.5",
        "folder:pets,seed=4",
        "folder:pets@123",
        "folder:pets@0123456789AB",
        "folder:pets@0123456789abc",
        "folder:pets ",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape("data must be folder:NAME[,classes=K][,size=S]")) as caught:
        load(name)
    assert str(caught.value).endswith(f"Got {name!r}.")


def test_a_study_names_a_folder_with_its_digest(tmp_path: Path) -> None:
    def study(name: str) -> str:
        return tiny.RECIPE.replace('data = "digits"', f'data = "{name}"')

    config = tiny.config(tmp_path, study("folder:pets,classes=2,size=32@0123456789ab"))
    other = tiny.config(tmp_path, study("folder:pets,classes=2,size=32@0123456789ac"))
    assert digest(config) != digest(other)
    with pytest.raises(
        ConfigError, match="data must name a folder with the digest of its content, as folder:pets@"
    ) as e:
        tiny.config(tmp_path, study("folder:pets"))
    assert "dot-landscape data info folder:pets says the digest." in str(e.value)
    with pytest.raises(ConfigError, match=r"1 fault: data must be folder:NAME\[,classes=K\]"):
        tiny.config(tmp_path, study("folder:/data/pets"))
    with pytest.raises(
        ConfigError, match=r"data must be a known image set. Got 'cifar'. Did you mean cifar10, cifar100"
    ):
        tiny.config(tmp_path, study("cifar"))


def test_the_deviation_of_a_channel_of_one_value_is_1(root: Path) -> None:
    base = image_files.folder(root / "pets")
    for path in (base / "train").rglob("*.png"):
        pixels = image_files.pixels_of(path).transpose(1, 2, 0).copy()
        pixels[..., 1] = 51
        path.write_bytes(encoded(pixels))
    images = load("folder:pets")
    assert images.mean[1] == pytest.approx(0.2, abs=1e-15)
    assert images.std[1] == 1
    assert math.isfinite(float(images.inputs(images.test.images).sum()))
