"""``dot-landscape plot``: every kind of figure from files, for a page too, with its caption, and what it refuses."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import landscape as ls
from dot.cli import main
from landscape import plot

ENDINGS = ("pdf", "svg", "png")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def problem(seed: int = 0) -> ls.Problem:
    torch.manual_seed(9)
    data = [(torch.randn(12, 3), torch.randint(0, 2, (12,)))]
    loss = nn.CrossEntropyLoss(reduction="none")
    return ls.Problem.from_loss(network(seed), {"ce": loss, "twice": lambda out, y: 2 * loss(out, y)}, data)


@functools.cache
def made() -> Path:
    """Result files of tiny networks: planes, a run's plane, paths, lines, conflicts, flatness."""
    folder = tiny.folder() / "results"
    folder.mkdir()
    grid = ls.Grid2D(x=(-1, 1, 5), y=(-1, 1, 3))
    for name, seed in (("a", 0), ("b", 1)):
        p = problem(seed)
        ls.evaluate(p, ls.directions.random(p.model, n=2, seed=0), grid, out=folder / f"{name}.h5")
        ls.conflict.measure(p, terms=("ce", "twice")).save(folder / f"conflict-{name}.h5")
        ls.sharpness.summary(p, measures=["sam", "noise-0.25"], n_directions=2).save(folder / f"flatness-{name}.h5")
    p = problem()
    run = ls.directions.trajectory(p.model, [network(seed) for seed in range(4)])
    ls.evaluate(p, run, grid, out=folder / "run.h5")
    curve = ls.connectivity.bezier(p, network(1), term="ce", steps=2, lr=0.1)
    ls.evaluate(p, curve.directions, curve.path(5), out=folder / "path.h5")
    straight = ls.directions.interpolation(p.model, network(1))
    ls.evaluate(p, straight, ls.Grid1D((0, 1, 5)), out=folder / "straight.h5")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made(), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb in this process: exit status, stdout, stderr."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["plot", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return call


def load(*names: str) -> dict[str, Any]:
    return {name: ls.load(f"{name}.h5") for name in names}


def of(*names: str) -> dict[str, list[Any]]:
    return {name: [result] for name, result in load(*names).items()}


EVERY = {
    "contour": ("a b", lambda: plot.contour(load("a", "b"), term="ce")),
    "relief": ("a b", lambda: plot.relief(load("a", "b"), term="ce")),
    "difference": ("a b", lambda: plot.difference(*load("a", "b").values(), term="ce", names=("a", "b"))),
    "error": ("a b", lambda: plot.error(load("a", "b"), term="ce")),
    "trajectory": ("run", lambda: plot.trajectory(load("run"), term="ce")),
    "curves": ("straight", lambda: plot.curves(of("straight"), term="ce")),
    "connectivity": ("path straight", lambda: plot.connectivity(load("path", "straight"), term="ce")),
    "cosine": ("conflict-a", lambda: plot.cosine(of("conflict-a"))),
    "cosines": ("conflict-a", lambda: plot.cosines(ls.load("conflict-a.h5"))),
    "heatmap": ("conflict-a conflict-b", lambda: plot.heatmap(load("conflict-a", "conflict-b"))),
    "layers": ("conflict-a", lambda: plot.layers(of("conflict-a"))),
    "inconsistency": ("conflict-a", lambda: plot.inconsistency(of("conflict-a"))),
    "decomposition": ("conflict-a conflict-b", lambda: plot.decomposition(of("conflict-a", "conflict-b"))),
    "flatness": ("flatness-a flatness-b", lambda: plot.flatness(ls.sharpness.compare(of("flatness-a", "flatness-b")))),
    "verdicts": ("flatness-a flatness-b", lambda: plot.verdicts(ls.sharpness.compare(of("flatness-a", "flatness-b")))),
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_is_the_figure_of_the_library(kind: str, here: Path, call: Any) -> None:
    files, draw = EVERY[kind]
    status, out, _ = call(*(f"{name}.h5" for name in files.split()), "--kind", kind, "--json", "-o", "made.png")
    assert status == 0
    found = json.loads(out)
    expected = draw()
    assert found == {"kind": kind, "files": ["made.png"], "caption": plot.caption(expected)}
    plot.save(expected, "expected.png")
    assert Path("made.png").read_bytes() == Path("expected.png").read_bytes()


def test_a_trade_off_says_that_its_losses_are_of_the_test_images_and_where_the_rate_drops(
    here: Path, call: Any
) -> None:
    folder = next((tiny.finished_study() / "runs").glob("kd-dot-convnet4-*"))
    status, out, _ = call(folder, "--kind", "tradeoff", "--json", "-o", "made.png")
    assert status == 0
    epochs = [json.loads(row)["test"] for row in (folder / "metrics.jsonl").read_text().splitlines()]
    path = tuple(np.array([epoch[term] for epoch in epochs]) for term in ("ce", "kd"))
    drops = tomllib.loads((folder / "config.toml").read_text())["train"]["milestones"]
    assert drops
    labels = ("task loss (test)", "distillation loss (test)")
    expected = plot.tradeoff({"KD+DOT": [path]}, labels=labels, marks=drops)
    assert json.loads(out)["caption"] == plot.caption(expected)
    plot.save(expected, "expected.png")
    assert Path("made.png").read_bytes() == Path("expected.png").read_bytes()


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ("a.h5", "contour"),
        ("path.h5", "connectivity"),
        ("path.h5 straight.h5", "curves"),
        ("conflict-a.h5", "cosine"),
        ("flatness-a.h5 flatness-b.h5", "flatness"),
    ],
)
def test_the_usual_kind_follows_from_the_files(files: str, kind: str, here: Path, call: Any) -> None:
    status, out, _ = call(*files.split())
    assert status == 0
    *written, said = out.splitlines()
    assert written == [f"{kind}.{ending}" for ending in ENDINGS]
    assert said.endswith(".")
    assert all(Path(path).stat().st_size > 1000 for path in written)


def test_a_name_with_an_ending_is_one_file(here: Path, call: Any) -> None:
    before = set(here.iterdir())
    assert call("a.h5", "-o", "out/mine.svg")[0] == 0
    assert set(here.iterdir()) - before == {here / "out"}
    assert [path.name for path in (here / "out").iterdir()] == ["mine.svg"]


@pytest.mark.parametrize(("columns", "points"), [(1, 234.0), (2, 486.0)])
def test_a_figure_for_a_page_has_the_width_of_its_columns(columns: int, points: float, here: Path, call: Any) -> None:
    assert call("a.h5", "--style", "paper", "--columns", columns, "-o", "page.svg")[0] == 0
    (width,) = re.findall(r'<svg [^>]*width="([\d.]+)pt"', Path("page.svg").read_text())
    assert float(width) == pytest.approx(points)


def test_a_term_is_chosen(here: Path, call: Any) -> None:
    _, out, _ = call("a.h5", "--term", "twice", "--json")
    assert json.loads(out)["caption"].startswith("twice, mean over 12 examples")


REFUSED = {
    "a.h5 b.h5 run.h5 --kind difference": (1, "--kind difference needs two planes. Got 3: a, b, run."),
    "a.h5 --kind difference": (1, "--kind difference needs two planes. Got 1: a (1)."),
    "a.h5 --kind trajectory": (1, "with the places of its checkpoints. Got one without places."),
    "a.h5 --kind heatmap": (
        1,
        "--kind must be one of auto, contour, relief, difference, error, trajectory for planes.",
    ),
    "path.h5 --kind relief": (1, "--kind must be one of auto, curves, connectivity for lines. Got 'relief'."),
    "conflict-a.h5 conflict-b.h5 --kind cosines": (1, "files must be one conflict file for --kind cosines. Got 2."),
    "flatness-a.h5 --kind contour": (1, "--kind must be one of auto, flatness, verdicts for flatness files."),
    "flatness-a.h5": (1, "flatness must be of two methods or more, to be compared. Got one."),
    "a.h5 path.h5": (1, "files must be of one kind. Got planes and lines together."),
    "a.h5 flatness-a.h5": (1, "files must be of one kind, surfaces, conflicts or flatness. Got: flatness, surface."),
    "a.h5 --columns 2": (2, "--columns goes with --style paper. Got 2 without it."),
    "a.h5 -o a.jpg": (2, "--output must end in .pdf, .svg or .png, or have no ending. Got a.jpg."),
    "a.h5 --style poster": (2, "'poster'"),
    "a.h5 -o b.h5/figure": (1, "b.h5/figure cannot be written: "),
    "a.h5 -o b.h5/more/figure.pdf": (1, "Give another place with -o."),
    "a.h5 -o /proc/none/figure": (1, "/proc/none/figure cannot be written: "),
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_drawn_is_a_line_that_says_what_can(command: str, here: Path, call: Any) -> None:
    before = {path: path.stat().st_size for path in here.rglob("*")}
    status, out, err = call(*command.split())
    assert (status, REFUSED[command][1] in err, out) == (REFUSED[command][0], True, ""), err
    assert err.count("\n") == 1
    assert {path: path.stat().st_size for path in here.rglob("*")} == before, "nothing was written"


def test_a_surface_without_a_finite_value_and_one_that_is_pending(here: Path, call: Any) -> None:
    import h5py

    for name, status in (("nan", 2), ("pending", 0)):
        shutil.copy("a.h5", f"{name}.h5")
        with h5py.File(f"{name}.h5", "r+") as file:
            file["terms/ce"][...] = np.nan
            file["status"][...] = status
        for kind in ("contour", "relief", "difference"):
            code, _, err = call(f"{name}.h5", *(["a.h5"] if kind == "difference" else []), "--kind", kind)
            assert code == 1
            assert "finite" in err
            assert "Got none." in err
