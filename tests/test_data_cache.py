"""Decoding that was killed, done by two at once, on a full disk: it ends whole, or says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import image_files
import pytest
import torch

from dot import data
from dot.data import cache

BUILD = """
import logging, sys
from dot.data import cache, source

if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    cache.CHUNK = 1
    print(source("folder:pets").load().name)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, with an image folder of 90 images in it."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    image_files.folder(tmp_path / "data" / "pets", each=20)
    return tmp_path / "data"


def start(folder: Path, code: str = BUILD, **environment: str) -> subprocess.Popen[str]:
    """A process, the first of a group of its own."""
    (folder / "build.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, str(folder / "build.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def someone_is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def records(root: Path) -> list[Path]:
    return list(root.glob("cache/.*.building/chunks/*.json"))


def only(root: Path) -> dict[str, bytes]:
    """The files of the one set that was decoded; nothing else is in the cache folder."""
    (folder,) = (root / "cache").iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(root: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    for wanted in (1, 45):
        process = start(tmp_path)
        deadline = time.monotonic() + 60
        while len(records(root)) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was still decoding"
        while someone_is_left(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not someone_is_left(process.pid), "its workers end with it"
        seen.append(len(records(root)))
        assert not list(root.glob("cache/*/about.json")), "under its own name it is whole"
    assert 0 < seen[0] < seen[1] < 90
    process = start(tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"going on: {seen[1]} of 90 chunks are there" in err
    resumed = only(root)
    assert set(resumed) == {"images.npy", "labels.npy", "about.json"}

    shutil.rmtree(root / "cache")
    assert data.source("folder:pets").load().name == out.strip(), "in one go, in chunks of another size"
    assert only(root) == resumed


def test_two_processes_decode_once(root: Path, tmp_path: Path) -> None:
    both = [start(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0] != ""
    assert sum(err.count("decoding 90 images") for _, err in said) == 1
    assert set(only(root)) == {"images.npy", "labels.npy", "about.json"}


def test_its_size_is_said_beforehand(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dot")
    data.load("folder:pets,size=100", torch.device("cpu"))
    said = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"decoding 90 images of {root}/pets \(3 MB\) into {root}/cache/folder\.pets,\S+", said[0])
    caplog.clear()
    data.load("folder:pets,size=100", torch.device("cpu"))
    assert caplog.records == []


def test_a_full_disk_is_said_beforehand(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(10**9, 0, 10**6))
    with pytest.raises(OSError, match=r"needs 3 MB. Got a disk with 1 MB free: free some, or set DOT_DATA to another"):
        data.load("folder:pets,size=100", torch.device("cpu"))


def test_a_disk_that_gets_full(root: Path, tmp_path: Path) -> None:
    limited = BUILD.replace("import logging", "import resource, signal, logging").replace(
        "    cache.CHUNK = 1",
        "    cache.CHUNK = 1\n    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    real = cache.Cache._allocate\n"
        "    def allocate(self, array):\n"
        "        real(self, array)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    cache.Cache._allocate = allocate\n"
        "    from dot.data import pool\n"
        "    pool.ProcessPoolExecutor = lambda *a: __import__('concurrent.futures').futures.ThreadPoolExecutor(1)",
    )
    process = start(tmp_path, limited)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert re.search(r"OSError: \S+ cannot be written: File too large. Free some space and do it again", last), err


def test_a_script_that_its_own_workers_run_again_is_told_so(root: Path, tmp_path: Path) -> None:
    process = start(tmp_path, BUILD.replace('if __name__ == "__main__":', "if True:"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "RuntimeError: the processes that decode images must start and stay." in err.strip().splitlines()[-1]
    assert "dot-landscape data fetch" in err


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_damaged_array_is_found(name: str, root: Path) -> None:
    source = data.source("folder:pets")
    folder = source.fetch()
    source.check()
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{folder / name} must be as it was written. It is not. Delete {folder}"):
        source.check()
    (folder / name).unlink()
    shutil.rmtree(folder)
    source.check()


def test_a_changed_image_of_the_same_length_and_time_is_found(root: Path) -> None:
    source = data.source("folder:pets")
    source.fetch()
    path = root / "pets" / "train" / "ant" / "003.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=f"{root}/pets must hold what was decoded, of SHA-256 [0-9a-f]{{64}}. Got"):
        source.check()


def test_about_holds_what_a_reader_needs(root: Path) -> None:
    about = json.loads((data.source("folder:pets").fetch() / "about.json").read_text())
    assert about["classes"] == ["ant", "bee", "cat"]
    assert (about["train"], about["test"], about["corrupt"]) == (60, 30, {})
    assert re.fullmatch(r"[\d.]+", about["pillow"])
    assert str(root) not in json.dumps(about)


def test_a_data_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_files.folder(tmp_path / "pets")
    (tmp_path / "cache").write_text("a file in its place")
    monkeypatch.setenv("DOT_DATA", str(tmp_path))
    with pytest.raises(OSError, match=r"cannot be made: .*\. Set DOT_DATA to a folder that can be written"):
        data.load("folder:pets", torch.device("cpu"))
