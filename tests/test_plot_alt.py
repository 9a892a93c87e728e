"""Alternative texts say what is drawn: their numbers are those of the arrays that went in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plot import bundle, conflict, every_figure, plane, surface
from test_plot_conflicts import random
from test_plot_flatness import WIDTH, row, verdict
from test_plot_spectrum import density, eigenpairs

from landscape import plot
from landscape.conflict import from_gram
from landscape.directions import Directions
from landscape.plot import alt_text
from landscape.plot._canvas import canvas
from landscape.results import NOT_FINITE, PENDING


def test_a_line_is_said_with_its_ends_and_its_lowest_and_highest_point() -> None:
    said = alt_text(plot.curves({"CE": surface([4.0, 1.5, 9.25], dims=("x",))}, term="ce"))
    assert "x (filter norms) from -1 to 1" in said.lower()
    assert "CE: 1 direction, 1 seed: 4 at -1, 9.25 at 1; lowest 1.5 at 0, highest 9.25 at 1." in said


def test_the_scale_of_an_axis_is_said() -> None:
    assert "logarithmic" in alt_text(plot.curves(surface([1.0, 50.0], dims=("x",)), term="ce"))
    assert "logarithmic" not in alt_text(plot.curves(surface([1.0, 2.0], dims=("x",)), term="ce"))


def test_a_map_is_said_with_its_lowest_and_highest_cell() -> None:
    one, other = plane(0), plane(1)
    one.means["ce"][1, 2], one.means["ce"][4, 6] = 0.125, 77.0
    said = alt_text(plot.contour({"KD": one, "DOT": other}, term="ce"))
    assert f"KD: lowest 0.125 at ({one.x[2]:.3g}, {one.y[1]:.3g}), highest 77 at (1, 2)." in said
    low = np.unravel_index(other.values("ce").argmin(), (5, 7))
    assert f"DOT: lowest {other.values('ce').min():.3g} at ({other.x[low[1]]:.3g}, {other.y[low[0]]:.3g})" in said
    assert "2 panels (KD, DOT)" in said
    assert "ce, mean over examples from 0.125 to 77" in said


def test_cells_without_a_value_are_counted() -> None:
    one = plane()
    one.means["ce"][0, 0], one.status[0, 0] = np.inf, NOT_FINITE
    one.status[4, :] = PENDING
    assert "8 of 35 cells without a value" in alt_text(plot.contour(one, term="ce"))


def test_panels_without_a_legend_have_their_line_said() -> None:
    c = conflict()
    said = alt_text(plot.cosine({"KD+DOT": [c]}))
    assert f"{c.cosine[0]:.3g} at 0, {c.cosine[-1]:.3g} at 5" in said
    assert f"highest {c.cosine.max():.3g} at {c.cosine.argmax()}." in said


def test_rows_with_names_are_said_by_name() -> None:
    c = conflict()
    mean = c.layer_cosine.mean(axis=0)
    said = alt_text(plot.layers({"CE": [c]}))
    assert f"lowest {mean.min():.3g} in {c.layers[mean.argmin()]}" in said
    assert f"highest {mean.max():.3g} in {c.layers[mean.argmax()]}" in said
    assert "CE 1.8, KD 0.9." in alt_text(plot.flatness(verdict(row(), row(WIDTH))))


def test_cells_of_tables_are_said() -> None:
    c = random(k=3)
    said = alt_text(plot.cosines(c))
    assert f"kd, decay: {np.mean(c.cosines[:, 1, 2]):.2f}." in said
    assert "curvature, KD against CE: flatter 0.5 times." in alt_text(plot.verdicts(verdict(row())))


@pytest.mark.parametrize("name", ['<script>alert("1")</script>', "наука", "a" * 200])
def test_names_may_be_anything_and_the_text_stays_short(name: str) -> None:
    said = alt_text(plot.contour({name: plane(), "b": plane(1)}, term="ce"))
    assert (name if len(name) < 40 else "a" * 20) in said
    assert len(said) < 650


def test_many_panels_are_summed_up() -> None:
    rows = [row() for _ in range(12)]
    said = alt_text(plot.flatness(verdict(*rows)))
    assert "12 panels" in said
    assert len(said) < 650


def test_no_figure_is_without_a_text_and_none_is_long() -> None:
    for name, figure in every_figure().items():
        assert 40 < len(alt_text(figure)) < 650, name
    assert alt_text(Figure()) == "An empty figure."
    empty = Figure()
    empty.add_subplot().plot([0, 1], [np.nan, np.nan], label="nothing")
    assert "nothing: no values." in alt_text(empty)
    assert "4 directions" in alt_text(plot.curves(bundle(), term="ce"))


def test_a_surface_in_3_d_is_said_with_its_range_in_numbers_not_in_logarithms() -> None:
    one = plane(0, 0.02, 90.0)
    one.means["ce"].flat[:2] = 0.01, 100.0
    said = alt_text(plot.relief({"KD": one, "DOT": one}, term="ce"))
    assert "Surface in 3-D in 2 panels (KD, DOT)" in said
    assert "(filter norms) from -1 to 1" in said
    assert "logarithmic" in said
    low, high = map(float, said.split("examples from ")[1].split(",")[0].split(" to "))
    assert 0.01 <= low < high <= 100.0


def test_a_surface_in_3_d_is_said_with_its_lowest_and_highest_cell_and_where_they_are() -> None:
    one, other = plane(), plane(1)
    one.means["ce"][:] = 100.0
    one.means["ce"][1, 2], one.means["ce"][4, 6] = 84.0, 1.56e40
    one.means["ce"][0, 0], one.status[0, 0] = np.inf, NOT_FINITE
    said = alt_text(plot.relief({"KD": one, "DOT": other}, term="ce", log=True))
    where = f"({one.x[2]:.3g}, {one.y[1]:.3g})"
    assert f"KD: lowest 84 at {where}, highest 1.56e+40 at (1, 2); 1 of 35 cells without a value." in said
    assert f"DOT: lowest {other.values('ce').min():.3g} at " in said
    alone = alt_text(plot.relief(one, term="ce"))
    assert "colour is ce, mean over examples from 84 to 1.56e+40, logarithmic" in alone


def test_axes_of_a_map_run_over_its_cells_and_not_over_their_borders() -> None:
    one = plane()
    one.x = np.array([-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 1.0])  # of which no cell lies amid its borders
    one.means["ce"][2, 5] = 0.5
    figures = [plot.contour(one, term="ce"), plot.difference(one, replace(plane(1), x=one.x), term="ce")]
    for figure in [*figures, plot.error(one, term="ce")]:
        assert "X (filter norms) from -1 to 1; y (filter norms) from -2 to 2" in alt_text(figure)
    assert "lowest 0.5 at (0.4, 0)" in alt_text(figures[0])


def test_an_axis_of_one_cell_is_at_a_place() -> None:
    assert "y (filter norms) at -2;" in alt_text(plot.contour(surface([[2.0, 3.0]], dims=("y", "x")), term="ce"))


def test_axes_of_a_trajectory_run_as_far_as_its_path() -> None:
    path = np.array([[0.0, 0.0], [1.0, 0.5], [3.0, -4.0]])
    one = replace(
        plane(), directions=Directions(({}, {}), "none", "none", kind="trajectory", points={"trajectory": path})
    )
    said = alt_text(plot.trajectory(one, term="ce"))
    assert "from -1 to 3" in said
    assert "from -4 to 2" in said


def test_names_that_begin_with_an_underscore_are_shown() -> None:
    name = "_under"
    lines = replace(surface([1.0, np.nan, 2.0], dims=("x",)), x=np.array([0.0, 0.5, 1.0]))
    figures = {
        "curves": plot.curves({name: bundle()}, term="ce"),
        "connectivity": plot.connectivity({name: lines}, term="ce"),
        "sweep": plot.sweep({name: {1.0: [2.0], 2.0: [np.nan]}}, x_label="x", y_label="y"),
        "layers": plot.layers({name: [conflict()]}),
        "density": plot.density({name: density()}),
        "eigenvalues": plot.eigenvalues({name: eigenpairs([2.0, 1.0]), "b": eigenpairs([1.0])}),
        "tradeoff": plot.tradeoff({name: [(np.arange(1.0, 4.0), np.arange(2.0, 5.0))]}),
    }
    for kind, figure in figures.items():
        figure.canvas.draw()
        texts = [text.get_text().strip() for text in figure.legends[0].get_texts()]
        assert any(text.startswith(name) for text in texts), kind
        assert name in alt_text(figure), kind
    missing = [text.get_text() for text in figures["connectivity"].legends[0].get_texts()]
    assert any("pending" in text for text in missing)
    terms = plot.inconsistency({"a": [from_gram((name, "kd"), [0, 1], ("fc",), np.ones((2, 1, 2, 2)))]})
    assert [text.get_text().strip() for text in terms.legends[0].get_texts()] == [f"{name} gradient", "kd gradient"]


def test_a_legend_without_an_entry_is_none() -> None:
    on = canvas(None, size=(4.0, 3.0))
    on.legend()
    assert not on.figure.legends


def test_a_place_at_zero_is_zero() -> None:
    one = plane()
    one.x = one.x + 1e-17
    one.means["ce"][2, 3] = 0.5
    assert "lowest 0.5 at (0, 0)" in alt_text(plot.contour(one, term="ce"))
