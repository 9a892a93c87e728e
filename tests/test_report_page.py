"""The report in a real browser, of a study as large as the digits': read, printed, and on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reported
from browser import browser, opened, screenshot

from dot import gallery, reporting, runs, study
from landscape import report
from landscape.report import Code, Folded, Link, Picture, Point, Points, Report, Section, Table

HOSTILE = ("<script>alert(1)</script>", "\"quoted\" 'names' & more", "蒸留された生徒 ümläut", "x" * 200, "a|b`c`")
A4, LETTER = (680, 1001), (703, 935)
"""Width and height of a page without its margins, in CSS pixels."""

CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([node.tagName, (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
WIDEST = "(of) => Math.max(...[...document.querySelectorAll(of)].map((e) => e.getBoundingClientRect().right))"
TALLEST = "(of) => Math.max(...[...document.querySelectorAll(of)].map((e) => e.getBoundingClientRect().height))"


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    findings = reported.found(reported.measured(folder / "runs", reported.study()))
    numbers = [study.numbers(run) for run in findings.runs]
    made = reporting.compose(
        "A study", findings, numbers, gallery.draw(findings), "dot-landscape report", folder=folder
    )
    report.write(folder / "report.html", made)
    return folder / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """Names of every kind, everywhere; a table that is far wider than a page."""
    figure = gallery.tradeoff(gallery.by_method(_teachable(tmp_path_factory.mktemp("runs"))))
    wide = Table(HOSTILE[0], ["", *HOSTILE, *HOSTILE], [[name, *["1.5 ± 0.1"] * 10] for name in HOSTILE])
    parts = [
        *HOSTILE,
        wide,
        Points([Point(name, name, name) for name in HOSTILE]),
        *(Picture(f"p{i}", name, name, figure) for i, name in enumerate(HOSTILE)),
        Link(HOSTILE[0], "figures/x.html"),
        *(Folded(name, [Code(name), wide]) for name in HOSTILE),
    ]
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    report.write(
        path, Report(HOSTILE[0], [], [Section(name, parts if i == 0 else []) for i, name in enumerate(HOSTILE)])
    )
    return path


def _teachable(root: Path):
    return [runs.open_run(path) for path in reported.folders(root, reported.study(("kd-dot",), (0,)))[1:]]


def test_the_page_is_small_and_says_and_shows_everything(page, chromium):
    assert page.stat().st_size < 5_000_000
    with opened(chromium, page) as tab:
        titles = tab.locator("main h3").all_text_contents()
        images = tab.evaluate("[...document.images].map((i) => [i.alt, i.complete && i.naturalWidth, i.width])")
        assert len(images) == len(titles) == 12
        for alt, natural, width in images:
            assert len(alt) > 60
            assert natural > 0
            assert width > 500
        assert tab.locator("h1").count() == 1
        assert tab.locator("figcaption").count() == 12
        assert tab.evaluate("document.documentElement.lang") == "en"
        screenshot(tab, "report-light")


def test_a_figure_has_alternative_text_of_its_own(page, chromium):
    with opened(chromium, page) as tab:
        alts = tab.evaluate("[...document.images].map((i) => i.alt)")
    assert "An empty figure." not in alts
    assert len(set(alts)) == len(alts)
    assert "KD+DOT" in alts[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_text_stands_out_and_nothing_scrolls_the_page_sideways(scheme, width, page, hostile, chromium):
    for path in (page, hostile):
        with opened(chromium, path, width=width, scheme=scheme) as tab:
            tab.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
            found = tab.evaluate(CONTRASTS)
            assert len(found) > 100
            assert min(found, key=lambda one: one[1])[1] >= 4.5, min(found, key=lambda one: one[1])
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            if width == 390:
                screenshot(tab, f"{path.parent.name[:7]}-phone-{scheme}")
            if path == page:
                dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
                assert dark == (scheme == "dark")


def test_names_are_shown_as_text(hostile, chromium):
    with opened(chromium, hostile) as tab:
        assert tab.locator("h1").text_content() == HOSTILE[0]
        assert tab.title() == HOSTILE[0]
        for name in HOSTILE:
            assert tab.get_by_role("heading", name=name, exact=True, level=2).count() == 1
        assert tab.locator("script").count() == 0


def test_a_keyboard_reaches_the_content_and_what_scrolls(page, chromium):
    with opened(chromium, page, width=390) as tab:
        tab.keyboard.press("Tab")
        skip = tab.evaluate("[document.activeElement.textContent, document.activeElement.getBoundingClientRect().left]")
        assert skip[0] == "Skip to the content"
        assert skip[1] >= 0, "it shows when it has the focus"
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.id") == "content"
        unreachable = tab.evaluate(
            "[...document.querySelectorAll('main *')].filter((e) => e.scrollWidth > e.clientWidth + 1"
            " && getComputedStyle(e).overflowX === 'auto' && e.tabIndex < 0).length"
        )
        assert unreachable == 0
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_every_table_has_headings_for_rows_and_columns(page, chromium):
    with opened(chromium, page) as tab:
        for table in tab.locator("table").all():
            assert table.locator("caption").count() == 1
            assert table.locator("thead th:not([scope=col])").count() == 0
            rows = table.locator("tbody tr").count()
            assert rows > 0
            assert table.locator("tbody th[scope=row]").count() == rows


@pytest.mark.parametrize(("paper", "size"), [("A4", A4), ("Letter", LETTER)])
def test_it_prints_whole_on_white_paper(paper, size, page, chromium, tmp_path):
    width, height = size
    with opened(chromium, page, width=width, height=height, scheme="dark") as tab:
        tab.emulate_media(media="print")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert tab.evaluate(WIDEST, "table, img, pre, p, li") <= width + 1, "nothing is cut off"
        assert tab.evaluate(TALLEST, ".picture") <= height, "a figure stays with its heading and caption"
        assert tab.evaluate(TALLEST, "details pre") > 100, "what is folded is open"
        assert tab.locator("nav").is_hidden()
        if paper == "A4":
            screenshot(tab, "report-print")
        whole, pictures = printed(tab, tmp_path, paper)
        tab.add_style_tag(content="img { visibility: hidden }")
        _, hidden = printed(tab, tmp_path, paper)
        tab.add_style_tag(content=".picture { display: none }")
        without, _ = printed(tab, tmp_path, paper)
    assert 8 <= whole <= 30
    assert whole - without >= 4, "twelve figures, two or three a page"
    assert pictures > hidden + 100_000, "they are drawn"


def printed(tab, folder: Path, paper: str) -> tuple[int, int]:
    """Pages of the PDF that the browser prints, and its size in bytes."""
    content = tab.pdf(path=folder / "report.pdf", format=paper)
    return len(re.findall(rb"/Type\s*/Page\b", content)), len(content)
