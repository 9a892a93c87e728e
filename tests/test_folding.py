"""Folded batch norms: the same numbers as the network as it is, moved in a deep copy; and all that is left alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import HazardNet, brute_force, fingerprint, images, objective
from test_any_model import CASES, ce, lived_in, pictures, vectors
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune
from torch.utils._pytree import tree_map

import landscape as ls
from landscape import batchnorm, folding
from landscape.batches import Reader
from landscape.folding import Folded
from landscape.modules import private_copy

POINTS = [(0.0, 0.0), (0.7, -0.4), (-1.0, 1.0)]


def lived(model: nn.Module) -> nn.Module:
    """With norms that scale, shift and have seen data, in eval mode."""
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                if m.affine:
                    m.weight.uniform_(-1.5, 1.5)
                    m.bias.normal_()
                if m.running_mean is not None:
                    m.running_mean.normal_()
                    m.running_var.uniform_(0.2, 3)
    return model.eval()


def sequence(*parts: nn.Module) -> nn.Module:
    return lived(nn.Sequential(*parts).double())


def squares(model: Callable[..., Any], batch: Any) -> dict[str, Tensor]:
    """Of a network that returns a tensor; with weights, so that a channel in the place of another shows."""
    flat = model(batch).flatten(1)
    return {"squares": ((1 + torch.arange(flat.shape[1], dtype=flat.dtype)) * flat.square()).mean(1)}


def maps(*shape: int, batches: int = 3) -> list[Tensor]:
    return [torch.randn(n, *shape, dtype=torch.float64) for n in (4, 4, 3)[:batches]]


def folded_on(model: nn.Module, measured: Callable[..., Any], batches: Any) -> Folded | None:
    first = next(iter(batches() if callable(batches) else batches))
    return folding.fold(model, lambda m: measured(m, first))


def moved(folded: Folded, base: dict[str, Tensor], axes: Any, point: tuple[float, ...]) -> nn.Module:
    """The folded module at a point, by plain additions."""
    with torch.no_grad():
        for name, tensor in [*folded.module.named_parameters(), *folded.module.named_buffers()]:
            tensor.copy_(base[name])
            for coordinate, axis in zip(point, axes, strict=True):
                if name in axis:
                    tensor.add_(axis[name], alpha=coordinate)
    folded.refresh()
    return folded.module


def averages(model: nn.Module, measured: Callable[..., Any], batches: Any) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    with torch.no_grad():
        for batch in batches() if callable(batches) else batches:
            for term, of in measured(model, batch).items():
                values.setdefault(term, []).extend(of.double().tolist())
    return {term: math.fsum(v) / len(v) for term, v in values.items()}


def agrees(model: nn.Module, folded: Folded, measured: Any, batches: Any, rel: float = 1e-12, twin: Any = None) -> None:
    """At the base and along directions that leave the gains, and that move them; and with running statistics too."""
    base = {n: t.detach().clone() for n, t in [*model.named_parameters(), *model.named_buffers()]}
    stays = ls.directions.random(model, n=2, ignore="biasbn", normalize="filter", seed=1).axes
    moves = ls.directions.random(model, n=2, ignore="none", normalize="layer", seed=2).axes
    statistics = tuple(
        {**axis, **{n: 0.3 * t.abs() for n, t in model.named_buffers() if n.endswith(("mean", "var"))}}
        for axis in moves
    )
    for axes in (stays, moves, statistics):
        for point in POINTS:
            expected = brute_force(twin or model, measured, list(batches), axes, point)
            found = averages(moved(folded, base, axes, point), measured, batches)
            assert {t: v for t, (v, _) in expected.items()} == pytest.approx(found, rel=rel)


FOLDED = {"batch norm cnn": 1, "hugging face resnet": 6}
"""How many of each network of the matrix; none of all others."""


@pytest.mark.parametrize("name", CASES)
def test_every_norm_of_the_matrix_is_folded_and_the_network_is_left_alone(name):
    one = CASES[name]()
    lived_in(one.model)
    batches = list(one.passes())
    before = fingerprint(one.model)
    folded = folded_on(one.model, one.objective, batches)
    assert fingerprint(one.model) == before
    assert (len(folded.pairs) if folded else 0) == FOLDED.get(name, 0)
    if folded is not None:
        agrees(one.model, folded, one.objective, batches)


class Residual(nn.Module):
    """A body with a shortcut, whose sum is rectified in place."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return F.relu_(self.body(x) + x)


def conv(channels: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, **options)


FOLDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "bias": (lambda: sequence(conv(4), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), (4, 5, 5), 1),
    "no bias": (lambda: sequence(conv(4, bias=False), nn.BatchNorm2d(4)), (4, 5, 5), 1),
    "not affine": (lambda: sequence(conv(4), nn.BatchNorm2d(4, affine=False)), (4, 5, 5), 1),
    "grouped": (lambda: sequence(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (4, 5, 5), 1),
    "depthwise": (lambda: sequence(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)), (4, 5, 5), 1),
    "strided and dilated": (lambda: sequence(nn.Conv2d(4, 3, 2, 2, 1, 2), nn.BatchNorm2d(3)), (4, 6, 6), 1),
    "reflecting": (lambda: sequence(conv(4, padding_mode="reflect"), nn.BatchNorm2d(4)), (4, 5, 5), 1),
    "1-d": (lambda: sequence(nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5)), (4, 6), 1),
    "3-d": (lambda: sequence(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)), (2, 3, 3, 3), 1),
    "linear": (lambda: sequence(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)), (5,), 1),
    "transposed": (lambda: sequence(nn.ConvTranspose2d(4, 3, 3, 2), nn.BatchNorm2d(3)), (4, 4, 4), 1),
    "transposed and grouped": (
        lambda: sequence(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm2d(6)),
        (4, 4, 4),
        1,
    ),
    "synchronised": (lambda: sequence(conv(4), nn.SyncBatchNorm(4)), (4, 5, 5), 1),
    "residual": (
        lambda: sequence(
            *[Residual(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4)) for _ in range(2)]
        ),
        (4, 5, 5),
        4,
    ),
    "norms before layers too": (
        lambda: sequence(nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4)),
        (4, 5, 5),
        1,
    ),
    "frozen": (lambda: sequence(conv(4), nn.BatchNorm2d(4)).requires_grad_(False), (4, 5, 5), 1),
    "a subclass that changes nothing": (
        lambda: sequence(type("Conv3x3", (nn.Conv2d,), {})(4, 4, 3), type("Norm", (nn.BatchNorm2d,), {})(4)),
        (4, 5, 5),
        1,
    ),
    "channels last": (
        lambda: sequence(conv(4), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last),
        (4, 5, 5),
        1,
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_a_layer_with_its_norm_is_one(name):
    make, shape, count = FOLDS[name]
    model, batches = make(), maps(*shape)
    before = fingerprint(model)
    folded = folded_on(model, squares, batches)
    assert fingerprint(model) == before
    assert folded is not None
    assert len(folded.pairs) == count
    agrees(model, folded, squares, batches)


def test_a_folded_norm_is_not_computed():
    """Or all comparisons would be of the network with itself."""
    model = sequence(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4))
    folded = folded_on(model, squares, maps(4, 5, 5))
    with torch.no_grad(), torch.profiler.profile() as profile:
        folded.module(maps(4, 5, 5)[0])
    names = {event.name for event in profile.events()}
    assert "aten::conv2d" in names
    assert not any("batch_norm" in name for name in names)


class Own(nn.Module):
    """Layers by name, and a forward pass."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)
        lived(self.double())

    def forward(self, x):
        return self.run(self, x)


def one(**more: Any) -> dict[str, nn.Module]:
    return {"conv": conv(4), "norm": nn.BatchNorm2d(4), **more}


class FusedConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class FusedInside(nn.Conv2d):
    def _conv_forward(self, *args):
        return super()._conv_forward(*args).relu()


class FusedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class AlwaysTraining(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)


def with_hook(model: nn.Module, at: int, before: bool = False) -> nn.Module:
    if before:
        model[at].register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    else:
        model[at].register_forward_hook(lambda m, args, out: out + 1)
    return model


def changed(model: nn.Module, change: Callable[[nn.Module], Any]) -> nn.Module:
    change(model)
    return model


def wild(m: nn.Module, x: Tensor) -> Tensor:
    return m.norm(m.conv(x)) if x.mean() > 0 else m.conv(x)


def pair() -> nn.Module:
    return sequence(conv(4), nn.BatchNorm2d(4))


class OutOfSight(nn.InstanceNorm2d):
    """Calls a layer that is not its own."""

    def forward(self, x):
        return super().forward(x) + self.others[0](x)


def out_of_sight() -> nn.Module:
    model = Own(lambda m, x: m.norm(m.conv(x)) + m.last(x), **one(last=OutOfSight(4)))
    model.last.others = [model.conv]
    return model


UNTRACEABLE = {"data decide", "a number decides", "a list decides", "an array decides"}
LEFT: dict[str, Callable[[], nn.Module]] = {
    "a layer used twice": lambda: Own(lambda m, x: m.norm(m.conv(x)) + m.conv(x + 1), **one()),
    "a layer and its norm used twice": lambda: Own(lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))), **one()),
    "a norm used twice": lambda: Own(lambda m, x: m.norm(m.conv(x)) + m.norm(x), **one()),
    "a layer used out of sight": out_of_sight,
    "a layer under two names": lambda: Own(
        lambda m, x: m.norm(m.conv(x)) + m.same(2 * x), conv=(c := conv(4)), same=c, norm=nn.BatchNorm2d(4)
    ),
    "an output used elsewhere": lambda: Own(lambda m, x: (y := m.conv(x)) + m.norm(y), **one()),
    "an output that is returned": lambda: Own(lambda m, x: torch.cat([y := m.conv(x), m.norm(y)], 1), **one()),
    "something between": lambda: Own(lambda m, x: m.norm(m.conv(x).relu()), **one()),
    "data decide": lambda: Own(wild, **one()),
    "a number decides": lambda: Own(lambda m, x: m.norm(m.conv(x)) if x.sum().item() > 0 else x, **one()),
    "a list decides": lambda: Own(lambda m, x: m.norm(m.conv(x)) if sum(x[0, 0, 0].tolist()) > 0 else x, **one()),
    "an array decides": lambda: Own(lambda m, x: m.norm(m.conv(x)) if x.numpy().sum() > 0 else x, **one()),
    "no running statistics": lambda: sequence(conv(4), nn.BatchNorm2d(4, track_running_stats=False)),
    "put into train mode": lambda: Own(lambda m, x: m.norm.train()(m.conv(x)), **one()),
    "always in train mode": lambda: sequence(conv(4), AlwaysTraining(4)),
    "an activation in the layer": lambda: sequence(FusedConv(4, 4, 3), nn.BatchNorm2d(4)),
    "an activation inside the layer": lambda: sequence(FusedInside(4, 4, 3), nn.BatchNorm2d(4)),
    "an activation in the norm": lambda: sequence(conv(4), FusedNorm(4)),
    "an instance's own forward": lambda: changed(pair(), lambda m: vars(m[0]).update(forward=lambda x: x + 1)),
    "group norm": lambda: sequence(conv(4), nn.GroupNorm(2, 4)),
    "instance norm": lambda: sequence(conv(4), nn.InstanceNorm2d(4, track_running_stats=True)),
    "a hook on the layer": lambda: with_hook(pair(), 0),
    "a hook on the norm": lambda: with_hook(pair(), 1),
    "a hook before the layer": lambda: with_hook(pair(), 0, True),
    "a hook before the norm": lambda: with_hook(pair(), 1, True),
    "a parametrised layer": lambda: changed(pair(), lambda m: parametrizations.weight_norm(m[0])),
    "a parametrised norm": lambda: changed(pair(), lambda m: parametrizations.weight_norm(m[1], dim=None)),
    "a pruned layer": lambda: changed(pair(), lambda m: prune.random_unstructured(m[0], "weight", 0.5)),
    "functions": lambda: Own(
        lambda m, x: F.batch_norm(F.conv2d(x, m.conv.weight), m.norm.running_mean, m.norm.running_var), **one()
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_more_than_a_layer_with_its_norm_is_left_alone(name):
    """Also beside a pair that is folded: it is the graph that tells them apart, not only the numbers."""
    model, batches = LEFT[name](), [b.abs() for b in maps(4, 5, 5)]
    beside = nn.Sequential(conv(4).double(), lived(nn.BatchNorm2d(4).double()), nn.Tanh(), model)
    before = fingerprint(model), fingerprint(beside)
    alone, folded = folded_on(model, squares, batches), folded_on(beside, squares, batches)
    assert (fingerprint(model), fingerprint(beside)) == before
    assert alone is None
    if name in UNTRACEABLE:
        assert folded is None
    else:
        assert [tuple(pair) for pair in folded.pairs] == [("0", "1")]
        agrees(beside, folded, squares, batches, twin=private_copy(beside))  # a pruned one cannot be copied otherwise


def test_a_norm_over_another_axis_than_the_layers_channels_is_left_alone():
    """``[N, L, C]`` with L = C: a norm over L, which folding would take for C."""
    model = sequence(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6)
    )
    folded = folded_on(model, squares, maps(6, 5))
    assert [pair.layer for pair in folded.pairs] == ["4"]
    agrees(model, folded, squares, maps(6, 5))


@pytest.mark.parametrize("dtypes", [(torch.float16,) * 2, (torch.bfloat16,) * 2, (torch.float32, torch.float64)])
def test_low_and_mixed_precision_is_left_alone(dtypes):
    model = Own(lambda m, x: m.norm(m.conv(x.to(m.conv.weight)).to(m.norm.weight)).double(), **one())
    model.conv.to(dtypes[0])
    model.norm.to(dtypes[1])
    assert folded_on(model, squares, maps(4, 5, 5)) is None
    autocast = Own(lambda m, x: torch.autocast("cpu", torch.bfloat16)(lambda: m.norm(m.conv(x)).float())(), **one())
    assert folded_on(autocast.float(), squares, [b.float() for b in maps(4, 5, 5)]) is None


def test_tied_weights_are_folded_apart():
    """Each layer has its own norm: what is folded is kept beside the tensor that both share."""
    model = sequence(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4))
    model[3].weight = model[0].weight
    model[4].bias = model[1].bias
    folded = folded_on(model, squares, maps(4, 5, 5))
    assert len(folded.pairs) == 2
    agrees(model, folded, squares, maps(4, 5, 5))


def test_the_others_are_folded_where_one_is_left_alone():
    model = sequence(conv(4), nn.BatchNorm2d(4), FusedConv(4, 4, 3), nn.BatchNorm2d(4), conv(4), nn.BatchNorm2d(4))
    folded = folded_on(model, squares, maps(4, 5, 5))
    assert [tuple(pair) for pair in folded.pairs] == [("0", "1"), ("4", "5")]
    agrees(model, folded, squares, maps(4, 5, 5))


def refusing(m: nn.Module, x: Tensor) -> dict[str, Any]:
    if x.shape[1] != 4:
        raise ValueError("4 channels")
    return {"logits": m.norm(m.conv(x)), "size": x.shape[0]}


def logits(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    return squares(lambda x: model(x)["logits"], batch)


def test_a_network_that_looks_at_shapes_is_folded_by_its_exported_graph():
    model = Own(refusing, **one())
    folded = folded_on(model, logits, maps(4, 5, 5))
    assert len(folded.pairs) == 1
    agrees(model, folded, logits, maps(4, 5, 5))


@pytest.mark.parametrize("twice", [lambda m, x: m.conv(x + 1), lambda m, x: m.norm(x)])
def test_calls_are_counted_in_the_exported_graph_too(twice):
    def forward(m, x):
        return m.norm(m.conv(x)) + twice(m, x) if x.shape[1] == 4 else x

    assert folded_on(Own(forward, **one()), squares, maps(4, 5, 5)) is None


@pytest.mark.parametrize("other", [lambda m, x: m.conv(x), lambda m, x: m.conv(x) + m.norm(m.conv(x))])
def test_a_norm_that_is_not_reached_in_another_pass_is_an_error(other):
    """The exported graph is that of the shape that was seen."""
    model = Own(lambda m, x: m.norm(m.conv(x)) if x.shape[2] == 5 else other(m, x), **one())
    folded = folded_on(model, squares, maps(4, 5, 5))
    with torch.no_grad():
        with pytest.raises(RuntimeError, match=r"'conv' must go to 'norm'.*evaluate the model as it is"):
            folded.module(maps(4, 6, 6)[0])
        x = maps(4, 5, 5)[0]
        assert torch.allclose(folded.module(x), model(x), rtol=1e-12), "and it can be used again"


def test_a_network_called_several_times_or_by_keyword_is_folded():
    def views(model, batch):
        return {"sum": (model(batch) - model(batch.flip(0))).square().flatten(1).mean(1)}

    model = pair()
    agrees(model, folded_on(model, views, maps(4, 5, 5)), views, maps(4, 5, 5))
    named = Own(lambda m, x: m.norm(m.conv(x)), **one())
    assert len(folding.fold(named, lambda m: m(x=maps(4, 5, 5)[0])).pairs) == 1


@pytest.mark.parametrize(
    "apart",
    [lambda m, b: m[1](m[0](b)), lambda m, b: m(b) + m[0](b), lambda m, b: m[0](b)],
    ids=["without its forward pass", "beside it", "a part"],
)
def test_an_objective_that_takes_the_network_apart_has_it_as_it_is(apart):
    assert folded_on(pair(), lambda m, b: squares(lambda x: apart(m, x), b), maps(4, 5, 5)) is None


def test_an_objective_that_reads_weights_reads_those_of_the_user():
    def decayed(model, batch):
        return {"decay": squares(model, batch)["squares"] + sum(p.square().sum() for p in model.parameters())}

    model = pair()
    agrees(model, folded_on(model, decayed, maps(4, 5, 5)), decayed, maps(4, 5, 5))


STALE: dict[str, Callable[[nn.Module], Any]] = {
    "the layer's weight": lambda m: m[0].weight.add_(1),
    "the norm's gain": lambda m: m[1].weight.mul_(2),
    "a running statistic": lambda m: m[1].running_var.add_(1),
    "another tensor": lambda m: m[0]._parameters.update(weight=torch.ones(4, 4, 3, 3, dtype=torch.float64)),
    "no bias": lambda m: m[0]._parameters.update(bias=None),
    "train mode": lambda m: m[1].train(),
    "a hook on the layer": lambda m: with_hook(m, 0),
    "a hook before the norm": lambda m: with_hook(m, 1, True),
}


@pytest.mark.parametrize("name", STALE)
def test_what_is_changed_after_folding_counts(name):
    """As for an objective that perturbs weights, looks into layers, or sets modes of its own."""
    model, x = pair(), maps(4, 5, 5)[0]
    folded, twin = folded_on(model, squares, [x]), copy.deepcopy(model)
    with torch.no_grad():
        STALE[name](folded.module)
        STALE[name](twin)
        assert torch.equal(folded.module(x), twin(x))


def test_gradients_and_other_parameters_reach_the_network():
    model, x = pair(), maps(4, 5, 5)[0]
    module = folded_on(model, squares, [x]).module
    assert torch.equal(module(x), model(x))
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    assert all(map(torch.equal, found, expected))
    other = {name: 2 * p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        assert torch.equal(functional_call(module, other, (x,)), functional_call(model, other, (x,)))


def test_statistics_can_be_estimated_anew():
    """`batchnorm.recalibrate` needs the norms themselves; folding follows."""
    model, batches = sequence(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4)), maps(4, 5, 5)
    folded, twin = folded_on(model, squares, batches), copy.deepcopy(model)
    for m in (folded.module, twin):
        batchnorm.recalibrate(m, squares, Reader(batches, torch.device("cpu")))
    folded.refresh()
    assert all(map(torch.equal, folded.module.buffers(), twin.buffers()))
    assert averages(folded.module, squares, batches) == pytest.approx(averages(twin, squares, batches), rel=1e-12)
    with torch.no_grad(), torch.profiler.profile() as profile:
        folded.module(batches[0])
    assert not any("batch_norm" in event.name for event in profile.events())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_network_is_left_alone_where_a_run_fails(error):
    model, calls = lived(HazardNet()), []
    lived_in(model)
    before = fingerprint(model)

    def failing(m):
        calls.append(torch.rand(1) + objective(m, images())["ce"].sum())
        raise error

    with pytest.raises(error):
        folding.fold(model, failing)
    assert fingerprint(model) == before
    assert calls


def test_a_network_with_every_hazard_is_folded_and_left_alone():
    model = HazardNet().double()
    x, y = images()
    batches = [(x.double(), y)]
    before = fingerprint(model)
    folded = folded_on(model, objective, batches)
    assert [tuple(pair) for pair in folded.pairs] == [("conv", "norm")]
    assert {n: p.requires_grad for n, p in folded.module.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    agrees(model, folded, objective, batches)
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", FOLDED)
def test_single_precision_is_as_exact_as_that_is(name):
    one = CASES[name]()
    model, batches = one.model.float(), tree_map(narrowed, list(one.batches))
    agrees(model, folded_on(model, one.objective, batches), one.objective, batches, rel=3e-6)


def narrowed(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, int, tuple[int, ...]]:
    """A chain of layers, norms, activations and shortcuts, and how many norms stand directly behind a layer."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    parts, count = [], 0
    channels = draw(st.sampled_from([2, 4]))
    first = channels

    def layer() -> nn.Module:
        options = {"bias": draw(st.booleans()), "groups": draw(st.sampled_from([1, 2]))}
        mode = draw(st.sampled_from(["zeros", "circular"]))
        return conv(channels, padding_mode=mode, **options)

    def norm() -> nn.Module:
        return nn.BatchNorm2d(channels, eps=draw(st.sampled_from([1e-5, 1e-3])), affine=draw(st.booleans()))

    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["layer", "folded", "norm", "activation", "residual"])):
            case "layer":
                parts += [layer(), nn.Tanh()]
            case "folded":
                parts += [layer(), norm()]
                count += 1
            case "norm":
                parts += [nn.Tanh(), norm()]
            case "activation":
                parts.append(nn.ReLU(inplace=draw(st.booleans())))
            case "residual":
                parts.append(Residual(layer(), norm(), nn.ReLU(inplace=True), layer(), norm()))
                count += 2
    parts = [nn.Identity(), *parts]
    if draw(st.booleans()):
        parts += [nn.Flatten(), nn.Linear(channels * 9, 5, bias=draw(st.booleans())), nn.BatchNorm1d(5)]
        count += 1
    else:
        parts += [nn.Tanh(), conv(channels)]
    return sequence(*parts), count, (first, 3, 3)


class Copying(nn.Module):
    """An activation in place must not reach the data."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x.clone())


@settings(max_examples=40, deadline=None)
@given(networks())
def test_any_chain_is_the_same_folded(drawn):
    model, count, shape = drawn
    model, batches = Copying(model), maps(*shape, batches=2)
    before = fingerprint(model)
    folded = folded_on(model, squares, batches)
    assert fingerprint(model) == before
    assert (len(folded.pairs) if folded else 0) == count
    if folded is not None:
        agrees(model, folded, squares, batches)
        single = folded_on(model.float(), squares, [b.float() for b in batches])
        assert len(single.pairs) == count


def test_a_network_without_norms_or_layers_is_not_traced(monkeypatch):
    monkeypatch.setattr("landscape.tracing.watch", None)
    assert folding.fold(nn.Sequential(nn.Linear(5, 3)), ce) is None
    assert folding.fold(nn.Sequential(nn.BatchNorm1d(5)), ce) is None


def test_wrappers_are_taken_off():
    model = sequence(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        folded = folded_on(wrapped, ce, vectors())
        assert type(folded.module) is nn.Sequential
        agrees(model, folded, ce, vectors())


def test_results_that_differ_are_refused():
    """An objective that tells a folded network from another."""

    def telling(model, batch):
        return {"ce": ce(model, batch)["ce"] * (1 + ("forward" in vars(model[0])))}

    cnn = CASES["batch norm cnn"]().model
    assert folded_on(cnn, ce, pictures()) is not None
    assert folded_on(cnn, telling, pictures()) is None
