"""The command line: its examples run, its errors are a line with the right status, and its streams are kept apart."""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import pytest
import tiny
import torch
from tiny import CPU, RECIPE

import dot.cli._shared
from dot import runs
from dot.cli import main
from dot.cli.main import VERBS, module_of
from dot.config import Network, StudyConfig, load_study

PROGRAM = "dot-landscape"
MY_NETWORK = """
import torch
import landscape as ls
from torch import nn


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    batches = [(torch.randn(5, 1, 6, 6), torch.randint(0, 4, (5,))) for _ in range(60)]

    def objective(model, batch):
        images, labels = batch
        logits = model(images)
        ce = nn.functional.cross_entropy(logits, labels, reduction="none")
        return {"ce": ce, "kd": logits.log_softmax(1).mean(1).neg(), "error": (logits.argmax(1) != labels).float()}

    return ls.Problem(net, objective, batches)


def nothing():
    return 3


def broken():
    raise AttributeError("inside")


def late():
    import my_data

    return my_data.problem()
"""


def strict(text: str) -> Any:
    """JSON as other programs read it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def run(command: str | list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process."""
    arguments = shlex.split(command) if isinstance(command, str) else command
    return subprocess.run(
        [sys.executable, "-m", "dot", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which commands are run; with a module for ``--problem``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_network.py").write_text(MY_NETWORK)
    yield tmp_path
    sys.modules.pop("my_network", None)


@pytest.fixture
def finished(here: Path) -> Path:
    """The tiny study, in the folder ``study``."""
    shutil.copytree(tiny.finished_study(), here / "study")
    return here / "study"


def students(study: Path, method: str = "kd-dot") -> list[Path]:
    return sorted((study / "runs").glob(f"{method}-convnet4-*"))


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], status: int) -> None:
        self.status = status
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line in this process."""

    def call(command: str | list[str]) -> Said:
        capsys.readouterr()
        arguments = shlex.split(command) if isinstance(command, str) else command
        return Said(capsys, main(list(map(str, arguments))))

    return call


def assert_one_line(said: Any, status: int, *parts: str) -> None:
    """Nothing on stdout, and one line on stderr with these parts."""
    assert said.status == status, said.err
    assert said.out == ""
    assert said.err.startswith(f"{PROGRAM}: ")
    assert said.err.count("\n") == 1, said.err
    assert said.err.endswith("\n")
    for part in parts:
        assert part in said.err


# Help


def test_help_lists_every_verb_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from dot.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'matplotlib', 'plotly', 'h5py', 'sklearn', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"for verb in {list(VERBS)}:\n"
        "    assert main([verb, '--help']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for verb, does in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(does)}$", done.stdout, re.M)
    overview = done.stdout.split("usage: dot-landscape reproduce")[0]
    assert re.search(r"examples:\n  dot-landscape reproduce\n  dot-landscape reproduce --quick -o quick\n$", overview)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_ends_with_two_examples(verb: str, call: Any) -> None:
    said = call([verb, "--help"])
    assert said.status == 0
    assert said.err == ""
    module = module_of(verb)
    assert said.out.startswith(f"usage: {PROGRAM} {verb}")
    assert " ".join(module.__doc__.split())[:60] in " ".join(said.out.split())
    assert said.out.splitlines()[-3:] == ["examples:", *(f"  {PROGRAM} {example}" for example in module.EXAMPLES)]
    assert len(module.EXAMPLES) == 2
    for option in ("--json", "--debug"):
        assert option in said.out
    if verb not in ("info", "validate", "data", "doctor"):
        assert "-o PATH, --output PATH" in said.out


def test_no_verb_at_all(call: Any) -> None:
    said = call([])
    assert said.status == 2
    assert "usage: dot-landscape VERB" in said.out + said.err


def test_the_console_command_is_the_module(tmp_path: Path) -> None:
    wanted = f"{PROGRAM} {metadata.version(PROGRAM)}\n"
    assert run("--version", tmp_path).stdout == wanted
    command = Path(sys.executable).parent / PROGRAM
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, wanted)


# Examples


def shrunk(recipe: str, changes: Sequence[str] = ()) -> StudyConfig:
    """A shipped study with an epoch each, and small networks: its full form is the work of minutes."""
    whole = load_study(recipe, changes)
    if recipe != "digits":
        return whole
    network = Network("convnet4", replace(whole.student.train, epochs=1, milestones=()))
    measure = replace(whole.measure, plane_points=3, line_points=5, directions=2)
    return replace(whole, teacher=network, student=network, measure=measure, seeds=(0,), methods=("ce", "kd-dot"))


def test_every_example_runs(here: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which a user would; what an example reads was made by the one before it."""
    monkeypatch.setattr(dot.cli._shared, "load_study", shrunk)

    def after_train() -> None:
        shutil.copytree("runs", "quick/runs", ignore=shutil.ignore_patterns("*convnet4*"))  # students, trained once

    def after_reproduce() -> None:
        shutil.copytree("quick", "studies/digits-quick")

    def after_surface() -> None:
        small = ["surface", "--problem", "my_network:problem", "--x", "-1", "1", "3", "--y", "-1", "1", "3"]
        for part in ("0/2", "1/2"):
            for which in ("--shard", "--data-shard"):
                assert call([*small, "-o", "surface.h5", which, part]).status == 0

    def after_merge() -> None:
        for path in glob.glob("runs/*/surface.h5"):
            shutil.copy(path, "surface.h5")

    order = {
        "train": after_train,
        "reproduce": after_reproduce,
        "surface": after_surface,
        "merge": after_merge,
        **dict.fromkeys(
            (
                "conflict",
                "sharpness",
                "plot",
                "explore",
                "report",
                "export",
                "import",
                "info",
                "validate",
                "data",
                "doctor",
                "study",
            )
        ),
    }
    assert set(order) == set(VERBS)
    failed = []
    for verb, afterwards in order.items():
        for example in module_of(verb).EXAMPLES:
            arguments = shlex.split(example)
            assert arguments[0] == verb
            words = [word for a in arguments for word in (sorted(glob.glob(a)) if "*" in a else [a])]
            said = call(words)
            if said.status != 0 or said.err or not said.out.strip():
                failed.append(f"{example}: {said.status} {said.err}")
            elif "--json" in arguments:
                strict(said.out)
        if afterwards is not None:
            afterwards()
    assert failed == []
    written = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert {
        "lines.h5",
        "conflict.h5",
        "flatness/flatness.json",
        "contours.pdf",
        "contours.png",
        "layers.pdf",
        "surfaces.html",
        "explore.html",
        "report.html",
        "page.html",
        "page.md",
        "page-figures/curves-ce.svg",
        "studies/digits/report.html",
        "controls/controls.json",
        "controls/controls.html",
        "controls/figures/against-kd-sgd.pdf",
        "quick/study.json",
    } <= written
    (measured,) = (here / "runs").glob("kd-dot-convnet8-*/conflict-measured-test.h5")
    with h5py.File(measured) as file, h5py.File(here / "conflict.h5") as mine, h5py.File(here / "lines.h5") as lines:
        assert file.attrs["split"] == "test"
        assert mine["step"].shape == (50,)
        assert lines["terms/ce"].shape == (10, 21)
    assert (here / "page.html").read_text().count("<h1>Digits</h1>") == 1


# Wrong usage and failures


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("trian", ["verb must be a known one. Got 'trian'. Did you mean train?"]),
        ("zzz", ["Got 'zzz'. The verbs are reproduce, train,"]),
        ("--nonsense", ["Got '--nonsense'"]),
        ("train", ["train --help"]),
        ("train digits-quick --metod ce", ["--metod", "--method", "train --help"]),
        ("train digits-quick --method kd-dott", ["'kd-dott'", "'ce', 'kd-sgd', 'kd-dot'"]),
        ("train digits-quick --seed x", ["--seed", "'x'"]),
        ("train digits-quick extra", ["extra"]),
        ("surface", ["expected a run folder, or --problem module:function. Got neither."]),
        ("surface runs/x --problem a:b", ["Got both."]),
        ("conflict", ["Got neither."]),
        ("surface runs/x --x -1 1", ["--x", "3 values"]),
        ("surface runs/x --x a 1 3", ["--x", "'a'"]),
        ("surface runs/x --split validation", ["'validation'", "'train', 'test'"]),
        ("plot", ["expected at least one result file or run folder. Got none."]),
        ("explore", ["expected at least one surface file. Got none."]),
        ("report", ["expected at least one run folder. Got none."]),
        ("plot x.h5 --kind pie", ["'pie'", "contour"]),
        ("info", ["info --help"]),
        ("reproduce other.toml --quick", ["--quick is the digits study cut down", "leave one out"]),
    ],
)
def test_wrong_usage_is_a_line_and_status_2(command: str, parts: list[str], here: Path, call: Any) -> None:
    before = set(here.iterdir())
    assert_one_line(call(command), 2, *parts)
    assert set(here.iterdir()) == before, "nothing was written"


def test_wrong_usage_is_said_in_words_on_a_terminal_without_unicode(tmp_path: Path) -> None:
    done = run("train digits-quick --method kd-dott", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 2
    assert "kd-dott" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("train digitz", ["recipe must be a TOML file or one of", "Did you mean digits?"]),
        ("reproduce mine.toml", ["recipe must be a TOML file or one of", "mine.toml"]),
        ("train digits-quick --device gpu", ["device must be auto, cpu, cuda, cuda:N or mps. Got 'gpu'."]),
        ("train digits-quick --device meta", ["device must be auto, cpu, cuda, cuda:N or mps. Got 'meta'."]),
        ("train digits-quick --device cuda:99", ["use --device auto or cpu"]),
        ("train digits-quick --seed -1", ["seed must be at least 0. Got -1"]),
        ("surface none", ["expected a run folder with a config.toml at none. There is none."]),
        ("report none", ["expected a run folder with a config.toml at none. There is none."]),
        ("info none", ["expected a file or folder at none. There is none."]),
        ("plot none.h5", ["expected a file at none.h5. There is none."]),
        ("explore none.h5", ["expected a file at none.h5. There is none."]),
        ("info my_network.py", ["my_network.py must end in one of .h5,", "Got .py"]),
        ("info .", ["expected a run folder"]),
        ("surface --problem my_network", ["--problem must be module:function", "Got 'my_network'"]),
        ("surface --problem no_such_module:f", ["function that can be imported", "no_such_module"]),
        ("surface --problem my_network:f", ["function that can be imported", "my_network:f"]),
        ("surface --problem my_network:nothing", ["my_network:nothing must return a landscape.Problem. Got int."]),
        ("surface --problem my_network:problem --x 1 -1 11", ["-1"]),
        ("surface --problem my_network:problem --x 0 1 0", ["0"]),
        ("surface --problem my_network:problem --lines -3", ["-3"]),
        ("surface --problem my_network:problem -o none/s.h5", ["none/s.h5 cannot be written"]),
        ("conflict --problem my_network:problem --terms ce nothing", ["'nothing'", "ce, kd, error"]),
        ("conflict --problem my_network:problem --terms ce ce", ["two or more different names"]),
        ("conflict --problem my_network:problem --terms ce error", ["'error' must be differentiable"]),
        ("conflict --problem my_network:problem --batches 0", ["batches must be at least 1", "Got 0"]),
        ("conflict --problem my_network:problem --batches -2", ["batches must be at least 1", "Got -2"]),
        ("conflict --problem my_network:problem -o none/c.h5", ["none/c.h5 cannot be written"]),
    ],
)
def test_a_failure_is_a_line_and_status_1(command: str, parts: list[str], here: Path, call: Any) -> None:
    before = set(here.rglob("*"))
    assert_one_line(call(command), 1, *parts)
    after = {path for path in here.rglob("*") if "__pycache__" not in path.parts}
    assert after == before, "nothing was written"


def test_a_model_that_does_not_exist_is_said_before_anything_is_trained(here: Path, call: Any) -> None:
    recipe = tiny.recipe(here, RECIPE.replace("convnet4", "convnet44"))
    assert_one_line(call(["train", str(recipe)]), 1, "'convnet44'", "convnet4")
    assert not (here / "runs").exists()


def test_a_recipe_with_faults_is_a_line(here: Path, call: Any) -> None:
    recipe = tiny.recipe(here, RECIPE.replace("heldout", "held_out").replace("plane_points = 3", "plane_points = 4"))
    assert_one_line(call(["reproduce", str(recipe)]), 1, "has 2 faults", "Did you mean heldout?", "plane_points")


def test_an_error_inside_a_users_function_is_not_said_to_be_an_import(here: Path, call: Any) -> None:
    said = call("surface --problem my_network:broken")
    assert said.status == 1
    assert "can be imported" not in said.err
    assert "inside" in said.err


def test_a_users_function_may_import_what_lies_beside_it(here: Path) -> None:
    (here / "my_data.py").write_text("from my_network import problem\n")
    command = Path(sys.executable).parent / PROGRAM  # unlike `python -m`, it does not have this folder on its path
    arguments = ["conflict", "--problem", "my_network:late", "--batches", "1"]
    done = subprocess.run([command, *arguments], cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "conflict-measured.h5").exists()


def test_debug_shows_the_traceback(here: Path, call: Any) -> None:
    said = call("surface none --debug")
    assert said.status == 1
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.splitlines()[-1] == (f"{PROGRAM}: expected a run folder with a config.toml at none. There is none.")
    said = call("surface --debug")
    assert said.status == 2
    assert "Traceback" in said.err


def test_an_error_that_nobody_wrote_a_message_for_is_named(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("dot.cli.doctor.run", fail)
    assert_one_line(call("doctor"), 1, "AssertionError", "--debug shows where")


def test_interrupting_is_status_130(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dot.cli.doctor.run", interrupt)
    monkeypatch.setattr("dot.cli.train.run", interrupt)
    assert_one_line(call("doctor"), 130, "interrupted. Run it again.")
    kept = "interrupted. What was finished is kept: run the same command to go on."
    assert_one_line(call("train digits"), 130, kept)


# Files that are not what they should be


def junk(path: Path) -> None:
    path.write_bytes(b"junk" * 100)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1.0, 2.0]


def newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99


@pytest.mark.parametrize("spoil", [junk, truncated, empty, foreign, newer])
@pytest.mark.parametrize("verb", ["plot", "explore", "info"])
def test_hdf5_files_that_cannot_be_read(verb: str, spoil: Any, finished: Path, call: Any) -> None:
    path = students(finished)[0] / "surface.h5"
    spoil(path)
    assert_one_line(call([verb, path]), 1, str(path))


@pytest.mark.parametrize("name", ["surface.h5", "lines.h5", "conflict.h5"])
def test_a_report_says_which_file_is_broken(name: str, finished: Path, call: Any) -> None:
    folder = students(finished)[0]
    truncated(folder / name)
    assert_one_line(call(["report", folder]), 1, str(folder / name))
    assert not Path("report.html").exists()
    (folder / name).unlink()
    said = call(["report", folder])
    assert (said.status, said.err) == (0, "")
    assert f"there is no {name}." in Path("report.html").read_text()


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "model.safetensors", "environment.json", "metrics.jsonl"])
@pytest.mark.parametrize("spoil", [junk, truncated, empty])
def test_info_says_which_file_is_broken(name: str, spoil: Any, finished: Path, call: Any) -> None:
    path = students(finished)[0] / name
    spoil(path)
    said = call(["info", path])
    if name == "metrics.jsonl" and spoil is not junk:
        assert said.status == 0, "a last line that was cut short is left out, and no line is no record"
        return
    if name == "metrics.jsonl":
        path.write_bytes(b"junk\n" * 10)
        said = call(["info", path])
    assert_one_line(said, 1, str(path))


def test_a_study_with_a_broken_outcome(finished: Path, call: Any) -> None:
    for spoil in (truncated, empty):
        spoil(finished / "study.json")
        assert_one_line(call(["info", finished]), 1, "study.json")
        recipe = tiny.recipe(finished.parent)
        assert_one_line(call(["reproduce", recipe, "-o", finished]), 1, "study.json")


def test_a_foreign_checkpoint_has_no_place(here: Path, call: Any) -> None:
    for i, content in enumerate((torch.zeros(3), [1, 2], {"place": 3}, {"a": "text"}, {})):
        path = here / f"{i}.pt"
        torch.save(content, path)
        assert_one_line(call(["info", path]), 1, str(path))


def test_files_of_different_kinds_do_not_make_one_figure(finished: Path, call: Any) -> None:
    folder = students(finished)[0]
    surface, lines, conflict = (folder / name for name in ("surface.h5", "lines.h5", "conflict.h5"))
    assert_one_line(call(["plot", surface, conflict]), 1, "files must be of one kind")
    assert_one_line(call(["plot", surface, lines]), 1, "one kind")
    assert_one_line(
        call(["plot", surface, "--kind", "layers"]),
        1,
        "--kind must be one of auto, contour, relief, difference, error, trajectory for planes",
    )
    assert_one_line(
        call(["plot", conflict, "--kind", "curves"]),
        1,
        "auto, cosine, cosines, heatmap, layers, inconsistency, decomposition for conflict files",
    )
    assert_one_line(call(["plot", folder, "--kind", "curves"]), 1, "auto, tradeoff, flatness, verdicts for run folders")
    assert_one_line(call(["plot", folder, surface]), 1, str(surface))
    assert_one_line(call(["plot", surface, "--term", "nothing"]), 1, "'nothing'", "ce, kd, error")
    assert_one_line(call(["explore", surface, conflict]), 2, "surface and flatness files, or conflict files. Got both")
    assert_one_line(call(["explore", conflict, "--term", "ce"]), 2, "--term goes with surface files")
    assert_one_line(call(["explore", surface, lines]), 1, "planes or lines")
    assert_one_line(call(["explore", folder / "config.toml"]), 1, "config.toml must be an HDF5 file")
    assert_one_line(call(["explore", surface, "-o", surface / "page.html"]), 1, "surface.h5 must be a folder")


# What it says


def test_info_on_everything_that_is_written(finished: Path, call: Any) -> None:
    folder = students(finished)[0]
    wanted = {
        finished: ("kind: study", "students"),
        finished / "study.json": ("config_sha256", "accuracy"),
        folder: ("kind: run folder", "done: True", "epochs: 2 of 2", "checkpoints/last.pt", "temperature: 4.0"),
        folder / "surface.h5": ("dot-landscape/surface", "done: 9", "split: train"),
        folder / "lines.h5": ("dot-landscape/surface", "done: 27", "direction: 3"),
        folder / "conflict.h5": ("dot-landscape/conflict", "steps: 8", "heldout: 2", "momentum: 7", "conv1"),
        folder / "checkpoints" / "last.pt": ("kind: checkpoint", "epoch: 2", "conv1.weight: [4, 1, 3, 3]"),
        folder / "checkpoints" / "epoch-0001.pt": ("kind: weights of an epoch", "fc.bias: [10]"),
        folder / "model.safetensors": ("kind: weights", "conv1.weight: [4, 1, 3, 3]", "fc.bias: [10]"),
        folder / "metrics.jsonl": ("kind: records", "number: 2", "accuracy"),
        folder / "environment.json": ("teacher_sha256", "torch:"),
        folder / "config.toml": ("kind: run configuration", "method: kd-dot"),
        tiny.recipe(finished.parent): ("kind: study", "name: tiny"),
    }
    for path, parts in wanted.items():
        said = call(["info", path])
        assert said.status == 0, said.err
        assert said.err == ""
        assert said.out.splitlines()[0] == str(path)
        for part in parts:
            assert part in said.out, path
        said = call(["info", path, "--json"])
        assert said.status == 0
        assert isinstance(strict(said.out), dict)
    for path in finished.rglob("*"):
        assert call(["info", path, "--json"]).status == 0 or path.name in ("runs", "figures", "checkpoints"), path


def test_info_on_a_run_under_way(here: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dot import runs
    from dot.trainer import Trainer

    (here / "runs").mkdir()
    root, job = tiny.with_teacher(here / "runs"), tiny.config(here).student_run("kd-dot", 0)
    plain = Trainer.run_epoch

    def once(self: Trainer, stop: Any) -> Any:
        if self.place.epoch == 1:
            raise KeyboardInterrupt
        return plain(self, stop)

    monkeypatch.setattr(Trainer, "run_epoch", once)
    with pytest.raises(KeyboardInterrupt):
        runs.train(job, root, CPU)
    said = call(["info", root / job.name, "--json"])
    found = strict(said.out)
    assert (found["done"], found["epochs"]) == (False, "1 of 2")
    assert found["last epoch"]["epoch"] == 1
    assert strict(call(["info", root / job.name / "conflict.jsonl", "--json"]).out)["number"] == 4
    assert_one_line(call(["report", root / job.name]), 1, f"runs must be trained to their end. Got {root / job.name}")


def test_train_says_what_it_made(here: Path, call: Any) -> None:
    recipe, config = tiny.recipe(here), tiny.config(here)
    (here / "runs").mkdir()
    tiny.with_teacher(here / "runs")
    said = call(["train", recipe, "--seed", "1", "--json"])
    run = config.student_run("kd-dot", 1).name
    found = strict(said.out)
    assert found["run"] == f"runs/{run}"
    assert found["last"]["epoch"] == 2
    accuracy = 100 * found["last"]["test"]["accuracy"]
    said = call(["train", recipe, "--seed", "1"])
    assert said.out == f"runs/{run}: epoch 2, test accuracy {accuracy:.2f} %\n"
    assert (here / "runs" / run / "conflict.h5").exists()
    said = call(["train", recipe, "--method", "ce", "--no-recording", "-o", "runs", "--device", "cpu"])
    assert not (here / "runs" / config.student_run("ce", 0).name / "conflict.h5").exists()


def test_surface_and_conflict_of_a_users_network(here: Path, call: Any) -> None:
    said = call("surface --problem my_network:problem --x -0.5 0.5 3 --y -1 1 5 --json")
    found = strict(said.out)
    assert found["dims"] == {"y": 5, "x": 3}
    assert found["cells"] == {"pending": 0, "done": 15, "not finite": 0}
    before = tiny.mtimes(here)
    assert strict(call("surface --problem my_network:problem --x -0.5 0.5 3 --y -1 1 5 --json").out) == found
    assert tiny.mtimes(here) == before
    assert_one_line(call("surface --problem my_network:problem --seed 1"), 1, "differs in", "directions_sha256")
    found = strict(call("conflict --problem my_network:problem --json").out)
    assert found["records"] == {"steps": 60}
    assert found["means"]["cosine"]["low"] < found["means"]["cosine"]["mean"] < found["means"]["cosine"]["high"]
    assert found["all examples"]["counts"].keys() == {"ce", "kd"}
    said = call("conflict --problem my_network:problem --by parameter")
    assert "conflict-measured.h5: Conflict of ce, kd: 60 batches" in said.out
    assert "parameters" in said.out
    import my_network  # type: ignore[import-not-found]

    problem = my_network.problem()
    problem.model.eval()
    with torch.no_grad():
        values = torch.cat([problem.objective(problem.model, batch)["ce"] for batch in problem.batches])
    said = call("surface --problem my_network:problem --x -0.5 0.5 3 --y -1 1 5")
    assert f"15 cells done; at the origin ce {float(values.double().mean()):.4g} ±" in said.out


def test_more_than_two_terms(here: Path, call: Any) -> None:
    code = """
        import torch
        import landscape as ls

        def objective(model, batch):
            out = model(batch)
            return {"a": out[:, 0], "b": -out[:, 0] + out[:, 1], "c": out.square().sum(1)}

        def problem():
            torch.manual_seed(0)
            return ls.Problem(torch.nn.Linear(3, 2), objective, list(torch.randn(12, 3).split(5)))
    """
    (here / "three.py").write_text(textwrap.dedent(code))
    said = call("conflict --problem three:problem --terms a b c --by parameter -o c.h5")
    assert said.status == 0, said.err
    assert "c.h5: Conflict of a, b, c: 3 batches (a over 12, b over 12, c over 12), 2 parameters" in said.out
    assert strict(call("info c.h5 --json").out)["terms"] == ["a", "b", "c"]
    assert strict(call("plot c.h5 --json").out)["kind"] == "cosines"
    assert_one_line(call("plot c.h5 --kind cosine"), 1, "Got a, b, c. Choose two")


def test_figures_are_named_and_kept_where_asked(finished: Path, call: Any, caplog: pytest.LogCaptureFixture) -> None:
    both = students(finished) + students(finished, "ce")
    for files, options, kind, stem in (
        ([f / "surface.h5" for f in both], [], "contour", "contour"),
        ([f / "lines.h5" for f in both], ["-o", "out/lines"], "curves", "out/lines"),
        ([f / "conflict.h5" for f in both], [], "cosine", "cosine"),
        (both, ["--kind", "tradeoff"], "tradeoff", "tradeoff"),
    ):
        found = strict(call(["plot", *files, *options, "--json"]).out)
        assert (found["kind"], found["files"]) == (kind, [f"{stem}.{ending}" for ending in ("pdf", "svg", "png")])
        assert all(Path(path).stat().st_size > 5000 for path in found["files"])
        assert found["caption"].endswith(".")
    for folders, said in ((both, "CE minus KD+DOT: "), (students(finished), "KD+DOT (1) minus KD+DOT (2): ")):
        files = [f / "surface.h5" for f in folders]
        found = strict(call(["plot", *files, "--kind", "difference", "-o", "two.png", "--json"]).out)
        assert found["caption"].startswith(said), "of two methods the smallest seed of each; of one its two seeds"
    found = strict(call(["explore", *(f / "surface.h5" for f in both), "-o", "page.html", "--json"]).out)
    assert found == {"page": "page.html", "surfaces": ["CE", "KD+DOT"]}
    for folder in both:
        left = runs.open_run(folder).config.seed != 0
        assert (str(folder) in caplog.text) is left, "what is not shown is named"
    every = [path for f in both for path in sorted(f.glob("surface*.h5"))]
    assert strict(call(["explore", *every, "--json"]).out)["surfaces"] == ["CE", "KD+DOT"]


@functools.cache
def _reproduced() -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A whole study by a real process whose stderr is no terminal."""
    folder = tiny.folder()
    text = RECIPE.replace('["ce", "kd-sgd", "kd-dot"]', '["kd-dot"]').replace("[0, 1]", "[0]")
    tiny.recipe(folder, text.replace("resnet8", "convnet4"))
    return folder, run("reproduce tiny.toml -o study --json --device cpu", folder)


def test_results_go_to_stdout_and_progress_to_stderr_without_bars() -> None:
    folder, done = _reproduced()
    assert done.returncode == 0, done.stderr
    found = strict(done.stdout)
    assert found["report"] == "study/report.html"
    assert found["command"].endswith("reproduce tiny.toml -o study --json --device cpu")
    assert (folder / found["report"]).exists()
    steps = ["teacher", "train KD+DOT, seed 0", "measure KD+DOT, seed 0", "figures and report"]
    assert done.stderr.splitlines() == [f"[{i}/4] {step}" for i, step in enumerate(steps, 1)]
    assert "\r" not in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    """As in ``dot-landscape info ... | head -1``."""
    folder, _ = _reproduced()
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "dot", "info", "study"], cwd=folder, stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == ""


def test_a_terminal_without_unicode_gets_the_result() -> None:
    folder, _ = _reproduced()
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = run("reproduce tiny.toml -o study", folder, **plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy (%)" in done.stdout


# The doctor


def test_a_healthy_installation(call: Any, here: Path) -> None:
    said = call("doctor")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[-1] == "nothing is wrong"
    found = strict(call("doctor --json").out)
    assert found["wrong"] == []
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"][PROGRAM] == metadata.version(PROGRAM)
    assert found["threads"] == torch.get_num_threads()
    assert list(here.iterdir()) == [here / "my_network.py"]


def test_what_is_wrong_is_said_with_what_to_do(call: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def broken(name: str) -> str:
        if name == "tqdm":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "h5py" else version(name)

    monkeypatch.setattr(metadata, "version", broken)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    said = call("doctor")
    assert said.status == 1
    wrong = [line for line in said.out.splitlines() if line.startswith("wrong: ")]
    assert len(wrong) == 3
    assert "tqdm" in wrong[1] + wrong[0]
    assert "pip install" in wrong[0]
    assert "h5py" in wrong[0] + wrong[1]
    assert "Got 0.1" in wrong[0] + wrong[1]
    assert "0.10 GB" in wrong[2]
    assert len(strict(call("doctor --json").out)["wrong"]) == 3


def test_a_temporary_folder_that_is_not_there(call: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(here / "none"))
    said = call("doctor")
    assert said.status == 1
    assert "set TMPDIR elsewhere" in said.out


def test_files_of_ones_own_networks_keep_apart(here: Path, finished: Path, call: Any) -> None:
    """Two files of one name are two networks, whatever lies beside them."""
    surface, lines = (students(finished)[0] / name for name in ("surface.h5", "lines.h5"))
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "config.toml").write_text("[mine]\n")  # the user's own, not a run's
        shutil.copy(surface, here / name)
        shutil.copy(lines, here / name)
    found = strict(call("explore a/surface.h5 b/surface.h5 --json").out)
    assert found["surfaces"] == ["a/surface", "b/surface"]
    assert call("plot a/lines.h5 b/lines.h5").status == 0


def test_the_options_of_a_run_do_not_go_with_a_problem(call: Any) -> None:
    for options in ("--split test", "--epoch 1", "--device cpu"):
        said = call(f"surface --problem my_network:problem {options}")
        assert_one_line(said, 2, "--split, --epoch and --device go with a run folder")
