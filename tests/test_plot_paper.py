"""Every kind of figure on a page of a journal and on a caller's axes: nothing is cut off, overlaps or is too small."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_plot import METHODS, bundle, conflict, plane, sampled_plane
from test_plot_conflicts import random
from test_plot_flatness import CURVATURE, WIDTH, difference, row, verdict

from landscape import plot
from landscape.plot._save import render
from landscape.sharpness import Group


def _verdict(n: int = 6):
    groups = tuple(Group(name, (1.0, 2.0, 3.0), 1.8, 1.1, 2.9) for name in METHODS)
    pairs = (("KD+SGD", "CE"), ("KD+DOT", "CE"), ("KD+DOT", "KD+SGD"))
    found = tuple(difference("not told apart", 0.08213, one=one, other=other) for one, other in pairs)
    return verdict(*(replace(row(what, groups=groups), differences=found) for what in (CURVATURE, WIDTH) * (n // 2)))


def _planes(n: int = 3):
    return {name: plane(i, 0.02, 90.0, (13, 13)) for i, name in enumerate([*METHODS, "a", "b", "c"][:n])}


def _paths():
    rng = np.random.default_rng(0)
    return {name: [(9.0 * 0.8 ** np.arange(40.0) + rng.random(40), 20 - np.arange(40.0) / 4)] * 2 for name in METHODS}


def _bundles(more: int = 0):
    return {name: [bundle(i + more), bundle(i + 3 + more)] for i, name in enumerate(METHODS)}


def _two_terms(of):
    for surfaces in of.values():
        for one in surfaces:
            one.means["error"], one.sems["error"] = one.means["ce"] / 9, one.sems["ce"]
    return of


def _conflicts():
    return {name: [conflict(i), conflict(i + 3)] for i, name in enumerate(METHODS)}


KINDS = {
    "curves": (1, lambda ax: plot.curves(_bundles(), term="ce", ax=ax)),
    "curves of two terms": (
        2,
        lambda ax: plot.curves(
            _two_terms(_bundles()), term="ce", error="error", test=_two_terms(_bundles(9)), log=True, ax=ax
        ),
    ),
    "contour": (3, lambda ax: plot.contour(_planes(), term="ce", ax=ax)),
    "contour of one": (1, lambda ax: plot.contour(plane(), term="ce", ax=ax)),
    "contour of four": (4, lambda ax: plot.contour(_planes(4), term="ce", ax=ax)),
    "error": (4, lambda ax: plot.error({"sampled": sampled_plane(), "whole": plane()}, term="ce", ax=ax)),
    "tradeoff": (1, lambda ax: plot.tradeoff(_paths(), marks=[20, 30], ax=ax)),
    "cosine": (3, lambda ax: plot.cosine(_conflicts(), ax=ax)),
    "inconsistency": (3, lambda ax: plot.inconsistency(_conflicts(), ax=ax)),
    "layers": (1, lambda ax: plot.layers(_conflicts(), ax=ax)),
    "cosines": (1, lambda ax: plot.cosines(random(k=3), ax=ax)),
    "flatness": (6, lambda ax: plot.flatness(_verdict(), ax=ax)),
    "verdicts": (1, lambda ax: plot.verdicts(_verdict(), ax=ax)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, once; tick labels are kept by matplotlib beyond the limits of their axes too."""
    figure.draw_without_rendering()
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = {id(label) for axis in axes for ticks in (axis.majorTicks, axis.minorTicks) for tick in ticks
             for label in (tick.label1, tick.label2)}  # fmt: skip
    drawn = [label for axis in axes if axis.axes.axison for tick in axis._update_ticks()
             for label in (tick.label1, tick.label2)]  # fmt: skip
    hidden = [axis.label for axis in axes if not axis.axes.axison]
    others = [text for text in figure.findobj(Text) if id(text) not in ticks and text not in hidden]
    return [text for text in [*others, *drawn] if text.get_visible() and text.get_text().strip()]


def named(text: Text) -> str:
    return repr(text.get_text())


def check_layout(figure: Figure, smallest: float) -> None:
    """No text is beyond the figure, on another text, or smaller than so many points."""
    shown = texts(figure)
    boxes = [(text, text.get_window_extent()) for text in shown]
    for i, (text, box) in enumerate(boxes):
        assert text.get_fontsize() >= smallest, named(text)
        inside = figure.bbox.padded(1.0)
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1, f"{named(text)} is cut off at a side"
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1, f"{named(text)} is cut off above or below"
        for other, that in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(that.padded(-0.5)), f"{named(text)} lies on {named(other)}"


@every_kind
@pytest.mark.parametrize("columns", [1, 2])
def test_a_figure_fits_a_journal(kind: str, columns: int) -> None:
    with plot.style("paper", columns=columns):
        figure = KINDS[kind][1](None)
        check_layout(figure, 6.5)
    assert figure.get_figwidth() == {1: 3.25, 2: 6.75}[columns]
    assert figure.get_figheight() < 9


@every_kind
def test_a_figure_fits_a_web_page(kind: str) -> None:
    check_layout(KINDS[kind][1](None), 8.0)


@every_kind
def test_a_figure_is_drawn_on_a_callers_axes_in_a_part_of_a_figure(kind: str) -> None:
    n, draw = KINDS[kind]
    whole = Figure(figsize=(4.0 + 4.5 * n, 7.0), layout="constrained")
    left, right = whole.subfigures(1, 2, width_ratios=(1, 2 * n))
    left.subplots().plot([0, 1])
    given = right.subplots(1, n)
    assert draw(given) is whole
    assert not right.legends
    assert not whole.legends
    assert right.get_supxlabel() == whole.get_supxlabel() == ""
    assert all(ax.has_data() or not ax.axison for ax in np.ravel(given))
    check_layout(whole, 8.0)
    alone = draw(None)
    assert plot.caption(whole) == plot.caption(alone)


def test_captions_of_several_kinds_on_one_figure_stand_one_after_another() -> None:
    whole = Figure(figsize=(8, 4), layout="constrained")
    left, right = whole.subplots(1, 2)
    plot.curves(bundle(), term="ce", ax=left)
    plot.layers({"CE": [conflict()]}, ax=right)
    one, other = plot.caption(plot.curves(bundle(), term="ce")), plot.caption(plot.layers({"CE": [conflict()]}))
    assert plot.caption(whole) == f"{one} {other}"


@every_kind
def test_other_than_one_axes_for_each_panel_are_refused(kind: str) -> None:
    n, draw = KINDS[kind]
    with pytest.raises(ValueError, match=rf"ax must be {n} panels?, .* Got {n + 1}"):
        draw(Figure().subplots(1, n + 1))


@every_kind
def test_the_same_input_gives_the_same_bytes_with_fonts_inside_and_no_date(kind: str) -> None:
    with plot.style("paper"):
        one, other = (KINDS[kind][1](None) for _ in range(2))
    for form in ("pdf", "svg", "png"):
        first = render(one, form)
        assert first == render(other, form), form
        assert not re.search(rb"Date|/tmp|/home|/root|/work", first), form
    pdf = render(one, "pdf")
    kinds = set(re.findall(rb"/Subtype /(Type\d|TrueType|CIDFontType\d)", pdf))
    assert kinds <= {b"Type0", b"CIDFontType2", b"TrueType"}
    assert kinds, "a figure has text"
    assert pdf.count(b"/FontFile2") >= 1


def test_a_large_map_is_a_small_file() -> None:
    with plot.style("paper"):
        figure = plot.contour(plane(0, 0.02, 90.0, (51, 51)), term="ce")
        assert len(render(figure, "pdf")) < 200_000
        assert len(render(figure, "svg")) < 1_500_000


HOSTILE = ("$\\frac{a}$ $_^", "a" * 200, "наука & <script>")


def _hostile(values):
    return dict(zip(HOSTILE, values, strict=True))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.curves(_hostile(map(bundle, range(3))), term="ce", test=_hostile(map(bundle, range(3, 6)))),
        lambda: plot.contour(_hostile(map(plane, range(3))), term="ce"),
        lambda: plot.error(_hostile(map(plane, range(3))), term="ce"),
        lambda: plot.tradeoff(_hostile(_paths().values()), labels=HOSTILE[:2], marks=[5]),
        lambda: plot.cosine(_hostile([conflict(i)] for i in range(3))),
        lambda: plot.inconsistency(_hostile([conflict(i)] for i in range(3))),
        lambda: plot.layers(_hostile([conflict(i, layers=HOSTILE)] for i in range(3))),
        lambda: plot.flatness(verdict(row(groups=tuple(Group(n, (1.0, 2.0), 1.4, 1.1, 1.9) for n in HOSTILE)))),
        lambda: plot.verdicts(verdict(row(one=HOSTILE[0], other=HOSTILE[1]), row(one=HOSTILE[2], other="$x$ $"))),
    ],
    ids=["curves", "contour", "error", "tradeoff", "cosine", "inconsistency", "layers", "flatness", "verdicts"],
)
def test_names_are_shown_as_they_are_and_cut_where_they_are_long(draw) -> None:
    with plot.style("paper"):
        figure = draw()
        shown = texts(figure)
    for text in shown:
        box = text.get_window_extent()
        assert figure.bbox.x0 - 1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, named(text)
    assert any("$_^" in text.get_text() for text in shown)
    assert len(plot.alt_text(figure)) < 700
