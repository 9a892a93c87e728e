"""Whole runs with each distillation loss, with cached logits and with a given teacher, against an ordinary loop.

The loop uses neither the optimizer, the losses, the trainer, the features nor the cache of the package.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from test_checkpoints import reference_names
from tiny import CPU, RECIPE
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from dot import logit_cache, models, runs
from dot.cli import main
from dot.config import Compute, RunConfig, load_run
from dot.data.augment import apply, draw
from dot.data.drawing import generator, shuffled
from dot.journal import Journal
from dot.models.resnet import ResNet
from dot.plain import read_json
from dot.runs import Run, folder, load_checkpoint, training
from dot.trainer import Trainer
from dot.world import World

OWN = '''
import torch
from torch import nn
from torch.nn import functional as F
from dot.distillation import Distillation

class Smooth(nn.Module):
    """Neither maxima nor kinks, where a last bit would send a gradient another way."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.bn1(self.conv1(x))), 2)
        return self.fc(torch.tanh(self.bn2(self.conv2(x))).mean((2, 3)))

def smooth(in_channels, num_classes):
    return Smooth(in_channels, num_classes)

def deaf(in_channels, num_classes):
    return Smooth(in_channels, 7)

def pair(in_channels, num_classes):
    class Pair(Smooth):
        def forward(self, x):
            return super().forward(x), x
    return Pair(in_channels, num_classes)

class Scaled(Distillation):
    """Squared difference of the logits, the student's times a trained scale for each class."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, student, teacher, labels):
        return (student.logits * self.scale - teacher.logits).square().mean(1)

def scaled(student, teacher, example):
    return Scaled()

class Mean(Scaled):
    def forward(self, student, teacher, labels):
        return super().forward(student, teacher, labels).mean()

def mean(student, teacher, example):
    return Mean()
'''
HINTS = {"student_layers": ("conv2", "fc"), "teacher_layers": ("layer2", "fc")}


@pytest.fixture(scope="module", autouse=True)
def _own_module() -> Iterator[None]:
    """Networks and losses of a user, as a module that can be imported."""
    folder = tiny.folder()
    (folder / "own_things.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where run folders lie, the teacher's among them."""
    return tiny.with_teacher(tmp_path)


@pytest.fixture
def job(tmp_path: Path) -> RunConfig:
    """Weight decay is large, so that where it enters is seen."""
    text = RECIPE.replace('"convnet4"', '"own_things:smooth"')
    job = tiny.config(tmp_path, text).student_run("kd-dot", 0)
    return tiny.vary(job, train={"epochs": 1, "weight_decay": 0.05}, record={"every": 0})


def teacher_of(root: Path, job: RunConfig) -> nn.Module:
    teacher = models.build("resnet8", in_channels=1, num_classes=10)
    teacher.load_state_dict(safetensors.torch.load_file(root / job.teacher / "model.safetensors"))
    return teacher.eval().requires_grad_(False)


def seen(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What every module of a network gives; the network itself by the name ``""``."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: found.__setitem__(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    model(inputs)
    for hook in hooks:
        hook.remove()
    return found


Loss = Callable[[dict[str, Tensor], dict[str, Tensor], Tensor, Sequence[nn.Module]], Tensor]
"""Of what student and teacher gave, the labels and the loss's own modules; for each example."""


def kd(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, own: Any) -> Tensor:
    return tiny.each_kd(student[""], teacher[""], 4.0)


def dkd(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, own: Any) -> Tensor:
    """Zhao et al. (2022), eq. 7: alpha of the target against the rest, beta within the rest; here 0.5 and 2."""
    p, q = (seen[""].div(4.0).softmax(1) for seen in (teacher, student))
    found = []
    for one, other, label in zip(p, q, labels.tolist(), strict=True):
        rest = [c for c in range(10) if c != label]
        target = one[label] * (one[label] / other[label]).log()
        target = target + (1 - one[label]) * ((1 - one[label]) / (1 - other[label])).log()
        one_rest, other_rest = one[rest] / one[rest].sum(), other[rest] / other[rest].sum()
        found.append(16 * (0.5 * target + 2 * (one_rest * (one_rest / other_rest).log()).sum()))
    return torch.stack(found)


def standardised(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, own: Any) -> Tensor:
    z = [(s[""] - s[""].mean(1, keepdim=True)) / s[""].std(1, correction=0, keepdim=True) for s in (student, teacher)]
    return tiny.each_kd(*z, 4.0)


def hint(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, own: Sequence[nn.Module]) -> Tensor:
    maps, vectors = own
    assert isinstance(maps, nn.Linear)
    guided = F.conv2d(student["conv2"], maps.weight[:, :, None, None], maps.bias)
    return (guided - teacher["layer2"]).square().mean((1, 2, 3)) + (
        vectors(student["fc"]) - teacher["fc"]
    ).square().mean(1)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))


def scaled(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, own: Sequence[nn.Module]) -> Tensor:
    return (student[""] * own[0].scale - teacher[""]).square().mean(1)


def nothing() -> list[nn.Module]:
    return []


def regressors() -> list[nn.Module]:
    return [nn.Linear(8, 32), nn.Linear(10, 10)]


KINDS: dict[str, tuple[dict[str, Any], Loss, Callable[[], list[nn.Module]]]] = {
    "kd": ({}, kd, nothing),
    "dkd": ({"alpha": 0.5, "beta": 2.0, "warmup_epochs": 2}, dkd, nothing),
    "standardised-kd": ({}, standardised, nothing),
    "hint": (HINTS, hint, regressors),
    "own_things:scaled": ({}, scaled, lambda: [Scale()]),
}


def with_loss(job: RunConfig, kind: str) -> RunConfig:
    return tiny.vary(job, losses={"distillation": kind, **KINDS[kind][0]})


def by_hand(
    job: RunConfig, teacher: nn.Module, kind: str, rounded: bool = False
) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Student and modules of the loss after a run; and for how many of the parameters each rule held."""
    _, loss, make = KINDS[kind]
    torch.manual_seed(job.seed)
    student = models.build(job.model, in_channels=1, num_classes=10).train()
    own = make()
    params = [*student.parameters(), *(p for module in own for p in module.parameters())]
    data, use = tiny.digits(CPU), job.train
    v: list[dict[str, Tensor]] = [{} for _ in params]
    rules = [0, 0, 0]
    for epoch in range(1, use.epochs + 1):
        share = min(1.0, epoch / job.losses.warmup_epochs) if job.losses.warmup_epochs else 1.0
        for i, chosen in enumerate(shuffled(len(data.train), use.batch_size, job.seed, epoch)):
            views = draw(use.augment, len(chosen), generator(job.seed, epoch, i))
            inputs, labels = tiny.normalised(apply(views, data.train.images[chosen])), data.train.labels[chosen]
            guide, found = seen(teacher, inputs), seen(student, inputs)
            if rounded:
                guide[""] = guide[""].half().float()
            ce = job.losses.w_ce * tiny.each_ce(found[""], labels).mean()
            distill = job.losses.w_kd * share * loss(found, guide, labels, own).mean()
            both = [torch.autograd.grad(x, params, allow_unused=True, retain_graph=True) for x in (ce, distill)]
            rate = use.lr * use.gamma ** sum(epoch > milestone for milestone in use.milestones)
            rules = [0, 0, 0]
            with torch.no_grad():
                for p, buffers, g_t, g_k in zip(params, v, *both, strict=True):
                    rules[(g_t is not None) + 2 * (g_k is not None) - 1] += 1
                    _move(p, buffers, g_t, g_k, job, rate)
    return student, own, rules


def _move(p: Tensor, v: dict[str, Tensor], g_t: Tensor | None, g_k: Tensor | None, job: RunConfig, rate: float) -> None:
    use = job.train
    gradients = {name: g for name, g in (("task", g_t), ("distill", g_k)) if g is not None}
    if job.method == "kd-sgd":
        gradients = {"task": torch.stack(list(gradients.values())).sum(0)}
    split = {"task": use.momentum - use.delta, "distill": use.momentum + use.delta}
    for i, (name, g) in enumerate(gradients.items()):
        momentum = split[name] if len(gradients) == 2 else use.momentum
        g = g + use.weight_decay * p if i == 0 else g
        v[name] = momentum * v[name] + g if name in v else g.clone()
    p -= rate * sum(v.values())


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-3, atol: float = 2e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


def assert_same_run(run: Run, student: nn.Module, own: list[nn.Module]) -> None:
    assert_near(safetensors.torch.load_file(run.weights), student.state_dict())
    if not own:
        assert not run.distillation.exists()
        return
    found = safetensors.torch.load_file(run.distillation)
    start = "" if isinstance(own[0], Scale) else "regressors.{}."
    wanted = {start.format(i) + name: p for i, module in enumerate(own) for name, p in module.state_dict().items()}
    assert_near(found, wanted)
    assert tiny.same(dict(load_checkpoint(run.last)["distillation"]), found)


@pytest.mark.parametrize("method", ["kd-sgd", "kd-dot"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_each_loss_is_the_ordinary_loop(kind: str, method: str, job: RunConfig, root: Path) -> None:
    """With DKD three epochs, in which the weight of its loss is a half, one and one."""
    train = {"delta": 0.0 if method == "kd-sgd" else 0.075, "epochs": 3 if kind == "dkd" else 1, "milestones": ()}
    job = tiny.vary(with_loss(job, kind), method=method, train=train)
    teacher = teacher_of(root, job)
    run = runs.train(job, root, CPU)
    student, own, rules = by_hand(job, teacher, kind)
    assert_same_run(run, student, own)
    if kind == "own_things:scaled":
        assert rules == [0, 1, 10], "task alone, distillation alone, both"
    if kind == "hint":
        assert rules == [0, 4, 10]

    inputs, labels = tiny.normalised(tiny.digits(CPU).train.images), tiny.digits(CPU).train.labels
    with torch.no_grad():
        wanted = KINDS[kind][1](seen(student.eval(), inputs), seen(teacher, inputs), labels, own)
        problem = runs.problem(run.path)
        found = torch.cat([problem.objective(problem.model, batch)["kd"] for batch in problem.iterate()])
    order = torch.randperm(len(wanted), generator=generator(0))  # in which a run's examples are measured
    torch.testing.assert_close(found, wanted[order], rtol=2e-3, atol=1e-4)
    surface = ls.evaluate(problem, ls.directions.random(problem.model, n=1, seed=1), ls.Grid1D((-0.5, 0.5, 3)))
    assert surface.values("kd")[1] == pytest.approx(float(found.double().mean()), rel=1e-6)


def test_a_loss_of_the_whole_batch_is_refused(job: RunConfig, root: Path) -> None:
    """Divided by the number of images once more, it would be a small one, and nobody would know."""
    job = tiny.vary(job, losses={"distillation": "own_things:mean"})
    with pytest.raises(ValueError, match=r"Mean must give a number for each of the 60 examples. Got the shape \[\]"):
        runs.train(job, root, CPU, recording=False)


def test_the_regressor_s_pull_reaches_only_layers_before_the_hint(job: RunConfig, root: Path, tmp_path: Path) -> None:
    """Parameters of all three kinds in one run: what only the task reaches too has momentum m."""
    layers = {"student_layers": ("conv2",), "teacher_layers": ("layer2",)}
    job = tiny.vary(job, losses={"distillation": "hint", **layers})

    def one_pair(student: Any, teacher: Any, labels: Tensor, own: Sequence[nn.Module]) -> Tensor:
        guided = own[0](student["conv2"].movedim(1, -1)).movedim(-1, 1)
        return (guided - teacher["layer2"]).square().mean((1, 2, 3))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "hint", (layers, one_pair, lambda: [nn.Linear(8, 32)]))
        student, own, rules = by_hand(job, teacher_of(root, job), "hint")
    assert rules == [4, 2, 6]
    run = runs.train(job, root, CPU)
    assert_near(safetensors.torch.load_file(run.weights), student.state_dict())
    kept = safetensors.torch.load_file(run.distillation)
    assert_near(kept, {f"regressors.0.{name}": p for name, p in own[0].state_dict().items()})


def test_hints_for_the_shipped_student(tmp_path: Path, root: Path) -> None:
    """Its maxima tie in equal patches, so that a last bit may send a gradient another way."""
    losses = {"distillation": "hint", "student_layers": ("conv2", "pool"), "teacher_layers": ("layer2", "pool")}
    job = tiny.vary(tiny.config(tmp_path).student_run("kd-dot", 0), train={"epochs": 1}, losses=losses)

    def hints(student: Any, teacher: Any, labels: Tensor, own: Sequence[nn.Module]) -> Tensor:
        guided = own[0](student["conv2"].movedim(1, -1)).movedim(-1, 1)
        vectors = own[1](student["pool"]) - teacher["pool"]
        return (guided - teacher["layer2"]).square().mean((1, 2, 3)) + vectors.square().mean(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "hint", (losses, hints, lambda: [nn.Linear(8, 32), nn.Linear(8, 64)]))
        student, own, _ = by_hand(job, teacher_of(root, job), "hint")
    run = runs.train(job, root, CPU)
    torch.manual_seed(0)
    start = [*models.build("convnet4", in_channels=1, num_classes=10).parameters()]
    start += [p for m in (nn.Linear(8, 32), nn.Linear(8, 64)) for p in m.parameters()]
    kept = safetensors.torch.load_file(run.weights) | safetensors.torch.load_file(run.distillation)
    names = [n for n, _ in student.named_parameters()] + [
        f"regressors.{i}.{n}" for i in "01" for n in ("weight", "bias")
    ]
    wanted = [*student.parameters(), *(p for module in own for p in module.parameters())]
    found, wanted, start = (
        torch.cat([t.detach().flatten() for t in x]) for x in ([kept[n] for n in names], wanted, start)
    )
    assert (found - wanted).norm() < 0.01 * (wanted - start).norm()


def test_a_problem_s_images_are_drawn_by_a_seed(job: RunConfig, root: Path) -> None:
    run = runs.train(with_loss(job, "hint"), root, CPU, recording=False)

    def rows(**how: int) -> list[tuple[float, ...]]:
        problem = runs.problem(run.path, **how)
        found = []
        with torch.no_grad():
            for batch in problem.iterate():
                kd = problem.objective(problem.model, batch)["kd"]
                lines = torch.cat([batch["inputs"].flatten(1), batch["labels"][:, None].float(), kd[:, None]], 1)
                found += [(*line[:-1], round(line[-1], 3)) for line in lines.tolist()]
        return found

    whole, some = rows(), rows(images=50, seed=1)
    assert len(whole) == 898
    assert len(some) == 50
    assert rows(images=50, seed=1) == some
    assert rows(images=50, seed=2) != some
    assert {line[:-1] for line in some} <= {line[:-1] for line in whole}
    means = {line[:-1]: line[-1] for line in whole}
    assert [line[-1] for line in some] == pytest.approx([means[line[:-1]] for line in some], abs=2e-3)
    assert rows(images=10**6) == whole
    with pytest.raises(ValueError, match=r"images must be at least 0, which is all of them\. Got -1"):
        runs.problem(run.path, images=-1)


@pytest.mark.parametrize("kept", [None, 0, 20, -1])
def test_a_loss_whose_weights_are_gone_or_broken_is_not_measured(kept: int | None, job: RunConfig, root: Path) -> None:
    """With weights drawn anew it would be another loss than the one that was trained."""
    run = runs.train(with_loss(job, "hint"), root, CPU, recording=False)
    data = run.distillation.read_bytes()
    run.distillation.unlink() if kept is None else run.distillation.write_bytes(data[:kept])
    with pytest.raises(ValueError, match=f"{run.distillation} must hold the weights of hint"):
        runs.problem(run.path)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Ends the process, so to speak, before the n-th change of a file; what was changed."""
    plain = os.replace, Journal.append, logit_cache._write

    def prepare(n: int) -> list[str]:
        done: list[str] = []

        def counted(i: int, name: Callable[..., Path]) -> Callable[..., None]:
            def act(*arguments: Any) -> None:
                done.append(name(*arguments).name)
                if len(done) == n:
                    raise Killed
                plain[i](*arguments)

            return act

        monkeypatch.setattr(os, "replace", counted(0, lambda _, new: Path(new)))
        monkeypatch.setattr(Journal, "append", counted(1, lambda journal, _: journal.path))
        monkeypatch.setattr(logit_cache, "_write", counted(2, lambda path, *_: path))
        return done

    return prepare


def cached(job: RunConfig, **compute: Any) -> RunConfig:
    return tiny.vary(job, compute={"cache_teacher": True, **compute})


@pytest.mark.parametrize("method", ["kd-sgd", "kd-dot"])
def test_a_run_with_cached_logits_is_the_loop_with_rounded_ones(method: str, job: RunConfig, root: Path) -> None:
    delta = 0.0 if method == "kd-sgd" else 0.075
    job = cached(tiny.vary(job, method=method, train={"epochs": 2, "milestones": (1,), "delta": delta}))
    run = runs.train(job, root, CPU, recording=False)
    found = safetensors.torch.load_file(run.weights)
    rounded, exact = (by_hand(job, teacher_of(root, job), "kd", how)[0].state_dict() for how in (True, False))
    assert_near(found, rounded)
    away = [sum((found[name] - tensor).square().sum() for name, tensor in s.items()) for s in (rounded, exact)]
    assert away[0] < 0.01 * away[1], "and not one with other logits"


@pytest.fixture
def asked() -> Iterator[list[int]]:
    """How many images each call of a ResNet, which the teacher is, was shown."""
    rows: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, ResNet):
            rows.append(len(inputs[0]))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    yield rows
    hook.remove()


def test_the_runs_of_a_study_share_the_logits(job: RunConfig, root: Path, asked: list[int]) -> None:
    """Of three runs of a seed the first asks once for each view that it meets; the others for test images alone."""
    job = cached(tiny.vary(job, train={"epochs": 2}))
    runs.train(tiny.vary(job, method="kd-sgd"), root, CPU, recording=False)
    met = set()
    for epoch in (1, 2):
        for i, chosen in enumerate(shuffled(898, 64, 0, epoch)):
            shifts = draw(job.train.augment, len(chosen), generator(0, epoch, i)).shifts
            assert shifts is not None
            met |= set(zip(chosen.tolist(), *shifts.T.tolist(), strict=True))
    assert sum(asked) == 1 + len(met) + 899, "the classes, the training and the test images, those once for all epochs"
    for method, recorded in (("kd-dot", False), ("ce", True)):
        asked.clear()
        runs.train(tiny.vary(job, method=method, record={"every": 4}), root, CPU, recording=recorded)
        assert asked == [4] * 8 * recorded + [1, 899], "a recorder's held-out images, once, in eight chunks"
    assert len(list((root / job.teacher).glob("logits-*"))) == 1


def test_the_seed_that_was_not_met_asks_only_for_what_is_new(job: RunConfig, root: Path, asked: list[int]) -> None:
    job = cached(job)
    runs.train(job, root, CPU, recording=False)
    asked.clear()
    second = runs.train(tiny.vary(job, seed=1), root, CPU, recording=False)
    assert 900 < sum(asked) < 900 + 898
    (root / "alone").mkdir()
    alone = runs.train(tiny.vary(job, seed=1), tiny.with_teacher(root / "alone"), CPU, recording=False)
    weights = (safetensors.torch.load_file(run.weights) for run in (second, alone))
    assert_near(*weights, rtol=1e-2, atol=1e-4)


def test_other_teachers_data_views_and_precisions_have_other_files(job: RunConfig, root: Path) -> None:
    teacher, data = teacher_of(root, job), tiny.digits(CPU)
    other = teacher_of(root, job)
    other.fc.bias[0] += 1e-6
    augment = job.train.augment
    variants = [
        (job, teacher, data),
        (job, other, data),
        (job, teacher, replace(data, digest="0" * 64)),
        (job, teacher, replace(data, name="digits-2")),
        (tiny.vary(job, compute={"teacher_precision": "bf16"}), teacher, data),
        (tiny.vary(job, train={"augment": replace(augment, flip=True)}), teacher, data),
        (tiny.vary(job, train={"augment": replace(augment, shift=2)}), teacher, data),
    ]
    for i, (config, network, images) in enumerate(variants):
        training._logit_cache(Run(root / job.name, config), network, images, CPU)
        assert len(list((root / job.teacher).glob("logits-*"))) == i + 1
    lasting = [
        tiny.vary(job, seed=5, method="ce", train={"lr": 1.0, "epochs": 7}),
        tiny.vary(job, losses={"temperature": 1.0, "distillation": "dkd"}),
        tiny.vary(job, compute={"threads": 1, "precision": "bf16"}),
    ]
    for config in lasting:
        training._logit_cache(Run(root / job.name, config), teacher, data, CPU)
    assert len(list((root / job.teacher).glob("logits-*"))) == len(variants)


def test_killed_before_each_change_of_a_file_with_a_cache(
    job: RunConfig, tmp_path: Path, kill_at: Callable[[int], list[str]]
) -> None:
    job = cached(tiny.vary(job, train={"epochs": 2, "batch_size": 300}))
    (tmp_path / "whole").mkdir()
    root = tiny.with_teacher(tmp_path / "whole")
    changes = kill_at(0)
    whole = runs.train(job, root, CPU, recording=False).path
    assert changes.count("logits.npy") == changes.count("there.npy") == 2
    wrong = []
    for n in range(1, len(changes) + 1):
        (tmp_path / str(n)).mkdir()
        root = tiny.with_teacher(tmp_path / str(n))
        kill_at(n)
        with pytest.raises(Killed):
            runs.train(job, root, CPU, recording=False)
        kill_at(0)
        runs.train(job, root, CPU, recording=False)
        found = tiny.differences(root / job.name, whole)
        wrong += [f"killed before {changes[n - 1]} ({n}): {difference}" for difference in found]
    assert wrong == []


@pytest.mark.parametrize("kind", ["hint", "own_things:scaled"])
def test_a_loss_with_weights_is_resumed_to_the_bit(
    kind: str, job: RunConfig, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny.vary(with_loss(job, kind), train={"epochs": 2}, record={"every": 4})
    (tmp_path / "whole").mkdir()
    whole = runs.train(job, tiny.with_teacher(tmp_path / "whole"), CPU)
    step = Trainer._step

    def killed(self: Trainer, *arguments: Any) -> Any:
        if self.place.step == 20:
            raise Killed
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", killed)
        with pytest.raises(Killed):
            runs.train(job, root, CPU)
    state = load_checkpoint(root / job.name / "checkpoints" / "last.pt")
    assert state["place"]["epoch"] == 1
    assert state["distillation"]
    assert not tiny.same(state["distillation"], load_checkpoint(whole.last)["distillation"]), "it is trained on"
    assert tiny.differences(runs.train(job, root, CPU).path, whole.path) == []


def test_a_cache_that_cannot_be_written_stops_no_training(
    job: RunConfig, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint waits for the logits, too: what it counts on is there before it."""
    job = cached(tiny.vary(job, train={"epochs": 4}))
    plain, tries, kept = logit_cache._write, [], []

    def write(path: Path, rows: list[int], values: Any) -> None:
        tries.append(path.name)
        if len(tries) in (3, 4):
            last = load_checkpoint(root / job.name / "checkpoints" / "last.pt")
            kept.append(last["place"]["epoch"])
            raise OSError(28, "No space left on device")
        plain(path, rows, values)

    with monkeypatch.context() as patch:
        patch.setattr(logit_cache, "_write", write)
        run = runs.train(job, root, CPU, recording=False)
    said = [line for line in caplog.messages if "Training goes on." in line]
    assert [line.split(":")[0] for line in said] == ["epoch 2", "epoch 3"]
    assert "No space left on device" in said[0]
    assert kept == [1, 1]
    (tmp_path / "whole").mkdir()
    whole = runs.train(job, tiny.with_teacher(tmp_path / "whole"), CPU, recording=False)
    assert tiny.differences(run.path, whole.path) == ["checkpoints/previous.pt differs"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Weights of a ResNet-8 with the names of the distillation literature."""
    return published(tmp_path / "given.pth", 5)


def published(path: Path, seed: int, num_classes: int = 10) -> Path:
    torch.manual_seed(seed)
    net = models.build("resnet8", in_channels=1, num_classes=num_classes)
    with torch.no_grad():
        net.train()(torch.randn(32, 1, 8, 8))
    state = {reference_names(name, "resnet8"): tensor for name, tensor in net.state_dict().items()}
    assert any("downsample" in name for name in state)
    torch.save({"model": state}, path)
    return path


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line: status, what was said, and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    return call


def train_with(call: Any, tmp_path: Path, checkpoint: Path, *more: str) -> tuple[int, str, str]:
    recipe = tiny.recipe(tmp_path, RECIPE.replace("epochs = 2\nmilestones = [1]", "epochs = 1"))
    found: tuple[int, str, str] = call(
        "train",
        recipe,
        "--method",
        "kd-sgd",
        "--teacher",
        checkpoint,
        "-o",
        tmp_path / "runs",
        "--device",
        "cpu",
        *more,
    )
    return found


def test_students_of_a_given_teacher(checkpoint: Path, tmp_path: Path, call: Any) -> None:
    status, _, errors = train_with(call, tmp_path, checkpoint)
    assert status == 0, errors
    student, teacher = sorted((tmp_path / "runs").iterdir(), key=lambda path: "resnet8" in path.name)
    sha = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert load_run(teacher / "config.toml").weights == sha
    for text in [*teacher.rglob("config.toml"), *student.rglob("config.toml"), *teacher.rglob("*.jsonl")]:
        assert str(tmp_path) not in text.read_text()
    given = torch.load(checkpoint, weights_only=True)["model"]
    kept = safetensors.torch.load_file(teacher / "model.safetensors")
    for name, tensor in kept.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, given[reference_names(name, "resnet8")])
    net = models.build("resnet8", in_channels=1, num_classes=10)
    net.load_state_dict(kept)
    data = tiny.digits(CPU)
    wanted = tiny.numbers_of(net, None, data, data.test, 4.0)
    (record,) = tiny.metrics(teacher)
    assert record == {"epoch": 0, "test": pytest.approx(wanted, rel=1e-4)}
    job = Run(student, load_run(student / "config.toml")).config
    assert job.teacher == teacher.name
    train = tiny.numbers_of(Run(student, job).network(data, CPU), net, data, data.test, 4.0)
    assert tiny.metrics(student)[-1]["test"] == pytest.approx(train, rel=1e-4)

    before = tiny.mtimes(tmp_path / "runs")
    elsewhere = checkpoint.rename(tmp_path / "moved.pt")
    status, _, errors = train_with(call, tmp_path, elsewhere)
    assert status == 0, errors
    assert tiny.mtimes(tmp_path / "runs") == before, "the same weights from elsewhere are the same study"
    status, _, errors = train_with(call, tmp_path, published(tmp_path / "moved.pt", 6))
    assert status == 0, errors
    assert len(list((tmp_path / "runs").iterdir())) == 4, "other weights are another teacher, of another student"

    status, said, errors = call("validate", tmp_path / "runs")
    assert status == 0, said + errors
    status, said, errors = call("info", teacher)
    assert status == 0, errors
    assert "epochs: weights of a checkpoint" in said
    assert f"weights: {sha}" in said
    status, said, errors = call("report", teacher, "-o", tmp_path / "page.html")
    assert status == 1
    assert "runs must be students, which have a teacher." in errors
    assert "Traceback" not in errors


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "--teacher must be a checkpoint. There is none at"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "must be a checkpoint of plain tensors"),
    "empty": (lambda path: path.write_bytes(b""), "must be a checkpoint of plain tensors"),
    "of other classes": (lambda path: published(path, 5, num_classes=7), "must fit the model tensor by tensor"),
    "no weights": (lambda path: torch.save({"epoch": 3}, path), "must hold a state dict"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "--teacher must be a checkpoint"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_checkpoint_leaves_no_folder(
    damage: Callable[[Path], object], message: str, checkpoint: Path, tmp_path: Path, call: Any
) -> None:
    damage(checkpoint)
    status, _, errors = train_with(call, tmp_path, checkpoint)
    assert status == 1
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_other_than_the_recipe_s_is_refused(checkpoint: Path, tmp_path: Path, call: Any) -> None:
    status, _, errors = train_with(call, tmp_path, checkpoint, "--set", f"teacher.weights={'0' * 64}")
    assert status == 1
    assert f"--teacher must be the checkpoint that the recipe names, of SHA-256 {'0' * 64}. Got" in errors
    study = tiny.vary(tiny.config(tmp_path), teacher={"weights": "1" * 64})
    for given, message in ((None, "give its path"), (checkpoint, f"must be the checkpoint of SHA-256 {'1' * 64}. Got")):
        with pytest.raises(ValueError, match=message):
            runs.teach(study, tmp_path / "runs", CPU, given, World())
    with pytest.raises(ValueError, match="use teach"):
        runs.train(study.teacher_run(), tmp_path / "runs", CPU)
    assert not (tmp_path / "runs").exists()


def test_killed_while_weights_are_taken(checkpoint: Path, tmp_path: Path, kill_at: Callable[[int], list[str]]) -> None:
    """Nothing that is half there is taken for finished."""
    sha = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    study = tiny.vary(tiny.config(tmp_path), teacher={"weights": sha})

    def teach(name: str) -> Run:
        return runs.teach(study, tmp_path / name, CPU, checkpoint, World())

    changes = kill_at(0)
    whole = teach("whole")
    assert changes == ["config.toml", "environment.json", "metrics.jsonl", "model.safetensors"]
    for n in range(1, 5):
        kill_at(n)
        with pytest.raises(Killed):
            teach(str(n))
        assert not Run(tmp_path / str(n) / whole.path.name, whole.config).done
        kill_at(0)
        assert tiny.differences(teach(str(n)).path, whole.path) == []


def test_taking_weights_draws_nothing_from_the_caller_s_generator(checkpoint: Path, tmp_path: Path) -> None:
    sha = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    study = tiny.vary(tiny.config(tmp_path), teacher={"weights": sha}, compute=Compute(threads=1))
    before = torch.get_rng_state(), torch.get_num_threads()
    run = runs.teach(study, tmp_path, CPU, checkpoint, World())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert read_json(run.path / "environment.json")["threads"] == 1


@pytest.mark.parametrize(
    ("model", "got"), [("own_things:deaf", r"\[1, 7\]"), ("own_things:pair", "tuple")], ids=["classes", "a pair"]
)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_network_of_other_classes_is_refused_before_training(
    role: str, model: str, got: str, tmp_path: Path, root: Path
) -> None:
    study = tiny.vary(tiny.config(tmp_path), **{role: {"model": model}})
    job = study.student_run("kd-dot", 0) if role == "student" else study.teacher_run()
    with pytest.raises(ValueError, match=f"must give 10 logits an image, the classes of digits. Got {got}"):
        runs.train(job, root, CPU)
    assert not (root / job.name / "metrics.jsonl").exists()
    assert list((root / job.name / "checkpoints").iterdir()) == []


def test_a_teacher_of_other_classes_is_refused_before_training(job: RunConfig, tmp_path: Path) -> None:
    """Its run folder is whole, but of other data: seven classes."""
    config = tiny.vary(tiny.config(tmp_path).teacher_run(), model="own_things:deaf")
    run = folder.make_folder(config, tmp_path)
    net = models.build("own_things:deaf", in_channels=1, num_classes=10)
    safetensors.torch.save_file(net.state_dict(), run.weights)
    student = cached(tiny.vary(job, teacher=config.name))
    with pytest.raises(ValueError, match=r"the teacher must give 10 logits an image.* Got \[1, 7\]"):
        runs.train(student, tmp_path, CPU, recording=False)
    assert not (tmp_path / student.name / "metrics.jsonl").exists()
    other = tiny.vary(tiny.config(tmp_path).teacher_run(), seed=9)
    run = folder.make_folder(other, tmp_path)
    net = models.build("resnet8", in_channels=1, num_classes=7)
    safetensors.torch.save_file(net.state_dict(), run.weights)
    with pytest.raises(ValueError, match=f"{run.weights} must hold the weights of resnet8"):
        runs.train(tiny.vary(job, teacher=other.name), tmp_path, CPU)
