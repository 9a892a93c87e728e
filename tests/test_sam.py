"""Sharpness-aware training is algorithm 1 of Foret et al. (2021), goes on where it stopped, and can be recorded."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import CPU, digits, each_ce, each_kd, normalised, same, trainer_of, vary
from torch import Tensor, nn

from dot import runs
from dot.config import RunConfig, load_run, to_toml
from dot.data.augment import apply, draw
from dot.data.drawing import generator, shuffled
from dot.data.images import ImageSet
from dot.runs import load_checkpoint
from dot.strategies import strategy
from dot.tables import ConfigError
from dot.trainer import Trainer
from dot.world import World

RHO = 0.3


@pytest.fixture
def job(tmp_path: Path) -> RunConfig:
    """Four steps an epoch, the last of them on a smaller batch; the rate drops after the first."""
    base = tiny.config(tmp_path).student_run("ce", 5)
    return vary(base, train={"epochs": 2, "batch_size": 30, "milestones": (1,), "weight_decay": 0.01, "sam": RHO})


def network(width: int = 3) -> nn.Sequential:
    """With batch norm, whose statistics a second pass could change, and dropout, which it could draw anew."""
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(9 * width, 10),
    )


def trained(job: RunConfig, epochs: int, teacher: nn.Module | None = None) -> Trainer:
    trainer = trainer_of(network(), teacher, digits(CPU, 100, 20), job)
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def gradient(job: RunConfig, at: nn.Module, teacher: nn.Module, batch: tuple[Tensor, Tensor], seed: int) -> Any:
    """Of the loss on a batch, for each parameter; what the network draws comes from the seed."""
    inputs, labels = batch
    torch.manual_seed(seed)
    logits, w = at.train()(inputs), job.losses
    loss = each_ce(logits, labels).mean()
    if job.method == "kd-sgd":
        with torch.no_grad():
            expected = teacher.eval()(inputs)
        loss = w.w_ce * loss + w.w_kd * each_kd(logits, expected, w.temperature).mean()
    parameters = dict(at.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def algorithm_1(job: RunConfig, model: nn.Module, teacher: nn.Module, data: ImageSet, epochs: int) -> float:
    """Train in place by the algorithm, its outer step with momentum and decay; mean norm over the last epoch."""
    use, velocity, norms = job.train, {}, []
    for epoch in range(1, epochs + 1):
        rate, norms = use.lr * use.gamma ** (epoch - 1), []
        for i, chosen in enumerate(shuffled(len(data.train), use.batch_size, job.seed, epoch)):
            drawn = generator(job.seed, epoch, i)
            inputs = normalised(apply(draw(use.augment, len(chosen), drawn), data.train.images[chosen]))
            batch, seed = (inputs, data.train.labels[chosen]), generator(job.seed, epoch, i, 0).initial_seed()
            g = gradient(job, model, teacher, batch, seed)
            norms.append(tiny.norm(g))
            above = copy.deepcopy(model)
            with torch.no_grad():
                for name, p in above.named_parameters():
                    p += use.sam * g[name] / norms[-1]
            g = gradient(job, above, teacher, batch, seed)  # the statistics that it changes are the copy's
            with torch.no_grad():
                for name, p in model.named_parameters():
                    step = g[name] + use.weight_decay * p
                    velocity[name] = use.momentum * velocity[name] + step if name in velocity else step
                    p -= rate * velocity[name]
    return sum(norms) / len(norms)


@pytest.mark.parametrize("method", ["ce", "kd-sgd"])
def test_it_is_algorithm_1(method: str, job: RunConfig) -> None:
    job, teacher, by_hand = vary(job, method=method), network(6), network()
    data = digits(CPU, 100, 20)
    trainer = trainer_of(network(), copy.deepcopy(teacher), data, job)
    trainer.run_epoch()
    numbers = trainer.run_epoch()
    norm = algorithm_1(job, by_hand, teacher, data, 2)
    found, wanted = trainer.model.state_dict(), by_hand.state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-4, atol=2e-6, msg=name)
    assert numbers is not None
    assert numbers["grad_norm"] == {"total": pytest.approx(norm, rel=1e-4)}
    plain = trained(vary(job, train={"sam": 0.0}), 2, copy.deepcopy(teacher)).model.state_dict()
    assert not torch.allclose(plain["0.weight"], wanted["0.weight"], rtol=1e-2, atol=1e-3), "SGD goes another way"


def test_a_step_in_float64(job: RunConfig) -> None:
    """Of a loss that is known: sum c_i p_i^4 / 4."""
    c, p = torch.rand(5, dtype=torch.float64) + 1, nn.Parameter(torch.randn(5, dtype=torch.float64))
    start = p.detach().clone()
    found = strategy([p], job, World())

    def losses() -> dict[str, Tensor]:
        return {"ce": (c * p**4).sum() / 4}

    norms = found.step(losses(), 1.0, losses)
    g = c * start**3
    above = start + RHO * g / g.square().sum().sqrt()
    torch.testing.assert_close(p.detach(), start - 0.05 * (c * above**3 + 0.01 * start), rtol=1e-6, atol=0)
    assert float(norms["total"]) == pytest.approx(float(g.square().sum().sqrt()))


def test_batch_norms_statistics_are_those_of_the_first_pass(job: RunConfig) -> None:
    """After one step they are those of SGD, which has met the same images at the same weights."""
    one_batch = {"batch_size": 100, "epochs": 1, "milestones": ()}
    buffers, counts = [], []
    for rho in (RHO, 0.0):
        trainer = trained(vary(job, train=one_batch | {"sam": rho}), 1)
        buffers.append([b.clone() for b in trainer.model.buffers()])
        counts.append(int(trainer.model[1].num_batches_tracked))  # type: ignore[index]
    assert same(*buffers)
    assert counts == [1, 1]


def test_it_goes_on_where_it_stopped(job: RunConfig, tmp_path: Path) -> None:
    whole, half = trained(job, 2), trainer_of(network(), None, digits(CPU, 100, 20), job)
    half.run_epoch()
    assert half.run_epoch(lambda: half.place.step == 6) is None
    torch.save(half.state(), tmp_path / "last.pt")
    goes_on = trainer_of(network(), None, digits(CPU, 100, 20), job)
    goes_on.load_state(load_checkpoint(tmp_path / "last.pt"))
    goes_on.run_epoch()
    one, other = goes_on.state(), whole.state()
    assert one["optimizer"]["state"], "momentum is kept"
    for key in ("model", "optimizer"):
        assert same(one[key], other[key]), key


def test_an_interrupted_run_ends_the_same_recorded_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = vary(tiny.config(tmp_path).student_run("kd-sgd", 0), train={"sam": RHO})
    folders = [tmp_path / name for name in ("whole", "halved", "unrecorded")]
    roots = [tiny.with_teacher(folder) for folder in folders if not folder.mkdir()]
    whole = runs.train(job, roots[0], CPU)
    unrecorded = runs.train(job, roots[2], CPU, recording=False)
    assert whole.conflict.exists()
    assert whole.weights.read_bytes() == unrecorded.weights.read_bytes()

    run_epoch = Trainer.run_epoch

    def once(self: Trainer, stop: Any) -> Any:
        if self.place.epoch == 1:
            raise KeyboardInterrupt
        return run_epoch(self, stop)

    monkeypatch.setattr(Trainer, "run_epoch", once)
    with pytest.raises(KeyboardInterrupt):
        runs.train(job, roots[1], CPU)
    monkeypatch.undo()
    assert tiny.differences(runs.train(job, roots[1], CPU).path, whole.path) == []


def test_without_the_package_it_is_said_what_to_install(job: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    parameters = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(ImportError, match=r'Got none: pip install "dot-landscape\[sam\]"'):
        strategy(parameters, job, World())
    assert strategy(parameters, vary(job, train={"sam": 0.0}), World())


def test_dot_is_refused(job: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(to_toml(vary(job, method="kd-dot")))
    with pytest.raises(ConfigError, match=r"train\.sam must be 0 with kd-dot, whose step is not SAM's\. Got 0\.3"):
        load_run(path)
    study = tiny.RECIPE.replace("[student.train]\n", "[student.train]\nsam = 0.3\n")
    with pytest.raises(ConfigError, match=r"student\.train\.sam must be 0 with kd-dot"):
        tiny.config(tmp_path, study)
    without = tiny.config(tmp_path, study.replace(', "kd-dot"]', "]"))
    assert without.student_run("ce", 0).train.sam == 0.3
    assert without.teacher_run().train.sam == 0
