"""Run folders: what is in them, what is refused, and what a broken disk does."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from tiny import CPU, RECIPE

from dot import models, runs
from dot.config import ConfigError, RunConfig, load_run, to_toml
from dot.data.drawing import generator
from dot.data.images import Split
from dot.journal import Journal
from dot.runs import Run, load_checkpoint
from dot.trainer import Trainer
from landscape.files import claim


@functools.cache
def _finished() -> Path:
    """A folder of run folders: the teacher, and a finished student."""
    folder = tiny.folder()
    runs.train(tiny.config(folder).student_run("kd-dot", 0), tiny.with_teacher(folder), CPU)
    return folder


@functools.cache
def _interrupted() -> Path:
    """The same, the student interrupted after its first epoch."""
    folder = tiny.folder()
    root, job = tiny.with_teacher(folder), tiny.config(folder).student_run("kd-dot", 0)
    with pytest.MonkeyPatch.context() as patch:
        after_an_epoch(patch, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            runs.train(job, root, CPU)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where run folders lie, the teacher's among them."""
    return tiny.with_teacher(tmp_path)


@pytest.fixture
def job(tmp_path: Path) -> RunConfig:
    return tiny.config(tmp_path).student_run("kd-dot", 0)


@pytest.fixture
def run(root: Path, job: RunConfig) -> Run:
    """Finished."""
    shutil.copytree(_finished() / job.name, root / job.name)
    return Run(root / job.name, job)


@pytest.fixture
def half(root: Path, job: RunConfig) -> Path:
    """The folder of a run that was interrupted after its first epoch."""
    shutil.copytree(_interrupted() / job.name, root / job.name)
    return root / job.name


def _interrupt() -> None:
    raise KeyboardInterrupt


def after_an_epoch(patch: pytest.MonkeyPatch, act: Any) -> None:
    """Do something when the second epoch is about to begin."""
    run_epoch = Trainer.run_epoch

    def wrapped(self: Trainer, stop: Any) -> Any:
        if self.place.epoch == 1:
            act()
        return run_epoch(self, stop)

    patch.setattr(Trainer, "run_epoch", wrapped)


def no_training(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing is to be trained")

    patch.setattr(Trainer, "__init__", refuse)


def test_what_is_in_a_run_folder(run: Run, job: RunConfig) -> None:
    files = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
    assert files == [
        "checkpoints/epoch-0001.pt",
        "checkpoints/last.pt",
        "checkpoints/previous.pt",
        "config.toml",
        "conflict.h5",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
    ]
    assert run.done
    assert run.path.name == job.name
    assert load_run(run.path / "config.toml") == job == run.config
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert len(environment["teacher_sha256"]) == 64


def test_the_weights_are_those_of_the_last_checkpoint(run: Run) -> None:
    weights = safetensors.torch.load_file(run.weights)
    state = torch.load(run.last, weights_only=True)
    assert tiny.same(weights, dict(state["model"]))
    assert state["place"]["epoch"] == 2
    network = run.network(tiny.digits(CPU), CPU)
    assert not network.training
    assert tiny.same(dict(network.state_dict()), weights)


def test_the_metrics_are_those_of_the_weights(run: Run, device: torch.device) -> None:
    data = tiny.digits(device)
    teacher = run.teacher()
    assert teacher is not None
    student, guide = run.network(data, device), teacher.network(data, device)
    wanted = tiny.numbers_of(student, guide, data, data.test, 4.0)
    assert run.metrics[-1]["test"] == pytest.approx(wanted, rel=1e-4)


def test_asked_for_checkpoints_hold_the_weights_of_their_epoch(run: Run, tmp_path: Path, job: RunConfig) -> None:
    shorter = replace(job, train=replace(job.train, epochs=1), record=replace(job.record, checkpoints=()))
    one_epoch = runs.train(shorter, tmp_path, CPU)
    kept = torch.load(run.path / "checkpoints" / "epoch-0001.pt", weights_only=True)
    assert tiny.same(dict(kept), safetensors.torch.load_file(one_epoch.weights))
    assert not list((one_epoch.path / "checkpoints").glob("epoch-*"))


def test_the_same_configuration_again_returns_at_once(
    run: Run, job: RunConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny.mtimes(root)
    no_training(monkeypatch)
    assert runs.train(job, root, CPU) == run
    assert tiny.mtimes(root) == before


def test_an_interrupted_run_goes_on_and_ends_the_same(half: Path, job: RunConfig, root: Path) -> None:
    assert load_checkpoint(half / "checkpoints" / "last.pt")["place"]["epoch"] == 1
    runs.train(job, root, CPU)
    assert tiny.differences(half, _finished() / job.name) == []


@pytest.mark.parametrize("finished", [False, True])
def test_an_edited_configuration_is_refused(
    finished: bool, half: Path, job: RunConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if finished:
        runs.train(job, root, CPU)
    settings = half / "config.toml"
    settings.write_text(settings.read_text().replace("lr = 0.05", "lr = 0.06"))
    before = tiny.mtimes(root)
    no_training(monkeypatch)
    with pytest.raises(ValueError, match="must hold the configuration that its name says") as caught:
        runs.train(job, root, CPU)
    assert str(half) in str(caught.value)
    assert tiny.mtimes(root) == before


def test_a_broken_configuration_is_refused(half: Path, job: RunConfig, root: Path) -> None:
    settings = half / "config.toml"
    settings.write_text(settings.read_text()[:40])
    with pytest.raises(ConfigError, match=str(settings)):
        runs.train(job, root, CPU)
    with pytest.raises(ConfigError, match=str(settings)):
        runs.open_run(half)


def test_a_changed_teacher_is_refused(half: Path, job: RunConfig, root: Path) -> None:
    path = root / job.teacher / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["fc.bias"][0] += 1e-3
    safetensors.torch.save_file(weights, path)
    before = tiny.mtimes(half)
    with pytest.raises(ValueError, match="must be used with the teacher that it was trained with") as caught:
        runs.train(job, root, CPU)
    assert job.teacher in str(caught.value)
    assert tiny.mtimes(half) == before


def test_no_problem_is_made_with_a_changed_teacher(run: Run, job: RunConfig, root: Path) -> None:
    """Its distillation loss would be another than the one that was trained."""
    path = root / job.teacher / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["fc.bias"][0] += 1e-3
    safetensors.torch.save_file(weights, path)
    with pytest.raises(ValueError, match=job.teacher):
        runs.problem(run.path)


def test_a_missing_or_unfinished_teacher_is_named(run: Run, job: RunConfig, root: Path) -> None:
    other = replace(job, seed=1)
    teacher = root / job.teacher
    (teacher / "model.safetensors").rename(root / "kept")
    for act in (lambda: runs.train(other, root, CPU), lambda: runs.problem(run.path)):
        with pytest.raises(FileNotFoundError, match=f"{job.teacher} must hold a finished run"):
            act()
    shutil.rmtree(teacher)
    for act in (lambda: runs.train(other, root, CPU), lambda: runs.problem(run.path)):
        with pytest.raises(FileNotFoundError, match=f"expected a run folder with a config.toml at .*{job.teacher}"):
            act()


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["pickle", "torch.save", "inside a checkpoint"])
def test_a_pickle_that_runs_code_is_refused(form: str, half: Path, job: RunConfig, root: Path, tmp_path: Path) -> None:
    last, touched = half / "checkpoints" / "last.pt", tmp_path / "touched"
    if form == "pickle":
        last.write_bytes(pickle.dumps(Malicious(touched), protocol=2))
    elif form == "torch.save":
        torch.save(Malicious(touched), last)
    else:
        torch.save(load_checkpoint(last) | {"rng": Malicious(touched)}, last)
    with pytest.raises(ValueError, match="must be a checkpoint of plain tensors") as caught:
        runs.train(job, root, CPU)
    assert str(last) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    torch.load(last, weights_only=False) if form != "pickle" else pickle.loads(last.read_bytes())
    assert touched.exists(), "the file would have run code"


@pytest.mark.parametrize("kept", [0, 1, 100, 2000, -1])
def test_a_checkpoint_cut_short_is_refused(kept: int, half: Path, job: RunConfig, root: Path) -> None:
    last = half / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(ValueError, match="Delete the file to train this run from its start") as caught:
        runs.train(job, root, CPU)
    assert str(last) in str(caught.value)
    last.unlink()
    assert runs.train(job, root, CPU).done, "what the message says to do works"


@pytest.mark.parametrize("content", [{}, [1, 2], torch.zeros(3), {"model": {}}])
def test_a_checkpoint_of_something_else_is_refused(content: Any, half: Path, job: RunConfig, root: Path) -> None:
    last = half / "checkpoints" / "last.pt"
    torch.save(content, last)
    with pytest.raises(ValueError, match=str(last)):
        runs.train(job, root, CPU)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_weights_cut_short_are_refused(kept: int, run: Run, job: RunConfig) -> None:
    run.weights.write_bytes(run.weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{run.weights} must hold the weights of convnet4"):
        runs.problem(run.path)


def test_weights_of_another_network_are_refused(run: Run, root: Path, job: RunConfig) -> None:
    shutil.copy(root / job.teacher / "model.safetensors", run.weights)
    with pytest.raises(ValueError, match=f"{run.weights} must hold the weights of convnet4"):
        runs.problem(run.path)


def test_a_folder_that_cannot_be_made(tmp_path: Path, job: RunConfig) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        runs.train(replace(job, method="ce", teacher=""), tmp_path / "file" / "runs", CPU)


@pytest.fixture
def small(disk: Path, tmp_path: Path) -> tuple[Path, RunConfig]:
    """A root on the small disk with a small teacher in it, and a run for it."""
    study = tiny.config(tmp_path, RECIPE.replace("resnet8", "convnet4"))
    runs.train(study.teacher_run(), disk, CPU)
    return disk, study.student_run("kd-dot", 0)


def fill(disk: Path, spare: int) -> None:
    """Leave so many bytes."""
    stat = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"x" * max(stat.f_bavail * stat.f_frsize - spare, 0))


@pytest.mark.parametrize("spare", [0, 4096, 8192, 12288, 36864])
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(
    spare: int, small: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, job = small
    folder = root / job.name
    with monkeypatch.context() as patch:
        after_an_epoch(patch, lambda: fill(root, spare))
        with pytest.raises(OSError, match=str(folder)) as caught:
            runs.train(job, root, CPU)
    assert "No space left" in str(caught.value) or "space" in str(caught.value)
    state = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert state["place"]["epoch"] == (2 if spare == 36864 else 1), "with so much space it is the results that fail"

    (root / "ballast").unlink()
    runs.train(job, root, CPU)
    other = tmp_path / "other"
    shutil.copytree(root / job.teacher, other / job.teacher)
    assert tiny.differences(folder, runs.train(job, other, CPU).path) == []


def test_a_disk_that_is_full_for_an_epoch_stops_nothing(
    small: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, job = small
    job = tiny.vary(job, train={"epochs": 4})
    folder, run_epoch, kept = root / job.name, Trainer.run_epoch, []

    def watched(self: Trainer, stop: Any) -> Any:
        if self.place.epoch == 1:
            fill(root, 0)
        if self.place.epoch == 3:
            (root / "ballast").unlink()
        if self.place.epoch:
            kept.append(load_checkpoint(folder / "checkpoints" / "last.pt")["place"]["epoch"])
        return run_epoch(self, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", watched)
        assert runs.train(job, root, CPU).done
    assert kept == [1, 1, 1]
    said = [record.getMessage() for record in caplog.records if "Training goes on." in record.getMessage()]
    assert [line.split(":")[0] for line in said] == ["epoch 2", "epoch 3"]
    assert f"The last good state is that of {folder / 'checkpoints' / 'last.pt'}." in said[0]
    other = tmp_path / "other"
    shutil.copytree(root / job.teacher, other / job.teacher)
    assert tiny.differences(folder, runs.train(job, other, CPU).path) == ["checkpoints/previous.pt differs"]


def test_a_broken_checkpoint_is_made_up_for_by_the_one_before(
    run: Run, job: RunConfig, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run.weights.unlink()
    run.conflict.unlink()
    whole = run.last.read_bytes()
    run.last.write_bytes(whole[: len(whole) // 2])
    assert load_checkpoint(run.previous)["place"]["epoch"] == 1
    again = runs.train(job, root, CPU)
    assert "Going on from the one before it." in caplog.text
    assert safetensors.torch.load_file(again.weights).keys()
    assert again.last.read_bytes() == whole
    run.weights.unlink()
    run.last.write_bytes(b"")
    run.previous.write_bytes(b"")
    with pytest.raises(ValueError, match="Delete the file to train this run from its start") as caught:
        runs.train(job, root, CPU)
    assert str(run.last) in str(caught.value)
    assert str(run.previous) in str(caught.value)


def test_a_disk_that_turns_read_only(
    small: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, job = small
    folder = root / job.name

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", root], check=True)

    with monkeypatch.context() as patch:
        # The command refuses while a file is open to be written; a disk that fails does not ask.
        patch.setattr(runs.training, "claim", lambda path: contextlib.nullcontext())
        after_an_epoch(patch, lambda: remount("ro"))
        with pytest.raises(OSError, match=str(folder)) as caught:
            runs.train(job, root, CPU)
    assert "Read-only" in str(caught.value)
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["place"]["epoch"] == 1
    remount("rw")
    assert runs.train(job, root, CPU).done


@pytest.mark.parametrize("method", ["ce", "kd-dot"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_problem_of_a_run(method: str, split: str, root: Path, tmp_path: Path, device: torch.device) -> None:
    run = runs.train(tiny.config(tmp_path).student_run(method, 0), root, device)
    problem = runs.problem(run.path, split, device)
    assert problem.split == split
    assert problem.device.type == device.type
    assert not problem.model.training
    examples: Split = getattr(tiny.digits(device), split)
    student = models.build("convnet4", in_channels=1, num_classes=10)
    student.load_state_dict(safetensors.torch.load_file(run.weights))
    teacher = models.build("resnet8", in_channels=1, num_classes=10)
    teacher.load_state_dict(safetensors.torch.load_file(root / run.config.teacher / "model.safetensors"))
    inputs = tiny.normalised(examples.images.cpu())
    labels = examples.labels.cpu()
    with torch.no_grad():
        logits, expected = student.eval()(inputs), teacher.eval()(inputs)
        found = [problem.objective(problem.model, batch) for batch in problem.iterate()]
    wanted = {
        "ce": tiny.each_ce(logits, labels),
        "kd": tiny.each_kd(logits, expected, 4.0),
        "error": (logits.argmax(1) != labels).float(),
    }
    assert found[0].keys() == wanted.keys()
    order = torch.randperm(len(labels), generator=generator(0))  # drawn: a set may lie in the order of its classes
    for term, values in wanted.items():
        each = torch.cat([terms[term].cpu() for terms in found])
        torch.testing.assert_close(each, values[order], rtol=1e-3, atol=1e-5)


def test_the_teacher_is_asked_once(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = runs.problem(run.path)
    seen = sum(len(batch["taught"]["logits"]) for batch in problem.iterate())
    assert seen == 898
    shutil.rmtree(root / run.config.teacher)
    with torch.no_grad():
        for _ in range(2):
            terms = [problem.objective(problem.model, batch) for batch in problem.iterate()]
    assert sum(len(t["kd"]) for t in terms) == 898


def test_a_run_without_a_teacher_has_no_distillation_loss(root: Path, job: RunConfig) -> None:
    problem = runs.problem(root / job.teacher, "test")
    with torch.no_grad():
        terms = problem.objective(problem.model, next(iter(problem.iterate())))
    assert terms.keys() == {"ce", "error"}


def test_what_no_problem_is_made_of(half: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split must be 'train' or 'test'\. Got 'validation'\."):
        runs.problem(half, "validation")
    with pytest.raises(FileNotFoundError, match="must hold a finished run"):
        runs.problem(half)
    with pytest.raises(FileNotFoundError, match=f"expected a run folder with a config.toml at {tmp_path}/none"):
        runs.problem(tmp_path / "none")


def test_a_killed_process_may_leave_half_a_line_of_metrics(half: Path, job: RunConfig, root: Path) -> None:
    with open(half / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "train": {"ce": 0.')
    assert [line["epoch"] for line in Run(half, job).metrics] == [1]
    runs.train(job, root, CPU)
    assert [line["epoch"] for line in Journal(half / "metrics.jsonl", at="epoch").read()] == [1, 2]


def test_the_global_random_state_and_threads_decide_nothing(root: Path, job: RunConfig) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(456)
    torch.set_num_threads(threads + 1)
    try:
        found = runs.train(job, root, CPU).path
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert tiny.differences(found, _finished() / job.name) == []
    assert to_toml(job) == (found / "config.toml").read_text()


def test_a_run_goes_on_recorded_or_not_as_it_began(half: Path, job: RunConfig, root: Path) -> None:
    with pytest.raises(ValueError, match="must go on with recording, as it began"):
        runs.train(job, root, CPU, recording=False)
    assert (half / "conflict.jsonl").exists()
    assert runs.train(job, root, CPU).conflict.exists()


def test_one_process_at_a_time_trains_in_a_folder(half: Path, job: RunConfig, root: Path) -> None:
    with claim(half), pytest.raises(OSError, match="must have one writer"):
        runs.train(job, root, CPU)
    assert runs.train(job, root, CPU).done
