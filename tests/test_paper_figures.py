"""The scripts of the paper's figures: what they write and say for the runs of a tiny study."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import tiny

import landscape as ls
from dot import runs

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
WRITTEN = {
    "figure_flatness": ("paper-curves", "paper-measures"),
    "figure_tradeoff": ("paper",),
    "figure_surfaces": ("paper", "paper-difference"),
}


@pytest.mark.parametrize("script", WRITTEN)
def test_a_script_writes_its_figures_and_says_their_captions(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    students = sorted(map(str, (tiny.finished_study() / "runs").glob("*-convnet4-*")))
    monkeypatch.setattr("sys.argv", [script, *students, "-o", str(tmp_path / "paper")])
    importlib.import_module(script).main()
    files = [tmp_path / f"{name}.{kind}" for name in WRITTEN[script] for kind in ("pdf", "svg", "png")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line in map(str, files)] == list(map(str, files))
    captions = [line for line in said if line not in map(str, files)]
    assert len(captions) == len(WRITTEN[script])
    assert all("KD+SGD" in caption and "KD+DOT" in caption for caption in captions)
    assert all(caption.endswith(".") for caption in captions)


def test_flatness_is_that_which_was_measured_alike_in_all_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    students = sorted((tiny.finished_study() / "runs").glob("kd-*-convnet4-*"))
    copies = [shutil.copytree(path, tmp_path / "runs" / path.name) for path in students]
    for copy in copies:
        for i in range(20):  # of which one is nearly always found before the right one
            (copy / f"flatness-test-ce-{i:08x}.h5").write_bytes(b"of another way")
    monkeypatch.setattr("sys.argv", ["it", *map(str, copies), "-o", str(tmp_path / "paper")])
    figures = importlib.import_module("figure_flatness")
    figures.main()
    assert "paper-measures.png" in capsys.readouterr().out
    next(copies[0].glob("flatness-train-*.h5")).unlink()
    with pytest.raises(SystemExit, match="measured in one way"):
        figures.main()


def test_captions_have_the_number_of_examples_and_seeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    students = sorted((tiny.finished_study() / "runs").glob("kd-*-convnet4-*"))
    monkeypatch.setattr("sys.argv", ["it", *map(str, students), "-o", str(tmp_path / "paper")])
    importlib.import_module("figure_flatness").main()
    said = capsys.readouterr().out
    lines = ls.load(students[0] / "lines.h5")
    seeds = {runs.open_run(path).config.seed for path in students}
    assert f"mean over {lines.attrs['n_examples']} training examples" in said
    assert f"{len(seeds)} seeds; {len(lines.x)} points along {len(lines.status)} filter-normalised directions" in said
    assert f"KD+DOT ({len(seeds)} seeds)" in said
