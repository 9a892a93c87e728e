"""The documentation site: links that are right on GitHub are right there too, and docstrings are read as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
FILES = {
    "conf.py": "from wording import SiteLinks\nextensions = ['myst_parser']\nexclude_patterns = ['gallery']\n"
    "def setup(app):\n    app.add_transform(SiteLinks)\n",
    "gallery/surfaces/contour.py": "",
    "gallery/small.py": "",
    "auto_gallery/surfaces/contour.rst": ":orphan:\n\nContour\n=======\n",
    "other.md": "# Other\n",
    "../README.md": "# Readme\n",
    "../figures/numbers.json": "{}",
}
LINKS = [
    ("gallery/surfaces/contour.py", r"auto_gallery/surfaces/contour\.html"),
    ("other.md", r"other\.html"),
    ("../figures/numbers.json", r"_downloads/\w+/numbers\.json"),
    ("gallery/small.py", r"_downloads/\w+/small\.py"),
    ("https://example.org/a", r"https://example\.org/a"),
    ("../figures", None),
    ("gallery", None),
    ("../README.md", None),
    ("../README.md#part", None),
]


def build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """Build a small site whose front page holds a text."""
    source = folder / "repository" / "docs"
    for name, text in FILES.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (source / "index.md").write_text(f"# Page\n\n```{{toctree}}\nother\n```\n\n{page}\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(folder / "out")]
    path = os.pathsep.join([str(DOCS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with all of the links, each with its number for words."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, "\n\n".join(f"[link {i} here]({target})" for i, (target, _) in enumerate(LINKS)))
    assert done.returncode == 0, done.stderr
    return (folder / "out" / "index.html").read_text()


@pytest.mark.parametrize("number", range(len(LINKS)), ids=[target for target, _ in LINKS])
def test_a_link_goes_where_the_site_has_it_or_is_its_name_alone(html: str, number: int) -> None:
    (paragraph,) = re.findall(rf"<p>((?:(?!</p>).)*link {number} here.*?)</p>", html, re.S)
    goes_to = re.findall(r'<a [^>]*href="([^"]*)"', paragraph)
    expected = LINKS[number][1]
    if expected is None:
        assert goes_to == []
    else:
        assert len(goes_to) == 1
        assert re.fullmatch(expected, goes_to[0])


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, "[words](nowhere.md)")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr


def test_bars_in_docstrings_stay_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    lines = ["the length |a| of a", "``x | None`` or |b|"]
    import_module("wording").as_docstring(None, "function", "f", None, None, lines)
    assert lines == [r"the length \|a\| of a", r"``x | None`` or \|b\|"]


def test_every_page_is_in_the_site() -> None:
    listed = re.findall(r"^[\w-]+$", (DOCS / "index.md").read_text(), re.M)
    assert {page.stem for page in DOCS.glob("*.md")} == {*listed, "index"}
