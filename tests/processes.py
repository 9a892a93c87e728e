"""Real processes for tests of what happens when they are started together, killed, or without rights or room.

A server imports the package once and forks a child for each command line, so that a process costs no import. Where
what is tested is the start of a process itself, `started` starts an ordinary one.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

MY_NETWORK = '''
"""A small network of a user's; what it does besides is asked for in the environment."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

import landscape as ls


def problem(delay=float(os.environ.get("DELAY", "0"))):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    batches = list(zip(torch.randn(23, 4).split(6), torch.randint(0, 3, (23,)).split(6)))

    def objective(model, batch):
        x, y = batch
        if delay:
            time.sleep(delay)
        if watched := os.environ.get("WATCHED"):
            Path(watched).write_text(str(torch.get_num_threads()))
        logits = model(x)
        tokens = ls.PerToken(logits.square(), torch.arange(3) <= y[:, None])
        return {"ce": nn.functional.cross_entropy(logits, y, reduction="none"), "tokens": tokens}

    return ls.Problem(net, objective, batches)


def finished(part, cells):
    """Wait until a part has so many cells, and its process has come to the meeting of all."""
    while not Path(part).exists() or (ls.load(part).status != 0).sum() < cells:
        time.sleep(0.05)
    time.sleep(1)


def dying():
    """The second rank is killed, once, in the middle of a surface that the first has done its part of.

    When both are started again it comes to their meeting first, where it must not look for the one who is dead.
    """
    found, rank, again, calls = problem(), os.environ["RANK"], Path("died").exists(), []
    with open(f"starts-{rank}", "a") as file:
        file.write("x")
    if again and rank == "0":
        finished("s.shard-1-of-2.h5", 15)

    def objective(model, batch):
        calls.append(1)
        if len(calls) == 60 and rank == "1" and not again:
            finished("s.shard-0-of-2.h5", 20)
            Path("died").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return found.objective(model, batch)

    return ls.Problem(found.model, objective, found.batches)


def failing():
    with open("attempts", "a") as file:
        file.write("x")
    raise ValueError("my data are not there")


def late():
    """The second rank comes much later than torch waits by default, which is shortened here."""
    from datetime import timedelta

    from torch.distributed import distributed_c10d, rendezvous

    distributed_c10d.default_pg_timeout = rendezvous.default_pg_timeout = timedelta(seconds=1)
    if os.environ["RANK"] == "1":
        time.sleep(3)
    return problem()
'''

_OTHERS_START = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "SLURM_", "HDF5_USE_FILE_LOCKING")
"""Of the environment that the tests were started in: what a child must not know of."""


def environment(**more: str) -> dict[str, str]:
    """That of a child: one thread, this folder to import from, and neither torchrun nor Slurm around it."""
    path = os.pathsep.join(p for p in sys.path if p)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OTHERS_START)}
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def started(command: list[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    """An ordinary process, first of a group of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment(**more), start_new_session=True
    )


def finished(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """An ordinary process that has ended; where it does not, it is ended with all that it started."""
    with started(command, folder, **more) as process:
        try:
            out, err = process.communicate(timeout=150)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class Child:
    """A process that a `Server` has forked."""

    def __init__(self, server: Server, pid: int, said: Path) -> None:
        self.pid, self._server, self._said = pid, server, said
        self.status: int | None = None

    def wait(self) -> int:
        """Wait for its end: its exit status, or minus the signal that killed it."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(self._server.ask({"wait": self.pid}))
        return self.status

    def kill(self) -> None:
        """End it here and now."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def out(self) -> str:
        """What it printed on stdout."""
        return self._said.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        """What it printed on stderr."""
        return self._said.with_suffix(".err").read_text()


class Server:
    """Forks a process for each command line of ``dot-landscape``.

    Args:
        scratch: A folder for what the children print.
        modules: To import besides, so that no child has to.
        more: Of the environment of all of them.
    """

    def __init__(self, scratch: Path, *modules: str, **more: str) -> None:
        self._scratch, self._count, self._children = scratch, 0, list[Child]()
        command = [sys.executable, "-c", "import processes; processes.serve()", *modules]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(**more))

    def start(
        self,
        command: str | list[str],
        folder: Path,
        *,
        bound: bool = False,
        entry: str = "dot.cli.main:main",
        **more: str,
    ) -> Child:
        """Start a command line in a folder, with more in its environment; `bound` by rights, also where root is not.

        `entry` is the ``module:function`` that takes its words and returns the exit status.
        """
        self._count += 1
        said = self._scratch / str(self._count)
        words = command.split() if isinstance(command, str) else list(map(str, command))
        asked = {"words": words, "folder": str(folder), "said": str(said), "bound": bound, "entry": entry, "more": more}
        pid = self.ask(asked)
        self._children.append(Child(self, pid, said))
        return self._children[-1]

    def run(self, command: str | list[str], folder: Path, *, bound: bool = False, **more: str) -> Child:
        """The same, and wait for its end."""
        child = self.start(command, folder, bound=bound, **more)
        child.wait()
        return child

    def ask(self, question: dict[str, Any]) -> int:
        """Send a line, and read the number that comes back."""
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())  # type: ignore[union-attr]

    def stop(self) -> None:
        """End what is left of its children."""
        for child in self._children:
            if child.status is None:
                child.kill()
                child.wait()

    def close(self) -> None:
        """End the server, and its children."""
        self.stop()
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


def serve() -> None:
    """What the server does: a line in, a process or its end out."""
    for name in (
        "dot.cli.main",
        "dot.cli.surface",
        "dot.cli.merge",
        "dot.plain",
        "landscape",
        "landscape.parallel",
        *sys.argv[1:],
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            print(os.waitpid(question["wait"], 0)[1], flush=True)
            continue
        child = os.fork()
        if not child:
            _become(question)
        print(child, flush=True)


def _become(question: dict[str, Any]) -> None:
    """Be the process of a command line, to its end."""
    from dot.cli.main import PROGRAM

    status = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for number, name in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(question["said"] + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        os.chdir(question["folder"])
        os.environ.update(question["more"])
        if question["bound"]:
            _give_up_capabilities()
        sys.argv = [PROGRAM, *question["words"]]
        module, _, function = question["entry"].partition(":")
        status = getattr(importlib.import_module(module), function)(question["words"])
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _give_up_capabilities() -> None:
    """For root to obey the rights of its own files; another user might not even read the interpreter's."""
    if os.getuid() == 0:
        version_3, this_process = 0x20080522, 0
        assert ctypes.CDLL(None).capset(struct.pack("Ii", version_3, this_process), bytes(24)) == 0


@contextmanager
def serving(scratch: Path, *modules: str, **more: str) -> Iterator[Server]:
    """A `Server` for as long as it is needed."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    server = Server(scratch, *modules, **more)
    try:
        yield server
    finally:
        server.close()


def until(condition: Callable[[], Any], what: str, seconds: float = 100) -> None:
    """Wait for something that will happen; on a busy machine it takes its time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.002)


def content(path: Path) -> dict[str, Any]:
    """All that a file holds, to the bit: datasets, and attributes but for the moment and the command."""
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (str(item.dtype), item.shape, item[()].tobytes())
        for key, value in item.attrs.items():
            if key not in ("created_at", "command", "DIMENSION_LIST", "REFERENCE_LIST"):
                found[f"{name}@{key}"] = str(value)

    with h5py.File(path, "r", locking=False) as file:
        visit("", file)
        file.visititems(visit)
    return found


def cells(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The status of each cell of a surface that is being written, and all values: the status is read first."""
    with h5py.File(path, "r", locking=False) as file:
        status = file["status"][()]
        values = {f"{g}/{name}": file[g][name][()] for g in ("terms", "sem") for name in ("ce", "tokens")}
    return status, values


def names(folder: Path) -> set[str]:
    """What is in a folder of a test, hidden files too, without its module and what Python makes of it."""
    return {path.name for path in folder.iterdir()} - {"my_network.py", "__pycache__"}
