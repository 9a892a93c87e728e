"""Cheaper passes: within their errors of the module as it is, and only where they are."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import HazardNet, batched, brute_force, fingerprint, images, objective
from plain import evaluate as plainly
from test_any_model import CASES
from test_folding import averages, lived, moved, networks
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from dot.models import build
from landscape import agreement, fastpath
from landscape.batches import joined
from landscape.fastpath import LOW, Shortcuts, batch_size, hasten

PLANE = ls.Grid2D(x=(-0.5, 0.5, 3), y=(-0.5, 0.5, 3))


def ce(model, batch):
    x, y = batch
    return {"ce": F.cross_entropy(model(x), y, reduction="none")}


def batches(size: int = 8) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.randn(16, 3, 8, 8).split(size), torch.randint(0, 10, (16,)).split(size), strict=True))


# A hastened module


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
@pytest.mark.parametrize(
    ("shortcuts", "error"),
    [
        (Shortcuts(fold=True, channels_last=True), 3e-6),
        (Shortcuts(fold=True, inside=torch.bfloat16), 3e-2),
        (Shortcuts(fold=True, channels_last=True, inside=torch.bfloat16), 3e-2),
    ],
    ids=["channels last", "bf16", "both"],
)
def test_a_hastened_network_is_the_same_up_to_its_rounding(shortcuts, error, ignore):
    model, data = build("resnet8", num_classes=10), batches()
    for x, _ in data:
        model(x)
    model.eval()
    axes = ls.directions.random(model, n=2, ignore=ignore, seed=1).axes
    base = {n: t.detach().clone() for n, t in [*model.named_parameters(), *model.named_buffers()]}
    hastened = hasten(copy.deepcopy(model), lambda m: ce(m, data[0]), shortcuts)
    assert hastened.norms == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    for point in [(0.0, 0.0), (0.4, -0.3), (-0.2, 0.5)]:
        expected = brute_force(model, ce, data, axes, point)["ce"][0]
        module = moved(hastened.folded, base, axes, point)
        assert module is hastened.module
        assert averages(module, ce, data)["ce"] == pytest.approx(expected, rel=error)
        with torch.no_grad():
            assert module(data[0][0]).dtype == torch.float32
    assert {p.dtype for p in hastened.module.parameters()} == {torch.float32}


def test_a_network_without_norms_is_hastened_too():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10)).eval(), batches()[0][0]
    plain = copy.deepcopy(model)
    assert hasten(model, None, Shortcuts(channels_last=True, inside=torch.bfloat16)).module is model
    with torch.no_grad():
        assert model(x).dtype == torch.float32
        assert torch.allclose(model(x), plain(x), atol=2e-2)
        assert not torch.equal(model(x), plain(x))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_outputs_of_any_structure_come_in_single_precision():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return {"logits": (z := self.layer(x)), "parts": [z, (z > 0)], "name": "z"}

    with torch.no_grad():
        found = hasten(lived(Several()), None, Shortcuts(inside=torch.bfloat16)).module(torch.ones(2, 3))
    assert found["logits"].dtype == found["parts"][0].dtype == torch.float32
    assert found["parts"][1].dtype == torch.bool
    assert found["name"] == "z"


def test_a_batch_is_what_a_cache_holds():
    """Of the widest layer, 1000 + 3000 numbers an example; half of that in bf16."""
    model, x = nn.Sequential(nn.Linear(1000, 3000), nn.Linear(3000, 2)), torch.randn(7, 1000)
    budget = 8 * 2**20
    assert batch_size(model, lambda m: m(x), 7, None) == budget // 16000
    assert batch_size(model, lambda m: m(x), 7, torch.bfloat16) == budget // 8000
    assert batch_size(nn.Sequential(nn.Linear(10**6, 4)), lambda m: m(torch.ones(1, 10**6)), 1, None) == 2
    assert batch_size(model, lambda m: None, 7, None) == 0
    assert not any(m._forward_hooks for m in model.modules())


# Examples in one batch


@pytest.mark.parametrize("kind", ["tuple", "dict", "nested", "texts", "numbers"])
def test_batches_are_joined_to_one_of_the_same_examples(kind):
    x, y = torch.arange(14.0).view(7, 2), torch.arange(7)
    made = {
        "tuple": lambda r: (x[r], y[r]),
        "dict": lambda r: {"x": x[r], "labels": y[r]},
        "nested": lambda r: {"x": [x[r], (y[r], {"z": x[r]})]},
        "texts": lambda r: (x[r], [f"example {i}" for i in y[r].tolist()]),
        "numbers": lambda r: (x[r], torch.tensor(3.0), 5, "a name"),
    }[kind]
    parts = [made(slice(0, 3)), made(slice(3, 6)), made(slice(6, 7))]
    (found,) = joined(parts)
    assert str(found) == str(made(slice(0, 7)))


@pytest.mark.parametrize(
    "parts",
    [
        [(torch.ones(2, 3), torch.ones(2)), (torch.ones(2, 4), torch.ones(2))],
        [(torch.ones(2, 3), torch.ones(5)), (torch.ones(2, 3), torch.ones(5))],
        [{"a": torch.ones(2)}, {"b": torch.ones(2)}],
        [(torch.ones(2), 1), (torch.ones(2), 2)],
        [(torch.ones(2), torch.ones(2)), [torch.ones(2), torch.ones(2)]],
    ],
    ids=["another length", "not one row an example", "other keys", "another number", "another type"],
)
def test_batches_that_are_not_alike_stay_as_they_are(parts):
    assert joined(parts) is parts


# Surfaces


@pytest.mark.parametrize("name", CASES)
def test_a_surface_of_any_network_agrees_with_the_plain_one(name):
    one = CASES[name]()
    axes = ls.directions.random(one.model, n=2, ignore="none", normalize="layer", seed=3)
    before, problem = fingerprint(one.model), ls.Problem(one.model, one.objective, one.batches)
    plain, fast = plainly(problem, axes, PLANE), ls.evaluate(problem, axes, PLANE)
    assert fingerprint(one.model) == before
    dtypes = {p.dtype for p in one.model.parameters() if p.is_floating_point()}
    error = 1e-9 if dtypes == {torch.float64} else 1e-5
    if dtypes & {torch.float16, torch.bfloat16}:
        error = 2e-2
    for term in plain.terms:
        assert fast.values(term) == pytest.approx(plain.values(term), rel=error, abs=1e-12, nan_ok=True)
        assert fast.sem(term) == pytest.approx(plain.sem(term), rel=1e-2, abs=1e-12, nan_ok=True)
    if fast.attrs["plan"]["path"] == "fast":
        assert set(fast.attrs["errors"]) == {"origin", "corners"}


@settings(max_examples=15, deadline=None)
@given(networks(), st.integers(1, 5), st.integers(0, 10))
def test_any_chain_agrees_within_its_stated_error(drawn, size, seed):
    model, norms, shape = drawn
    x = torch.randn(11, *shape, dtype=torch.float64)

    def squares(m, b):
        return {"square": m(b.clone()).flatten(1).square().mean(1)}

    problem = ls.Problem(model, squares, list(x.split(size)))
    plane = ls.directions.random(model, n=2, seed=seed)
    fast, plain = ls.evaluate(problem, plane, PLANE), plainly(problem, plane, PLANE)
    assert fast.attrs["plan"]["path"] == "fast"
    assert fast.attrs["plan"]["folded"] == norms
    assert fast.values("square") == pytest.approx(plain.values("square"), rel=1e-9)
    stated = fast.attrs["errors"]["corners"]["square"]
    corners = abs(fast.values("square") / plain.values("square") - 1)[::2, ::2].max()
    assert stated == pytest.approx(corners, rel=1e-6, abs=1e-15)


def resnet(size: int = 8) -> tuple[nn.Module, ls.Problem]:
    torch.manual_seed(0)
    model, data = build("resnet8", num_classes=10), batches(size)
    for x, _ in data:
        model(x)
    return model, ls.Problem(model, ce, data)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("plain", [False, True])
def test_the_error_of_low_precision_is_stated(precision, plain):
    model, problem = resnet()
    plane = ls.directions.random(model, n=2, seed=0)
    truth = plainly(problem, plane, PLANE)
    found = ls.evaluate(problem, plane, PLANE, precision=precision, plain=plain)
    assert found.attrs["precision"] == precision
    assert found.attrs["plan"]["path"] == ("plain" if plain else "fast")
    off = abs(found.values("ce") / truth.values("ce") - 1)
    assert 0 < off.max() < 5e-2
    assert found.attrs["errors"]["origin"]["ce"] == pytest.approx(off[1, 1], abs=1e-6)
    assert found.attrs["errors"]["corners"]["ce"] == pytest.approx(off[::2, ::2].max(), abs=1e-6)


def test_the_plain_path_states_no_error_and_tf32_needs_cuda():
    model, problem = resnet()
    plane = ls.directions.random(model, n=2, seed=0)
    assert "errors" not in plainly(problem, plane, PLANE).attrs
    with pytest.raises(ValueError, match=r"precision='tf32' needs a CUDA device. Got a model on cpu"):
        ls.evaluate(problem, plane, PLANE, precision="tf32")
    with pytest.raises(ValueError, match="precision must be"):
        ls.evaluate(problem, plane, PLANE, precision="bfloat16")
    assert set(LOW) == {"bf16", "fp16"}


def among_themselves(model, batch):
    """Each example against the others of its batch: no batch may be another one."""
    z = model(batch[0])
    return {"contrast": (z - z.mean(0)).square().sum(1)}


def as_one(model, batch):
    """More values than examples."""
    return {"twice": model(batch[0])[:, :2].flatten()}


class Viewing(nn.Module):
    """Takes the layout of its features for granted."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).view(len(x), -1)


@pytest.mark.parametrize("what", ["among themselves", "as one", "viewing"])
def test_shortcuts_that_do_not_apply_are_dropped_with_a_line_in_the_log(what, caplog, monkeypatch):
    monkeypatch.setitem(fastpath._BUDGET, "cpu", 3000)  # three examples
    torch.manual_seed(0)
    if what == "viewing":
        model, measured = Viewing(), lambda m, b: {"ce": m(b[0]).square().mean(1)}
    else:
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        measured = among_themselves if what == "among themselves" else as_one
    problem = ls.Problem(model, measured, batches(4))
    plane = ls.directions.random(model, n=2, seed=0)
    with caplog.at_level(logging.WARNING, logger="landscape"):
        found = ls.evaluate(problem, plane, PLANE)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("measuring without shortcuts: with them, ")
    assert found.attrs["plan"]["path"] == "plain"
    expected = plainly(problem, plane, PLANE)
    assert all((found.values(term) == expected.values(term)).all() for term in expected.terms)


def test_data_are_read_twice_and_each_cell_evaluates_batches_that_fit():
    reads, sizes = [], []

    class Data(TensorDataset):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    def noted(model, batch):
        sizes.append(len(batch[0]))
        return ce(model, batch)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    data = Data(torch.randn(30, 3, 8, 8), torch.randint(0, 10, (30,)))
    problem = ls.Problem(model, noted, DataLoader(data, batch_size=7))
    found = ls.evaluate(problem, ls.directions.random(model, n=2, seed=0), PLANE)
    assert len(reads) == 2 * 30
    assert sizes[-8:] == [30] * 8, "all examples at a time"
    assert found.attrs["plan"]["kept"] is True
    assert found.attrs["n_examples"] == 30


def test_examples_without_room_are_streamed(monkeypatch):
    monkeypatch.setattr("landscape.examples.free_memory", lambda device: 1000)
    model, problem = resnet()
    plane = ls.directions.random(model, n=2, seed=0)
    found = ls.evaluate(problem, plane, PLANE)
    assert (found.attrs["plan"]["path"], found.attrs["plan"]["kept"]) == ("fast", False)
    assert found.values("ce") == pytest.approx(plainly(problem, plane, PLANE).values("ce"), rel=1e-5)


def test_a_comparison_takes_the_first_examples(monkeypatch):
    monkeypatch.setattr(agreement, "CHECKED", 3)
    monkeypatch.setattr("landscape.preparation.CHECKED", 3)
    model, problem = resnet(size=2)
    found = ls.evaluate(problem, ls.directions.random(model, n=2, seed=0), PLANE)
    few = ls.Problem(model, ce, problem.batches[:2])
    expected = ls.evaluate(few, ls.directions.random(model, n=2, seed=0), PLANE)
    assert found.attrs["errors"] == expected.attrs["errors"]


def test_the_same_call_gives_the_same_bits_and_a_broken_run_goes_on_to_them(tmp_path):
    model, problem = resnet(size=3)
    plane = ls.directions.random(model, n=2, seed=0)
    calls, last = [], None

    def failing(m, batch):
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return ce(m, batch)

    first = ls.evaluate(ls.Problem(model, failing, problem.batches), plane, PLANE, out=tmp_path / "a.h5")
    last = len(calls) - 3  # a pass is one call
    calls.clear()
    broken = ls.Problem(model, failing, problem.batches)
    with pytest.raises(KeyboardInterrupt):
        ls.evaluate(broken, plane, PLANE, out=tmp_path / "b.h5")
    done = (ls.load(tmp_path / "b.h5").status == 1).sum()
    assert 0 < done < 9
    second = ls.evaluate(problem, plane, PLANE, out=tmp_path / "b.h5")
    assert second.values("ce").tobytes() == first.values("ce").tobytes()
    parts = [ls.evaluate(problem, plane, PLANE, out=tmp_path / "c.h5", shard=f"{i}/3") for i in range(3)]
    assert ls.merge(parts).values("ce").tobytes() == first.values("ce").tobytes()
    assert ls.merge(parts).attrs["errors"] == first.attrs["errors"]
    with pytest.raises(ValueError, match=r"was begun with shortcuts. Got plain: write to another file"):
        plainly(problem, plane, PLANE, out=tmp_path / "a.h5")


def test_memory_that_runs_out_halves_the_batches_of_shortcuts_too():
    sizes = []

    def small(model, batch):
        sizes.append(len(batch[0]))
        if len(batch[0]) > 5:
            raise torch.OutOfMemoryError("no more")
        return objective(model, batch)

    model = HazardNet()
    problem = ls.Problem(model, small, batched(*images()))
    with pytest.warns(UserWarning, match="going on with at most 4 examples at a time"):
        found = ls.evaluate(problem, ls.directions.random(model, n=2, seed=0), PLANE)
    assert (found.attrs["plan"]["path"], found.attrs["plan"]["max_batch"]) == ("fast", 4)
    expected = plainly(ls.Problem(model, objective, batched(*images())), found.directions, PLANE)
    assert found.attrs["n_examples"] == expected.attrs["n_examples"] == 22
