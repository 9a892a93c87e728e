"""Figures of planes and paths: what is drawn is compared with the arrays that went in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import SymLogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from test_plot import METHODS, band_edges, bundle, line, plane, surface

from landscape import plot
from landscape.directions import Directions
from landscape.plot._cells import UNKNOWN, edges
from landscape.plot._names import short
from landscape.results import NOT_FINITE, PENDING, Sampled

HOSTILE = ('<script>alert("x")</script>', "學生 $x_1^{$", "n" * 200)


def holed(*cells: tuple[int, int], of=None):
    """A plane with cells that are not finite."""
    one = plane() if of is None else of
    for i, cell in enumerate(cells):
        one.means["ce"][cell] = (np.nan, np.inf)[i % 2]
        one.status[cell] = NOT_FINITE
    return one


def polygons(ax) -> np.ndarray:
    """Corners of the faces that a 3-D panel draws, ``[n, 4, 3]``."""
    (found,) = [artist for artist in ax.collections if isinstance(artist, Poly3DCollection)]
    return np.array([np.asarray(face) for face in found._faces])


def heights(ax) -> dict[tuple[float, float], float]:
    return {(round(x, 9), round(y, 9)): z for x, y, z in polygons(ax).reshape(-1, 3)}


# Filled surfaces in 3-D


def test_a_relief_is_as_high_as_the_values_on_a_grid_that_is_not_square() -> None:
    one = plane(shape=(3, 7))
    figure = plot.relief(one, term="ce")
    found = heights(figure.axes[0])
    expected = {
        (round(x, 9), round(y, 9)): one.values("ce")[i, j] for i, y in enumerate(one.y) for j, x in enumerate(one.x)
    }
    assert found == pytest.approx(expected)
    assert len(polygons(figure.axes[0])) == 2 * 6


def test_reliefs_share_their_heights_and_their_colours() -> None:
    figure = plot.relief({"a": plane(0, 1.0, 2.0), "b": plane(1, 1.5, 4.0)}, term="ce")
    a, b, bar = figure.axes
    assert a.get_zlim() == b.get_zlim()
    both = np.concatenate([plane(0, 1.0, 2.0).values("ce").ravel(), plane(1, 1.5, 4.0).values("ce").ravel()])
    assert bar.get_ylim() == pytest.approx((both.min(), both.max()))
    assert a.get_zlim()[1] == pytest.approx(both.max())
    assert a.get_zlim()[0] < both.min(), "the floor lies under all of it"


def test_a_wide_relief_is_drawn_in_logarithms_and_its_ticks_say_values() -> None:
    one = plane(low=0.02, high=8.0)
    figure = plot.relief(one, term="ce")
    assert sorted(heights(figure.axes[0]).values()) == pytest.approx(np.sort(np.log10(one.values("ce").ravel())))
    for axis in (figure.axes[0].zaxis, figure.axes[1].yaxis):
        labels = [float(label.get_text()) for label in axis.get_ticklabels()]
        assert labels
        np.testing.assert_allclose(np.log10(labels), axis.get_ticklocs(), atol=1e-12)
    flat = plot.relief(one, term="ce", log=False)
    assert sorted(heights(flat.axes[0]).values()) == pytest.approx(np.sort(one.values("ce").ravel()))
    with pytest.raises(ValueError, match=r"log needs values of 'ce' above 0. Got -1"):
        plot.relief(plane(low=-1.0, high=-1.0), term="ce", log=True)


def test_a_relief_has_a_hole_where_a_cell_is_missing_and_says_so() -> None:
    broken = holed((2, 3))
    broken.status[0, 0] = PENDING
    figure = plot.relief(broken, term="ce")
    found = polygons(figure.axes[0])
    assert len(found) == 4 * 6 - 4 - 1, "four faces have the one as a corner, one the other"
    assert np.isfinite(found).all()
    assert "Holes: 2 cells pending or not finite." in plot.caption(figure)
    assert "Holes" not in plot.caption(plot.relief(plane(), term="ce"))


def test_a_finite_cell_without_a_face_is_a_dot() -> None:
    one = holed(*[(1, j) for j in range(3)], (0, 1), of=plane(shape=(4, 3)))
    ax = plot.relief(one, term="ce").axes[0]
    dots = np.array(ax.collections[1]._offsets3d)
    np.testing.assert_allclose(dots, [one.x[[0, 2]], [one.y[0]] * 2, one.values("ce")[0, [0, 2]]])
    assert len(polygons(ax)) == 2


def test_a_relief_of_one_cell_of_one_value_and_of_huge_ones(tmp_path) -> None:
    single = replace(plane(shape=(1, 1)), x=np.array([0.5]), y=np.array([2.0]))
    dots = np.array(plot.relief(single, term="ce").axes[0].collections[0]._offsets3d)
    np.testing.assert_allclose(dots.ravel(), [0.5, 2.0, single.values("ce")[0, 0]])
    for one in (single, surface(np.ones((3, 3)), dims=("y", "x")), plane(low=1e-200, high=1e200)):
        plot.save(plot.relief(dict.fromkeys(HOSTILE, one), term="ce"), tmp_path / "odd.png")


def test_a_relief_takes_3_d_axes_alone() -> None:
    figure = Figure()
    given = figure.add_subplot(projection="3d")
    assert plot.relief(plane(), term="ce", ax=given) is figure
    assert len(polygons(given)) == 24
    with pytest.raises(ValueError, match=r"ax must be 3-D axes, of figure.add_subplot.*Got flat ones"):
        plot.relief(plane(), term="ce", ax=Figure().add_subplot())
    with pytest.raises(ValueError, match="expected planes"):
        plot.relief(bundle(), term="ce")


def test_a_relief_of_51_by_51_cells_is_a_small_file(tmp_path) -> None:
    one = plane(low=0.95, high=1.05, shape=(51, 51))
    one.means["ce"] *= np.exp(2 * one.x**2 + one.y[:, None] ** 2)  # a bowl that is rough
    (path,) = plot.save(plot.relief(one, term="ce"), tmp_path / "relief.pdf")
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("n", range(1, 7))
def test_one_to_six_reliefs(n: int) -> None:
    figure = plot.relief({str(i): plane(i) for i in range(n)}, term="ce")
    assert [ax.get_title() for ax in figure.axes[:n]] == [str(i) for i in range(n)]
    assert all(isinstance(ax, Axes3D) for ax in figure.axes[:n])


# One plane less another


def notes(ax):
    """Texts beside places, each with its place and where its arrow begins."""
    return [(text.get_text(), (tuple(text.xy), tuple(text.xyann))) for text in ax.texts if isinstance(text, Annotation)]


def exact(values, half=0.0):
    """A plane whose 95 % interval reaches ``half`` to both sides."""
    one = surface(values, dims=("y", "x"))
    one.sems["ce"] = np.full(one.status.shape, half / 1.96)
    return one


def drawn(figure) -> np.ndarray:
    return np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)


def boxes(collection) -> set[tuple[float, float]]:
    """Middles of hatched cells."""
    return {tuple(np.round(path.get_extents().get_points().mean(axis=0), 9)) for path in collection.get_paths()}


def test_a_difference_is_the_first_less_the_second_with_zero_in_the_middle_of_the_colours() -> None:
    a, b = plane(0), plane(1)
    figure = plot.difference(a, b, term="ce", names=("KD", "CE"))
    np.testing.assert_array_equal(drawn(figure), a.values("ce") - b.values("ce"))
    mesh = figure.axes[0].collections[0]
    assert mesh.norm(0.0) == pytest.approx(0.5)
    assert mesh.norm.vmax == pytest.approx(np.abs(a.values("ce") - b.values("ce")).max())
    red, _, blue = mesh.cmap(1.0)[:3]
    assert red > 2 * blue, "where the first is higher"
    assert figure.axes[1].get_ylabel() == "ce: KD minus CE"


def contours(figure):
    return [artist for artist in figure.axes[0].collections if hasattr(artist, "levels")]


def test_signs_show_without_colours() -> None:
    ramp = np.linspace(-3.3, 3.3, 9) * np.ones((5, 1))
    above, below, zero = contours(plot.difference(exact(ramp), exact(np.zeros((5, 9))), term="ce"))
    assert all(level > 0 for level in above.levels)
    assert all(level < 0 for level in below.levels)
    np.testing.assert_allclose(above.levels, -below.levels[::-1])
    assert (zero.levels == 0).all()
    assert above.linestyles == "solid"
    assert below.linestyles == "dashed"
    assert zero.get_linewidths()[0] >= 2 * above.get_linewidths()[0]


def test_cells_within_the_error_of_both_are_dotted() -> None:
    values = np.array([[0.0, 0.49, 0.51], [-0.49, -0.51, 3.0]])
    a, b = exact(values, 0.3), exact(np.zeros((2, 3)), 0.4)  # together 0.5
    figure = plot.difference(a, b, term="ce", names=("A", "B"))
    within = figure.axes[0].collections[1]
    assert boxes(within) == {(-1.0, -2.0), (0.0, -2.0), (-1.0, 2.0)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A higher", "B higher", "within the error"]
    assert "Dotted: 50 % of the cells, whose difference lies within its error (95 %)." in plot.caption(figure)
    sampled = replace(a, sampled=Sampled(np.full((2, 3), 7), a.sems, {"ce": np.full((2, 3), 0.3)}, a.sems))
    sampled.attrs.update({"goal": {"rel_error": 0.02, "abs_error": {}}, "population": 70})
    assert boxes(plot.difference(sampled, b, term="ce").axes[0].collections[1]) == boxes(within)
    b.sems["ce"][:] = np.nan
    assert len(boxes(plot.difference(a, b, term="ce").axes[0].collections[1])) == 6, "an unknown error"


def test_a_wide_difference_is_logarithmic_on_both_sides_of_what_is_told_apart() -> None:
    values = np.array([[-200.0, -2.0, 0.0], [1.0, 20.0, 500.0]])
    figure = plot.difference(exact(values, 0.5), exact(np.zeros((2, 3))), term="ce")
    norm = figure.axes[0].collections[0].norm
    assert isinstance(norm, SymLogNorm)
    assert norm(0.0) == pytest.approx(0.5)
    assert norm.linthresh == 1.0
    assert norm.vmax == -norm.vmin == 500.0
    assert set(contours(figure)[0].levels) == {2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0}


def test_cells_that_either_lacks_are_marked_as_missing() -> None:
    a, b = holed((0, 0)), plane(1)
    b.status[4, :] = PENDING
    figure = plot.difference(a, b, term="ce")
    missing = np.zeros((5, 7), dtype=bool)
    missing[0, 0] = missing[4, :] = True
    np.testing.assert_array_equal(np.isnan(drawn(figure)), missing)
    pending, not_finite = figure.axes[0].collections[2:4]
    assert boxes(pending) == {(round(x, 9), 2.0) for x in a.x}
    assert boxes(not_finite) == {(-1.0, -2.0)}
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["pending", "not finite"]
    given = Figure().add_subplot()
    plot.difference(a, b, term="ce", ax=given)
    assert [text.get_text() for text in given.get_legend().get_texts()][-2:] == ["pending", "not finite"]


def test_a_difference_says_in_what_the_grids_differ() -> None:
    a = plane()
    with pytest.raises(ValueError, match=r"Got x from -1 to 1 in 7 points for 'A' and .* in 9 points for 'B'"):
        plot.difference(a, plane(shape=(5, 9)), term="ce")
    with pytest.raises(ValueError, match=r"Got y from -2 to 2 in 5 points for 'A' and from 0 to 4 in 5 points for 'B'"):
        plot.difference(a, replace(a, y=a.y + 2), term="ce")
    with pytest.raises(ValueError, match=r"Got filter norms for 'A' and layer norms for 'B'"):
        plot.difference(a, replace(a, attrs={"normalize": "layer"}), term="ce")
    with pytest.raises(ValueError, match=r"names must be two different ones. Got 'x' twice"):
        plot.difference(a, a, term="ce", names=("x", "x"))
    with pytest.raises(ValueError, match="expected planes"):
        plot.difference(a, bundle(), term="ce")
    empty = plane()
    empty.status[:] = PENDING
    with pytest.raises(ValueError, match=r"a cell in which 'ce' of both is finite. Got none"):
        plot.difference(a, empty, term="ce")


def test_differences_of_nothing_of_one_cell_and_of_huge_values(tmp_path) -> None:
    single = replace(plane(shape=(1, 1)), x=np.array([0.5]), y=np.array([2.0]))
    figure = plot.difference(single, replace(single, means={"ce": single.values("ce") + 1}), term="ce")
    assert drawn(figure) == pytest.approx(-1.0)
    same = plane()
    for a, b in ((single, single), (same, same), (plane(low=1e-200, high=1e200), same)):
        plot.save(plot.difference(a, b, term="ce", names=HOSTILE[1:]), tmp_path / "odd.png")


# The way of a training run

PATH = np.array([[-0.9, 1.8], [-0.4, 1.0], [-0.35, 0.9], [0.0, 0.0]])


def run_plane(path=PATH, explained=(0.8, 0.15), **more):
    points = {"trajectory": np.asarray(path, dtype=float)}
    made = Directions(({}, {}), "none", "none", kind="trajectory", points=points, explained=explained)
    return replace(plane(normalize="none"), directions=made, **more) if more else replace(plane(), directions=made)


def test_a_trajectory_is_where_the_checkpoints_are_and_says_the_variance() -> None:
    one = run_plane()
    figure = plot.trajectory(one, term="ce")
    ax = figure.axes[0]
    np.testing.assert_array_equal(drawn(figure), one.values("ce"))
    paths = [found.get_xydata() for found in ax.lines if len(found.get_xdata()) == 4]
    assert paths
    for found in paths:
        np.testing.assert_array_equal(found, PATH)
    start, end = (found.get_xydata()[0] for found in ax.lines[-2:])
    np.testing.assert_array_equal(start, PATH[0])
    np.testing.assert_array_equal(end, PATH[-1])
    assert ax.get_xlabel() == "component 1 (80 % of the variance)"
    assert ax.get_ylabel() == "component 2 (15 % of the variance)"
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["start", "end"]
    assert "4 checkpoints" in plot.caption(figure)


def test_epochs_are_written_where_there_is_room() -> None:
    ax = plot.trajectory(run_plane(), term="ce", epochs=[0, 10, 11, 30]).axes[0]
    assert {text: at for text, (at, _) in notes(ax)} == {"0": (-0.9, 1.8), "10": (-0.4, 1.0), "30": (0.0, 0.0)}, (
        "11 would lie on 10"
    )
    with pytest.raises(ValueError, match=r"epochs must be one for each checkpoint. Got 2 for the 4"):
        plot.trajectory(run_plane(), term="ce", epochs=[0, 1])
    two = {"a": run_plane(), "b": run_plane(PATH[:2])}
    figure = plot.trajectory(two, term="ce", epochs={"b": [5, 7]})
    assert [[text for text, _ in notes(ax)] for ax in figure.axes[:2]] == [[], ["7", "5"]]
    with pytest.raises(ValueError, match=r"epochs must be of a surface, one of a, b. Got 'c'"):
        plot.trajectory(two, term="ce", epochs={"c": [1]})


def test_the_axes_reach_as_far_as_the_path() -> None:
    inside = plot.trajectory(run_plane([[0.0, 0.0], [0.1, 0.1]]), term="ce").axes[0]
    x, y = plane().x, plane().y
    np.testing.assert_allclose(inside.get_xlim(), edges(x)[[0, -1]])
    np.testing.assert_allclose(inside.get_ylim(), edges(y)[[0, -1]])
    beyond = plot.trajectory(run_plane([[-3.0, 0.0], [0.0, 0.0]]), term="ce").axes[0]
    assert beyond.get_xlim()[0] < -3.0
    np.testing.assert_allclose(beyond.get_ylim(), edges(y)[[0, -1]])


def test_a_plane_without_a_path_is_no_trajectory(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"places of its checkpoints. Got one without places. Measure it along"):
        plot.trajectory(plane(), term="ce")
    other = replace(plane(), directions=Directions(({}, {}), "none", "none", points={"a": np.zeros((1, 2))}))
    with pytest.raises(ValueError, match=r"of a training run, 'x', .* Got one of a"):
        plot.trajectory({"x": other}, term="ce")
    for path in ([[np.nan, np.nan]] * 2, [[0.0, 0.0]], [[0.0, 0.0], [np.nan, 1.0], [1e9, -1e9]]):
        figure = plot.trajectory({HOSTILE[0]: run_plane(path, ())}, term="ce", epochs=range(len(path)))
        assert figure.axes[0].get_xlabel() == "x (filter norms)"
        plot.save(figure, tmp_path / "odd.png")


# Paths between two networks


def between(values, half=0.1, x=None, path=True):
    one = surface(values, dims=("x",), normalize="none")
    one.sems["ce"] = np.full(one.status.shape, half / 1.96)
    x = np.linspace(0, 1, len(values)) if x is None else np.asarray(x)
    return replace(one, x=x, path=np.stack([x, x], axis=1) if path else None)


def arrows(ax):
    return [ends for _, ends in notes(ax)]


def test_a_path_is_its_means_with_their_band_and_its_barrier_stands_on_the_chord() -> None:
    one = between([1.0, 4.0, 4.0, 3.0, 3.0])  # over the chord 1, 1.5, 2, 2.5, 3
    figure = plot.connectivity({"curve": one}, term="ce")
    ax = figure.axes[0]
    np.testing.assert_array_equal(line(ax, "curve").get_xydata(), np.stack([one.x, one.values("ce")], axis=1))
    low, high = band_edges(ax.collections[0])
    np.testing.assert_allclose([low, high], [one.values("ce") - 0.1, one.values("ce") + 0.1])
    assert arrows(ax) == [((0.25, 4.0), (0.25, 1.5))]
    assert line(ax, "curve").get_label() == "curve: barrier 2.5"
    assert "curve: barrier 2.5." in plot.caption(figure)


def test_a_straight_line_is_between_the_networks_from_0_to_1() -> None:
    line_ = between([9.0, 2.0, 2.5, 2.0, 9.0], x=[-0.5, 0.0, 0.5, 1.0, 1.5], path=False)
    figure = plot.connectivity({"line": line_, "curve": between([2.0, 1.0, 2.0])}, term="ce")
    assert arrows(figure.axes[0]) == [((0.5, 2.5), (0.5, 2.0))]
    assert "Along the paths: line: barrier 0.5; curve: no barrier." in plot.caption(figure)


def test_no_barrier_is_claimed_where_the_networks_are_not_on_the_grid() -> None:
    x = np.linspace(-0.5, 1.5, 51)
    assert not np.isclose(x, 0.0).any()
    figure = plot.connectivity(between(2.0 - 2.0 * x**2, x=x, path=False), term="ce")
    assert "barrier not known (0 and 1 are not on the grid)" in plot.caption(figure)
    assert not arrows(figure.axes[0])
    on_it = np.linspace(-0.3, 1.2, 16)  # rounding leaves 0 at 5e-17
    of_rounding = plot.connectivity(between(4.0 * on_it * (1.0 - on_it) + 1.0, x=on_it, path=False), term="ce")
    assert 0.0 not in on_it
    assert "barrier 1." in plot.caption(of_rounding)


@pytest.mark.parametrize(("kind", "claimed"), [("interpolation", True), ("random", False), ("gradient", False)])
def test_a_barrier_is_one_between_two_networks(kind: str, claimed: bool) -> None:
    line_ = between([2.0, 5.0, 2.0], path=False)
    known = replace(line_, directions=Directions(({},), normalize="none", ignore="none", kind=kind))
    figure = plot.connectivity(known, term="ce")
    assert ("barrier 3." in plot.caption(figure)) == claimed
    assert ("barrier not known (the line is no interpolation of two networks)" in plot.caption(figure)) != claimed
    assert (figure.axes[0].get_xlabel() == "position between the networks") == claimed
    assert len(arrows(figure.axes[0])) == claimed


def test_a_point_of_a_path_between_missing_ones_has_a_marker() -> None:
    values = np.ones(60)
    values[[6, 8]] = np.nan
    found = line(plot.connectivity(between(values), term="ce").axes[0], "no barrier")
    assert found.get_marker() not in ("", "None")
    assert 7 in np.arange(60)[:: found.get_markevery()]


def test_what_is_missing_of_a_path_is_said() -> None:
    values = np.array([1.0, np.inf, 3.0, 1.0])
    figure = plot.connectivity({"a": between(values), "b": between([np.nan, 5.0, 1.0, 1.0])}, term="ce")
    ax = figure.axes[0]
    assert line(ax, "a").get_label() == "a: barrier of at least 2"
    np.testing.assert_array_equal(line(ax, "a: pending").get_xdata(), between(values).x[[1]])
    assert line(ax, "b").get_label() == "b: barrier not known (an end is missing)"
    assert len(arrows(ax)) == 1
    whole = plot.connectivity({"a": between([1.0, 3.0, 3.0, 1.0]), "b": between([1.0, 5.0, 1.0, 1.0])}, term="ce")
    assert ax.get_ylim() == whole.axes[0].get_ylim(), "a cross is at no value"
    unseen = plot.connectivity(between([1.0, np.nan, 1.0]), term="ce")
    assert line(unseen.axes[0], "no").get_label() == "no barrier seen"


def test_paths_with_a_wide_range_are_logarithmic() -> None:
    assert plot.connectivity(between([1.0, 50.0, 1.0]), term="ce").axes[0].get_yscale() == "log"
    assert plot.connectivity(between([0.0, 50.0, 1.0]), term="ce").axes[0].get_yscale() == "linear"


def test_what_is_no_single_path_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"expected single paths or lines. Got dims \('direction', 'x'\) for 'b'"):
        plot.connectivity({"b": bundle()}, term="ce")
    with pytest.raises(ValueError, match=r"one of ce. Got 'kd'"):
        plot.connectivity(between([1.0, 2.0]), term="kd")
    with pytest.raises(ValueError, match=r"expected 1 to 6 methods. Got 7"):
        plot.connectivity({str(i): between([1.0, 2.0]) for i in range(7)}, term="ce")
    odd = [between([np.nan] * 3), between([1e300, 1e-300, 1.0]), between([0.0, 0.0])]
    plot.save(plot.connectivity(dict(zip(HOSTILE, odd, strict=True)), term="ce"), tmp_path / "odd.png")


# What they share


def test_edges_lie_halfway_and_a_single_cell_has_a_size() -> None:
    np.testing.assert_allclose(edges(np.array([0.0, 1.0, 4.0])), [-0.5, 0.5, 2.5, 5.5])
    np.testing.assert_array_equal(edges(np.array([3.0])), [2.5, 3.5])
    assert to_rgb(UNKNOWN.face) == (1.0, 1.0, 1.0)


def test_long_names_keep_both_ends() -> None:
    assert short("a name") == "a name"
    found = short("start" + "x" * 200 + "end")
    assert len(found) == 28
    assert found.startswith("startx")
    assert found.endswith("xend")


def every_figure():
    paths = {name: between([1.0, 2.0, 1.5]) for name in METHODS}
    return {
        "relief": plot.relief({name: plane(i) for i, name in enumerate(METHODS)}, term="ce"),
        "difference": plot.difference(plane(0), plane(1), term="ce"),
        "trajectory": plot.trajectory(run_plane(), term="ce"),
        "connectivity": plot.connectivity(paths, term="ce"),
    }


@pytest.mark.parametrize("columns", [1, 2])
def test_each_has_a_caption_and_the_width_of_a_page(columns: int) -> None:
    with plot.style("paper", columns=columns):
        figures = every_figure()
    for figure in figures.values():
        assert figure.get_figwidth() == {1: 3.25, 2: 6.75}[columns]
        assert figure.get_supxlabel() == "", "the page has its own caption"
        assert plot.caption(figure).endswith(".")
