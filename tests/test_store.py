"""Files: what is in them, what is refused, and what a full disk leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from oracles import HazardNet, batched, images, objective
from plain import evaluate
from torch import nn

import landscape as ls
from landscape import describing, store
from landscape.conflict import from_gram
from landscape.directions import Directions
from landscape.results import DONE, NOT_FINITE, PENDING

PLANE = ls.Grid2D(x=(-1, 1, 3), y=(-2, 2, 5))


def problem(device="cpu", objective=objective, split="test") -> ls.Problem:
    return ls.Problem(HazardNet().to(device), objective, batched(*images()), split)


def simple(batch=None, **options) -> ls.Problem:
    batch = torch.arange(4.0) if batch is None else batch
    return ls.Problem(nn.Linear(3, 2), lambda m, b: {"a": b + m.weight.sum()}, [batch], **options)


def bundle(p: ls.Problem, n: int = 4) -> tuple[Directions, ls.Grid1D]:
    return ls.directions.random(p.model, n=n), ls.Grid1D(x=(-1, 1, 3))


def a_conflict() -> ls.Conflict:
    a, b = (np.random.default_rng(k).normal(size=(4, 3, 5)) for k in (0, 1))
    vectors = np.stack([a, b], axis=2)
    grams = vectors @ vectors.swapaxes(-1, -2)
    c = from_gram(("ce", "kd"), [0, 10, 20, 30], ["conv", "norm", "head"], grams)
    c.groups["momentum"] = from_gram(("ce", "kd"), [0, 10], ["conv", "norm", "head"], grams[:2])
    return c


def assert_equal(a: ls.Surface, b: ls.Surface) -> None:
    attrs = [{k: v for k, v in s.attrs.items() if not k.startswith("schema")} for s in (a, b)]
    assert (a.dims, a.terms, a.origin, attrs[0]) == (b.dims, b.terms, b.origin, attrs[1])
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.y is None) == (b.y is None)
    if a.y is not None:
        np.testing.assert_array_equal(a.y, b.y)
    np.testing.assert_array_equal(a.status, b.status)
    for term in a.terms:
        assert a.values(term).dtype == b.values(term).dtype == np.float64
        assert a.values(term).tobytes() == b.values(term).tobytes()
        assert a.sem(term).tobytes() == b.sem(term).tobytes()


def test_a_file_gives_back_what_was_measured_to_the_last_bit(tmp_path, device):
    p = problem(device)
    for name, directions, grid in [
        ("plane", ls.directions.random(p.model, ignore="none", seed=3), PLANE),
        ("bundle", *bundle(p)),
        ("line", *bundle(p, n=1)),
        ("interpolation", ls.directions.interpolation(p.model, HazardNet()), ls.Grid1D(x=(0, 1, 3))),
    ]:
        surface = ls.evaluate(p, directions, grid, out=tmp_path / name)
        loaded = ls.load(tmp_path / name)
        assert isinstance(loaded, ls.Surface)
        assert loaded.directions.sha256 == directions.sha256 == loaded.attrs["directions_sha256"]
        assert (loaded.directions.normalize, loaded.directions.ignore) == (directions.normalize, directions.ignore)
        assert loaded.directions.seed == directions.seed
        assert set(loaded.terms) == set(surface.terms)
        loaded.means = {term: loaded.means[term] for term in surface.terms}
        assert_equal(surface, loaded)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["bundle", "interpolation", "line", "plane"]


def test_terms_keep_their_order(tmp_path):
    """The first term is the default of what reads a surface."""
    p = problem()
    surface = ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    assert surface.terms == ("ce", "kd", "correct")
    assert ls.load(tmp_path / "s.h5").terms == surface.terms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_directions_keep_their_digest_in_every_precision(dtype, tmp_path):
    p = simple()
    p.model.to(dtype)
    directions = ls.directions.random(p.model, ignore="none")
    ls.evaluate(p, directions, PLANE, out=tmp_path / "s.h5")
    loaded = ls.load(tmp_path / "s.h5").directions
    for a, b in zip(directions.axes, loaded.axes, strict=True):
        assert all(torch.equal(d.double(), b[name].double()) for name, d in a.items())
    assert loaded.sha256 == directions.sha256


def test_parameters_of_no_dimension_are_stored(tmp_path):
    p = simple()
    p.model.gain = nn.Parameter(torch.tensor(2.0))
    directions = ls.directions.random(p.model, ignore="none")
    ls.evaluate(p, directions, PLANE, out=tmp_path / "s.h5")
    assert ls.load(tmp_path / "s.h5").directions.sha256 == directions.sha256


def test_cells_that_are_not_finite_are_results_in_the_file(tmp_path):
    p = ls.Problem(nn.Linear(1, 1).double(), lambda m, b: {"log": (1 + m.bias).log() + b}, [torch.zeros(2).double()])
    with torch.no_grad():
        p.model.bias.zero_()
    along = Directions(({"bias": torch.ones(1).double()},), "none", "none")
    surface = ls.evaluate(p, along, ls.Grid1D(x=(-2, 2, 5)), out=tmp_path / "s.h5")
    loaded = ls.load(tmp_path / "s.h5")
    assert list(loaded.status) == [NOT_FINITE, NOT_FINITE, DONE, DONE, DONE]
    assert np.isnan(loaded.values("log")[0])
    assert loaded.values("log")[1] == -np.inf
    assert loaded.complete
    assert_equal(surface, loaded)


def test_root_attributes_say_where_the_numbers_come_from(tmp_path, device):
    p = problem(device)
    directions = ls.directions.random(p.model, normalize="layer", ignore="none", seed=11)
    ls.evaluate(p, directions, PLANE, out=tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        attrs = dict(file.attrs)
    assert attrs["schema"] == "dot-landscape/surface"
    assert attrs["schema_version"] == 1
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(attrs["created_at"]) < timedelta(minutes=5)
    assert attrs["command"].startswith(Path(sys.argv[0]).name)
    versions = json.loads(attrs["versions"])
    assert (versions["torch"], versions["h5py"], versions["numpy"]) == (
        torch.__version__,
        h5py.__version__,
        np.__version__,
    )
    assert versions["python"] == sys.version.split()[0]
    assert attrs["seed"] == 11
    assert (attrs["normalize"], attrs["ignore"], attrs["bn_mode"]) == ("layer", "none", "eval")
    assert (attrs["precision"], attrs["n_examples"], attrs["split"]) == ("float32", 22, "test")
    plan = json.loads(attrs["plan"])
    assert plan["threads"] == torch.get_num_threads()
    assert plan["device"] == device.type
    digests = [attrs[f"{of}_sha256"] for of in ("checkpoint", "directions", "data")]
    assert all(len(d) == 64 and int(d, 16) for d in digests)
    assert digests[1] == directions.sha256


@pytest.mark.parametrize("change", ["weight", "buffer", "data", "labels", "order", "directions"])
def test_digests_tell_apart_what_differs(change):
    torch.manual_seed(0)
    p = problem()
    directions = ls.directions.random(p.model)
    before = ls.evaluate(p, directions, PLANE).attrs
    (x, y), *rest = p.batches
    with torch.no_grad():
        if change == "weight":
            p.model.mix[0, 0] += 1e-6
        elif change == "buffer":
            p.model.norm.running_mean[1] += 1e-6
        elif change == "data":
            x[0, 0, 0, 0] += 1e-6
        elif change == "labels":
            y[0] = (y[0] + 1) % 3
        elif change == "order":
            p = ls.Problem(p.model, objective, [*rest, (x, y)])
        else:
            directions.axes[1]["mix"][0, 0] += 1e-6
    after = ls.evaluate(p, directions, PLANE).attrs
    kind = {"weight": "checkpoint", "buffer": "checkpoint", "directions": "directions"}.get(change, "data")
    assert {of for of in ("checkpoint", "directions", "data") if before[f"{of}_sha256"] != after[f"{of}_sha256"]} == {
        kind
    }


def test_results_are_contiguous_and_directions_are_packed(tmp_path):
    p = problem()
    ls.evaluate(p, ls.directions.random(p.model, ignore="none"), PLANE, out=tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        results = [file[n] for n in ("x", "y", "status")]
        results += [file[f"{group}/{term}"] for group in ("terms", "sem") for term in ("ce", "kd", "correct")]
        for dataset in results:
            assert dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
            assert dataset.compression is None
        assert {d.dtype for d in results[3:]} == {np.dtype("f8")}
        assert {d.shape for d in results[2:]} == {(5, 3)}
        assert file["status"].dtype == np.uint8
        for axis in ("x", "y"):
            packed = list(file[f"directions/{axis}"].values())
            assert {d.name.rpartition("/")[2] for d in packed} >= {"mix", "conv.weight", "norm.bias"}
            assert {d.compression for d in packed} == {"gzip"}


def test_axes_are_dimension_scales_with_names_and_units(tmp_path):
    p = problem()
    ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        for axis in ("x", "y"):
            assert file[axis].is_scale
            assert file[axis].attrs["long_name"] == f"coordinate along {axis}"
            assert file[axis].attrs["units"] == "filter norms"
            assert file[f"terms/{axis}"] == file[axis]  # the same object, not a copy
        for name in ("terms/ce", "sem/kd", "status"):
            assert [d[0] for d in file[name].dims] == [file["y"], file["x"]]
        assert file["origin/terms/ce"][()] > 0


def test_an_array_is_at_its_full_size_from_the_first_row_on(tmp_path):
    path, sizes = tmp_path / "s.h5", []

    def watching(m, batch):
        if path.exists():
            sizes.append(path.stat().st_size)
        return objective(m, batch)

    p = problem(objective=watching)
    ls.evaluate(p, ls.directions.random(p.model), ls.Grid2D(x=(-1, 1, 5), y=(-1, 1, 7)), out=path)
    assert len(sizes) >= 34, "each cell but the origin"
    assert set(sizes) == {path.stat().st_size}


def test_at_every_flush_what_is_called_done_is_final(tmp_path, monkeypatch):
    p, path, copies = problem(), tmp_path / "s.h5", []
    flush = h5py.File.flush

    def flush_and_copy(file):
        flush(file)
        if path.exists():
            copies.append(shutil.copy(path, tmp_path / f"{len(copies)}.h5"))

    monkeypatch.setattr(h5py.File, "flush", flush_and_copy)
    final = ls.evaluate(p, ls.directions.random(p.model), PLANE, out=path)
    monkeypatch.undo()
    ahead = 0
    for copy in copies:
        found = ls.load(copy)
        done = found.status != PENDING
        for term in final.terms:
            np.testing.assert_array_equal(found.values(term)[done], final.values(term)[done])
            np.testing.assert_array_equal(found.sem(term)[done], final.sem(term)[done])
            ahead += int((found.values(term)[~done] == final.values(term)[~done]).sum())
    assert ahead > 0, "values are there before their status"
    assert ls.load(copies[-1]).complete


def open_labelled(path, group=None):
    return pytest.importorskip("xarray").open_dataset(path, engine="h5netcdf", group=group)


@pytest.mark.parametrize("group", ["terms", "sem"])
def test_xarray_opens_a_surface_with_its_coordinates(group, tmp_path):
    p = problem()
    surface = ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    arrays = surface.means if group == "terms" else surface.sems
    with open_labelled(tmp_path / "s.h5", group) as data:
        assert set(data.data_vars) == {"ce", "kd", "correct"}
        assert data["ce"].dims == ("y", "x")
        np.testing.assert_array_equal(data.coords["x"], surface.x)
        np.testing.assert_array_equal(data.coords["y"], surface.y)
        assert data["x"].attrs["units"] == "filter norms"
        assert float(data["kd"].sel(x=1.0, y=-2.0)) == arrays["kd"][0, 2]
        np.testing.assert_array_equal(data["correct"], arrays["correct"])
    with open_labelled(tmp_path / "s.h5") as root:
        assert root["status"].dims == ("y", "x")
        assert set(root.coords) == {"x", "y"}


@pytest.mark.parametrize(("n", "dims"), [(4, ("direction", "x")), (1, ("x",))])
def test_xarray_opens_a_bundle_and_a_line_with_their_coordinates(n, dims, tmp_path):
    p = problem()
    surface = ls.evaluate(p, *bundle(p, n), out=tmp_path / "s.h5")
    for group, arrays in (("terms", surface.means), ("sem", surface.sems)):
        with open_labelled(tmp_path / "s.h5", group) as data:
            assert data["ce"].dims == dims
            assert set(data.coords) == set(dims)
            np.testing.assert_array_equal(data["ce"], arrays["ce"])
            np.testing.assert_array_equal(data["x"], surface.x)
            if n > 1:
                np.testing.assert_array_equal(data["direction"], range(n))


@pytest.mark.parametrize(
    ("group", "dims"),
    [
        (None, ("step",)),
        ("norm", ("step",)),
        ("inconsistent", ("step",)),
        ("layers", ("step", "layer")),
        ("layers/norm", ("step", "layer")),
        ("momentum", ("step",)),
        ("momentum/layers", ("step", "layer")),
    ],
)
def test_xarray_opens_a_conflict_with_its_coordinates(group, dims, tmp_path):
    c = a_conflict()
    c.save(tmp_path / "c.h5")
    with open_labelled(tmp_path / "c.h5", group) as data:
        arrays = list(data.data_vars.values())
        assert arrays
        assert {a.dims for name, a in data.data_vars.items() if name != "gram"} == {dims}
        assert ("gram" in data) == (group in (None, "momentum"))
        if "gram" in data:
            assert data["gram"].dims == ("step", "layer", "term", "other")
            assert list(data.coords["other"].values) == ["ce", "kd"]
        np.testing.assert_array_equal(data.coords["step"], c.step[: 2 if "momentum" in str(group) else 4])
        if "layer" in dims:
            assert list(data.coords["layer"].values) == ["conv", "norm", "head"]


@pytest.mark.parametrize("split", ["[held-out]", "{a}", "", "12", 'a "quoted" split', "Prüfung"])
def test_any_name_of_a_split_survives(split, tmp_path):
    p = simple(split=split)
    ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    assert ls.load(tmp_path / "s.h5").attrs["split"] == split


@pytest.mark.parametrize("term", ["x", "y", "a/b", ".", "", "cross entropy", "Δ"])
def test_any_name_of_a_term_survives_or_is_refused_by_name(term, tmp_path):
    p = ls.Problem(nn.Linear(3, 2), lambda m, b: {term: b}, [torch.arange(4.0)])
    try:
        surface = ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    except ValueError as error:
        assert f"term {term!r}" in str(error)  # noqa: PT017 - either outcome is right
        assert list(tmp_path.iterdir()) == []
    else:
        np.testing.assert_array_equal(ls.load(tmp_path / "s.h5").values(term), surface.values(term))


@pytest.mark.parametrize("term", ["step", "layer", "a/b", ".", "", "cross entropy", "Δ"])
@pytest.mark.parametrize("first", [False, True])
def test_any_name_of_a_conflicts_term_survives_or_is_refused_by_name(term, first, tmp_path):
    c = from_gram(
        (term, "kd") if first else ("kd", term),
        [0, 1],
        ["all"],
        np.array([[2.0, 1.0], [1.0, 3.0]]) * np.ones((2, 1, 1, 1)),
    )
    try:
        c.save(tmp_path / "c.h5")
    except ValueError as error:
        assert f"term {term!r}" in str(error)  # noqa: PT017 - either outcome is right
        assert list(tmp_path.iterdir()) == []
    else:
        loaded = ls.load(tmp_path / "c.h5")
        assert loaded.terms == c.terms
        np.testing.assert_array_equal(loaded.norm[term], c.norm[term])
        np.testing.assert_array_equal(loaded.layer_inconsistent[term], c.layer_inconsistent[term])


@pytest.mark.parametrize("value", [{"a": [1, 2.5]}, ["x"], "plain", '{"looks": "like"}', "[1]", "", 3, 0.5, True])
def test_any_provenance_of_a_conflict_survives(value, tmp_path):
    c = a_conflict()
    c.attrs["method"] = value
    c.save(tmp_path / "c.h5")
    assert ls.load(tmp_path / "c.h5").attrs["method"] == value


def test_what_a_file_holds_can_be_told_in_json(tmp_path):
    p = problem()
    ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    a_conflict().save(tmp_path / "c.h5")
    told = json.loads(json.dumps(describing.describe(tmp_path / "s.h5")))
    assert told["dims"] == {"y": 5, "x": 3}
    assert (told["x"], told["y"]) == ([-1, 1], [-2, 2])
    assert told["cells"] == {"pending": 0, "done": 15, "not finite": 0}
    assert set(told["origin"]) == {"ce", "kd", "correct"}
    assert told["attributes"]["split"] == "test"
    told = json.loads(json.dumps(describing.describe(tmp_path / "c.h5")))
    assert told["records"] == {"steps": 4, "momentum": 2}
    assert told["layers"] == ["conv", "norm", "head"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file at .*none\.h5\. There is none"):
        ls.load(tmp_path / "none.h5")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99, None], ids=str)
@pytest.mark.parametrize("resume", [False, True])
def test_a_file_cut_short_is_refused_and_left_alone(kept, resume, tmp_path):
    p, path = problem(), tmp_path / "s.h5"
    directions = ls.directions.random(p.model)
    ls.evaluate(p, directions, PLANE, out=path)
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 if kept is None else int(kept * len(whole))])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"s\.h5 must be an HDF5 file\. Got one that is cut short or of another kind"):
        ls.evaluate(p, directions, PLANE, out=path) if resume else ls.load(path)
    assert path.read_bytes() == before


def _text(path):
    path.write_text("epoch,loss\n1,0.5\n")
    return r"must be an HDF5 file\. Got one that is cut short or of another kind"


def _foreign(path):
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(3)
    return r"must have the schema dot-landscape/surface or dot-landscape/conflict or .*\. Got none"


def _other_schema(path):
    with h5py.File(path, "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = "someone/else", 1
    return r"must have the schema .* Got someone/else"


def _newer(path):
    p = simple()
    ls.evaluate(p, ls.directions.random(p.model), PLANE, out=path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 2
    return r"has schema version 2, newer than 1: update dot-landscape to read it"


@pytest.mark.parametrize("make", [_text, _foreign, _other_schema, _newer])
def test_a_file_of_another_kind_is_refused_and_left_alone(make, tmp_path):
    path = tmp_path / "s.h5"
    message = rf"s\.h5 {make(path)}"
    before = path.read_bytes()
    p = problem()
    for read in (
        ls.load,
        store.load_surface,
        store.load_conflict,
        describing.describe,
        lambda at: ls.evaluate(p, ls.directions.random(p.model), PLANE, out=at),
    ):
        with pytest.raises(ValueError, match=message):
            read(path)
    assert path.read_bytes() == before


def test_a_conflict_is_not_a_surface_nor_the_reverse(tmp_path):
    p = problem()
    a_conflict().save(tmp_path / "c.h5")
    ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "s.h5")
    with pytest.raises(ValueError, match=r"c\.h5 must be a surface file\. Got a conflict file"):
        store.load_surface(tmp_path / "c.h5")
    with pytest.raises(ValueError, match=r"c\.h5 must be a surface file\. Got a conflict file"):
        ls.evaluate(p, ls.directions.random(p.model), PLANE, out=tmp_path / "c.h5")
    with pytest.raises(ValueError, match=r"s\.h5 must be a conflict file\. Got a surface file"):
        store.load_conflict(tmp_path / "s.h5")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs a small file system, and there is no mount command")
    if done.returncode:
        pytest.skip(f"needs a small file system, and may not mount one: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("where", ["no folder", "a file as folder", "a folder as file", "a read-only disk"])
@pytest.mark.parametrize("what", ["surface", "conflict"])
def test_a_place_that_cannot_be_written_is_named(where, what, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.h5").mkdir()
    if where == "a read-only disk":
        with mounted(tmp_path / "disk", "ro") as disk:
            _refused(what, disk / "s.h5")
    else:
        places = {"no folder": "none/s.h5", "a file as folder": "file/s.h5", "a folder as file": "folder.h5"}
        _refused(what, tmp_path / places[where])
    assert (tmp_path / "file").read_text() == "kept"
    assert list((tmp_path / "folder.h5").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "disk") == ["file", "folder.h5"]


def _refused(what: str, path: Path) -> None:
    p = simple()
    with pytest.raises((OSError, ValueError)) as caught:
        a_conflict().save(path) if what == "conflict" else ls.evaluate(
            p, ls.directions.random(p.model), PLANE, out=path
        )
    assert str(caught.value).startswith(str(path)), "the error begins with the path that was asked for"


def child(code: str, **options) -> subprocess.CompletedProcess[str]:
    """A process of its own: what HDF5 does when a disk is full may end it."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    code = f"import test_store\ntest_store.{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, **options)


def write_large(path: str) -> None:
    """What a child writes: 80 KB of a surface, or of a conflict where there is a file already."""
    try:
        if Path(path).exists():
            n = 1000
            from_gram(("ce", "kd"), range(n), ["all"], np.ones((n, 1, 2, 2))).save(path)
        else:
            model = nn.Linear(3000, 2)
            p = ls.Problem(model, lambda m, b: {"a": b}, [torch.ones(2)])
            ls.evaluate(p, ls.directions.random(model), ls.Grid2D((-1, 1, 51), (-1, 1, 51)), out=path)
    except OSError as error:
        print(error, flush=True)


def write_large_with_limit(path: str, limit: int) -> None:
    """The same where the system refuses files above ``limit`` bytes: what a quota does, and needs no mount."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    write_large(path)


@pytest.fixture(scope="module", params=["24k", "quota"])
def full_disk(request, tmp_path_factory):
    """What a child said that had no room for its file, the file's path, and what was left in the folder."""
    folder = tmp_path_factory.mktemp("full")
    if request.param == "quota":
        pytest.importorskip("resource")
        path = folder / "s.h5"
        done = child(f"write_large_with_limit({str(path)!r}, 24_000)")
        return done, path, list(folder.iterdir())
    with mounted(folder / "disk", f"size={request.param}") as disk:
        path = disk / "s.h5"
        done = child(f"write_large({str(path)!r})")
        return done, path, list(disk.iterdir())


def test_a_full_disk_is_an_error_that_names_the_file(full_disk):
    done, path, _ = full_disk
    assert done.stdout.startswith(f"{path} cannot be written: ")
    assert "has space" in done.stdout


def test_a_full_disk_leaves_no_file_behind(full_disk):
    assert full_disk[2] == []


def test_a_full_disk_does_not_end_the_process(full_disk):
    done, *_ = full_disk
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        path = disk / "c.h5"
        a_conflict().save(path)
        before = path.read_bytes()
        done = child(f"write_large({str(path)!r})")
        assert done.stdout.startswith(f"{path} cannot be written: ")
        assert path.read_bytes() == before
        assert list(disk.iterdir()) == [path]


def test_a_disk_that_fills_up_after_the_start_does_no_harm(tmp_path):
    """The arrays have their room from the start."""
    with mounted(tmp_path / "disk", "size=200k") as disk:
        path, filler = disk / "s.h5", disk / "filler"

        def filling(m, batch):
            if path.exists() and not filler.exists():
                with pytest.raises(OSError, match="No space left"):
                    filler.write_bytes(bytes(1_000_000))
            return objective(m, batch)

        p = problem(objective=filling)
        surface = ls.evaluate(p, ls.directions.random(p.model), ls.Grid2D((-1, 1, 9), (-1, 1, 5)), out=path)
        assert shutil.disk_usage(disk).free == 0
        loaded = ls.load(path)
    loaded.means = {term: loaded.means[term] for term in surface.terms}
    assert_equal(surface, loaded)


def hold(path: str) -> None:
    """A child that is in the middle of writing ``path`` and stays there."""
    calls = []

    def staying(m, batch):
        calls.append(1)
        if len(calls) > 3:
            print("writing", flush=True)
            sys.stdin.read()
        return {"a": batch}

    torch.manual_seed(3)
    p = ls.Problem(nn.Linear(3, 2), staying, [torch.arange(4.0)])
    evaluate(p, ls.directions.random(p.model), PLANE, out=path)


def test_a_second_writer_is_refused_while_the_first_goes_on(tmp_path):
    path = tmp_path / "s.h5"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", f"import test_store; test_store.hold({str(path)!r})"]
    torch.manual_seed(3)
    p = ls.Problem(nn.Linear(3, 2), lambda m, b: {"a": b}, [torch.arange(4.0)])
    directions = ls.directions.random(p.model)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as first:
        assert first.stdout.readline() == "writing\n"
        assert not ls.load(path).complete, "a file can be read while it is written"
        with pytest.raises(
            OSError, match=r"s\.h5 must have one writer\. Another process writes it: wait for it to end"
        ):
            evaluate(p, directions, PLANE, out=path)
        first.communicate("")
    assert first.returncode == 0
    assert ls.load(path).complete
    assert_equal(evaluate(p, directions, PLANE, out=path), ls.load(path))
