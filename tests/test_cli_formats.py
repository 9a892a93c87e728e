"""The verbs that write and read files of other programs, and the one that says whether files are whole."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tiny

import landscape as ls
from dot.cli import main

Call = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny study, in the folder ``study`` of the current one, beside ``surface.h5`` and ``lines.h5`` of a run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.finished_study(), "study")
    for name in ("surface.h5", "lines.h5", "conflict.h5"):
        shutil.copy(run_of(Path("study")) / name, name)
    return Path("study")


def run_of(study: Path) -> Path:
    return sorted((study / "runs").glob("kd-dot-convnet4-*"))[0]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line in this process: its status, stdout and stderr."""

    def call(command: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(shlex.split(command))
        return status, *capsys.readouterr()

    return call


# export


def test_export_writes_what_the_ending_says(study: Path, call: Call) -> None:
    surface = ls.load("surface.h5")
    assert isinstance(surface, ls.Surface)
    assert call("export surface.h5 -o s.csv") == (0, "s.csv\n", "")
    with open("s.csv", newline="") as file:
        assert [float(row["kd"]) for row in csv.DictReader(file)] == surface.values("kd").ravel().tolist()
    assert call("export surface.h5 --output s.npz")[0] == 0
    np.testing.assert_array_equal(np.load("s.npz")["error"], surface.values("error"))
    assert call("export surface.h5 -o o.h5 --term kd")[0] == 0
    with h5py.File("o.h5") as original:
        np.testing.assert_array_equal(original["train_loss"], surface.values("kd"))
        np.testing.assert_allclose(original["train_acc"], 100 - 100 * surface.values("error"), rtol=1e-14)
    status, out, _ = call("export surface.h5 -o s.vtp --term error --json")
    assert (status, json.loads(out)) == (0, {"surface": "surface.h5", "file": "s.vtp"})
    assert 'Scalars="error"' in Path("s.vtp").read_text()


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("export surface.h5", 2, "--output"),
        ("export -o s.csv", 2, "export --help"),
        ("export surface.h5 -o ./surface.h5", 2, "--output must be another file than the one that is read."),
        ("export surface.h5 -o s.pdf", 1, "s.pdf must end in one of .csv, .npz, .vtp, .h5. Got .pdf."),
        ("export surface.h5 -o s.vtp --term acc", 1, "one of ce, kd, error. Got 'acc'."),
        ("export surface.h5 -o s.csv --term ce", 1, "term must be left out for csv"),
        ("export lines.h5 -o s.vtp", 1, "VTP needs a plane"),
        ("export lines.h5 -o s.h5", 1, "Got a bundle of 3 lines."),
        ("export conflict.h5 -o s.csv", 1, "conflict.h5 must be a surface file. Got a conflict file."),
        ("export none.h5 -o s.csv", 1, "expected a file at none.h5. There is none."),
        ("export surface.h5 -o none/s.csv", 1, "none/s.csv cannot be written"),
        ("import surface.h5 -o s.h5", 1, "surface.h5 must be a surface file of the original loss-landscape tool"),
        ("import surface.h5 -o surface.h5", 2, "--output must be another file than the one that is read."),
        ("import surface.h5", 2, "--output"),
        ("import none.h5 -o s.h5", 1, "expected a file at none.h5. There is none."),
        ("import surface.h5 -o s.h5 --split validation", 2, "'validation'"),
        ("validate", 2, "expected at least one file or folder. Got none."),
    ],
)
def test_what_cannot_be_done_is_a_line_and_nothing_is_written(
    command: str, status: int, said: str, study: Path, call: Call
) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    got, out, err = call(command)
    assert (got, out) == (status, "")
    assert said in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


# import


def test_import_reads_what_export_has_written(study: Path, call: Call) -> None:
    call("export surface.h5 -o original.h5")
    status, out, err = call("import original.h5 -o imported.h5")
    assert (status, err) == (0, "")
    assert out == "imported.h5: <Surface y 3 x x 3: ce, correct; 9 of 9 cells done>\n"
    imported, measured = ls.load("imported.h5"), ls.load("surface.h5")
    assert isinstance(imported, ls.Surface)
    assert isinstance(measured, ls.Surface)
    np.testing.assert_array_equal(imported.values("ce"), measured.values("ce"))
    assert imported.attrs["imported_from"] == "original.h5"
    call("export imported.h5 -o again.h5")
    assert Path("again.h5").read_bytes() == Path("original.h5").read_bytes()
    status, out, _ = call("import original.h5 -o imported.h5 --json")
    assert json.loads(out)["cells"] == {"pending": 0, "done": 9, "not finite": 0}
    for verb in ("plot imported.h5 -o figure", "explore imported.h5 -o page.html", "validate imported.h5"):
        assert call(verb)[0] == 0


def test_import_of_one_of_two_splits(study: Path, call: Call) -> None:
    call("export surface.h5 -o original.h5")
    with h5py.File("original.h5", "r+") as file:
        file["test_loss"], file["test_acc"] = file["train_loss"][()] + 1, file["train_acc"][()]
    status, _, err = call("import original.h5 -o imported.h5")
    assert status == 1
    assert "split must say which one of original.h5 to read. Got train and test" in err
    assert call("import original.h5 -o imported.h5 --split test")[0] == 0
    assert ls.load("imported.h5").attrs["split"] == "test"


# validate


def test_what_was_made_is_whole(study: Path, call: Call) -> None:
    recipe = tiny.recipe(Path())
    paths = ["surface.h5", "lines.h5", "conflict.h5", str(recipe), str(study), str(run_of(study))]
    paths += [str(run_of(study) / name) for name in ("config.toml", "metrics.jsonl", "checkpoints/last.pt")]
    assert call(f"validate {' '.join(paths)}") == (0, "".join(f"{path}: whole\n" for path in paths), "")
    status, out, _ = call(f"validate {' '.join(paths)} --json")
    assert (status, json.loads(out)) == (0, {"whole": True, "faults": {path: [] for path in paths}})


def test_all_faults_of_all_paths_are_said_at_once(study: Path, call: Call) -> None:
    recipe = tiny.recipe(
        Path(), tiny.RECIPE.replace("heldout", "held_out").replace("plane_points = 3", "plane_points = 4")
    )
    with h5py.File("surface.h5", "r+") as file:
        file["status"][0, 0] = 7
        file["terms/ce"][0, 1] = np.nan
    command = f"validate surface.h5 {recipe} lines.h5 none.h5"
    status, out, err = call(command)
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "surface.h5: 2 faults"
    assert lines[1] == "  status must be 0, 1 or 2. Got 7 in 1 cell."
    assert lines[2] == "  ce must be finite in every done cell. Got 1 cell where it is not."
    assert lines[3] == f"{recipe}: 1 fault"
    assert "held_out is not known. Did you mean heldout?" in lines[4]
    assert "plane_points must be odd" in lines[4]
    assert lines[5:] == [
        "lines.h5: whole",
        "none.h5: 1 fault",
        "  expected a file at none.h5. There is none.",
    ]
    status, out, _ = call(f"{command} --json")
    found = json.loads(out)
    assert (status, found["whole"]) == (1, False)
    assert [len(faults) for faults in found["faults"].values()] == [2, 1, 0, 1]


def removed(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-20])


def with_digest(run: Path, digest: Any) -> None:
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"teacher_sha256": digest}))


def without_teacher(run: Path) -> None:
    for teacher in run.parent.glob("ce-resnet8-*"):
        shutil.rmtree(teacher)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (removed("model.safetensors"), "model.safetensors must be there. Got none: train the run to its end."),
        (removed("environment.json"), "environment.json must be there. Got none: train the run again."),
        (cut("model.safetensors"), "model.safetensors must be a safetensors file. Got one that is cut short"),
        (cut("environment.json"), "environment.json must be JSON"),
        (cut("config.toml"), "config.toml"),
        (cut("checkpoints/last.pt"), "last.pt must be a checkpoint of plain tensors"),
        (cut("conflict.h5"), "conflict.h5 must be an HDF5 file"),
        (lambda run: (run / "metrics.jsonl").write_text("junk\n"), "metrics.jsonl must hold a JSON record a line."),
        (lambda run: with_digest(run, None), "must hold the digest of ce-resnet8-"),
        (lambda run: with_digest(run, "abc"), "as teacher_sha256. Got 'abc'."),
        (without_teacher, "the teacher's run must lie beside this one. Got no ce-resnet8-"),
    ],
)
def test_each_thing_spoilt_in_a_run_folder_is_named(
    spoil: Callable[[Path], None], said: str, study: Path, call: Call
) -> None:
    run = run_of(study)
    spoil(run)
    for path in (run, study):
        status, out, _ = call(f"validate {path}")
        assert status == 1
        first, *faults = out.splitlines()
        assert first == f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}"
        assert any(fault.startswith(f"  {run}") and said in fault for fault in faults), out


def test_a_teacher_has_no_teacher(study: Path, call: Call) -> None:
    (teacher,) = (study / "runs").glob("ce-resnet8-*")
    with_digest(teacher, "0" * 64)
    status, out, _ = call(f"validate {teacher}")
    assert status == 1
    assert "environment.json must hold no digest of a teacher as teacher_sha256. Got '000" in out


def test_a_folder_and_a_file_of_another_kind(study: Path, call: Call) -> None:
    Path("empty").mkdir()
    Path("notes.txt").write_text("mine")
    status, out, err = call("validate empty notes.txt none")
    assert (status, err) == (1, "")
    assert out.splitlines() == [
        "empty: 1 fault",
        "  expected a run folder with a config.toml, or a study with a study.toml. Got neither.",
        "notes.txt: 1 fault",
        "  notes.txt must end in one of .h5, .pt, .safetensors, .jsonl, .json, .toml, .html, .pdf, .png, .svg, or be a "
        "folder. Got .txt.",
        "none: 1 fault",
        "  expected a file or folder at none. There is none.",
    ]


def test_notes_of_ones_own_in_a_run_folder_are_left_alone(study: Path, call: Call) -> None:
    (run_of(study) / "notes.txt").write_text("mine")
    assert call(f"validate {study}")[0] == 0


def test_a_surface_that_is_not_finished_is_whole_so_far(study: Path, call: Call) -> None:
    with h5py.File("surface.h5", "r+") as file:
        for name in file["terms"]:
            if name not in ("x", "y"):
                file[f"terms/{name}"][0], file[f"sem/{name}"][0] = np.nan, np.nan
        file["status"][0] = 0
        width = file["status"].shape[1]
    status, out, err = call("validate surface.h5")
    assert (status, err) == (0, "")
    assert out.strip() == f"surface.h5: whole so far, {width} cells pending"
