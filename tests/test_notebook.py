"""What results show of themselves in a notebook, by one that is executed; and elsewhere."""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
import subprocess
import sys
import warnings
import webbrowser
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image

import landscape as ls
from landscape import notebook
from landscape.conflict import from_gram
from landscape.results import DONE, NOT_FINITE, PENDING
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.measure import Definition, Measure

LARGEST = 60_000
"""Letters of what is shown by itself: a notebook with many of them must stay small."""
HOSTILE = '<script>alert("1")</script> & $x^{'
ROOT = Path(__file__).resolve().parent.parent


def surface(dims: tuple[str, ...] = ("y", "x"), shape: tuple[int, ...] = (9, 11), term: str = "ce") -> ls.Surface:
    values = np.random.default_rng(0).uniform(0.1, 9.0, shape)
    x = np.linspace(-1, 1, shape[-1])
    y = np.linspace(-2, 2, shape[0]) if dims[0] == "y" else None
    status = np.full(shape, DONE, np.uint8)
    return ls.Surface(x, y, dims, {term: values}, {term: values * 0.1}, status, {term: (0.25, 0.01)}, {"split": "test"})


def conflict(terms: tuple[str, ...] = ("ce", "kd"), records: int = 30) -> ls.Conflict:
    gradients = np.random.default_rng(0).normal(size=(records, 3, len(terms), 5))
    return from_gram(terms, range(records), ("a", "b", "c"), np.einsum("blkd,blmd->blkm", gradients, gradients))


def pictures(shown: str) -> list[tuple[Any, str]]:
    """Each picture with its alternative text."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"', shown)
    return [(Image.open(io.BytesIO(base64.b64decode(data))), html.unescape(alt)) for data, alt in found]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The outputs of each cell of a notebook."""
    folder = tmp_path_factory.mktemp("notebook")
    conflict().save(folder / "conflict.h5")
    setup = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import matplotlib
backend = matplotlib.get_backend(auto_select=False)
import landscape as ls
from test_notebook import conflict, surface
"""
    cells = (
        setup,
        "surface()",
        "ls.load('conflict.h5')",
        "ls.explore({'a': surface(), 'b': surface()}, term='ce')",
        "surface().show()",
        "conflict().show()",
        "ls.explore({'a': conflict()}).show()",
        "assert matplotlib.get_backend(auto_select=False) == backend and 'matplotlib.pyplot' not in sys.modules",
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(book, timeout=240, kernel_name="python3", resources=where).execute()
    return [cell.outputs for cell in book.cells]


def test_a_notebook_says_nothing_else(executed: list[list[Any]]) -> None:
    assert [len(outputs) for outputs in executed] == [0, 1, 1, 1, 1, 1, 1, 0]
    assert {output.output_type for outputs in executed for output in outputs} == {"execute_result", "display_data"}


def test_what_shows_itself_is_small_and_a_picture(executed: list[list[Any]]) -> None:
    for (output,) in executed[1:4]:
        shown = output.data["text/html"]
        assert len(shown) < LARGEST
        assert len(output.data["text/plain"]) < 300
        ((image, said),) = pictures(shown)
        assert image.width >= 300
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3)[:, 0])) > 5
        assert len(said) > 40
        assert "<script" not in shown


def test_show_gives_the_whole_page_in_a_frame(executed: list[list[Any]]) -> None:
    for (output,), title in zip(
        executed[4:7], ("Loss surfaces", "Gradient conflict", "Gradient conflict"), strict=True
    ):
        shown = output.data["text/html"]
        found = re.fullmatch(
            rf'<iframe title="{title}" srcdoc="([^"]*)" width="100%" height="\d+" [^>]*></iframe>', shown
        )
        assert found
        page = html.unescape(found[1])
        assert page.startswith("<!DOCTYPE html>")
        assert page.rstrip().endswith("</html>")
        assert f"<h1>{title}</h1>" in page
        assert output.data["text/plain"] == title


def test_the_frame_works_in_a_browser(executed: list[list[Any]], tmp_path: Path) -> None:
    from browser import browser, opened

    path = tmp_path / "output.html"
    path.write_text(f"<!DOCTYPE html><body>{executed[5][0].data['text/html']}</body>")
    with browser() as chromium, opened(chromium, path) as tab:
        frame = tab.frame_locator("iframe")
        frame.locator("[data-ready]").wait_for()
        frame.get_by_label("Layer", exact=True).select_option("b")
        assert frame.locator("table.methods tbody tr").count() == 2


def test_a_surface_tells_its_axes_cells_and_origin() -> None:
    one = surface()
    one.status[0, :3], one.status[1, 1] = PENDING, NOT_FINITE
    one.attrs["epoch"] = 5
    shown = one._repr_html_()
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", shown)
    assert cells[4:12] == [
        "y (lengths of the direction)",
        "-2",
        "2",
        "9",
        "x (lengths of the direction)",
        "-1",
        "1",
        "11",
    ]
    assert "96 of 99 cells done, 1 of them not finite." in shown
    assert "split test, epoch 5" in shown
    done = one.values("ce")[one.status != PENDING]
    assert cells[-4:] == ["ce", f"0.25 ± {1.96 * 0.01:.2g}", f"{done.min():.4g}", f"{done.max():.4g}"]


@pytest.mark.parametrize(
    ("dims", "shape", "status", "value", "drawn"),
    [
        (("y", "x"), (5, 5), PENDING, np.nan, 0),
        (("y", "x"), (5, 5), NOT_FINITE, np.nan, 0),
        (("y", "x"), (1, 1), DONE, 2.0, None),  # whether or not one cell can be drawn
        (("x",), (7,), NOT_FINITE, np.inf, 0),
        (("x",), (7,), DONE, 2.0, 1),
        (("x",), (1,), DONE, -1e300, 1),
        (("direction", "x"), (3, 7), DONE, 1e-300, 1),
        (("direction", "x"), (3, 7), PENDING, np.nan, 0),
    ],
)
def test_a_surface_without_much_in_it_still_shows_its_table(
    dims: tuple[str, ...], shape: tuple[int, ...], status: int, value: float, drawn: int | None
) -> None:
    one = surface(dims, shape)
    one.status[:], one.means["ce"][:], one.attrs, one.origin = status, value, {}, {}
    shown = one._repr_html_()
    assert "<table>" in shown
    assert f"{one.status.size if status != PENDING else 0} of {one.status.size} cells done" in shown
    assert drawn is None or len(pictures(shown)) == drawn


def test_hostile_names_are_text_and_break_no_picture_of_others() -> None:
    for shown in (surface(term=HOSTILE)._repr_html_(), conflict((HOSTILE, "kd"))._repr_html_()):
        assert "<script" not in shown
        assert str(escape(HOSTILE)) in shown
    page = ls.explore({HOSTILE.replace("$", ""): surface(), "层" * 200: surface()}, term="ce")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of letters that the font of the picture lacks: a notebook would show them
        assert len(pictures(page._repr_html_())) == 1
    assert "<script" not in page._repr_html_()
    assert len(page._repr_html_()) < LARGEST


def test_a_picture_of_a_noisy_plane_is_small_too() -> None:
    big = surface(shape=(201, 201))
    shown = big._repr_html_()
    assert len(shown) < LARGEST
    assert len(pictures(shown)) == 1


def minimum(value: float) -> Flatness:
    what = Definition("width", f"width of {HOSTILE}", "Width at a rise.", "a paper", "large", "filters")
    one = Measure(what, value, value - 0.125, value + 0.125, np.full(3, value))
    return Flatness((one,), {"term": "ce", "split": "train", "left_out": {"trace": "no time"}})


def test_flatness_and_verdicts_are_tables() -> None:
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", minimum(0.5)._repr_html_())
    name = str(escape(f"width of {HOSTILE}"))
    assert cells[5:] == [name, "0.5", "0.375 to 0.625", "3", "", "trace", "-", "", "", "left out: no time"]
    assert "Flatness of ce on train" in minimum(0.5)._repr_html_()

    verdict = ls.sharpness.compare(
        {HOSTILE: [minimum(v) for v in (1.0, 1.2, 1.1)], "b": [minimum(v) for v in (2.0, 2.5, 2.1)]}
    )
    shown = verdict._repr_html_()
    assert "<script" not in shown
    for text in (*verdict.table()[0], *verdict.table()[1], *verdict.sentences(), *verdict.notes):
        assert str(escape(text)) in shown


def test_directions_are_told_without_their_tensors() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 2))
    found = ls.directions.random(net, n=2, seed=3)
    assert repr(found) == "<Directions: 2 random, normalize filter, ignore biasbn>"
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", found._repr_html_())
    assert cells[4:] == ["0", "2", "1,260", "", "1", "2", "1,260", ""]
    assert "seed 3" in found._repr_html_()


def test_without_a_notebook_the_page_goes_to_the_web_browser(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    surface().show()
    (address,) = asked
    path = Path(address.removeprefix("file://"))
    assert "<h1>Loss surfaces</h1>" in path.read_text()
    assert capsys.readouterr() == ("", "")
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("opens", [None, False])
def test_without_a_display_it_says_which_file_to_open(
    opens: bool | None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """None: no display, so that no browser is asked for: one for the terminal would wait for keys."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if opens is not None:
        monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda address: opens if opens is not None else pytest.fail(address))
    conflict().show()
    said = capsys.readouterr().out
    found = re.fullmatch(r"(\S+) holds the page\. There is no web browser here.*\n", said)
    assert found
    assert "<h1>Gradient conflict</h1>" in Path(found[1]).read_text()
    shutil.rmtree(Path(found[1]).parent)


def test_a_terminal_s_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        @staticmethod
        def get_ipython() -> object:
            return object()

    monkeypatch.setitem(sys.modules, "IPython", Module)
    assert notebook._notebook() is None


def test_importing_the_package_imports_neither_plots_nor_ipython() -> None:
    late = ("IPython", "matplotlib", "plotly", "landscape.notebook")
    code = f"import sys, landscape; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
