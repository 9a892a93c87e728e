"""The report: what it is given is in it, as text, in one file that needs no network."""

from __future__ import annotations

import base64
import re
import shutil
from io import BytesIO
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright
from plotly import graph_objects as go

from landscape.report import Section, Table, page, write

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b>'
TABLE = Table("Accuracy, mean of 3 seeds", ("method", "accuracy"), [("CE", "97.1 %"), ("KD+DOT", "97.9 %")])
VIEWPORTS = ((1000, 700, "light"), (390, 800, "dark"))


def chart():
    return go.Figure(go.Surface(z=[[1.0, 2.0], [3.0, 4.0]]))


def picture():
    figure = Figure(figsize=(4, 3))
    figure.add_subplot().plot([1, 2, 3])
    return figure


def sections(*figures):
    return [Section(f"Figure {i}", f"Meaning {i}", figure) for i, figure in enumerate(figures)]


def test_every_part_is_on_the_page():
    text = page("A title", "First.\n\nSecond.", TABLE, sections(picture()), {"Configuration": "lr = 0.05"})
    for part in ("<p>First.</p>", "<p>Second.</p>", "Meaning 0", "<summary>Configuration</summary>"):
        assert part in text
    assert "<pre>lr = 0.05</pre>" in text
    assert '<th scope="col">accuracy</th>' in text
    assert '<th scope="row">KD+DOT</th><td>97.9 %</td>' in text
    assert '<html lang="en">' in text


def test_pictures_are_in_the_page_with_alternative_text():
    text = page("A title", "", TABLE, sections(picture()), {})
    found = re.search(r'<img src="data:image/png;base64,([^"]+)" alt="Figure: Figure 0">', text)
    assert found
    assert Image.open(BytesIO(base64.b64decode(found[1]))).size == (640, 480)


def test_the_same_input_gives_the_same_page():
    first, second = (page("A title", "", TABLE, sections(picture(), chart()), {}) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("charts", "scripts"), [(0, 0), (1, 1), (3, 1)])
def test_plotly_is_inlined_once_and_only_if_needed(charts, scripts):
    text = page("A title", "", TABLE, sections(picture(), *(chart() for _ in range(charts))), {})
    assert len(re.findall(r"plotly\.js v\d", text)) == scripts
    assert (len(text) > 1_000_000) == bool(scripts)


def test_text_is_never_read_as_html():
    table = Table(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)])
    text = page(HOSTILE, HOSTILE, table, [Section(HOSTILE, HOSTILE, picture())], {HOSTILE: HOSTILE})
    assert "<script>" not in text
    assert "<b>bold</b>" not in text
    assert 'alt="Figure: &lt;script&gt;alert(1)&lt;/script&gt; &#34;quoted&#34;' in text


def test_a_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match=r"expected rows of 2 cells, one a column. Got 1 in \['CE'\]"):
        Table("Accuracy", ("method", "accuracy"), [("CE",)])


def test_write_makes_folders_and_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "report.html"
    write(path, "old")
    write(path, "new ±")
    assert path.read_text(encoding="utf-8") == "new ±"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(path, "old")

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("landscape.files.os.replace", fail)
    with pytest.raises(OSError, match=r"report\.html cannot be written: disk full\. Check"):
        write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_page_opens_without_a_network_wide_and_narrow(tmp_path):
    path = tmp_path / "report.html"
    write(path, page(HOSTILE, HOSTILE, TABLE, sections(picture(), chart(), chart()), {"Versions": "torch 2"}))
    browser = shutil.which("chromium")
    assert browser, "expected chromium on the PATH. Got none. Run `apt-get install chromium`."
    problems: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
        for width, height, scheme in VIEWPORTS:
            viewport = {"width": width, "height": height}
            tab = chromium.new_context(offline=True, viewport=viewport, color_scheme=scheme).new_page()
            tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
            tab.goto(path.as_uri())
            tab.locator(".gl-container canvas").nth(1).wait_for(timeout=15_000)
            assert tab.locator(".gl-container canvas").count() == 2
            assert tab.locator("h1").text_content() == HOSTILE
            assert tab.evaluate("document.querySelector('img').naturalWidth") == 640
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        chromium.close()
    assert not problems
