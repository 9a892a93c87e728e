"""Each thing that can be wrong with a result, spoilt once in a file that was whole, is the one that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from oracles import HazardNet, batched, images, objective

import landscape as ls
from landscape import wholeness
from landscape.conflict import from_gram
from landscape.conflict.result import Conflict
from landscape.results import NOT_FINITE, PENDING


def problem() -> ls.Problem:
    torch.manual_seed(0)
    return ls.Problem(HazardNet(), objective, batched(*images()))


def measured(path: Path, kind: str = "plane") -> Path:
    p = problem()
    grids = {
        "plane": (2, ls.Grid2D(x=(-1, 1, 3), y=(-2, 2, 5))),
        "line": (1, ls.Grid1D(x=(-1, 1, 5))),
        "bundle": (3, ls.Grid1D(x=(-1, 1, 3))),
        "path": (2, ls.Path(x=[0, 1, 2], points=[[1, 0], [0, 0], [0.5, 1]])),
        "off the origin": (2, ls.Grid2D(x=(0.5, 1, 3), y=(-2, 2, 5))),
    }
    n, grid = grids[kind]
    ls.evaluate(p, ls.directions.random(p.model, n=n, seed=1), grid, out=path)
    return path


@pytest.mark.parametrize("kind", ["plane", "line", "bundle", "path", "off the origin"])
def test_what_was_measured_is_whole(kind, tmp_path):
    path = measured(tmp_path / "s.h5", kind)
    assert wholeness.faults(path) == []
    assert wholeness.of_surface(ls.load(path)) == []


def test_a_surface_of_part_of_the_data_is_whole(tmp_path):
    p = problem()
    ls.evaluate(p, ls.directions.random(p.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=tmp_path / "s.h5", shard="1/2")
    (path,) = tmp_path.glob("*.h5")
    assert not ls.load(path).complete
    assert wholeness.faults(path) == []


def replaced(file: h5py.File, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


SPOILT = {
    "a status": (
        lambda f: f["status"].write_direct(np.full((5, 3), 7, np.uint8)),
        "status must be 0, 1 or 2. Got 7 in 15 cells.",
    ),
    "a value": (
        lambda f: f["terms/kd"].__setitem__((4, 0), np.nan),
        "kd must be finite in every done cell. Got 1 cell where it is not.",
    ),
    "a finite one": (
        lambda f: f["status"].__setitem__((0, 0), NOT_FINITE),
        "a cell of status 2 must have a term that is not finite. Got 1 cell of finite ones.",
    ),
    "an error": (
        lambda f: f["sem/ce"].__setitem__((slice(0, 2), 0), -1.0),
        "standard error of ce must not be negative. Got 2 cells.",
    ),
    "the origin": (
        lambda f: f["origin/terms/ce"].write_direct(np.array(7.5)),
        "ce must be that of the origin, 7.5, in",
    ),
    "the cell at 0": (lambda f: f["terms/correct"].__setitem__((2, 1), 7.5), "in the cell at 0. Got [7.5]."),
    "its error": (lambda f: f["sem/ce"].__setitem__((2, 1), 7.5), "standard error of ce must be that of the origin"),
    "an order": (
        lambda f: f["x"].write_direct(np.array([-1.0, 1.0, 0.0])),
        "x must be a list of increasing numbers. Got [-1.  1.  0.].",
    ),
    "a coordinate": (lambda f: f["y"].__setitem__(4, np.nan), "y must be a list of increasing numbers. Got [-2."),
    "a shape": (
        lambda f: replaced(f, "terms/kd", np.zeros((3, 5))),
        "kd must be of shape [5, 3]. Got [3, 5].",
    ),
    "the shape of an error": (
        lambda f: replaced(f, "sem/kd", np.zeros(5)),
        "standard error of kd must be of shape [5, 3]. Got [5].",
    ),
    "the shape of status": (
        lambda f: replaced(f, "status", np.ones((5, 4), np.uint8)),
        "status must be of shape [5, 3]. Got [5, 4].",
    ),
    "a direction": (
        lambda f: f["directions/y/mix"].__setitem__((0, 0), 7.5),
        "directions must have the digest ",
    ),
    "a parameter": (lambda f: f.__delitem__("directions/y/mix"), "directions must have the digest "),
    "all directions": (lambda f: f.__delitem__("directions"), "Got no directions."),
    "an axis": (lambda f: f.__delitem__("y"), "dims must be one of ('x',), ('direction', 'x'), ('y', 'x'), with y"),
    "dims": (lambda f: f.attrs.__setitem__("dims", '["x", "y"]'), "Got ('x', 'y') and y."),
    "an attribute": (lambda f: f.attrs.__delitem__("data_sha256"), "attribute data_sha256 is missing."),
    "the plan": (lambda f: f.attrs.__delitem__("plan"), "attribute plan is missing."),
    "a term": (lambda f: f.__delitem__("terms/kd"), "must hold a whole dot-landscape/surface. Got a file with a part"),
    "its origin": (lambda f: f.__delitem__("origin/sem/kd"), "Got a file with a part missing"),
    "the schema": (lambda f: f.attrs.__delitem__("schema"), "must have the schema dot-landscape/surface or"),
    "the version": (lambda f: f.attrs.__setitem__("schema_version", 99), "has schema version 99, newer than 1"),
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("whole") / "s.h5").read_bytes()


@pytest.mark.parametrize("what", SPOILT)
def test_each_thing_spoilt_in_a_surface_is_named(what, plane, tmp_path):
    spoil, said = SPOILT[what]
    path = tmp_path / "s.h5"
    path.write_bytes(plane)
    with h5py.File(path, "r+") as file:
        spoil(file)
    (fault,) = wholeness.faults(path)
    assert said in fault


def test_all_faults_are_said_at_once(plane, tmp_path):
    path = tmp_path / "s.h5"
    path.write_bytes(plane)
    with h5py.File(path, "r+") as file:
        del file.attrs["command"]
        file["directions/x/mix"][0, 0] = 7.5
        file["terms/ce"][0, 0], file["terms/kd"][0, :2] = np.inf, np.nan
        file["status"][4, 2] = 9
    assert [fault.split(".")[0] for fault in wholeness.faults(path)] == [
        "attribute command is missing",
        "status must be 0, 1 or 2",
        "ce must be finite in every done cell",
        "kd must be finite in every done cell",
        f"directions must have the digest {ls.load(path).attrs['directions_sha256']}",
    ]


def test_what_is_pending_may_be_anything(plane, tmp_path):
    """A killed process has written values before their status."""
    path = tmp_path / "s.h5"
    path.write_bytes(plane)
    with h5py.File(path, "r+") as file:
        file["status"][:] = PENDING
        file["terms/ce"][:] = np.nan
        file["sem/ce"][:] = -1.0
    assert wholeness.faults(path) == []


def test_the_cell_at_0_of_every_line_of_a_bundle_and_of_a_path(tmp_path):
    for kind, cell in (("bundle", (2, 1)), ("path", 1)):
        path = measured(tmp_path / f"{kind}.h5", kind)
        with h5py.File(path, "r+") as file:
            file["terms/ce"][cell] = 7.5
        (fault,) = wholeness.faults(path)
        assert "ce must be that of the origin" in fault
    with h5py.File(tmp_path / "path.h5", "r+") as file:
        replaced(file, "path", np.zeros((2, 2)))
    assert "path must have a point for each of 3 x. Got [2, 2]." in wholeness.faults(tmp_path / "path.h5")


def test_a_bundle_has_a_line_for_each_direction(tmp_path):
    path = measured(tmp_path / "s.h5", "bundle")
    surface = ls.load(path)
    surface.directions = type(surface.directions)(surface.directions.axes[:2], "filter", "biasbn", 1)
    assert wholeness.of_surface(surface)[0] == "status must be of shape [2, 3]. Got [3, 3]."


@pytest.mark.parametrize("spoil", ["nothing", "cut", "text", "no file"])
def test_a_file_that_cannot_be_read_is_one_fault(spoil, plane, tmp_path):
    path = tmp_path / "s.h5"
    if spoil != "no file":
        path.write_bytes({"nothing": b"", "cut": plane[: len(plane) // 2], "text": b"junk" * 100}[spoil])
    (fault,) = wholeness.faults(path)
    assert str(path) in fault


@pytest.mark.parametrize("position", range(9))
def test_no_damage_ends_the_check(position, plane, tmp_path):
    """Whatever HDF5 makes of it: zeros over a ninth of the file."""
    path, size = tmp_path / "s.h5", len(plane) // 9
    path.write_bytes(plane[: position * size] + bytes(size) + plane[(position + 1) * size :])
    assert isinstance(wholeness.faults(path), list)


# Conflict


def conflict() -> Conflict:
    a, b = (np.random.default_rng(k).normal(size=(4, 3, 5)) for k in (0, 1))
    vectors = np.stack([a, b], axis=2)
    grams = vectors @ vectors.swapaxes(-1, -2)
    c = from_gram(("ce", "kd"), [0, 10, 20, 30], ["conv", "norm", "head"], grams)
    c.groups["momentum"] = from_gram(("ce", "kd"), [0, 10], ["conv", "norm", "head"], grams[:2])
    return c


def test_a_conflict_is_whole_also_where_a_gradient_is_zero(tmp_path):
    c = conflict()
    c.groups["zero"] = from_gram(("ce", "kd"), [0], ["conv"], np.zeros((1, 1, 2, 2)))
    c.save(tmp_path / "c.h5")
    assert wholeness.faults(tmp_path / "c.h5") == []


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("step", [0, 10, 10, 30], "step must increase. Got [0, 10, 10, 30]."),
        ("layer", ["a", "b", "a"], "layers must be different. Got a, b, a."),
        ("gram", np.ones((4, 3, 2)), "gram must be of shape [4, 3, 2, 2]. Got [4, 3, 2]."),
        ("gram", np.full((4, 3, 2, 2), np.nan), "gram must be finite. Got 48 values that are not."),
        ("gram", np.full((4, 3, 2, 2), -1.0), "gram must have squared norms of at least 0. Got -1.0."),
        ("gram", np.ones((4, 3, 1, 1)) * [[1, 2], [2, 1]], "gram must be symmetric, without a cosine beyond 1."),
        ("gram", np.ones((4, 3, 1, 1)) * [[1, 0.5], [0, 1]], "gram must be symmetric, without a cosine beyond 1."),
        ("momentum/gram", np.full((2, 3, 2, 2), -1.0), "momentum: gram must have squared norms"),
        ("cosine", [0.0, 0.5], "cosine must be of shape [4]. Got [2]."),
        ("cosine", [0.0, 0.5, 1.5, 0.0], "cosine must be what gram tells. Got other values."),
        ("norm/ce", [1.0, -1.0, 1.0, 1.0], "norm/ce must be what gram tells."),
        ("inconsistent/kd", [0.1, 1.0, 1.0, 1.0], "inconsistent/kd must be what gram tells."),
        ("consistent", None, "consistent must be there. Got a file without it."),
        ("layers/norm/kd", np.zeros((3, 4)), "layers/norm/kd must be of shape [4, 3]. Got [3, 4]."),
        ("momentum/norm/ce", [1.0], "momentum: norm/ce must be of shape [2]. Got [1]."),
        ("momentum/step", None, "must hold a whole dot-landscape/conflict. Got a file with a part missing"),
    ],
)
def test_each_thing_spoilt_in_a_conflict_is_named(name, values, said, tmp_path):
    conflict().save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values
    (fault,) = wholeness.faults(tmp_path / "c.h5")
    assert said in fault


def test_a_file_of_directions_is_whole_while_its_digest_is(tmp_path):
    path = tmp_path / "d.h5"
    ls.directions.save(ls.directions.random(torch.nn.Linear(2, 3)), path)
    assert wholeness.faults(path) == []
    with h5py.File(path, "r+") as file:
        file["axes/0/weight"][...] += 1
    (fault,) = wholeness.faults(path)
    assert "must hold the tensors that were saved" in fault
