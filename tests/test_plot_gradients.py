"""Figures of gradients layer by layer and part by part: compared with the recordings that went in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plot import METHODS, band_edges, conflict

from landscape import plot
from landscape.conflict import from_gram

HOSTILE = ("<script>", "{0}", "學生 $x_1^{$", "n" * 200)


def meshes(figure):
    return [ax.collections[0] for ax in figure.axes if ax.get_label() != "<colorbar>"]


def cells(mesh) -> np.ndarray:
    return np.ma.filled(mesh.get_array(), np.nan)


def scaled(seed: int = 0, scale: float = 1.0, steps=range(6)):
    """A recording of random gradients of a and b that are so many times as long."""
    vectors = scale * np.random.default_rng(seed).normal(size=(len(steps), 2, 2, 4))
    return from_gram(("a", "b"), steps, ("one", "two"), vectors @ vectors.swapaxes(-1, -2)), vectors


# Layer by layer


def test_a_map_has_the_cosine_of_each_layer_down_and_each_step_along() -> None:
    one = conflict(steps=[0, 10, 30])
    figure = plot.heatmap(one)
    (mesh,) = meshes(figure)
    np.testing.assert_allclose(cells(mesh), np.stack([one.per_layer[layer] for layer in one.layers]))
    assert mesh.get_clim() == (-1, 1)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(one.layers)
    top, bottom = (ax.transData.transform((0, row))[1] for row in (0, len(one.layers) - 1))
    assert top > bottom, "the first layer is at the top"
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-5.0, 5.0, 20.0, 40.0])
    assert "cosine of the ce and kd gradients" in figure.axes[1].get_ylabel().replace("\n", " ")
    assert "3 records, 3 layers" in plot.caption(figure)


def test_the_colours_of_cosines_rise_from_dark_to_light_through_a_grey() -> None:
    (mesh,) = meshes(plot.heatmap(conflict()))
    colors = mesh.cmap(np.linspace(0, 1, 41))[:, :3]
    luminance = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    assert (np.diff(luminance) > 0).all(), "a greyscale print shows the sign"
    red, _, blue = colors[[0, 5, 10]].T
    assert (red > blue).all()
    assert (colors[[30, 35], 2] > colors[[30, 35], 0]).all()
    assert np.ptp(colors[20]) < 0.02


def test_steps_that_were_recorded_in_another_order_are_in_order() -> None:
    one = conflict(steps=range(4))
    other = from_gram(one.terms, one.step[[2, 0, 3, 1]], one.layers, one.gram[[2, 0, 3, 1]])
    np.testing.assert_array_equal(cells(meshes(plot.heatmap(other))[0]), cells(meshes(plot.heatmap(one))[0]))


def test_a_layer_without_a_cosine_is_hatched() -> None:
    one = conflict()
    one.gram[2, 1] = 0.0
    figure = plot.heatmap(one)
    unknown = np.zeros((3, 6), dtype=bool)
    unknown[1, 2] = True
    np.testing.assert_array_equal(np.isnan(cells(meshes(figure)[0])), unknown)
    (box,) = figure.axes[0].collections[1].get_paths()
    np.testing.assert_allclose(box.get_extents().get_points().mean(axis=0), [2.0, 1.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefined: a gradient is zero"]
    assert not plot.heatmap(conflict()).legends


def test_magnitudes_have_a_scale_from_0_to_1() -> None:
    one, vectors = scaled()
    norms = np.linalg.norm(vectors, axis=-1)
    expected = 2 * norms.prod(axis=-1) / (norms**2).sum(axis=-1)
    (mesh,) = meshes(plot.heatmap(one, value="magnitude"))
    np.testing.assert_allclose(cells(mesh), expected.T)
    assert mesh.get_clim() == (0, 1)


@pytest.mark.parametrize("n", [1, 3, 40, 120])
def test_names_of_layers_do_not_lie_on_each_other(n: int) -> None:
    one = conflict(layers=tuple(f"block{i}.conv" for i in range(n)))
    for drawn in (plot.heatmap(one), _on_a_page(dict.fromkeys(METHODS, one))):
        drawn.draw_without_rendering()
        assert any(label.get_text() for label in drawn.axes[0].get_yticklabels())
        for ax in drawn.axes[:-1]:
            boxes = [label.get_window_extent() for label in ax.get_yticklabels() if label.get_text()]
            apart = [above.y0 - below.y1 for above, below in pairwise(boxes)]
            assert all(gap > -0.2 * boxes[0].height for gap in apart)
            assert not boxes or ax.get_yticklabels()[0].get_text() == "block0.conv"
            assert ax.get_window_extent().height > 0.5 * drawn.dpi


def _on_a_page(conflicts):
    with plot.style("paper"):
        return plot.heatmap(conflicts)


def test_methods_share_their_layers_or_have_their_own() -> None:
    same = plot.heatmap({name: conflict(i) for i, name in enumerate(METHODS)})
    assert [ax.get_title() for ax in same.axes[:3]] == list(METHODS)
    other = plot.heatmap({"a": conflict(), "b": conflict(layers=("x", "y"))})
    names = [[label.get_text() for label in ax.get_yticklabels()] for ax in other.axes[:2]]
    assert names == [["conv1", "layer1.0.conv1", "fc"], ["x", "y"]]
    axes = Figure().subplots(1, 2)
    plot.heatmap({"a": conflict(0), "b": conflict(1)}, ax=axes)
    np.testing.assert_allclose(cells(axes[1].collections[0]), conflict(1).layer_cosine.T)


def test_what_is_no_map_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"value must be one of cosine, magnitude. Got 'norm'"):
        plot.heatmap(conflict(), value="norm")
    with pytest.raises(ValueError, match=r"must have records. Got none of 'x'"):
        plot.heatmap({"x": from_gram(("a", "b"), [], ["all"], [])})
    with pytest.raises(ValueError, match=r"expected 1 to 6 recordings. Got 0"):
        plot.heatmap({})
    three = np.random.default_rng(0).normal(size=(2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"two terms. Got a, b, c. Choose two"):
        plot.heatmap(from_gram(("a", "b", "c"), [0, 1], ["all"], three @ three.swapaxes(-1, -2)))
    one = from_gram(HOSTILE[:2], [7], [HOSTILE[2]], [[np.eye(2)]])
    figure = plot.heatmap(dict.fromkeys(HOSTILE, one))
    np.testing.assert_allclose(meshes(figure)[0].get_coordinates()[0, :, 0], [6.5, 7.5])
    plot.save(figure, tmp_path / "odd.png")


# Part by part


def parts(vectors):
    """Norms of the consistent and both inconsistent parts of every record, from the vectors themselves."""
    found = []
    for a, b in vectors.transpose(0, 2, 1, 3).reshape(len(vectors), 2, -1):
        bisector = a / np.linalg.norm(a) + b / np.linalg.norm(b)
        unit = bisector / np.linalg.norm(bisector)
        shared = max(0.0, min(a @ unit, b @ unit)) * unit
        found.append([np.linalg.norm(part) for part in (shared, a - shared, b - shared)])
    return np.array(found).T


def test_lines_are_the_mean_norms_of_the_parts_and_bands_reach_over_the_seeds() -> None:
    (a, of_a), (b, of_b) = scaled(0), scaled(1)
    ax = plot.decomposition({"KD": [a, b]}).axes[0]
    labels = ["consistent part", "inconsistent, a", "inconsistent, b"]
    assert [drawn.get_label() for drawn in ax.lines[:3]] == labels
    both = np.stack([parts(of_a), parts(of_b)])
    for k, drawn in enumerate(ax.lines[:3]):
        np.testing.assert_array_equal(drawn.get_xdata(), a.step)
        np.testing.assert_allclose(drawn.get_ydata(), both[:, k].mean(axis=0))
        np.testing.assert_allclose(band_edges(ax.collections[k]), [both[:, k].min(axis=0), both[:, k].max(axis=0)])


def test_methods_have_a_row_each_in_one_scale() -> None:
    figure = plot.decomposition({"KD": [scaled()[0]], "DOT": [scaled(1, 100.0)[0]]})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["KD: 1 seed, 6 records", "DOT: 1 seed, 6 records"]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    close = plot.decomposition({"KD": [conflict(steps=range(3))]}).axes[0]
    assert close.get_yscale() == "linear"
    assert close.get_ylim()[0] == 0.0
    assert "band: lowest to highest" in plot.caption(plot.decomposition({"KD": [scaled(0)[0], scaled(1)[0]]}))


def test_a_zero_on_a_log_scale_is_a_triangle() -> None:
    one, _ = scaled(steps=range(8))
    one.gram[2] = 0.0
    one.gram[6] *= 1e6
    ax = plot.decomposition({"KD": [one]}).axes[0]
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_ydata()[2], 0.0)
    assert [list(drawn.get_xdata()) for drawn in ax.lines if drawn.get_marker() == "v"] == [[2], [2], [2]]
    positive = np.concatenate([drawn.get_ydata()[drawn.get_ydata() > 0] for drawn in ax.lines[:3]])
    assert 0.1 < ax.get_ylim()[0] / positive.min() <= 1.0, "a triangle is at no value"


def test_recordings_that_cannot_be_compared_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="expected at least one recording of 'CE'"):
        plot.decomposition({"CE": [], "KD": [scaled()[0]]})
    with pytest.raises(ValueError, match="expected 1 to 6 methods"):
        plot.decomposition({str(i): [scaled()[0]] for i in range(7)})
    nothing = from_gram(("a", "b"), [0, 1], ["all"], np.zeros((2, 1, 2, 2)))
    single = from_gram(("a", "b"), [3], ["all"], [[np.diag([1e60, 1e-60])]])
    figure = plot.decomposition(dict(zip(HOSTILE, ([nothing], [single], [single, single]), strict=False)))
    plot.save(figure, tmp_path / "odd.png")
    assert all((drawn.get_ydata() == 0).all() for drawn in figure.axes[0].lines[:3])


# Records that no line goes through


def holed(kept: list[int], steps: int = 7):
    """Gradients of norm 1, of which both are zero but at some steps, so that there they have no cosine and no share."""
    gram = np.zeros((steps, 1, 2, 2))
    gram[kept, 0] = [[1.0, 0.5], [0.5, 1.0]]
    return from_gram(("ce", "kd"), list(range(steps)), ("fc",), gram)


@pytest.mark.parametrize("draw", [plot.cosine, plot.inconsistency])
def test_a_record_between_gaps_has_a_marker_and_others_have_none(draw) -> None:
    (panel,) = draw({"KD": [holed([0, 1, 3, 6])]}).axes
    shown = [one for one in panel.lines if len(one.get_xdata()) == 7]
    assert shown
    for one in shown:
        assert one.get_marker() not in ("", "None")
        assert list(one.get_markevery()) == [3, 6]


def test_a_line_without_gaps_has_no_marker() -> None:
    for draw in (plot.cosine, plot.inconsistency, plot.decomposition):
        assert {one.get_marker() for one in draw({"KD": [conflict()]}).axes[0].lines} == {"None"}


@pytest.mark.parametrize("draw", [plot.cosine, plot.inconsistency, plot.decomposition])
def test_a_single_record_is_seen(draw) -> None:
    figure = draw({"KD": [conflict(steps=range(1))]})
    figure.canvas.draw()
    shown = [one for one in figure.axes[0].lines if len(one.get_xdata()) == 1]
    assert shown
    assert all(list(one.get_markevery()) == [0] and one.get_marker() in "osD^vP" for one in shown)


def test_a_norm_between_zeros_has_a_marker_on_a_log_scale() -> None:
    gram = np.zeros((4, 1, 2, 2))
    gram[[1, 3], 0] = [[[1.0, 0.5], [0.5, 1.0]], [[1e6, 5e5], [5e5, 1e6]]]
    (panel,) = plot.decomposition({"KD": [from_gram(("ce", "kd"), range(4), ("fc",), gram)]}).axes
    assert panel.get_yscale() == "log"
    assert list(panel.lines[0].get_markevery()) == [1, 3]
