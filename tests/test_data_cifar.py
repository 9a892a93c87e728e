"""CIFAR-10 and CIFAR-100: the records of their binary files, and that nothing but the published bytes is read."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch

from dot import data
from dot.data.cifar import CIFAR10, CIFAR100, Cifar

BOTH = pytest.mark.parametrize("kind", [CIFAR10, CIFAR100], ids=lambda kind: kind.name)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def unpack(archive: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(archive.parent)
    archive.unlink()


def read_by_hand(kind: Cifar, files: dict[str, bytes], names: list[str]) -> list[tuple[int, bytes]]:
    """Label and pixels of each record, byte by byte."""
    size = kind.label_bytes + 3072
    return [
        (files[name][start + kind.label_bytes - 1], files[name][start + kind.label_bytes : start + size])
        for name in names
        for start in range(0, len(files[name]), size)
    ]


@BOTH
@pytest.mark.parametrize("unpacked", [False, True], ids=["archive", "unpacked"])
def test_records_are_read_as_they_are_written(kind: Cifar, unpacked: bool, root: Path) -> None:
    made, archive, files = image_files.cifar(kind, root)
    if unpacked:
        unpack(archive)
    images = made.load()
    assert (images.name, images.num_classes, images.white, images.in_channels) == (kind.name, kind.num_classes, 255, 3)
    for split, names in ((images.train, list(kind.train)), (images.test, list(kind.test))):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.shape == (7 * len(names), 3, 32, 32)
        pairs = zip(split.labels.tolist(), split.images, strict=True)
        found = [(label, image.numpy().tobytes()) for label, image in pairs]
        assert found == read_by_hand(kind, files, names)
    images.train.images[0] += 1  # not a view of read-only bytes


@BOTH
def test_each_channel_is_a_plane(kind: Cifar, root: Path) -> None:
    made, _, files = image_files.cifar(kind, root)
    image = made.load().test.images[2]
    (name,) = kind.test
    start = 2 * (kind.label_bytes + 3072) + kind.label_bytes
    for channel, row, column in [(0, 0, 0), (0, 0, 31), (0, 1, 0), (1, 0, 0), (2, 31, 31)]:
        assert image[channel, row, column] == files[name][start + 1024 * channel + 32 * row + column]


def test_mean_and_deviation(root: Path) -> None:
    made, _, _ = image_files.cifar(CIFAR10, root)
    images = made.load()
    pixels = images.train.images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(images.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(images.std, pixels.std((0, 2, 3)), rtol=1e-12)
    inputs = images.inputs(images.train.images).double()
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    made, _, _ = image_files.cifar(CIFAR100, root)
    assert made.load().mean == (0.5071, 0.4867, 0.4408), "the paper's"
    assert made.load().std == (0.2675, 0.2565, 0.2761)


@BOTH
def test_what_is_published_is_pinned_whole(kind: Cifar) -> None:
    assert sum(part.records for part in kind.train.values()) == 50_000
    assert sum(part.records for part in kind.test.values()) == 10_000
    digests = [kind.archive.sha256, *(part.sha256 for parts in (kind.train, kind.test) for part in parts.values())]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert len(set(digests)) == len(digests)
    assert data.source(kind.name) is kind


def served(made: Cifar, url: str) -> Cifar:
    """The same, published by a server."""
    return replace(made, archive=replace(made.archive, url=f"{url}/{made.archive.path.name}"))


@BOTH
def test_it_is_downloaded_once(kind: Cifar, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dot")
    made, archive, _ = image_files.cifar(kind, tmp_path / "published")
    with image_files.server(tmp_path / "published") as server:
        here = served(made, server.url)
        assert here.find() is None
        with pytest.raises(FileNotFoundError, match=f"dot-landscape data fetch {kind.name}, or set DOT_DATA"):
            here.check()
        assert server.asked == [], "to look does not download"
        first = here.load()
        assert here.fetch() == root / archive.name
        here.check()
        assert torch.equal(here.load().train.images, first.train.images)
        assert server.asked == [f"/{archive.name}"]
    assert [path.name for path in root.iterdir()] == [archive.name], "nothing else is left"
    assert (root / archive.name).read_bytes() == archive.read_bytes()
    (said,) = (record.getMessage() for record in caplog.records if record.name.startswith("dot"))
    assert said == f"fetching {server.url}/{archive.name} ({archive.stat().st_size / 1e6:.0f} MB) into {root}"


def test_several_at_once_download_it_once(root: Path, tmp_path: Path) -> None:
    made, archive, _ = image_files.cifar(CIFAR100, tmp_path / "published")
    with image_files.server(tmp_path / "published") as server, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: served(made, server.url).fetch(), range(4)))
        assert server.asked == [f"/{archive.name}"]
    assert found == [root / archive.name] * 4


def spoil_end(data: bytes) -> bytes:
    return data[:-100]


def spoil_bit(data: bytes) -> bytes:
    return data[:50] + bytes([data[50] ^ 1]) + data[51:]


@pytest.mark.parametrize("spoil", [spoil_end, spoil_bit])
def test_other_bytes_than_published_are_not_kept(spoil: Callable[[bytes], bytes], root: Path, tmp_path: Path) -> None:
    made, archive, _ = image_files.cifar(CIFAR100, tmp_path / "published")
    archive.write_bytes(spoil(archive.read_bytes()))
    with image_files.server(tmp_path / "published") as server, pytest.raises(OSError, match=made.archive.sha256):
        served(made, server.url).load()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("answer", ["nothing listens", "not found"])
def test_without_a_network_it_says_which_file_to_put_where(answer: str, root: Path, tmp_path: Path) -> None:
    made, _, _ = image_files.cifar(CIFAR100, tmp_path / "published")
    (tmp_path / "empty").mkdir()
    with image_files.server(tmp_path / "empty") as server:
        url = server.url if answer == "not found" else "http://127.0.0.1:9"
        with pytest.raises(OSError, match="Without a network: download it elsewhere") as caught:
            served(made, url).load()
    put = f"put it at {root / 'cifar-100-binary.tar.gz'}, or unpacked at {root / 'cifar-100-binary'}."
    assert str(caught.value).endswith(put)


@BOTH
def test_an_archive_cut_short_or_damaged_is_refused(kind: Cifar, root: Path) -> None:
    made, archive, _ = image_files.cifar(kind, root)
    whole = archive.read_bytes()
    archive.write_bytes(spoil_end(whole))
    message = f"{archive} must have {len(whole):,} bytes. Got {len(whole) - 100:,}: it is cut short"
    with pytest.raises(ValueError, match=re.escape(message)):
        made.load()
    archive.write_bytes(spoil_bit(whole))
    with pytest.raises(ValueError, match=f"must have the SHA-256 {made.archive.sha256}. Got [0-9a-f]{{64}}: .*Delete"):
        made.check()
    assert archive.exists(), "it is the user's to delete"


@BOTH
def test_an_unpacked_file_cut_short_damaged_or_missing_is_refused(kind: Cifar, root: Path) -> None:
    made, archive, _ = image_files.cifar(kind, root)
    unpack(archive)
    path = root / kind.folder / next(iter(kind.test))
    whole = path.read_bytes()
    path.write_bytes(spoil_end(whole))
    with pytest.raises(ValueError, match=re.escape(f"{path} must have {len(whole):,} bytes. Got {len(whole) - 100:,}")):
        made.load()
    path.write_bytes(spoil_bit(whole))
    with pytest.raises(ValueError, match=f"must have the SHA-256 .* Unpack {kind.archive.url} again, or delete"):
        made.load()
    path.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{path} must be there. Got none. Unpack")):
        made.load()


def test_a_data_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(OSError, match=r"cannot be made: .* Set DOT_DATA to a folder that can be written"):
        CIFAR10.load()
