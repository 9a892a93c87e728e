"""What goes into a page of surfaces, compared with what was measured; and what is refused."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from explored import HOSTILE, bundle, plane, with_holes, with_path

import landscape as ls
from landscape.conflict.result import Conflict
from landscape.explorer.arrays import packed
from landscape.results import PENDING, Sampled
from landscape.sharpness import Definition, Flatness, Measure


def unpacked(found):
    (kind,) = set(found) - {"shape"}
    numbers = np.frombuffer(base64.b64decode(found[kind]), {"f64": "<f8", "u8": "u1"}[kind])
    return numbers.reshape(found["shape"])


def flatness(value=2.0, **attrs):
    what = Definition("trace", "Hessian trace", "sum of <eigenvalues>", "Eq. 1", "small", "none")
    return Flatness((Measure(what, value, 1.5, np.inf, np.array([value])),), {"term": "ce", "split": "train"} | attrs)


def conflict():
    return Conflict(("ce", "kd"), np.arange(2), ("net",), np.ones((2, 1, 2, 2)))


@pytest.mark.parametrize(
    "array", [np.array([[1.5, np.nan], [-np.inf, 1e-300]]), np.arange(6, dtype=np.uint8), np.array(3)]
)
def test_arrays_come_back_to_the_last_bit(array):
    found = unpacked(json.loads(json.dumps(packed(array))))
    assert (found.shape, found.tobytes()) == (array.shape, array.astype(found.dtype).tobytes())


def test_every_array_of_a_surface_is_in_the_page_as_it_was_measured():
    one, two = with_path(with_holes(plane(0))), plane(1, (4, 3), epoch=np.int64(5), split="test")
    data = ls.explore({"a": one, "b": two}).data
    for given, method, at in zip((one, two), data["methods"], ((None, "train"), (5, "test")), strict=True):
        (found,) = method["surfaces"]
        assert (found["epoch"], found["split"]) == at
        for key, array in (("x", given.x), ("y", given.y), ("status", given.status)):
            np.testing.assert_array_equal(unpacked(found[key]), array)
        for term in given.terms:
            np.testing.assert_array_equal(unpacked(found["values"][term]), given.values(term))
            np.testing.assert_array_equal(unpacked(found["half"][term]), 1.96 * given.sem(term))
    points = data["methods"][0]["surfaces"][0]["points"]
    assert list(points) == ["trajectory", "start <b>", "end"]
    np.testing.assert_array_equal(unpacked(points["trajectory"]), one.directions.points["trajectory"])


def test_half_widths_of_a_sampled_surface_are_its_own():
    one = plane()
    arrays = [{term: np.full(one.status.shape, number) for term in one.terms} for number in (0.1, 0.7, 0.2)]
    one.sampled = Sampled(np.full(one.status.shape, 10), *arrays)
    one.attrs |= {"population": 100, "goal": {"rel_error": 0.01, "abs_error": None}}
    (found,) = ls.explore(one).data["methods"][0]["surfaces"]
    assert (unpacked(found["half"]["ce"]) == 0.7).all()
    assert found["origin"]["ce"] == [one.origin["ce"][0], 0.7]
    assert found["said"] == ["Each cell from a sample of the examples, to a standard error of 1 % of the mean; "
                             "10 % of all evaluations."]  # fmt: skip


def test_the_total_is_of_task_and_distillation_and_takes_no_name():
    assert ls.explore(plane()).data["total"] == {"name": "total", "task": "ce", "distillation": "kd"}
    assert ls.explore(plane(terms=("ce", "error"))).data["total"] is None
    named = plane()
    named.means["total"], named.sems["total"], named.origin["total"] = named.means["ce"], named.sems["ce"], (1.0, 0.1)
    assert ls.explore(named).data["total"]["name"] == "total (recombined)"


def test_curvature_and_area_are_those_of_the_surface():
    bowl = plane(shape=(41, 41), terms=("ce",))
    x, y = bowl.x, bowl.y
    bowl.means["ce"] = 0.5 + 3 * x[None, :] ** 2 + 2 * y[:, None] ** 2
    bowl.origin["ce"] = (0.5, 0.1)
    data = ls.explore(bowl).data
    rows = {row["key"]: row for row in data["methods"][0]["surfaces"][0]["numbers"]["ce"]}
    assert rows["curvature-x"]["value"] == pytest.approx(6, rel=1e-9)
    assert rows["curvature-y"]["value"] == pytest.approx(4, rel=1e-9)
    assert rows["area-1"]["value"] == pytest.approx(np.pi / np.sqrt(6), rel=0.02)  # of an ellipse
    named = {definition["key"] for definition in data["definitions"]}
    assert named == {"curvature-x", "curvature-y", "area-0.1", "area-1"}


def test_numbers_that_cannot_be_had_say_why():
    rows = ls.explore(with_holes(plane())).data["methods"][0]["surfaces"][0]["numbers"]["ce"]
    assert all("complete" in row["why"] and "value" not in row for row in rows)


def test_flatness_stands_beside_its_surface():
    one = Flatness((*flatness().measures, *flatness(np.nan).measures), {"term": "ce", "left_out": {"sam": "too slow"}})
    data = ls.explore({"a": [plane(), one]}).data
    (found,) = data["methods"][0]["flatness"]
    trace, undefined, left_out = found["rows"]
    assert (found["of"], trace["value"], trace["low"], trace["high"]) == (["ce", ""], 2.0, 1.5, "Infinity")
    assert undefined["value"] is None
    assert left_out == {"key": "sam", "why": "too slow"}
    assert data["definitions"][trace["is"]]["text"] == "sum of <eigenvalues>"


def test_of_a_plane_that_sharpens_the_finest_whole_part_is_shown():
    one = plane(shape=(9, 9), plan={"order": "coarse-to-fine"})
    one.status[1::2, :] = one.status[:, 1::2] = PENDING
    (found,) = ls.explore(one).data["methods"][0]["surfaces"]
    np.testing.assert_array_equal(unpacked(found["x"]), one.x[::2])
    np.testing.assert_array_equal(unpacked(found["values"]["ce"]), one.values("ce")[::2, ::2])
    assert found["said"] == ["25 of 81 cells so far"]


def test_lines_and_bundles_are_a_page_of_curves():
    data = ls.explore({"bundle": bundle(), "line": bundle(lines=1)}, term="ce").data
    assert data["kind"] == "lines"
    shapes = [method["surfaces"][0]["status"]["shape"] for method in data["methods"]]
    assert shapes == [[3, 9], [9]]
    keys = {definition["key"] for definition in data["definitions"]}
    assert keys == {"curvature", "width-0.1", "width-1"}


def test_a_page_is_one_whole_file(tmp_path):
    page = ls.explore({HOSTILE: plane(), "b": plane(1)}, term="kd")
    page.write_html(tmp_path / "new" / "x.html")
    text = (tmp_path / "new" / "x.html").read_text()
    assert text == page.to_html()
    assert "<script>alert" not in text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?https?:", text)
    assert len(text.encode()) < 6e6
    assert page.data["term"] == "kd"
    ls.explore({"not UTF-8: \udcff": plane()}).write_html(tmp_path / "y.html")
    assert "not UTF-8: ?" in (tmp_path / "y.html").read_text()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file must be a folder that can be made"):
        page.write_html(tmp_path / "file" / "x.html")


def test_the_first_term_is_one_of_which_something_is_seen():
    one = plane()
    one.means["ce"][:] = np.nan
    assert ls.explore(one).data["term"] == "kd"


@pytest.mark.parametrize("results", [plane(), {"a": [plane(epoch=1), plane(1, epoch=2)]}, {"a": bundle()}])
def test_a_still_picture_stands_in_for_the_page(results):
    assert ls.explore(results).picture().axes


def test_conflicts_have_a_page_of_their_own():
    with pytest.raises(ValueError, match=r"Got a conflict of 'a' and something else of 'b'. Make a page of each"):
        ls.explore({"a": conflict(), "b": plane()})
    with pytest.raises(ValueError, match=r"term goes with surfaces.*Got 'ce' for conflicts"):
        ls.explore({"a": conflict()}, term="ce")


def refused(results, text, error=ValueError, **options):
    with pytest.raises(error, match=text):
        ls.explore(results, **options)


def test_refuses_what_it_cannot_show():
    refused({}, r"expected the surfaces of 1 to 6 methods. Got 0")
    refused({str(i): plane() for i in range(7)}, r"1 to 6 methods. Got 7. Make a page of fewer")
    refused({"a": []}, r"at least one surface of 'a'. Got none")
    refused({"a": [flatness()]}, r"at least one surface of 'a'. Got none")
    refused({"a": [plane(), plane()]}, r"one surface of each epoch and split of 'a'. Got 2 of epoch None, split train")
    refused({"a": [plane(), flatness(), flatness()]}, r"one flatness of each .* of 'a'. Got 2 of ce, split train")
    refused({"a": plane(), "b": bundle()}, r"planes or lines. Got a plane of 'a' and lines of 'b'. Make a page of each")
    refused({"a": [plane(), bundle()]}, r"planes or lines")
    refused({"a": [plane(), 3]}, r"surfaces or flatness numbers of 'a'. Got int", TypeError)
    refused(plane(), r"a term of the surfaces, one of ce, kd, error. Got 'no'", term="no")
    empty = plane()
    empty.status[:] = PENDING
    refused(empty, r"at least one finite value of 'ce'. Got none. Finish")
