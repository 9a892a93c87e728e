"""The page of 3-D surfaces: its data are compared with the measured ones, and it is opened in a browser."""

from __future__ import annotations

import html
import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from landscape.explorer import explore
from landscape.results import DONE, NOT_FINITE, PENDING, Surface

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b>'


def plane(seed=0, low=1.0, high=2.0, shape=(4, 6)):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    x, y = np.linspace(-1, 1, shape[1]), np.linspace(-2, 2, shape[0])
    status = np.full(shape, DONE, dtype=np.uint8)
    return Surface(
        x, y, ("y", "x"), {"ce": values}, {"ce": values * 0.1}, status, {"ce": (1.0, 0.1)}, {"normalize": "filter"}
    )


def test_heights_are_the_values():
    one = plane()
    trace = explore({"CE": one}, term="ce").data[0]
    np.testing.assert_array_equal(trace.z, one.values("ce"))
    np.testing.assert_array_equal(trace.x, one.x)
    np.testing.assert_array_equal(trace.y, one.y)


def test_surfaces_share_colours_and_heights():
    surfaces = {"a": plane(0, 1.0, 2.0), "b": plane(1, 1.5, 4.0)}
    both = np.concatenate([s.values("ce").ravel() for s in surfaces.values()])
    layout = explore(surfaces, term="ce").layout
    assert (layout.coloraxis.cmin, layout.coloraxis.cmax) == (both.min(), both.max())
    assert layout.scene.zaxis.range == layout.scene2.zaxis.range
    assert layout.scene.zaxis.range[0] < both.min() < both.max() < layout.scene.zaxis.range[1]


def test_a_wide_range_is_drawn_as_its_logarithm_and_says_so():
    one = plane(low=0.02, high=8.0)
    figure = explore({"CE": one}, term="ce")
    np.testing.assert_allclose(10.0 ** figure.data[0].z, one.values("ce"))
    axis = figure.layout.scene.zaxis
    assert figure.layout.coloraxis.colorbar.title.text == "ce (log scale)"
    np.testing.assert_allclose(10.0 ** np.array(axis.tickvals), [float(text) for text in axis.ticktext])


def test_the_pointer_reads_coordinates_value_and_error():
    one = plane(low=0.02, high=8.0)
    text = explore({"CE": one}, term="ce").data[0].text
    value, error = one.values("ce")[3, 1], one.sem("ce")[3, 1]
    assert text[3][1] == f"x = -0.6<br>y = 2<br>ce = {value:.4g} ± {1.96 * error:.2g}"


def test_missing_cells_are_holes_and_counted():
    one = plane()
    one.means["ce"][0, 0], one.status[0, 0] = np.inf, NOT_FINITE
    one.status[3, :] = PENDING
    figure = explore({"CE": one}, term="ce")
    assert np.isnan(figure.data[0].z).sum() == 7
    assert np.isnan(figure.data[0].z[0, 0])
    assert figure.layout.annotations[0].text == "<b>CE</b><br>6 cells pending<br>1 cell not finite"
    assert figure.layout.scene.yaxis.range == (-2.0, 2.0)


def test_refuses_what_it_cannot_show():
    empty, flat = plane(), plane()
    empty.status[:] = PENDING
    flat.dims = ("direction", "x")
    with pytest.raises(ValueError, match=r"expected 1 to 6 surfaces. Got 0"):
        explore({}, term="ce")
    with pytest.raises(ValueError, match=r"expected 1 to 6 surfaces. Got 7"):
        explore({str(i): plane() for i in range(7)}, term="ce")
    with pytest.raises(ValueError, match=r"expected planes .* Got \('direction', 'x'\) for 'CE'"):
        explore({"CE": flat}, term="ce")
    with pytest.raises(ValueError, match=r"a term of CE, one of ce. Got 'kd'"):
        explore({"CE": plane()}, term="kd")
    with pytest.raises(ValueError, match="expected at least one finite value of 'ce'"):
        explore({"CE": empty}, term="ce")


def test_page_opens_without_a_network_and_shows_names_as_text(tmp_path):
    path = tmp_path / "surfaces.html"
    explore({HOSTILE: plane(0), "KD+DOT": plane(1)}, term="ce").write_html(path)
    browser = shutil.which("chromium")
    assert browser, "expected chromium on the PATH. Got none. Run `apt-get install chromium`."
    problems: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = chromium.new_context(offline=True).new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append("a name ran as a script"), dialog.dismiss()))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        page.locator(".gl-container canvas").nth(1).wait_for(timeout=15_000)
        assert page.locator(".gl-container canvas").count() == 2
        assert HOSTILE in page.locator(".annotation").first.text_content()
        contexts = "canvases => canvases.every(c => c.getContext('webgl') && !c.getContext('webgl').isContextLost())"
        assert page.locator(".gl-container canvas").evaluate_all(contexts)
        chromium.close()
    assert not problems


def test_hostile_terms_are_escaped():
    one = plane()
    one.means, one.sems = {HOSTILE: one.means["ce"]}, {HOSTILE: one.sems["ce"]}
    figure = explore({"CE": one}, term=HOSTILE)
    shown = [figure.layout.title.text, figure.layout.coloraxis.colorbar.title.text, figure.data[0].text[0][0]]
    for text in shown:
        assert html.escape(HOSTILE, quote=False) in text
        assert "<script>" not in text
