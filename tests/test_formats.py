"""Files of other programs, read back by other programs: csv, numpy, VTK, and h5py with the original tool's names."""

from __future__ import annotations

import csv
import json
import math
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from oracles import HazardNet, batched, images, objective
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

import landscape as ls
from landscape import formats, store, wholeness
from landscape.explorer import explore
from landscape.results import DONE, NOT_FINITE, PENDING, Surface

TOOL_NAME = "m.t7_weights_xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter.h5_[-1.0,1.0,3]x[-1.0,1.0,3].h5"


def surface(dims=("y", "x"), shape=(4, 3), terms=("ce", "kd", "correct"), **attrs) -> Surface:
    """Finished, of values with all their digits, the smallest and largest among them."""
    rng = np.random.default_rng(0)
    means = {term: rng.lognormal(size=shape) for term in terms}
    for term in means.keys() & {"correct", "error"}:
        means[term] = rng.integers(0, 899, shape) / 898
    means[terms[0]].flat[1:3] = 5e-324, 1.7976931348623157e308
    ny = shape[0] if dims == ("y", "x") else 0
    return Surface(
        x=np.linspace(-1, 1, shape[-1]),
        y=np.linspace(-0.7, 2, ny) if ny else None,
        dims=dims,
        means=means,
        sems={term: rng.lognormal(size=shape) for term in terms},
        status=np.full(shape, DONE, np.uint8),
        origin=dict.fromkeys(terms, (1.0, 0.1)),
        attrs={"normalize": "filter", "n_examples": 898, "split": "train", "plan": {"threads": 1}} | attrs,
    )


def with_holes(s: Surface, term: str = "ce") -> Surface:
    """One cell pending, one not a number and one infinite."""
    s.status[0, 0], s.status[2, 1], s.status[3, 2] = PENDING, NOT_FINITE, NOT_FINITE
    for term_ in s.terms:
        s.means[term_][0, 0] = s.sems[term_][0, 0] = np.nan
    s.means[term][2, 1], s.means[term][3, 2] = np.nan, np.inf
    return s


def tool_file(path: Path, nx: int = 3, ny: int | None = 3, split: str = "train", pending: int = 2) -> dict:
    """A file as the original tool leaves it: allocated [nx, ny], filled in the order of meshgrid(x, y)."""
    rng = np.random.default_rng(1)
    written = {"xcoordinates": np.linspace(-1, 1, nx)}
    if ny is not None:
        written["ycoordinates"] = np.linspace(-1, 1, ny)
    shape = (nx,) if ny is None else (nx, ny)
    losses, accuracies = -np.ones(shape), -np.ones(shape)
    for ind in range(losses.size - pending):
        losses.ravel()[ind] = rng.lognormal()
        accuracies.ravel()[ind] = 100.0 * int(rng.integers(0, 50001)) / 50000
    written |= {f"{split}_loss": losses, f"{split}_acc": accuracies}
    with h5py.File(path, "w") as file:
        file["dir_file"] = "m.t7_weights_xignore=biasbn_xnorm=filter.h5"
        for name, values in written.items():
            file[name] = values
    return written


def contents(path: Path) -> dict:
    with h5py.File(path) as file:
        assert all(isinstance(file[name], h5py.Dataset) for name in file)
        assert not file.attrs
        return {name: file[name].asstr()[()] if name == "dir_file" else file[name][()] for name in file}


def bits(values) -> bytes:
    return np.ascontiguousarray(values, np.float64).tobytes()


# Of the original tool


@pytest.mark.parametrize(("nx", "ny"), [(3, 3), (5, 3), (3, 4), (4, None), (1, 1)])
def test_a_file_of_the_original_tool_is_read_in_the_order_it_was_filled(nx, ny, tmp_path):
    written = tool_file(tmp_path / "o.h5", nx, ny, pending=0)
    found = formats.read_original(tmp_path / "o.h5")
    assert found.dims == (("x",) if ny is None else ("y", "x"))
    assert found.terms == ("ce", "correct")
    for ind, (x, y) in enumerate((x, y) for y in range(ny or 1) for x in range(nx)):
        cell = (x,) if ny is None else (y, x)
        assert found.values("ce")[cell] == written["train_loss"].ravel()[ind]
        assert found.values("correct")[cell] == written["train_acc"].ravel()[ind] / 100
    np.testing.assert_array_equal(found.x, written["xcoordinates"])
    assert (found.y is None) == (ny is None)
    assert found.complete
    assert found.attrs["split"] == "train"
    assert np.isnan(found.sem("ce")).all()


@pytest.mark.parametrize(("nx", "ny"), [(3, 3), (5, 3), (3, 4), (4, None)])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("pending", [0, 2, 12])
def test_read_and_written_again_a_file_of_the_tool_is_the_same(nx, ny, split, pending, tmp_path):
    tool_file(tmp_path / "o.h5", nx, ny, split, min(pending, nx * (ny or 1)))
    found = formats.read_original(tmp_path / "o.h5")
    formats.export(found, tmp_path / "again.h5")
    before, after = contents(tmp_path / "o.h5"), contents(tmp_path / "again.h5")
    assert before.pop("dir_file") == after.pop("dir_file")
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert bits(values.ravel()) == bits(after[name].ravel()), name
    if ny is not None:
        assert after[f"{split}_loss"].shape == (ny, nx), "what matplotlib's contour wants"


def test_what_is_read_can_be_drawn_and_saved(tmp_path):
    tool_file(tmp_path / TOOL_NAME)
    found = formats.read_original(tmp_path / TOOL_NAME)
    store.create_surface(tmp_path / "s.h5", found)
    loaded = ls.load(tmp_path / "s.h5")
    assert wholeness.faults(tmp_path / "s.h5") == []
    assert (loaded.terms, loaded.attrs["normalize"], loaded.unit) == (("ce", "correct"), "filter", "filter norms")
    assert loaded.means["ce"].tobytes() == found.means["ce"].tobytes()
    for term in loaded.terms:
        assert ls.plot.contour(loaded, term=term).axes
        assert explore(loaded, term=term).data["term"] == term
    formats.export(loaded, tmp_path / "again.h5")
    assert bits(contents(tmp_path / "again.h5")["train_loss"]) == bits(contents(tmp_path / TOOL_NAME)["train_loss"])
    tool_file(tmp_path / "line.h5", 5, None)
    assert ls.plot.curves(formats.read_original(tmp_path / "line.h5"), term="ce").axes


def test_what_is_read_cannot_be_resumed_and_says_why(tmp_path):
    tool_file(tmp_path / "o.h5")
    store.create_surface(tmp_path / "s.h5", formats.read_original(tmp_path / "o.h5"))
    problem = ls.Problem(HazardNet(), objective, batched(*images()))
    with pytest.raises(ValueError, match="differs in checkpoint_sha256, directions_sha256"):
        ls.evaluate(
            problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=tmp_path / "s.h5"
        )


def test_the_origin_is_the_point_at_0_even_where_rounding_misses_it(tmp_path):
    written = tool_file(tmp_path / "o.h5", 3, 5, pending=0)
    found = formats.read_original(tmp_path / "o.h5")
    assert found.origin["ce"][0] == written["train_loss"].ravel()[7]
    assert math.isnan(found.origin["ce"][1])
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["xcoordinates"][1] = 2.8e-17
    assert formats.read_original(tmp_path / "o.h5").origin == found.origin
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["ycoordinates"][2] = 0.1
    assert all(math.isnan(value) for pair in formats.read_original(tmp_path / "o.h5").origin.values() for value in pair)


def test_what_is_pending_and_what_is_not_finite(tmp_path):
    written = tool_file(tmp_path / "o.h5", 4, None, pending=1)
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["train_loss"][0], file["train_loss"][1] = np.nan, np.inf
        file["train_acc"][2] = -1.0  # a process killed between its two writes
    found = formats.read_original(tmp_path / "o.h5")
    assert list(found.status) == [NOT_FINITE, NOT_FINITE, PENDING, PENDING]
    assert found.values("correct")[0] == written["train_acc"][0] / 100
    assert np.isnan(found.values("ce")[2])


def test_names_of_files_say_how_directions_were_scaled(tmp_path):
    for name, ny, normalize, ignore in [
        (TOOL_NAME, 3, "filter", "biasbn"),
        ("m_weights_xignore=biasbn_xnorm=layer.h5_[-1.0,1.0,3].h5", None, "layer", "biasbn"),
        ("m_weights_xnorm=weight.h5_[-1.0,1.0,3].h5", None, "unknown", "unknown"),
        ("m_weights_xnorm=filter.h5_x.h5", 3, "unknown", "unknown"),  # y is as it was drawn
        ("m_weights_xnorm=filter_ynorm=layer.h5_x.h5", 3, "unknown", "unknown"),
        ("s.h5", 3, "unknown", "unknown"),
    ]:
        tool_file(tmp_path / name, ny=ny)
        with h5py.File(tmp_path / name, "r+") as file:
            del file["dir_file"]
        found = formats.read_original(tmp_path / name)
        assert (found.attrs["normalize"], found.attrs["ignore"]) == (normalize, ignore), name
        assert (found.attrs["imported_from"], found.attrs["dir_file"]) == (name, "")
    tool_file(tmp_path / "renamed.h5", ny=None)
    assert formats.read_original(tmp_path / "renamed.h5").attrs["normalize"] == "filter", "from dir_file"


def test_a_file_of_both_splits_is_read_as_it_is_asked(tmp_path):
    one, two = tool_file(tmp_path / "o.h5"), tool_file(tmp_path / "t.h5", split="test", pending=0)
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["test_loss"], file["test_acc"] = two["test_loss"], two["test_acc"]
    with pytest.raises(ValueError, match=r"split must say which one of .*o.h5 to read. Got train and test"):
        formats.read_original(tmp_path / "o.h5")
    for split, written in (("train", one), ("test", two)):
        found = formats.read_original(tmp_path / "o.h5", split=split)
        assert found.attrs["split"] == split
        assert found.values("ce")[0, 0] == written[f"{split}_loss"][0, 0]
    with pytest.raises(ValueError, match=r"original loss-landscape tool, with train_loss. Got dir_file, test_acc"):
        formats.read_original(tmp_path / "t.h5", split="train")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_loss", None, "with train_loss or test_loss. Got dir_file, train_acc, xcoordinates, ycoordinates."),
        ("train_loss", np.zeros((3, 4)), "train_loss of .*o.h5 must have a value for each of 3 x 3 points. Got 12."),
        ("train_acc", np.zeros(3), "train_acc of .*o.h5 must have a value for each of 3 x 3 points. Got 3."),
        ("train_loss", "text", "must have an array of numbers called train_loss. Got dir_file, train_acc"),
        ("xcoordinates", None, "must have an array of numbers called xcoordinates. Got dir_file, train_acc"),
        ("xcoordinates", [1.0, 0.0, -1.0], r"xcoordinates of .* must be a list of increasing numbers. Got \[1.0, 0.0"),
        ("ycoordinates", [0.0, np.nan, 1.0], "ycoordinates of .* must be a list of increasing numbers"),
        ("ycoordinates", np.zeros((3, 1)), "ycoordinates of .* must be a list of increasing numbers"),
    ],
)
def test_a_file_that_is_not_of_the_tool_is_refused(name, value, message, tmp_path):
    tool_file(tmp_path / "o.h5")
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    with pytest.raises(ValueError, match=message):
        formats.read_original(tmp_path / "o.h5")


def test_a_surface_of_ours_is_no_file_of_the_tool(tmp_path):
    store.create_surface(tmp_path / "s.h5", surface())
    with pytest.raises(ValueError, match=r"s.h5 must be a surface file of the original loss-landscape tool"):
        formats.read_original(tmp_path / "s.h5")
    with pytest.raises(FileNotFoundError, match="expected a file at"):
        formats.read_original(tmp_path / "none.h5")


@pytest.mark.parametrize("dims", [("y", "x"), ("x",)])
def test_what_is_written_for_the_tool_is_what_it_writes_and_nothing_else(dims, tmp_path):
    s = surface(dims, (5, 3) if dims == ("y", "x") else (3,))
    formats.export(s, tmp_path / "o.h5", term="kd")
    found = contents(tmp_path / "o.h5")
    assert set(found) == {"dir_file", "xcoordinates", "train_loss", "train_acc"} | (
        {"ycoordinates"} if "y" in dims else set()
    )
    assert found["dir_file"] == ""
    assert bits(found["train_loss"]) == bits(s.values("kd"))
    assert found["train_loss"].shape == s.status.shape
    assert bits(found["xcoordinates"]) == bits(s.x)
    np.testing.assert_allclose(found["train_acc"], 100 * s.values("correct"), rtol=1e-15)


def test_the_first_term_is_the_loss_and_the_split_names_it(tmp_path):
    for split, prefix in (("test", "test"), ("train", "train"), ("held out", "train")):
        formats.export(surface(split=split), tmp_path / "o.h5")
        found = contents(tmp_path / "o.h5")
        assert bits(found[f"{prefix}_loss"]) == bits(surface().values("ce"))
        assert len(found) == 5


@pytest.mark.parametrize("n", [7, 898, 50_000, 1_281_167])
def test_accuracies_are_the_percentages_that_the_tool_computes(n, tmp_path):
    correct = np.random.default_rng(n).integers(0, n + 1, (40, 30))
    wanted = bits([[100.0 * k / n for k in row] for row in correct.tolist()])
    for term, values in (("correct", correct / n), ("error", (n - correct) / n)):
        s = surface(shape=(40, 30), terms=("ce", term))
        s.means[term] = values
        formats.export(s, tmp_path / "o.h5")
        assert bits(contents(tmp_path / "o.h5")["train_acc"]) == wanted, term


def test_an_accuracy_that_is_no_count_is_right_to_rounding(tmp_path):
    s = surface()
    s.means["correct"] = np.random.default_rng(3).uniform(size=(4, 3))
    formats.export(s, tmp_path / "o.h5")
    np.testing.assert_array_max_ulp(contents(tmp_path / "o.h5")["train_acc"], 100 * s.values("correct"), 1)


def test_without_an_accuracy_the_tool_finds_gaps(tmp_path):
    s = with_holes(surface(terms=("ce", "kd")))
    formats.export(s, tmp_path / "o.h5")
    found = contents(tmp_path / "o.h5")
    assert found["train_acc"][0, 0] == found["train_loss"][0, 0] == -1.0
    assert np.isnan(found["train_acc"]).sum() == 11
    assert np.isnan(found["train_loss"][2, 1])
    assert found["train_loss"][3, 2] == np.inf
    again = formats.read_original(tmp_path / "o.h5")
    assert again.terms == ("ce",)
    np.testing.assert_array_equal(again.status, s.status)
    formats.export(again, tmp_path / "again.h5")
    assert bits(contents(tmp_path / "again.h5")["train_acc"]) == bits(found["train_acc"])


def test_the_tool_has_no_bundles(tmp_path):
    with pytest.raises(ValueError, match=r"one line or one plane a file. Got a bundle of 4 lines. Export it as CSV"):
        formats.export(surface(("direction", "x")), tmp_path / "o.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_tools_own_way_of_drawing_gets_our_planes_right(tmp_path):
    """Its contour plots are ``contour(*meshgrid(x, y), Z)`` with Z as stored."""
    s = surface(shape=(5, 3))
    s.means["ce"] = s.x[None, :] + 10 * s.y[:, None]
    formats.export(s, tmp_path / "o.h5")
    found = contents(tmp_path / "o.h5")
    xs, ys = np.meshgrid(found["xcoordinates"], found["ycoordinates"])
    np.testing.assert_array_equal(found["train_loss"], xs + 10 * ys)


# Tables


@pytest.mark.parametrize(("dims", "second"), [(("y", "x"), "y"), (("x",), None), (("direction", "x"), "direction")])
def test_a_csv_has_a_row_for_each_cell_to_the_last_bit(dims, second, tmp_path):
    s = surface(dims, (4,) if dims == ("x",) else (4, 3))
    formats.export(s, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    coordinates = ["x"] + ([second] if second else [])
    assert list(rows[0]) == [*coordinates, "ce", "ce_sem", "kd", "kd_sem", "correct", "correct_sem", "status"]
    for row, cell in zip(rows, np.ndindex(s.status.shape), strict=True):
        assert float(row["x"]) == s.x[cell[-1]]
        if second:
            assert float(row[second]) == (s.y[cell[0]] if second == "y" else cell[0])
        for term in s.terms:
            assert struct.pack("d", float(row[term])) == s.values(term)[cell].tobytes()
            assert struct.pack("d", float(row[f"{term}_sem"])) == s.sem(term)[cell].tobytes()
        assert row["status"] == "1"


def test_a_csv_says_what_is_pending_and_what_is_not_finite(tmp_path):
    formats.export(with_holes(surface(terms=("ce",))), tmp_path / "s.csv")
    rows = (tmp_path / "s.csv").read_bytes().split(b"\r\n")
    assert rows[0] == b"x,y,ce,ce_sem,status"
    assert rows[1] == b"-1.0,-0.7,nan,nan,0"
    assert rows[8].split(b",")[2::2] == [b"nan", b"2"]
    assert rows[12].split(b",")[2::2] == [b"inf", b"2"]
    assert rows[13:] == [b""]


def test_a_csv_holds_any_name_of_a_term(tmp_path):
    s = surface(terms=('a, "b"\nc', "Δ"))
    formats.export(s, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[2::2] == ['a, "b"\nc', "Δ", "status"]
    assert len(rows) == 12


@pytest.mark.parametrize("dims", [("y", "x"), ("x",), ("direction", "x")])
def test_an_npz_gives_the_arrays_back_without_a_pickle(dims, tmp_path):
    s = surface(dims, (4,) if dims == ("x",) else (4, 3))
    formats.export(s, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as found:
        axes = {"x", "y"} if "y" in dims else {"x"}
        assert set(found) == axes | {"ce", "kd", "correct", "sem_ce", "sem_kd", "sem_correct", "status", "attrs"}
        for term in s.terms:
            assert found[term].tobytes() == s.values(term).tobytes()
            assert found[f"sem_{term}"].tobytes() == s.sem(term).tobytes()
            assert found[term].shape == s.status.shape
        assert found["x"].tobytes() == s.x.tobytes()
        assert found["status"].dtype == np.uint8
        assert json.loads(str(found["attrs"])) == s.attrs


@pytest.mark.parametrize(
    ("terms", "ending", "message"),
    [
        (("a", "a_sem"), "csv", "every column must have a name of its own. Got 'a_sem' twice"),
        (("status",), "csv", "Got 'status' twice: give the term another name."),
        (("status",), "vtp", "Got 'status' twice"),
        (("a", "sem_a"), "npz", "Got 'sem_a' twice"),
        (("file",), "npz", "term 'file' cannot be written to this format: give it another name."),
        (("allow_pickle",), "npz", "term 'allow_pickle' cannot"),
        (("attrs",), "npz", "term 'attrs' cannot"),
    ],
)
def test_terms_that_would_share_a_column_are_refused(terms, ending, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        formats.export(surface(terms=terms), tmp_path / f"s.{ending}")
    assert list(tmp_path.iterdir()) == []


# ParaView


def read_vtp(path: Path):
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    assert reader.GetErrorCode() == 0
    mesh = reader.GetOutput()
    data = mesh.GetPointData()
    arrays = {data.GetArrayName(i): vtk_to_numpy(data.GetArray(i)) for i in range(data.GetNumberOfArrays())}
    points = vtk_to_numpy(mesh.GetPoints().GetData())
    quads = [
        [mesh.GetCell(i).GetPointId(k) for k in range(mesh.GetCell(i).GetNumberOfPoints())]
        for i in range(mesh.GetNumberOfCells())
    ]
    return mesh, points, quads, arrays


def test_vtk_reads_a_plane_as_points_quads_and_arrays(tmp_path):
    s = surface()
    formats.export(s, tmp_path / "s.vtp", term="kd")
    mesh, points, quads, arrays = read_vtp(tmp_path / "s.vtp")
    assert (mesh.GetNumberOfPoints(), mesh.GetNumberOfPolys(), mesh.GetNumberOfCells()) == (12, 6, 6)
    assert points.dtype == np.float64
    cells = [(j, i) for j in range(4) for i in range(3)]
    for (j, i), point in zip(cells, points.tolist(), strict=True):
        assert point == [s.x[i], s.y[j], s.values("kd")[j, i]]
    assert mesh.GetPointData().GetScalars().GetName() == "kd"
    assert list(arrays) == ["ce", "ce_sem", "kd", "kd_sem", "correct", "correct_sem", "status"]
    for term in s.terms:
        assert arrays[term].tobytes() == s.values(term).tobytes()
        assert arrays[f"{term}_sem"].tobytes() == s.sem(term).tobytes()
    assert arrays["status"].dtype == np.uint8
    assert {tuple(sorted(quad)) for quad in quads} == {
        tuple(sorted(3 * (j + b) + i + a for a in (0, 1) for b in (0, 1))) for j in range(3) for i in range(2)
    }
    for quad in quads:
        corners = points[quad, :2]
        turned = sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)) / 2
        assert turned == pytest.approx((s.x[1] - s.x[0]) * (s.y[1] - s.y[0])), "a square, seen from above"


def test_missing_cells_are_holes_in_the_mesh(tmp_path):
    s = with_holes(surface())
    formats.export(s, tmp_path / "s.vtp")
    _, points, quads, arrays = read_vtp(tmp_path / "s.vtp")
    missing = {0, 7, 11}
    assert [i for i, z in enumerate(points[:, 2]) if z == 0] == sorted(missing)
    assert len(points) == 12
    whole = [
        corners
        for j in range(3)
        for i in range(2)
        if not missing & (corners := {3 * j + i, 3 * j + i + 1, 3 * j + i + 3, 3 * j + i + 4})
    ]
    assert len(whole) == 1
    assert [set(quad) for quad in quads] == whole
    assert arrays["ce"].tobytes() == s.values("ce").tobytes()
    assert list(arrays["status"]) == s.status.ravel().tolist()


def test_a_mesh_without_any_quad_can_be_read(tmp_path):
    for name, s in (("pending", surface()), ("row", surface(shape=(1, 3)))):
        s.status[:] = PENDING if name == "pending" else DONE
        formats.export(s, tmp_path / f"{name}.vtp")
        _, points, quads, _ = read_vtp(tmp_path / f"{name}.vtp")
        assert (len(points), quads) == (s.status.size, [])


def test_any_name_of_a_term_survives_in_a_mesh(tmp_path):
    names = ('<a> & "b"', "it's", "Δ")
    formats.export(surface(terms=names), tmp_path / "s.vtp")
    assert set(names) < set(read_vtp(tmp_path / "s.vtp")[3])


def test_a_mesh_is_of_a_plane(tmp_path):
    with pytest.raises(ValueError, match=r"VTP needs a plane with dims \('y', 'x'\). Got \('x',\). Export its lines"):
        formats.export(surface(("x",), (4,)), tmp_path / "s.vtp")


# Which format


def test_the_ending_says_the_format_and_the_argument_goes_before(tmp_path):
    s = surface()
    formats.export(s, tmp_path / "s.txt", format="csv")
    formats.export(s, str(tmp_path / "s.csv"))
    assert (tmp_path / "s.txt").read_bytes() == (tmp_path / "s.csv").read_bytes()
    formats.export(s, tmp_path / "s.hdf5", format="original")
    assert set(contents(tmp_path / "s.hdf5")) >= {"train_loss", "xcoordinates"}


def test_what_cannot_be_exported_is_said_and_nothing_is_written(tmp_path):
    s = surface()
    for options, kind, message in [
        ({"path": "s.json"}, ValueError, r"s.json must end in one of .csv, .npz, .vtp, .h5. Got .json."),
        ({"path": "s"}, ValueError, r"must end in one of .csv, .npz, .vtp, .h5. Got none."),
        ({"path": "s.csv", "format": "pdf"}, ValueError, "format must be one of csv, npz, vtp, original. Got 'pdf'."),
        ({"path": "s.csv", "term": "ce"}, ValueError, "term must be left out for csv, which holds every term. Got 'ce"),
        ({"path": "s.vtp", "term": "acc"}, KeyError, "one of ce, kd, correct. Got 'acc'."),
        ({"path": "s.h5", "term": "acc"}, KeyError, "one of ce, kd, correct. Got 'acc'."),
        ({"path": "none/s.csv"}, OSError, "cannot be written"),
    ]:
        path = tmp_path / options.pop("path")
        with pytest.raises(kind, match=message):
            formats.export(s, path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["csv", "npz", "vtp", "h5"])
def test_the_same_surface_gives_the_same_bytes_and_is_left_alone(ending, tmp_path):
    s = with_holes(surface())
    before = {term: s.values(term).tobytes() for term in s.terms}
    for name in ("a", "b"):
        formats.export(s, tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert {term: s.values(term).tobytes() for term in s.terms} == before


def test_public_names():
    assert formats.__all__ == ["export", "read_original"]


def test_a_measured_surface_goes_through_every_format(tmp_path, device):
    torch.manual_seed(0)
    problem = ls.Problem(HazardNet().to(device), objective, batched(*images()), "test")
    s = ls.evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 5)))
    for ending in ("csv", "npz", "vtp", "h5"):
        formats.export(s, tmp_path / f"s.{ending}")
    again = formats.read_original(tmp_path / "s.h5")
    assert again.values("ce").tobytes() == s.values("ce").tobytes()
    np.testing.assert_array_max_ulp(again.values("correct"), s.values("correct"), 1)  # through a percentage
    assert again.origin["ce"][0] == s.origin["ce"][0]
