"""The list of a folder's files is kept, and made anew when a file has come, gone or been renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import image_files
import pytest
from image_files import put

from dot.data import listing, remembered


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A folder of images that nobody has changed lately."""
    folder = image_files.folder(tmp_path / "pets") / "train"
    put(folder / "bee" / "more" / "one.png", b"12345")
    put(folder / "bee" / "notes.txt", b"no image")
    (folder / "bee" / "empty").mkdir()
    return settled(folder)


def settled(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**11))
    return folder


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which folders were listed, the outermost ones."""
    seen = []

    def listed(folder: Path, enter: Callable[[Path], object]) -> object:
        seen.append(folder)
        return listing.files(folder, enter)

    monkeypatch.setattr(remembered, "listed", listed)
    return seen


def sizes(part: Path) -> list[tuple[str, str]]:
    return [(path, str((part / path).stat().st_size)) for path, _ in listing.files(part)]


def test_a_folder_is_listed_once(root: Path, part: Path, listings: list[Path]) -> None:
    wanted = sizes(part)
    assert ("bee/more/one.png", "5") in wanted
    for _ in range(3):
        assert list(remembered.files(part)) == wanted
    assert listings == [part]
    assert [path.suffix for path in (root / "cache").iterdir()] == [".json"], "and no lock is left"
    (part.parent / "link").symlink_to(part)
    assert list(remembered.files(part.parent / "link")) == wanted
    assert listings == [part], "it is the same folder"


@pytest.mark.parametrize(
    "change",
    [
        lambda part: put(part / "ant" / "new.png", b"1"),
        lambda part: put(part / "bee" / "more" / "new.png", b"1"),
        lambda part: put(part / "bee" / "empty" / "new.png", b"1"),
        lambda part: put(part / "dog" / "new.png", b"1"),
        lambda part: (part / "ant" / "000.png").unlink(),
        lambda part: (part / "ant" / "000.png").rename(part / "ant" / "0.png"),
        lambda part: (part / "bee").rename(part / "ape"),
    ],
    ids=["a file", "deeper", "where none was", "a class", "one less", "another name", "another class"],
)
def test_a_changed_folder_is_listed_again(
    change: Callable[[Path], object], root: Path, part: Path, listings: list[Path]
) -> None:
    before = list(remembered.files(part))
    change(part)
    assert sizes(part) != before
    assert list(remembered.files(part)) == sizes(part)
    settled(part)
    for _ in range(2):
        assert list(remembered.files(part)) == sizes(part)
    assert listings == [part] * 3, "kept again once it rests"


def test_a_folder_that_was_changed_just_now_is_not_kept(root: Path, part: Path, listings: list[Path]) -> None:
    """Its time might not change with the next change: clocks of disks are coarse."""
    os.utime(part / "ant")
    for _ in range(2):
        assert list(remembered.files(part)) == sizes(part)
    assert listings == [part] * 2


def test_a_file_that_is_overwritten_is_seen_when_listed_anew(root: Path, part: Path, listings: list[Path]) -> None:
    before = list(remembered.files(part))
    (part / "ant" / "000.png").write_bytes(b"123")
    assert list(remembered.files(part)) == before, "as documented"
    assert list(remembered.files(part, anew=True)) == sizes(part) != before
    assert list(remembered.files(part)) == sizes(part)
    assert listings == [part] * 2


def test_two_folders_are_two_lists(root: Path, part: Path) -> None:
    other = settled(image_files.folder(part.parent.parent / "others", each=2) / "train")
    for folder in (part, other, part, other):
        assert list(remembered.files(folder)) == sizes(folder)


def test_a_damaged_list_is_made_again(root: Path, part: Path) -> None:
    list(remembered.files(part))
    (kept,) = (root / "cache").iterdir()
    for damage in (b"", b"{", kept.read_bytes()[:100], b"\xff"):
        kept.write_bytes(damage)
        assert list(remembered.files(part)) == sizes(part)


def test_a_data_folder_that_cannot_be_written(
    root: Path, part: Path, listings: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dot")
    put(root / "cache", b"a file in its place")
    for _ in range(2):
        assert list(remembered.files(part)) == sizes(part)
    assert listings == [part] * 2
    assert f"the list of {part} is not kept" in caplog.text


def test_a_folder_that_is_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(remembered.files(tmp_path / "nowhere"))
