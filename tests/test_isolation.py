"""The caller's process and module are as they were: after success, after an error, after Ctrl-C, after the import."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import HazardNet, fingerprint, images, objective
from plain import evaluate
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.isolation import preserve_rng, thread_count

PLANE = ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3))


def _surface(problem, folder):
    return evaluate(problem, ls.directions.random(problem.model), PLANE)


def _file(problem, folder):
    return evaluate(problem, ls.directions.random(problem.model), PLANE, out=folder / "surface.h5")


def _conflict(problem, folder):
    return ls.conflict.measure(problem)


def _some_batches(problem, folder):
    return ls.conflict.measure(problem, batches=2)


def _summary(problem, folder):
    return ls.sharpness.summary(problem, n_directions=1)


def _interpolation(problem, folder):
    end = copy.deepcopy(problem.model)
    return evaluate(problem, ls.directions.interpolation(problem.model, end), ls.Grid1D(x=(0, 1, 3)))


MEASUREMENTS = [_surface, _file, _conflict, _some_batches, _summary, _interpolation]
# With three batches a cell: at the origin; or on the grid, after its first row.
INTERRUPTED = [(_surface, 2), (_file, 2), (_summary, 2), (_conflict, 2), (_surface, 17), (_file, 17), (_summary, 17)]


class _Loader(DataLoader):
    """Shuffles with a generator of its own."""

    def __init__(self):
        super().__init__(
            TensorDataset(*images()), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(7)
        )


def _careless(model, batch):
    """An objective that draws from every generator."""
    random.random(), np.random.rand(), torch.rand(3)
    return objective(model, batch)


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_everything_is_as_before_after_success(measure, device, tmp_path):
    model, loader = HazardNet().to(device), _Loader()
    before = fingerprint(model, loader.generator)
    measure(ls.Problem(model, _careless, loader), tmp_path)
    assert fingerprint(model, loader.generator) == before


@pytest.mark.parametrize("call", [1, 2, 5, 8])
@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_everything_is_as_before_after_an_exception(measure, call, device, tmp_path):
    if measure in (_conflict, _some_batches):
        call = min(call, 2)
    model, loader, calls = HazardNet().to(device), _Loader(), []

    def failing(m, batch):
        calls.append(1)
        if len(calls) >= call:  # a path that fails may be left for another
            raise RuntimeError("the objective failed")
        return _careless(m, batch)

    before = fingerprint(model, loader.generator)
    with pytest.raises(RuntimeError, match="the objective failed") as caught:
        measure(ls.Problem(model, failing, loader), tmp_path)
    assert fingerprint(model, loader.generator) == before, "while the exception keeps its frames alive"
    del caught
    assert fingerprint(model, loader.generator) == before


def test_making_directions_changes_nothing(device):
    start, end = HazardNet().to(device), HazardNet().to(device)
    before = fingerprint(start), fingerprint(end)
    ls.directions.random(start, n=3, ignore="none")
    ls.directions.interpolation(start, end)
    assert (fingerprint(start), fingerprint(end)) == before


def _interrupted(folder: str) -> None:
    """The child of the test below: reports ready, is sent SIGINT, and says what then differs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    model, loader = HazardNet(), _Loader()
    differing = {}

    def attempt(measure, call):
        calls = []

        def waiting(m, batch):
            calls.append(1)
            if len(calls) == call:
                print("ready", flush=True)
                time.sleep(30)
            return _careless(m, batch)

        before = fingerprint(model, loader.generator)
        try:
            measure(ls.Problem(model, waiting, loader), Path(folder))
        except KeyboardInterrupt:
            after = fingerprint(model, loader.generator)
            differing[f"{measure.__name__} {call}"] = [name for name in before if before[name] != after[name]]

    for measure, call in INTERRUPTED:
        attempt(measure, call)
    print(json.dumps(differing), flush=True)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a child process on Windows")
def test_everything_is_as_before_after_a_real_sigint(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", f"import test_isolation; test_isolation._interrupted({str(tmp_path)!r})"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        lines = []
        for line in child.stdout:
            if line.strip() == "ready":
                child.send_signal(signal.SIGINT)
            else:
                lines.append(line)
    assert child.returncode == 0
    assert json.loads("".join(lines)) == {f"{measure.__name__} {call}": [] for measure, call in INTERRUPTED}
    assert ls.load(tmp_path / "surface.h5").status.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def _drawn():
    values = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    return values + ([float(torch.rand((), device="cuda"))] if torch.cuda.is_available() else [])


def test_preserve_rng_puts_every_state_back_also_after_an_exception():
    with preserve_rng():
        expected = _drawn()
    with preserve_rng(seed=3):
        seeded = _drawn()
    again = []

    def fail():
        with preserve_rng(seed=3):
            again.extend(_drawn())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert again == seeded != expected
    assert _drawn() == expected


def test_thread_count_is_put_back_also_after_an_exception():
    before, inside = torch.get_num_threads(), []

    def fail():
        with thread_count(before + 1):
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_the_import_brings_no_plotting_no_sklearn_and_no_study():
    code = (
        "import sys, landscape\n"
        "print(sorted({'dot', 'sklearn', 'plotly', 'matplotlib', 'torchvision', 'PIL'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert out.stdout.strip() == "[]"
