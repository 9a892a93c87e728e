"""Figures of conflicts: their contents are compared with numpy on the same arrays."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from test_conflict_terms import measured

from landscape import plot
from landscape.conflict import from_gram
from landscape.plot import Effect


def random(seed: int = 0, k: int = 2, steps=range(6)):
    vectors = np.random.default_rng(seed).normal(size=(len(steps), 2, k, 4))
    return from_gram(("ce", "kd", "decay")[:k], steps, ("a", "b"), vectors @ vectors.swapaxes(-1, -2))


def test_a_matrix_has_the_mean_of_each_pair_in_its_cell():
    c = random(k=3)
    c.gram[2, :, 1] = c.gram[2, :, :, 1] = 0
    figure = plot.cosines(c)
    (image,) = figure.axes[0].get_images()
    expected = np.nanmean(c.cosines, axis=0)
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (-1, 1)
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {(m, k): f"{expected[k, m]:.2f}" for k in range(3) for m in range(3)}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["ce", "kd", "decay"]


def test_a_matrix_has_what_holds_for_all_the_examples_in_brackets():
    c = measured()
    texts = {text.get_position(): text.get_text() for text in plot.cosines(c).axes[0].texts}
    assert texts[(1, 0)] == f"{c.cosine.mean():.2f}\n({c.whole.cosine:.2f})"


def test_a_matrix_leaves_a_pair_without_a_cosine_empty():
    c = random()
    c.gram[:, :, 0] = c.gram[:, :, :, 0] = 0
    assert [text.get_text() for text in plot.cosines(c).axes[0].texts] == ["1.00"]
    with pytest.raises(ValueError, match=r"must have records\. Got none"):
        plot.cosines(from_gram(("a", "b"), [], ["all"], []))


def test_shares_are_those_of_the_recordings():
    a, b = random(0), random(1, steps=range(2, 8))
    ax = plot.inconsistency({"KD": [a, b]}).axes[0]
    assert len(ax.lines) == 2
    for drawn, term in zip(ax.lines, ("ce", "kd"), strict=True):
        np.testing.assert_array_equal(drawn.get_xdata(), [2, 3, 4, 5])
        mean = (a.inconsistent_share[term][2:] + b.inconsistent_share[term][:4]) / 2
        np.testing.assert_allclose(drawn.get_ydata(), mean)


def test_three_terms_have_no_single_cosine():
    for draw in (plot.cosine, plot.layers, plot.inconsistency):
        with pytest.raises(ValueError, match=r"two terms\. Got ce, kd, decay\. Choose two: conflict\.pair"):
            draw({"KD": [random(k=3)]})


def test_the_bias_of_batches_is_said_under_their_cosine():
    c = measured().pair("ce", "kd")
    said = plot.cosine({"KD": [c]}).get_supxlabel().replace("\n", " ")
    bias = c.cosine.mean() - c.whole.cosine
    assert f"mean of the batches {c.cosine.mean():.3f}, which is off by {bias:+.3f} from {c.whole.cosine:.3f}" in said
    assert f"by split halves, {c.whole.split_half_cosine:.3f}." in said
    assert plot.cosine({"KD": [random()]}).get_supxlabel() == ""
    several = plot.cosine({"KD": [random(), random(1)]}).get_supxlabel()
    assert several == "Line: mean over seeds; band: lowest to highest seed."


def effects(*rows: tuple[float, float, float, bool]) -> dict[str, Effect]:
    return {f"arm {i}": Effect(*row) for i, row in enumerate(rows)}


def test_effects_are_drawn_at_their_values_and_filled_where_one_was_found() -> None:
    rows = effects((0.5, 0.2, 0.8, True), (-0.1, -0.6, 0.4, False), (nan, nan, nan, False))
    figure = plot.effects({"accuracy": rows, "loss": rows}, "the baseline")
    for ax, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert ax.get_title() == name
        points = [line for line in ax.get_lines() if line.get_marker() == "o"]
        assert [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points[:2]] == [(0.5, 0.0), (-0.1, 1.0)]
        assert [p.get_markerfacecolor() == "white" for p in points[:2]] == [False, True]
        bars = [list(map(float, line.get_xdata())) for line in ax.get_lines() if len(set(line.get_ydata())) == 1]
        assert [0.2, 0.8] in bars
        assert [-0.6, 0.4] in bars
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(rows)
    assert "the baseline" in figure.get_supxlabel()


def test_an_arm_far_beyond_the_others_is_an_arrow_with_its_value() -> None:
    rows = effects(*[(0.1 * i, 0.1 * i - 0.3, 0.1 * i + 0.3, False) for i in range(5)], (-96.0, -97.0, -95.0, True))
    (ax,) = plot.effects({"accuracy": rows}, "it").axes
    assert ax.get_xlim()[1] < 5
    assert [text.get_text() for text in ax.texts] == ["-96"]
    (arrow,) = (line for line in ax.get_lines() if line.get_marker() == "<")
    assert float(arrow.get_ydata()[0]) == 5
    assert arrow.get_markerfacecolor() != "white"


def test_an_interval_that_goes_on_beyond_the_axis_ends_in_an_arrowhead() -> None:
    rows = effects(*[(0.0, -1.0, 1.0, False)] * 5, (3.0, -30.0, 36.0, False), (0.5, -9.0, 0.9, False))
    (ax,) = plot.effects({"accuracy": rows}, "it").axes
    heads = [(line.get_marker(), float(line.get_ydata()[0])) for line in ax.get_lines() if line.get_marker() in "<>"]
    assert heads == [("<", 5.0), (">", 5.0), ("<", 6.0)]
    assert not ax.texts


def test_measures_of_other_arms_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same arms, at least one, for each measure"):
        plot.effects({"a": effects((0, 0, 0, False)), "b": {}}, "it")
    with pytest.raises(ValueError, match="expected the same arms"):
        plot.effects({}, "it")
