"""A surface measured by many processes is the one that a single process measures, whatever befalls them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from oracles import HazardNet, batched, images, objective
from plain import evaluate
from processes import MY_NETWORK, Child, Server, cells, content, finished, names, serving, started, until
from torch import nn

import landscape as ls
from landscape import parallel
from landscape.merging import merge
from landscape.parts import Part, part_path, plan_path, whole_path
from landscape.plan import Plan, agreed
from landscape.results import DONE, NOT_FINITE, PENDING

PROGRAM = str(Path(sys.executable).parent / "dot-landscape")
PLANE = "surface --problem my_network:problem --x -1 1 5 --y -1 1 7"
"""35 cells in 7 rows, of four uneven batches."""
TERMS = ("ce", "tokens")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("said")) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the module of a user."""
    (tmp_path / "my_network.py").write_text(MY_NETWORK)
    return tmp_path


@pytest.fixture
def single(here: Path, server: Server) -> dict[str, Any]:
    """What a single process measures on `PLANE`."""
    assert server.run(f"{PLANE} -o single.h5", here).err == ""
    return content(here / "single.h5")


@pytest.fixture
def plain(here: Path, server: Server) -> dict[str, Any]:
    """The same on the plain path, whose passes take long enough to be interrupted where a test wants it."""
    assert server.run(f"{PLANE} --plain -o plain.h5", here).err == ""
    return content(here / "plain.h5")


def as_arguments(command: str, problem: str = "problem") -> list[str]:
    return command.replace(":problem", f":{problem}").split()


# The same bits


def test_workers_of_this_machine(here: Path, single: dict[str, Any]) -> None:
    done = finished([PROGRAM, *as_arguments(PLANE), "-o", "s.h5", "--workers", "4", "--json"], here)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["cells"] == {"pending": 0, "done": 35, "not finite": 0}
    assert content(here / "s.h5") == single
    assert found["attributes"]["command"] == f"dot-landscape {PLANE} -o s.h5 --workers 4 --json"
    assert names(here) == {"s.h5", "single.h5"}, "neither shards, nor their plan, nor locks"


def test_torchrun_with_a_rank_that_is_late(here: Path, single: dict[str, Any]) -> None:
    """Ranks are as far apart at the end as their devices: none may give up waiting."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "dot"]
    done = finished([*torchrun, *as_arguments(PLANE, "late"), "-o", "s.h5"], here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s.h5: 35 of 35 cells done"), "the merged file, by the first rank"
    assert done.stdout.count("\n") == 1
    assert content(here / "s.h5") == single
    assert names(here) == {"s.h5", "single.h5"}


ARRAY = {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "9", "SLURM_ARRAY_TASK_STEP": "2"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "8"}
SLURM = {
    "array": [ARRAY | {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_ID": str(i)} for i in (3, 5, 7, 9)],
    "srun": [STEP | {"SLURM_PROCID": str(i)} for i in range(3)],
    "srun in an array": [
        ARRAY | STEP | {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_ID": str(i), "SLURM_PROCID": str(j)}
        for i in (3, 5)
        for j in range(3)
    ],
}


@pytest.mark.parametrize("kind", SLURM)
def test_slurm_tasks_and_a_merge(kind: str, here: Path, single: dict[str, Any], server: Server) -> None:
    children = [server.start(f"{PLANE} -o s.h5", here, **environ) for environ in SLURM[kind]]
    n = len(children)
    for i, child in enumerate(children):
        assert (child.wait(), child.err) == (0, "")
        assert child.out.startswith(f"s.shard-{i}-of-{n}.h5: ")
    parts = [f"s.shard-{i}-of-{n}.h5" for i in range(n)]
    assert names(here) == {*parts, "s.plan.json", "single.h5"}
    merged = server.run(["merge", *reversed(parts)], here)
    assert (merged.status, merged.err, merged.out) == (0, "", f"s.h5: 35 cells from {n} parts\n")
    assert content(here / "s.h5") == single
    with h5py.File(here / "s.h5") as file:
        assert file.attrs["command"] == f"dot-landscape merge {' '.join(reversed(parts))}"


@pytest.mark.parametrize("split", [[(0, 1)] * 2, [(0, 1)] * 3, [(0, 2), (1, 2)]], ids=["halves", "thirds", "and cells"])
def test_parts_of_the_data(split: list[tuple[int, int]], here: Path, server: Server) -> None:
    m = 2 if split[0] != (0, 1) else len(split)
    shards = sorted(set(split))
    command = f"{PLANE} -o s.h5 --bn-mode recalibrate"
    children = [
        server.start(f"{command} --data-shard {j}/{m} --shard {i}/{n}", here) for j in range(m) for i, n in shards
    ]
    assert [child.wait() for child in children] == [0] * len(children)
    parts = sorted(path.name for path in here.glob("s.*.h5"))
    assert len(parts) == m * len(shards)
    assert server.run(["merge", *parts], here).out == f"s.h5: 35 cells from {len(parts)} parts\n"
    server.run(f"{command.replace('s.h5', 'single.h5')}", here)
    found, whole = content(here / "s.h5"), content(here / "single.h5")
    assert {key for key in whole if whole[key] != found[key]} <= {
        *(
            f"{group}{name}"
            for group in ("terms/", "sem/", "origin/terms/", "origin/sem/")
            for name in ("ce", "tokens")
        ),
        "@probe",  # of the first batch of the first part: the same, but nothing depends on it
    }
    assert found.keys() == whole.keys()
    a, b = ls.load(here / "s.h5"), ls.load(here / "single.h5")
    for term in TERMS:
        np.testing.assert_allclose(a.values(term), b.values(term), rtol=1e-14, atol=0)
        np.testing.assert_allclose(a.sem(term), b.sem(term), rtol=1e-12, atol=0)
        assert a.origin[term][0] == pytest.approx(b.origin[term][0], rel=1e-14)
        assert a.origin[term][1] == pytest.approx(b.origin[term][1], rel=1e-12)


KINDS: dict[str, tuple[int, Any]] = {
    "plane": (2, ls.Grid2D(x=(-1, 1, 3), y=(-0.5, 1, 4))),
    "line": (1, ls.Grid1D(x=(-1, 1, 7))),
    "bundle": (3, ls.Grid1D(x=(-0.5, 1, 4))),
    "path": (2, ls.Path(x=[0, 1, 2], points=[[1, 0], [0, 0], [0.5, 1]])),
    "log": (2, ls.Grid2D(x=ls.LogAxis(0.1, 1, 2), y=(-1, 1, 3))),
}


def study(**changes: Any) -> ls.Problem:
    """Three uneven batches, a network with every hazard."""
    torch.manual_seed(7)
    model, (x, y) = HazardNet(), images(22)
    return ls.Problem(**({"model": model, "objective": objective, "batches": batched(x, y)} | changes))


@pytest.mark.parametrize("n", [1, 3, 13])
@pytest.mark.parametrize("coarse_to_fine", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_shards_of_any_kind(kind: str, coarse_to_fine: bool, n: int, tmp_path: Path) -> None:
    """Also more than there are rows: the last ones own nothing."""
    axes, grid = KINDS[kind]
    directions = ls.directions.random(study().model, n=axes)
    order = {"coarse_to_fine": coarse_to_fine}
    evaluate(study(), directions, grid, out=tmp_path / "single.h5", **order)
    parts = [evaluate(study(), directions, grid, shard=f"{i}/{n}", **order) for i in range(n)]
    owned = np.sum([part.status != PENDING for part in parts], axis=0)
    assert (owned == 1).all(), "no cell twice, none left out"
    random.Random(n).shuffle(parts)
    merge(parts, tmp_path / "merged.h5")
    assert content(tmp_path / "merged.h5") == content(tmp_path / "single.h5")


def test_cells_that_are_not_finite_are_merged_as_results(tmp_path: Path) -> None:
    def overflowing(model: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {"a": (1e30 * model(batch)).square().sum(1)}

    model = nn.Linear(3, 2, bias=False).double().float()
    nn.init.constant_(model.weight, 1e-31)
    p = ls.Problem(model, overflowing, [torch.ones(4, 3), 2 * torch.ones(3, 3)])
    d = ls.directions.random(model, normalize="none", ignore="none")
    grid = ls.Grid2D(x=(-1, 1, 5), y=(-1, 1, 5))
    whole = evaluate(p, d, grid)
    assert (whole.status == NOT_FINITE).any()
    for option in ("shard", "data_shard"):
        merged = merge([evaluate(p, d, grid, **{option: f"{i}/2"}) for i in range(2)])
        np.testing.assert_array_equal(merged.status, whole.status)
        np.testing.assert_array_equal(np.isfinite(merged.values("a")), np.isfinite(whole.values("a")))
        assert merged.complete


def test_a_single_process_that_was_broken_off_goes_on_in_many(
    here: Path, single: dict[str, Any], server: Server
) -> None:
    first = server.start(f"{PLANE} -o s.h5", here, DELAY="0.02")
    until(lambda: (here / "s.h5").exists() and (cells(here / "s.h5")[0] == DONE).any(), "the first cells")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    taken = cells(here / "s.h5")[0] == DONE
    assert not taken.all()
    watched = {"WATCHED": "threads"}
    for i in range(2):
        assert server.run(f"{PLANE} -o s.h5 --shard {i}/2", here, **watched).status == 0
    assert server.run(["merge", "s.shard-0-of-2.h5", "s.shard-1-of-2.h5"], here).status == 0
    assert content(here / "s.h5") == single


def test_a_part_of_the_data_that_was_broken_off_goes_on_in_shards(here: Path, server: Server) -> None:
    command = f"{PLANE} -o s.h5 --data-shard 0/2"
    first = server.start(command, here, DELAY="0.02")
    path = here / "s.data-0-of-2.h5"
    until(lambda: path.exists() and (cells(path)[0] == DONE).any(), "the first cells")
    first.kill()
    first.wait()
    for i in range(2):
        child = server.run(f"{command} --shard {i}/2", here)
        assert (child.status, child.err) == (0, "")


# Killed


def test_shards_killed_at_any_moment_equal_a_single_run(here: Path, server: Server) -> None:
    """Four processes at once, of which one is killed twenty times, and started again."""
    command = "surface --problem my_network:problem --x -1 1 25 --y -1 1 61 --plain"
    assert server.run(f"{command} -o single.h5", here).status == 0
    _, whole = cells(here / "single.h5")
    paths = [here / f"s.shard-{i}-of-4.h5" for i in range(4)]
    moments = random.Random(20)

    def begun(i: int) -> tuple[Child, bytes]:
        before = paths[i].read_bytes() if paths[i].exists() else b""
        return server.start(f"{command} -o s.h5 --shard {i}/4", here, DELAY="0.008"), before

    def known(i: int) -> np.ndarray:
        status, values = cells(paths[i])
        done = status == DONE
        for name, array in values.items():
            assert array[done].tobytes() == whole[name][done].tobytes(), "what is called done is done"
        return done

    running = [begun(i) for i in range(4)]
    kills, gained = 0, 0
    for _ in range(20):
        i = moments.randrange(4)
        child, before = running[i]
        until(lambda: paths[i].exists() and paths[i].read_bytes() != before, f"shard {i} writes")  # noqa: B023
        time.sleep(moments.uniform(0, 0.3))
        done = known(i)
        child.kill()
        assert child.wait() == -signal.SIGKILL, "it ended before it was killed"
        kills += 1
        after = known(i)
        assert after[done].all(), "what was done before is done"
        assert not ls.load(paths[i]).complete
        gained += int(after.sum() > 0)
        running[i] = begun(i)
    assert kills == 20
    assert gained >= 15, "most of them had finished something"
    for child, _ in running:
        child.kill()
        child.wait()
    last = [server.start(f"{command} -o s.h5 --shard {i}/4", here) for i in range(4)]
    assert [child.wait() for child in last] == [0] * 4
    assert server.run(["merge", *map(str, paths), "-o", "s.h5"], here).status == 0
    assert content(here / "s.h5") == content(here / "single.h5")
    assert names(here) == {*(path.name for path in paths), "s.h5", "single.h5", "s.plan.json"}


def test_a_worker_that_dies_is_started_again(here: Path, plain: dict[str, Any]) -> None:
    done = finished([PROGRAM, *as_arguments(PLANE, "dying"), "--plain", "-o", "s.h5", "--workers", "2"], here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s.h5: 35 of 35 cells done")
    assert (here / "died").exists()
    assert content(here / "s.h5") == plain
    assert names(here) == {"s.h5", "plain.h5", "died", "starts-0", "starts-1"}
    starts = [(here / f"starts-{rank}").read_text() for rank in (0, 1)]
    assert starts == ["xx", "xx"], "once again was enough: nobody waited at the address of a dead one"


def test_workers_share_the_samples(here: Path, server: Server) -> None:
    sampled = f"{PLANE} --rel-error 20% --abs-error 0.05"
    assert server.run(f"{sampled} -o alone.h5", here).status == 0
    done = finished([PROGRAM, *as_arguments(sampled), "-o", "s.h5", "--workers", "2"], here)
    assert done.returncode == 0, done.stderr
    alone, shared = ls.load(here / "alone.h5"), ls.load(here / "s.h5")
    assert isinstance(alone, ls.Surface)
    assert isinstance(shared, ls.Surface)
    assert shared.values("ce").tobytes() == alone.values("ce").tobytes()
    assert names(here) == {"alone.h5", "s.h5"}
    finer = finished([PROGRAM, *as_arguments(PLANE), "--rel-error", "5%", "-o", "s.h5"], here)
    assert finer.returncode == 0, finer.stderr


@pytest.fixture(scope="module")
def always_failing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What workers say that fail at each attempt."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "my_network.py").write_text(MY_NETWORK)
    return finished([PROGRAM, *as_arguments(PLANE, "failing"), "-o", "s.h5", "--workers", "2"], folder), folder


def test_workers_that_always_fail_end(always_failing: tuple[Any, Path]) -> None:
    done, folder = always_failing
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("dot-landscape: all workers must end well. Got a failure of [")
    assert 4 <= len((folder / "attempts").read_text()) <= 8, "the launcher tries four times"


def test_workers_that_always_fail_say_why_in_a_line(always_failing: tuple[Any, Path]) -> None:
    stderr = always_failing[0].stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 1
    assert "my data are not there" in stderr


def test_interrupted_workers_keep_what_is_finished_and_go_on(here: Path, plain: dict[str, Any]) -> None:
    """First Ctrl-C, then the launcher's own sudden end."""
    command = [PROGRAM, *as_arguments(PLANE), "--plain", "-o", "s.h5", "--workers", "2"]
    paths = [here / f"s.shard-{i}-of-2.h5" for i in range(2)]
    known = [np.zeros((7, 5), bool)] * 2
    for sent in (signal.SIGINT, signal.SIGKILL):
        with started(command, here, DELAY="0.03") as process:
            until(lambda: all(_more(*pair) for pair in zip(paths, known, strict=True)), "both workers write")  # noqa: B023
            os.kill(process.pid, sent)
            _, said = process.communicate(timeout=100)
        if sent == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130, said
            kept = "dot-landscape: interrupted. What was finished is kept: run the same command to go on."
            assert said.splitlines()[-1] == kept
        now = [cells(path)[0] == DONE for path in paths]
        assert all((a & ~b).sum() == 0 for a, b in zip(known, now, strict=True))
        known = now
    until(lambda: not _locked(paths), "the workers end with their launcher")
    done = finished(command, here)
    assert done.returncode == 0, done.stderr
    assert content(here / "s.h5") == plain
    assert names(here) == {"s.h5", "plain.h5"}


def _more(path: Path, known: np.ndarray) -> bool:
    """Whether a file has cells that were not known."""
    return path.exists() and ((cells(path)[0] == DONE) & ~known).any()


def _locked(paths: list[Path]) -> bool:
    """Whether a worker still holds one of its files."""
    import fcntl

    for path in paths:
        try:
            with open(path.with_name(f".{path.name}.lock"), "r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


# One writer, many readers


@pytest.mark.parametrize("locking", [{}, {"HDF5_USE_FILE_LOCKING": "FALSE"}], ids=["as usual", "off"])
def test_a_second_writer_is_refused_and_readers_are_not(
    locking: dict[str, str], here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """HDF5's own locks, which are off on many a shared disk, do not matter."""
    with serving(tmp_path_factory.mktemp("said"), **locking) as own:
        command, path = f"{PLANE} -o s.h5 --shard 0/2", here / "s.shard-0-of-2.h5"
        first = own.start(command, here, DELAY="0.03")
        until(lambda: path.exists() and (cells(path)[0] == DONE).any(), "the first cells")
        second = own.run(command, here)
        assert (second.status, second.out) == (1, "")
        said = "dot-landscape: s.shard-0-of-2.h5 must have one writer. Another process writes it: wait for it to end.\n"
        assert second.err == said
        other = own.run("info s.shard-0-of-2.h5 --json", here)
        assert (other.status, other.err) == (0, "")
        assert json.loads(other.out)["cells"]["done"] > 0
        seen = [int((ls.load(path).status == DONE).sum()) for _ in range(10)]
        assert seen == sorted(seen)
        assert own.run("merge s.shard-0-of-2.h5", here).status == 1, "there are cells missing"
        assert first.wait() == 0


def test_a_reader_never_sees_a_cell_done_without_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer writes values first; here it does so at the moment at which the reader comes to the status."""
    p, path = study(), tmp_path / "s.h5"
    d = ls.directions.random(p.model)
    whole = evaluate(p, d, KINDS["plane"][1])
    evaluate(p, d, KINDS["plane"][1], out=path, shard="0/2")
    path = tmp_path / "s.shard-0-of-2.h5"
    pending = ls.load(path).status == PENDING
    with h5py.File(path) as file:  # where the arrays lie, contiguous as they are
        groups = {"terms": whole.means, "sem": whole.sems}
        places = [(file[g][name].id.get_offset(), v) for g, arrays in groups.items() for name, v in arrays.items()]
        places.append((file["status"].id.get_offset(), whole.status))
    read = h5py.Dataset.__getitem__

    def as_another_process_writes(dataset: h5py.Dataset, key: Any, **options: Any) -> Any:
        if dataset.name == "/status":
            with open(path, "r+b") as file:
                for place, values in places:
                    file.seek(place)
                    file.write(values.tobytes())
        return read(dataset, key, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", as_another_process_writes)
    found = ls.load(path)
    monkeypatch.undo()
    seen = (found.status == DONE) & pending
    for term in whole.terms:
        assert found.values(term)[seen].tobytes() == whole.values(term)[seen].tobytes()


# What does not belong together


def _shards(tmp_path: Path, changes: dict[str, Any] | None = None, name: str = "s.h5", n: int = 2) -> list[Path]:
    """Files of the shards of a plane; the changes are those of the last one."""
    paths = []
    for i in range(n):
        options: dict[str, Any] = {"grid": KINDS["plane"][1], "shard": f"{i}/{n}", "draw": {}, "problem": study}
        if i == n - 1:
            options |= changes or {}
        grid, draw, problem = options.pop("grid"), options.pop("draw"), options.pop("problem")()
        out = tmp_path / (name if i < n - 1 else f"last-{name}")
        evaluate(problem, ls.directions.random(study().model, **draw), grid, out=out, **options)
        paths.append(part_path(out, Part.parse(options["shard"]), Part.parse(options.get("data_shard", "0/1"))))
    return paths


def _other_weights() -> ls.Problem:
    p = study()
    with torch.no_grad():
        p.model.mix.view(-1)[0] += 1e-3
    return p


def _other_data() -> ls.Problem:
    torch.manual_seed(7)
    return ls.Problem(HazardNet(), objective, batched(*images(22), size=5))


def _sample() -> Any:
    return study().batches[:1]


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "weights": ({"problem": _other_weights}, "checkpoint_sha256"),
    "data": ({"problem": _other_data}, "data_sha256"),
    "split": ({"problem": lambda: study(split="validation")}, "split"),
    "terms": ({"problem": lambda: study(objective=lambda m, b: {"ce": objective(m, b)["ce"]})}, "terms"),
    "directions": ({"draw": {"seed": 1}}, "directions_sha256"),
    "normalisation": ({"draw": {"normalize": "layer"}}, "directions_sha256, normalize"),
    "parameters": ({"draw": {"ignore": "none"}}, "directions_sha256, ignore"),
    "batch norms": ({"bn_mode": "recalibrate"}, "bn_mode, bn_sample_sha256"),
    "precision": ({"precision": "float64"}, "precision"),
    "order": ({"coarse_to_fine": True}, "plan"),
    "x": ({"grid": ls.Grid2D(x=(-1, 1, 5), y=(-0.5, 1, 4))}, "x"),
    "y": ({"grid": ls.Grid2D(x=(-1, 1, 3), y=(-0.5, 1, 7))}, "y"),
    "kind": ({"grid": ls.Path(x=[-1, 0, 1], points=np.ones((3, 2)))}, "y, path"),
    "number of shards": ({"shard": "2/3"}, "the number of parts"),
    "number of parts of the data": ({"data_shard": "0/2"}, "the number of parts"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_shard_of_another_measurement_is_refused_by_its_difference(kind: str, tmp_path: Path) -> None:
    changes, difference = OTHERS[kind]
    paths = _shards(tmp_path, changes)
    with pytest.raises(ValueError, match="all parts must be of one measurement") as caught:
        merge(paths, tmp_path / "merged.h5")
    hint = " Measure the one with the older plan again." if kind == "order" else ""
    assert str(caught.value) == (
        f"all parts must be of one measurement. Got {paths[1]}, which differs from {paths[0]} in {difference}.{hint}"
    )
    assert not (tmp_path / "merged.h5").exists()


def test_a_sample_for_batch_norms_counts(tmp_path: Path) -> None:
    d, grid = ls.directions.random(study().model), KINDS["plane"][1]
    parts = [
        evaluate(study(), d, grid, bn_mode="recalibrate", bn_sample=sample, shard=f"{i}/2")
        for i, sample in enumerate((None, _sample()))
    ]
    with pytest.raises(ValueError, match=r"Got part 1, which differs from part 0 in bn_sample_sha256\.$"):
        merge(parts)


def test_another_objective_is_found_at_the_origin(tmp_path: Path) -> None:
    def twice(model: Any, batch: Any) -> dict[str, torch.Tensor]:
        terms = objective(model, batch)
        return terms | {"kd": 2 * terms["kd"]}

    paths = _shards(tmp_path, {"problem": lambda: study(objective=twice)})
    with pytest.raises(ValueError, match=r"at the unperturbed weights it has .*objective or the machine has changed"):
        merge(paths)


def test_a_shard_that_is_there_twice(tmp_path: Path) -> None:
    first, second = _shards(tmp_path)
    with pytest.raises(ValueError, match=rf"every part must be given once\. Got {first} twice"):
        merge([first, second, first])
    copied = shutil.copy(first, tmp_path / "copy.h5")
    with pytest.raises(ValueError, match=rf"no cell may be there twice\. Got 6 of {copied} in {first} too"):
        merge([first, second, copied])


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    paths = _shards(tmp_path, n=4)
    with pytest.raises(ValueError, match=r"Got 3 missing: no file of shard 2/4\. Run those parts\."):
        merge([*paths[:2], paths[3]])
    with pytest.raises(ValueError, match=r"Got 6 missing: no file of shard 0/4, 3/4\. Run those parts\."):
        merge(paths[1:3])
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected a file at {paths[1]}\. There is none"):
        merge(paths)
    with pytest.raises(ValueError, match=r"expected at least one part of a surface\. Got none"):
        merge([])


def test_parts_of_the_data_that_are_missing_are_named(tmp_path: Path) -> None:
    d, grid = ls.directions.random(study().model), KINDS["plane"][1]
    parts = [evaluate(study(), d, grid, data_shard=f"{j}/3") for j in (0, 2)]
    with pytest.raises(ValueError, match=r"every part of the data must be there\. Got none of 1/3\."):
        merge(parts)


def _unfinished(tmp_path: Path, rows: int, n: int, cut: int) -> list[ls.Surface]:
    """The shards of a plane of so many rows, of which one lacks its last cell."""
    d, grid = ls.directions.random(study().model), ls.Grid2D(x=(-1, 1, 3), y=(0, 1, rows))
    parts = [evaluate(study(), d, grid, shard=f"{i}/{n}") for i in range(n)]
    j, i = np.argwhere(parts[cut].status == DONE)[-1]
    parts[cut].status[j, i] = PENDING
    return parts


def _refused_as(parts: list[ls.Surface], cut: int) -> None:
    with pytest.raises(ValueError, match=rf"Got 1 missing: cells pending in part {cut}\. Run those parts\."):
        merge(parts)


@pytest.mark.parametrize("cut", range(4))
def test_a_shard_that_is_not_finished_is_named(cut: int, tmp_path: Path) -> None:
    _refused_as(_unfinished(tmp_path, rows=8, n=4, cut=cut), cut)


def test_a_shard_that_is_not_finished_is_named_among_uneven_ones(tmp_path: Path) -> None:
    _refused_as(_unfinished(tmp_path, rows=7, n=4, cut=0), 0)


def test_what_was_merged_replaces_in_a_step_or_not_at_all(tmp_path: Path) -> None:
    paths = _shards(tmp_path)
    out = tmp_path / "merged.h5"
    merge(paths, out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="1/2"):
        merge(paths[:1], out)
    assert out.read_bytes() == before
    with pytest.raises(OSError, match=r"none/m\.h5 cannot be written"):
        merge(paths, tmp_path / "none" / "m.h5")


# One plan


def test_shards_obey_the_plan_of_the_first(here: Path, single: dict[str, Any], server: Server) -> None:
    """Another number of threads, another order: both decide what the last bits are, or who owns what."""
    assert server.run(f"{PLANE} -o s.h5 --shard 1/2", here).status == 0
    plan = json.loads((here / "s.plan.json").read_text())
    assert (plan["threads"], plan["order"], plan["device"]) == (1, "rows", "cpu")
    later = [PROGRAM, *as_arguments(PLANE), "-o", "s.h5", "--shard", "0/2", "--coarse-to-fine"]
    assert finished(later, here, OMP_NUM_THREADS="2", WATCHED="threads").returncode == 0
    assert (here / "threads").read_text() == "1"
    paths = [here / f"s.shard-{i}-of-2.h5" for i in range(2)]
    assert [ls.load(path).attrs["plan"] for path in paths] == [plan, plan]
    assert server.run(["merge", *map(str, paths)], here).status == 0
    assert content(here / "s.h5") == single


def test_of_shards_that_start_together_one_decides(tmp_path: Path) -> None:
    path = tmp_path / "s.plan.json"
    plans = [Plan(threads, "cpu") for threads in range(1, 33)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda plan: agreed(path, plan), plans))
    assert len(set(found)) == 1
    assert found[0] in plans
    assert list(tmp_path.iterdir()) == [path]
    assert agreed(path, Plan(99, "cpu", "coarse-to-fine")) == found[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"threads": 1}', '{"threads": 1, "device": "cpu", "colour": 3}'])
def test_a_file_that_is_no_plan_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path} must be the plan of shards\. Got something else: delete it"):
        agreed(path, Plan(1, "cpu"))
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


# Which part a process is


WHOLE = Part(0, 1)
ENVIRONMENTS: dict[str, tuple[dict[str, str], Part]] = {
    "none": ({}, WHOLE),
    "torchrun": ({"RANK": "2", "WORLD_SIZE": "5", "LOCAL_RANK": "0"}, Part(2, 5)),
    "torchrun alone": ({"RANK": "0", "WORLD_SIZE": "1"}, WHOLE),
    "a rank of nothing": ({"RANK": "3"}, WHOLE),
    "torchrun in Slurm": ({"RANK": "1", "WORLD_SIZE": "2", **SLURM["array"][3]}, Part(1, 2)),
    "the script of a batch job": ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, WHOLE),
    "srun of one": ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, WHOLE),
    "an older srun": ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, Part(3, 4)),
    "an array from 0": (
        {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"},
        Part(2, 4),
    ),
    **{f"{kind} {i}": (e, Part(i, len(tasks))) for kind, tasks in SLURM.items() for i, e in enumerate(tasks)},
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_the_part_of_a_process_is_in_its_environment(kind: str) -> None:
    environ, part = ENVIRONMENTS[kind]
    assert parallel.detect(environ) == part
    assert parallel.together(environ) == ("torchrun" in kind and not part.whole)


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "a", "WORLD_SIZE": "2"},
        {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"},  # --array=0,1,5
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"Got 2/2|'a'|such as 0-2\. Got task 5 of 3"):
        parallel.detect(environ)


def test_parts_partition() -> None:
    items = list(range(11))
    for n in range(1, 15):
        parts = [Part(i, n).of(items) for i in range(n)]
        assert sorted(item for part in parts for item in part) == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Part.parse("2/7") == Part(2, 7)
    assert str(Part(2, 7)) == "2/7"
    assert Part.parse("0/1").whole
    assert not Part.parse("0/2").whole


@pytest.mark.parametrize("text", ["", "1", "/", "1/", "/2", "a/b", "-1/2", "1/-2", "1.0/2", "0/1/2", " 0/1"])
def test_a_text_that_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match=r"a part must be i/n, such as 0/4\. Got"):
        Part.parse(text)


@pytest.mark.parametrize("text", ["1/1", "4/4", "7/2", "0/0"])
def test_a_part_beyond_the_last(text: str) -> None:
    with pytest.raises(ValueError, match=rf"i/n with i from 0 to n - 1, such as 0/4\. Got {text}\."):
        Part.parse(text)


@pytest.mark.parametrize("out", ["surface.h5", "a.b/my.surface.h5", "surface", "x.shard-1.h5"])
@pytest.mark.parametrize("shard", ["0/1", "3/12"])
@pytest.mark.parametrize("data", ["0/1", "1/2"])
def test_parts_lie_beside_the_whole_under_names_of_their_own(out: str, shard: str, data: str) -> None:
    path = part_path(Path(out), Part.parse(shard), Part.parse(data))
    assert path.parent == Path(out).parent
    assert (path == Path(out)) == (shard == data == "0/1")
    assert ("shard-3-of-12" in path.name) == (shard != "0/1")
    assert ("data-1-of-2" in path.name) == (data != "0/1")
    assert whole_path([path]) == part_path(Path(out), Part(), Part.parse(data))
    both = [part_path(Path(out), Part.parse(shard), Part(j, 2)) for j in range(2)]
    assert whole_path(both) == Path(out)
    assert path.suffix == Path(out).suffix or not Path(out).suffix


def test_the_plan_lies_beside_the_whole() -> None:
    assert plan_path(Path("runs/surface.h5")) == Path("runs/surface.plan.json")


# The scripts


SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
SBATCH = """#!/usr/bin/env bash
# Slurm, as far as the script sees it: notes what it was asked for, and runs each task at once.
set -euo pipefail
echo "$SURFACE_STEP $*" >>asked
first=0 last=0 array= id=$((40 + $(wc -l <asked)))
while [[ $1 == -* ]]; do
    case $1 in --array=*) array=${1#*=} first=${array%-*} last=${array#*-} ;; esac
    shift
done
export SLURM_JOB_ID=$id SLURM_CPUS_PER_TASK=1
for ((i = first; i <= last; i++)); do
    if [[ -n $array ]]; then
        export SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_MIN=$first SLURM_ARRAY_TASK_MAX=$last
        export SLURM_ARRAY_TASK_COUNT=$((last - first + 1)) SLURM_ARRAY_TASK_STEP=1
    fi
    bash "$@" >>log 2>&1 || echo "task $i failed" >>log
done
echo "$id;here"
"""


def with_program(folder: Path, name: str, text: str) -> str:
    """A PATH on which a program of that text comes first, and then those of this environment."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)
    return os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])


def test_the_slurm_script_measures_and_merges_and_may_be_called_again(here: Path, single: dict[str, Any]) -> None:
    path = with_program(here, "sbatch", SBATCH)
    command = [str(SCRIPTS / "surface_slurm.sh"), "s.h5", *as_arguments(PLANE)[1:]]
    more = {"PATH": path, "PARTS": "2", "SBATCH_OPTIONS": "--partition=gpu --time=1-0"}
    done = finished(command, here, **more)
    log = (here / "log").read_text()
    assert (done.returncode, done.stderr) == (0, ""), log
    assert done.stdout == "measuring in job 41, merging in job 42\n"
    assert content(here / "s.h5") == single, log
    assert names(here) == {"s.h5", "single.h5", "asked", "log", "bin"}
    asked = (here / "asked").read_text().splitlines()
    common = "--parsable --export=ALL --partition=gpu --time=1-0"
    assert asked[0].startswith(f"measure {common} --array=0-1 {SCRIPTS}/surface_slurm.sh s.h5 --problem")
    assert asked[1].startswith(f"merge {common} --dependency=afterok:41 --kill-on-invalid-dep=yes {SCRIPTS}/surface")
    before = (here / "s.h5").read_bytes()
    assert finished(command, here, **more, WATCHED="watched").returncode == 0
    assert "failed" not in (here / "log").read_text()
    assert (here / "log").read_text().splitlines()[-1] == "s.h5 is merged already"
    assert (here / "s.h5").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["s.h5"], ["runs/x", "--lines", "3"], ["--problem", "a:b"]])
def test_wrong_usage_of_the_slurm_script(arguments: list[str], here: Path) -> None:
    done = finished([str(SCRIPTS / "surface_slurm.sh"), *arguments], here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: PARTS=n ")


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({}, "--standalone --nproc-per-node=auto --max-restarts=3"),
        ({"NPROC": "4", "RESTARTS": "0"}, "--standalone --nproc-per-node=4 --max-restarts=0"),
        (
            {"NNODES": "2", "HEAD": "node0:29500", "SLURM_JOB_ID": "7"},
            "--nnodes=2 --rdzv-backend=c10d --rdzv-endpoint=node0:29500 --rdzv-id=7 --nproc-per-node=auto "
            "--max-restarts=3",
        ),
    ],
)
def test_what_the_torchrun_script_starts(more: dict[str, str], options: str, here: Path) -> None:
    path = with_program(here, "torchrun", '#!/usr/bin/env bash\necho "$OMP_NUM_THREADS $*"\n')
    done = finished([str(SCRIPTS / "surface_torchrun.sh"), "--lines", "3", "-o", "a b.h5"], here, PATH=path, **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"1 {options} -m dot surface --lines 3 -o a b.h5\n"


def test_wrong_usage_of_the_torchrun_script(here: Path) -> None:
    done = finished([str(SCRIPTS / "surface_torchrun.sh")], here)
    assert (done.returncode, done.stderr[:7]) == (2, "usage: ")
    done = finished([str(SCRIPTS / "surface_torchrun.sh"), "--lines", "3"], here, NNODES="2")
    assert done.returncode == 2
    assert "NNODES=2 needs HEAD=host:port" in done.stderr


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_must_be_some(workers: int) -> None:
    work: Callable[[], None] = print
    with pytest.raises(ValueError, match=rf"workers must be at least 1\. Got {workers}"):
        parallel.launch(workers, work)
