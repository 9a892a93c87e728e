"""A measurement that was broken off goes on, and ends as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from oracles import HazardNet, batched, images, objective
from plain import evaluate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.results import DONE, PENDING

PLANE = ls.Grid2D(x=(-1, 1, 3), y=(-0.5, 1, 4))


def problem(objective=objective, batch_size=8) -> ls.Problem:
    """The same at every call; three uneven batches, shuffled by a generator of the loader's own."""
    torch.manual_seed(7)
    data = TensorDataset(*images(22))
    generator = torch.Generator().manual_seed(1)
    model = HazardNet()
    return ls.Problem(model, objective, DataLoader(data, batch_size, shuffle=True, generator=generator), "train")


def datasets(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every dataset of a file, and its attributes but for the moment and the command."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = (str(item.dtype), item.shape, item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
        kept = set(file.attrs) - {"created_at", "command"}
        found |= {f"@{name}": ("", (), str(file.attrs[name]).encode()) for name in kept}
    return found


def failing_after(calls: int):
    seen = []

    def wrapped(model, batch):
        if len(seen) == calls:
            raise RuntimeError("broken off")
        seen.append(1)
        return objective(model, batch)

    return wrapped, seen


SHAPES = {
    "plane": (2, PLANE),
    "line": (1, ls.Grid1D(x=(-1, 1, 7))),
    "bundle": (3, ls.Grid1D(x=(-0.5, 1, 4))),
}


@pytest.mark.parametrize("calls", [0, 2, 3, 6, 14, 20, 25])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_resumed_surface_equals_an_uninterrupted_one_bit_for_bit(shape, calls, tmp_path):
    n, grid = SHAPES[shape]
    directions = ls.directions.random(problem().model, n=n)
    whole = evaluate(problem(), directions, grid, out=tmp_path / "whole.h5")
    path = tmp_path / "resumed.h5"
    if shape == "line" and calls == 25:
        calls = 21  # the last pass of the shortest surface
    with pytest.raises(RuntimeError, match="broken off"):
        evaluate(problem(failing_after(calls)[0]), directions, grid, out=path)
    assert path.exists() == (calls >= 7), "the file is there once the origin is known, and known to be steady"
    pending = int((ls.load(path).status == PENDING).sum()) if path.exists() else whole.status.size
    counting, seen = failing_after(10**6)
    resumed = evaluate(problem(counting), directions, grid, out=path)
    centre = 0 if 0 not in grid.xs or (grid.ys is not None and 0 not in grid.ys) else 1
    probed = 1 if calls < 7 else 0
    steady = 3 if calls < 7 else 0
    assert 3 * (1 + pending - n * centre) <= len(seen) - probed - steady <= 3 * (1 + pending)
    assert datasets(path) == datasets(tmp_path / "whole.h5")
    for term in whole.terms:
        assert resumed.values(term).tobytes() == whole.values(term).tobytes()
        assert resumed.sem(term).tobytes() == whole.sem(term).tobytes()
    assert [f.name for f in sorted(tmp_path.iterdir())] == ["resumed.h5", "whole.h5"]


def test_it_may_be_broken_off_again_and_again(tmp_path):
    directions = ls.directions.random(problem().model)
    evaluate(problem(), directions, PLANE, out=tmp_path / "whole.h5")
    path, failures, done = tmp_path / "s.h5", 0, [0]
    while True:
        try:
            evaluate(problem(failing_after(3 + 13)[0]), directions, PLANE, out=path)  # a row and a bit
            break
        except RuntimeError:
            failures += 1
            done.append(int((ls.load(path).status == DONE).sum()))
    assert done == [0, 3, 8], "what was finished before an exception is kept, half a row too"
    assert datasets(path) == datasets(tmp_path / "whole.h5")


def test_a_finished_file_costs_one_batch(tmp_path):
    directions = ls.directions.random(problem().model)
    first = evaluate(problem(), directions, PLANE, out=tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    refusing, seen = failing_after(1)
    again = evaluate(problem(refusing), directions, PLANE, out=tmp_path / "s.h5")
    assert len(seen) == 1
    assert (tmp_path / "s.h5").read_bytes() == before
    np.testing.assert_array_equal(again.values("ce"), first.values("ce"))
    assert again.origin == first.origin


def test_a_resumed_surface_obeys_the_plan_of_its_file(tmp_path):
    threads, directions = [], ls.directions.random(problem().model)
    with pytest.raises(RuntimeError):
        evaluate(problem(failing_after(14)[0]), directions, PLANE, out=tmp_path / "s.h5")
    planned = torch.get_num_threads()
    torch.set_num_threads(planned + 1)
    try:
        watching = problem(lambda m, b: threads.append(torch.get_num_threads()) or objective(m, b))
        evaluate(watching, directions, PLANE, out=tmp_path / "s.h5")
        assert torch.get_num_threads() == planned + 1
    finally:
        torch.set_num_threads(planned)
    assert set(threads) == {planned}


def _nudge(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.view(-1)[0] += 1e-3


def _other_objective(model, batch):
    terms = objective(model, batch)
    return terms | {"kd": 2 * terms["kd"]}


def _other_data(p: ls.Problem) -> ls.Problem:
    _nudge(p.batches.dataset.tensors[0])
    return p


def _other_weights(p: ls.Problem) -> ls.Problem:
    _nudge(p.model.mix)
    return p


def _other_buffers(p: ls.Problem) -> ls.Problem:
    _nudge(p.model.norm.running_var)
    return p


draw = ls.directions.random
OTHERS = {
    "other directions": (problem, lambda m: draw(m, seed=1), PLANE, "directions_sha256"),
    "other normalisation": (
        problem,
        lambda m: draw(m, normalize="layer"),
        PLANE,
        "directions_sha256, normalize",
    ),
    "other parameters": (problem, lambda m: draw(m, ignore="none"), PLANE, "directions_sha256, ignore"),
    "other data": (lambda: _other_data(problem()), draw, PLANE, "data_sha256"),
    "other batches": (lambda: problem(batch_size=5), draw, PLANE, "data_sha256"),
    "other weights": (lambda: _other_weights(problem()), lambda m: draw(problem().model), PLANE, "checkpoint_sha256"),
    "other buffers": (lambda: _other_buffers(problem()), draw, PLANE, "checkpoint_sha256"),
    "other x": (problem, draw, ls.Grid2D(x=(-1, 1, 5), y=PLANE.y), "x"),
    "other y": (problem, draw, ls.Grid2D(x=PLANE.x, y=(-0.5, 1.1, 4)), "y"),
    "other split": (lambda: ls.Problem(problem().model, objective, problem().batches, "test"), draw, PLANE, "split"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_measurement_is_refused_by_its_difference(kind, finished, tmp_path):
    path = tmp_path / "s.h5"
    try:
        evaluate(problem(failing_after(10**6 if finished else 14)[0]), draw(problem().model), PLANE, out=path)
    except RuntimeError:
        assert not finished
    before = path.read_bytes()
    make, directions, grid, difference = OTHERS[kind]
    p = make()
    with pytest.raises(ValueError, match="must be of this measurement") as caught:
        evaluate(p, directions(p.model), grid, out=path)
    assert str(caught.value) == (
        f"{path} must be of this measurement. Got a file that differs in {difference}. Write to another file; to "
        "measure the same on a wider or denser grid, give the file as reuse."
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("another", [_other_objective, lambda m, b: {"ce": objective(m, b)["ce"]}])
def test_another_objective_is_refused_by_its_values_at_the_origin(another, tmp_path):
    path = tmp_path / "s.h5"
    directions = draw(problem().model)
    with pytest.raises(RuntimeError):
        evaluate(problem(failing_after(14)[0]), directions, PLANE, out=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"at the unperturbed weights it has \{.*'kd'.*The objective or the machine"):
        evaluate(problem(another), directions, PLANE, out=path)
    assert path.read_bytes() == before


def test_a_line_does_not_resume_a_plane(tmp_path):
    path = tmp_path / "s.h5"
    evaluate(problem(), draw(problem().model), PLANE, out=path)
    with pytest.raises(ValueError, match="differs in y"):
        evaluate(problem(), draw(problem().model), ls.Grid1D(x=PLANE.x), out=path)


# A real SIGKILL. A server imports once and forks a worker for each line that it reads, so that a restart costs nothing.

CHAINS = {
    "asleep in the objective": (0.005, 2, ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 101)), 0.12),
    "nearly at full speed": (0.0005, 1, ls.Grid1D(x=(-1, 1, 6001)), 0.3),
}


def measure(path: str | Path, chain: str, delay: float) -> None:
    """One attempt, in a worker or here."""
    torch.manual_seed(11)
    x, y = torch.randn(11, 4), torch.randint(0, 3, (11,))
    _, n, grid, _ = CHAINS[chain]

    def slow(model, batch):
        if delay:
            time.sleep(delay)
        return objective(model, batch)

    p = ls.Problem(nn.Linear(4, 3), slow, batched(x, y, 6))
    evaluate(p, draw(p.model, n=n, ignore="none"), grid, out=path)


def serve() -> None:
    """Fork a worker for each line; tell its process id, then what it ended with."""
    for line in sys.stdin:
        worker = os.fork()
        if not worker:
            measure(**json.loads(line))
            os._exit(0)
        print(worker, flush=True)
        print(os.waitpid(worker, 0)[1], flush=True)


@pytest.fixture(scope="module")
def server():
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", "import test_interruption; test_interruption.serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        process.stdin.close()


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("chain", CHAINS)
def test_a_surface_killed_ten_times_equals_an_uninterrupted_one(chain, server, tmp_path):
    delay, *_, longest = CHAINS[chain]
    measure(tmp_path / "whole.h5", chain, 0.0)
    whole = ls.load(tmp_path / "whole.h5")
    path = tmp_path / "killed.h5"
    moments, done = random.Random(2308), [0]

    def start(delay: float) -> int:
        print(json.dumps({"path": str(path), "chain": chain, "delay": delay}), file=server.stdin, flush=True)
        return int(server.stdout.readline())

    for _ in range(10):
        before = _content(path)
        worker = start(delay)
        deadline = time.monotonic() + 30
        while _content(path) == before:
            assert time.monotonic() < deadline, "the file does not change"
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, longest))
        os.kill(worker, signal.SIGKILL)
        assert int(server.stdout.readline()) == signal.SIGKILL, "the worker ended before it was killed"
        found = ls.load(path)
        assert not found.complete
        known = found.status == DONE
        for term in whole.terms:
            assert found.values(term)[known].tobytes() == whole.values(term)[known].tobytes()
            assert found.sem(term)[known].tobytes() == whole.sem(term)[known].tobytes()
        done.append(int(known.sum()))
    start(0.0)
    assert int(server.stdout.readline()) == 0
    assert done == sorted(done)
    assert len(set(done)) > 5, "most attempts add something"
    assert datasets(path) == datasets(tmp_path / "whole.h5")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["killed.h5", "whole.h5"]
