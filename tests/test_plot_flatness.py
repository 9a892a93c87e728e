"""Figures of a verdict: what they show is compared with its numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from landscape import plot
from landscape.sharpness import Agreement, Definition, Difference, Group, Row, Verdict

CURVATURE = Definition("curv", "curvature", "Second derivative.", "a paper", "small", "filters")
WIDTH = Definition("width", "a basin width with a name that takes two lines", "Width.", "a paper", "large", "filters")


def difference(outcome, value=0.5, scale="ratio", one="KD", other="CE") -> Difference:
    return Difference(one, other, scale, value, value - 0.1, value + 0.1, 0.01, 0.02, 3, 0, outcome)


def verdict(*rows: Row) -> Verdict:
    return Verdict(rows)


def row(what=CURVATURE, outcome="flatter", groups=None, **more) -> Row:
    groups = groups or (Group("CE", (1.0, 2.0, 3.0), 1.8, 1.1, 2.9), Group("KD", (0.5, 1.0, 1.5), 0.9, 0.4, 1.4))
    return Row(what, True, groups, (difference(outcome, **more),), Agreement(0.5, 0.1, 0.8, 0.04, 6, 0.6))


def lines(ax) -> list[tuple[list[float], list[float], str]]:
    return [(list(map(float, x)), list(map(float, y)), line.get_marker()) for line in ax.get_lines()
            for x, y in [line.get_data()]]  # fmt: skip


def test_a_panel_has_each_seed_the_mean_and_its_interval() -> None:
    figure = plot.flatness(verdict(row(), row(WIDTH)))
    ax, width = (ax for ax in figure.axes if ax.get_visible())
    ce, kd = lines(ax)[:3], lines(ax)[3:]
    assert ce == [([1.0, 2.0, 3.0], [-0.2] * 3, "o"), ([1.1, 2.9], [0.0, 0.0], "None"), ([1.8], [0.0], "o")]
    assert kd == [([0.5, 1.0, 1.5], [0.8] * 3, "o"), ([0.4, 1.4], [1.0, 1.0], "None"), ([0.9], [1.0], "s")]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["CE", "KD"]
    assert (ax.get_xlabel(), width.get_xlabel()) == ("← flatter", "flatter →")
    assert (ax.get_title(), width.get_title().replace("\n", " ")) == ("curvature", WIDTH.name)
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first group is on top"


def test_a_group_looks_the_same_in_every_panel_and_as_in_other_figures() -> None:
    from landscape.plot._style import looks

    figure = plot.flatness(verdict(row(), row(WIDTH)))
    expected = [look.color for look in looks(["CE", "KD"]).values()]
    for ax in figure.axes[:2]:
        assert [line.get_color() for line in ax.get_lines()] == [color for color in expected for _ in range(3)]


def test_seeds_without_a_value_are_counted() -> None:
    groups = (Group("CE", (1.0, math.inf, math.inf), 1.0, 0.9, 1.1), Group("KD", (math.nan, 2.0), 2.0, 1.0, 3.0))
    figure = plot.flatness(verdict(row(groups=groups)))
    (ax,) = figure.axes
    assert sorted(text.get_text() for text in ax.texts) == ["1 undefined", "2"]
    (triangle,) = (line for line in ax.get_lines() if line.get_marker() == ">")
    assert float(triangle.get_ydata()[0]) == -0.2
    assert "Triangle: so many seeds with no more than a lower bound." in figure.get_supxlabel().replace("\n", " ")
    assert "Triangle" not in plot.flatness(verdict(row())).get_supxlabel()


def test_a_group_without_any_value_has_an_empty_row() -> None:
    groups = (Group("CE", (math.nan,) * 2, math.nan, math.nan, math.nan), Group("KD", (2.0, 3.0), 2.4, 1.0, 4.0))
    (ax,) = plot.flatness(verdict(row(groups=groups))).axes
    assert all(y != [0.0] for x, y, _ in lines(ax) if x)
    assert [text.get_text() for text in ax.texts] == ["2 undefined"]


def test_one_seed_each_is_said_to_say_nothing_of_others() -> None:
    groups = (Group("CE", (1.0,), 1.0, 0.9, 1.1), Group("KD", (2.0,), 2.0, math.nan, math.nan))
    figure = plot.flatness(verdict(row(groups=groups)))
    assert "which says nothing of other seeds" in figure.get_supxlabel().replace("\n", " ")
    (ax,) = figure.axes
    assert [(x, marker) for x, _, marker in lines(ax)] == [([0.9, 1.1], "None"), ([1.0], "o"), ([2.0], "s")]


def test_values_over_decades_are_on_a_logarithmic_axis() -> None:
    groups = (Group("CE", (0.1, 1.0), 0.3, 0.1, 1.0), Group("KD", (5.0, 50.0), 16.0, 5.0, 50.0))
    assert plot.flatness(verdict(row(groups=groups))).axes[0].get_xscale() == "log"
    assert plot.flatness(verdict(row())).axes[0].get_xscale() == "linear"


def cells(figure) -> list[list[tuple[str, tuple[float, ...]]]]:
    """``(text, colour)`` of each cell, line by line."""
    (ax,) = figure.axes
    faces = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)): p.get_facecolor()[:3] for p in ax.patches}
    texts = {tuple(map(round, text.get_position())): text.get_text() for text in ax.texts}
    rows = 1 + max(y for _, y in texts)
    return [[(texts[x, y], faces[x, y]) for x in range(1 + max(x for x, _ in texts))] for y in range(rows)]


def luminance(face) -> float:
    return float(np.dot(face, (0.2126, 0.7152, 0.0722)))


def test_cells_say_the_verdict_in_words_and_colour_only_what_was_told_apart() -> None:
    outcomes = ("flatter", "sharper", "not told apart", "same", "too few pairs", "undefined")
    found = cells(plot.verdicts(verdict(*(row(outcome=outcome) for outcome in outcomes))))
    assert [line[0][0] for line in found] == [f"{o}\n0.5 times" for o in outcomes[:-1]] + ["undefined"]
    flatter, sharper, *others = (line[0][1] for line in found)
    assert len(set(others)) == 1
    shades = sorted(map(luminance, (flatter, sharper, others[0])))
    assert min(np.diff(shades)) > 0.15, "the three must differ in a greyscale print"
    assert luminance(flatter) == shades[0]
    assert np.ptp(to_rgb(others[0])) < 0.02, "grey"


def test_a_table_has_a_line_for_each_measure_and_a_column_for_every_two_groups() -> None:
    three = Row(
        CURVATURE,
        False,
        (),
        (
            difference("flatter", -1.0, "difference"),
            difference("sharper", 2.0, "difference", "DOT"),
            difference("same", 0.0, "difference", "DOT", "KD"),
        ),
    )
    figure = plot.verdicts(verdict(three))
    assert [text for text, _ in cells(figure)[0]] == ["flatter\n-1", "sharper\n+2", "same\n+0"]
    (ax,) = figure.axes
    heads = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert heads == ["KD against CE", "DOT against CE", "DOT against KD"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["curvature"]


@pytest.mark.parametrize("draw", [plot.flatness, plot.verdicts])
def test_a_verdict_without_measures_is_refused(draw) -> None:
    with pytest.raises(ValueError, match=r"verdict must have a measure\. Got none"):
        draw(Verdict(()))


@pytest.mark.parametrize("names", [("CE", "KD+DOT"), ("a group with a rather long name", "another of such names")])
def test_no_text_lies_on_another_or_beyond_the_figure(names) -> None:
    groups = tuple(Group(n, (1.0, 2.0, 3.0), 1.8, 1.1, 2.9) for n in names)
    pair = (difference("not told apart", one=names[1], other=names[0]),)
    whole = verdict(*(Row(what, True, groups, pair) for what in (CURVATURE, WIDTH) * 2))
    for figure in (plot.flatness(whole), plot.verdicts(whole)):
        figure.draw_without_rendering()
        texts = [t for ax in figure.axes if ax.get_visible() for t in (ax.title, ax.xaxis.label, *ax.texts)]
        texts += [t for ax in figure.axes if ax.get_visible() for t in ax.get_yticklabels() if t.get_visible()]
        boxes = [text.get_window_extent() for text in [*texts, figure._supxlabel] if text.get_text()]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1
