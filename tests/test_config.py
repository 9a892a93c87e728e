"""Configurations are data, validated whole: every fault of a file is named at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest
import tiny
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from dot import data, distillation, models
from dot.config import (
    METHODS,
    Augmentation,
    ConfigError,
    Losses,
    Optimisation,
    Recording,
    RunConfig,
    StudyConfig,
    digest,
    load_run,
    load_study,
    to_toml,
)

SHIPPED = sorted(
    entry.name.removesuffix(".toml")
    for entry in (resources.files("dot") / "recipes").iterdir()
    if entry.name.endswith(".toml")
)


def load(text: str, folder: Path) -> StudyConfig:
    return tiny.config(folder, text)


def faults_of(text: str, folder: Path) -> str:
    """The message of a refused recipe, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(text, folder)
    message = str(caught.value)
    assert message.startswith(str(folder / "tiny.toml"))
    assert "\n" not in message
    return message.removeprefix(str(folder / "tiny.toml"))


def with_value(table: str, line: str) -> str:
    """The tiny recipe with a line in one of its tables, in place of the one for the same key."""
    key = line.split(" =")[0]
    parts = re.split(r"(?m)^(?=\[)", tiny.RECIPE)
    for i, part in enumerate(parts):
        if (part.startswith(f"[{table}]") if table else i == 0) or (table == "losses" and part.startswith("[record]")):
            if table == "losses":
                parts.insert(i, "[losses]\n" + line + "\n")
                break
            kept = [row for row in part.splitlines() if not row.startswith(f"{key} =")]
            parts[i] = "\n".join([*kept, line, ""])
            break
    return "".join(parts)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_validate(name: str) -> None:
    config = load_study(name)
    assert config.name == name
    assert config.data in data.names()
    assert {config.teacher.model, config.student.model} <= set(models.names())
    for method in config.methods:
        for seed in config.seeds:
            run = config.student_run(method, seed)
            assert run.teacher == config.teacher_run().name
            assert run.method == method
            assert run.seed == seed


def test_digits_has_the_papers_values() -> None:
    config = load_study("digits")
    use = config.student.train
    assert (use.batch_size, use.lr, use.momentum, use.delta, use.weight_decay) == (64, 0.05, 0.9, 0.075, 5e-4)
    assert use.gamma == 0.1
    assert use.warmup_epochs == 0
    assert config.losses == Losses(temperature=4.0, w_ce=0.1, w_kd=0.9)
    assert [round(240 * m / use.epochs) for m in use.milestones] == [148, 180, 208], "the paper's 150, 180, 210 of 240"


def test_three_faults_are_reported_at_once_with_close_matches(tmp_path: Path) -> None:
    text = tiny.RECIPE.replace("heldout = 32", "held_out = 32").replace("plane_points = 3", "plane_points = 10")
    message = faults_of(text.replace("milestones = [1]", 'lr = "fast"'), tmp_path)
    assert message.startswith(" has 3 faults: ")
    faults = message.removeprefix(" has 3 faults: ").split(" | ")
    assert sorted(faults) == [
        "measure.plane_points must be odd and at least 3, so that 0 is on the grid. Got 10.",
        "record.held_out is not known. Did you mean heldout?",
        "student.train.lr must be a number. Got 'fast'.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_value("losses", "temprature = 3.0\nw_ce = -1.0"), ("losses.temprature", "losses.w_ce")),
        (with_value("student.train", "batch_sise = 3\nlr = -1.0"), ("train.batch_sise", "train.lr")),
        (with_value("student.train", "epochs = 0\ngamma = 7.0"), ("train.epochs", "train.gamma")),
        (
            with_value("", 'methods = ["kd-dott"]').replace("heldout", "held_out"),
            ("methods must be among", "record.held_out"),
        ),
    ],
    ids=["unknown and range", "unknown and range, nested", "two ranges", "a method, and a fault elsewhere"],
)
def test_no_fault_hides_another(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    message = faults_of(text, tmp_path)
    assert [part for part in expected if part not in message] == []


def test_faults_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    unknown = ["aa", "bb", "cc", "dd", "ee", "ff"]
    message = faults_of("\n".join(f"{name} = 1" for name in unknown) + tiny.RECIPE, tmp_path)
    assert re.findall(r"(\w\w) is not known", message) == unknown


def test_missing_values_are_named(tmp_path: Path) -> None:
    text = tiny.RECIPE.replace("epochs = 2\n", "").replace('name = "tiny"\n', "")
    message = faults_of(text, tmp_path)
    assert "student.train.epochs is missing." in message
    assert " name is missing." in message


def test_a_syntax_error_names_the_file_and_the_line(tmp_path: Path) -> None:
    message = faults_of('name = "tiny"\ndata = \n', tmp_path)
    assert "must be TOML" in message
    assert "line 2" in message


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "junk.toml"
    path.write_bytes(b"\xff\xfe\x00junk")
    with pytest.raises(ConfigError, match=re.escape(f"{path} must be TOML")):
        load_study(str(path))


def test_whole_numbers_are_taken_as_numbers(tmp_path: Path) -> None:
    whole = load(with_value("student.train", "lr = 1\ndelta = 0"), tmp_path)
    assert isinstance(whole.student.train.lr, float)
    assert isinstance(whole.student.train.delta, float)
    assert digest(whole) == digest(load(with_value("student.train", "lr = 1.0\ndelta = 0.0"), tmp_path))


@pytest.mark.parametrize(
    ("table", "line", "expected"),
    [
        ("student.train", "epochs = 1.5", "student.train.epochs must be a whole number. Got 1.5."),
        ("student.train", "epochs = true", "student.train.epochs must be a whole number. Got True."),
        ("student.train", 'epochs = "3"', "student.train.epochs must be a whole number. Got '3'."),
        ("student.train", "lr = true", "student.train.lr must be a number. Got True."),
        ("student.train", "milestones = 3", "student.train.milestones must be a list of whole numbers. Got 3."),
        ("student.train", "milestones = [1.5]", "student.train.milestones[0] must be a whole number. Got 1.5."),
        ("", 'methods = "ce"', "methods must be a list of strings. Got 'ce'."),
        ("", "data = 3", "data must be a string. Got 3."),
        ("", "record = 3", "record must be a table. Got 3."),
    ],
)
def test_wrong_types(table: str, line: str, expected: str, tmp_path: Path) -> None:
    text = with_value(table, line)
    if line.startswith("record"):
        text = text.replace("[record]\nevery = 4\nheldout = 32\ncheckpoints = [1]\n", "")
    assert faults_of(text, tmp_path) == f" has 1 fault: {expected}"


@pytest.mark.parametrize(
    ("table", "line", "expected"),
    [
        ("student.train", "epochs = 0", "student.train.epochs must be at least 1. Got 0."),
        ("student.train", "batch_size = 1", "student.train.batch_size must be at least 2. Got 1."),
        ("student.train", "lr = 0.0", "student.train.lr must be above 0. Got 0.0."),
        ("student.train", "gamma = 1.5", "student.train.gamma must be above 0 and at most 1. Got 1.5."),
        ("student.train", "warmup_epochs = -1", "student.train.warmup_epochs must be at least 0. Got -1."),
        ("student.train", "weight_decay = -0.1", "student.train.weight_decay must be at least 0. Got -0.1."),
        ("student.train", "sam = -0.05", "student.train.sam must be at least 0. Got -0.05."),
        ("student.train", "sam = 0.05", "student.train.sam must be 0 with kd-dot, whose step is not SAM's. Got 0.05"),
        ("student.train", "augment = { shift = -1 }", "student.train.augment.shift must be at least 0. Got -1."),
        (
            "student.train",
            "augment = { rotate = 181 }",
            "student.train.augment.rotate must be 0 to 180 degrees. Got 181.0.",
        ),
        ("student.train", "augment = { flip = 1 }", "student.train.augment.flip must be true or false. Got 1."),
        ("student", 'model = "my_network:"', "student.model must be among"),
        ("losses", 'distillation = "kdd"', "losses.distillation must be among"),
        ("losses", 'distillation = "hint"', "student_layers and teacher_layers must name as many modules"),
        ("losses", "warmup_epochs = -1", "losses.warmup_epochs must be at least 0. Got -1."),
        ("compute", 'precision = "fp16"', "compute.precision must be among float32, bf16. Got 'fp16'."),
        ("measure", "images = -1", "measure.images must be at least 0. Got -1."),
        ("teacher", 'weights = "abc"', "teacher.weights must be 64 hexadecimal digits. Got 'abc'."),
        ("student.train", "milestones = [2, 1]", "student.train.milestones must be rising, from 1. Got (2, 1)."),
        ("student.train", "milestones = [1, 1]", "student.train.milestones must be rising, from 1. Got (1, 1)."),
        ("losses", "temperature = 0.0", "losses.temperature must be above 0. Got 0.0."),
        ("losses", "w_ce = -0.1", "losses.w_ce must be at least 0. Got -0.1."),
        ("losses", "w_kd = -0.1", "losses.w_kd must be at least 0. Got -0.1."),
        ("record", "every = -1", "record.every must be at least 0. Got -1."),
        ("record", "heldout = 0", "record.heldout must be at least 1. Got 0."),
        ("measure", "plane_points = 1", "measure.plane_points must be odd and at least 3"),
        ("measure", "line_points = 4", "measure.line_points must be odd and at least 3"),
        ("measure", "plane_extent = 0.0", "measure.plane_extent must be above 0. Got 0.0."),
        ("measure", "line_extent = -1.0", "measure.line_extent must be above 0. Got -1.0."),
        ("measure", "directions = 1", "measure.directions must be at least 2. Got 1."),
        ("", "seeds = []", "seeds must be at least one, each once. Got []."),
        ("", "seeds = [1, 1]", "seeds must be at least one, each once. Got [1, 1]."),
        ("", 'methods = ["ce", "ce"]', "methods must be at least one, each once. Got ['ce', 'ce']."),
        ("", 'methods = ["kd-dott"]', "Got 'kd-dott'. Did you mean kd-dot?"),
        ("compute", "threads = -1", "compute.threads must be at least 0. Got -1."),
        ("", "seeds = [-1]", "seeds"),
        ("", 'data = "digit"', "Did you mean digits?"),
        ("student", 'model = "convnet44"', "Did you mean convnet4"),
        ("teacher", "seed = -1", "teacher.seed"),
    ],
)
def test_values_out_of_range(table: str, line: str, expected: str, tmp_path: Path) -> None:
    message = faults_of(with_value(table, line), tmp_path)
    assert message.startswith(" has 1 fault: ")
    assert expected in message


@pytest.mark.parametrize("momentum", [1.0, -0.1])
def test_a_momentum_that_never_decays_or_is_negative(momentum: float, tmp_path: Path) -> None:
    message = faults_of(with_value("student.train", f"momentum = {momentum}\ndelta = 0.0"), tmp_path)
    assert f"student.train.momentum must be at least 0 and below 1. Got {momentum}." in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("table", "name"),
    [
        *(("student.train", name) for name in ("lr", "gamma", "momentum", "delta", "weight_decay")),
        *(("losses", name) for name in ("temperature", "w_ce", "w_kd")),
        *(("measure", name) for name in ("plane_extent", "line_extent")),
    ],
)
def test_numbers_must_be_finite(table: str, name: str, value: str, tmp_path: Path) -> None:
    message = faults_of(with_value(table, f"{name} = {value}"), tmp_path)
    assert name in message
    assert value in message


@pytest.mark.parametrize(("momentum", "delta"), [(0.9, -0.075), (0.9, 0.075), (0.9, 0.0), (0.5, 0.49), (0.0, 0.0)])
def test_deltas_that_train(momentum: float, delta: float, tmp_path: Path) -> None:
    config = load(with_value("student.train", f"momentum = {momentum}\ndelta = {delta}"), tmp_path)
    assert config.student.train.delta == delta


@pytest.mark.parametrize(
    ("momentum", "delta"), [(0.9, 0.1), (0.9, -0.1), (0.9, 0.2), (0.5, 0.5), (0.3, 0.4), (0.3, -0.4), (0.0, 0.1)]
)
def test_deltas_that_diverge_or_turn_a_momentum_negative(momentum: float, delta: float, tmp_path: Path) -> None:
    message = faults_of(with_value("student.train", f"momentum = {momentum}\ndelta = {delta}"), tmp_path)
    assert "delta must be at most momentum in size, and momentum + |delta| below 1" in message
    assert f"Got {delta} with momentum {momentum}." in message


def test_an_unknown_recipe_lists_close_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Got 'digit'\. Did you mean digits\?"):
        load_study("digit")
    with pytest.raises(FileNotFoundError, match=f"one of {', '.join(SHIPPED)}"):
        load_study("mine.toml")
    (tmp_path / "mine.txt").write_text(tiny.RECIPE)
    with pytest.raises(FileNotFoundError, match="TOML file"):
        load_study("mine.txt")


def test_round_trip_of_a_study_and_of_its_runs(tmp_path: Path) -> None:
    config = load_study("digits-quick")
    (tmp_path / "again.toml").write_text(to_toml(config))
    assert load_study(str(tmp_path / "again.toml")) == config
    for run in [config.teacher_run(), *(config.student_run(method, 1) for method in METHODS)]:
        (tmp_path / "config.toml").write_text(to_toml(run))
        assert load_run(tmp_path / "config.toml") == run


numbers = st.floats(1e-6, 0.4, allow_nan=False)
optimisations = st.builds(
    Optimisation,
    epochs=st.integers(1, 500),
    batch_size=st.integers(2, 1024),
    lr=numbers,
    milestones=st.lists(st.integers(1, 400), unique=True).map(sorted).map(tuple),
    gamma=numbers,
    warmup_epochs=st.integers(0, 9),
    momentum=st.floats(0.4, 0.5),
    delta=st.floats(-0.4, 0.4),
    weight_decay=numbers,
    augment=st.builds(Augmentation, shift=st.integers(0, 3), flip=st.booleans(), rotate=st.floats(0, 180)),
)
losses = st.builds(Losses, temperature=numbers, w_ce=numbers, w_kd=numbers)


@given(train=optimisations, losses=losses, seed=st.integers(0, 2**31), method=st.sampled_from(sorted(METHODS)))
def test_any_valid_run_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, train: Optimisation, losses: Losses, seed: int, method: str
) -> None:
    run = RunConfig(method, "convnet4", seed, "digits", "ce-resnet8-00000000", train, losses, Recording())
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(to_toml(run))
    found = load_run(path)
    assert found == run
    assert digest(found) == digest(run)


def test_a_teachers_logits_are_kept_only_where_views_come_again(tmp_path: Path) -> None:
    text = tiny.RECIPE.replace("threads = 1", "threads = 1\ncache_teacher = true")
    assert load(text, tmp_path).compute.cache_teacher
    turned = text.replace("milestones = [1]\naugment = { shift = 1 }", "augment = { rotate = 20 }")
    assert "compute.cache_teacher must be false with rotate or resized_crop" in faults_of(turned, tmp_path)
    own = text + '[losses]\ndistillation = "my_losses:contrastive"\n'
    assert "compute.cache_teacher must be false with 'my_losses:contrastive'" in faults_of(own, tmp_path)


def test_changes_are_values_in_place_of_the_files(tmp_path: Path) -> None:
    path = str(tiny.recipe(tmp_path))
    plain = load_study(path)
    found = load_study(
        path,
        ["train.epochs=7", "student.train.lr=1e-3", "data=digits", "seeds=[4]", "losses.w_kd=2", "measure.seed=3",
         "student.train.augment.flip=true", "student.model=my_network:build"],
    )  # fmt: skip
    assert (found.teacher.train.epochs, found.student.train.epochs) == (7, 7)
    assert (found.teacher.train.lr, found.student.train.lr) == (0.05, 0.001)
    assert (found.seeds, found.losses.w_kd, found.measure.seed) == ((4,), 2.0, 3)
    assert found.student.train.augment == Augmentation(shift=1, flip=True), "what is beside it stays"
    assert found.student.model == "my_network:build"
    assert load_study(path) == plain
    assert digest(load_study(path, ["student.train.lr=0.05"])) == digest(plain)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("epochs", "a change must be KEY=VALUE, such as train.epochs=10. Got 'epochs'."),
        ("=3", "a change must be KEY=VALUE, such as train.epochs=10. Got '=3'."),
        ("student.train.epoch=3", "student.train.epoch is not known. Did you mean epochs?"),
        ("student.train.epochs=three", "student.train.epochs must be a whole number. Got 'three'."),
        ("data.name=digits", "data.name must be a value in a table. Got data, which is a value itself."),
    ],
)
def test_changes_with_faults(change: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_study(str(tiny.recipe(tmp_path)), [change])


def test_the_distillation_losses_are_those_that_ship(tmp_path: Path) -> None:
    for name in distillation.names():
        layers = 'student_layers = ["conv2"]\nteacher_layers = ["layer3"]\n'
        found = load(tiny.RECIPE + f'[losses]\ndistillation = "{name}"\n{layers}', tmp_path)
        assert found.losses.distillation == name
    assert ", ".join(distillation.names()) in faults_of(tiny.RECIPE + '[losses]\ndistillation = "?"\n', tmp_path)


def test_a_run_with_faults_is_refused(tmp_path: Path) -> None:
    raw = dataclasses.asdict(tiny.config(tmp_path).student_run("ce", 0))
    raw["method"], raw["compute"]["threads"] = "kd-dott", -1
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(raw))
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    assert "Did you mean kd-dot?" in str(caught.value)
    assert "threads must be at least 0" in str(caught.value)


def test_the_digest_does_not_depend_on_where_the_recipe_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    first = tiny.config(tmp_path)
    monkeypatch.chdir(tmp_path / "a")
    second = tiny.config(Path())
    assert digest(first) == digest(second)
    assert first.student_run("ce", 0).name == second.student_run("ce", 0).name
    assert str(tmp_path) not in to_toml(first)
    assert {f.name for f in dataclasses.fields(RunConfig)}.isdisjoint({"device", "root", "path", "workers"})


def other(value: object) -> object:
    """Another value of the same type."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, 99)
    assert isinstance(value, (int, float))
    return value + 1


def leaves(config: object, where: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        here = (*where, entry.name)
        found += leaves(value, here) if dataclasses.is_dataclass(value) else [here]
    return found


def changed(config: object, where: tuple[str, ...]) -> object:
    value = getattr(config, where[0])
    return dataclasses.replace(config, **{where[0]: changed(value, where[1:]) if where[1:] else other(value)})


def test_every_value_counts_in_the_digest(tmp_path: Path) -> None:
    study = tiny.config(tmp_path)
    for config in (study, study.student_run("kd-dot", 0)):
        digests = [digest(config), *(digest(changed(config, leaf)) for leaf in leaves(config))]
        assert len(set(digests)) == len(digests)


def test_a_field_of_a_later_version_leaves_the_digests_of_finished_runs(tmp_path: Path) -> None:
    study = tiny.config(tmp_path)
    for config in (study, study.student_run("kd-dot", 0)):
        before = dataclasses.asdict(config)
        before.get("measure", {}).pop("flatness", None)
        for table in (before.get("train"), before.get("losses"), before.get("student", {}).get("train")):
            for name in ("nesterov", "shared_gradient", "sam", "permute_teacher") if table else ():
                table.pop(name, None)
        teacher = before.get("teacher")
        if isinstance(teacher, dict):
            for name in ("nesterov", "shared_gradient", "sam"):
                del teacher["train"][name]
        assert digest(config) == hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()


def test_the_name_of_a_run(tmp_path: Path) -> None:
    study = tiny.config(tmp_path)
    for run, start in (
        (study.student_run("kd-dot", 0), "kd-dot-convnet4-"),
        (study.student_run("ce", 3), "ce-convnet4-"),
        (study.teacher_run(), "ce-resnet8-"),
    ):
        assert re.fullmatch(re.escape(start) + "[0-9a-f]{8}", run.name)
        assert run.name.endswith(digest(run)[:8])


def test_the_runs_of_a_study(tmp_path: Path) -> None:
    study = tiny.config(tmp_path)
    teacher = study.teacher_run()
    assert (teacher.method, teacher.teacher, teacher.record.every) == ("ce", "", 0)
    with pytest.raises(ValueError, match=r"Got 'kd-dott'\. Did you mean kd-dot\?"):
        study.student_run("kd-dott", 0)
