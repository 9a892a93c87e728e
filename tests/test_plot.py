"""Figures show what was measured: their contents are compared with numpy on the same arrays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure

from landscape import plot
from landscape.conflict import from_gram
from landscape.plot import _axis, _caption, _style
from landscape.results import DONE, NOT_FINITE, PENDING, Sampled, Surface

METHODS = ("CE", "KD+SGD", "KD+DOT")


def surface(values, *, dims, normalize="filter"):
    values = np.asarray(values, dtype=np.float64)
    x = np.linspace(-1, 1, values.shape[-1])
    y = np.linspace(-2, 2, values.shape[0]) if dims == ("y", "x") else None
    status = np.where(np.isfinite(values), DONE, NOT_FINITE).astype(np.uint8)
    attrs = {"normalize": normalize}
    return Surface(x, y, dims, {"ce": values}, {"ce": values * 0.1}, status, {"ce": (0.0, 0.0)}, attrs)


def bundle(seed=0, n=4, high=2.0):
    return surface(np.random.default_rng(seed).uniform(1.0, high, (n, 5)), dims=("direction", "x"))


def plane(seed=0, low=1.0, high=2.0, shape=(5, 7)):
    return surface(np.random.default_rng(seed).uniform(low, high, shape), dims=("y", "x"))


def conflict(seed=0, steps=range(6), layers=("conv1", "layer1.0.conv1", "fc")):
    """Of gradients of norm 1 in each layer."""
    cosines = np.random.default_rng(seed).uniform(-1, 1, (len(steps), len(layers), 1, 1))
    return from_gram(("ce", "kd"), list(steps), layers, np.eye(2) + cosines * (1 - np.eye(2)))


def every_figure():
    return {
        "curves": plot.curves({name: [bundle(i), bundle(i + 3)] for i, name in enumerate(METHODS)}, term="ce"),
        "contour": plot.contour({name: plane(i) for i, name in enumerate(METHODS)}, term="ce"),
        "tradeoff": plot.tradeoff({name: [(np.arange(1.0, 5.0), np.arange(2.0, 6.0))] for name in METHODS}),
        "cosine": plot.cosine({name: [conflict(i), conflict(i + 3)] for i, name in enumerate(METHODS)}),
        "layers": plot.layers({name: [conflict(i), conflict(i + 3)] for i, name in enumerate(METHODS)}),
        "cosines": plot.cosines(conflict()),
        "inconsistency": plot.inconsistency({name: [conflict(i), conflict(i + 3)] for i, name in enumerate(METHODS)}),
    }


def line(ax, start):
    return next(found for found in ax.lines if str(found.get_label()).startswith(start))


def band_edges(collection):
    """Lowest and highest y of a filled band at each x."""
    vertices = collection.get_paths()[0].vertices
    xs = np.unique(vertices[:, 0])
    return np.array([(vertices[vertices[:, 0] == x, 1].min(), vertices[vertices[:, 0] == x, 1].max()) for x in xs]).T


def test_curves_draw_the_mean_over_directions_and_seeds():
    seeds = [bundle(0), bundle(1)]
    ax = plot.curves({"CE": seeds}, term="ce").axes[0]
    rows = np.concatenate([s.values("ce") for s in seeds])
    np.testing.assert_allclose(line(ax, "CE").get_ydata(), np.mean(rows, axis=0))
    np.testing.assert_array_equal(line(ax, "CE").get_xdata(), seeds[0].x)
    assert line(ax, "CE").get_label() == "CE: 4 directions, 2 seeds"


def test_curves_have_a_band_that_holds_the_middle_of_the_curves():
    one = bundle()
    figure = plot.curves(one, term="ce")
    edges = band_edges(figure.axes[0].collections[0])
    np.testing.assert_allclose(edges, np.quantile(one.values("ce"), (0.1, 0.9), axis=0))
    assert "10-90 %" in figure.legends[0].get_title().get_text()


def test_the_band_of_a_single_curve_is_its_interval():
    line = surface([1.0, 3.0, 2.0], dims=("x",))
    figure = plot.curves(line, term="ce")
    ax = figure.axes[0]
    corners = ax.collections[0].get_paths()[0].vertices
    for x, mean in zip(line.x, [1.0, 3.0, 2.0], strict=True):
        at = corners[np.isclose(corners[:, 0], x), 1]
        assert at.min() == pytest.approx(mean - 1.96 * 0.1 * mean)
        assert at.max() == pytest.approx(mean + 1.96 * 0.1 * mean)
    assert figure.legends[0].get_title().get_text() == "line: mean; band: 95 % interval"
    half = {"ce": np.array([0.5, 0.25, 0.125])}
    sampled = replace(line, sampled=Sampled(np.full(3, 7), half, half, half), attrs=SAMPLED | {"population": 70})
    figure = plot.curves(sampled, term="ce")
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    assert corners[np.isclose(corners[:, 0], 0), 1].max() == pytest.approx(3.25)
    said = (
        "Each cell from a sample of the examples, to a standard error of 2 % of the mean, or of 0.01 (ce) where that is"
    )
    assert " ".join(figure.get_supxlabel().split()) == f"{said} more; 10 % of all evaluations."


SAMPLED = {"normalize": "filter", "goal": {"rel_error": 0.02, "abs_error": {"ce": 0.01}}}


def sampled_plane():
    one = plane()
    counts = np.arange(35).reshape(5, 7) * 10 + 10
    sem = {"ce": one.values("ce") * np.linspace(0, 0.02, 35).reshape(5, 7)}
    found = Sampled(counts, sem, {"ce": 2 * sem["ce"]}, sem)
    return replace(one, sampled=found, attrs=SAMPLED | {"population": 1000})


def test_error_maps_the_error_of_sampling_and_the_examples():
    one = sampled_plane()
    one.status[0, 0] = PENDING
    figure = plot.error(one, term="ce")
    left, right = figure.axes[:2]
    shown = np.ma.filled(left.collections[0].get_array(), np.nan)
    expected = 100 * np.linspace(0, 0.02, 35).reshape(5, 7)
    expected[0, 0] = np.nan
    np.testing.assert_allclose(shown.reshape(5, 7), expected)
    examples = np.ma.filled(right.collections[0].get_array(), np.nan).reshape(5, 7)
    assert np.isnan(examples[0, 0])
    np.testing.assert_array_equal(examples.ravel()[1:], one.sampled.n_examples.ravel()[1:])
    assert isinstance(right.collections[0].norm, LogNorm)
    assert figure.axes[2].get_xlabel().replace("\n", " ") == "standard error of sampling, % of ce"


def test_error_of_a_full_surface_is_that_over_the_examples():
    figure = plot.error({"a": plane(), "b": plane(1)}, term="ce")
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), 10.0)
    assert figure.axes[-1].get_xlabel().replace("\n", " ") == "standard error over the examples, % of ce"
    assert figure.get_supxlabel() == ""


def test_error_of_a_mean_of_zero_is_undefined_and_not_called_not_finite():
    one = plane()
    one.means["ce"][1, 2] = 0.0
    one.sems["ce"][3, 4] = np.nan
    figure = plot.error(one, term="ce")
    assert keys(figure) == ["undefined: the mean is 0", "error not known"]
    at = {
        found.get_hatch(): [path.vertices[:4].mean(axis=0) for path in found.get_paths()] for found in hatched(figure)
    }
    np.testing.assert_allclose(at["-----"], [[one.x[2], one.y[1]]])
    np.testing.assert_allclose(at["...."], [[one.x[4], one.y[3]]])
    assert set(at) == {"-----", "...."}
    one.means["ce"][0, 0], one.status[0, 0] = np.inf, NOT_FINITE
    assert "not finite" in keys(plot.error(one, term="ce"))


def hatched(figure):
    return [found for found in figure.axes[0].collections if found.get_hatch() and found.get_paths()]


def test_captions_say_how_exact_a_surface_is():
    one = sampled_plane()
    text = (
        "Each cell from a sample of the examples, to a standard error of 2 % of the mean, or of 0.01 (ce) where that is"
    )
    text += " more; 18 % of all evaluations."
    assert _caption.exactness([one, one]) == text
    assert " ".join(plot.contour(one, term="ce").get_supxlabel().split()) == text
    errors = {"origin": {"ce": 1e-4, "kd": 2e-4}, "corners": {"ce": 0.05, "kd": 0.01}}
    low = replace(plane(), attrs={"precision": "bf16", "errors": errors})
    said = "Computed in bf16: relative error 2.0e-04 at the origin, 5.0e-02 at the corners."
    assert _caption.exactness([low]) == said
    exact = replace(plane(), attrs={"precision": "float32", "errors": errors})
    assert _caption.exactness([exact, plane()]) == ""


@pytest.mark.parametrize("gap", ["inf", "pending"])
def test_curves_leave_a_mean_with_a_missing_value_open_and_mark_it(gap):
    broken = bundle()
    if gap == "inf":
        broken.means["ce"][1, 0], broken.status[1, 0] = np.inf, NOT_FINITE
    else:
        broken.status[1, 0] = PENDING
    ax = plot.curves({"CE": broken, "KD+DOT": bundle(1)}, term="ce").axes[0]
    drawn = line(ax, "CE: 4").get_ydata()
    assert np.isnan(drawn[0])
    np.testing.assert_allclose(drawn[1:], broken.values("ce")[:, 1:].mean(axis=0))
    np.testing.assert_array_equal(line(ax, "CE: pending or not finite").get_xdata(), [-1.0])
    assert np.isfinite(ax.get_ylim()).all()


def test_curves_have_a_log_scale_only_for_a_wide_positive_range():
    assert plot.curves(surface([1.0, 50.0], dims=("x",)), term="ce").axes[0].get_yscale() == "log"
    assert plot.curves(surface([1.0, 2.0], dims=("x",)), term="ce").axes[0].get_yscale() == "linear"
    assert plot.curves(surface([0.0, 50.0], dims=("x",)), term="ce").axes[0].get_yscale() == "linear"


def test_curves_of_test_data_are_hollow_in_the_look_of_their_method():
    train, test = {"CE": bundle(0), "KD": bundle(1)}, {"KD": bundle(2), "CE": bundle(3)}
    for surfaces, n in ((train, 70), (test, 30)):
        for one in surfaces.values():
            one.attrs["n_examples"] = n
    figure = plot.curves(train, term="ce", test=test)
    ax = figure.axes[0]
    for name in train:
        filled, hollow = line(ax, f"{name}: 4 directions, 1 seed"), line(ax, f"{name}: 4 directions, 1 seed, test")
        np.testing.assert_allclose(filled.get_ydata(), train[name].values("ce").mean(axis=0))
        np.testing.assert_allclose(hollow.get_ydata(), test[name].values("ce").mean(axis=0))
        for same in ("get_color", "get_marker", "get_linestyle"):
            assert getattr(filled, same)() == getattr(hollow, same)()
        assert filled.get_markerfacecolor() == filled.get_color()
        assert hollow.get_markerfacecolor() == "white"
    assert keys(figure) == [f"{name}: 4 directions, 1 seed" for name in train] + ["filled: training", "hollow: test"]
    assert "mean over 70 examples" in plot.caption(figure)
    assert "Hollow: test, mean over 30 examples." in plot.caption(figure)
    with pytest.raises(ValueError, match=r"test must have methods of lines: CE, KD. Got 'DOT'"):
        plot.curves(train, term="ce", test={"DOT": bundle()})


def test_curves_have_a_second_panel_for_the_error():
    one = bundle()
    one.means["error"], one.sems["error"] = one.values("ce") / 7, one.sem("ce")
    above, below = plot.curves({"CE": one}, term="ce", error="error").axes
    np.testing.assert_allclose(line(below, "CE").get_ydata(), one.values("ce").mean(axis=0) / 7)
    np.testing.assert_allclose(line(above, "CE").get_ydata(), one.values("ce").mean(axis=0))
    assert (above.get_ylabel(), below.get_ylabel()) == ("ce, mean over examples", "error, mean over examples")
    assert (above.get_xlabel(), below.get_xlabel()) == ("", "x (filter norms)")
    figure = Figure()
    given = figure.subplots(1, 2)
    assert plot.curves(one, term="ce", error="error", ax=given) is figure
    assert all(ax.get_lines() for ax in given)
    with pytest.raises(ValueError, match=r"one of ce. Got 'error'"):
        plot.curves(bundle(), term="ce", error="error")


def test_curves_show_what_a_log_scale_cannot_as_gaps_and_say_so():
    figure = plot.curves({"CE": surface([2.0, 0.0, -1.0, 3.0], dims=("x",))}, term="ce", log=True)
    ax = figure.axes[0]
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(line(ax, "CE: 1").get_ydata(), [2.0, np.nan, np.nan, 3.0])
    gaps = line(ax, "CE: pending, not finite, zero or negative")
    np.testing.assert_allclose(gaps.get_xdata(), [-1 / 3, 1 / 3])
    assert "CE: pending, not finite, zero or negative" in keys(figure)
    nothing = plot.curves(surface([-1.0, -2.0], dims=("x",)), term="ce", log=True)
    assert np.isnan(line(nothing.axes[0], "1 direction").get_ydata()).all()
    nothing.draw_without_rendering()


def test_curves_have_the_scale_that_is_asked_for():
    wide, narrow = surface([1.0, 50.0], dims=("x",)), surface([1.0, 2.0], dims=("x",))
    assert plot.curves(wide, term="ce", log=False).axes[0].get_yscale() == "linear"
    assert plot.curves(narrow, term="ce", log=True).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("values", [[1e30, -1e30, 3.0], [1e-300, 1.0, 1e300], [np.nan, np.inf, 1.0]])
def test_curves_of_odd_values_are_drawn(values):
    for log in (None, True, False):
        plot.curves(surface(values, dims=("x",)), term="ce", log=log).draw_without_rendering()


def test_curves_draw_into_given_axes():
    figure = Figure()
    ax = figure.add_subplot()
    assert plot.curves(bundle(), term="ce", ax=ax) is figure
    assert ax.lines


def test_curves_refuse_what_is_no_line():
    with pytest.raises(ValueError, match=r"expected lines or bundles of lines. Got \('y', 'x'\) for 'CE'"):
        plot.curves({"CE": plane()}, term="ce")
    with pytest.raises(ValueError, match=r"one of ce. Got 'kd'"):
        plot.curves(bundle(), term="kd")
    with pytest.raises(ValueError, match="expected one grid for all surfaces of 'CE'"):
        plot.curves({"CE": [bundle(n=4), bundle(n=3)]}, term="ce")
    with pytest.raises(ValueError, match="expected at least one surface of 'CE'"):
        plot.curves({"CE": []}, term="ce")
    with pytest.raises(ValueError, match=r"expected 1 to 6 methods. Got 7"):
        plot.curves({str(i): bundle(i) for i in range(7)}, term="ce")


def meshes(figure):
    return [ax.collections[0] for ax in figure.axes if ax.get_label() != "<colorbar>"]


def test_contour_panels_share_one_scale_over_all_values():
    surfaces = {"a": plane(0, 1.0, 2.0), "b": plane(1, 1.5, 4.0)}
    both = np.concatenate([s.values("ce").ravel() for s in surfaces.values()])
    for mesh in meshes(plot.contour(surfaces, term="ce")):
        assert (mesh.norm.vmin, mesh.norm.vmax) == (both.min(), both.max())


def test_contour_panels_share_levels():
    surfaces = {"a": plane(0, 1.0, 2.0), "b": plane(1, 1.0, 2.0)}
    figure = plot.contour(surfaces, term="ce")
    levels = [next(c.levels for c in ax.collections if hasattr(c, "levels")) for ax in figure.axes[:2]]
    np.testing.assert_array_equal(levels[0], levels[1])


def test_contour_cells_are_the_values_on_a_grid_that_is_not_square():
    one = plane(shape=(3, 7))
    figure = plot.contour(one, term="ce")
    mesh = meshes(figure)[0]
    np.testing.assert_array_equal(mesh.get_array(), one.values("ce"))
    corners = mesh.get_coordinates()
    assert corners.shape == (4, 8, 2)
    np.testing.assert_allclose((corners[0, :-1, 0] + corners[0, 1:, 0]) / 2, one.x, atol=1e-12)
    np.testing.assert_allclose((corners[:-1, 0, 1] + corners[1:, 0, 1]) / 2, one.y, atol=1e-12)
    assert figure.axes[0].get_xlabel() == "x (filter norms)"


def test_contour_missing_cells_are_shown_and_hide_no_others():
    broken = plane()
    broken.means["ce"][0, 0], broken.status[0, 0] = np.nan, NOT_FINITE
    broken.means["ce"][2, 3], broken.status[2, 3] = np.inf, NOT_FINITE
    broken.status[4, :] = PENDING
    figure = plot.contour(broken, term="ce")
    missing = np.zeros(broken.status.shape, dtype=bool)
    missing[0, 0] = missing[2, 3] = missing[4, :] = True
    np.testing.assert_array_equal(np.ma.getmaskarray(meshes(figure)[0].get_array()), missing)
    pending, not_finite = (of for of in figure.axes[0].collections if of.get_hatch() in ("////", "xxxxx"))
    assert (len(pending.get_paths()), len(not_finite.get_paths())) == (7, 2)
    middle = [tuple(path.get_extents().get_points().mean(axis=0)) for path in not_finite.get_paths()]
    np.testing.assert_allclose(middle, [(broken.x[0], broken.y[0]), (broken.x[3], broken.y[2])], atol=1e-12)
    assert keys(figure)[-2:] == ["pending", "not finite"]


def keys(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_contour_of_a_complete_surface_has_no_key_for_hatches():
    assert keys(plot.contour(plane(), term="ce")) == ["unperturbed weights", "lowest cell"]


def test_contour_log_scale_for_a_wide_range():
    figure = plot.contour(plane(low=0.02, high=8.0), term="ce")
    assert isinstance(meshes(figure)[0].norm, LogNorm)


def test_contour_marks_the_lowest_cell_and_the_unperturbed_weights():
    one = plane()
    one.means["ce"][3, 1] = 0.5
    ax = plot.contour(one, term="ce").axes[0]
    marks = {found.get_marker(): (found.get_xdata()[0], found.get_ydata()[0]) for found in ax.lines}
    assert marks["D"] == pytest.approx((one.x[1], one.y[3]))
    assert marks["+"] == (0, 0)
    one.x = one.x + 5
    figure = plot.contour(one, term="ce")
    assert "+" not in [found.get_marker() for found in figure.axes[0].lines]
    assert keys(figure) == ["lowest cell"]


@pytest.mark.parametrize(("extent", "length"), [(1.0, 0.5), (0.02, 0.01), (3.0, 2.0), (250.0, 200.0)])
def test_contour_has_a_bar_of_its_unit(extent, length):
    one = plane(shape=(6, 6))
    one.x = np.linspace(-extent, extent, 6)
    ax = plot.contour(one, term="ce").axes[0]
    (bar,) = (found for found in ax.lines if len(found.get_xdata()) == 2)
    assert np.ptp(bar.get_xdata()) == pytest.approx(length)
    assert [text.get_text() for text in ax.texts] == [f"{length:g} filter norms"]
    left, right = ax.get_xlim()
    assert left < min(bar.get_xdata()) < max(bar.get_xdata()) < right


def test_contour_hatches_what_a_log_scale_cannot_show():
    one = plane(0, 1.0, 90.0)
    one.means["ce"][0, 0], one.means["ce"][1, 1], one.means["ce"][2, 2] = 0.0, -3.0, 0.5
    figure = plot.contour(one, term="ce", log=True)
    mesh = meshes(figure)[0]
    assert isinstance(mesh.norm, LogNorm)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.5, one.values("ce").max())
    hidden = np.zeros((5, 7), dtype=bool)
    hidden[0, 0] = hidden[1, 1] = True
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), hidden)
    (hatched,) = (of for of in figure.axes[0].collections if of.get_hatch() == "-----" and of.get_paths())
    assert len(hatched.get_paths()) == 2
    assert keys(figure)[-1] == "zero or negative"
    nothing = plot.contour(surface(-np.ones((3, 3)), dims=("y", "x")), term="ce", log=True)
    assert "zero or negative" in keys(nothing)
    nothing.draw_without_rendering()


def test_contour_has_the_scale_that_is_asked_for():
    assert not isinstance(meshes(plot.contour(plane(low=0.02, high=8.0), term="ce", log=False))[0].norm, LogNorm)
    assert isinstance(meshes(plot.contour(plane(), term="ce", log=True))[0].norm, LogNorm)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_contour_of_few_cells_shows_each_in_its_place(shape):
    one = plane(shape=shape)
    figure = plot.contour(one, term="ce")
    mesh = meshes(figure)[0]
    np.testing.assert_array_equal(mesh.get_array(), one.values("ce"))
    corners = mesh.get_coordinates()
    assert (np.diff(corners[0, :, 0]) > 0).all()
    assert (np.diff(corners[:, 0, 1]) > 0).all()
    np.testing.assert_allclose((corners[0, :-1, 0] + corners[0, 1:, 0]) / 2, one.x, atol=1e-12)
    figure.draw_without_rendering()


@pytest.mark.parametrize(("low", "high"), [(-1e30, 1e30), (1e-30, 1e30), (1e300, 2e300), (0.0, 1e-30)])
def test_contour_of_huge_and_tiny_values_is_drawn(low, high):
    for log in (None, True, False):
        plot.contour(plane(low=low, high=high), term="ce", log=log).draw_without_rendering()


@pytest.mark.parametrize("draw", [plot.contour, plot.relief])
def test_what_is_too_far_apart_for_a_scale_is_said(draw, tmp_path):
    huge, tiny = plane(), plane(low=1e-292, high=1e-290)
    huge.means["ce"].flat[:2] = -1.7e308, 1.7e308
    with pytest.raises(ValueError, match=r"must span at most 2.2e\+307. Got -1.7e\+308 to 1.7e\+308. Divide"):
        draw(huge, term="ce")
    huge.means["ce"].flat[:2] = -1e307, 1e307
    plot.save(draw(huge, term="ce"), tmp_path / "huge.png")
    plot.save(draw(tiny, term="ce", log=False), tmp_path / "tiny.png")
    tiny.means["ce"][0] *= 1e-6
    if draw is plot.relief:
        plot.save(draw(tiny, term="ce", log=True), tmp_path / "low.png")
    plot.save(draw(plane(low=1e-300, high=1e-279), term="ce", log=True), tmp_path / "wide.png")


def test_contour_says_what_is_too_small_for_a_log_scale():
    with pytest.raises(ValueError, match=r"must reach 1e-280. Got \d.*e-29\d to \d.*e-29[01]. Multiply"):
        plot.contour(plane(low=1e-292, high=1e-290), term="ce", log=True)


def test_contour_colour_bar_has_its_whole_label_and_numbers_apart():
    planes = {name: plane(i, 0.02, 90.0, (13, 13)) for i, name in enumerate(METHODS)}
    for one in planes.values():
        one.attrs["n_examples"] = 50_000
    figure = plot.contour(planes, term="ce")
    figure.draw_without_rendering()
    bar = figure.axes[-1]
    assert bar.get_xlabel().replace("\n", " ") == "ce, mean over 50000 examples (log scale)"
    box = bar.xaxis.label.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    numbers = [text.get_window_extent() for text in bar.get_xticklabels() if text.get_text()]
    assert len(numbers) > 4
    assert all(a.x1 < b.x0 for a, b in pairwise(numbers))


def test_contour_constant_and_entirely_pending_panels(tmp_path):
    empty, constant = plane(), surface(np.ones((3, 3)), dims=("y", "x"))
    empty.status[:] = PENDING
    plot.save(plot.contour({"empty": empty, "constant": constant}, term="ce"), tmp_path / "odd")


@pytest.mark.parametrize("n", range(1, 7))
def test_contour_one_to_six_panels(n):
    figure = plot.contour({str(i): plane(i) for i in range(n)}, term="ce")
    assert [ax.get_title() for ax in figure.axes[:n]] == [str(i) for i in range(n)]


def test_contour_refuses_what_cannot_be_compared():
    empty = plane()
    empty.status[:] = PENDING
    with pytest.raises(ValueError, match=r"expected 1 to 6 surfaces. Got 0"):
        plot.contour({}, term="ce")
    with pytest.raises(ValueError, match="expected planes"):
        plot.contour(bundle(), term="ce")
    with pytest.raises(ValueError, match=r"one of ce. Got 'kd'"):
        plot.contour({"a": plane()}, term="kd")
    with pytest.raises(ValueError, match="expected at least one finite value of 'ce'"):
        plot.contour(empty, term="ce")


def test_tradeoff_thick_line_is_the_mean_over_seeds_of_the_epochs_all_have():
    task = [np.array([3.0, 2.0, 1.0]), np.array([5.0, 4.0])]
    distill = [np.array([9.0, 8.0, 7.0]), np.array([7.0, 7.0])]
    ax = plot.tradeoff({"CE": list(zip(task, distill, strict=True))}).axes[0]
    mean = line(ax, "CE")
    np.testing.assert_allclose(mean.get_xdata(), [4.0, 3.0])
    np.testing.assert_allclose(mean.get_ydata(), [8.0, 7.5])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), task[0])


def test_tradeoff_dots_turn_from_light_to_dark_with_the_epoch():
    task, distill = np.linspace(5, 1, 12), np.linspace(9, 2, 12)
    figure = plot.tradeoff({"CE": [(task, distill)], "KD": [(task[:4], distill[:4])]})
    ax, bar = figure.axes
    assert bar.get_ylabel() == "epoch"
    for dots, n in zip(ax.collections, (12, 4), strict=True):
        np.testing.assert_allclose(dots.get_offsets(), np.stack([task, distill], axis=1)[:n])
        np.testing.assert_array_equal(dots.get_array(), np.arange(1, n + 1))
        assert (dots.norm.vmin, dots.norm.vmax) == (1, 12)
    figure.draw_without_rendering()
    luminance = ax.collections[0].get_facecolors()[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) < 0).all()
    assert {text.get_text(): text.get_color() for text in ax.texts} == {
        name: look.color for name, look in _style.looks(["CE", "KD"]).items()
    }


def crosses(ax):
    return [
        np.stack(found.get_data(), axis=1).tolist()
        for found in ax.lines
        if found.get_marker() == "x" and found.get_color() == "black"
    ]


def test_tradeoff_marks_where_the_learning_rate_drops():
    path = (np.array([4.0, 3.0, 2.0, 1.0]), np.array([8.0, 6.0, 5.0, 4.0]))
    figure = plot.tradeoff({"CE": [path], "KD": [path]}, marks={"KD": [2, 3, 99]})
    assert crosses(figure.axes[0]) == [[[3.0, 6.0], [2.0, 5.0]]]
    assert keys(figure)[-1] == "learning rate drops"
    assert len(crosses(plot.tradeoff({"CE": [path], "KD": [path]}, marks=[1]).axes[0])) == 2
    assert "learning rate drops" not in keys(plot.tradeoff({"CE": [path]}))
    ax = Figure().add_subplot()
    plot.tradeoff({"CE": [path]}, marks=[1], ax=ax)
    inside = [text.get_text() for text in ax.get_legend().get_texts()]
    assert inside == ["first epoch", "last epoch", "learning rate drops"], "the method's name is at the end of its line"
    with pytest.raises(ValueError, match=r"marks must have methods of paths: CE. Got 'DOT'"):
        plot.tradeoff({"CE": [path]}, marks={"DOT": [1]})


def test_tradeoff_ends_where_losses_are_known():
    task, distill = np.array([np.nan, 3.0, 2.0, np.inf]), np.array([9.0, 8.0, 7.0, 6.0])
    ends = [found for found in plot.tradeoff({"CE": [(task, distill)]}).axes[0].lines if len(found.get_xdata()) == 1]
    assert [tuple(map(float, (e.get_xdata()[0], e.get_ydata()[0]))) for e in ends] == [(3.0, 8.0), (2.0, 7.0)]
    plot.tradeoff({"CE": [(np.full(3, np.nan), np.ones(3))], "KD": [(np.ones(1), np.ones(1))]}).draw_without_rendering()


def test_tradeoff_names_its_axes():
    ax = plot.tradeoff({"CE": [(np.ones(2), np.ones(2))]}, labels=("cross-entropy", "kd")).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("cross-entropy", "kd")


def test_tradeoff_refuses_losses_of_unequal_length():
    with pytest.raises(ValueError, match=r"as many task as distillation losses of 'CE'.* Got 2 and 3"):
        plot.tradeoff({"CE": [(np.ones(2), np.ones(3))]})
    with pytest.raises(ValueError, match="expected at least one path of 'CE'"):
        plot.tradeoff({"CE": []})


def test_cosine_line_is_the_mean_over_seeds_at_the_steps_all_have():
    a, b = conflict(0, steps=range(6)), conflict(1, steps=range(2, 10))
    ax = plot.cosine({"KD+DOT": [a, b]}).axes[0]
    drawn = ax.lines[1]
    np.testing.assert_array_equal(drawn.get_xdata(), [2, 3, 4, 5])
    np.testing.assert_allclose(drawn.get_ydata(), (a.cosine[2:] + b.cosine[:4]) / 2)
    np.testing.assert_allclose(
        band_edges(ax.collections[0]),
        [np.minimum(a.cosine[2:], b.cosine[:4]), np.maximum(a.cosine[2:], b.cosine[:4])],
    )
    assert ax.get_title(loc="left") == "KD+DOT: 2 seeds, 4 records"


def test_cosine_leaves_a_step_without_one_open():
    broken = conflict()
    broken.gram[3] = 0.0
    assert list(np.isnan(broken.cosine)) == [False, False, False, True, False, False]
    drawn = plot.cosine({"CE": [broken]}).axes[0].lines[1].get_ydata()
    np.testing.assert_array_equal(drawn, broken.cosine)


def test_cosine_methods_share_both_axes():
    figure = plot.cosine({name: [conflict(i)] for i, name in enumerate(METHODS)})
    assert len({ax.get_ylim() for ax in figure.axes}) == 1


def test_cosine_refuses_recordings_that_do_not_belong_together():
    other = conflict()
    other.terms = ("ce", "dkd")
    with pytest.raises(ValueError, match=r"one pair of terms. Got ce and dkd; ce and kd"):
        plot.cosine({"CE": [conflict(), other]})
    with pytest.raises(ValueError, match="steps that all recordings of 'CE' share"):
        plot.cosine({"CE": [conflict(steps=range(3)), conflict(steps=range(5, 8))]})
    with pytest.raises(ValueError, match="Got no recordings"):
        plot.cosine({})
    with pytest.raises(ValueError, match="expected at least one recording of 'KD'"):
        plot.cosine({"CE": [conflict()], "KD": []})


def test_layers_dots_and_bars_of_several_seeds():
    seeds = [conflict(0), conflict(1), conflict(2)]
    ax = plot.layers({"CE": seeds}).axes[0]
    per_seed = np.array([seed.layer_cosine.mean(axis=0) for seed in seeds])
    np.testing.assert_allclose(line(ax, "CE").get_xdata(), per_seed.mean(axis=0))
    bars = np.array(ax.collections[0].get_segments())[:, :, 0]
    np.testing.assert_allclose(bars, np.stack([per_seed.min(axis=0), per_seed.max(axis=0)], axis=1))


def test_layers_bars_of_one_seed_are_over_steps_without_those_that_have_no_cosine():
    one = conflict()
    one.gram[2, 1] = 0.0
    one.gram[:, 2, 0] = 0.0
    ax = plot.layers({"CE": [one]}).axes[0]
    known = np.delete(one.layer_cosine[:, 1], 2)
    dots = line(ax, "CE").get_xdata()
    assert dots[1] == pytest.approx(known.mean())
    assert np.isnan(dots[2])
    bar = ax.collections[0].get_segments()[1]
    np.testing.assert_allclose(bar[:, 0], np.quantile(known, (0.1, 0.9)))


def test_layers_first_layer_is_on_top():
    ax = plot.layers({"CE": [conflict()]}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["conv1", "layer1.0.conv1", "fc"]
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_layers_of_a_deep_network_fit_a_page_and_all_have_a_row():
    names = tuple(f"layer{i}" for i in range(107))
    with plot.style("paper"):
        figure = plot.layers({name: [conflict(i, layers=names)] for i, name in enumerate(METHODS)})
    ax = figure.axes[0]
    assert figure.get_figheight() < 9
    assert all(len(found.get_xdata()) == 107 for found in ax.lines if found.get_marker() != "None")
    shown = {label.get_text(): label.get_position()[1] for label in ax.get_yticklabels()}
    assert "layer106" in shown
    assert all(names[int(at)] == name for name, at in shown.items())
    figure.draw_without_rendering()
    boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 for a, b in pairwise(boxes))


def test_layers_refuse_networks_with_different_layers():
    with pytest.raises(ValueError, match=r"expected one list of layers. Got 2"):
        plot.layers({"CE": [conflict()], "KD": [conflict(layers=("fc",))]})
    with pytest.raises(ValueError, match="expected at least one recording of 'KD'"):
        plot.layers({"CE": [conflict()], "KD": []})


def test_a_stem_keeps_its_dots(tmp_path):
    paths = plot.save(plot.contour(plane(), term="ce"), tmp_path / "lr-0.05")
    assert [path.name for path in paths] == ["lr-0.05.pdf", "lr-0.05.svg", "lr-0.05.png"]


def test_global_state_is_left_alone():
    before = dict.copy(mpl.rcParams)
    every_figure()
    assert {key: dict.get(mpl.rcParams, key) for key in before} == before


def test_the_log_of_fonts_is_not_the_readers(tmp_path, caplog):
    caplog.set_level("INFO")
    plot.save(plot.contour(plane(), term="ce"), tmp_path / "figure.pdf")
    assert not caplog.records


def test_pyplot_is_not_imported():
    script = "import sys, landscape.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_methods_differ_in_luminance_and_not_only_in_colour():
    looks = list(_style.looks(METHODS).values())
    luminance = [np.dot(to_rgb(look.color), (0.2126, 0.7152, 0.0722)) for look in looks]
    assert min(np.diff(sorted(luminance))) > 0.1
    assert len({look.marker for look in looks}) == len({str(look.linestyle) for look in looks}) == 3


@pytest.mark.parametrize(
    ("normalize", "label"),
    [
        ("filter", "x (filter norms)"),
        ("layer", "x (layer norms)"),
        ("model", "x (norms of the weights)"),
        ("none", "x (lengths of the direction)"),
    ],
)
def test_coordinates_are_named_with_their_unit(normalize, label):
    assert _axis.coordinate_label("x", surface([1.0, 2.0], dims=("x",), normalize=normalize)) == label


@pytest.mark.parametrize(
    ("n_examples", "label"),
    [
        ([898, 898], "ce, mean over 898 examples"),
        ([{"ce": 7, "kd": 5}, 7], "ce, mean over 7 examples"),
        ([898, 900], "ce, mean over examples"),
    ],
)
def test_axes_say_how_many_examples_a_mean_is_over(n_examples: list[object], label: str) -> None:
    surfaces = {}
    for name, n in zip("AB", n_examples, strict=True):
        surfaces[name] = plane()
        surfaces[name].attrs["n_examples"] = n
    figure = plot.contour(surfaces, term="ce")
    assert label in [ax.get_xlabel() for ax in figure.axes]
