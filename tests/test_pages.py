"""What the pages say of figures and recipes is what the files and scripts say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_figures(page: Path, scripts: None) -> None:
    import fill_tables

    text = page.read_text()
    assert fill_tables.filled(text) == text
    named = re.findall(fill_tables.MARKS, text, re.S)
    assert [path for _, path, _ in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_are_there(page: Path) -> None:
    shown = re.findall(r"!\[[^\]]*\]\((?!http)([^)]+)\)", page.read_text())
    assert [path for path in shown if not (page.parent / path).exists()] == []


def test_costs_are_those_that_are_counted(scripts: None) -> None:
    import recipe_costs

    assert recipe_costs.table() in recipe_costs.PAGE.read_text()


def test_multiply_adds_are_the_published_ones(scripts: None) -> None:
    """ResNet8x4 and ResNet32x4 at 32x32, in millions (FACTS of the literature): 177.1 and 1,083.0."""
    import recipe_costs

    assert recipe_costs.multiply_adds("resnet8x4", 32, 100) == pytest.approx(177.1e6, rel=5e-4)
    assert recipe_costs.multiply_adds("resnet32x4", 32, 100) == pytest.approx(1083.0e6, rel=5e-4)
