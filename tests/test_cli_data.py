"""The verb ``data``: what it lists, and how absence and damage are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import image_files
import pytest

from dot import data
from dot.cli import main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb; gives status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["data", *arguments])
        return status, *capsys.readouterr()

    return call


def test_list_knows_every_set_and_folders_that_lie_there(root: Path, call: Any) -> None:
    status, out, err = call("list", "--json")
    assert (status, err) == (0, "")
    assert list(json.loads(out)["sets"]) == data.names()
    assert json.loads(out)["sets"]["cifar100"]["path"] is None
    assert not root.exists(), "looking makes nothing"
    image_files.folder(root / "pets")
    (root / "other").mkdir()
    (root / "cifar-100-binary").mkdir()
    status, out, _ = call("list", "--json")
    sets = json.loads(out)["sets"]
    assert list(sets) == [*data.names(), "folder:pets"]
    assert sets["folder:pets"]["path"] == str(root / "pets")
    assert sets["cifar100"]["path"] == str(root / "cifar-100-binary")
    status, out, _ = call("list")
    assert f"data folder: {root}" in out
    assert "not on this machine" in out


def test_info_says_how_a_study_names_a_folder(root: Path, call: Any) -> None:
    image_files.folder(root / "pets")
    status, out, err = call("info", "folder:pets,size=4")
    images = data.source("folder:pets,size=4").load()
    assert status == 0, err
    assert f'in a study: data = "{images.name}"' in out
    status, out, _ = call("info", "folder:pets,size=4", "--json")
    found = json.loads(out)
    assert found["name"] == images.name
    assert (found["train"], found["test"], found["classes"], found["shape"]) == (12, 6, 3, [3, 4, 4])
    assert found["digest"] == images.digest
    assert found["mean"] == list(images.mean)
    assert data.faults(found["name"]) == []


def test_verify_finds_damage(root: Path, call: Any) -> None:
    image_files.folder(root / "pets")
    status, out, _ = call("fetch", "folder:pets", "--json")
    folder = Path(json.loads(out)["path"])
    assert status == 0
    assert call("verify", "folder:pets")[:2] == (0, "folder:pets: whole\n")
    with open(folder / "images.npy", "ab") as file:
        file.write(b"x")
    status, out, _ = call("verify", "folder:pets", "--json")
    assert status == 1
    assert json.loads(out)["whole"] is False
    assert "must be as it was written" in json.loads(out)["fault"]


@pytest.mark.parametrize("action", ["info", "verify"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny-imagenet", "tiny-imagenet-20-32"])
def test_what_is_not_there_is_said_and_not_fetched(action: str, name: str, root: Path, call: Any) -> None:
    status, out, err = call(action, name)
    assert (status, out) == (1, "")
    assert err == (
        f"dot-landscape: {name} must be in {root}. It is not: run dot-landscape data fetch {name}, or set DOT_DATA to "
        "the folder that holds it.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["info"], 2, "expected a name with fetch, verify and info, and none with list. Got none."),
        (["list", "digits"], 2, "none with list. Got digits."),
        (["get", "digits"], 2, "'get'"),
        (["info", "cifar"], 1, "data must be a known image set. Got 'cifar'. Did you mean cifar10, cifar100"),
        (["info", "folder:a/b"], 1, "data must be folder:NAME"),
        (["info", "folder:pets"], 1, "pets must be in"),
    ],
)
def test_wrong_usage(arguments: list[str], status: int, part: str, root: Path, call: Any) -> None:
    found, out, err = call(*arguments)
    assert (found, out) == (status, "")
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("action", ["fetch", "verify", "info"])
def test_digits_are_always_there(action: str, root: Path, call: Any) -> None:
    status, out, err = call(action, "digits")
    assert (status, err) == (0, "")
    assert out.strip()
