"""The page of surfaces in a real browser: every control, and what it shows against the HDF5 files."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from browser import browser, opened, screenshot
from explored import HOSTILE, TERMS, bundle, plane, with_holes, with_path

import landscape as ls
from landscape.results import PENDING
from landscape.sharpness import Definition, Flatness, Measure

NAMES = (HOSTILE, "KD+DOT")
FILES = {
    (HOSTILE, "1", "train"): lambda: with_holes(plane(0, epoch=1)),
    (HOSTILE, "5", "train"): lambda: with_path(with_holes(plane(1, epoch=5))),
    (HOSTILE, "5", "test"): lambda: plane(2, epoch=5, split="test"),
    ("KD+DOT", "5", "train"): lambda: plane(3, (7, 5), extent=0.5, epoch=5),
    ("KD+DOT", "5", "test"): lambda: plane(4, (7, 5), extent=0.5, terms=("ce", "error"), epoch=5, split="test"),
}

FORMULA = '=HYPERLINK("http://example.org","read")'


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def measured(folder):
    """What h5py reads of each file: values, half widths, status and coordinates."""
    found = {}
    for i, (key, make) in enumerate(FILES.items()):
        path = folder / f"{i}.h5"
        ls.store.create_surface(path, make())
        with h5py.File(path) as file:
            found[key] = {
                "x": file["x"][()],
                "y": file["y"][()],
                "status": file["status"][()],
                **{term: file["terms"][term][()] for term in file["terms"] if term in TERMS},
                **{f"{term} half": 1.96 * file["sem"][term][()] for term in file["sem"] if term in TERMS},
            }
    return found


@pytest.fixture(scope="module")
def page(folder, measured):
    what = Definition("trace", "Hessian trace <b>", "sum of <i>all</i> eigenvalues", "Eq. 1", "small", "none")
    trace = Flatness((Measure(what, 2.5, 1.5, 3.5, np.array([2.5])),), {"term": "ce", "split": "train"})
    named = {name: [ls.load(folder / f"{i}.h5") for i, key in enumerate(FILES) if key[0] == name] for name in NAMES}
    named["KD+DOT"].append(trace)
    path = folder / "surfaces.html"
    ls.explore(named).write_html(path)
    return path


@pytest.fixture(scope="module")
def module_tab(chromium, page):
    with opened(chromium, page) as found:
        yield found


@pytest.fixture
def tab(module_tab):
    """The open page, as it was at first."""
    module_tab.mouse.move(0, 0)
    module_tab.wait_for_timeout(300)  # until the address of the test before is written
    go(module_tab, "")
    return module_tab


def settled(tab):
    """Wait until everything is drawn that was asked for."""
    tab.evaluate(
        """async () => {
            for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
            while (document.querySelector("#page[aria-busy]")) await new Promise((done) => setTimeout(done, 20));
            for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
        }"""
    )
    return tab


def go(tab, fragment):
    """Follow a link to another view of the page that is open."""
    tab.evaluate("text => { if (location.hash.slice(1) !== text) location.hash = text || '#'; }", fragment)
    settled(tab)


def pick(tab, text):
    """Press one of the choices that stand side by side."""
    tab.locator(".segments").get_by_text(text, exact=True).click()


def panel(tab, i):
    return tab.locator(".panel").nth(i)


def drawn(tab, i, what="plane", trace=0):
    """Heights that plotly was given: of the plane from above or of the scene."""
    rows = panel(tab, i).locator(f".{what} .chart").evaluate(f"chart => chart.data[{trace}].z.map(row => [...row])")
    return np.array(rows, dtype=float)


def expected(of, term, log=False):
    """What is to be seen of a file: holes where a cell is pending, not finite or, on a log scale, not positive."""
    values = np.where((of["status"] != PENDING) & np.isfinite(of[term]), of[term], np.nan)
    if log:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(values > 0, np.log10(values), np.nan)
    return values


def assert_drawn(tab, i, values):
    for what in ("plane", "scene"):
        np.testing.assert_allclose(drawn(tab, i, what), values, rtol=1e-12, atol=0, equal_nan=True)


def readings(tab):
    return [one.text_content() for one in tab.locator(".reading").all()]


def read(text):
    """Coordinates, term, value and error of a reading."""
    number = r"(-?[\d.e+-]+)"
    found = re.fullmatch(rf"x = {number}, y = {number}: (\w+) = {number} ± {number}(?: \(.*\))?", text)
    assert found, text
    x, y, term, value, error = found.groups()
    return float(x), float(y), term, float(value), float(error)


def camera(tab, i):
    """That which the scene is drawn with."""
    return panel(tab, i).locator(".scene .chart").evaluate("chart => chart._fullLayout.scene._scene.getCamera()")


def state(tab):
    """The state in the address, once it is there."""
    tab.wait_for_timeout(300)
    return dict(part.split("=") for part in tab.evaluate("location.hash").lstrip("#").split("&") if part)


def saved(tab, button):
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name=button).click()
    return waiting.value


def test_each_term_is_drawn_as_it_stands_in_the_file(tab, measured):
    screenshot(tab, "surfaces")
    for term in TERMS:
        tab.get_by_label("Term").select_option(term)
        pick(tab, "linear")
        settled(tab)
        for i, name in enumerate(NAMES):
            assert_drawn(tab, i, expected(measured[name, "5", "train"], term))
        assert tab.locator("main > p").first.text_content() == f"{term}, mean over 100 examples"


def test_names_and_definitions_are_text(tab):
    assert panel(tab, 0).locator("h2").first.text_content() == HOSTILE
    assert "sum of <i>all</i> eigenvalues" in tab.locator(".tables").text_content()
    names = panel(tab, 0).locator(".plane .chart").evaluate("c => c.data.map(t => t.name).filter(n => n)")
    assert "start &lt;b&gt;" in names  # plotly would read it as HTML


def test_a_log_scale_says_which_cells_it_cannot_show(tab, measured):
    tab.get_by_label("Term").select_option("error")
    pick(tab, "log")
    settled(tab)
    for i, name in enumerate(NAMES):
        assert_drawn(tab, i, expected(measured[name, "5", "train"], "error", log=True))
        of = measured[name, "5", "train"]
        hidden = int(((of["error"] <= 0) & (of["status"] != PENDING)).sum())
        assert hidden
        assert f"{hidden} cell{'s' * (hidden > 1)} zero or negative" in panel(tab, i).locator(".caption").text_content()
        assert f"{hidden} cell{'s' * (hidden > 1)} of {name}" in tab.locator(".notes").text_content()
    assert "error = 0 ± " in readings(tab)[0]
    assert "(not shown on a log scale)" in readings(tab)[0]


def test_pending_cells_and_those_that_are_not_finite_are_told_apart(tab):
    assert "7 cells pending · 2 cells not finite" in panel(tab, 0).locator(".caption").text_content()
    pick(tab, "linear")
    settled(tab)
    assert "pending" not in panel(tab, 1).locator(".caption").text_content()
    go(tab, "at=0,2")
    assert readings(tab)[0] == "x = 0, y = 2: ce pending"
    assert "outside of this grid" in readings(tab)[1]
    go(tab, "at=0,-1")
    assert readings(tab)[0] == "x = 0, y = -1: ce not finite"


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_total_is_made_of_its_terms(tab, measured, alpha):
    tab.get_by_label("Term").select_option("total")
    tab.get_by_label("\u03b1").fill(str(alpha))
    pick(tab, "linear")
    settled(tab)
    for i, name in enumerate(NAMES):
        of = measured[name, "5", "train"]
        assert_drawn(tab, i, (1 - alpha) * expected(of, "ce") + alpha * expected(of, "kd"))
    go(tab, f"term=total&alpha={alpha}&at=-0.5,-2")
    of = measured["KD+DOT", "5", "train"]
    at = (int(np.abs(of["y"] + 1).argmin()), int(np.abs(of["x"] + 0.5).argmin()))
    go(tab, f"term=total&alpha={alpha}&at=-0.5,-1")
    _, _, term, value, error = read(readings(tab)[1])
    assert term == "total"
    assert value == pytest.approx((1 - alpha) * of["ce"][at] + alpha * of["kd"][at], rel=1e-3)
    assert error == pytest.approx((1 - alpha) * of["ce half"][at] + alpha * of["kd half"][at], rel=0.05)
    assert "upper bound" in tab.locator(".notes").text_content()
    assert state_of_alpha(tab) == alpha


def state_of_alpha(tab):
    assert tab.get_by_label("\u03b1").is_visible()
    return float(tab.get_by_label("\u03b1").input_value())


def test_train_and_test_and_epochs_are_chosen(tab, measured):
    assert not tab.get_by_label("\u03b1").is_visible()
    pick(tab, "test")
    pick(tab, "linear")
    settled(tab)
    for i, name in enumerate(NAMES):
        assert_drawn(tab, i, expected(measured[name, "5", "test"], "ce"))
    tab.get_by_label("Term").select_option("kd")
    settled(tab)
    assert panel(tab, 1).locator(".empty").text_content() == "kd was not measured for KD+DOT."
    assert panel(tab, 1).locator(".charts").is_hidden()
    pick(tab, "train")
    tab.get_by_label("Epoch").fill("0")
    settled(tab)
    assert_drawn(tab, 0, expected(measured[HOSTILE, "1", "train"], "kd"))
    assert panel(tab, 1).locator(".empty").text_content() == "KD+DOT has no surface of epoch 1, train."
    assert tab.locator("output").last.text_content() == "1"
    assert state(tab) == {"term": "kd", "scale": "linear", "colors": "shared", "split": "train", "epoch": "1"}


def test_scales_are_shared_or_own(tab, measured):
    pick(tab, "linear")
    settled(tab)
    every = np.concatenate([expected(of, "ce").ravel() for of in measured.values()])
    low, high = np.nanmin(every), np.nanmax(every)

    def scale(i):
        plot = panel(tab, i).locator(".plane .chart").evaluate("c => [c.data[0].zmin, c.data[0].zmax]")
        scene = panel(tab, i).locator(".scene .chart")
        assert scene.evaluate("c => [c.data[0].cmin, c.data[0].cmax]") == plot
        return plot, scene.evaluate("c => c.layout.scene.zaxis.range")

    for i in (0, 1):
        colors, heights = scale(i)
        assert colors == pytest.approx([low, high])
        assert heights[0] < low < high < heights[1]
    assert tab.locator("svg.colorbar").count() == 1
    pick(tab, "own")
    settled(tab)
    for i, name in enumerate(NAMES):
        own = expected(measured[name, "5", "train"], "ce")
        assert scale(i)[0] == pytest.approx([np.nanmin(own), np.nanmax(own)])
    assert tab.locator("svg.colorbar").count() == 2
    assert "of its own" in tab.locator(".notes").text_content()


def test_different_grids_are_said(tab):
    said = tab.locator(".notes").text_content()
    assert "The grids differ" in said
    assert "7 x 5 cells, x -1 to 1, y -2 to 2" in said
    assert "5 x 7 cells, x -0.5 to 0.5, y -1 to 1" in said


def test_the_pointer_reads_the_same_place_in_all(tab, measured):
    cross = panel(tab, 1).locator(".cross")
    cross.scroll_into_view_if_needed()
    box = cross.bounding_box()
    # The second column of five and the third row of seven, from below.
    tab.mouse.move(box["x"] + box["width"] * 1.5 / 5, box["y"] + box["height"] * 4.5 / 7)
    settled(tab)
    for i, name in enumerate(NAMES):
        of = measured[name, "5", "train"]
        x, y, term, value, error = read(readings(tab)[i])
        row, column = np.abs(of["y"] + 1 / 3).argmin(), np.abs(of["x"] + 0.25).argmin()
        assert (x, y) == pytest.approx((of["x"][column], of["y"][row]), rel=1e-3)
        assert term == "ce"
        assert value == pytest.approx(of["ce"][row, column], rel=1e-3)
        assert error == pytest.approx(of["ce half"][row, column], rel=0.05)
    assert state(tab)["at"] == "-0.25,-0.333333"
    said = tab.locator("[role=status]")
    tab.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('x = -0.25')")
    assert f"{HOSTILE} ce = " in said.text_content()


def test_the_mark_in_3d_lies_where_plotly_picks_the_cell(tab):
    """Pointing at the mark of a corner that is seen from above reads that corner."""
    go(tab, "at=0.5,1&camera=0.01,0.01,2.5,0,0,0")
    tab.wait_for_timeout(500)
    place = panel(tab, 1).locator(".dot").bounding_box()
    go(tab, "at=0,0&camera=0.01,0.01,2.5,0,0,0")
    assert read(readings(tab)[1])[:2] == (0, 0)
    tab.mouse.move(place["x"] + 6, place["y"] + 6, steps=2)
    tab.wait_for_function("document.querySelectorAll('.reading')[1].textContent.startsWith('x = 0.5, y = 1:')")


def test_dragging_one_scene_turns_all(tab):
    before = camera(tab, 1)
    box = panel(tab, 1).locator(".scene").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] + 60, middle[1] + 20, steps=4)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    one, other = camera(tab, 0), camera(tab, 1)
    assert np.hypot(other["eye"]["x"] - before["eye"]["x"], other["eye"]["y"] - before["eye"]["y"]) > 0.05
    assert one["eye"] == pytest.approx(other["eye"], abs=1e-6)
    written = [float(part) for part in state(tab)["camera"].split(",")]
    assert written[:3] == pytest.approx([one["eye"][axis] for axis in "xyz"], abs=2e-3)
    tab.get_by_role("button", name="Reset view").click()
    settled(tab)
    assert camera(tab, 0)["eye"] == pytest.approx(before["eye"])
    assert camera(tab, 1)["eye"] == pytest.approx(before["eye"])


def test_keys_move_the_cross_hair_and_the_camera(tab, measured):
    x, y = (measured[HOSTILE, "5", "train"][axis] for axis in "xy")
    panel(tab, 0).locator(".cross").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        tab.keyboard.press(key)
        settled(tab)
    assert readings(tab)[0].startswith(f"x = {x[5]:.4g}, y = {y[3]:.4g}:")
    tab.keyboard.press("Home")
    settled(tab)
    assert readings(tab)[0].startswith("x = 0, y = 0:")
    panel(tab, 0).locator(".box.scene").focus()
    tab.keyboard.press("ArrowLeft")
    settled(tab)
    assert readings(tab)[0].startswith(f"x = {x[2]:.4g}, y = 0:")
    before = camera(tab, 1)
    distance = lambda found: np.linalg.norm([found["eye"][a] - found["center"][a] for a in "xyz"])  # noqa: E731
    tab.keyboard.press("+")
    settled(tab)
    nearer = camera(tab, 1)
    assert distance(nearer) == pytest.approx(distance(before) / 1.15)
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Shift+ArrowUp")
    settled(tab)
    turned = camera(tab, 1)
    assert distance(turned) == pytest.approx(distance(nearer))
    assert turned["eye"] != pytest.approx(nearer["eye"])
    assert camera(tab, 0)["eye"] == pytest.approx(turned["eye"])
    tab.keyboard.press("0")
    settled(tab)
    assert camera(tab, 0)["eye"] == pytest.approx(before["eye"])


def test_every_control_is_reached_by_tab_and_has_a_name(tab):
    tab.get_by_label("Term").select_option("total")
    settled(tab)
    tab.evaluate("document.activeElement.blur()")
    names = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        names.append(
            tab.evaluate(
                """() => {
                    const found = document.activeElement;
                    const labels = [...(found.labels ?? [])].map((label) => label.textContent).join();
                    if (found === document.body) return null;
                    return found.getAttribute("aria-label") || labels || found.textContent;
                }"""
            )
        )
        if names[-1] is None:
            break
    assert names[-1] is None
    assert all(names[:-1])
    wanted = [
        "Term",
        "\u03b1",
        "linear|log",
        "shared|own",
        "train|test",
        "Epoch",
        "Reset view",
        "Download the view as PNG",
    ]
    wanted += ["Download the contours as SVG", "Download all data as CSV"]
    for i, name in enumerate(wanted):
        assert names[i] in name.split("|")
    for name in NAMES:
        assert {f"About {name}"} <= set(names)
        assert sum(str(found).startswith(f"{name}, ") for found in names) == 2  # the scene and the plane


def test_charts_are_summed_up_for_a_screen_reader(tab, measured):
    box = panel(tab, 1).locator(".box.scene")
    assert box.get_attribute("role") == "application"
    said = tab.locator(f"#{box.get_attribute('aria-describedby')}").text_content()
    values = expected(measured["KD+DOT", "5", "train"], "ce")
    low, high = f"{np.nanmin(values):.4g}", f"{np.nanmax(values):.4g}"
    assert said.startswith(f"ce from {low} at x = ")
    assert f" to {high} at x = " in said


def test_a_view_is_restored_from_its_address(chromium, page, measured):
    fragment = "#term=kd&scale=log&colors=own&split=test&epoch=5&camera=1,2,0.5&at=0.333333,-1"
    with opened(chromium, page, fragment=fragment) as tab:
        settled(tab)
        assert_drawn(tab, 0, expected(measured[HOSTILE, "5", "test"], "kd", log=True))
        assert [camera(tab, 0)["eye"][axis] for axis in "xyz"] == pytest.approx([1, 2, 0.5])
        assert read(readings(tab)[0])[:2] == pytest.approx((0.3333, -1))
        for label in ("log", "own", "test"):
            assert tab.get_by_label(label, exact=True).is_checked()
        tab.get_by_label("Term").select_option("ce")
        settled(tab)
        kept = state(tab)
    assert kept == {"term": "ce", "scale": "log", "colors": "own", "split": "test", "epoch": "5",
                    "camera": "1,2,0.5,0,0,-0.12", "at": "0.333333,-1"}  # fmt: skip


def test_what_makes_no_sense_in_an_address_is_ignored(tab, measured):
    go(tab, "term=no&scale=cubic&colors=<b>&split=all&epoch=77&alpha=2&camera=0,0,0&at=1&x=__proto__")
    log = panel(tab, 1).locator(".plane .chart").evaluate("c => c.data[0].zmin") < 0
    for i, name in enumerate(NAMES):
        assert_drawn(tab, i, expected(measured[name, "5", "train"], "ce", log=log))
    go(tab, "camera=1,2,NaN&alpha=&at=Infinity,0&term=constructor")
    assert camera(tab, 0)["eye"]["x"] == pytest.approx(1.2)
    assert readings(tab)[0].startswith("x = 0, y = 0: ce")


def test_the_table_has_the_numbers_of_the_file(tab, measured):
    tab.get_by_label("Term").select_option("kd")
    settled(tab)
    rows = {}
    for row in tab.locator(".tables tbody tr").all():
        rows[row.locator("summary").text_content()] = row.locator("td").all_text_contents()
    for i, name in enumerate(NAMES):
        of = measured[name, "5", "train"]
        values = expected(of, "kd")
        row, column = np.unravel_index(np.nanargmin(values), values.shape)
        place = f"at x = {of['x'][column]:.4g}, y = {of['y'][row]:.4g}"
        assert rows["minimum on the grid"][i] == f"{values[row, column]:.4g}{place}"
        middle = (len(of["y"]) // 2, len(of["x"]) // 2)
        value, error = rows["value at the origin"][i].split(" ± ")
        assert float(value) == pytest.approx(of["kd"][middle], rel=1e-3)
        assert float(error) == pytest.approx(of["kd half"][middle], rel=0.05)
    assert rows["Hessian trace <b>"] == ["\u2013", "2.5 (1.5 to 3.5)"]
    assert "surface must be complete" in rows["curvature at the origin along x"][0]


def test_where_a_surface_comes_from_is_behind_a_button(tab):
    tab.get_by_role("button", name="About KD+DOT").click()
    dialog = tab.locator("dialog[open]")
    rows = dict(zip(*(dialog.locator(f"tbody {cell}").all_text_contents() for cell in ("th", "td")), strict=True))
    assert rows["normalize"] == "filter"
    assert rows["epoch"] == "5"
    assert rows["grid"] == "y 7 x x 5"
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0


def test_all_data_are_taken_away_as_a_table(tab, measured):
    text = saved(tab, "Download all data as CSV").path().read_text(encoding="utf-8")
    found = list(csv.DictReader(io.StringIO(text)))
    assert len(found) == sum(of["status"].size for of in measured.values())
    for (name, epoch, split), of in measured.items():
        rows = [row for row in found if (row["method"], row["epoch"], row["split"]) == (name, epoch, split)]
        y, x = np.meshgrid(of["y"], of["x"], indexing="ij")
        wanted = {"x": x, "y": y} | {term: of[term] for term in TERMS if term in of}
        wanted |= {f"{term}: 95 % half width": of[f"{term} half"] for term in TERMS if term in of}
        for column, values in wanted.items():
            np.testing.assert_array_equal([float(row[column]) for row in rows], values.ravel())
        assert [row["status"] for row in rows] == [("pending", "done", "not finite")[s] for s in of["status"].ravel()]
        assert ("kd" in of) or all(row["kd"] == "" for row in rows)


def test_the_view_is_taken_away_as_pictures(tab):
    png = saved(tab, "Download the view as PNG").path().read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(png) > 50_000
    root = ElementTree.fromstring(saved(tab, "Download the contours as SVG").path().read_text(encoding="utf-8"))
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "KD+DOT" in texts
    assert any(HOSTILE.startswith(text.rstrip("…")) and len(text) > 20 for text in texts)
    assert texts.count("x (filter norms)") == 2
    assert "ce, mean over 100 examples" in texts


def test_colours_follow_the_theme(tab):
    ink = "chart => chart.layout.font.color"
    scene = panel(tab, 0).locator(".scene .chart")
    light = (scene.evaluate(ink), tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    tab.emulate_media(color_scheme="dark")
    settled(tab)
    screenshot(tab, "surfaces-dark")
    dark = (scene.evaluate(ink), tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    tab.emulate_media(color_scheme="light")
    settled(tab)
    assert light == ("#1f2328", "rgb(255, 255, 255)")
    assert dark == ("#e6e8eb", "rgb(22, 25, 29)")
    assert scene.evaluate(ink) == light[0]


def test_a_telephone_does_not_scroll_sideways(chromium, page):
    with opened(chromium, page, width=390, height=800) as tab:
        settled(tab)
        screenshot(tab, "surfaces-phone")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tops = [one.bounding_box()["y"] for one in tab.locator(".panel").all()]
        assert tops[0] < tops[1]


def test_pages_with_little_to_see_say_so(chromium, folder):
    pending, broken, one = plane(), plane(1), plane(2, (1, 1), low=1e300)
    pending.status[:] = PENDING
    for term in TERMS:
        broken.means[term][:] = np.nan
    one.x, one.y, one.means["ce"] = np.zeros(1), np.zeros(1), np.array([[1e300]])
    one.means["error"][:] = 0
    ls.explore({"pending": pending, "broken": broken, "one cell": one}).write_html(folder / "little.html")
    with opened(chromium, folder / "little.html") as tab:
        settled(tab)
        screenshot(tab, "surfaces-little")
        assert panel(tab, 0).locator(".empty").text_content() == (
            "All cells of pending are pending: finish the measurement first."
        )
        assert panel(tab, 1).locator(".empty").text_content() == "No value of ce of broken is finite."
        assert drawn(tab, 2) == [[1e300]]
        assert "ce = 1e+300" in readings(tab)[2]
        assert "beyond 1e+30 cannot be drawn in 3-D" in tab.locator(".notes").text_content()
        tab.get_by_label("Term").select_option("error")
        pick(tab, "log")
        settled(tab)
        assert "above zero: choose the linear scale" in panel(tab, 2).locator(".empty").text_content()
        assert readings(tab)[2] == ""
    ls.explore({"pending": pending, "with zeros": plane(3)}).write_html(folder / "little.html")
    with opened(chromium, folder / "little.html", fragment="#term=error&scale=log") as tab:
        settled(tab)
        assert re.search(r"error = 0 ± 0\.0\d+ \(not shown on a log scale\)", readings(tab)[1])


def test_lines_are_curves_with_their_mean(chromium, folder):
    given = {"many": bundle(), "one": bundle(lines=1)}
    given["many"].status[1, 0] = PENDING
    for name, lines in given.items():
        ls.store.create_surface(folder / f"{name}.h5", lines)
    shown = {name: ls.load(folder / f"{name}.h5") for name in given} | {FORMULA: bundle(2)}
    ls.explore(shown).write_html(folder / "lines.html")
    with h5py.File(folder / "many.h5") as many, h5py.File(folder / "one.h5") as one:
        values, single, half = many["terms/ce"][()], one["terms/ce"][()], 1.96 * one["sem/ce"][()]
    values[1, 0] = np.nan
    with opened(chromium, folder / "lines.html") as tab:
        settled(tab)
        screenshot(tab, "lines")
        curves = [panel(tab, i).locator(".curves .chart").evaluate("c => c.data.map(t => t.y)") for i in (0, 1)]
        np.testing.assert_allclose(np.array(curves[0], dtype=float), np.vstack([values, values.mean(axis=0)]))
        np.testing.assert_allclose(np.array(curves[1], dtype=float), [single - half, single + half, single])
        assert tab.locator("canvas").count() == 0
        panel(tab, 0).locator(".cross").focus()
        tab.keyboard.press("ArrowRight")
        settled(tab)
        low, mean, high = (f"{of(values[:, 5]):.4g}" for of in (np.min, np.mean, np.max))
        assert readings(tab)[0] == f"x = 0.25: ce = {mean}, mean of 3 lines from {low} to {high}"
        go(tab, "at=-1,0")
        assert readings(tab)[0] == "x = -1: ce: 1 of 3 lines pending or not finite"
        text = saved(tab, "Download all data as CSV").path().read_text(encoding="utf-8")
        every = list(csv.DictReader(io.StringIO(text)))
        assert {row["method"] for row in every} == {"many", "one", f"'{FORMULA}"}, "text to a spreadsheet, no formula"
        assert any(float(row["x"]) < 0 for row in every), "a number keeps its sign"
        rows = [row for row in every if row["method"] == "many"]
        assert [row["direction"] for row in rows] == [str(i) for i in np.repeat(range(3), 9)]
        assert saved(tab, "Download the curves as SVG").suggested_filename == "lines.svg"
