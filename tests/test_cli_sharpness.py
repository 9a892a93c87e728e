"""``dot-landscape sharpness``: of runs, grouped and paired by seed, and of a user's own networks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from tiny import CPU

import landscape as ls
from dot import flatness, grouping, runs
from dot.cli import main
from dot.flatness import Asked
from dot.runs import Run

MY_NETWORKS = """
import torch
import torch.nn.functional as F
import landscape as ls


def problem(scale=1.0):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    torch.nn.init.normal_(net[2].weight, 0.0, 0.3 * scale)
    torch.manual_seed(1)  # all have the same data
    data = [(torch.randn(20, 4), torch.randint(0, 3, (20,)))]
    return ls.Problem.from_loss(net, {"loss": lambda out, y: F.cross_entropy(out, y, reduction="none")}, data)


def wide():
    return problem(3.0)
"""
QUICK = ("--measures", "sam", "noise-0.25", "--images", "64", "--directions", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny study in ``study``, and modules for ``--problem``."""
    shutil.copytree(tiny.finished_study(), tmp_path / "study")
    (tmp_path / "my_networks.py").write_text(MY_NETWORKS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_networks", None)


def students(study: Path) -> list[str]:
    return sorted(map(str, (study / "runs").glob("*convnet4*")))


def test_runs_are_compared_by_method_and_seed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharpness", *students(here / "study"), *QUICK, "--json", "-o", "out"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["flatness"]) == ["CE", "KD+SGD", "KD+DOT"]
    assert all(len(group) == 2 for group in found["flatness"].values())
    assert [row["what"]["key"] for row in found["verdict"]["rows"]] == ["noise-0.25", "sam"]
    row = found["verdict"]["rows"][0]
    values = {group["name"]: np.array(group["values"]) for group in row["groups"]}
    for difference in row["differences"]:
        ratio = np.exp(np.log(values[difference["one"]] / values[difference["other"]]).mean())
        assert difference["value"] == pytest.approx(ratio, rel=1e-9)
    assert row["agreement"]["n"] == 6
    assert {path.name for path in (here / "out").iterdir()} == {
        "flatness.json", "flatness.pdf", "flatness.svg", "flatness.png", "verdicts.pdf", "verdicts.svg", "verdicts.png",
    }  # fmt: skip
    assert json.loads((here / "out" / "flatness.json").read_text()) == found


def test_the_plot_verb_compares_what_was_measured_by_seed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = students(here / "study")
    files = [str(path) for run in found for path in Path(run).glob("flatness-*.h5")]
    assert len(files) == len(found)
    for kind in ("flatness", "verdicts"):
        assert main(["plot", *found, "--kind", kind, "-o", "runs.png"]) == 0
        assert main(["plot", *reversed(files), "--kind", kind, "-o", "files.png"]) == 0
        assert Path("runs.png").read_bytes() == Path("files.png").read_bytes()
    capsys.readouterr()
    assert main(["plot", found[0], "--kind", "verdicts"]) == 1
    assert "flatness must be of two methods or more, to be compared. Got one." in capsys.readouterr().err
    Path(files[0]).unlink()
    assert main(["plot", *found, "--kind", "verdicts"]) == 1
    assert "Run dot-landscape sharpness with these folders first." in capsys.readouterr().err


def test_what_was_measured_is_not_measured_again(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = students(here / "study")[0]
    of_the_study = {path: path.stat().st_mtime_ns for path in Path(run).glob("flatness-*")}
    sam = ("--images", "64", "--directions", "3", "--measures", "sam")
    assert main(["sharpness", run, *sam]) == 0
    first = capsys.readouterr().out
    assert main(["sharpness", run, *sam, "noise-0.25"]) == 0
    both = capsys.readouterr().out
    asked: list[Any] = []
    monkeypatch.setattr(ls.sharpness, "summary", lambda *args, **more: asked.append(more))
    assert main(["sharpness", run, *sam]) == 0
    assert capsys.readouterr().out == first
    assert main(["sharpness", run, *sam, "noise-0.25"]) == 0
    assert capsys.readouterr().out == both
    assert asked == []
    assert {path: path.stat().st_mtime_ns for path in of_the_study} == of_the_study, "measured otherwise: other files"


def test_another_term_and_split(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = students(here / "study")[0]
    assert main(["sharpness", run, *QUICK, "--term", "kd", "--split", "test"]) == 0
    assert capsys.readouterr().out.startswith("Flatness of kd on test")
    (kept,) = Path(run).glob("flatness-test-kd-*.h5")
    assert ls.load(kept).attrs["term"] == "kd"


def test_the_teacher_of_others_is_no_group_and_runs_without_a_partner_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    every = sorted(map(str, (here / "study" / "runs").glob("*")))
    alone = next(name for name in every if runs.open_run(name).config.seed == 1)
    assert main(["sharpness", *(name for name in every if name != alone), *QUICK, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["flatness"]
    assert {name: len(of) for name, of in found.items()} == {"CE": 1, "KD+SGD": 1, "KD+DOT": 1}
    assert caplog.text.count("left out, for want of a run of the same seed") == 1


def test_networks_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sharpness", "--measures", "sam", "width-0.1", "--directions", "6", "--problem"]
    assert main([*command, "my_networks:problem"]) == 0
    alone = capsys.readouterr().out
    assert "SAM sharpness" in alone
    assert "against" not in alone
    groups = ["a=my_networks:problem", "a=my_networks:problem", "b=my_networks:wide", "b=my_networks:wide"]
    assert main([*command, *groups]) == 0
    said = capsys.readouterr().out
    assert "b against a" in said
    assert main([*command, *groups, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["flatness"]
    assert [one["seed"] for one in found["a"]] == [0, 1] == [one["seed"] for one in found["b"]]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("", 2, "expected run folders, or --problem module:function. Got neither."),
        ("{run} --problem my_networks:problem", 2, "Got both."),
        ("--problem my_networks:problem --split test", 2, "--split, --images and --device go with run folders"),
        ("nowhere", 1, "expected a run folder with a config.toml at nowhere"),
        ("{run} --measures flatness --images 64 --directions 3", 1, "measures must be some of width-0.1"),
        ("{run} --measures sam --term no --images 64 --directions 3", 1, "term must be among those of the objective"),
        ("{run} {run} --measures sam", 1, "each run must be given once"),
        ("--problem my_networks:missing", 1, "missing"),
    ],
)
def test_errors_are_one_line(
    words: str, status: int, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = students(here / "study")[0]
    assert main(["sharpness", *words.format(run=run).split()]) == status
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_a_folder_that_cannot_be_written_is_measured_all_the_same(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("the folder is read-only.")

    monkeypatch.setattr(ls.sharpness.Flatness, "save", refuse)
    assert main(["sharpness", students(here / "study")[0], *QUICK]) == 0
    assert "SAM sharpness" in capsys.readouterr().out
    assert "It is not kept, and would be measured again." in caplog.text


def run_of(tmp_path: Path, seed: int, method: str = "ce", **train: Any) -> Run:
    config = tiny.config(tmp_path).student_run(method, seed)
    return Run(tmp_path / config.name, replace(config, train=replace(config.train, **train)))


def test_settings_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    found = [run_of(tmp_path, seed, batch_size=size) for size in (64, 32) for seed in (1, 0)]
    found += [run_of(tmp_path, 0, "kd-dot"), run_of(tmp_path, 1, "kd-dot"), run_of(tmp_path, 2, "kd-dot")]
    groups = grouping.by_setting(found)
    assert set(groups) == {"CE batch_size=64", "CE batch_size=32", "KD+DOT"}
    assert all([run.config.seed for run in group] == [0, 1] for group in groups.values()), "the seeds of all, in order"
    with pytest.raises(ValueError, match="a seed in common"):
        grouping.by_setting([run_of(tmp_path, 0), run_of(tmp_path, 1, "kd-dot")])


def test_other_weights_are_measured_anew(here: Path) -> None:
    first, second = (runs.open_run(path) for path in students(here / "study")[:2])
    asked = Asked(images=64, directions=3, measures=("sam",))
    found = flatness.measured(first, asked, CPU)
    shutil.copy(second.weights, first.weights)
    other = flatness.measured(first, asked, CPU)
    assert other["sam"].value != found["sam"].value
    assert other.attrs["checkpoint_sha256"] != found.attrs["checkpoint_sha256"]
