"""What is recorded while training equals gradients computed by hand, and changes nothing of the training."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import oracles
import pytest
import tiny
import torch
from tiny import CPU, digits, networks, train_by_hand, trainer_of, vary

from dot import runs
from dot.config import METHODS, RunConfig
from dot.data.drawing import generator
from dot.data.images import Split
from dot.distillation import Distillation, Hinton, Outputs
from dot.journal import Journal
from dot.recording import ConflictRecorder, discard
from dot.runs import load_checkpoint
from dot.teaching import Teacher
from dot.trainer import Trainer
from landscape import store

Vectors = dict[str, np.ndarray]


def flat(gradient: dict[str, torch.Tensor]) -> Vectors:
    """``{module name: vector}`` of ``{parameter name: tensor}``."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, tensor in gradient.items():
        layers.setdefault(name.rsplit(".", 1)[0], []).append(tensor.detach().cpu().double().flatten().numpy())
    return {name: np.concatenate(parts) for name, parts in layers.items()}


def assert_records(group: h5py.Group, steps: list[int], wanted: list[tuple[Vectors, Vectors]]) -> None:
    """A group of a conflict file holds, for each step, what two vectors have with each other."""
    assert group["step"][()].tolist() == steps
    layers = list(group["layer"].asstr()[()])
    assert len(wanted) == len(steps)
    for i, (a, b) in enumerate(wanted):
        assert layers == list(a)
        whole = tuple(np.concatenate(list(vectors.values())) for vectors in (a, b))
        assert_parts(group, (i,), *whole)
        for j, layer in enumerate(layers):
            assert_parts(group["layers"], (i, j), a[layer], b[layer])


def assert_parts(group: h5py.Group, at: tuple[int, ...], a: np.ndarray, b: np.ndarray) -> None:
    shared, left_a, left_b = oracles.parts(a, b)
    size = max(np.linalg.norm(a), np.linalg.norm(b))
    for name, value in (
        ("norm/ce", np.linalg.norm(a)),
        ("norm/kd", np.linalg.norm(b)),
        ("consistent", np.linalg.norm(shared)),
        ("inconsistent/ce", np.linalg.norm(left_a)),
        ("inconsistent/kd", np.linalg.norm(left_b)),
    ):
        assert group[name][at] == pytest.approx(value, rel=2e-3, abs=2e-3 * size), name
    assert group["cosine"][at] == pytest.approx(oracles.cosine(a, b), abs=2e-3)


@pytest.fixture
def job(tmp_path: Path) -> RunConfig:
    """Four steps an epoch, every third of them recorded: 0, 3, 6, 9."""
    base = tiny.config(tmp_path).student_run("kd-dot", 5)
    return vary(base, train={"epochs": 3, "batch_size": 30}, record={"every": 3, "heldout": 20})


@pytest.mark.parametrize("method", METHODS)
def test_records_equal_gradients_computed_by_hand(
    method: str, job: RunConfig, tmp_path: Path, device: torch.device
) -> None:
    job = vary(job, method=method)
    data, (student, teacher) = digits(device, 100, 50), networks(device)
    by_hand, state = copy.deepcopy(student), {}
    recorder = ConflictRecorder(tmp_path, student, Teacher(teacher), Hinton(4.0), data, job)
    trainer = trainer_of(student, teacher, data, job, recorder)
    steps, heldout = [], []
    for epoch in (1, 2, 3):
        trainer.run_epoch()
        steps += train_by_hand(job, by_hand, teacher, data, epoch, state)
        heldout.append(heldout_gradients(job, by_hand, teacher, data))
    recorder.sync()
    recorder.consolidate(tmp_path / "conflict.h5", {"note": "kept", "seed": 5})
    with h5py.File(tmp_path / "conflict.h5") as file:
        assert_records(file, [0, 3, 6, 9], [(flat(s.task), flat(s.distill)) for s in steps[::3]])
        assert_records(file["heldout"], [4, 8, 12], heldout)
        assert ("momentum" in file) == (method == "kd-dot")
        if method == "kd-dot":
            buffers = [(flat(s.buffers["task"]), flat(s.buffers["distill"])) for s in steps[3::3]]
            assert_records(file["momentum"], [3, 6, 9], buffers)
        assert (file.attrs["w_ce"], file.attrs["w_kd"]) == (0.1, 0.9)
        assert (file.attrs["note"], file.attrs["seed"]) == ("kept", 5)
        assert file.attrs["schema"] == "dot-landscape/conflict"
    side_files = {"conflict.jsonl", "heldout.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == {"conflict.h5", "tiny.toml"} | side_files
    discard(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"conflict.h5", "tiny.toml"}
    assert store.load_conflict(tmp_path / "conflict.h5").terms == ("ce", "kd")


def whole(vectors: Vectors) -> np.ndarray:
    return np.concatenate(list(vectors.values()))


@pytest.mark.parametrize("method", METHODS)
def test_the_motion_equals_that_of_vectors_taken_by_hand(
    method: str, job: RunConfig, tmp_path: Path, device: torch.device
) -> None:
    """Gradients, those of the record before, and what the buffers of before the step make at its rate."""
    job = vary(job, method=method, train={"milestones": (2,)})
    data, (student, teacher) = digits(device, 100, 50), networks(device)
    by_hand, state, steps, after = copy.deepcopy(student), {}, [], []
    recorder = ConflictRecorder(tmp_path, student, Teacher(teacher), Hinton(4.0), data, job)
    trainer = trainer_of(student, teacher, data, job, recorder)
    for epoch in (1, 2, 3):
        trainer.run_epoch()
        steps += train_by_hand(job, by_hand, teacher, data, epoch, state)
        made = {name: {n: steps[-1].rate * b for n, b in buffers.items()} for name, buffers in state.items()}
        after.append((heldout_gradients(job, by_hand, teacher, data), {name: flat(m) for name, m in made.items()}))
    recorder.sync()
    recorder.consolidate(tmp_path / "conflict.h5", {})
    found = store.load_conflict(tmp_path / "conflict.h5").groups["motion"]
    own = ["step of ce", "step of kd"] if method == "kd-dot" else []
    assert found.terms == ("ce", "kd", "ce before", "kd before", *own, "update")
    assert found.step.tolist() == [3, 6, 9]
    for i, (now, before) in enumerate(zip(steps[3::3], steps[::3], strict=False)):
        made = [whole(flat({n: now.rate * b for n, b in buffers.items()})) for buffers in now.buffers.values()]
        vectors = [whole(flat(g)) for g in (now.task, now.distill, before.task, before.distill)]
        vectors += [*(made if own else []), sum(made)]
        products = np.array([[a @ b for a in vectors] for b in vectors])
        sizes = np.sqrt(np.diag(products))
        np.testing.assert_allclose(
            found.gram[i, 0] / np.outer(sizes, sizes), products / np.outer(sizes, sizes), atol=5e-3
        )
    epochs = store.load_conflict(tmp_path / "conflict.h5").groups["heldout-motion"]
    assert epochs.step.tolist() == [4, 8, 12]
    for i, (gradients, made) in enumerate(after):
        update = sum(whole(m) for m in made.values())
        for term, gradient in zip(("ce", "kd"), gradients, strict=True):
            wanted = oracles.cosine(whole(gradient), update)
            assert epochs.pair(term, "update").cosine[i] == pytest.approx(wanted, abs=5e-3)
        assert epochs.norm["update"][i] == pytest.approx(np.linalg.norm(update), rel=5e-3)


def drawn_of(data: Any, n: int) -> np.ndarray:
    return torch.randperm(len(data.test), generator=generator(0))[:n].numpy()


def test_the_heldout_batch_of_a_set_in_the_order_of_its_classes_has_all_of_them(job: RunConfig, tmp_path: Path) -> None:
    data, (student, teacher) = digits(CPU, 100, 899), networks(CPU)
    order = data.test.labels.argsort()
    data = replace(data, test=Split(data.test.images[order], data.test.labels[order]))
    job = vary(job, record={"heldout": 64})
    recorder = ConflictRecorder(tmp_path, student, Teacher(teacher), Hinton(4.0), data, job)
    assert len(set(torch.cat([chunk.labels for chunk in recorder._chunks]).tolist())) >= 9
    assert all(len(set(chunk.labels.tolist())) > 2 for chunk in recorder._chunks)


@pytest.mark.parametrize("heldout", [20, 21, 1])
def test_the_noise_of_the_heldout_gradient_is_that_of_its_chunks(
    heldout: int, job: RunConfig, tmp_path: Path, device: torch.device
) -> None:
    job = vary(job, record={"heldout": heldout})
    data, (student, teacher) = digits(device, 100, 50), networks(device)
    recorder = ConflictRecorder(tmp_path, student, Teacher(teacher), Hinton(4.0), data, job)
    trainer = trainer_of(student, teacher, data, job, recorder)
    trainer.run_epoch()
    recorder.sync()
    recorder.consolidate(tmp_path / "conflict.h5", {})
    found = store.load_conflict(tmp_path / "conflict.h5").groups["heldout"]
    assert found.sizes.tolist() == [[heldout, heldout]]
    if heldout == 1:
        assert np.isnan(found.spread).all()
        assert np.isnan(found.signal_to_noise["ce"]).all()
        return
    drawn = drawn_of(data, heldout)
    chunks = np.array_split(drawn, 8)
    for k, term in enumerate(("ce", "kd")):
        each = [whole(heldout_gradients(job, student, teacher, data, chunk)[k]) for chunk in chunks]
        mean = whole(heldout_gradients(job, student, teacher, data, drawn)[k])
        scatter = sum(len(c) * np.sum((g - mean) ** 2) for c, g in zip(chunks, each, strict=True))
        spread = scatter / 7
        assert found.spread[0, k] == pytest.approx(spread, rel=1e-3)
        signal = np.sum(mean**2) - spread / heldout
        assert found.signal_to_noise[term][0] == pytest.approx(signal / spread, rel=2e-3, abs=1e-4)


class Half(Distillation):
    """Reads the student's first layer alone: what comes after it has no distillation gradient."""

    student_layers = ("0",)

    def forward(self, student: Outputs, teacher: Outputs, labels: torch.Tensor) -> torch.Tensor:
        return student.features["0"].flatten(1).square().mean(1)


def test_a_parameter_without_a_buffer_of_one_loss_counts_as_zeros(job: RunConfig, tmp_path: Path) -> None:
    data, (student, teacher) = digits(CPU, 100, 50), networks(CPU)
    loss = Half()
    recorder = ConflictRecorder(tmp_path, student, Teacher(teacher), loss, data, job)
    trainer = Trainer(student, Teacher(teacher), loss, data, job, recorder)
    trainer.run_epoch()
    recorder.sync()
    recorder.consolidate(tmp_path / "conflict.h5", {})
    found = store.load_conflict(tmp_path / "conflict.h5").groups
    assert set(found) == {"heldout", "momentum", "motion", "heldout-motion"}
    norms = dict(zip(found["momentum"].layers, found["momentum"].layer_norm["kd"][0], strict=True))
    assert norms["0"] > 0
    assert norms["4"] == 0
    buffers = trainer.strategy.optimizer.momentum_buffers("distill")
    last = found["heldout-motion"].norm["step of kd"][-1]
    size = sum(float(b.double().square().sum()) for b in buffers if b is not None) ** 0.5
    assert last == pytest.approx(trainer.strategy.optimizer.param_groups[0]["lr"] * size, rel=1e-5)


def heldout_gradients(
    job: RunConfig, model: Any, teacher: Any, data: Any, chosen: Any = None
) -> tuple[Vectors, Vectors]:
    """Of test examples, 20 drawn ones by default, in eval mode."""
    module = copy.deepcopy(model).eval()
    chosen = drawn_of(data, 20) if chosen is None else chosen
    inputs, labels = tiny.normalised(data.test.images[chosen]), data.test.labels[chosen]
    logits = module(inputs)
    with torch.no_grad():
        expected = teacher.eval()(inputs)
    ce = job.losses.w_ce * tiny.each_ce(logits, labels).mean()
    kd = job.losses.w_kd * tiny.each_kd(logits, expected, job.losses.temperature).mean()
    found = []
    for loss in (ce, kd):
        module.zero_grad()
        loss.backward(retain_graph=True)
        found.append(flat({name: p.grad for name, p in module.named_parameters()}))
    return found[0], found[1]


@pytest.mark.parametrize("method", METHODS)
def test_recording_changes_nothing(method: str, tmp_path: Path) -> None:
    job = vary(tiny.config(tmp_path).student_run(method, 0), record={"every": 1})
    folders = []
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        root = tiny.with_teacher(tmp_path / name)
        folders.append(runs.train(job, root, CPU, recording=name == "with").path)
    one, two = folders
    a, b = (load_checkpoint(folder / "checkpoints" / "last.pt") for folder in folders)
    assert set(a.pop("recorder")["before"]) == {"ce", "kd"}
    assert tiny.same(a, b)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert tiny.metrics(one) == tiny.metrics(two)
    assert (one / "conflict.h5").exists()
    assert not (two / "conflict.h5").exists()


def test_what_a_run_records(tmp_path: Path) -> None:
    """Two epochs of 15 steps, every fourth of them; the file says where it comes from."""
    root, study = tiny.with_teacher(tmp_path), tiny.config(tmp_path)
    run = runs.train(study.student_run("kd-dot", 0), root, CPU)
    found = store.load_conflict(run.conflict)
    assert found.step.tolist() == list(range(0, 30, 4))
    assert found.groups["heldout"].step.tolist() == [15, 30], "one record an epoch"
    assert found.groups["momentum"].step.tolist() == list(range(4, 30, 4))
    assert found.layers == ("conv1", "bn1", "conv2", "bn2", "fc")
    assert found.attrs["seed"] == 0
    assert len(found.attrs["checkpoint_sha256"]) == len(found.attrs["teacher_sha256"]) == 64
    assert found.attrs["versions"]["torch"] == torch.__version__
    assert not list(run.path.glob("*conflict.jsonl")) + list(run.path.glob("*heldout.jsonl"))


def test_no_records_of_steps_when_none_are_asked_for(tmp_path: Path) -> None:
    root, study = tiny.with_teacher(tmp_path), tiny.config(tmp_path)
    run = runs.train(vary(study.student_run("kd-dot", 0), record={"every": 0}), root, CPU)
    found = store.load_conflict(run.conflict)
    assert found.step.size == 0
    assert set(found.groups) == {"heldout", "heldout-motion"}
    assert found.groups["heldout"].step.tolist() == [15, 30]


def test_a_teacher_has_nothing_to_record(tmp_path: Path) -> None:
    root = tiny.with_teacher(tmp_path)
    (teacher,) = root.glob("ce-resnet8-*")
    assert not (teacher / "conflict.h5").exists()


def records(n: int) -> list[dict[str, Any]]:
    return [{"step": step, "value": step / 3, "nested": {"list": [1.5, None, "ü"]}} for step in range(n)]


def journal(path: Path, n: int) -> Journal:
    found = Journal(path / "side.jsonl", at="step")
    for record in records(n):
        found.append(record)
    found.sync()
    return found


def test_a_journal_gives_back_its_records(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl", at="step").read() == []
    found = journal(tmp_path, 4)
    assert found.read() == records(4)
    assert [json.loads(line) for line in found.path.read_text().splitlines()] == records(4)
    assert Journal(found.path, at="step").read() == records(4)


@pytest.mark.parametrize("last", [-1, 0, 2, 3, 99])
def test_a_journal_is_cut_back(last: int, tmp_path: Path) -> None:
    found = journal(tmp_path, 4)
    found.cut(last)
    assert found.read() == records(4)[: last + 1]
    found.append({"step": last + 1})
    found.sync()
    assert found.read() == [*records(4)[: last + 1], {"step": last + 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["side.jsonl"]


def test_a_last_line_cut_anywhere_is_left_out(tmp_path: Path) -> None:
    found = journal(tmp_path, 3)
    whole = found.path.read_bytes()
    second = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(second, len(whole)):
        found.path.write_bytes(whole[:end])
        assert found.read() == records(2), end
    found.path.write_bytes(whole[: second + 20])
    found.cut(1)
    found.append(records(3)[2])
    found.sync()
    assert found.path.read_bytes() == whole
