"""Figures of spectra, eigenvalues and sweeps: what is drawn is compared with the numbers that went in."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plot import METHODS, band_edges, line

from landscape import plot
from landscape.hessian import Density, Eigenpairs
from landscape.hessian.spectrum import Rules

HOSTILE = ("<script>", "學生 $x_1^{$", "n" * 200)


def density(center: float = 0.0, width: float = 0.1, size: int = 50, reach: float = 10.0) -> Density:
    """A Gaussian with a band of a tenth around it."""
    x = center + np.linspace(-reach, reach, 401) * width
    values = np.exp(-0.5 * ((x - center) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    rules = Rules(np.full((4, 1), center), np.ones((4, 1)))
    band = np.stack([np.maximum(0.9 * values - 1e-3, 0.0), 1.1 * values])
    return Density(x, values, band, rules, rules, width, size, 4, 0.0, 0.0, {"curvature": "ggn", "term": "ce"})


def eigenpairs(values, residuals=None, converged: bool = True, which="LA") -> Eigenpairs:
    values = np.asarray(values, dtype=np.float64)
    residuals = np.full(values.shape, 0.01) if residuals is None else np.asarray(residuals)
    return Eigenpairs(values, residuals, ({},) * len(values), 10, converged, which, "hessian")


def on_page(draw):
    with plot.style("paper"):
        return draw()


# Spectral density


def test_a_density_is_drawn_with_its_band_on_a_log_axis() -> None:
    one = density()
    figure = plot.density(one)
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.stack([one.x, one.density], axis=1))
    low, high = band_edges(ax.collections[0])
    np.testing.assert_allclose(high, one.band[1])
    np.testing.assert_allclose(low, one.band[0])
    assert (ax.get_yscale(), ax.get_xscale()) == ("log", "linear")
    assert "Spectral density of the ggn of ce; 50 eigenvalues, 4 probes, broadened by 0.1." in plot.caption(figure)


def test_the_axis_of_a_density_shows_a_single_eigenvalue() -> None:
    one = density(size=1000)
    bottom, top = plot.density(one).axes[0].get_ylim()
    assert bottom < one.density.max() / 1000, "the height of one of a thousand"
    assert bottom > one.density.min(), "and not the tails of what it was broadened by"
    assert top > one.band[1].max()


def test_densities_of_very_different_scales_share_an_axis() -> None:
    both = {"flat": density(width=1e-3), "sharp": density(width=1.0)}
    ax = plot.density(both).axes[0]
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim() == pytest.approx((-10.0, 10.0))
    for name, one in both.items():
        np.testing.assert_array_equal(line(ax, name).get_ydata(), one.density)
    assert line(ax, "flat").get_label() == "flat: broadened by 0.001"


# Eigenvalues


def stems(ax):
    return [[tuple(map(tuple, segment)) for segment in found.get_segments()] for found in ax.collections[::2]]


def whiskers(container):
    return np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])


def test_stems_reach_the_values_and_whiskers_the_residuals() -> None:
    values, residuals = [3.0, 2.0, -1.0], [0.5, 0.25, 0.125]
    figure = plot.eigenvalues(eigenpairs(values, residuals))
    ax = figure.axes[0]
    assert stems(ax) == [[((k, 0.0), (k, v)) for k, v in enumerate(values, 1)]]
    (drawn,) = ax.containers
    np.testing.assert_array_equal(drawn.lines[0].get_xydata(), np.stack([[1, 2, 3], values], axis=1))
    np.testing.assert_allclose(whiskers(drawn), [[v - r, v + r] for v, r in zip(values, residuals, strict=True)])
    assert ax.get_yscale() == "linear"
    assert ax.get_xlabel() == "number, from the largest"
    assert "The largest eigenvalues (hessian)." in plot.caption(figure)


def test_what_had_not_converged_is_hollow_and_said() -> None:
    figure = plot.eigenvalues({"a": eigenpairs([2.0]), "b": eigenpairs([1.0], converged=False)})
    a, b = (container.lines[0] for container in figure.axes[0].containers)
    assert a.get_markerfacecolor() == a.get_color()
    assert b.get_markerfacecolor() == "white"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b: not converged"]
    assert "Hollow: the search had not converged." in plot.caption(figure)
    assert "Hollow" not in plot.caption(plot.eigenvalues(eigenpairs([2.0])))


def test_several_stand_beside_each_other_and_wide_ones_keep_their_sign() -> None:
    found = {"large": eigenpairs([500.0, 2.0]), "small": eigenpairs([-30.0, -0.5, 0.0], which="SA")}
    ax = plot.eigenvalues(found).axes[0]
    assert ax.get_yscale() == "symlog"
    ends = [stem[1] for of_name in stems(ax) for stem in of_name]
    assert [y for _, y in ends] == [500.0, 2.0, -30.0, -0.5, 0.0]
    assert len({x for x, _ in ends}) == 5, "no stem hides another"
    bottom, top = ax.get_ylim()
    assert bottom < -30.0 < 500.0 < top
    assert ax.get_xlabel() == "number"


# Sweeps

VALUES = {0.01: [1.0, 3.0], 0.1: [5.0, 7.0], 1.0: [4.0, 10.0]}


def swept(values, **of):
    return plot.sweep(values, x_label="learning rate", y_label="accuracy", **of)


def test_a_sweep_is_the_mean_over_seeds_with_every_seed_as_a_dot() -> None:
    figure = swept({"CE": dict(reversed(VALUES.items())), "KD": {0.1: [2.0]}})
    ax = figure.axes[0]
    np.testing.assert_allclose(line(ax, "CE").get_xydata(), [[0.01, 2.0], [0.1, 6.0], [1.0, 7.0]])
    np.testing.assert_allclose(band_edges(ax.collections[0]), [[1.0, 5.0, 4.0], [3.0, 7.0, 10.0]])
    dots = {tuple(place) for place in ax.lines[1].get_xydata()}
    assert dots == {(x, y) for x, seeds in VALUES.items() for y in seeds}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CE: 2 seeds", "KD: 1 seed"]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel() or figure.get_supylabel()) == (
        "log",
        "learning rate",
        "accuracy",
    )
    assert line(swept({"CE": {1: [1.0], 2: [1.0, 2.0]}}).axes[0], "CE").get_label() == "CE: 1 to 2 seeds"


@pytest.mark.parametrize(("best", "at"), [("highest", (1.0, 7.0)), ("lowest", (0.01, 2.0))])
def test_the_best_is_a_mean_never_a_seed(best: str, at: tuple[float, float]) -> None:
    ax = swept({"CE": VALUES | {0.5: [nan, 100.0], 0.2: [inf, -100.0]}}, best=best).axes[0]
    (ring,) = [tuple(found.get_xydata()[0]) for found in ax.lines if found.get_markersize() == 11]
    assert ring == at
    assert not [found for found in swept({"CE": VALUES}).axes[0].lines if found.get_markersize() == 11]


def test_a_value_at_which_a_seed_diverged_has_a_cross_and_no_mean() -> None:
    ax = swept({"CE": VALUES | {10.0: [nan, 8.0]}}).axes[0]
    assert np.isnan(line(ax, "CE: 2").get_ydata()[-1])
    np.testing.assert_array_equal(line(ax, "CE: a seed is not finite").get_xdata(), [10.0])
    assert ax.get_ylim() == swept({"CE": VALUES | {10.0: [8.0]}}).axes[0].get_ylim(), "the cross is at no value"


def test_a_swept_axis_is_logarithmic_where_it_is_wide_or_asked_for() -> None:
    narrow = {"CE": {1.0: [1.0], 2.0: [1.0]}}
    assert swept(narrow).axes[0].get_xscale() == "linear"
    assert swept(narrow, log_x=True).axes[0].get_xscale() == "log"
    assert swept({"CE": VALUES}, log_x=False).axes[0].get_xscale() == "linear"
    assert swept({"CE": {0.0: [1.0], 100.0: [2.0]}}).axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match=r"log_x needs values above 0. Got 0. Leave log_x out."):
        swept({"CE": {0.0: [1.0], 100.0: [2.0]}}, log_x=True)


def test_sweeps_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 1 to 6 methods. Got 0"):
        swept({})
    with pytest.raises(ValueError, match=r"expected at least a value of 'CE'. Got none"):
        swept({"CE": {}})
    with pytest.raises(ValueError, match=r"expected at least a seed at 0.1 of 'CE'. Got none"):
        swept({"CE": {1.0: [1.0], 0.1: []}})
    with pytest.raises(ValueError, match=r"best must be 'highest' or 'lowest', or None for no mark. Got 'first'"):
        swept({"CE": VALUES}, best="first")


# All of them


def test_odd_ones_are_drawn(tmp_path) -> None:
    figures = [
        plot.density({HOSTILE[0]: density(), HOSTILE[1]: density(1e30, 1e25), HOSTILE[2]: density(0, 1e-30)}),
        plot.eigenvalues({HOSTILE[0]: eigenpairs([0.0]), HOSTILE[1]: eigenpairs([1e30]), HOSTILE[2]: eigenpairs([-1])}),
        swept({HOSTILE[0]: {1: [nan]}, HOSTILE[1]: {1: [1e30]}, HOSTILE[2]: {0.1: [-1e30, 0.0]}}, best="highest"),
    ]
    for i, figure in enumerate(figures):
        plot.save(figure, tmp_path / f"{i}.png")


def test_each_draws_on_the_axes_that_it_is_given_and_fits_a_page() -> None:
    draws = (
        lambda ax=None: plot.density({name: density(i) for i, name in enumerate(METHODS)}, ax=ax),
        lambda ax=None: plot.eigenvalues({name: eigenpairs([3.0, 2.0]) for name in METHODS}, ax=ax),
        lambda ax=None: swept(dict.fromkeys(METHODS, VALUES), ax=ax),
    )
    for draw in draws:
        figure = Figure()
        ax = figure.add_subplot()
        assert draw(ax) is figure
        assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == list(METHODS)
        page = on_page(draw)
        assert page.get_figwidth() == 3.25
        page.draw_without_rendering()
        box = page.get_tightbbox()
        assert box.x0 > -0.02
        assert box.x1 < 3.27
        assert page.axes[0].get_window_extent().height > 0.8 * page.dpi


def test_too_many_are_refused() -> None:
    for draw, one in ((plot.density, density()), (plot.eigenvalues, eigenpairs([1.0]))):
        with pytest.raises(ValueError, match=r"expected 1 to 6 methods. Got 7"):
            draw({str(i): one for i in range(7)})
        with pytest.raises(ValueError, match="Got 0"):
            draw({})
