"""What a problem accepts, what it refuses and how it says so."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from oracles import HazardNet, fingerprint, objective
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import landscape as ls
from landscape.batches import to_device
from landscape.problem import per_example


def per_example_ce(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def test_every_public_name_exists():
    assert sorted(ls.__all__) == ls.__all__
    assert [name for name in ls.__all__ if not hasattr(ls, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'plots'"):
        _ = ls.plots


@pytest.mark.parametrize("once", [iter([1]), (b for b in [1]), iter(DataLoader([1]))], ids=["iter", "gen", "loader"])
def test_batches_that_can_be_read_only_once_are_refused(once):
    with pytest.raises(TypeError, match=r"more than once.*Got a generator\. Pass the function that makes it"):
        ls.Problem(nn.Linear(2, 2), objective, once)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"model must have parameters to move along\. Got Flatten without any"):
        ls.Problem(nn.Flatten(), objective, [1])


def test_a_function_starts_each_iteration_anew():
    problem = ls.Problem(nn.Linear(2, 2), objective, lambda: (torch.full((1,), float(i)) for i in range(3)))
    for _ in range(2):
        assert [float(b) for b in problem.iterate()] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("empty", [[], lambda: iter([]), DataLoader(TensorDataset(torch.empty(0, 2)))])
def test_no_batches_is_an_error(empty):
    with pytest.raises(ValueError, match=r"at least one batch\. Got none: is the loader empty"):
        list(ls.Problem(nn.Linear(2, 2), objective, empty).iterate())


def test_the_loaders_generator_is_put_back_after_a_whole_and_a_broken_off_iteration():
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(torch.arange(9)), batch_size=2, shuffle=True, generator=generator)
    problem = ls.Problem(nn.Linear(2, 2), objective, loader)
    before = generator.get_state()
    first = torch.cat([b[0] for b in problem.iterate()])
    assert torch.equal(generator.get_state(), before)
    for _ in problem.iterate():
        break
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.cat([b[0] for b in problem.iterate()]), first)
    assert not torch.equal(first, torch.arange(9))


def test_a_samplers_generator_is_put_back_too():
    data, generator = TensorDataset(torch.arange(9)), torch.Generator().manual_seed(5)
    loader = DataLoader(data, batch_size=2, sampler=RandomSampler(data, generator=generator))
    problem = ls.Problem(nn.Linear(2, 2), objective, loader)
    before = generator.get_state()
    first = torch.cat([b[0] for b in problem.iterate()])
    assert torch.equal(torch.cat([b[0] for b in problem.iterate()]), first)
    assert torch.equal(generator.get_state(), before)


def test_the_private_copy_is_apart_and_in_eval_mode(device):
    model = HazardNet().to(device)
    before = fingerprint(model)
    private = ls.Problem(model, objective, [1]).private_copy()
    assert not any(m.training for m in private.modules())
    pairs = zip(model.parameters(), private.parameters(), strict=True)
    assert all(p.requires_grad == own.requires_grad for p, own in pairs), "torch picks kernels by it"
    assert private.again.weight is private.and_again.weight
    pointers = {t.data_ptr() for t in [*model.parameters(), *model.buffers()]}
    with torch.no_grad():
        for t in [*private.parameters(), *private.buffers()]:
            assert t.data_ptr() not in pointers
            t.zero_()
    assert fingerprint(model) == before


def test_a_model_that_cannot_be_copied_is_named():
    model = nn.Linear(2, 2)
    model.seen = [model(torch.ones(1, 2))]
    with pytest.raises(ValueError, match=r"copy\.deepcopy can copy.*Got Linear: .*Detach the tensors"):
        ls.Problem(model, objective, [1]).private_copy()


def test_tensors_of_nested_batches_are_moved_and_the_rest_is_left(device):
    pair = namedtuple("pair", "a b")
    t = torch.arange(3)
    batch = {"x": (t, [t, "id"]), "n": pair(t, 4), "none": None}
    moved = to_device(batch, device)
    tensors = [moved["x"][0], moved["x"][1][0], moved["n"].a]
    assert [v.device.type for v in tensors] == [device.type] * 3
    assert isinstance(moved["x"], tuple)
    assert moved["x"][1][1] == "id"
    assert isinstance(moved["n"], pair)
    assert moved["n"].b == 4
    assert moved["none"] is None
    assert all(torch.equal(v.cpu(), t) for v in tensors)


def test_a_batch_that_moves_itself_leaves_the_users_as_it_was():
    class Own:
        moved = False

        def to(self, device):
            self.moved = True
            return self

    batch = Own()
    assert to_device(batch, torch.device("cpu")).moved
    assert not batch.moved


class _Returns(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.linear, self.wrap = nn.Linear(2, 3), wrap

    def forward(self, inputs):
        return self.wrap(self.linear(inputs))


@pytest.mark.parametrize("wrap", [lambda z: z, lambda z: (z, None), lambda z: SimpleNamespace(logits=z)])
@pytest.mark.parametrize("as_mapping", [False, True])
def test_from_loss_finds_the_logits(wrap, as_mapping, device):
    model = _Returns(wrap).to(device)
    x, y = torch.randn(5, 2), torch.randint(0, 3, (5,))
    batch = {"inputs": x, "labels": y} if as_mapping else [x, y]
    problem = ls.Problem.from_loss(model, {"ce": per_example_ce}, [batch], split="test")
    (moved,) = problem.iterate()
    expected = F.cross_entropy(model.linear(x.to(device)), y.to(device), reduction="none")
    assert torch.equal(problem.objective(model, moved)["ce"], expected)
    assert problem.split == "test"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"inputs": torch.ones(1, 2)}, "must have 'labels'. Got inputs"),
        (torch.ones(1, 2), r"\(inputs, targets\) or a mapping with 'labels'. Got Tensor"),
        ([torch.ones(1, 2)], r"\(inputs, targets\)"),
    ],
)
def test_from_loss_says_what_a_batch_must_be(batch, message):
    problem = ls.Problem.from_loss(nn.Linear(2, 2), {"ce": per_example_ce}, [batch])
    with pytest.raises(ValueError, match=message):
        problem.objective(problem.model, batch)


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        (torch.ones(3), TypeError, r"objective must return \{name: tensor of shape \[N\]\}, at least one. Got tensor"),
        ({}, TypeError, "objective must return"),
        ({"ce": 1.0}, TypeError, "term 'ce' must be a tensor of shape .N.. Got float"),
        ({"ce": torch.ones(())}, ValueError, r"term 'ce'.*Got shape \[\].*reduction=\"none\""),
        ({"ok": torch.ones(3), "kd": torch.ones(3, 2)}, ValueError, r"term 'kd'.*Got shape \[3, 2\]"),
        ({"ce": torch.ones(1)}, ValueError, r"term 'ce'.*Got shape \[1\] for a batch of 3"),
    ],
)
def test_a_term_is_one_value_per_example(terms, error, message):
    with pytest.raises(error, match=message):
        per_example(terms, torch.ones(3, 2))
    problem = ls.Problem(nn.Linear(2, 2), lambda model, batch: terms, [(torch.ones(3, 2),)])
    with pytest.raises(error, match=message):
        ls.evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))
