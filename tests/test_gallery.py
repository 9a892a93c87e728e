"""The gallery has an example of every figure kind: short, with text, and calling what exists in the way that it is."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure

import landscape as ls
from landscape.plot import alt_text
from landscape.plot._save import render

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRIPTS = sorted(path for path in (DOCS / "gallery").rglob("*.py") if path.name != "small.py")
LONGEST = 30


def kinds() -> list[str]:
    """Of the public names of ``ls.plot``, those that draw: functions that take ``ax``."""
    public = {name: getattr(ls.plot, name) for name in ls.plot.__all__}
    return [name for name, of in public.items() if callable(of) and "ax" in inspect.signature(of).parameters]


def named(node: ast.expr) -> str:
    """``a.b.c`` of attributes of a name, else nothing."""
    if isinstance(node, ast.Attribute):
        return f"{before}.{node.attr}" if (before := named(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def parsed(script: Path) -> ast.Module:
    return ast.parse(script.read_text(), str(script))


def called(script: Path) -> dict[str, list[ast.Call]]:
    found: dict[str, list[ast.Call]] = {}
    for node in ast.walk(parsed(script)):
        if isinstance(node, ast.Call):
            found.setdefault(named(node.func), []).append(node)
    return found


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folders that the site imports from."""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.syspath_prepend(DOCS / "gallery")
    yield
    for name in ("scraper", "small"):
        sys.modules.pop(name, None)


def test_every_kind_has_an_example_that_ends_in_it() -> None:
    scripts = {script.stem: script for script in SCRIPTS}
    assert len(kinds()) > 10
    for kind in kinds():
        assert kind in scripts, f"expected docs/gallery/*/{kind}.py, an example of ls.plot.{kind}. Got none. Write one."
        last = parsed(scripts[kind]).body[-1]
        assert isinstance(last, ast.Expr), kind
        assert isinstance(last.value, ast.Call), kind
        assert named(last.value.func) == f"ls.plot.{kind}"


def test_both_pages_have_an_example() -> None:
    pages = [script for script in SCRIPTS if "ls.explore" in called(script)]
    assert sorted(script.name for script in pages) == ["conflict.py", "surfaces.py"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_has_a_title_and_text_and_is_short(script: Path) -> None:
    module = parsed(script)
    title, line, *text = (ast.get_docstring(module) or "").splitlines()
    assert title
    assert line == "=" * len(title)
    assert 2 <= " ".join(text).count(". ") + 1 <= 7
    code = "\n".join(ast.unparse(node) for node in module.body[1:])
    assert 2 <= len(code.splitlines()) <= LONGEST


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.usefixtures("docs")
def test_an_example_calls_what_exists(script: Path) -> None:
    roots: dict[str, ModuleType] = {"ls": ls, "small": import_module("small")}
    found = 0
    for name, calls in called(script).items():
        root, *path = name.split(".")
        if root not in roots:
            continue
        what: Any = roots[root]
        for part in path:
            what = getattr(what, part)
        for call in calls:
            inspect.signature(what).bind(*call.args, **{of.arg: None for of in call.keywords if of.arg})
            found += 1
    assert found > 0


class Written:
    """A page that says what it was written to."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(2, 1))
        self.figure.add_subplot().plot([1, 2], [3, 4], label="a & <b>")

    def write_html(self, path: Path) -> None:
        path.write_text("<p>written</p>")

    def picture(self) -> Figure:
        return self.figure


class Paths:
    """Of the pictures of an example, as sphinx-gallery gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given = folder, 0

    def next(self) -> str:
        self.given += 1
        return str(self.folder / f"{self.given}.png")


@pytest.mark.usefixtures("docs")
def test_each_figure_and_page_of_an_example_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scraper = import_module("scraper")
    monkeypatch.setattr(scraper, "PAGES", tmp_path / "pages")
    page, figure = Written(), Figure(figsize=(3, 1))
    figure.add_subplot().plot([1, 2], [5, 6])
    variables: dict[str, Any] = {
        "example_globals": {"page": page, "number": 1, "figure": figure, "___": figure},
        "image_path_iterator": Paths(tmp_path),
        "src_file": str(tmp_path / "an_example.py"),
    }
    text = scraper.shown(None, variables, {"src_dir": str(tmp_path)})
    assert (tmp_path / "pages" / "an_example.html").read_text() == "<p>written</p>"
    assert 'src="../../pages/an_example.html"' in text
    for name, drawn in (("1.png", page.figure), ("2.png", figure)):
        assert (tmp_path / name).read_bytes() == render(drawn, "png")
        assert text.count(f".. image:: /{name}") == 1
        assert f":alt: {' '.join(alt_text(drawn).split())}" in text
        assert f":width: {96 * drawn.get_figwidth():.0f}px" in text
    assert scraper.shown(None, variables, {"src_dir": str(tmp_path)}) == ""
