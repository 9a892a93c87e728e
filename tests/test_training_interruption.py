"""Training that was killed or interrupted, anywhere and again and again, ends as if nothing had happened."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import CPU, RECIPE

from dot import runs
from dot.config import RunConfig
from dot.interrupt import deferred_interrupt
from dot.journal import Journal
from dot.runs import load_checkpoint
from landscape import store

KILLS = 10
EPOCHS = 30
LONG = (
    RECIPE.replace("epochs = 2\nmilestones = [1]", f"epochs = {EPOCHS}\nmilestones = [10, 20]")
    .replace("every = 4", "every = 2")
    .replace("checkpoints = [1]", "checkpoints = [5, 28]")
)


MARK_TEN_STEPS = """
import pathlib, sys
from dot.cli.main import main
from dot.trainer import Trainer
plain = Trainer._step
def marked(self, *arguments):
    if self.place.step == 10:
        pathlib.Path("ten").touch()
    return plain(self, *arguments)
Trainer._step = marked
sys.exit(main(sys.argv[1:]))
"""


def child(recipe: Path, root: Path, code: str = "") -> subprocess.Popen[str]:
    """A process that trains, by other code than the command's if it is given; the teacher is there already."""
    program = ["-c", code] if code else ["-m", "dot"]
    command = [sys.executable, *program, "train", str(recipe), "--method", "kd-dot", "-o", str(root)]
    return subprocess.Popen(
        [*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"it ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"no {what} in two minutes"
        time.sleep(0.001)


def stamp(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of the files, of those that are there at this moment."""
    found = {}
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path.name] = (stat.st_size, stat.st_mtime_ns)
    return found


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_ten_times_at_random_moments(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path, LONG)
    job = tiny.config(tmp_path, LONG).student_run("kd-dot", 0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    started = time.perf_counter()
    whole = runs.train(job, tiny.with_teacher(tmp_path / "whole"), CPU).path
    an_epoch = (time.perf_counter() - started) / EPOCHS
    root = tiny.with_teacher(tmp_path / "killed")
    folder, moments, places = root / job.name, random.Random(2307), []
    for _ in range(KILLS):
        before = stamp(folder)
        process = child(recipe, root)
        wait_for(lambda before=before: stamp(folder) != before, process, "its files began to change")
        done = lines(folder / "metrics.jsonl")
        epochs, rest = moments.randrange(3), moments.random() * an_epoch
        wait_for(lambda n=done + epochs: lines(folder / "metrics.jsonl") >= n, process, "the epochs to do")
        time.sleep(rest)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was still training"
        last = folder / "checkpoints" / "last.pt"
        places.append(load_checkpoint(last)["place"]["epoch"] if last.exists() else 0)
    assert places == sorted(places), "nothing that was saved is lost"
    assert 3 <= places[-1] < EPOCHS
    process = child(recipe, root)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"epoch {EPOCHS}" in out
    assert tiny.differences(folder, whole) == []


MANY_STEPS = RECIPE.replace("milestones = [1]", "batch_size = 8").replace("every = 4", "every = 1")


@functools.cache
def many_steps() -> Path:
    """A run of two epochs of 113 steps that nothing interrupted."""
    folder = tiny.folder()
    job = tiny.config(folder, MANY_STEPS).student_run("kd-dot", 0)
    return runs.train(job, tiny.with_teacher(folder), CPU).path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_within_an_epoch_it_saves_and_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path, MANY_STEPS)
    job = tiny.config(tmp_path, MANY_STEPS).student_run("kd-dot", 0)
    (tmp_path / "stopped").mkdir()
    root = tiny.with_teacher(tmp_path / "stopped")
    folder = root / job.name
    process = child(recipe, root, MARK_TEN_STEPS)
    wait_for((root / "ten").exists, process, "the first steps")
    process.send_signal(number)
    out, errors = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert errors.splitlines()[-1] == (
        "dot-landscape: interrupted. What was finished is kept: run the same command to go on."
    )
    assert "Traceback" not in errors
    place = load_checkpoint(folder / "checkpoints" / "last.pt")["place"]
    assert place["epoch"] == 0
    assert 10 <= place["step_in_epoch"] == place["step"] < 113, "in the middle of the epoch"
    assert not (folder / "model.safetensors").exists()
    assert lines(folder / "conflict.jsonl") == place["step"], "the step under way was finished"

    runs.train(job, root, CPU)
    assert tiny.differences(folder, many_steps()) == []


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it, and what was written stays."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """Ends the process, so to speak, before the n-th change of a file, or half-way through it; what was changed."""
    plain = {"replace": os.replace, "append": Journal.append, "unlink": Path.unlink}

    def prepare(n: int) -> list[str]:
        done: list[str] = []
        dead = False

        def counted(what: str, path: Any) -> None:
            nonlocal dead
            done.append(f"{what} {Path(path).name}")
            if len(done) == n:
                dead = True
                raise Killed

        def replace(a: Any, b: Any) -> None:
            counted("replace", b)
            plain["replace"](a, b)

        def append(self: Journal, record: dict[str, Any]) -> None:
            if len(done) + 1 == n:
                with open(self.path, "a") as file:
                    file.write(json.dumps(record)[: 7 * n])
            counted("append to", self.path)
            plain["append"](self, record)

        def unlink(self: Path, missing_ok: bool = False) -> None:
            if dead:
                return  # the dead do not tidy up
            if self.name.endswith(".jsonl"):
                counted("unlink", self)
            plain["unlink"](self, missing_ok)

        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(Journal, "append", append)
        monkeypatch.setattr(Path, "unlink", unlink)
        return done

    yield prepare
    monkeypatch.undo()


@pytest.fixture
def few() -> str:
    """Two epochs of three steps, each recorded."""
    return RECIPE.replace("milestones = [1]", "batch_size = 300").replace("every = 4", "every = 1")


def test_killed_before_each_change_of_a_file(
    tmp_path: Path, few: str, kill_at: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny.config(tmp_path, few).student_run("kd-dot", 0)
    (tmp_path / "whole").mkdir()
    root = tiny.with_teacher(tmp_path / "whole")
    changes = kill_at(0)
    whole = runs.train(job, root, CPU).path
    assert {
        "replace conflict.h5",
        "replace model.safetensors",
        "replace last.pt",
        "append to metrics.jsonl",
        "unlink conflict.jsonl",
    } < set(changes)
    wrong = []
    for n in range(1, len(changes) + 1):
        (tmp_path / str(n)).mkdir()
        root = tiny.with_teacher(tmp_path / str(n))
        kill_at(n)
        monkeypatch.setattr(os, "getpid", lambda: 111)
        with pytest.raises(Killed):
            runs.train(job, root, CPU)
        kill_at(0)
        monkeypatch.setattr(os, "getpid", lambda: 222)  # what goes on is another process
        runs.train(job, root, CPU)
        found = tiny.differences(root / job.name, whole)
        wrong += [f"killed before {changes[n - 1]} ({n}): {difference}" for difference in found]
    assert wrong == []


def test_the_first_signal_waits_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with deferred_interrupt() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="broken"), deferred_interrupt():
        raise RuntimeError("broken")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_training_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    root, job = tiny.with_teacher(tmp_path), tiny.config(tmp_path).student_run("ce", 0)
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(runs.train(job, root, CPU).done)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


def test_it_stops_only_where_it_can_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in the last epoch, too, saves and raises; the same call then finishes without training again."""
    root = tiny.with_teacher(tmp_path)
    job: RunConfig = tiny.config(tmp_path).student_run("kd-dot", 0)
    append = Journal.append

    def append_and_signal(self: Journal, record: dict[str, Any]) -> None:
        append(self, record)
        if record.get("epoch") == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Journal, "append", append_and_signal)
    with pytest.raises(KeyboardInterrupt):
        runs.train(job, root, CPU)
    assert load_checkpoint(root / job.name / "checkpoints" / "last.pt")["place"]["epoch"] == 2
    run = runs.train(job, root, CPU)
    assert run.done
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    assert store.load_conflict(run.conflict).step.size == 8
