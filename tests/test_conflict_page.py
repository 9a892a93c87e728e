"""The page of gradient conflict, used in a browser; what it shows is compared with the files that went in."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from browser import browser, opened, screenshot
from playwright.sync_api import Page, expect

import landscape as ls
from landscape.conflict import from_gram
from landscape.conflict.whole import Whole
from landscape.explorer import conflicts
from landscape.explorer.conflicts import conflict_page

LAYERS = ("stem", "body.0", "body.1", "head")
STEPS = tuple(range(0, 200, 10))
HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b>'
TERM = "<img src=x onerror=alert(1)> & 'kd'"
LONG = "层" * 100 + "x" * 100
DEEP = tuple(f"features.block{i // 30}.{i % 30}.conv.weight" for i in range(120))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


def made(
    steps: Any = STEPS,
    layers: Any = LAYERS,
    terms: Any = ("ce", "kd"),
    seed: int = 0,
    zero: Mapping[int, Any] | None = None,
) -> ls.Conflict:
    """Inner products of random gradients; those of the first term are zero in some records of a layer."""
    drawn = np.random.default_rng(seed)
    gradients = drawn.normal(size=(len(steps), len(layers), len(terms), 6)) + drawn.normal(size=(1, len(layers), 1, 6))
    for layer, records in (zero or {}).items():
        gradients[records, layer, 0] = 0.0
    return from_gram(terms, steps, layers, np.einsum("blkd,blmd->blkm", gradients, gradients))


def by_hand(path: Path, a: int = 0, b: int = 1, group: str = "") -> tuple[Any, Any, Any]:
    """Steps ``[B]`` and cosines ``[B]`` and ``[B, L]`` of a file, by the formula from its inner products."""
    with h5py.File(path) as file:
        of = file[group] if group else file
        gram, steps = of["gram"][()], of["step"][()]
    total = gram.sum(1)
    with np.errstate(invalid="ignore"):
        return (
            steps,
            total[:, a, b] / np.sqrt(total[:, a, a] * total[:, b, b]),
            gram[:, :, a, b] / np.sqrt(gram[:, :, a, a] * gram[:, :, b, b]),
        )


class Made:
    """Recordings on disk, and the page of what was read back."""

    def __init__(self, folder: Path, **named: ls.Conflict) -> None:
        self.paths = {name: folder / f"{i}.h5" for i, name in enumerate(named)}
        for name, conflict in named.items():
            conflict.save(self.paths[name])
        self.html = folder / "conflict.html"
        conflict_page({name: ls.load(path) for name, path in self.paths.items()}).write_html(self.html)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two methods, one with three terms, groups of records and a layer that has no gradient now and then."""
    sgd, dot = made(zero={1: [0, 7, 8]}), made(terms=("ce", "kd", "decay"), seed=1)
    sgd.groups = {"heldout": made(STEPS[::5], seed=2), "momentum": made(STEPS[1:], seed=3)}
    dot.groups = {"heldout": made(STEPS[::5], seed=4)}
    sgd.attrs = {"command": "train <b>", "versions": {"torch": "2.13.0"}}
    dot.attrs = {"command": "train --dot"}
    return Made(tmp_path_factory.mktemp("two"), **{"KD+SGD": sgd, "KD+DOT": dot})


def ready(tab: Page) -> Page:
    tab.wait_for_selector("[data-ready]")
    return tab


def state(tab: Page) -> dict[str, str]:
    """What stands in the address, once it has been written."""
    tab.wait_for_timeout(300)
    return dict(tab.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"))


def drawn(tab: Page, chart: int = 0) -> list[dict[str, Any]]:
    """What plotly has drawn in a chart: names and values; NaN is None."""
    found = tab.evaluate(
        """chart => JSON.stringify(document.querySelectorAll(".js-plotly-plot")[chart].data.map(
          ({ name, x, y, z, line }) => ({ name, x: [...x], y: [...y], z: z && z.map((row) => [...row]), line })))""",
        chart,
    )
    return list(json.loads(found))


def lines(tab: Page) -> dict[str, list[float]]:
    return {trace["name"]: floats(trace["y"]) for trace in drawn(tab)}


def floats(values: Any) -> Any:
    return np.array(values, dtype=np.float64)


def cell(tab: Page, row: int, column: str) -> str:
    """A cell of the table of methods."""
    heads = tab.locator("table.methods thead th").all_text_contents()
    at = next(i for i, head in enumerate(heads) if head.startswith(column))
    return str(tab.locator("table.methods tbody tr").nth(row).locator("th, td").nth(at).text_content())


def glass(tab: Page, chart: int) -> Any:
    return tab.get_by_role("application").nth(chart)


def point(tab: Page, chart: int, step: float, share: float = 0.5) -> None:
    """Move the pointer to where plotly itself has a step."""
    glass(tab, chart).scroll_into_view_if_needed()
    x, y = tab.evaluate(
        """([chart, step]) => {
          const plot = document.querySelectorAll(".js-plotly-plot")[chart];
          const { left, top } = plot.getBoundingClientRect();
          const { xaxis, yaxis } = plot._fullLayout;
          return [left + xaxis._offset + xaxis.l2p(step), top + yaxis._offset];
        }""",
        [chart, step],
    )
    height = tab.evaluate(
        "chart => document.querySelectorAll('.js-plotly-plot')[chart]._fullLayout.yaxis._length", chart
    )
    tab.mouse.move(x, y + share * height)


def test_lines_and_layers_are_those_of_the_files(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        for name, trace in zip(two.paths, drawn(tab), strict=True):
            steps, cosine, _ = by_hand(two.paths[name])
            assert trace["name"] == name
            np.testing.assert_array_equal(trace["x"], steps)
            np.testing.assert_allclose(floats(trace["y"]), cosine, rtol=1e-12)
        for i, path in enumerate(two.paths.values()):
            tab.get_by_role("radio").nth(i).check()
            heat = drawn(tab, 1)[0]
            np.testing.assert_allclose(floats(heat["z"]).T, by_hand(path)[2], rtol=1e-12)
        screenshot(tab, "conflict")


def test_numbers_are_those_of_the_records_and_provenance_is_behind_a_button(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        for row, path in enumerate(two.paths.values()):
            _, cosine, _ = by_hand(path)
            assert cell(tab, row, "mean cosine") == f"{cosine.mean():.3f}"
            assert float(cell(tab, row, "fraction negative").removesuffix(" %")) == pytest.approx(
                100 * (cosine < 0).mean()
            )
            low, high = map(float, cell(tab, row, "95 % interval").split(" to "))
            # Of a mean: about two standard errors on both sides.
            spread = 1.96 * cosine.std(ddof=1) / np.sqrt(len(cosine))
            assert (low, high) == pytest.approx((cosine.mean() - spread, cosine.mean() + spread), abs=0.25 * spread)
            assert cell(tab, row, "records") == "20"
        tab.get_by_text("What the numbers mean").click()
        expect(tab.get_by_role("definition").first).to_contain_text("1 same direction")
        tab.get_by_role("button", name="About KD+SGD").click()
        dialog = tab.get_by_role("dialog", name="KD+SGD")
        expect(dialog).to_contain_text("train <b>")
        expect(dialog).to_contain_text("torch: 2.13.0")
        tab.keyboard.press("Escape")
        expect(dialog).to_be_hidden()


def test_a_step_is_marked_in_both_charts_where_it_lies(two: Made, chromium: Any) -> None:
    values = [by_hand(path)[1] for path in two.paths.values()]
    with opened(chromium, two.html) as tab:
        ready(tab)
        for chart, step in ((0, 70), (1, 140)):
            point(tab, chart, step + 3)
            expect(tab.locator("table.methods thead th.step")).to_have_text(f"at step {step}")
            for row, cosine in enumerate(values):
                assert cell(tab, row, "at step") == f"{cosine[STEPS.index(step)]:.3f}"
            for other in (0, 1):
                off = tab.evaluate(
                    """([chart, step]) => {
                      const plot = document.querySelectorAll(".js-plotly-plot")[chart];
                      const line = document.querySelectorAll(".step-line")[chart].getBoundingClientRect();
                      const { xaxis } = plot._fullLayout;
                      const wanted = plot.getBoundingClientRect().left + xaxis._offset + xaxis.l2p(step);
                      return Math.abs((line.left + line.right) / 2 - wanted);
                    }""",
                    [other, step],
                )
                assert off < 1
        assert state(tab)["step"] == "140"
        for i, cosine in enumerate(values):
            off = tab.evaluate(
                """([i, step, value]) => {
                  const plot = document.querySelector(".js-plotly-plot");
                  const dot = document.querySelectorAll(".dot")[i].getBoundingClientRect();
                  const { left, top } = plot.getBoundingClientRect();
                  const { xaxis, yaxis } = plot._fullLayout;
                  const wanted = [xaxis._offset + xaxis.l2p(step), yaxis._offset + yaxis.l2p(value)];
                  return [dot.left + dot.width / 2 - left - wanted[0], dot.top + dot.height / 2 - top - wanted[1]];
                }""",
                [i, 140, float(cosine[14])],
            )
            np.testing.assert_allclose(off, 0, atol=1.5)
        said = tab.get_by_role("status").text_content()
        assert said == f"At training step 140: KD+SGD {values[0][14]:.3f}, KD+DOT {values[1][14]:.3f}."


def test_a_click_on_a_layer_draws_its_line(two: Made, chromium: Any) -> None:
    *_, layers = by_hand(two.paths["KD+SGD"])
    with opened(chromium, two.html) as tab:
        ready(tab)
        point(tab, 1, 30, (2 + 0.5) / len(LAYERS))
        expect(tab.locator(".cell")).to_have_text(f"body.1 at training step 30: {layers[3, 2]:.3f}")
        tab.mouse.down()
        tab.mouse.up()
        assert list(lines(tab)) == ["body.1 of KD+SGD", "KD+SGD", "KD+DOT"]
        np.testing.assert_allclose(lines(tab)["body.1 of KD+SGD"], layers[:, 2], rtol=1e-12)
        assert cell(tab, 2, "at step") == f"{layers[3, 2]:.3f}"
        assert cell(tab, 2, "mean cosine") == f"{layers[:, 2].mean():.3f}"
        assert state(tab) == {"layer": "2", "step": "30"}
        screenshot(tab, "conflict-layer")
        tab.get_by_role("radio").nth(1).check()  # the same layer of the other method
        np.testing.assert_allclose(lines(tab)["body.1 of KD+DOT"], by_hand(two.paths["KD+DOT"])[2][:, 2], rtol=1e-12)
        tab.get_by_role("button", name="Remove the line of body.1 of KD+DOT").click()
        assert list(lines(tab)) == ["KD+SGD", "KD+DOT"]
        tab.get_by_label("Layer", exact=True).select_option("head")
        assert next(iter(lines(tab))) == "head of KD+DOT"
        point(tab, 1, 30, 0.99)
        tab.mouse.down()
        tab.mouse.up()  # a second time lets go of it
        assert list(lines(tab)) == ["KD+SGD", "KD+DOT"]


def test_keys_do_what_the_pointer_does(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        glass(tab, 0).focus()
        for key, step in (
            ("ArrowRight", 0),
            ("ArrowRight", 10),
            ("End", 190),
            ("ArrowLeft", 180),
            ("PageUp", 80),
            ("Home", 0),
        ):
            tab.keyboard.press(key)
            assert tab.locator("table.methods thead th.step").text_content() == f"at step {step}"
        tab.keyboard.press("Escape")
        assert tab.locator("table.methods thead th.step").text_content() == "at the marked step"
        glass(tab, 1).focus()
        for key, layer in (("ArrowDown", "stem"), ("ArrowDown", "body.0"), ("ArrowUp", "stem"), ("ArrowUp", "stem")):
            tab.keyboard.press(key)
            assert next(iter(lines(tab))) == f"{layer} of KD+SGD"
            assert glass(tab, 1).evaluate("glass => glass === document.activeElement")
        tab.keyboard.press("ArrowRight")
        expect(tab.locator(".cell")).to_contain_text("stem at training step 0")
        tab.keyboard.press("Escape")
        assert list(lines(tab)) == ["KD+SGD", "KD+DOT"]
        box = tab.get_by_role("checkbox", name="line of KD+SGD")
        box.focus()
        tab.keyboard.press("Space")
        assert list(lines(tab)) == ["KD+DOT"]
        assert box.evaluate("box => box === document.activeElement")
        assert cell(tab, 0, "at step") == "\u2013"


def test_other_records_and_other_terms(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        tab.get_by_label("Records").select_option("a held-out batch")
        steps, cosine, _ = by_hand(two.paths["KD+DOT"], group="heldout")
        assert drawn(tab)[1]["x"] == steps.tolist()
        np.testing.assert_allclose(lines(tab)["KD+DOT"], cosine, rtol=1e-12)
        tab.get_by_label("Records").select_option("momentum buffers")
        assert list(lines(tab)) == ["KD+SGD"]
        assert cell(tab, 1, "mean cosine") == "not recorded"
        expect(tab.locator(".notes")).to_contain_text("Not recorded for KD+DOT: Cosine of the gradients of ce and kd")
        assert tab.get_by_role("radio", name="layers of KD+DOT").is_disabled()
        tab.get_by_label("Records").select_option("training batches")
        tab.get_by_label("Terms").select_option("kd and decay")
        assert list(lines(tab)) == ["KD+DOT"]
        np.testing.assert_allclose(lines(tab)["KD+DOT"], by_hand(two.paths["KD+DOT"], 1, 2)[1], rtol=1e-12)
        assert tab.locator("h2").nth(1).text_content() == "Layers of KD+DOT"


def test_the_address_brings_the_view_back(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        tab.get_by_label("Records").select_option("a held-out batch")
        tab.get_by_role("radio", name="layers of KD+DOT").check()
        tab.get_by_role("checkbox", name="line of KD+SGD").uncheck()
        tab.get_by_label("Layer", exact=True).select_option("body.1")
        glass(tab, 0).focus()
        tab.keyboard.press("End")
        found = state(tab)
        assert found == {"of": "heldout", "method": "1", "layer": "2", "step": "150", "shown": "1"}
        fragment, before = tab.evaluate("location.hash"), drawn(tab)
        tab.evaluate("location.hash = '#step=50'")
        expect(tab.locator("table.methods thead th.step")).to_have_text("at step 50")
        assert list(lines(tab)) == ["KD+SGD", "KD+DOT"]
    with opened(chromium, two.html, fragment=fragment) as tab:
        ready(tab)
        assert drawn(tab) == before
        assert tab.locator("table.methods thead th.step").text_content() == "at step 150"


def test_an_address_of_nothing_is_as_none(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html, fragment="#of=none&pair=9&method=7&layer=99&step=x&shown=a") as tab:
        for fragment in ("", "#layer=-1&method=-1&pair=1e9", "#%F0", "#shown=,,&step=NaN"):
            tab.evaluate("text => { if (text) location.hash = text; }", fragment)
            assert ready(tab).locator("h2").nth(1).text_content() == "Layers of KD+SGD"
            assert tab.locator("table.methods thead th.step").text_content() == "at the marked step"


def test_csv_holds_every_record_to_the_last_digit(two: Made, chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, two.html) as tab:
        ready(tab)
        with tab.expect_download() as download:
            tab.get_by_role("button", name="CSV").click()
        download.value.save_as(tmp_path / "found.csv")
    head, *rows = csv.reader(io.StringIO((tmp_path / "found.csv").read_text(), newline=""))
    assert head == [
        "method",
        "records",
        "first term",
        "second term",
        "step",
        "cosine",
        *(f"cosine in {name}" for name in LAYERS),
    ]
    kinds = {"training batches": "", "heldout": "heldout", "momentum": "momentum"}
    assert len(rows) == 20 + 4 + 19 + 20 + 4
    conflict = {name: ls.load(path) for name, path in two.paths.items()}
    for name, kind in {(row[0], row[1]) for row in rows}:
        of = conflict[name].groups[kinds[kind]] if kinds[kind] else conflict[name].pair("ce", "kd")
        found = floats([row[4:] for row in rows if row[:2] == [name, kind]])
        np.testing.assert_array_equal(found, np.column_stack([of.step, of.cosine, of.layer_cosine]))


def test_the_view_is_a_picture(two: Made, chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, two.html, fragment="#layer=1") as tab:
        ready(tab)
        for kind in ("png", "svg"):
            with tab.expect_download() as download:
                tab.get_by_role("button", name=kind.upper()).click()
            assert download.value.suggested_filename == f"conflict.{kind}"
            download.value.save_as(tmp_path / f"found.{kind}")
    assert (tmp_path / "found.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drawing = (tmp_path / "found.svg").read_text()
    for text in (
        "Cosine of the gradients of ce and kd: training batches",
        "KD+DOT",
        "body.0 of KD+SGD",
        "training step",
    ):
        assert text in drawing


def test_what_was_measured_over_all_examples_is_told(tmp_path: Path, chromium: Any) -> None:
    measured = made(range(4))
    halves = np.zeros((2, 2, 4, 2, 2))
    halves[:] = np.array([[2.0, 1.0], [1.0, 2.0]]) / 16  # cosine 1/2, alike in every layer and half
    n = np.full(2, 40.0)
    measured.whole = Whole(("ce", "kd"), LAYERS, halves, np.full((2, 2), 0.5), np.ones((4, 2)), n, np.full(2, 4.0))
    measured.sizes = np.full((4, 2), 10.0)
    found = Made(tmp_path, **{"": measured})
    with opened(chromium, found.html) as tab:
        ready(tab)
        assert cell(tab, 0, "all examples") == "0.500"
        assert cell(tab, 0, "split halves") == "0.500"
        assert tab.locator("table.methods").get_by_role("radio").count() == 0
        glass(tab, 0).focus()
        tab.keyboard.press("End")
        assert tab.locator("table.methods thead th.step").text_content() == "at batch 3"


def test_other_steps_and_other_layers_are_shown_and_said(tmp_path: Path, chromium: Any) -> None:
    found = Made(tmp_path, a=made(), b=made(range(3, 150, 7), LAYERS[:2], seed=1))
    with opened(chromium, found.html, fragment="#layer=3&step=50") as tab:
        ready(tab)
        notes = tab.locator(".notes").text_content()
        assert "The steps of b are others than those of a: each is read at its nearest record." in notes
        assert "The layers of b are others than those of a." in notes
        steps, cosine, layers = by_hand(found.paths["b"])
        assert cell(tab, 1, "at step 50") == f"{cosine[steps.tolist().index(52)]:.3f} (at 52)"
        tab.get_by_role("radio", name="layers of b").check()  # which has no layer of that name
        assert list(lines(tab)) == ["a", "b"]
        np.testing.assert_allclose(floats(drawn(tab, 1)[0]["z"]).T, layers, rtol=1e-12)
        assert tab.evaluate("document.querySelectorAll('.js-plotly-plot')[1]._fullLayout.xaxis.range") == tab.evaluate(
            "document.querySelectorAll('.js-plotly-plot')[0]._fullLayout.xaxis.range"
        )


def test_cells_without_a_cosine_are_crossed_out_and_lines_open(two: Made, chromium: Any) -> None:
    with opened(chromium, two.html, fragment="#layer=1&step=80") as tab:
        ready(tab)
        heat, struck = drawn(tab, 1)
        assert [(i, j) for i, row in enumerate(heat["z"]) for j, v in enumerate(row) if v is None] == [
            (1, 0),
            (1, 7),
            (1, 8),
        ]
        assert (struck["x"], struck["y"]) == ([-5, 5, None, 65, 85, None], [1, 1, None, 1, 1, None])
        assert np.isnan(lines(tab)["body.0 of KD+SGD"]).sum() == 3
        assert cell(tab, 2, "at step") == "undefined"
        assert cell(tab, 2, "records") == "17 of 20"
        expect(tab.get_by_text("Crossed out: no cosine")).to_be_visible()
        expect(tab.locator(".notes")).to_contain_text(
            "The gradient of ce is zero, and cosines with it undefined, in body.0"
        )
        tab.get_by_role("radio", name="layers of KD+DOT").check()
        expect(tab.get_by_text("Crossed out: no cosine")).to_be_hidden()


def test_one_record_no_record_and_nothing_but_zeros(tmp_path: Path, chromium: Any) -> None:
    zeros = made(zero={layer: slice(None) for layer in range(4)})
    found = Made(tmp_path, one=made([7]), none=made([]), zeros=zeros)
    with opened(chromium, found.html) as tab:
        ready(tab)
        glass(tab, 0).focus()
        tab.keyboard.press("Home")
        _, cosine, layers = by_hand(found.paths["one"])
        tab.keyboard.press("ArrowRight")
        assert cell(tab, 0, "mean cosine") == f"{cosine[0]:.3f}"
        assert [cell(tab, i, "95 % interval") for i in range(3)] == ["unknown"] * 3
        assert [cell(tab, i, "mean cosine") for i in (1, 2)] == ["undefined"] * 2
        assert [cell(tab, i, "records") for i in range(3)] == ["1", "0", "0 of 20"]
        np.testing.assert_allclose(floats(drawn(tab, 1)[0]["z"]).T, layers, rtol=1e-12)
        expect(tab.locator(".notes")).to_contain_text("none has no records.")
        for name in ("none", "zeros"):
            tab.get_by_role("radio", name=f"layers of {name}").check()
            glass(tab, 1).focus()
            tab.keyboard.press("ArrowDown")
            tab.keyboard.press("ArrowRight")
        screenshot(tab, "conflict-nothing")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_hostile_names_and_many_layers(tmp_path: Path, chromium: Any, width: int, scheme: str) -> None:
    deep = made(range(0, 400, 5), DEEP)
    deep.layers = (HOSTILE, LONG, *DEEP[2:])
    six = {name: made(seed=i, terms=("ce", TERM)) for i, name in enumerate((LONG, "$x^{", "=1+1", "\u202egnp", ""))}
    deep.terms = ("ce", TERM)
    deep.groups = {"heldout": made(STEPS[::4], terms=("ce", TERM))}
    found = Made(tmp_path, **{HOSTILE: deep, **six})
    with opened(chromium, found.html, width=width, height=800, scheme=scheme, fragment="#layer=0&step=100") as tab:
        ready(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        names = tab.locator("table.methods tbody th .name > span").all_text_contents()
        assert names[:5] == [HOSTILE, LONG, "$x^{", "=1+1", "\u202egnp"]
        assert tab.locator("script").count() == tab.evaluate("document.querySelectorAll('body > script').length")
        assert tab.locator("b").count() == 0
        *_, layers = by_hand(found.paths[HOSTILE])
        np.testing.assert_allclose(floats(drawn(tab, 1)[0]["z"]).T, layers, rtol=1e-12)
        labels = tab.locator(".js-plotly-plot").nth(1).locator(".ytick text").all_text_contents()
        tall = tab.evaluate("document.querySelectorAll('.js-plotly-plot')[1]._fullLayout.yaxis._length")
        assert 10 < len(labels) <= tall / 12  # as many as fit
        screenshot(tab, f"conflict-hostile-{width}-{scheme}")
        tab.get_by_role("button", name="About recording").click()
        expect(tab.get_by_role("dialog")).to_be_visible()


def test_colours_are_those_of_the_figures_and_seen_in_the_dark(two: Made, chromium: Any) -> None:
    from landscape.plot._style import looks

    wanted = [look.color for look in looks(two.paths).values()]
    with opened(chromium, two.html) as tab:
        ready(tab)
        assert [trace["line"]["color"] for trace in drawn(tab)] == wanted
        assert [trace["line"]["dash"] for trace in drawn(tab)] == ["solid", "10px,3px"]
        tab.emulate_media(color_scheme="dark")
        tab.wait_for_function(
            "want => document.querySelector('.js-plotly-plot').data[0].line.color !== want", arg=wanted[0]
        )
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        ground = [int(part) for part in re.findall(r"\d+", paper)]
        for trace in drawn(tab):
            assert contrast(trace["line"]["color"], ground) >= 3
        screenshot(tab, "conflict-dark")


def contrast(color: str, ground: list[int]) -> float:
    """Of two colours, as WCAG 2 defines it."""

    def light(channels: Any) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    high, low = sorted((light([int(color[i : i + 2], 16) for i in (1, 3, 5)]), light(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match=r"expected 1 to 6 recordings\. Got 0\."):
        conflict_page({})
    with pytest.raises(ValueError, match=r"expected 1 to 6 recordings\. Got 7\. Make a page of fewer"):
        conflict_page({str(i): made([1]) for i in range(7)})
    with pytest.raises(TypeError, match=r"expected recordings of gradient conflict\. Got str for 'a'\."):
        conflict_page({"a": "conflict.h5"})  # type: ignore[dict-item]


def test_records_out_of_order_are_put_in_order() -> None:
    one = made([30, 10, 20])
    group = conflicts.conflict_page({"a": one}).data["methods"][0]["groups"][0]
    assert group["step"] == conflicts.packed([10, 20, 30])
    assert group["pairs"][0]["cosine"] == conflicts.packed(one.cosine[[1, 2, 0]])


def test_its_picture_shows_the_first_two_terms() -> None:
    three = made(terms=("ce", "kd", "decay"))
    figure = conflict_page({"": made(seed=3), "b": three}).picture()
    drawn_lines = [ax.lines[-1].get_ydata() for ax in figure.axes]
    np.testing.assert_array_equal(drawn_lines, [made(seed=3).cosine, three.cosine])
