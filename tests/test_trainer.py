"""Training equals the ordinary loop of each method, shares all that it can between methods, and stops when it fails."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import CPU, digits, networks, norm, numbers_of, same, train_by_hand, trainer_of, vary
from torch import Tensor, nn

from dot import models, runs
from dot.config import METHODS, Optimisation, RunConfig
from dot.optim import DOT
from dot.runs import load_checkpoint
from dot.strategies import strategy
from dot.trainer import Diverged, Trainer, learning_rate
from dot.world import World


@pytest.fixture
def job(tmp_path: Path) -> RunConfig:
    """Four steps an epoch, the last of them on a smaller batch."""
    base = tiny.config(tmp_path).student_run("kd-dot", 5)
    return vary(base, train={"epochs": 3, "batch_size": 30, "milestones": (2,), "weight_decay": 0.01})


class Spy:
    """A recorder that keeps what it is told, and may act at a step."""

    def __init__(self, act: dict[int, object] | None = None) -> None:
        self.steps: list[int] = []
        self.rates: list[float] = []
        self.epochs: list[int] = []
        self._act = act or {}

    def wants(self, step: int) -> bool:
        return True

    def step(self, step: int, losses: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        self.steps.append(step)
        self.rates.append(optimizer.param_groups[0]["lr"])
        if step in self._act:
            self._act[step]()  # type: ignore[operator]

    def epoch(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.epochs.append(step)


def trainer_for(job: RunConfig, device: torch.device, recorder: Spy | None = None) -> Trainer:
    return trainer_of(*networks(device), digits(device, 100, 50), job, recorder)


@pytest.mark.parametrize(
    ("method", "changes"),
    [*((method, {}) for method in METHODS), ("kd-sgd", {"nesterov": True}), ("kd-dot", {"shared_gradient": True})],
)
def test_training_equals_the_ordinary_loop(
    method: str, changes: dict[str, bool], job: RunConfig, device: torch.device
) -> None:
    job = vary(job, method=method, train=changes)
    data, (student, teacher) = digits(device, 100, 50), networks(device)
    by_hand, state, spy = copy.deepcopy(student), {}, Spy()
    start = copy.deepcopy(student.state_dict())
    trainer = trainer_of(student, copy.deepcopy(teacher), data, job, spy)
    for epoch in (1, 2, 3):
        numbers = trainer.run_epoch()
        steps = train_by_hand(job, by_hand, teacher, data, epoch, state)
        for name, tensor in by_hand.state_dict().items():
            torch.testing.assert_close(student.state_dict()[name], tensor, rtol=2e-4, atol=2e-6, msg=name)
        assert numbers is not None
        assert numbers["epoch"] == epoch
        assert numbers["lr"] == pytest.approx(steps[-1].rate)
        met = {name: sum(step.sums[name] for step in steps) / 100 for name in ("ce", "kd", "accuracy")}
        if method == "ce":
            del met["kd"]
        assert numbers["train"] == pytest.approx(met, rel=1e-4)
        assert numbers["test"] == pytest.approx(numbers_of(by_hand, teacher, data, data.test, 4.0), rel=1e-4)
        assert numbers["seconds"] > 0
        assert numbers["images_per_second"] == pytest.approx(100 / numbers["seconds"])
        together = [{n: s.task[n] + s.distill[n] for n in s.task} for s in steps]
        if method == "ce":
            together = [{n: g / job.losses.w_ce for n, g in s.task.items()} for s in steps]
        norms = {"total": sum(map(norm, together)) / len(steps)}
        if method == "kd-dot":
            own = {name: [getattr(s, name) for s in steps] for name in ("task", "distill")}
            if "shared_gradient" in changes:
                own = {name: [{n: g / 2 for n, g in gradient.items()} for gradient in together] for name in own}
            norms |= {name: sum(map(norm, gradients)) / len(steps) for name, gradients in own.items()}
        assert numbers["grad_norm"] == pytest.approx(norms, rel=1e-4)
    assert spy.steps == list(range(12))
    assert spy.epochs == [4, 8, 12]
    assert not any(torch.equal(start[n], t) for n, t in student.state_dict().items())


def test_one_epoch_of_the_small_convolutional_student(tmp_path: Path, device: torch.device) -> None:
    """The networks and the data of a real run: 15 steps on all the digits.

    Equal patches of an image tie in its maxima, so that a last bit may send a gradient another way.
    """
    study = tiny.config(tmp_path)
    torch.manual_seed(1)
    student = models.build("convnet4", in_channels=1, num_classes=10).to(device)
    teacher = models.build("convnet8", in_channels=1, num_classes=10).to(device)
    data = digits(device)
    for method in METHODS:
        job, one, other = study.student_run(method, 0), copy.deepcopy(student), copy.deepcopy(student)
        trainer_of(one, teacher, data, job).run_epoch()
        train_by_hand(job, other, teacher, data, 1, {})
        found, wanted, start = (torch.cat([p.reshape(-1) for p in m.parameters()]) for m in (one, other, student))
        assert (found - wanted).norm() < 0.01 * (wanted - start).norm(), method


def test_without_a_teacher_cross_entropy_alone(job: RunConfig, device: torch.device) -> None:
    job, data = vary(job, method="ce"), digits(device, 100, 50)
    student, teacher = networks(device)
    by_hand = copy.deepcopy(student)
    numbers = trainer_of(student, None, data, job).run_epoch()
    train_by_hand(job, by_hand, teacher, data, 1, {})
    assert numbers is not None
    assert numbers["test"] == pytest.approx(numbers_of(by_hand, None, data, data.test, 4.0), rel=1e-4)
    assert numbers["train"].keys() == {"ce", "accuracy"}
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], tensor, rtol=2e-4, atol=2e-6)


def test_dot_without_delta_is_kd_with_sgd(job: RunConfig) -> None:
    ends = []
    for method in ("kd-sgd", "kd-dot"):
        trainer = trainer_for(vary(job, method=method, train={"delta": 0.0}), CPU)
        trainer.run_epoch()
        ends.append(trainer.model.state_dict())
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-4, atol=1e-6)


def test_the_strategies_have_the_optimizers_of_their_methods(job: RunConfig) -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    for method, kind, needs in (
        ("ce", torch.optim.SGD, ("ce",)),
        ("kd-sgd", torch.optim.SGD, ("ce", "kd")),
        ("kd-dot", DOT, ("ce", "kd")),
    ):
        found = strategy(parameters, vary(job, method=method), World())
        assert type(found.optimizer) is kind
        assert found.needs == needs
        group = found.optimizer.param_groups[0]
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 0.01)
        assert not group["nesterov"]
        assert group.get("delta", 0.075) == 0.075


def test_methods_share_initial_weights_order_and_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny.config(tmp_path)
    root = tiny.with_teacher(tmp_path)
    seen: dict[tuple[str, int], tuple[dict[str, Tensor], list[Tensor]]] = {}

    def watch(self: Trainer, stop: object) -> None:
        inputs: list[Tensor] = []
        start = {name: t.clone() for name, t in self.model.state_dict().items()}
        hook = self.model.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
        run_epoch(self)
        hook.remove()
        seen[self.config.method, self.config.seed] = start, inputs[:15]
        raise KeyboardInterrupt

    run_epoch = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", watch)
    for method in METHODS:
        for seed in (0, 1):
            with pytest.raises(KeyboardInterrupt):
                runs.train(study.student_run(method, seed), root, CPU)
    for method in METHODS:
        for seed in (0, 1):
            assert same(seen[method, seed], seen["ce", seed])
        assert not same(seen[method, 0][0], seen[method, 1][0])
        assert not same(seen[method, 0][1], seen[method, 1][1])


@pytest.mark.parametrize(
    ("epoch", "drops"), [(1, 0), (149, 0), (150, 0), (151, 1), (180, 1), (181, 2), (210, 2), (211, 3), (240, 3)]
)
def test_the_rate_drops_in_the_epoch_after_a_milestone(epoch: int, drops: int) -> None:
    use = Optimisation(epochs=240, lr=0.05, milestones=(150, 180, 210))
    for step in (0, 3):
        assert learning_rate(use, epoch, step, 4) == pytest.approx(0.05 * 0.1**drops)


def test_warm_up_rises_linearly_step_by_step() -> None:
    use = Optimisation(epochs=5, lr=0.8, milestones=(3,), gamma=0.5, warmup_epochs=2)
    rates = [learning_rate(use, epoch, step, 4) for epoch in range(1, 6) for step in range(4)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] + [0.8] * 4 + [0.4] * 8)


@pytest.mark.parametrize("method", METHODS)
def test_each_step_is_made_at_the_rate_of_the_schedule(method: str, job: RunConfig) -> None:
    job, spy = vary(job, method=method, train={"milestones": (1, 2), "warmup_epochs": 1}), Spy()
    trainer = trainer_for(job, CPU, spy)
    rates = [numbers["lr"] for _ in range(3) if (numbers := trainer.run_epoch()) is not None]
    assert spy.rates == pytest.approx([0.0125, 0.025, 0.0375, 0.05] + [0.005] * 4 + [0.0005] * 4)
    assert rates == pytest.approx([0.05, 0.005, 0.0005]), "the rate of the last step of each epoch"


@pytest.mark.parametrize("method", ["kd-sgd", "kd-dot"])
def test_distillation_needs_a_teacher(method: str, job: RunConfig) -> None:
    with pytest.raises(ValueError, match=f"teacher must be a network for method '{method}'. Got none."):
        trainer_of(networks(CPU)[0], None, digits(CPU, 10, 10), vary(job, method=method))


def test_a_teacher_of_other_classes_is_refused(job: RunConfig) -> None:
    student, _ = networks(CPU)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(ValueError, match="classes"):
        trainer_of(student, teacher, digits(CPU, 10, 10), job)


def test_the_teacher_stays_as_it_is(job: RunConfig, device: torch.device) -> None:
    trainer = trainer_for(job, device)
    assert trainer.teacher is not None
    network = trainer.teacher.network
    before = copy.deepcopy(network.state_dict())
    trainer.run_epoch()
    assert same(network.state_dict(), before)
    assert not network.training
    assert all(p.grad is None for p in network.parameters())


def test_evaluating_leaves_mode_and_statistics(job: RunConfig, device: torch.device) -> None:
    trainer = trainer_for(job, device)
    before = copy.deepcopy(trainer.model.state_dict())
    for mode in (True, False):
        trainer.model.train(mode)
        trainer.evaluate()
        assert trainer.model.training is mode
    assert same(trainer.model.state_dict(), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop_after", [1, 3, 4, 6])
def test_it_goes_on_from_its_state_to_the_bit(method: str, stop_after: int, job: RunConfig) -> None:
    """Also with dropout, which draws from the global generator; the state takes the way through a file."""
    job = vary(job, method=method)

    def fresh() -> Trainer:
        student, teacher = networks(CPU)
        return trainer_of(nn.Sequential(nn.Dropout(0.3), student), teacher, digits(CPU, 100, 50), job)

    torch.manual_seed(11)
    whole = fresh()
    torch.manual_seed(11)
    wanted = [whole.run_epoch(), whole.run_epoch()]

    first = fresh()
    torch.manual_seed(11)
    done, numbers = 0, []

    def stop() -> bool:
        nonlocal done
        done += 1
        return done == stop_after

    while done < stop_after:
        numbers.append(first.run_epoch(stop))
    assert (numbers[-1] is None) == (stop_after % 4 != 0)
    assert first.place.epoch == stop_after // 4
    assert first.place.step_in_epoch == stop_after % 4
    assert first.place.step == stop_after
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)

    second = fresh()
    torch.manual_seed(99)
    second.load_state(torch.load(file, weights_only=True))
    numbers = [n for n in numbers if n is not None]
    while len(numbers) < 2:
        found = second.run_epoch()
        assert found is not None
        numbers.append(found)
    assert same(second.state(), whole.state())
    for a, b in zip(numbers, wanted, strict=True):
        assert a is not None
        assert b is not None
        assert {k: v for k, v in a.items() if k not in tiny.TIMES} == {
            k: v for k, v in b.items() if k not in tiny.TIMES
        }


def poison(model: nn.Module) -> object:
    def act() -> None:
        next(model.parameters()).data.fill_(float("nan"))  # behind autograd's back: the step under way still ends

    return act


@pytest.mark.parametrize(("at", "epoch", "step"), [(0, 1, 2), (2, 1, 4), (5, 2, 3)])
def test_a_loss_that_is_not_finite_stops_it(at: int, epoch: int, step: int, job: RunConfig, device) -> None:
    student, teacher = networks(device)
    trainer = trainer_of(student, teacher, digits(device, 100, 50), job, Spy({at: poison(student)}))
    for _ in range(epoch - 1):
        trainer.run_epoch()
    with pytest.raises(Diverged) as caught:
        trainer.run_epoch()
    message = str(caught.value)
    assert message.startswith(f"the loss must be finite. Got nan in epoch {epoch}, step {step} of it.")
    for way_out in ("train.lr", "train.warmup_epochs", "train.delta"):
        assert way_out in message


def test_it_stops_long_before_the_end_of_a_long_epoch(job: RunConfig) -> None:
    student, teacher = networks(CPU)
    spy = Spy({60: poison(student)})
    trainer = trainer_of(student, teacher, digits(CPU, 898, 10), vary(job, train={"batch_size": 4}), spy)
    with pytest.raises(Diverged, match="Got nan in epoch 1, step 62 of it"):
        trainer.run_epoch()
    assert len(spy.steps) <= 120
    assert spy.steps[-1] < 224


def test_weights_that_the_last_step_of_an_epoch_destroys_stop_it(job: RunConfig) -> None:
    """The loss of that step was finite; that of the weights which it leaves is not."""
    student, teacher = networks(CPU)
    trainer = trainer_of(student, teacher, digits(CPU, 100, 50), job, Spy({3: poison(student)}))
    with pytest.raises(Diverged, match="epoch 1"):
        trainer.run_epoch()


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, job = tiny.with_teacher(tmp_path), tiny.config(tmp_path).student_run("kd-dot", 0)
    run_epoch = Trainer.run_epoch

    def poisoned(self: Trainer, stop: object) -> object:
        if self.place.epoch == 1:
            poison(self.model)()  # type: ignore[operator]
        return run_epoch(self, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run_epoch", poisoned)
    with pytest.raises(
        Diverged, match=r"in epoch 2, step 1 of it\. The checkpoint of the last good epoch, if any, is kept"
    ):
        runs.train(job, root, CPU)
    folder = root / job.name
    state = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert state["place"]["epoch"] == 1
    assert all(bool(t.isfinite().all()) for t in state["model"].values())
    assert not (folder / "model.safetensors").exists()
    assert [line["epoch"] for line in tiny.metrics(folder)] == [1]

    monkeypatch.undo()
    runs.train(job, root, CPU)
    (tmp_path / "whole").mkdir()
    whole = runs.train(job, tiny.with_teacher(tmp_path / "whole"), CPU)
    assert tiny.differences(folder, whole.path) == []


def test_a_huge_learning_rate_ends_in_words(tmp_path: Path) -> None:
    root, study = tiny.with_teacher(tmp_path), tiny.config(tmp_path)
    job = replace(study.student_run("kd-dot", 0), train=replace(study.student.train, lr=1e30))
    with pytest.raises(Diverged, match=r"Got (nan|inf) in epoch 1, step \d+ of it"):
        runs.train(job, root, CPU)
    assert not (root / job.name / "model.safetensors").exists()


def test_a_run_of_a_single_huge_step_is_not_finished(tmp_path: Path) -> None:
    root, study = tiny.with_teacher(tmp_path), tiny.config(tmp_path)
    train = replace(study.student.train, lr=1e30, batch_size=1000, epochs=1, milestones=())
    job = replace(study.student_run("ce", 0), train=train)
    with pytest.raises(Diverged, match="epoch 1"):
        runs.train(job, root, CPU)
    assert not (root / job.name / "model.safetensors").exists()
