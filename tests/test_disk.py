"""A disk without room, and files and folders that may not be written: what was done stays, and goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import MY_NETWORK, Child, Server, cells, content, names, serving, until
from test_store import mounted

from landscape.results import DONE

PLANE = "surface --problem my_network:problem --x -1 1 5 --y -1 1 7"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("said")) as found:
        yield found


@pytest.fixture(scope="module")
def single(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `PLANE` is on a disk with room."""
    folder = tmp_path_factory.mktemp("single")
    (folder / "my_network.py").write_text(MY_NETWORK)
    assert server.run(f"{PLANE} -o s.h5", folder).status == 0
    return content(folder / "s.h5")


@pytest.fixture
def disk(tmp_path: Path, server: Server) -> Iterator[Path]:
    """A small one, with the user's module."""
    with mounted(tmp_path / "disk", "size=512k") as found:
        (found / "my_network.py").write_text(MY_NETWORK)
        yield found
        server.stop()  # after a failure: a disk that is used cannot be taken away


def filled(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    assert shutil.disk_usage(disk).free == 0
    return filler


def assert_one_line(child: Child, *parts: str) -> None:
    """Status 1, nothing on stdout, and one line on stderr with these parts."""
    assert (child.status, child.out) == (1, ""), child.err
    assert child.err.startswith("dot-landscape: ")
    assert child.err.count("\n") == 1, child.err
    for part in parts:
        assert part in child.err


def broken_off(command: str, path: Path, server: Server, **how: Any) -> Any:
    """Start a command and kill it in the middle: which cells it had finished, with their values."""
    child = server.start(command, path.parent, DELAY="0.02", **how)
    until(lambda: path.exists() and (cells(path)[0] == DONE).any(), "the first cells")
    child.kill()
    child.wait()
    status, values = cells(path)
    assert not (status == DONE).all()
    return status, values


# No room


def test_a_surface_that_never_had_room(disk: Path, server: Server, single: dict[str, Any]) -> None:
    filler = filled(disk)
    assert_one_line(server.run(f"{PLANE} -o s.h5", disk), "s.h5 cannot be written: No space left on device.", "space")
    assert names(disk) == {"filler"}
    filler.unlink()
    assert server.run(f"{PLANE} -o s.h5", disk).status == 0
    assert content(disk / "s.h5") == single


def test_a_disk_that_fills_up_in_the_middle(disk: Path, server: Server, single: dict[str, Any]) -> None:
    """The arrays have their room from the start: what was begun goes on, also after a kill."""
    status, values = broken_off(f"{PLANE} -o s.h5", disk / "s.h5", server)
    filled(disk)
    before = (disk / "s.h5").read_bytes()
    assert_one_line(server.run(f"{PLANE} -o t.h5", disk), "t.h5 cannot be written: No space left on device.")
    assert (disk / "s.h5").read_bytes() == before
    child = server.run(f"{PLANE} -o s.h5", disk)
    assert (child.status, child.err) == (0, "")
    assert content(disk / "s.h5") == single
    for name, array in cells(disk / "s.h5")[1].items():
        assert array[status == DONE].tobytes() == values[name][status == DONE].tobytes()


def test_a_shard_that_has_no_room_beside_one_that_is_done(disk: Path, server: Server, single: dict[str, Any]) -> None:
    first = disk / "s.shard-0-of-2.h5"
    assert server.run(f"{PLANE} -o s.h5 --shard 0/2", disk).status == 0
    before = first.read_bytes()
    filler = filled(disk)
    failed = server.run(f"{PLANE} -o s.h5 --shard 1/2", disk)
    assert_one_line(failed, "No space left on device")
    assert first.read_bytes() == before
    assert not (disk / "s.shard-1-of-2.h5").exists()
    filler.unlink()
    assert server.run(f"{PLANE} -o s.h5 --shard 1/2", disk).status == 0
    assert server.run("merge s.shard-0-of-2.h5 s.shard-1-of-2.h5", disk).status == 0
    assert content(disk / "s.h5") == single


def test_a_shard_without_room_says_so_and_leaves_nothing(disk: Path, server: Server) -> None:
    filled(disk)
    failed = server.run(f"{PLANE} -o s.h5 --shard 1/2", disk)
    assert names(disk) == {"filler"}
    assert_one_line(failed, "s.plan.json cannot be written: No space left on device.", "Check")


def test_a_shard_that_was_begun_goes_on_without_room(disk: Path, server: Server) -> None:
    """As a whole surface does."""
    command, path = f"{PLANE} -o s.h5 --shard 0/2", disk / "s.shard-0-of-2.h5"
    broken_off(command, path, server)
    filled(disk)
    assert server.run(command, disk).status == 0


def test_parts_outlive_a_merge_without_room(disk: Path, server: Server, single: dict[str, Any]) -> None:
    parts = [disk / f"s.shard-{i}-of-2.h5" for i in range(2)]
    for i in range(2):
        assert server.run(f"{PLANE} -o s.h5 --shard {i}/2", disk).status == 0
    before = [part.read_bytes() for part in parts]
    filler = filled(disk)
    merge = "merge s.shard-0-of-2.h5 s.shard-1-of-2.h5"
    assert_one_line(server.run(merge, disk), "s.h5 cannot be written: No space left on device.", "has space")
    assert [part.read_bytes() for part in parts] == before
    assert names(disk) == {"filler", "s.plan.json", *(part.name for part in parts)}
    filler.unlink()
    assert server.run(merge, disk).status == 0
    assert content(disk / "s.h5") == single


# No right


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """One with the user's module, whose rights the tests take away."""
    if os.getuid() == 0 and sys.platform != "linux":
        pytest.skip("root can do everything here")
    (tmp_path / "my_network.py").write_text(MY_NETWORK)
    yield tmp_path
    tmp_path.chmod(0o700)


def test_a_file_that_may_not_be_written(folder: Path, server: Server, single: dict[str, Any]) -> None:
    path, command = folder / "s.h5", f"{PLANE} -o s.h5"
    broken_off(command, path, server, bound=True)
    before = path.read_bytes()
    path.chmod(0o444)
    said = ("s.h5 must be a file that can be written. Got:", "Permission denied", "Check its permissions.")
    assert_one_line(server.run(command, folder, bound=True), *said)
    assert path.read_bytes() == before
    assert names(folder) == {"s.h5"}
    path.chmod(0o644)
    assert server.run(command, folder, bound=True).status == 0
    assert content(path) == single
    path.chmod(0o444)
    assert server.run(command, folder, bound=True).status == 0, "what is finished need not be written"


def test_a_file_that_may_not_be_read(folder: Path, server: Server) -> None:
    path, command = folder / "s.h5", f"{PLANE} -o s.h5"
    assert server.run(command, folder, bound=True).status == 0
    before = path.read_bytes()
    path.chmod(0)
    child = server.run(command, folder, bound=True)
    assert_one_line(child, "s.h5")
    path.chmod(0o644)
    assert path.read_bytes() == before


def test_a_folder_that_may_not_be_written(folder: Path, server: Server, single: dict[str, Any]) -> None:
    path, command = folder / "s.h5", f"{PLANE} -o s.h5"
    broken_off(command, path, server, bound=True)
    for lock in folder.glob(".*.lock"):
        lock.unlink()
    before = path.read_bytes()
    folder.chmod(0o555)
    assert_one_line(
        server.run(command, folder, bound=True), "s.h5 cannot be written: Permission denied.", "is writable"
    )
    other = server.run(f"{PLANE} -o t.h5", folder, bound=True)
    assert_one_line(other, "t.h5 cannot be written: Permission denied.", "Check that its folder exists")
    assert path.read_bytes() == before
    assert names(folder) == {"s.h5"}
    folder.chmod(0o755)
    assert server.run(command, folder, bound=True).status == 0
    assert content(path) == single
    folder.chmod(0o555)
    child = server.run(command, folder, bound=True)
    assert (child.status, child.err) == (0, ""), "what is finished need not be written"


def test_parts_in_a_folder_that_may_not_be_written(
    folder: Path, server: Server, single: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for i in range(2):
        assert server.run(f"{PLANE} -o s.h5 --shard {i}/2", folder, bound=True).status == 0
    before = {path.name: path.read_bytes() for path in folder.glob("s.*")}
    folder.chmod(0o555)
    merge = "merge s.shard-0-of-2.h5 s.shard-1-of-2.h5"
    assert_one_line(server.run(merge, folder, bound=True), "s.h5 cannot be written: Permission denied.")
    assert_one_line(server.run(f"{PLANE} -o t.h5 --shard 0/2", folder, bound=True), "Permission denied")
    assert {path.name: path.read_bytes() for path in folder.glob("s.*")} == before
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "s.h5"
    assert server.run(f"{merge} -o {elsewhere}", folder, bound=True).status == 0
    assert content(elsewhere) == single


def test_a_finished_part_need_not_be_written(folder: Path, server: Server) -> None:
    command = f"{PLANE} -o s.h5 --shard 0/2"
    assert server.run(command, folder, bound=True).status == 0
    folder.chmod(0o555)
    assert server.run(command, folder, bound=True).status == 0
