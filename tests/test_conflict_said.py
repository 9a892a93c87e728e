"""What a conflict says in files, words and notebooks."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from test_conflict import Student, distillation, examples
from test_conflict_terms import TERMS, measured, three

import landscape as ls
from landscape import wholeness
from landscape.conflict import from_gram, measure


def assert_same(a: ls.Conflict, b: ls.Conflict) -> None:
    assert (a.terms, a.layers, a.by) == (b.terms, b.layers, b.by)
    np.testing.assert_array_equal(a.step, b.step)
    np.testing.assert_array_equal(a.gram, b.gram)
    assert (a.sizes is None, a.whole is None, a.along is None) == (b.sizes is None, b.whole is None, b.along is None)
    if a.sizes is not None:
        np.testing.assert_array_equal(a.sizes, b.sizes)
    if a.whole is not None:
        for name in ("halves", "spread", "counts", "batches"):
            np.testing.assert_array_equal(getattr(a.whole, name), getattr(b.whole, name))
    if a.along is not None:
        assert a.along.names == b.along.names
        for name in ("products", "whole", "squared"):
            np.testing.assert_array_equal(getattr(a.along, name), getattr(b.along, name))


@pytest.mark.parametrize("terms", [TERMS, TERMS[:2]])
def test_a_file_gives_everything_back(terms, tmp_path):
    vector = {n: torch.ones_like(p) for n, p in Student().named_parameters()}
    problem = ls.Problem(Student().double(), three, examples())
    c = measure(problem, terms, by="parameter", along={"ones": vector})
    c.groups = {"recorded": from_gram(terms, [3], ["all"], np.ones((1, 1, len(terms), len(terms))))}
    c.save(tmp_path / "c.h5")
    loaded = ls.load(tmp_path / "c.h5")
    assert_same(c, loaded)
    assert_same(c.groups["recorded"], loaded.groups["recorded"])
    assert loaded.attrs["schema_version"] == 2
    assert loaded.attrs["share_no_parameter"] == []
    assert loaded.summary() == c.summary()
    assert wholeness.faults(tmp_path / "c.h5") == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("whole/halves", lambda v: v * np.nan, "gram of all examples must be finite."),
        ("whole/halves", lambda v: v[:1], "gram of the halves must be of shape [2, 2, 5, 3, 3]. Got [1, 2, 5, 3, 3]."),
        ("whole/cosines", lambda v: -v, "whole/cosines must be what gram tells."),
        ("whole/signal_to_noise", lambda v: v + 1, "whole/signal_to_noise must be what gram tells."),
        ("cosines", lambda v: v / 2, "cosines must be what gram tells."),
        ("sizes", lambda v: v[:, :2], "sizes must be of shape [3, 3]. Got [3, 2]."),
    ],
)
def test_each_thing_spoilt_in_a_file_is_named(name, change, said, tmp_path):
    measured().save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        values = file[name][()]
        del file[name]
        file[name] = change(values)
    (fault,) = wholeness.faults(tmp_path / "c.h5")
    assert said in fault


@pytest.mark.parametrize("terms", [TERMS, TERMS[:2]])
def test_xarray_reads_every_array_with_its_axes(terms, tmp_path):
    xarray = pytest.importorskip("xarray")
    c = measure(ls.Problem(Student().double(), three, examples()), terms)
    c.save(tmp_path / "c.h5")
    with xarray.open_dataset(tmp_path / "c.h5", engine="h5netcdf") as data:
        assert data["gram"].dims == ("step", "layer", "term", "other")
        np.testing.assert_array_equal(
            data["gram"].sel(layer="head", term="ce", other="kd"), c.gram[:, c.layers.index("head"), 0, 1]
        )
        if len(terms) == 2:
            np.testing.assert_array_equal(data["cosine"], c.cosine)
            assert data["cosine"].dims == ("step",)
        else:
            np.testing.assert_array_equal(data["cosines"].sel(term="kd", other="decay"), c.cosines[:, 1, 2])
    with xarray.open_dataset(tmp_path / "c.h5", engine="h5netcdf", group="whole") as data:
        assert float(data["norm"].sel(term="kd")) == c.whole.norm["kd"]
        assert float(data["cosines"].sel(term="ce", other="kd")) == c.whole.cosine
        assert data["halves"].dims == ("half", "other_half", "layer", "term", "other")


def test_a_file_of_version_1_is_read(tmp_path):
    c = measure(ls.Problem(Student().double(), distillation, examples()))
    c.save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:  # what version 1 did not have
        for name in ("gram", "sizes", "whole", "term", "other", "half", "other_half"):
            del file[name]
        del file.attrs["by"]
        file.attrs["schema_version"] = 1
    old = ls.load(tmp_path / "c.h5")
    assert (old.terms, old.layers, old.by, old.whole, old.sizes) == (c.terms, c.layers, "layer", None, None)
    np.testing.assert_allclose(old.gram, c.gram, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(old.cosine, c.cosine, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(old.layer_cosine), np.isnan(c.layer_cosine))
    assert wholeness.faults(tmp_path / "c.h5") == []


def test_inner_products_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"grams must be of shape \[B, L, K, K\], \[1, 1, 2, 2\]\. Got \[1, 1, 3\]"):
        from_gram(("a", "b"), [0], ["all"], np.ones((1, 1, 3)))


# In words


def test_names_are_escaped_for_notebooks():
    c = from_gram(("<b>", "a&b"), [0, 1], ["all"], np.array([np.eye(2)[None]] * 2))
    assert "&lt;b&gt;" in c._repr_html_()
    assert "<b>" not in c._repr_html_().replace("<p><b>Conflict", "")
    assert "a&amp;b" in c._repr_html_()
    assert repr(c) == "<Conflict of <b> and a&b: 2 records, 1 layers, mean cosine +0.000, 0% negative>"


def test_a_recording_of_training_says_that_its_records_follow_each_other():
    c = from_gram(("a", "b"), [0, 50], ["all"], np.array([np.eye(2)[None]] * 2))
    assert "Records of a training run follow each other" in c.summary()
    assert "Records of a training run" not in measured().summary()


def test_a_summary_holds_the_numbers():
    c = measured()
    said = c.summary()
    assert said.startswith("Conflict of ce, kd, decay: 3 batches (ce over 21, kd over 21, decay over 21), 5 layers")
    for a, b in (("ce", "kd"), ("ce", "decay"), ("kd", "decay")):
        (line,) = [line for line in said.splitlines() if line.startswith(f"cosine of {a} and {b}")]
        pair = c.pair(a, b)
        for value in (pair.cosine.mean(), pair.whole.cosine, pair.whole.split_half_cosine):
            assert f"{value:.3g}" in line
    assert "mean cosine" in repr(c)
    assert "ce, kd and decay" in repr(c)
