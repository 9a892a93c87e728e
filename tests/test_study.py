"""A tiny study from end to end: its files, its numbers recomputed from them, and what a second call does."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tiny
import torch
from tiny import CPU, RECIPE
from torch.nn import functional as F

import landscape as ls
from dot import gallery, models, outcome, runs, study
from dot.cli import main
from dot.config import METHODS, Paper, StudyConfig, load_study
from dot.data.drawing import drawn as draw
from dot.data.images import Split
from dot.findings import gather
from dot.flatness import Asked
from dot.outcome import COLUMNS, Outcome, Student
from dot.runs import Run
from dot.trainer import Trainer
from landscape import store
from landscape.sharpness import Flatness

FIGURES = (
    "curves-ce", "curves-kd", "verdicts", "flatness", "contours-ce", "contours-kd", "relief", "tradeoff", "cosine",
    "decomposition", "layers", "heatmap",
)  # fmt: skip
PAGES = {"explore.html", "conflict.html"}


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return tiny.config(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the finished tiny study, free to be changed."""
    shutil.copytree(tiny.finished_study(), tmp_path / "study")
    return tmp_path / "study"


def finished(config: StudyConfig) -> Outcome:
    found = outcome.finished(tiny.finished_study(), config)
    assert found is not None
    return found


def strict(text: str) -> Any:
    """JSON as other programs read it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_all_the_files_are_there(config: StudyConfig) -> None:
    folder = tiny.finished_study()
    assert {path.name for path in folder.iterdir()} == {"figures", "report.html", "runs", "study.json", "study.toml"}
    wanted = {f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "svg", "png")} | PAGES
    assert {path.name for path in (folder / "figures").iterdir()} == wanted
    jobs = [config.student_run(method, seed) for method in METHODS for seed in (0, 1)]
    assert {path.name for path in (folder / "runs").iterdir()} == {config.teacher_run().name} | {j.name for j in jobs}
    for job in jobs:
        with h5py.File(folder / "runs" / job.name / "surface.h5") as file:
            assert file["terms/ce"].shape == (3, 3)
            assert set(file["terms"]) == {"ce", "kd", "error", "x", "y"}
            assert file["x"][()].tolist() == [-0.5, 0, 0.5]
            assert file.attrs["split"] == "train"
            assert (file["status"][()] == 1).all()
        with h5py.File(folder / "runs" / job.name / "lines.h5") as file:
            assert file["terms/ce"].shape == (3, 9)
            assert (file["status"][()] == 1).all()
        assert (folder / "runs" / job.name / "conflict.h5").exists()
        (flat,) = (folder / "runs" / job.name).glob("flatness-train-ce-*.h5")
        assert isinstance(ls.load(flat), Flatness)


def test_students_of_one_seed_are_measured_along_the_same_directions(config: StudyConfig) -> None:
    """The same draws, each scaled to the filters of its own weights: equal but for a factor a filter."""
    drawn: dict[int, list[np.ndarray]] = {}
    for student in finished(config).students:
        with h5py.File(tiny.finished_study() / "runs" / student.run / "lines.h5") as file:
            found = np.concatenate([file[f"directions/{i}/conv1.weight"][()].reshape(4, 9) for i in range(3)])
        drawn.setdefault(student.seed, []).append(found / np.linalg.norm(found, axis=1, keepdims=True))
    assert {seed: len(of) for seed, of in drawn.items()} == {0: 3, 1: 3}
    for first, *others in drawn.values():
        for other in others:
            np.testing.assert_allclose((first * other).sum(1), 1, atol=1e-5)
    assert np.abs((drawn[0][0] * drawn[1][0]).sum(1)).min() < 0.9, "other seeds have directions of their own"


def recomputed(run: Path) -> dict[str, float]:
    """The numbers of a student from the files of its run, without the package's own code."""
    teacher = next(run.parent.glob("*resnet8*"))
    student, guide = (models.build(name, in_channels=1, num_classes=10).eval() for name in ("convnet4", "resnet8"))
    for network, path in ((student, run), (guide, teacher)):
        network.load_state_dict(torch.load(path / "checkpoints" / "last.pt", weights_only=True)["model"])
    data = tiny.digits(CPU)
    found = tiny.numbers_of(student, guide, data, data.test, 4.0)
    found["accuracy"] *= 100
    found["accuracy_best"] = 100 * max(line["test"]["accuracy"] for line in tiny.metrics(run))
    with h5py.File(run / "conflict.h5") as file:
        found["cosine"] = statistics.fmean(file["cosine"][()])
        found["cosine_heldout"] = statistics.fmean(file["heldout/cosine"][()])
    return found


def test_the_numbers_are_those_of_the_files(config: StudyConfig) -> None:
    found = finished(config)
    assert [(s.method, s.seed) for s in found.students] == [(m, s) for m in METHODS for s in (0, 1)]
    for student in found.students:
        wanted = recomputed(tiny.finished_study() / "runs" / student.run)
        assert student.run == config.student_run(student.method, student.seed).name
        assert student.numbers == pytest.approx(wanted, rel=1e-5)
        assert list(student.numbers) == list(COLUMNS)
    assert found.teacher.run == config.teacher_run().name
    assert found.seconds > 0


def test_the_flatness_of_a_student_is_that_of_its_lines_and_the_verdict_that_of_its_pairs(config: StudyConfig) -> None:
    found = finished(config)
    rises: dict[str, list[float]] = {}
    for student in found.students:
        run = tiny.finished_study() / "runs" / student.run
        with h5py.File(run / "lines.h5") as file:
            x, lines, origin = file["x"][()], file["terms/ce"][()], float(file["origin/terms/ce"][()])
        wanted = statistics.fmean(line[np.abs(x) == 0.25].mean() - origin for line in lines)
        flat = flatness_of(run)
        assert flat["noise-0.25"].value == pytest.approx(wanted, rel=1e-9)
        rises.setdefault(METHODS[student.method], []).append(wanted)
    heading, *rows = found.flatness
    assert heading == (
        "flatness", "CE", "KD+SGD", "KD+DOT", "KD+SGD against CE", "KD+DOT against CE", "KD+DOT against KD+SGD"
    )  # fmt: skip
    row = next(row for row in rows if row[0] == "expected sharpness at 0.25")
    assert row[1:4] == tuple(f"{math.sqrt(a * b):.3g}" for a, b in rises.values())
    said = "\n".join(found.verdict)
    for (one, other), cell in zip((("KD+SGD", "CE"), ("KD+DOT", "CE"), ("KD+DOT", "KD+SGD")), row[4:], strict=True):
        ratios = [a / b for a, b in zip(rises[one], rises[other], strict=True)]
        size = f"{math.sqrt(ratios[0] * ratios[1]):.3g} ["
        assert size in said
        assert cell.startswith("not told apart") or re.match(rf"(flatter|sharper) \(x {re.escape(size)}", cell)


def flatness_of(run: Path) -> Flatness:
    (path,) = run.glob("flatness-train-ce-*.h5")
    found = ls.load(path)
    assert isinstance(found, Flatness)
    return found


def test_the_gap_is_test_minus_training_loss(config: StudyConfig) -> None:
    student = finished(config).students[0]
    run = runs.open_run(tiny.finished_study() / "runs" / student.run)
    data = tiny.digits(CPU)
    network = run.network(data, CPU)
    chosen = draw(len(data.train), 64, 0)

    def loss(part: Split, which: torch.Tensor) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(network(data.inputs(part.images[which])), part.labels[which]))

    wanted = loss(data.test, torch.arange(len(data.test))) - loss(data.train, chosen)
    assert flatness_of(run.path).attrs["gap"] == pytest.approx(wanted, rel=1e-4)


def test_the_table_has_mean_and_deviation_over_seeds(config: StudyConfig) -> None:
    found = finished(config)
    heading, *rows = outcome.table(found.students)
    assert heading == ["", "CE", "KD+SGD", "KD+DOT"]
    assert [row[0] for row in rows] == [*COLUMNS.values(), "seeds (n)"]
    for key, row in zip(COLUMNS, rows, strict=False):
        for method, cell in zip(METHODS, row[1:], strict=True):
            group = [student for student in found.students if student.method == method]
            a, b = (student.numbers[key] for student in group)
            digits = 2 if key.startswith("accuracy") else 3
            mean, spread = (a + b) / 2, abs(a - b) / math.sqrt(2)
            assert cell == f"{mean:.{digits}f} ± {spread:.{digits}f}"
    assert rows[-1] == ["seeds (n)", "2", "2", "2"]


def students(*accuracies: float, method: str = "ce") -> list[Student]:
    return [
        Student(method, seed, f"{method}-{seed}", dict.fromkeys(COLUMNS, value))
        for seed, value in enumerate(accuracies)
    ]


def test_cells_of_a_table() -> None:
    def column(*args: Any, **more: Any) -> list[str]:
        return [row[1] for row in outcome.table(students(*args, **more))]

    assert column(90.0, 91.0, 92.5)[1] == "91.17 ± 1.26"
    assert column(90.0, 91.0, 92.5)[-1] == "3"
    assert column(90.0)[1:4] == ["90.00", "90.00", "90.000"], "one seed has no deviation"
    assert column(1.0, math.nan)[1] == "undefined"
    assert column(1.0, 2.0, method="kd-dot")[0] == "KD+DOT"


def test_the_papers_row_stands_beside_ours() -> None:
    paper = Paper(source="the paper, table 1", kd_sgd=73.33, kd_dot=75.12)
    both = [*students(70.0, method="ce"), *students(71.0, method="kd-sgd"), *students(72.0, method="kd-dot")]
    rows = outcome.table(both, paper)
    assert rows[-2] == ["accuracy in the paper, table 1 (%)", "not stated", "73.33", "75.12"]
    assert rows[:-2] + rows[-1:] == outcome.table(both) == outcome.table(both, Paper())


def test_the_table_as_text_is_aligned(config: StudyConfig) -> None:
    rows = outcome.table(finished(config).students)
    lines = outcome.as_text(rows).splitlines()
    assert re.fullmatch(r"-+(  -+){3}", lines[1])
    starts = [match.start() for match in re.finditer(r"-+", lines[1])]
    for row, line in zip(rows, [lines[0], *lines[2:]], strict=True):
        for start, cell in zip(starts, row, strict=True):
            assert line[start:].startswith(cell)
    assert not any(line != line.rstrip() for line in lines)


def test_the_report_has_the_table_the_figures_and_how_to_repeat_them(config: StudyConfig) -> None:
    folder = tiny.finished_study()
    page = (folder / "report.html").read_text()
    for row in outcome.table(finished(config).students):
        for cell in row:
            assert cell in page
    for name in ("tiny", "resnet8", "convnet4", "digits", "seeds 0, 1 of each", "[student.train]", torch.__version__):
        assert name in page
    assert len(re.findall('<img src="data:image/(svg.xml|png);base64,', page)) == len(FIGURES)
    assert "<script" not in page
    assert not re.search(r'(src|href)="(http|//)', page), "nothing is fetched"
    assert str(folder) not in page
    assert set(re.findall(r'href="figures/([^"]*)"', page)) == PAGES


def test_the_figures_of_the_report_are_those_of_the_folder() -> None:
    folder = tiny.finished_study()
    groups = gallery.by_method([runs.open_run(path) for path in sorted((folder / "runs").glob("*convnet4*"))])
    findings = gather(groups)
    assert findings.asked == Asked(images=64, directions=3, points=9)
    drawn = gallery.pictures(findings)
    assert tuple(picture.name for picture in drawn) == FIGURES
    without = gallery.pictures(replace(findings, verdict=None))
    assert {picture.name for picture in drawn} - {picture.name for picture in without} == {"verdicts", "flatness"}
    assert all(picture.title and len(picture.meaning) > 60 for picture in drawn)
    for path in (folder / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    for path in (folder / "figures").glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


def test_the_way_through_both_losses_is_that_of_the_metrics() -> None:
    found = sorted((tiny.finished_study() / "runs").glob("kd-*convnet4*"))
    groups = gallery.by_method([runs.open_run(path) for path in found])
    assert list(groups) == ["KD+SGD", "KD+DOT"], "in the order of METHODS"
    for name, ways in gallery.paths(groups).items():
        for run, (ce, kd) in zip(groups[name], ways, strict=True):
            lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
            assert [epoch["test"]["ce"] for epoch in lines] == ce.tolist()
            assert [epoch["test"]["kd"] for epoch in lines] == kd.tolist()


def test_a_second_call_does_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tiny.mtimes(folder)
    recipe = tiny.recipe(tmp_path)
    assert main(["reproduce", str(recipe), "-o", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "nothing to do: this study is finished (6 students" in printed.out
    assert study.reproduce(tiny.config(tmp_path), folder, CPU) == finished(tiny.config(tmp_path))
    assert outcome.as_text(outcome.table(finished(tiny.config(tmp_path)).students)) in printed.out
    assert tiny.mtimes(folder) == before


def test_deleting_the_report_makes_the_report_again(
    folder: Path, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "report.html").unlink()
    assert outcome.finished(folder, config) is None
    before = tiny.mtimes(folder / "runs")
    figures = {path.name: path.read_bytes() for path in (folder / "figures").iterdir() if path.suffix != ".html"}
    monkeypatch.setattr(Trainer, "__init__", None)
    monkeypatch.setattr(store.SurfaceWriter, "__init__", None)
    again = study.reproduce(config, folder, CPU)
    assert again.students == finished(config).students
    assert tiny.mtimes(folder / "runs") == before
    assert {name: (folder / "figures" / name).read_bytes() for name in figures} == figures
    assert outcome.table(again.students)[1][1] in (folder / "report.html").read_text()
    assert outcome.finished(folder, config) == again


class Break:
    """Interrupts what it is called from at the n-th call."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupt(patch: pytest.MonkeyPatch, where: type, name: str, n: int) -> None:
    plain, at = getattr(where, name), Break(n)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        at()
        return plain(*args, **kwargs)

    patch.setattr(where, name, wrapped)


def test_an_interrupted_study_goes_on(tmp_path: Path, config: StudyConfig) -> None:
    """In the training of the second student, twice while surfaces are measured, and before the figures."""
    folder, whole = tmp_path / "study", tiny.finished_study()
    (folder / "runs").mkdir(parents=True)
    tiny.with_teacher(folder / "runs")
    for where, name, n in (
        (Trainer, "run_epoch", 4),
        (store.SurfaceWriter, "add", 2),
        (store.SurfaceWriter, "add", 14),
        (gallery, "draw", 1),
    ):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, where, name, n)
            with pytest.raises(KeyboardInterrupt):
                study.reproduce(config, folder, CPU)
        assert outcome.finished(folder, config) is None
        assert not (folder / "report.html").exists()
    done = study.reproduce(config, folder, CPU)
    assert done.students == finished(config).students
    assert done.teacher == finished(config).teacher
    for run in (whole / "runs").iterdir():
        assert tiny.differences(folder / "runs" / run.name, run) == []
    for path in (whole / "figures").iterdir():
        if path.suffix != ".html":
            assert (folder / "figures" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("way", ["command line", "python"])
def test_a_folder_of_another_configuration_is_refused(
    way: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = RECIPE.replace("epochs = 2", "epochs = 1")
    recipe, before = tiny.recipe(tmp_path, text), tiny.mtimes(folder)
    words = f"{folder} must hold the study 'tiny' of this recipe. Got one of another configuration"
    if way == "python":
        with pytest.raises(ValueError, match=re.escape(words)):
            study.reproduce(tiny.config(tmp_path, text), folder, CPU)
    else:
        assert main(["reproduce", str(recipe), "-o", str(folder)]) == 1
        assert words in capsys.readouterr().err
    assert tiny.mtimes(folder) == before


def test_a_study_on_the_device(tmp_path: Path, device: torch.device, caplog: pytest.LogCaptureFixture) -> None:
    """One method, one seed, nothing recorded while training."""
    text = (
        RECIPE.replace('["ce", "kd-sgd", "kd-dot"]', '["kd-dot"]')
        .replace("[0, 1]", "[7]")
        .replace("resnet8", "convnet4")
        .replace("every = 4", "every = 0")
        .replace("images = 64\n", "")
    )
    config, folder = tiny.config(tmp_path, text), tmp_path / "new" / "study"
    with caplog.at_level(logging.INFO, logger="dot.study"):
        found = study.reproduce(config, folder, device)
    steps = ["teacher", "train KD+DOT, seed 7", "measure KD+DOT, seed 7", "figures and report"]
    assert [record.getMessage() for record in caplog.records] == [f"[{i}/4] {s}" for i, s in enumerate(steps, 1)]
    table = {row[0]: row[1] for row in outcome.table(found.students)}
    assert table["seeds (n)"] == "1"
    assert table["gradient cosine, training"] == "undefined"
    assert re.fullmatch(r"\d+\.\d\d", table["test accuracy (%)"])
    again = outcome.finished(folder, config)
    assert again is not None
    assert repr(again) == repr(found)
    strict((folder / "study.json").read_text())


def test_study_json_is_json() -> None:
    found = strict((tiny.finished_study() / "study.json").read_text())
    assert set(found) == {
        "config_sha256", "command", "versions", "machine", "seconds", "report", "teacher", "students", "flatness",
        "verdict",
    }  # fmt: skip


def test_a_run_without_measurements_has_no_numbers(folder: Path) -> None:
    run: Run = runs.open_run(next((folder / "runs").glob("kd-dot-*")))
    run.conflict.unlink()
    before = study.numbers(run)
    assert list(before.numbers) == ["accuracy", "accuracy_best", "ce", "kd"]
    (run.path / "metrics.jsonl").unlink()
    assert study.numbers(run).numbers == {}
    rows = outcome.table([study.numbers(run)])
    assert [row[1] for row in rows[1:-1]] == ["not measured"] * len(COLUMNS)


def test_one_seed_is_shown_of_every_method_in_whatever_order_they_come() -> None:
    folders = [runs.open_run(path) for path in (tiny.finished_study() / "runs").glob("*convnet4*")]
    for order in (folders, folders[::-1]):
        groups = gallery.by_method(order)
        assert [[run.config.seed for run in group] for group in groups.values()] == [[0, 1]] * 3
        meanings = " ".join(picture.meaning for picture in gallery.pictures(gather(groups)))
        assert meanings.count("(seed 0)") == 2


def test_runs_that_differ_in_more_than_their_seed_are_no_group() -> None:
    folder = tiny.finished_study() / "runs"
    teacher = next(folder.glob("ce-resnet8-*"))
    student = next(folder.glob("ce-convnet4-*"))
    with pytest.raises(ValueError, match=r"must differ in their seed alone.*differ in model"):
        gallery.by_method([runs.open_run(path) for path in (teacher, student)])
    first, second = (
        next(run for run in map(runs.open_run, folder.glob(f"{method}-convnet4-*")) if run.config.seed == seed)
        for method, seed in (("ce", 0), ("kd-dot", 1))
    )
    with pytest.raises(ValueError, match="must have a seed in common"):
        gallery.by_method([first, second])


def test_a_study_under_way_keeps_its_folder(tmp_path: Path) -> None:
    config, other = tiny.config(tmp_path), tiny.config(tmp_path, RECIPE.replace("epochs = 2", "epochs = 1"))
    folder = tmp_path / "study"
    study._claim(folder, config)
    study._claim(folder, config)
    with pytest.raises(ValueError, match=f"{folder} must hold the study 'tiny' of this recipe"):
        study.reproduce(other, folder, CPU)


def test_a_flatness_number_that_is_not_known_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    text = RECIPE.replace("images = 64", 'images = 64\nflatness = ["width-0.1", "flat"]')
    with pytest.raises(ValueError, match=r"measures must be some of width-0\.1, .*Got 'flat'"):
        study.reproduce(tiny.config(tmp_path, text), tmp_path / "study", CPU)
    assert not (tmp_path / "study").exists()


def test_the_flatness_of_a_recipe_is_what_it_names(tmp_path: Path) -> None:
    for name in ("cifar10-small", "cifar100-vgg13-vgg8", "imagenet-resnet34-resnet18"):
        use = load_study(name).measure
        assert set(use.flatness) < set(ls.sharpness.names())
        points = np.linspace(-use.line_extent, use.line_extent, use.line_points)
        sizes = [float(key.partition("-")[2]) for key in use.flatness if key.startswith("noise-")]
        assert all(np.isclose(points, size).any() for size in sizes), "noise is read off the points of the lines"
    assert load_study("digits").measure.flatness == (), "all of them"


def test_a_finished_study_of_an_earlier_version_is_left_as_it_is(folder: Path, config: StudyConfig) -> None:
    """It had flatness among the numbers of a student, and no verdict."""
    path = folder / "study.json"
    old = json.loads(path.read_text())
    del old["flatness"], old["verdict"]
    for student in (old["teacher"], *old["students"]):
        student["lower_bounds"] = ["width_1"]
        student["numbers"]["width_1"] = 2.0
    path.write_text(json.dumps(old))
    found = study.reproduce(config, folder, CPU)
    assert (found.flatness, found.verdict) == ((), ())
    assert outcome.table(found.students) == outcome.table(finished(config).students)


def test_lines_of_an_earlier_version_are_measured_anew(folder: Path, config: StudyConfig) -> None:
    """Whose directions were the same for students of all seeds."""
    student = next(student for student in finished(config).students if student.seed == 1)
    run = runs.open_run(folder / "runs" / student.run)
    known = store.load_surface(run.path / "lines.h5").values("ce")
    problem = runs.problem(run.path, "train", CPU, 64)
    (run.path / "lines.h5").unlink()
    drawn = ls.directions.random(problem.model, n=3, seed=0)
    ls.evaluate(problem, drawn, ls.Grid1D((-1, 1, 9)), out=run.path / "lines.h5")
    study.measure(run, config.measure, CPU, "student")
    np.testing.assert_array_equal(store.load_surface(run.path / "lines.h5").values("ce"), known)
