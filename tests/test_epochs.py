"""What is measured of a run as it was after an epoch: the weights kept then, in files of their own."""

from __future__ import annotations

import functools
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import CPU

import landscape as ls
from dot import models, runs
from dot.cli import main
from dot.runs.folder import Run, kept_at

GRID = "--x -0.5 0.5 3 --y -0.5 0.5 3"


@functools.cache
def _trained() -> Path:
    root = tiny.folder()
    return runs.train(tiny.config(tiny.with_teacher(root)).student_run("kd-sgd", 0), root, CPU).path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run of two epochs that keeps its first, in a copy of its folder."""
    shutil.copytree(_trained().parent, tmp_path / "runs")
    return runs.open_run(tmp_path / "runs" / _trained().name)


@pytest.fixture
def call(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    def call(command: str) -> tuple[int, str, str]:
        verb, _, options = command.partition(" ")
        return (main([verb, str(run.path), *shlex.split(options)]), *capsys.readouterr())

    return call


def mean_ce(state: dict[str, torch.Tensor]) -> float:
    """Of a student with these weights over the training images, by the formula."""
    data = tiny.digits(CPU).train
    student = models.build("convnet4", in_channels=1, num_classes=10)
    student.load_state_dict(state)
    with torch.no_grad():
        return float(tiny.each_ce(student.eval()(tiny.normalised(data.images)), data.labels).double().mean())


def ce_of(problem: ls.Problem) -> float:
    with torch.no_grad():
        each = [problem.objective(problem.model, batch)["ce"] for batch in problem.iterate()]
    return float(torch.cat(each).double().mean())


def test_the_problem_of_an_epoch_has_the_weights_kept_then(run: Run) -> None:
    kept = torch.load(run.path / "checkpoints" / "epoch-0001.pt", weights_only=True)
    first, last = runs.problem(run.path, epoch=1), runs.problem(run.path)
    assert (first.epoch, last.epoch) == (1, 2)
    for name, tensor in first.model.state_dict().items():
        torch.testing.assert_close(tensor, kept[name], rtol=0, atol=0)
    assert ce_of(first) == pytest.approx(mean_ce(kept), rel=1e-4)
    assert ce_of(last) == pytest.approx(mean_ce(last.model.state_dict()), rel=1e-4)
    assert abs(ce_of(first) - ce_of(last)) > 0.01
    assert not first.model.training


def test_an_epoch_of_a_run_that_has_not_ended_is_measured(run: Run) -> None:
    run.weights.unlink()
    assert runs.problem(run.path, "test", epoch=1).epoch == 1


def test_weights_from_elsewhere_are_of_no_known_epoch(run: Run) -> None:
    assert run.last_epoch == 2
    assert Run(run.path, tiny.vary(run.config, weights="0" * 64)).last_epoch is None


def test_an_epoch_that_is_not_kept_is_refused_with_those_that_are(run: Run) -> None:
    for epoch in (0, 2, -1):
        with pytest.raises(FileNotFoundError, match=rf"epoch must be one .* Got {epoch}; kept are those of 1\. "):
            runs.problem(run.path, epoch=epoch)
    shutil.copy(kept_at(run, 1), kept_at(run, 12))
    (run.path / "checkpoints" / "epoch-mine.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"Got 3; kept are those of 1, 12\. "):
        runs.problem(run.path, epoch=3)
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(FileNotFoundError, match=r"Got 1; kept are none\. .* checkpoints of \[record\]"):
        runs.problem(run.path, epoch=1)


@pytest.mark.parametrize("content", [b"", {"other": torch.ones(2)}, [1, 2]])
def test_broken_weights_of_an_epoch_are_named(run: Run, content: object) -> None:
    path = kept_at(run, 1)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"epoch-0001\.pt must"):
        runs.problem(run.path, epoch=1)


def test_a_surface_of_an_epoch_has_a_file_of_its_own_that_says_so(run: Run, call: Callable) -> None:
    assert call(f"surface {GRID} --epoch 1")[0] == 0
    assert call(f"surface {GRID}")[0] == 0
    first, last = (ls.load(run.path / name) for name in ("surface-epoch-0001.h5", "surface.h5"))
    assert (first.attrs["epoch"], last.attrs["epoch"]) == (1, 2)
    kept = torch.load(kept_at(run, 1), weights_only=True)
    assert first.origin["ce"][0] == pytest.approx(mean_ce(kept), rel=1e-4)
    assert first.values("ce")[1, 1] == first.origin["ce"][0]
    assert np.abs(first.values("ce") - last.values("ce")).max() > 0.01


def test_info_says_the_epoch(run: Run, call: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    call(f"surface {GRID} --epoch 1")
    main(["info", str(run.path / "surface-epoch-0001.h5")])
    assert "    epoch: 1" in capsys.readouterr().out.splitlines()


def test_another_epoch_does_not_go_on_in_a_file(run: Run, call: Callable) -> None:
    out = run.path / "mine.h5"
    assert call(f"surface {GRID} --epoch 1 -o {out}")[0] == 0
    before = out.read_bytes()
    status, _, said = call(f"surface {GRID} -o {out}")
    assert status == 1
    assert "Got a file that differs in checkpoint_sha256, directions_sha256. Write to another file" in said
    assert out.read_bytes() == before


def test_a_file_from_before_epochs_goes_on_as_it_was(run: Run) -> None:
    problem, out = runs.problem(run.path), run.path / "old.h5"
    unnamed = ls.Problem(problem.model, problem.objective, problem.batches, problem.split)
    directions, grid = ls.directions.random(problem.model, n=1, seed=0), ls.Grid1D((-1, 1, 3))
    old = ls.evaluate(unnamed, directions, grid, out=out)
    assert "epoch" not in old.attrs
    again = ls.evaluate(problem, directions, grid, out=out)
    assert "epoch" not in again.attrs
    assert again.attrs["created_at"] == old.attrs["created_at"]
    np.testing.assert_array_equal(again.values("ce"), old.values("ce"))


def test_each_split_has_a_file_of_its_own(run: Run, call: Callable) -> None:
    for options in ("", "--split test", "--split test --epoch 1"):
        assert call(f"surface {GRID} {options}")[0] == 0
        assert call(f"surface --lines 1 --x -0.5 0.5 3 {options}")[0] == 0
        assert call(f"conflict {options}")[0] == 0
    for stem in ("surface", "lines", "conflict-measured"):
        of = {name: ls.load(run.path / f"{stem}{name}.h5").attrs for name in ("", "-test", "-test-epoch-0001")}
        found = {name: (attrs["split"], attrs["epoch"]) for name, attrs in of.items()}
        assert found == {"": ("train", 2), "-test": ("test", 2), "-test-epoch-0001": ("test", 1)}


def test_an_epoch_that_is_not_kept_is_a_failure_in_one_line(call: Callable) -> None:
    for verb in ("surface", "conflict"):
        status, out, said = call(f"{verb} --epoch 7")
        assert (status, out, len(said.splitlines())) == (1, "", 1)
        assert "Got 7; kept are those of 1." in said
