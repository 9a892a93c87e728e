"""The networks of the gallery: nine small students of digits, trained in seconds."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import landscape as ls
from dot import DOT, kd_loss

METHODS = {"CE": (1.0, 0.0), "KD+SGD": (0.1, 0.9), "KD+DOT": (0.1, 0.9)}
"""Weights of the task loss and of the distillation loss."""

SEEDS = (0, 1, 2)
EPOCHS, BATCH, RECORD_EVERY = 20, 50, 4


class Trained(NamedTuple):
    """A student, and what was kept while it was trained.

    Attributes:
        net: The student after its last step.
        checkpoints: State dicts, before the first epoch and after each one.
        losses: Task and distillation loss on the test images, each ``[epochs]``.
        conflict: The gradients of both losses on every fourth batch.
    """

    net: nn.Module
    checkpoints: list[dict[str, Tensor]]
    losses: tuple[list[float], list[float]]
    conflict: ls.Conflict


@cache
def images(split: str) -> tuple[Tensor, Tensor]:
    """500 images and their labels to train on, or 500 others to test on."""
    digits = load_digits()
    part = slice(0, 500) if split == "train" else slice(500, 1000)
    inputs = torch.tensor(digits.data[part] / 16, dtype=torch.float32)
    return inputs, torch.tensor(digits.target[part])


def network(width: int) -> nn.Module:
    """A multilayer perceptron for 8 x 8 images."""
    layers = {
        "first": nn.Linear(64, width),
        "relu1": nn.ReLU(),
        "second": nn.Linear(width, width),
        "relu2": nn.ReLU(),
        "logits": nn.Linear(width, 10),
    }
    return nn.Sequential(OrderedDict(layers))


@cache
def teacher() -> nn.Module:
    """A wider network, trained with labels alone."""
    torch.manual_seed(100)
    net = network(128)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        for inputs, labels in batches(*images("train")):
            optimizer.zero_grad()
            cross_entropy(net(inputs), labels).backward()
            optimizer.step()
    return net.requires_grad_(False)


@cache
def examples(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, and what the teacher says of them."""
    inputs, labels = images(split)
    return inputs, labels, teacher()(inputs)


def batches(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Batches of examples in a new order."""
    order = torch.randperm(len(tensors[0])).split(BATCH)
    return [tuple(tensor[chosen] for tensor in tensors) for chosen in order]


def objective(net: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Task loss, distillation loss and whether the class is right, for each image."""
    inputs, labels, expected = batch
    logits = net(inputs)
    return {
        "ce": cross_entropy(logits, labels, reduction="none"),
        "kd": kd_loss(logits, expected, temperature=4.0, reduction="none"),
        "correct": (logits.argmax(1) == labels).float(),
    }


def problem(method: str, seed: int = 0, split: str = "train") -> ls.Problem:
    """What is measured of a student: its network, its losses, the examples."""
    net = trained(method, seed).net
    return ls.Problem(net, objective, [examples(split)], split=split)


@cache
def trained(method: str, seed: int = 0, *, delta: float = 0.075) -> Trained:
    """A student of one method from one seed; ``delta`` is DOT's."""
    taught = examples("train")  # before the seed is set: the teacher draws numbers too
    torch.manual_seed(seed)
    net = network(32)
    split = delta if method == "KD+DOT" else 0.0  # without it DOT is SGD with momentum
    optimizer = DOT(net.parameters(), lr=0.02, momentum=0.9, delta=split)
    recorder, checkpoints = Recorder(net), [weights(net)]
    tested: dict[str, list[float]] = {"ce": [], "kd": []}
    of_task, of_distill = METHODS[method]
    for epoch in range(EPOCHS):
        for number, batch in enumerate(batches(*taught)):
            losses = objective(net, batch)
            task, distill = losses["ce"].mean(), losses["kd"].mean()
            if number % RECORD_EVERY == 0:
                recorder.add(epoch * len(taught[0]) // BATCH + number, task, distill)
            optimizer.backward(task=of_task * task, distill=of_distill * distill)
            optimizer.step()
        checkpoints.append(weights(net))
        with torch.no_grad():
            losses = objective(net, examples("test"))
        for term, kept in tested.items():
            kept.append(float(losses[term].mean()))
    return Trained(net, checkpoints, (tested["ce"], tested["kd"]), recorder.conflict())


@cache
def lines() -> dict[str, list[ls.Surface]]:
    """Of every method and seed, the losses along ten random directions."""
    found: dict[str, list[ls.Surface]] = {method: [] for method in METHODS}
    for method, seed in product(METHODS, SEEDS):
        student = problem(method, seed)
        directions = ls.directions.random(student.model, n=10, seed=seed)
        found[method].append(ls.evaluate(student, directions, ls.Grid1D((-1, 1, 21))))
    return found


@cache
def planes() -> dict[str, ls.Surface]:
    """Of one student of every method, the losses in a random plane."""
    grid = ls.Grid2D(x=(-1, 1, 21), y=(-1, 1, 21))
    students = {method: problem(method) for method in METHODS}
    directions = {
        name: ls.directions.random(student.model, n=2, seed=0)
        for name, student in students.items()
    }
    return {
        name: ls.evaluate(student, directions[name], grid)
        for name, student in students.items()
    }


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of them as they are now."""
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


class Recorder:
    """Inner products of the gradients of both losses in each layer, step by step."""

    def __init__(self, net: nn.Module) -> None:
        owners = ls.conflict.layers_of(net)
        self.parameters = [parameter for name, parameter in net.named_parameters()]
        self.layers = list(dict.fromkeys(owners.values()))
        self.index = [self.layers.index(layer) for layer in owners.values()]
        self.steps: list[int] = []
        self.grams: list[Tensor] = []

    def add(self, step: int, *losses: Tensor) -> None:
        """Record the losses of a batch, before its step."""
        gradients = [
            torch.autograd.grad(loss, self.parameters, retain_graph=True)
            for loss in losses
        ]
        self.steps.append(step)
        self.grams.append(ls.conflict.gram(gradients, self.index, len(self.layers)))

    def conflict(self) -> ls.Conflict:
        """All that was recorded."""
        return ls.conflict.from_gram(
            ("ce", "kd"), self.steps, self.layers, torch.stack(self.grams).numpy()
        )
