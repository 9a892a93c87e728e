"""The figures of surfaces, gradients and spectra on a page, in a browser, and on a caller's axes: all can be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from test_plot import METHODS, conflict, plane
from test_plot_gradients import scaled
from test_plot_paper import check_layout
from test_plot_spectrum import VALUES, density, eigenpairs, swept
from test_plot_surfaces import between, holed, run_plane

from landscape import plot
from landscape.plot._save import render

LONG = "a method with a name that is much longer than anyone would like to read"
FOUR = (*METHODS, LONG)


def far(seed: int):
    return plane(seed, 0.02, 90.0, (13, 13))


LAYERS = tuple(f"features.block{i}.conv" for i in range(30))
KINDS: dict[str, tuple[int, Callable[..., Figure]]] = {
    "difference": (1, lambda ax: plot.difference(far(0), far(1), term="ce", names=("KD+DOT", LONG), ax=ax)),
    "difference with gaps": (1, lambda ax: plot.difference(holed((0, 0)), plane(1), term="ce", ax=ax)),
    "trajectory": (1, lambda ax: plot.trajectory(run_plane(), term="ce", epochs=[0, 10, 11, 30], ax=ax)),
    "trajectories": (3, lambda ax: plot.trajectory(dict.fromkeys(METHODS, run_plane()), term="ce", ax=ax)),
    "connectivity": (1, lambda ax: plot.connectivity({n: between([1, 4, np.nan, 2]) for n in FOUR}, term="ce", ax=ax)),
    "heatmap": (3, lambda ax: plot.heatmap({n: conflict(i) for i, n in enumerate(METHODS)}, ax=ax)),
    "heatmap of many layers": (1, lambda ax: plot.heatmap(conflict(layers=LAYERS), ax=ax)),
    "decomposition": (
        3,
        lambda ax: plot.decomposition({n: [scaled(i)[0], scaled(i, 100.0)[0]] for i, n in enumerate(METHODS)}, ax=ax),
    ),
    "density": (1, lambda ax: plot.density({n: density(i) for i, n in enumerate(FOUR)}, ax=ax)),
    "densities far apart": (1, lambda ax: plot.density({"a": density(width=1e-3), "b": density(width=1.0)}, ax=ax)),
    "eigenvalues": (
        1,
        lambda ax: plot.eigenvalues({n: eigenpairs([300, 2, -40], converged=n != LONG) for n in FOUR}, ax=ax),
    ),
    "sweep": (1, lambda ax: swept({n: VALUES | {3.0: [np.nan]} for n in FOUR}, best="highest", ax=ax)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("columns", [1, 2])
def test_a_figure_fits_a_journal(kind: str, columns: int) -> None:
    with plot.style("paper", columns=columns):
        figure = KINDS[kind][1](None)
        check_layout(figure, 6.5)
    assert figure.get_figwidth() == {1: 3.25, 2: 6.75}[columns]
    assert figure.get_figheight() < 9
    assert figure.get_supxlabel() == "", "the page has its own caption"


@every_kind
def test_a_figure_fits_a_web_page(kind: str) -> None:
    check_layout(KINDS[kind][1](None), 8.0)


@every_kind
def test_a_figure_is_drawn_on_a_callers_axes(kind: str) -> None:
    n, draw = KINDS[kind]
    whole = Figure(figsize=(6.0 * n, 7.0), layout="constrained")
    given = whole.subplots(1, n)
    assert draw(given) is whole
    assert not whole.legends
    assert whole.get_supxlabel() == ""
    assert all(ax.has_data() for ax in np.ravel(given))
    check_layout(whole, 8.0)
    assert plot.caption(whole) == plot.caption(draw(None))


@every_kind
def test_other_than_one_axes_for_each_panel_are_refused(kind: str) -> None:
    n, draw = KINDS[kind]
    with pytest.raises(ValueError, match=rf"ax must be {n} panels?, .* Got {n + 1}"):
        draw(Figure().subplots(1, n + 1))


@every_kind
def test_the_same_input_gives_the_same_bytes(kind: str) -> None:
    with plot.style("paper"):
        assert render(KINDS[kind][1](None), "svg") == render(KINDS[kind][1](None), "svg")


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("columns", [0, 1, 2])
def test_the_names_of_a_relief_are_inside_and_none_lies_on_another_panel(n: int, columns: int) -> None:
    planes = {name: far(i) for i, name in enumerate(METHODS[:n])}
    if columns:
        with plot.style("paper", columns=columns):
            figure = plot.relief(planes, term="ce")
            figure.draw_without_rendering()
    else:
        figure = plot.relief(planes, term="ce")
        figure.draw_without_rendering()
    panels = [ax for ax in figure.axes if isinstance(ax, Axes3D)]
    assert len(panels) == n
    boxes = []
    for ax in panels:
        axes = (ax.xaxis, ax.yaxis, ax.zaxis)
        named = [ax.title, *(axis.label for axis in axes), *(tick.label1 for axis in axes for tick in axis.majorTicks)]
        found = [text.get_window_extent() for text in named if text.get_text()]
        boxes.append(found)
        for box in found:
            assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for i, of_panel in enumerate(boxes):
        others = [box for of_other in boxes[i + 1 :] for box in of_other]
        assert not any(box.overlaps(other) for box in of_panel for other in others)
