"""A report as HTML and as Markdown: what it is given is in it, as text, and needs no network."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from landscape import plot
from landscape.report import (
    Code,
    Folded,
    Link,
    Picture,
    Point,
    Points,
    Report,
    Section,
    Table,
    markdown,
    page,
    write,
    write_markdown,
)

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b> | `code` *star* _under_ [link](x) $x$ ~~x~~ \\ # -'
TABLE = Table("Accuracy, mean of 3 seeds", ("method", "accuracy"), [("CE", "97.1 ± 0.3"), ("KD+DOT", "97.9 ± 0.1")])


def curve(points=3):
    figure = Figure(figsize=(4, 3))
    figure.add_subplot().plot([i * i % 97 for i in range(points)], "o")
    return figure


def picture(figure=None, name="curve", title="A figure", meaning="Its meaning"):
    return Picture(name, title, meaning, figure or curve())


def everything(text="Text"):
    table = Table(text, (text, text), [(text, text)])
    parts = [
        text,
        table,
        picture(title=text, meaning=text),
        Points([Point(text), Point(text, text, text)]),
        Code(text),
        Link(text, "figures/a page.html"),
        Folded(text, [text, table, Code(text)]),
    ]
    return Report(text, [text], [Section(text, parts)])


class Outline(HTMLParser):
    """Headings, and the images with their attributes, as a browser reads them."""

    def __init__(self, html):
        super().__init__()
        self.headings, self.images, self.ids, self.links, self.tags, self.texts = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(found)
        if tag == "a":
            self.links.append(found["href"])

    def handle_data(self, data):
        self.texts.append(data)


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


def test_every_part_is_on_the_page():
    text = page(
        Report(
            "A title",
            ["First."],
            [
                Section("Numbers", [TABLE, Points([Point("A point", "type this", "Head:")])]),
                Section("Rest", [Code("lr = 0.05"), Folded("More", ["Hidden."]), Link("A page", "figures/x.html")]),
            ],
        )
    )
    for part in ("<p>First.</p>", "<summary>More</summary>", "<p>Hidden.</p>", '<a href="figures/x.html">A page</a>'):
        assert part in text
    assert '<pre tabindex="0">lr = 0.05</pre>' in text
    assert '<strong>Head:</strong> A point<pre tabindex="0">type this</pre>' in text
    assert '<th scope="col" class="number">accuracy</th>' in text
    assert '<th scope="row">KD+DOT</th><td class="number">97.9 ± 0.1</td>' in text
    assert "<caption><span>Accuracy, mean of 3 seeds</span></caption>" in text
    assert '<html lang="en">' in text
    assert "<script" not in text


def test_headings_are_in_order_and_every_link_leads_somewhere():
    sections = [Section("One", [picture(name="a"), picture(name="b")]), Section("Two", [picture(name="c")])]
    outline = Outline(page(Report("A title", [], sections)))
    assert outline.headings == [1, 2, 3, 3, 2, 3]
    assert len(set(outline.ids)) == len(outline.ids)
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert outline.links[0] == "#content"
    assert {"#a", "#b", "#c"} < set(outline.links)


def test_pictures_are_in_the_page_as_vectors_of_the_size_of_the_figure():
    (image,) = Outline(page(Report("A title", [], [Section("Figures", [picture()])]))).images
    head, _, data = image["src"].partition(",")
    assert head == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(data)
    assert (image["width"], image["height"]) == ("384", "288"), "4 x 3 inches of 96 pixels"


def test_a_large_vector_picture_is_a_raster_one():
    (image,) = Outline(page(Report("A title", [], [Section("Figures", [picture(curve(5_000))])]))).images
    head, _, data = image["src"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (640, 480)


def test_alternative_text_and_caption_are_what_the_figure_says():
    figure = plot.tradeoff({"CE": [([3.0, 1.5], [4.0, 2.5])]})
    text = page(Report("A title", [], [Section("Figures", [picture(figure)])]))
    (image,) = Outline(text).images
    assert image["alt"] == plot.alt_text(figure)
    assert "1.5" in image["alt"]
    note = figure.get_supxlabel().replace("\n", " ")
    assert plot.caption(figure).endswith(f" {note}"), "which is in the figure already"
    assert f"<figcaption>{plot.caption(figure).removesuffix(note).strip()}</figcaption>" in text


def test_the_same_input_gives_the_same_page_and_the_same_markdown():
    first, second = everything(), everything()
    assert page(first) == page(second)
    assert markdown(first, "x") == markdown(second, "x")


def test_text_is_never_read_as_html():
    text = page(everything(HOSTILE))
    outline = Outline(text)
    assert not {"script", "b"} & set(outline.tags)
    assert "".join(outline.texts).count(HOSTILE) == 28


@pytest.mark.parametrize("target", ["javascript:alert(1)", "http://example.org/", "//example.org/x", "/etc/x"])
def test_a_link_leads_to_a_file_beside_the_report(target):
    with pytest.raises(ValueError, match=r"target must be a path relative to the report\. Got '"):
        Link("A page", target)


def test_columns_of_numbers_are_told_from_columns_of_text():
    cells = ["96.63 ± 0.96 [94.24, 99.01]", "+0.19 [-2.05, +2.42], p 0.76", "1e-05", "undefined", "not measured", ""]
    texts = ["2026-11-29 08:12", "2.13.0+cpu", "flatter: 1.26 [1.1, 1.4]", "+0.11, p 1; overall +0.56", "3db1cabf"]
    for cell in cells:
        assert Table("", ("", "a"), [("x", cell), ("y", "1.5")]).numeric == [False, True], cell
    for cell in texts:
        assert Table("", ("", "a"), [("x", cell), ("y", "1.5")]).numeric == [False, False], cell


def test_a_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match=r"expected rows of 2 cells, one a column. Got 1 in \['CE'\]"):
        Table("Accuracy", ("method", "accuracy"), [("CE",)])


def test_write_makes_folders_and_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "report.html"
    write(path, Report("old", [], []))
    write(path, Report("new ±", [], []))
    assert "<h1>new ±</h1>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(path, Report("old", [], []))

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("landscape.files.os.replace", fail)
    with pytest.raises(OSError, match=r"report\.html cannot be written: disk full\. Check"):
        write(path, Report("new", [], []))
    assert "<h1>old</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for save in (write, write_markdown):
        with pytest.raises(OSError, match=r"file/new\S* cannot be made: .*Give another place to write to\."):
            save(tmp_path / "file" / "new" / "report.html", everything())


# Markdown


def test_markdown_has_every_part():
    outline = Outline(html := rendered(markdown(everything(), "my figures")[0]))
    assert outline.headings == [1, 2, 3]
    assert html.count("<table>") == 2
    assert html.count("<li>") == 2
    assert html.count("<pre>") == 3
    assert "<details>" in html
    assert [unquote(link) for link in outline.links] == ["figures/a page.html"]
    assert [unquote(image["src"]) for image in outline.images] == ["my figures/curve.svg"]


def test_markdown_shows_text_as_text():
    """What a reader of GitHub-flavoured Markdown makes of it, is what went in."""
    html = rendered(markdown(everything(HOSTILE), "figures")[0])
    outline = Outline(html)
    assert not {"script", "b", "em", "s"} & set(outline.tags)
    assert outline.links == ["figures/a%20page.html"]
    assert "".join(outline.texts).count(HOSTILE) == 25
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert [len(re.findall("<t[hd]", row)) for row in rows] == [2] * 4


@pytest.mark.parametrize(
    "start", ["- a", "+ a", "* a", "1. a", "12) a", "# a", "> a", "    a", "=== a", "--- a", "```a"]
)
def test_markdown_of_a_text_is_a_paragraph_whatever_it_starts_with(start):
    html = rendered(markdown(Report("T", [start], []), "x")[0])
    assert Outline(html).tags == ["h1", "p"]
    assert "".join(Outline(html).texts).split("\n")[-2] == " ".join(start.split())


def test_code_may_hold_fences():
    text = "```\ninside ````\n```"
    html = rendered(markdown(Report("T", [Code(text), Points([Point("p", text)])], []), "x")[0])
    assert html.count("inside ````") == 2
    assert html.count("<pre>") == 2


def test_numbers_of_a_markdown_table_are_aligned_to_the_right():
    text = markdown(Report("T", [TABLE], []), "x")[0]
    assert "| method | accuracy |\n| :--- | ---: |\n| CE | 97.1 ± 0.3 |" in text


def test_markdown_is_written_with_its_figures_beside_it(tmp_path):
    path = tmp_path / "new" / "a report.md"
    parts = [picture(name="small"), picture(curve(5_000), name="large")]
    written = write_markdown(path, Report("T", [], [Section("Figures", parts)]))
    folder = tmp_path / "new" / "a report-figures"
    assert written == [path, folder / "small.svg", folder / "large.png"]
    assert {p for p in (tmp_path / "new").rglob("*") if p.is_file()} == set(written)
    sources = [unquote(image["src"]) for image in Outline(rendered(path.read_text())).images]
    assert [path.parent / source for source in sources] == written[1:]
    assert (folder / "small.svg").read_bytes().startswith(b"<?xml")
    assert Image.open(folder / "large.png").size == (640, 480)
