"""ImageNet in both of its layouts, and image folders that are streamed: names, digests, and the verbs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import image_files
import pytest
import torch
from image_files import encoded, noise, put

from dot import data
from dot.cli import main
from dot.data import folders
from dot.data.augment import Views
from dot.data.fitting import fit
from dot.data.imagenet import ImageNet
from dot.data.images import ImageSet
from dot.data.streaming import Streamed

WNIDS = ("n03", "n01", "n02")
TINY = ImageNet(classes=3, train=12, test=6, size=8, workers=0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb ``data``; gives status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["data", *arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def imagenet(root: Path) -> Path:
    """A tiny one: JPEG of several shapes, the first of each class greyscale."""
    for c, wnid in enumerate(WNIDS):
        for i in range(6):
            pixels = noise(10 * c + i, 20 + i, 30 - i, 3)
            file = encoded(pixels if i else pixels[..., 0], "JPEG")
            put(root / "imagenet" / ("train" if i < 4 else "val") / wnid / f"I_{c}_{i}.JPEG", file)
    return root / "imagenet"


def flat(base: Path) -> None:
    """The held-out images beside the file that names their classes."""
    lines = ["ImageId,PredictionString"]
    for path in sorted(base.glob("val/*/*")):
        lines.append(f"{path.stem},{path.parent.name} 1 2 3 4 {path.parent.name} 5 6 7 8")
        path.rename(base / "val" / path.name)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    (base / "LOC_val_solution.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")


def middles(part: Any) -> torch.Tensor:
    (images,) = part.batches([(torch.arange(len(part)), Views())])
    return images


def wanted(base: Path, part: str) -> torch.Tensor:
    paths = sorted(base.glob(f"{part}/*/*"))
    return torch.stack([torch.from_numpy(fit(path.read_bytes(), 8).copy()) for path in paths])


def test_images_and_labels_in_the_order_of_wnids_and_names(imagenet: Path) -> None:
    found = TINY.load()
    assert isinstance(found.train, Streamed)
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(middles(found.train), wanted(imagenet, "train"))
    assert torch.equal(middles(found.test), wanted(imagenet, "val"))
    assert (found.name, found.num_classes, found.train.shape) == ("imagenet", 3, (3, 8, 8))
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)


def test_held_out_images_beside_the_file_that_names_their_classes(imagenet: Path) -> None:
    before = TINY.load()
    images = middles(before.test)
    flat(imagenet)
    assert not [path for path in (imagenet / "val").iterdir() if path.is_dir()]
    after = TINY.load()
    assert torch.equal(after.test.labels, before.test.labels)
    assert torch.equal(middles(after.test), images)
    assert after.digest == before.digest, "the same images of the same classes"


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("change", ["one less", "one more", "a class less"])
def test_another_number_of_images_is_refused(part: str, change: str, imagenet: Path) -> None:
    first = next((imagenet / part / "n02").iterdir())
    if change == "a class less":
        shutil.rmtree(first.parent)
    elif change == "one more":
        shutil.copy(first, first.with_name("z.JPEG"))
    else:
        first.unlink()
    with pytest.raises(ValueError, match=rf"{part} must hold (12|6) images in 3 classes. Got \d+ in [23]. Unpack"):
        TINY.load()


def test_held_out_images_of_no_known_class(imagenet: Path) -> None:
    flat(imagenet)
    (imagenet / "LOC_val_solution.csv").unlink()
    with pytest.raises(ValueError, match=r"val must hold 6 images in 3 classes. Got 0 in 0. Unpack it again, into"):
        TINY.load()


def test_verify_counts_corrupt_images_and_names_them(imagenet: Path) -> None:
    assert TINY.fetch() == imagenet
    TINY.check()
    broken = [imagenet / "train" / "n01" / "I_1_2.JPEG", imagenet / "val" / "n02" / "I_2_5.JPEG"]
    broken[0].write_bytes(broken[0].read_bytes()[:-50])
    broken[1].write_bytes(b"<html>")
    message = f"each of the 18 images must be whole. Got 2 that cannot be decoded: {broken[0]} (image file is truncated"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TINY.check()
    assert str(caught.value).endswith(f", {broken[1]} (no image). Mend or remove them.")


def test_what_is_shipped() -> None:
    shipped = data.source("imagenet")
    assert isinstance(shipped, ImageNet)
    assert (shipped.classes, shipped.train, shipped.test, shipped.size) == (1000, 1_281_167, 50_000, 224)
    assert data.faults("imagenet") == []


@pytest.mark.parametrize("action", ["info", "verify", "fetch"])
def test_the_verbs_say_what_to_get(action: str, root: Path, call: Any) -> None:
    status, out, err = call(action, "imagenet")
    assert (status, out) == (1, "")
    assert err.startswith(f"dot-landscape: imagenet must be in {root}/imagenet, with train/<wnid>/ and val/<wnid>/ in")
    assert "ILSVRC2012_img_train.tar" in err
    assert err.count("\n") == 1


def test_the_verbs_know_it(imagenet: Path, call: Any) -> None:
    _, out, _ = call("list", "--json")
    assert json.loads(out)["sets"]["imagenet"]["path"] == str(imagenet)
    status, _, err = call("info", "imagenet")
    assert status == 1
    assert "train must hold 1,281,167 images in 1,000 classes. Got 12 in 3." in err
    status, out, _ = call("verify", "imagenet", "--json")
    assert status == 1
    assert json.loads(out)["whole"] is False


# Image folders that are streamed


def load(name: str) -> ImageSet:
    return data.load(name, torch.device("cpu"))


def test_a_streamed_folder_holds_what_a_decoded_one_does(root: Path) -> None:
    base = image_files.folder(root / "pets", edge=16)
    for classes, asked in ((3, "folder:pets,size=8"), (2, "folder:pets,classes=2,size=8")):
        streamed, decoded = load(f"{asked},stream"), load(asked)
        for part in ("train", "test"):
            assert torch.equal(getattr(streamed, part).labels, getattr(decoded, part).labels)
        assert streamed.num_classes == decoded.num_classes == classes
    streamed = load("folder:pets,size=8,stream")
    assert isinstance(streamed.train, Streamed)
    assert torch.equal(middles(streamed.train), wanted(base, "train"))
    assert torch.equal(middles(streamed.test), wanted(base, "val"))


def test_its_digest_is_of_part_class_name_and_size(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = image_files.folder(root / "pets")
    total = hashlib.sha256()
    for part, named in (("train", "train"), ("val", "test")):
        for path in sorted((base / part).rglob("*.png")):
            total.update(f"{named}/{path.relative_to(base / part)}\n{path.stat().st_size}\n".encode())
    found = load("folder:pets,size=8,stream")
    assert found.digest == total.hexdigest()
    assert found.name == f"folder:pets,size=8,stream@{found.digest[:12]}"
    assert load(found.name).name == found.name
    assert data.faults(found.name) == []
    assert "must name a folder with the digest" in data.faults("folder:pets,size=8,stream")[0]
    shutil.copytree(root / "pets", tmp_path / "other" / "pets", copy_function=shutil.copyfile)
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "other"))
    assert load(found.name).name == found.name
    put(tmp_path / "other" / "pets" / "val" / "ant" / "000.png", b"another size")
    with pytest.raises(
        ValueError, match=re.escape(f"must hold the images of {found.name}. Got others, of folder:pets")
    ):
        load(found.name)


@pytest.mark.parametrize(
    "name", ["folder:pets,stream", "folder:pets,size=8,stream,skip-corrupt", "folder:pets,size=8,skip-corrupt,stream"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape("or with ,size=S,stream in place of [,size=S][,skip-corrupt]")):
        data.source(name)


def test_names_come_back() -> None:
    for name in (
        "folder:a,size=8,stream",
        "folder:a,classes=2,size=8,stream@0123456789ab",
        "folder:a,size=8,skip-corrupt",
        "folder:a,skip-corrupt@0123456789ab",
        "folder:a",
    ):
        assert data.source(name).name == name
        assert isinstance(data.source(name), folders.StreamedFolder) == (",stream" in name)


def test_the_verbs_on_a_streamed_folder(root: Path, call: Any) -> None:
    base = image_files.folder(root / "pets")
    name = "folder:pets,size=8,stream"
    status, out, _ = call("fetch", name, "--json")
    assert (status, json.loads(out)["path"]) == (0, str(base))
    status, out, err = call("info", name, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert (found["train"], found["test"], found["classes"], found["shape"]) == (12, 6, 3, [3, 8, 8])
    assert found["name"] == load(name).name
    assert call("verify", name)[:2] == (0, f"{name}: whole\n")
    path = base / "train" / "bee" / "002.png"
    damaged = bytearray(path.read_bytes())
    damaged[60:64] = b"\0\0\0\0"
    path.write_bytes(damaged)
    status, out, _ = call("verify", found["name"], "--json")
    assert status == 1
    assert f"Got 1 that cannot be decoded: {path} (" in json.loads(out)["fault"]
