"""Processes that train together end where one alone does, whatever befalls one of them, and the first alone writes.

Most of them are forked by a `processes.Server`, with the environment and the store that torchrun gives to its own.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tiny
import torch
from processes import Child, Server, content, serving, started, until
from tiny import CPU, RECIPE
from torch import Tensor, distributed, nn

from dot import devices, models, runs, study
from dot.config import RunConfig
from dot.distillation import Hinton, make
from dot.logit_cache import LogitCache
from dot.recording import ConflictRecorder
from dot.runs import load_checkpoint
from dot.teaching import Teacher
from dot.trainer import Trainer
from dot.world import World, joined, synchronised

ENTRY = "test_world:"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
OTHER_ENDED = "dot-landscape: all processes of a training must stay to its end. Another one has ended"
INTERRUPTED = "dot-landscape: interrupted. What was finished is kept: run the same command to go on."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("said"), "test_world", "dot.cli.train", "dot.cli.reproduce") as found:
        yield found


@dataclass
class Ranks:
    """Processes that were started together."""

    children: list[Child]
    store: distributed.TCPStore

    def wait(self) -> list[int]:
        """The exit status of each; one that does not end is ended."""
        hung = threading.Timer(60, lambda: [child.kill() for child in self.children if child.status is None])
        hung.start()
        try:
            return [child.wait() for child in self.children]
        finally:
            hung.cancel()

    @property
    def said(self) -> str:
        """On stderr, by all."""
        return "".join(child.err for child in self.children)


def ranks(server: Server, n: int, command: str | list[str], folder: Path, **more: Any) -> Ranks:
    """So many processes of a command, with what torchrun gives them: their ranks, and a store that outlives them."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    size = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
    children = [
        server.start(command, folder, RANK=str(i), LOCAL_RANK=str(i), **size, **meeting, **more) for i in range(n)
    ]
    return Ranks(children, store)


# The same as one process


class Small(nn.Module):
    """Without batch norm, so that an example's outputs do not depend on the others'."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2)
        self.head = nn.Linear(9 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(x)).flatten(1))


def small_job(method: str, distillation: str) -> RunConfig:
    layers = {"student_layers": ("conv",), "teacher_layers": ("conv",)} if distillation == "hint" else {}
    name, _, sam = method.partition("+")
    return tiny.vary(
        tiny.config(tiny.folder()).student_run(name, 0),
        train={"batch_size": 45, "lr": 0.05, "milestones": (1,), "sam": 0.1 if sam else 0.0},
        losses={"distillation": distillation, "warmup_epochs": 2} | layers,
        record={"every": 1, "heldout": 33},
    )


def train_small(words: list[str]) -> int:
    """Two epochs of three batches of 44, 43 and 43 images, all in float64, as `Tensor.float` gives here."""
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign,assignment]
    here = Path.cwd()
    for method, distillation in json.loads(words[0]):
        job, data = small_job(method, distillation), tiny.digits(CPU, 130, 101)
        torch.manual_seed(5)
        model, network = Small(3), Small(5)
        loss, teacher = make(job.losses, model, network, data.inputs(data.test.images[:2])), Teacher(network)
        teacher = Teacher(network, loss.teacher_layers)
        with joined(CPU) as world:
            out = here / f"{method}-{distillation}-of-{world.size}"
            if world.first:
                out.mkdir()
            world.wait()
            recorder = ConflictRecorder(out, model, teacher, loss, data, job, world)
            trainer = Trainer(model, teacher, loss, data, job, recorder, world)
            numbers = [trainer.run_epoch() for _ in range(2)]
            if world.first:
                recorder.sync()
        torch.save({"state": trainer.state(), "numbers": numbers}, out / f"{world.rank}.pt")
    return 0


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every number and tensor of nested containers, by its path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if pairs is None:
        return {name: value}
    return {path: leaf for key, item in pairs for path, leaf in flat(item, f"{name}/{key}").items()}


SMALL = [
    ("ce", "kd"),
    ("kd-sgd", "kd"),
    ("kd-dot", "kd"),
    ("kd-sgd", "hint"),
    ("kd-dot", "hint"),
    ("kd-sgd+sam", "hint"),
]


@pytest.fixture(scope="module")
def trained_small(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of `train_small` by one process, by two, and by three."""
    folder = tmp_path_factory.mktemp("small")
    alone = server.run([json.dumps(SMALL)], folder, entry=ENTRY + "train_small")
    assert (alone.status, alone.err) == (0, "")
    for n in (2, 3):
        together = ranks(server, n, [json.dumps(SMALL)], folder, entry=ENTRY + "train_small")
        assert together.wait() == [0] * n, together.said
    return folder


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("method", "distillation"), SMALL)
def test_uneven_parts_train_as_the_whole(method: str, distillation: str, n: int, trained_small: Path) -> None:
    name = f"{method}-{distillation}-of"
    whole = torch.load(trained_small / f"{name}-1" / "0.pt")
    assert whole["numbers"][1]["train"]["ce"] < whole["numbers"][0]["train"]["ce"], "it has learnt something"
    assert len(whole["state"]["distillation"]) == (2 if distillation == "hint" else 0)
    for rank in range(n):
        part = torch.load(trained_small / f"{name}-{n}" / f"{rank}.pt")
        one, other = (flat({key: found[key] for key in ("state", "numbers")}) for found in (whole, part))
        assert one.keys() == other.keys()
        wrong = []
        for key, value in one.items():
            if key.rpartition("/")[2] in tiny.TIMES or isinstance(value, (str, bool)) or value is None:
                continue
            difference = float((torch.as_tensor(value) - torch.as_tensor(other[key])).abs().max())
            if not difference <= 1e-10:
                wrong.append((key, difference))
        assert wrong == []


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("method", "distillation"), SMALL)
def test_conflict_is_that_of_the_whole_batch(method: str, distillation: str, n: int, trained_small: Path) -> None:
    for file, records in (("conflict.jsonl", 6), ("heldout.jsonl", 2)):
        one, other = (
            [json.loads(line) for line in (trained_small / f"{method}-{distillation}-of-{m}" / file).open()]
            for m in (1, n)
        )
        assert len(one) == records
        assert [line.keys() for line in one] == [line.keys() for line in other]
        for a, b in zip(one, other, strict=True):
            moving, other_moving = a.pop("motion"), b.pop("motion")
            assert moving["of"] == other_moving["of"]
            sizes = np.sqrt(np.diag(moving["gram"]))
            cosines, other_cosines = (np.array(m["gram"]) / np.outer(sizes, sizes) for m in (moving, other_moving))
            np.testing.assert_allclose(other_cosines, cosines, atol=1e-6)
            for key in a:
                np.testing.assert_allclose(b[key], a[key], rtol=1e-6, atol=0, err_msg=key)


# No drift, own draws


class Dropping(nn.Module):
    """With batch norm and dropout; keeps what was dropped in each pass in train mode."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, width, 3, stride=2), nn.BatchNorm2d(width)
        self.head, self.p, self.dropped = nn.Linear(9 * width, 10), p, list[list[int]]()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.conv(x))).flatten(1)
        kept = nn.functional.dropout(torch.ones_like(h[:4]), self.p, self.training)
        if self.training:
            self.dropped.append((kept == 0).nonzero().flatten().tolist())
        return self.head(h * kept.mean(0))


def train_dropping(words: list[str]) -> int:
    """A hundred steps, stopped and resumed after so many, the last rank alone being asked to stop; what each has."""
    stop_at, here = int(words[0]), Path.cwd()
    job = tiny.vary(tiny.config(tiny.folder()).student_run("kd-dot", 0), train={"batch_size": 18})
    data, found = tiny.digits(CPU, 898, 99), {}

    def trainer(world: World) -> Trainer:
        torch.manual_seed(4)
        return Trainer(
            Dropping(3, 0.3), Teacher(Dropping(5, 0.0)), Hinton(job.losses.temperature), data, job, None, world
        )

    with joined(CPU) as world:
        student = trainer(world)
        numbers = [student.run_epoch(lambda: world.rank == 1 and student.place.step == stop_at)]
        if numbers == [None]:
            found["stopped"] = student.state()
            if world.first:
                torch.save(student.state(), here / "stopped.pt")
            world.wait()
            dropped = student.model.dropped
            student = trainer(world)
            student.load_state(load_checkpoint(here / "stopped.pt"))
            student.model.dropped = dropped
            numbers = [student.run_epoch()]
        numbers.append(student.run_epoch())
    found |= {"dropped": student.model.dropped, "state": student.state(), "numbers": numbers}
    torch.save(found, here / f"{world.rank}.pt")
    return 0


@pytest.fixture(scope="module")
def dropping(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What two ranks of `train_dropping` have, by the step after which they were stopped; 0 for not at all."""
    found = {}
    for stop_at in (0, 13):
        folder = tmp_path_factory.mktemp("dropping")
        both = ranks(server, 2, [str(stop_at)], folder, entry=ENTRY + "train_dropping")
        assert both.wait() == [0, 0], both.said
        found[stop_at] = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    return found


def timeless(numbers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in epoch.items() if key not in tiny.TIMES} for epoch in numbers]


def test_no_drift_in_a_hundred_steps(dropping: dict[int, list[dict[str, Any]]]) -> None:
    first, second = dropping[0]
    assert first["state"]["place"]["step"] == 100
    assert tiny.same(first["state"], second["state"]), "parameters, shared buffers of batch norm, momentum, place"
    assert timeless(first["numbers"]) == timeless(second["numbers"])


def test_all_stop_at_the_step_at_which_one_was_asked(dropping: dict[int, list[dict[str, Any]]]) -> None:
    first, second = (found["stopped"] for found in dropping[13])
    assert first["place"]["step"] == second["place"]["step"] == 13
    for key, mine in first["model"].items():
        local = "running" in key
        assert tiny.same(mine, second["model"][key]) != local, f"{key}: batch norm, and it alone, is a rank's own"


def test_what_a_network_draws_is_a_ranks_own_and_comes_again(dropping: dict[int, list[dict[str, Any]]]) -> None:
    first, second = (found["dropped"] for found in dropping[0])
    assert len(first) == 100
    assert all(mine != other for mine, other in zip(first, second, strict=True))
    assert len({str(drawn) for drawn in first}) == 100
    for whole, resumed in zip(dropping[0], dropping[13], strict=True):
        assert whole["dropped"] == resumed["dropped"]
        assert timeless(whole["numbers"]) == timeless(resumed["numbers"])
        assert tiny.same(whole["state"], resumed["state"])


# Command lines


MANY_STEPS = RECIPE.replace("milestones = [1]", "batch_size = 8").replace("every = 4", "every = 1")
"""Two epochs of 113 steps."""


def prepared(folder: Path, text: str = MANY_STEPS, method: str = "kd-dot") -> tuple[Path, str]:
    """A folder with the trained teacher; the student's run folder in it, and the command that trains it."""
    recipe = tiny.recipe(folder, text)
    (folder / "runs").mkdir()
    tiny.with_teacher(folder / "runs")
    name = tiny.config(folder, text).student_run(method, 0).name
    return folder / "runs" / name, f"train {recipe} --method {method} -o {folder / 'runs'} --device cpu"


@functools.cache
def _kept() -> dict[str, Path]:
    return {}


def uninterrupted(server: Server, text: str = MANY_STEPS) -> Path:
    """The run of two processes that nothing has befallen."""
    if text not in _kept():
        folder = tiny.folder()
        run, command = prepared(folder, text)
        both = ranks(server, 2, command, folder)
        assert both.wait() == [0, 0], both.said
        _kept()[text] = run
    return _kept()[text]


def audited(words: list[str]) -> int:
    """The command, which notes every file or folder that is written, renamed or made."""
    from dot.cli.main import main

    wrote = open(f"wrote-{os.environ['RANK']}", "a")  # noqa: SIM115

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writing or event in ("os.rename", "os.mkdir", "os.remove", "os.truncate"):
            wrote.write(f"{event} {arguments[0]}\n")
            wrote.flush()

    sys.addaudithook(note)
    return main(words)


def test_the_first_process_alone_writes_and_speaks(server: Server, tmp_path: Path) -> None:
    folder, command = prepared(tmp_path, RECIPE)
    both = ranks(server, 2, command, tmp_path, entry=ENTRY + "audited")
    assert (both.wait(), both.said) == ([0, 0], "")
    assert both.children[0].out.startswith(f"{folder}: epoch 2, test accuracy ")
    assert both.children[1].out == ""
    assert "checkpoints" in (tmp_path / "wrote-0").read_text()
    assert str(tmp_path / "runs") not in (tmp_path / "wrote-1").read_text()
    alone, command = prepared(tiny.folder(), RECIPE)
    assert server.run(command, tmp_path).status == 0
    assert {p.relative_to(folder) for p in folder.rglob("*")} == {p.relative_to(alone) for p in alone.rglob("*")}
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2


def another_configuration(folder: Path) -> str:
    folder.mkdir()
    folder.joinpath("config.toml").write_text(next(folder.parent.glob("*resnet8*/config.toml")).read_text())
    return "must hold the configuration that its name says"


def another_teacher(folder: Path) -> str:
    shutil.copytree(_kept()[RECIPE], folder)
    (folder / "model.safetensors").unlink()
    path = folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher_sha256": "0" * 64}))
    return "must be used with the teacher that it was trained with"


def broken_teacher(folder: Path) -> str:
    path = next(folder.parent.glob("*resnet8*/model.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    return "must hold the weights of resnet8"


def checkpoint_that_is_none(folder: Path) -> str:
    shutil.copytree(_kept()[RECIPE], folder)
    (folder / "model.safetensors").unlink()
    for name in ("last.pt", "previous.pt"):
        (folder / "checkpoints" / name).write_bytes(b"none")
    return "must be a checkpoint of plain tensors"


@pytest.mark.parametrize("broken", [another_configuration, another_teacher, broken_teacher, checkpoint_that_is_none])
def test_an_error_of_one_or_all_is_said_once_and_ends_all(
    broken: Callable[[Path], str], server: Server, tmp_path: Path
) -> None:
    uninterrupted(server, RECIPE)
    folder, command = prepared(tmp_path, RECIPE)
    words = broken(folder)
    both = ranks(server, 2, command, tmp_path)
    assert both.wait() == [1, 1]
    assert both.said.count("\n") == 1, both.said
    assert words in both.said


def test_one_process_left_alone_ends_with_a_reason(server: Server, tmp_path: Path) -> None:
    folder, command = prepared(tmp_path)
    for dead in (0, 1):
        lock = folder.with_name(f".{folder.name}.lock")
        lock.unlink(missing_ok=True)
        both = ranks(server, 2, command, tmp_path)
        until(lock.exists, "it trains")
        both.children[dead].kill()
        assert both.wait() == ([-signal.SIGKILL, 1] if dead == 0 else [1, -signal.SIGKILL])
        assert both.said.startswith(OTHER_ENDED), both.said
        assert both.said.count("\n") == 1


def workers_of(torchrun: int) -> dict[int, int]:
    """Process ids of torchrun's children by rank."""
    pids = map(int, Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split())
    found = {}
    for pid in pids:
        rank = re.search(rb"(?:^|\0)RANK=(\d+)\0", Path(f"/proc/{pid}/environ").read_bytes())
        if rank:
            found[int(rank[1])] = pid
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")


@needs_proc
def test_a_rank_that_is_killed_ends_the_job_which_goes_on_in_two_or_in_one(server: Server, tmp_path: Path) -> None:
    folder, command = prepared(tmp_path)
    with started([*TORCHRUN, "-m", "dot", *command.split()], tmp_path) as job:
        until((folder / "checkpoints" / "last.pt").exists, "the first checkpoint")
        os.kill(workers_of(job.pid)[1], signal.SIGKILL)
        out, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert out == ""
    assert "Signal 9 (SIGKILL)" in err, "torchrun says which"
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["place"]["epoch"] == 1
    assert not (folder / "model.safetensors").exists()
    shutil.copytree(tmp_path / "runs", tmp_path / "one")
    both = ranks(server, 2, command, tmp_path)
    assert (both.wait(), both.said) == ([0, 0], "")
    assert tiny.differences(folder, uninterrupted(server)) == []
    alone = server.run(command.replace("/runs", "/one"), tmp_path)
    assert (alone.status, alone.err) == (0, "")
    assert [line["epoch"] for line in tiny.metrics(tmp_path / "one" / folder.name)] == [1, 2]
    assert tiny.metrics(tmp_path / "one" / folder.name)[0] == tiny.metrics(uninterrupted(server))[0]


SLOW_FROM_TEN = """
import pathlib, sys, time
from dot.cli.main import main
from dot.trainer import Trainer
plain = Trainer._step
def marked(self, *arguments):
    if self.place.step >= 10:
        pathlib.Path(f"ten-{self.world.rank}").touch()
        time.sleep(0.05)
    return plain(self, *arguments)
Trainer._step = marked
sys.exit(main(sys.argv[1:]))
"""


@needs_proc
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM to every process, as Slurm does"])
def test_interrupted_they_stop_at_one_step_and_go_on(how: str, server: Server, tmp_path: Path) -> None:
    folder, command = prepared(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW_FROM_TEN)
    with started([*TORCHRUN, "slow.py", *command.split()], tmp_path) as job:
        until(lambda: all((tmp_path / f"ten-{rank}").exists() for rank in (0, 1)), "the first steps")
        if how == "Ctrl-C":
            os.killpg(job.pid, signal.SIGINT)
        else:
            for pid in (*workers_of(job.pid).values(), job.pid):
                os.kill(pid, signal.SIGTERM)
        out, err = job.communicate(timeout=60)
    assert job.returncode != 0
    assert out == ""
    assert err.count(INTERRUPTED) == 1, err
    place = load_checkpoint(folder / "checkpoints" / "last.pt")["place"]
    assert place["epoch"] == 0
    assert 10 <= place["step_in_epoch"] == place["step"] < 113, "in the middle of the epoch"
    both = ranks(server, 2, command, tmp_path)
    assert (both.wait(), both.said) == ([0, 0], "")
    assert tiny.differences(folder, uninterrupted(server)) == []


# What is particular to several


def test_batch_norm_over_all_needs_gpus(server: Server, tmp_path: Path) -> None:
    text = RECIPE.replace("threads = 1", "threads = 1\nsync_batch_norm = true").replace("epochs = 2", "epochs = 1")
    folder, command = prepared(tmp_path, text.replace("milestones = [1]", ""), "ce")
    both = ranks(server, 2, command, tmp_path)
    assert both.wait() == [1, 1]
    assert both.said == (
        "dot-landscape: compute.sync_batch_norm needs GPUs. Got cpu: set it to false, and each process normalises by "
        "its own part of a batch.\n"
    )
    assert not (folder / "model.safetensors").exists()
    assert server.run(command, tmp_path).status == 0, "one process alone has the whole batch anyway"
    model = models.build("convnet4", in_channels=1, num_classes=10)
    assert synchronised(model, World(), CPU) is model
    converted = synchronised(model, World(0, 2), torch.device("cuda"))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())


def test_batches_that_are_too_small_for_so_many(server: Server, tmp_path: Path) -> None:
    text = RECIPE.replace("milestones = [1]", "batch_size = 2")
    _, command = prepared(tmp_path, text, "ce")
    three = ranks(server, 3, command, tmp_path)
    assert three.wait() == [1, 1, 1]
    assert three.said == (
        "dot-landscape: train.batch_size must give each process an image of every batch. Got 3 processes for batches "
        "of 2 images: start fewer, or raise it.\n"
    )


CACHED = RECIPE.replace("threads = 1", "threads = 1\ncache_teacher = true").replace("shift = 1", "flip = true")


def each_alone(words: list[str]) -> int:
    """The command, each rank with a cache of its own."""
    from dot.cli.main import main

    def own(path: Path, *arguments: Any) -> LogitCache:
        return LogitCache(path.with_name(f"rank-{os.environ['RANK']}-{path.name}"), *arguments)

    runs.training.LogitCache = own  # type: ignore[assignment,misc]
    return main(words)


def test_the_cache_that_is_shared_loses_nothing(server: Server, tmp_path: Path) -> None:
    found = {}
    for how, entry in (("shared", "dot.cli.main:main"), ("alone", ENTRY + "each_alone")):
        (tmp_path / how).mkdir()
        folder, command = prepared(tmp_path / how, CACHED)
        both = ranks(server, 2, command, tmp_path, entry=entry)
        assert both.wait() == [0, 0], both.said
        teacher = next((tmp_path / how / "runs").glob("*resnet8*"))
        found[how] = (
            folder,
            [
                tuple(np.load(path / name) for name in ("there.npy", "logits.npy"))
                for path in sorted(teacher.glob("*logits*"))
            ],
        )
    assert tiny.differences(found["shared"][0], found["alone"][0]) == []
    ((there, logits),) = found["shared"][1]
    own = found["alone"][1]
    assert len(own) == 2
    assert 0 < there.sum() <= there.size
    np.testing.assert_array_equal(there, own[0][0] | own[1][0])
    for mine, table in own:
        np.testing.assert_array_equal(logits[mine], table[mine])


ONE_STUDENT = RECIPE.replace('"ce", "kd-sgd", "kd-dot"', '"kd-dot"').replace("[0, 1]", "[0]")


def test_a_study_by_two(server: Server, tmp_path: Path) -> None:
    """Its surfaces are those that one process measures of the same weights; what was interrupted goes on."""
    command = f"reproduce {tiny.recipe(tmp_path, ONE_STUDENT)} -o {tmp_path / 'study'} --device cpu"
    both = ranks(server, 2, command, tmp_path, entry=ENTRY + "audited")
    assert both.wait() == [0, 0], both.said
    assert both.said.count("[4/4] figures and report") == 1
    assert both.children[1].out == ""
    assert str(tmp_path / "study" / "study.json") not in (tmp_path / "wrote-1").read_text()
    assert (tmp_path / "wrote-0").read_text().count("os.rename " + str(tmp_path / "study" / ".study.json.tmp")) == 1
    run = next((tmp_path / "study" / "runs").glob("kd-dot-*"))
    assert not list(run.glob("*shard*")) + list(run.glob("*plan*"))
    two = {name: content(run / name) for name in ("surface.h5", "lines.h5")}

    (tmp_path / "study" / "study.json").unlink()
    with h5py.File(run / "lines.h5", "r+") as file:  # as one process has left it that was killed
        file["status"][1:] = 0
        for name in ("ce", "kd", "error"):
            file["terms"][name][1:] = np.nan
    before = (run / "surface.h5").stat().st_mtime_ns
    again = ranks(server, 2, command, tmp_path)
    assert again.wait() == [0, 0], again.said
    assert (run / "surface.h5").stat().st_mtime_ns == before
    assert content(run / "lines.h5") == two["lines.h5"]

    for name in two:
        (run / name).unlink()
    config = tiny.config(tmp_path, ONE_STUDENT)
    study.measure(runs.open_run(run), config.measure, CPU, "")
    assert {name: content(run / name) for name in two} == two


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_parts_are_a_batch(n: int) -> None:
    for size in range(n, 23):
        parts = [list(range(size))[World(rank, n).part(size)] for rank in range(n)]
        assert [i for part in parts for i in part] == list(range(size))
        assert {len(part) for part in parts} <= {size // n, -(-size // n)}


@pytest.mark.parametrize(
    "environ", [{}, {"RANK": "1"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"MASTER_ADDR": "localhost"}, {"WORLD_SIZE": "2"}]
)
def test_alone_without_torchrun(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with joined(CPU) as world:
        assert world == World()
        assert not distributed.is_initialized()
        assert world.total([torch.ones(2)])[0].tolist() == [1, 1]
        assert (world.any(True), world.any(False), world.same(3)) == (True, False, True)


def test_processes_that_cannot_find_each_other(server: Server, tmp_path: Path) -> None:
    _, command = prepared(tmp_path, RECIPE)
    lost = server.run(command, tmp_path, RANK="1", WORLD_SIZE="2")
    assert (lost.status, lost.out) == (1, "")
    assert lost.err.startswith(
        "dot-landscape: the 2 processes that RANK and WORLD_SIZE speak of must find each other. Start them with "
        "torchrun, or unset both for one alone. Got: "
    )
    assert lost.err.endswith("environment variable MASTER_ADDR expected, but not set\n")
    assert not list((tmp_path / "runs").glob("*convnet4*"))


def test_a_rank_of_nothing_speaks(server: Server, tmp_path: Path) -> None:
    assert server.run("data info digits --json", tmp_path, RANK="3").out.startswith("{")


def test_the_group_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the only one of two processes that is there, and a store in which both errors are of one meeting."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(store, 0, 1)]))
    monkeypatch.setattr("dot.world._MEETINGS", itertools.repeat(0))
    with joined(CPU):
        assert distributed.is_initialized()
    with pytest.raises(ValueError, match="mine"), joined(CPU):
        raise ValueError("mine")
    for error, status in ((ValueError, 1), (KeyboardInterrupt, 130)):
        with pytest.raises(SystemExit) as ended, joined(CPU):
            raise error
        assert ended.value.code == status, "another one has said why"
    assert not distributed.is_initialized()


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_local_rank_has_a_gpu_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for rank, expected in (("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert str(devices.pick(name)) == expected
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    assert str(devices.pick(name)) == "cuda"
    assert str(devices.pick("cuda:1")) == "cuda:1"
