"""What the report of runs says: read off their files, and honest about what is not in them."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import reported
from scipy import stats

from dot import flatness, gallery, reporting, runs, study
from dot.cli import main
from dot.cli._shared import Reply
from dot.cli.main import module_of
from dot.config import load_study, to_toml
from dot.flatness import Asked
from dot.reporting import missing, numbers, page, provenance, repeating, setting, verdict
from landscape import store
from landscape.report import Folded, Points, Report, Table, markdown
from landscape.results import NOT_FINITE, PENDING


def texts(report: Report) -> str:
    """All the text of a report, as Markdown without its escapes."""
    return markdown(report, "x")[0].replace("\\", "")


def composed(paths: list[Path], **more) -> Report:
    findings = reported.found(paths, surfaces=False)
    students = [study.numbers(run) for run in findings.runs]
    return reporting.compose("A title", findings, students, [], "dot-landscape report", **more)


def points(part: Points) -> list[str]:
    return [f"{point.head} {point.text}".strip() for point in part.items]


def students(paths: list[Path]) -> list:
    return [study.numbers(runs.open_run(path)) for path in paths]


def test_the_parts_of_a_report_and_their_order(tmp_path):
    found = composed(reported.measured(tmp_path, reported.study()))
    assert [section.title for section in found.sections] == [
        "What was found", "Setting", "Numbers", "Figures", "What was not measured", "How to repeat it",
        "Environment and provenance",
    ]  # fmt: skip
    assert found.lead[0].endswith("agree?")


# Numbers


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_a_mean_has_the_interval_of_students_t(seeds, tmp_path):
    paths = reported.folders(tmp_path, reported.study(seeds=seeds))[1:]
    table = numbers.table(students(paths))
    values = [100 * reported.accuracy("kd-dot", seed) for seed in seeds]
    low, high = reported.t_interval(values)
    mean, spread = np.mean(values), np.std(values, ddof=1)
    assert table.rows[0][3] == f"{mean:.2f} ± {spread:.2f} [{low:.2f}, {high:.2f}]"
    assert "95 % interval" in table.caption
    assert [row[0] for row in table.rows if "not measured" in row] == [
        "gradient cosine, training",
        "gradient cosine, held-out",
    ]


def test_one_seed_has_no_interval(tmp_path):
    table = numbers.table(students(reported.folders(tmp_path, reported.study(seeds=(0,)))[1:]))
    assert table.rows[0][1:] == [f"{100 * reported.accuracy(m, 0):.2f}" for m in reported.METHODS]
    assert "interval" not in table.caption


def test_differences_are_those_of_the_paired_t_test_with_holm(tmp_path):
    paths = reported.folders(tmp_path, reported.study())[1:]
    table = numbers.differences(numbers.compared(students(paths)))
    assert table.columns[1:] == ["KD+SGD minus CE", "KD+DOT minus CE", "KD+DOT minus KD+SGD"]
    values = {m: np.array([100 * reported.accuracy(m, seed) for seed in range(3)]) for m in reported.METHODS}
    pairs = [("kd-sgd", "ce"), ("kd-dot", "ce"), ("kd-dot", "kd-sgd")]
    p = [stats.ttest_rel(values[a], values[b]).pvalue for a, b in pairs]
    low, high = reported.t_interval(values["kd-dot"] - values["kd-sgd"])
    mean = (values["kd-dot"] - values["kd-sgd"]).mean()
    below = [one for one in sorted(p) if one <= p[2]]
    holm = max((3 - rank) * one for rank, one in enumerate(below))
    assert table.rows[0][0] == "test accuracy (percentage points)"
    assert table.rows[0][3] == f"{mean:+.2f} [{low:+.2f}, {high:+.2f}], p {holm:.2g}"


# The verdict


def test_the_verdict_says_what_differs_and_what_cannot_be_told(tmp_path):
    paths = reported.measured(tmp_path, reported.study())
    findings = reported.found(paths, surfaces=False)
    first, *rest = verdict.in_words(findings, numbers.compared(students(paths)))
    sgd, over_ce, over_sgd = points(first)
    assert sgd.startswith(
        "KD+SGD against CE: Flatter by 1 of 2 measures (Hessian trace). 3 seeds cannot tell: test accuracy ("
    )
    assert "test task loss" in sgd
    assert sgd.endswith("1 of 2 measures of flatness.")
    assert over_ce.startswith("KD+DOT against CE: Higher test accuracy (+5.03 percentage points [")
    assert "all 2 measures of flatness" in over_sgd.split("cannot tell")[1]
    assert any("does not show that there is no difference" in part for part in rest if isinstance(part, str))
    (folded,) = (part for part in rest if isinstance(part, Folded))
    assert points(folded.parts[0]) == findings.verdict.sentences()
    assert not any(isinstance(part, str) and "cannot tell the methods apart in anything" in part for part in rest)


def test_seeds_are_counted_where_only_flatness_is_there(tmp_path):
    paths = reported.measured(tmp_path, reported.study(("ce", "kd-sgd")))
    for path in paths:
        (path / "metrics.jsonl").unlink()
    (said,) = points(verdict.in_words(reported.found(paths, surfaces=False), numbers.compared(students(paths)))[0])
    assert "3 seeds cannot tell: 1 of 2 measures of flatness." in said
    assert said.endswith("Not measured on both: test accuracy, test task loss, test distillation loss.")


def test_where_nothing_was_found_that_is_said_first(tmp_path):
    paths = reported.folders(tmp_path, reported.study(("ce", "kd-sgd")))[1:]
    said = verdict.in_words(reported.found(paths, surfaces=False), numbers.compared(students(paths)))
    assert said[0] == "The runs cannot tell the methods apart in anything."
    assert said[-1] == "Flatness was not measured alike on all runs, so nothing is said of it."


def test_one_seed_cannot_tell_and_one_method_has_nothing_to_compare(tmp_path):
    paths = reported.folders(tmp_path / "a", reported.study(seeds=(0,)))[1:]
    said = verdict.in_words(reported.found(paths, surfaces=False), numbers.compared(students(paths)))
    assert all("A single seed cannot tell: test accuracy (" in text for text in points(said[1]))
    paths = reported.measured(tmp_path / "b", reported.study(("kd-dot",)))
    findings = reported.found(paths, surfaces=False)
    assert verdict.in_words(findings, []) == ["The runs are of one method, so there is nothing to tell apart."]
    (table,) = numbers.flatness(findings)
    assert table.columns[2:] == ["KD+DOT, seed 0", "KD+DOT, seed 1", "KD+DOT, seed 2"]
    first = findings.flat["KD+DOT"][0]["trace"]
    assert table.rows[1][2] == f"{first.value:.3g} [{first.low:.3g}, {first.high:.3g}]"


# The setting


def test_the_setting_is_that_of_the_configuration(tmp_path):
    paths = reported.measured(tmp_path, reported.study())
    said = "\n".join(points(setting.setting(reported.found(paths))))
    for words in (
        "digits, 1,797 handwritten digits",
        "Teacher: resnet20, 90.00 % right on the test images",
        "convnet8, seeds 0, 1, 2 of each method",
        "60 epochs of SGD in batches of 64, learning rate 0.05, times 0.1 after epochs 37, 45 and 52, momentum 0.9, "
        "weight decay 0.0005, images moved by up to 1 pixel.",
        "DOT with delta 0.075: momentum 0.825 for the task loss and 0.975 for the distillation loss.",
        "0.1 x cross-entropy + 0.9 x Hinton's distillation loss at temperature 4; CE trains on cross-entropy at "
        "weight 1.",
        "methods share the initial weights, the order of the data, their augmentation and the schedule",
        "Planes: 21 x 21 cells, over 898 training images in eval mode, along filter-normalised random directions.",
        "Lines: 20 directions of 41 points for each student",
        "recorded every 10 steps on the training batch, and once an epoch on one fixed batch of 256 test images",
    ):
        assert words in said
    assert "differ besides" not in said


def test_a_teacher_elsewhere_and_a_method_with_other_values_are_said(tmp_path):
    one, other = reported.study(("ce",)), reported.study(("kd-dot",))
    other = dataclasses.replace(other, losses=dataclasses.replace(other.losses, w_kd=3.6))
    paths = reported.folders(tmp_path / "a", one)
    paths += [p for p in reported.folders(tmp_path / "b", other) if "kd-dot" in p.name]
    shutil.rmtree(paths.pop(0))
    said = "\n".join(points(setting.setting(reported.found(paths, surfaces=False))))
    assert "its folder does not lie beside the students', so its accuracy is not known" in said
    assert "Methods differ besides in losses.w_kd (CE: 0.9, KD+DOT: 3.6)" in said


# What was not measured


def test_what_is_missing_is_named_with_the_command_that_measures_it(tmp_path):
    paths = reported.folders(tmp_path, reported.study(("ce", "kd-dot"), (0, 1)))[1:]
    conflict = reported.conflict(0)
    conflict.save(paths[0] / "conflict.h5")
    (paths[1] / "metrics.jsonl").unlink()
    found = missing.not_measured(reported.found(paths, surfaces=False), tmp_path)
    commands = {point.text: point.command for point in found.items}
    said = "\n".join(commands)
    assert "fewer than 3 (CE: 2, KD+DOT: 2)" in said
    assert "The plane around the minimum of any run: there is no surface.h5." in said
    assert f"while training of {', '.join(p.name for p in paths[1:])}: there is no conflict.h5." in said
    assert f"in each epoch of {paths[1].name}: there is no metrics.jsonl." in said
    assert "Flatness, alike on all runs." in said
    assert "one fixed batch of 256 test images" in said
    assert "over all the images" in said
    for name in ("conflict.h5", "metrics.jsonl"):
        (text,) = (text for text in commands if f"there is no {name}" in text)
        assert "a finished run is not trained again: this needs a new run, in another folder" in text
        assert commands[text] == "", "it would train another run, or none"
    lines = commands["Lines through the minimum of any run: there is no lines.h5."].splitlines()
    assert lines == [f"dot-landscape surface {p.name} --lines 20 --x -1 1 41" for p in paths]


def test_every_command_that_is_named_is_one_that_the_command_line_takes(tmp_path, monkeypatch):
    """Parsed by the verbs themselves, which are not run."""
    paths = reported.folders(tmp_path, reported.study(seeds=(0,)))[1:]
    named = [point.command for point in missing.not_measured(reported.found(paths, surfaces=False)).items]
    paths = reported.measured(tmp_path / "more", reported.study())
    findings = reported.found(paths)
    config = repeating.study_of(findings)
    named += [point.command for point in missing.not_measured(findings).items]
    named += [repeating.commands(config), repeating.step_by_step(findings, config)]
    lines = [line for text in named for line in text.splitlines()]
    seen = []
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "dot-landscape"
        monkeypatch.setattr(module_of(words[1]), "run", lambda options: seen.append(options) or Reply(""))
        assert main(words[1:]) == 0, line
    assert len(seen) == len(lines) > 20


def test_what_was_measured_is_not_said_to_be_missing(tmp_path):
    paths = reported.measured(tmp_path, reported.study())
    for path in paths:
        for name in ("surface-test.h5", "conflict-measured.h5"):
            (path / name).touch()
    findings = reported.found(paths)
    said = "\n".join(points(missing.not_measured(findings)))
    for words in ("there is no", "fewer than 3", "Surfaces of the test images", "over all the images", "alike on all"):
        assert words not in said
    assert (
        "each student has one, of two filter-normalised random directions, and the figures show that of seed 0" in said
    )


def test_cells_that_are_pending_or_not_finite_are_counted(tmp_path):
    findings = reported.found(reported.measured(tmp_path, reported.study()))
    findings.planes["CE"].status[0, :5] = 0
    findings.lines["KD+DOT"][1].status[2, 3] = 2
    said = points(missing.not_measured(findings))
    assert "Cells of planes: 5 are pending; the command that measured them goes on." in said
    assert "Cells of lines: 1 have a loss that is not finite." in said


def test_the_words_are_those_of_the_files(tmp_path):
    """Of layer-normalised directions and test images, in one method and then in all."""
    paths = reported.measured(tmp_path, reported.study(("ce", "kd-dot"), (0,)))
    reported.found(paths)
    other = {"normalize": "layer", "split": "test", "precision": "bf16", "bn_mode": "recalibrate"}

    def said(findings) -> list[str]:
        meant = [
            f"{p.title}: {p.meaning}" for p in gallery.pictures(findings) if p.name in ("curves-ce", "contours-ce")
        ]
        return [*meant, *points(missing.not_measured(findings)), *points(setting.setting(findings))]

    for name in ("surface.h5", "lines.h5"):
        _rewritten(paths[1] / name, **other)
    text = "\n".join(said(reported.gathered(paths)))
    for words in (
        "when the trained weights move along filter-normalised random directions (CE) and layer-normalised random "
        "directions (KD+DOT); as these are not scaled alike, a flatter curve need not be a flatter minimum",
        "on the training images (CE) and the test images (KD+DOT) in the plane of two filter-normalised random",
        "Planes: 21 x 21 cells, over 898 training images in eval mode, along filter-normalised random directions (CE) "
        "and 21 x 21 cells, over 898 test images with batch norms re-estimated in every cell, in bf16, along "
        "layer-normalised random directions (KD+DOT).",
    ):
        assert words in text
    for name in ("surface.h5", "lines.h5"):
        _rewritten(paths[0] / name, normalize="none", kind="tensors", split="test")
        _rewritten(paths[1] / name, normalize="none", kind="tensors")
    text = "\n".join(said(reported.gathered(paths)))
    for words in ("on the training images", "filter-normalised", "random direction", "random plane"):
        assert not any(words in meant for meant in said(reported.gathered(paths))[:2])
    assert "The task loss in a plane: " in text
    assert "of two directions of kind tensors that are not normalised" in text


def test_a_plane_without_a_finite_cell_has_no_figure_and_that_is_said(tmp_path):
    """Killed before its first cell; or a distillation loss that is nowhere finite."""
    paths = reported.measured(tmp_path, reported.study(("kd-dot",), (0,)))
    reported.found(paths)
    one = store.load_surface(paths[0] / "surface.h5")
    nan = np.full((21, 21), np.nan)
    _rewritten(paths[0] / "surface.h5", means=one.means | {"kd": nan}, status=np.full((21, 21), NOT_FINITE, np.uint8))
    findings = reported.gathered(paths)
    names = [picture.name for picture in gallery.pictures(findings)]
    assert "contours-ce" in names
    assert "contours-kd" not in names
    assert len(reporting.write_pages(findings, tmp_path / "figures")) == 2
    said = points(missing.not_measured(findings))
    assert "kd of all planes: no cell has a finite value, so there is no figure of it." in said
    _rewritten(paths[0] / "surface.h5", means={"ce": nan, "kd": nan}, status=np.full((21, 21), PENDING, np.uint8))
    findings = reported.gathered(paths)
    names = [picture.name for picture in gallery.pictures(findings)]
    assert not {"contours-ce", "contours-kd", "relief"} & set(names)
    assert "curves-ce" in names
    assert [link.target for link in reporting.write_pages(findings, tmp_path / "figures")] == ["figures/conflict.html"]
    said = points(missing.not_measured(findings))
    assert "ce of all planes: no cell has a finite value, so there is no figure of it." in said
    assert "Cells of planes: 441 are pending; the command that measured them goes on." in said


# How to repeat it


def test_the_study_that_the_runs_are_of_is_found_and_has_their_runs(tmp_path):
    config = reported.study(("kd-sgd", "kd-dot"), (1, 4))
    paths = reported.measured(tmp_path, config)
    found = repeating.study_of(reported.found(paths))
    text = to_toml(found)
    (tmp_path / "study.toml").write_text(text)
    again = load_study(str(tmp_path / "study.toml"))
    assert {again.student_run(m, s).name for m in again.methods for s in again.seeds} == {p.name for p in paths}
    assert again.teacher_run() == config.teacher_run()
    assert (again.measure.plane_points, again.measure.plane_extent) == (21, 1.0)
    assert (again.measure.directions, again.measure.line_points, again.measure.seed) == (20, 41, 0)
    assert again.measure.flatness == ("width-0.1", "trace")
    assert tomllib.loads(text)["seeds"] == [1, 4]


def _rewritten(path: Path, **changes) -> None:
    """A surface file with other values: fields of it, or attributes."""
    one = store.load_surface(path)
    named = {key: value for key, value in changes.items() if hasattr(one, key)}
    attrs = one.attrs | {key: value for key, value in changes.items() if key not in named}
    path.unlink()
    store.create_surface(path, dataclasses.replace(one, **named, attrs=attrs))


OTHERWISE = (
    ("surface.h5", {"y": np.linspace(-0.5, 0.5, 21)}),
    ("surface.h5", {"x": np.linspace(-1, 1, 21) ** 3, "y": np.linspace(-1, 1, 21) ** 3}),
    ("surface.h5", {"seed": 3}),
    ("lines.h5", {"seed": 9}),
    ("lines.h5", {"x": np.linspace(-2, 2, 41)}),
    *((name, {key: value}) for name in ("surface.h5", "lines.h5") for key, value in (
        ("bn_mode", "recalibrate"), ("precision", "bf16"), ("normalize", "layer"), ("ignore", "none"),
        ("kind", "tensors"), ("split", "test"), ("data_sha256", "ef" * 32), ("checkpoint_sha256", "ef" * 32),
        ("data_shard", "0/2"), ("command", "dot-landscape surface runs/x --orthogonal"),
    )),
)  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), OTHERWISE)
def test_no_study_is_claimed_where_one_file_was_measured_otherwise(name, changes, tmp_path):
    """Of the last run: what holds of the first says nothing of it."""
    config = reported.study(("kd-sgd", "kd-dot"), (0, 1))
    paths = reported.measured(tmp_path, config)
    assert repeating.study_of(reported.found(paths)) is not None
    last = reported.gathered(paths).runs[-1]
    _rewritten(last.path / name, **changes)
    findings = reported.gathered(paths)
    assert repeating.study_of(findings) is None
    said = texts(composed(paths))
    assert "every value" not in said
    assert f"Configuration of {last.path.name} (TOML)" in said
    config = dataclasses.replace(config, measure=dataclasses.replace(config.measure, flatness=("width-0.1", "trace")))
    kind = {"surface.h5": "planes", "lines.h5": "lines"}[name]
    assert f"does not measure alike what this report shows of {kind};" in repeating.claim(findings, config)
    step = "--lines" if kind == "lines" else "--y"
    assert step not in repeating.step_by_step(findings, config)


def test_a_sample_of_the_images_is_repeated_by_the_study_and_not_by_verbs_that_take_all(tmp_path):
    config = reported.study(("kd-sgd",), (0, 1))
    paths = reported.measured(tmp_path, config)
    asked = Asked(directions=20, images=64, seed=5)
    for path in paths:
        run = runs.open_run(path)
        kept = flatness.kept_at(run, Asked(directions=20))
        one = store.load_flatness(kept)
        kept.unlink()
        dataclasses.replace(one, attrs=one.attrs | {"asked": flatness._way(asked)}).save(flatness.kept_at(run, asked))
    reported.found(paths)
    for path in paths:
        _rewritten(path / "surface.h5", seed=5)
        _rewritten(path / "lines.h5", seed=5 + runs.open_run(path).config.seed)
    findings = reported.gathered(paths)
    found = repeating.study_of(findings)
    assert (found.measure.images, found.measure.seed) == (64, 5)
    assert repeating.not_by_verbs(findings, found) == ["planes", "lines", "flatness"]
    steps = repeating.step_by_step(findings, found)
    assert [line.split()[1] for line in steps.splitlines()] == ["train", "train", "report"]
    assert "The planes, lines and flatness are not among these" in texts(composed(paths))


def test_without_flatness_only_the_verb_that_takes_all_images_is_a_study(tmp_path):
    paths = reported.folders(tmp_path, reported.study(("kd-sgd",), (0,)))[1:]
    assert repeating.study_of(reported.found(paths)) is None, "how many images were drawn is not known"
    for name in ("surface.h5", "lines.h5"):
        _rewritten(paths[0] / name, command="dot-landscape surface runs/x")
    assert repeating.study_of(reported.gathered(paths)).measure.images == 0


def test_no_study_is_claimed_where_one_run_has_other_measures_of_flatness(tmp_path):
    paths = reported.measured(tmp_path, reported.study(("kd-sgd",), (0, 1)))
    kept = flatness.kept_at(runs.open_run(paths[1]), Asked(directions=20))
    one = store.load_flatness(kept)
    kept.unlink()
    dataclasses.replace(one, measures=one.measures[:1]).save(kept)
    assert repeating.study_of(reported.found(paths)) is None


def test_steps_have_the_seeds_and_the_lengths_of_the_files(tmp_path):
    """As options of the verbs: a plane of seed 0, lines of the seed of each run."""
    paths = reported.measured(tmp_path, reported.study(("kd-sgd",), (0, 4)))
    findings = reported.found(paths)
    steps = repeating.step_by_step(findings, repeating.study_of(findings)).splitlines()
    measured = [shlex.split(line)[3:] for line in steps if line.startswith("dot-landscape surface")]
    assert measured == [
        ["--x", "-1", "1", "21", "--y", "-1", "1", "21"],
        ["--lines", "20", "--x", "-1", "1", "41"],
        ["--x", "-1", "1", "21", "--y", "-1", "1", "21"],
        ["--lines", "20", "--x", "-1", "1", "41", "--seed", "4"],
    ]
    assert steps[-2].endswith("--directions 20 --measures width-0.1 trace")


def test_runs_of_no_study_have_their_configurations_in_the_report(tmp_path):
    paths = reported.measured(tmp_path, reported.study())
    shutil.rmtree(next(tmp_path.glob("*resnet20*")))
    assert repeating.study_of(reported.found(paths)) is None
    said = texts(composed(paths))
    assert all(f"Configuration of {path.name} (TOML)" in said for path in paths)
    assert "dot-landscape made kd-dot" in said


# Environment and provenance


def test_the_environment_is_that_of_the_files(tmp_path):
    paths = reported.measured(tmp_path, reported.study())
    made = json.loads((paths[3] / "environment.json").read_text())
    made |= {"versions": {"torch": "9.9"}, "commit": "abc123"}
    (paths[3] / "environment.json").write_text(json.dumps(made))
    findings = reported.found(paths)
    rows = {row[0]: row[1:] for row in provenance.environment(findings).rows}
    assert rows["torch"][0] == "1.2.3, 9.9"
    assert rows["machine"] == ["a machine", ""]
    assert rows["commit"] == ["abc123", ""]
    assert rows["processes"][0] == "not recorded"
    table = provenance.made_by(findings)
    assert [row[0] for row in table.rows] == [run.path.name for run in findings.runs]
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["begun"] == "2026-01-02 03:04"
    assert (first["plane"], first["lines"]) == ("2026-02-01 03:04", "2026-02-02 03:04")
    assert (first["weights"], first["data"]) == ("abababababab", "cdcdcdcdcdcd")


def test_a_file_is_read_once(tmp_path, monkeypatch):
    paths = reported.measured(tmp_path, reported.study(seeds=(0, 1)))
    reported.found(paths)
    opened = []
    whole = h5py.File
    monkeypatch.setattr(
        h5py, "File", lambda path, *more, **named: opened.append(Path(path)) or whole(path, *more, **named)
    )
    composed(paths)
    read = Counter(path for path in opened if path.name in ("surface.h5", "lines.h5"))
    assert read == {path / name: 1 for path in paths for name in ("surface.h5", "lines.h5")}


# Which runs


def test_teachers_among_the_runs_are_left_out_and_that_is_said(tmp_path):
    opened = [runs.open_run(path) for path in reported.folders(tmp_path, reported.study())]
    found, left_out = page.students(opened)
    assert [run.path.name for run in left_out] == [opened[0].path.name]
    assert found == opened[1:]
    said = texts(composed([run.path for run in found], left_out=left_out))
    assert f"Given but left out, being teachers: {opened[0].path.name}." in said
    with pytest.raises(ValueError, match=r"runs must be students, which have a teacher\. Got ce-resnet20-\w+: give"):
        page.students(opened[:1])


def test_runs_that_do_not_fit_together_are_refused(tmp_path):
    config = reported.study(("kd-sgd",))
    student = dataclasses.replace(config.student, model="convnet4")
    other = dataclasses.replace(config, student=student, methods=("kd-dot",))
    opened = [
        runs.open_run(path)
        for name, of in (("a", config), ("b", other))
        for path in reported.folders(tmp_path / name, of)
    ]
    with pytest.raises(
        ValueError, match=r"runs must have one model, to be compared\. Got 'convnet8' in .* and 'convnet4' in"
    ):
        page.students(opened)
    (opened[1].path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"runs must be trained to their end. Got {opened[1].path}: train it on"):
        page.students(opened[:3])


# The verb


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def test_the_verb_writes_a_page_of_runs_that_nothing_was_measured_on(call, tmp_path):
    paths = reported.folders(tmp_path / "runs", reported.study(("kd-dot",), (0,)))
    status, out, err = call("report", *paths, "--title", "<script>alert(1)</script>", "--markdown", "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["runs"] == [paths[1].name]
    assert said["markdown"] == ["report.md", "report-figures/tradeoff.svg"]
    html = Path("report.html").read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</h1>" in html
    assert html.count("<img ") == 1, "the way through both losses"
    assert "there is no surface.h5" in html
    assert "\\<script\\>" in Path("report.md").read_text()


@pytest.mark.parametrize("output", ["report.md", "report", "runs/x/config.toml", "folder.html"])
def test_the_verb_writes_over_nothing_but_a_page(output, call, tmp_path):
    paths = reported.folders(tmp_path / "runs", reported.study(("kd-dot",), (0,)))
    (tmp_path / "folder.html").mkdir()
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    status, _, err = call("report", *paths, "-o", output)
    assert status == 2
    assert f"--output must be a file that ends in .html. Got {output}." in err
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "folder.html"}


def test_a_place_that_cannot_be_written_is_said_in_a_line(call, tmp_path):
    paths = reported.folders(tmp_path / "runs", reported.study(("kd-dot",), (0,)))
    (tmp_path / "file").write_text("in the way")
    status, _, err = call("report", *paths, "-o", "file/page.html")
    assert status == 1
    assert "file cannot be made: " in err or "file/page.html cannot be written: " in err
    assert err.count("\n") == 1


def test_a_table_is_a_table_of_the_report(tmp_path):
    tables = [
        part
        for section in composed(reported.measured(tmp_path, reported.study())).sections
        for part in section.parts
        if isinstance(part, Table)
    ]
    assert [table.columns[0] for table in tables] == ["", "", "measure", "measure", "", "run"]
