"""The options of ``surface`` and the verb ``merge``: each does what its Python call does, and says what is wrong."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import landscape as ls
from dot.cli import main
from landscape import parallel
from landscape.results import DONE, NOT_FINITE

NETWORK = """
import torch
from torch import nn

import landscape as ls

calls = []


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    batches = [(1 + torch.randn(5, 1, 6, 6), torch.randint(0, 4, (5,))) for _ in range(4)]

    def objective(model, batch):
        calls.append(1)
        images, labels = batch
        return {"ce": nn.functional.cross_entropy(model(images), labels, reduction="none")}

    return ls.Problem(net, objective, batches)


def noisy():
    found = problem()

    def objective(model, batch):
        calls.append(1)
        return {"ce": found.objective(model, batch)["ce"] + 1e-3 * len(calls)}

    return ls.Problem(found.model, objective, found.batches)


def without_norms():
    net = torch.nn.Linear(3, 2)
    return ls.Problem(net, lambda model, batch: {"a": model(batch).sum(1)}, [torch.ones(4, 3)])
"""
GRID = "--x -1 1 5 --y -0.5 0.5 3"
PLANE = ls.Grid2D(x=(-1, 1, 5), y=(-0.5, 0.5, 3))


class Said(NamedTuple):
    status: int
    out: str
    err: str


Call = Callable[[str], Said]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which commands are run, outside of torchrun and Slurm, with a module for ``--problem``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "my_surface.py").write_text(NETWORK)
    sys.modules.pop("my_surface", None)
    yield tmp_path
    sys.modules.pop("my_surface", None)


@pytest.fixture
def call(here: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line in this process; a command of options alone is one of ``surface`` on the user's network."""

    def call(command: str) -> Said:
        capsys.readouterr()
        whole = f"surface --problem my_surface:problem {command}" if command.startswith("-") else command
        return Said(main(shlex.split(whole)), *capsys.readouterr())

    return call


def user() -> Any:
    """The user's module, as the command line has imported it."""
    import my_surface  # type: ignore[import-not-found]

    return my_surface


def problem() -> ls.Problem:
    found = user().problem()
    assert isinstance(found, ls.Problem)
    return found


def loaded(path: str) -> ls.Surface:
    found = ls.load(path)
    assert isinstance(found, ls.Surface)
    return found


def names() -> set[str]:
    """What is in the folder, hidden files too."""
    return {path.name for path in Path().iterdir()} - {"my_surface.py", "__pycache__"}


def assert_one_line(said: Said, status: int, *parts: str) -> None:
    """Nothing on stdout, and one line on stderr with these parts."""
    assert (said.status, said.out) == (status, ""), said.err
    assert said.err.startswith("dot-landscape: ")
    assert said.err.count("\n") == 1, said.err
    assert said.err.endswith("\n")
    for part in parts:
        assert part in said.err


# Each option is an argument of the Python call


def draw(**options: Any) -> ls.directions.Directions:
    return ls.directions.random(problem().model, **{"n": 2, **options})


SAME_AS: dict[str, tuple[Callable[[], ls.directions.Directions], Any, dict[str, Any]]] = {
    GRID: (draw, PLANE, {}),
    f"{GRID} --coarse-to-fine": (draw, PLANE, {"coarse_to_fine": True}),
    f"{GRID} --bn-mode recalibrate": (draw, PLANE, {"bn_mode": "recalibrate"}),
    f"{GRID} --bn-mode recalibrate --bn-batches 2": (draw, PLANE, {"bn_mode": "recalibrate", "bn_sample": 2}),
    f"{GRID} --precision float64": (draw, PLANE, {"precision": "float64"}),
    f"{GRID} --precision bf16": (draw, PLANE, {"precision": "bf16"}),
    f"{GRID} --plain": (draw, PLANE, {"plain": True}),
    f"{GRID} --nondeterministic allow": (draw, PLANE, {"nondeterministic": "allow"}),
    f"{GRID} --orthogonal --seed 3": (lambda: draw(orthogonal=True, seed=3), PLANE, {}),
    f"{GRID} --normalize layer --ignore none": (lambda: draw(normalize="layer", ignore="none"), PLANE, {}),
    "--x -1 1 7 --y -2 2 5 --log-from 0.01": (
        draw,
        ls.Grid2D(x=ls.LogAxis(0.01, 1, 3), y=ls.LogAxis(0.01, 2, 2)),
        {},
    ),
    "--x -1 1 7 --log-from 0.01 --lines 2": (draw, ls.Grid1D(x=ls.LogAxis(0.01, 1, 3)), {}),
    "--x -1 1 7 --lines 1 --coarse-to-fine": (lambda: draw(n=1), ls.Grid1D(x=(-1, 1, 7)), {"coarse_to_fine": True}),
}


@pytest.mark.parametrize("options", SAME_AS)
def test_options_are_those_of_evaluate(options: str, call: Call) -> None:
    said = call(f"{options} -o s.h5")
    assert (said.status, said.err) == (0, "")
    found = loaded("s.h5")
    assert said.out.startswith(f"s.h5: {found.status.size} of {found.status.size} cells done; at the origin ce ")
    directions, grid, arguments = SAME_AS[options]
    if "bn_sample" in arguments:
        arguments = arguments | {"bn_sample": problem().batches[: arguments["bn_sample"]]}
    expected = ls.evaluate(problem(), directions(), grid, **arguments)
    for name in ("x", "y"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.values("ce").tobytes() == expected.values("ce").tobytes()
    assert found.sem("ce").tobytes() == expected.sem("ce").tobytes()
    assert found.origin == expected.origin
    ignored = ("created_at", "command", "schema", "schema_version")
    kept = {key: value for key, value in found.attrs.items() if key not in ignored}
    assert kept == {key: value for key, value in expected.attrs.items() if key not in ignored}
    assert names() == {"s.h5"}


def test_options_change_what_they_name(call: Call) -> None:
    """So that no two of the calls above are the same by mistake."""
    values = {}
    for i, options in enumerate(o for o in SAME_AS if o.startswith(GRID)):
        call(f"{options} -o {i}.h5")
        values[options.removeprefix(GRID).strip()] = loaded(f"{i}.h5").values("ce").tobytes()
    same = [name for name, bits in values.items() if bits == values[""]]
    assert same == ["", "--coarse-to-fine", "--nondeterministic allow"]
    assert len(set(values.values())) == len(values) - 2


def test_json_is_all_that_is_on_stdout(call: Call) -> None:
    said = call(f"{GRID} -o s.h5 --json --shard 0/2 --coarse-to-fine")
    assert (said.status, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["dims"] == {"y": 3, "x": 5}
    assert found["attributes"]["shard"] == "0/2"
    assert found["attributes"]["plan"]["order"] == "coarse-to-fine"
    assert found["cells"]["done"] == int((loaded("s.shard-0-of-2.h5").status == DONE).sum())


def test_directions_of_a_file(call: Call) -> None:
    assert call(f"{GRID} --seed 5 -o drawn.h5").status == 0
    ls.directions.save(draw(seed=5), "d.h5")
    assert call(f"{GRID} --directions d.h5 -o read.h5").status == 0
    drawn, read = loaded("drawn.h5"), loaded("read.h5")
    assert read.attrs["directions_sha256"] == drawn.attrs["directions_sha256"]
    assert read.values("ce").tobytes() == drawn.values("ce").tobytes()
    ls.directions.save(draw(n=3, seed=5), "three.h5")
    assert_one_line(call(f"{GRID} --directions three.h5 -o three-surface.h5"), 1, "Grid2D needs two directions. Got 3.")
    assert call("--x -1 1 5 --lines 3 --directions three.h5 -o lines.h5").status == 0
    assert loaded("lines.h5").status.shape == (3, 5)


def test_the_axes_of_orthogonal_directions(call: Call) -> None:
    call(f"{GRID} --orthogonal -o s.h5")
    axes = loaded("s.h5").directions.axes  # type: ignore[union-attr]
    dot = sum(float((axes[0][name].double() * axes[1][name].double()).sum()) for name in axes[0])
    length = sum(float(t.double().square().sum()) for t in axes[0].values())
    assert abs(dot) < 1e-6 * length


def test_extending_takes_what_is_there(call: Call) -> None:
    assert call(f"{GRID} --plain -o small.h5").status == 0
    wide = "--x -2 2 9 --y -0.5 0.5 3 --plain"
    assert call(f"{wide} -o fresh.h5").status == 0
    user().calls.clear()
    said = call(f"{wide} --extend small.h5 -o wide.h5")
    assert (said.status, said.err) == (0, "")
    assert len(user().calls) == 4 * (2 + 12) + 1, "two passes at the origin, the new cells, and one batch"
    assert loaded("wide.h5").values("ce").tobytes() == loaded("fresh.h5").values("ce").tobytes()
    before = Path("small.h5").read_bytes()
    assert_one_line(call(f"{wide} --extend small.h5 --seed 1 -o o.h5"), 1, "reuse", "directions_sha256")
    assert_one_line(call(f"{wide} --extend none.h5 -o o.h5"), 1, "expected a file at none.h5. There is none.")
    assert_one_line(call(f"{wide} --extend my_surface.py -o o.h5"), 1, "my_surface.py must be an HDF5 file.")
    assert_one_line(call(f"{wide} --extend small.h5 --data-shard 0/2 -o o.h5"), 1, "reuse", "over all the data")
    assert Path("small.h5").read_bytes() == before
    assert not Path("o.h5").exists()


def test_samples_by_the_command_line(call: Call) -> None:
    for options, goal in [
        ("--rel-error 20%", {"rel_error": 0.2, "abs_error": None}),
        ("--rel-error 0.2 --abs-error 0.01", {"rel_error": 0.2, "abs_error": 0.01}),
        ("--rel-error 20% --abs-error ce=0.01", {"rel_error": 0.2, "abs_error": {"ce": 0.01}}),
        ("--preview", {"rel_error": 0.1, "abs_error": None}),
    ]:
        out = f"{len(names())}.h5"
        said = call(f"{GRID} {options} -o {out}")
        assert said.status == 0, said.err
        found = loaded(out)
        assert found.attrs["goal"] == goal
        assert found.sampled is not None
        expected = ls.evaluate(problem(), draw(), PLANE, **goal)
        assert found.values("ce").tobytes() == expected.values("ce").tobytes()
    samples = json.loads(call(f"info {out} --json").out)["samples"]
    assert samples["examples a cell"]["most"] == found.attrs["n_examples"]
    assert samples["kept bytes"] > 0
    assert call(f"{GRID} --rel-error 30% --keep-samples no -o dropped.h5").status == 0
    assert json.loads(call("info dropped.h5 --json").out)["samples"]["kept bytes"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--rel-error 0", "--rel-error must be between 0 and 100%, such as 1% or 0.01. Got 0."),
        ("--rel-error much", "--rel-error must be between 0 and 100%"),
        ("--rel-error 120%", "--rel-error must be between 0 and 100%"),
        ("--rel-error 1% --preview", "--preview is --rel-error 10%. Got --rel-error 1% too"),
        ("--abs-error ce=", "--abs-error must be a number, or such as ce=0.001 error=0.01, above 0. Got ce=."),
        ("--abs-error -1", "--abs-error"),
        ("--abs-error 1 ce=2", "--abs-error must be a number, or such as"),
    ],
)
def test_errors_that_nobody_can_reach_are_wrong_usage(options: str, said: str, call: Call) -> None:
    assert_one_line(call(f"{GRID} {options} -o s.h5"), 2, said)
    assert names() == set()


def test_an_objective_that_differs_is_refused_unless_allowed(call: Call) -> None:
    noisy = f"surface --problem my_surface:noisy {GRID} -o s.h5"
    refused = "objective must give the same values for the same weights and data"
    assert_one_line(call(noisy), 1, refused, "nondeterministic")
    assert names() == set()
    assert call(f"{noisy} --nondeterministic allow").status == 0
    assert loaded("s.h5").attrs["nondeterministic"] == "allow"
    assert not (loaded("s.h5").status == NOT_FINITE).any()


# Parts


def test_parts_and_their_merge(call: Call) -> None:
    for i in range(2):
        said = call(f"{GRID} --shard {i}/2")
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith(f"surface.shard-{i}-of-2.h5: {(10, 5)[i]} of 15 cells done; at the origin ce ")
    parts = [f"surface.shard-{i}-of-2.h5" for i in range(2)]
    assert names() == {*parts, "surface.plan.json"}
    said = call(f"merge {' '.join(parts)}")
    assert said == (0, "surface.h5: 15 cells from 2 parts\n", "")
    said = call(f"merge {' '.join(parts)} -o whole.h5 --json")
    assert (said.status, said.err) == (0, "")
    assert json.loads(said.out)["cells"] == {"pending": 0, "done": 15, "not finite": 0}
    assert call(f"{GRID} -o single.h5").status == 0
    for path in ("surface.h5", "whole.h5"):
        assert loaded(path).values("ce").tobytes() == loaded("single.h5").values("ce").tobytes()
    assert call(f"{GRID}").out.startswith("surface.h5: 15 of 15 cells done"), "what is merged is what is measured"
    assert call("merge ./surface.shard-0-of-2.h5 surface.shard-1-of-2.h5").out.startswith("surface.h5: ")


def test_lines_in_parts(call: Call) -> None:
    for i in range(3):
        assert call(f"--x -1 1 5 --lines 4 --shard {i}/3").out.startswith(f"lines.shard-{i}-of-3.h5: ")
    assert call("merge lines.shard-0-of-3.h5 lines.shard-1-of-3.h5 lines.shard-2-of-3.h5").out.startswith("lines.h5: ")
    assert loaded("lines.h5").complete


def test_parts_of_the_data_and_their_merge(call: Call) -> None:
    for j in range(2):
        said = call(f"{GRID} --data-shard {j}/2")
        assert said.out.startswith(f"surface.data-{j}-of-2.h5: 15 of 15 cells done; at the origin ce ")
    assert json.loads(call("info surface.data-1-of-2.h5 --json").out)["attributes"]["n_examples"] == 10
    said = call("merge surface.data-0-of-2.h5 surface.data-1-of-2.h5")
    assert said == (0, "surface.h5: 15 cells from 2 parts\n", "")
    call(f"{GRID} -o single.h5")
    np.testing.assert_allclose(loaded("surface.h5").values("ce"), loaded("single.h5").values("ce"), rtol=1e-14)
    assert loaded("surface.h5").attrs["n_examples"] == 20


def test_one_part_is_the_whole(call: Call) -> None:
    """As where a Slurm array counts runs, not parts of one."""
    assert call(f"{GRID} --shard 0/1 --data-shard 0/1 -o s.h5").out.startswith("s.h5: 15 of 15")
    assert names() == {"s.h5"}


def test_an_explicit_shard_goes_before_the_environment(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    array = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"}
    for name, value in array.items():
        monkeypatch.setenv(name, value)
    assert call(f"{GRID} -o s.h5").out.startswith("s.shard-1-of-3.h5: ")
    assert call(f"{GRID} -o t.h5 --shard 0/2").out.startswith("t.shard-0-of-2.h5: ")
    assert call(f"{GRID} -o u.h5 --shard 0/1").out.startswith("u.h5: ")


@pytest.mark.parametrize("rank", [0, 1])
def test_under_torchrun_the_first_rank_speaks(rank: int, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for options in ("", " --json"):
        said = call(f"{GRID} -o s.h5 --shard {rank}/2{options}")
        assert (said.status, said.err) == (0, "")
        assert bool(said.out) == (rank == 0)
    assert_one_line(call(f"{GRID} --shard 2/2"), 1, "Got 2/2")  # what is wrong is said by all


def test_workers_are_started_with_the_same_options(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they then do is tested with real ones, among the tests of parallel."""
    started = []

    def launch(workers: int, work: Callable[[Any], Any], options: Any) -> Any:
        started.append(workers)
        return work(options)

    monkeypatch.setattr(parallel, "launch", launch)
    assert call(f"{GRID} --workers 3 -o s.h5").out.startswith("s.h5: 15 of 15 cells done")
    assert call(f"{GRID} --workers 1 -o t.h5").out.startswith("t.h5: 15 of 15 cells done")
    assert started == [3]


# What is wrong


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--workers 2 --shard 0/2", ["--workers starts its own shards. Got --shard, or torchrun around it: use one"]),
        ("--workers two", ["--workers", "'two'"]),
        ("--shard", ["--shard"]),
        ("--log-from 0.1 --x -1 2 5", ["--log-from needs -L L and an odd number of points. Got -1 2 5."]),
        ("--log-from 0.1 --x -1 1 4", ["Got -1 1 4."]),
        ("--log-from 0.1 --y 0 1 5", ["Got 0 1 5."]),
        ("--log-from a", ["--log-from", "'a'"]),
        ("--bn-mode train", ["'train'", "'eval', 'recalibrate'"]),
        ("--bn-batches 3", ["--bn-batches needs --bn-mode recalibrate, and a number above 0. Got eval and 3."]),
        ("--bn-mode recalibrate --bn-batches -3", ["above 0. Got recalibrate and -3."]),
        ("--precision float16", ["'float16'", "'as given', 'float32', 'float64'"]),
        ("--nondeterministic maybe", ["'maybe'", "'refuse', 'allow'"]),
        ("--normalize filters", ["'filters'"]),
        ("--coarse-to-fine yes --directions", ["--directions"]),
        ("--orthogonall", ["--orthogonal"]),
        ("merge", ["expected at least one part of a surface. Got none."]),
        ("merge a.h5 --output", ["--output"]),
        ("merge a.h5 --shard 0/2", ["--shard", "merge --help"]),
    ],
)
def test_wrong_usage_is_a_line_and_status_2(options: str, parts: list[str], call: Call) -> None:
    assert_one_line(call(options), 2, *parts)
    assert names() == set()


def test_workers_in_torchrun_are_wrong_usage(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_one_line(call("--workers 2"), 2, "torchrun around it")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--shard 2/2", ["a part must be i/n with i from 0 to n - 1, such as 0/4. Got 2/2."]),
        ("--shard 1", ["a part must be i/n, such as 0/4. Got '1'."]),
        ("--shard a/b", ["Got 'a/b'."]),
        ("--data-shard 3/2", ["a part must be i/n with i from 0 to n - 1, such as 0/4. Got 3/2."]),
        ("--data-shard ''", ["a part must be i/n, such as 0/4. Got ''."]),
        ("--workers 0", ["workers must be at least 1. Got 0."]),
        ("--workers -1", ["workers must be at least 1. Got -1."]),
        ("--log-from 2", ["must run from a small to a larger magnitude above 0. Got 2.0 to 1.0."]),
        ("--log-from -0.1", ["above 0. Got -0.1 to 1.0."]),
        ("--directions none.h5", ["expected a file at none.h5. There is none."]),
        ("--directions my_surface.py", ["my_surface.py must be an HDF5 file."]),
        (
            "surface --problem my_surface:without_norms --bn-mode recalibrate",
            ["needs batch norms", "Got a model without"],
        ),
        ("-o none/s.h5", ["none/s.h5 cannot be written"]),
        ("merge none.h5", ["expected a file at none.h5. There is none."]),
        ("merge my_surface.py", ["my_surface.py must be an HDF5 file."]),
    ],
)
def test_a_failure_is_a_line_and_status_1(options: str, parts: list[str], call: Call) -> None:
    assert_one_line(call(options), 1, *parts)
    assert names() == set()


def test_a_shard_in_a_folder_that_is_not_there(call: Call) -> None:
    assert_one_line(call("-o none/s.h5 --shard 0/2"), 1, "none/s.shard-0-of-2.h5 cannot be written", "Check")


def test_a_part_of_the_data_without_a_batch(call: Call) -> None:
    assert_one_line(
        call(f"{GRID} --data-shard 4/5"), 1, "each part of the data must have a batch. Got none for part 4 of 5."
    )
    assert names() <= {"surface.plan.json"}


def test_merging_what_does_not_belong_together(call: Call) -> None:
    call(f"{GRID} -o a.h5 --shard 0/2")
    call(f"{GRID} -o b.h5 --shard 1/2 --seed 1")
    call(f"{GRID} -o c.h5 --shard 1/2 --orthogonal --precision float64 --coarse-to-fine")
    a, b, c = "a.shard-0-of-2.h5", "b.shard-1-of-2.h5", "c.shard-1-of-2.h5"
    differs = "all parts must be of one measurement. Got"
    assert_one_line(call(f"merge {a} {b}"), 1, f"{differs} {b}, which differs from {a} in directions_sha256.")
    assert_one_line(call(f"merge {a} {c}"), 1, f"{differs} {c}, which differs", "directions_sha256, precision, plan.")
    assert_one_line(call(f"merge {a} {a}"), 1, f"every part must be given once. Got {a} twice.")
    assert_one_line(call(f"merge {a}"), 1, "Got 5 missing: no file of shard 1/2. Run those parts.")
    assert_one_line(call(f"merge {a} none.h5"), 1, "expected a file at none.h5. There is none.")
    call(f"{GRID} -o a.h5 --shard 1/2")
    assert_one_line(call(f"merge {a} a.shard-1-of-2.h5 -o none/m.h5"), 1, "none/m.h5 cannot be written")
    assert not Path("a.h5").exists()


def test_a_plan_that_is_none_is_named(call: Call) -> None:
    Path("s.plan.json").write_text("{}")
    said = call(f"{GRID} -o s.h5 --shard 0/2")
    assert_one_line(said, 1, "s.plan.json must be the plan of shards. Got something else: delete it.")
