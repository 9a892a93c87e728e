"""Directions against the definition of filter normalisation, taken filter by filter."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import HazardNet, averages, batched, filter_normalized, filters, images, objective
from scipy import stats
from torch import nn

import landscape as ls

random = ls.directions.random


class Conv1D(nn.Module):
    """GPT-2's layer, whose weight is ``[in, out]``; known by its name and its ``nf``."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        """``[N, nx]`` to ``[N, nf]``."""
        return x @ self.weight + self.bias


class Raw(nn.Module):
    """Parameters of no, one, two and three dimensions that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.gain = nn.Parameter(torch.randn(6))
        self.mix = nn.Parameter(torch.randn(4, 5))
        self.cube = nn.Parameter(torch.randn(3, 4, 2))


LAYERS = {
    "Linear": (lambda: nn.Linear(5, 4), (7, 5), 1),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 8), 1),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3), (2, 4, 6, 6), 1),
    "Conv2d groups=2": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 6), 1),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4), 1),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 6), 1),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5), 1),
    "ConvTranspose2d groups=2": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5), 1),
    "ConvTranspose2d depthwise": (lambda: nn.ConvTranspose2d(4, 4, 3, groups=4), (2, 4, 5, 5), 1),
    "ConvTranspose3d groups=3": (lambda: nn.ConvTranspose3d(3, 6, 2, groups=3), (2, 3, 3, 3, 3), 1),
    "Conv1D of GPT-2": (lambda: Conv1D(4, 5), (7, 5), 1),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_filter_has_the_norm_of_the_filter_it_moves(kind, nested, device):
    make, shape, channel_axis = LAYERS[kind]
    layer = make().double()
    masks = filters(layer, torch.randn(shape, dtype=torch.float64), channel_axis)
    assert len(masks) > 1
    assert all(torch.equal(a & b, torch.zeros_like(a)) for a, b in pairwise(masks))
    model, name = (nn.ModuleDict({"block": nn.Sequential(layer)}), "block.0.weight") if nested else (layer, "weight")
    model = model.to(device)
    (drawn,) = random(model, n=1, normalize="none", seed=3).axes
    (scaled,) = random(model, n=1, normalize="filter", seed=3).axes
    assert set(scaled) == {name}
    expected = filter_normalized(drawn[name].cpu(), layer.weight.detach().cpu(), masks)
    torch.testing.assert_close(scaled[name].cpu(), expected, rtol=1e-13, atol=0)


def test_a_raw_parameter_has_its_filters_on_the_first_axis(device):
    model = Raw().double().to(device)
    (drawn,), (scaled,) = (random(model, n=1, normalize=how).axes for how in ("none", "filter"))
    assert set(scaled) == {"mix", "cube"}
    for name, direction in scaled.items():
        weight = model.get_parameter(name).detach()
        for unit in range(len(weight)):
            expected = drawn[name][unit] / drawn[name][unit].norm() * weight[unit].norm()
            torch.testing.assert_close(direction[unit], expected, rtol=1e-13, atol=0)


def test_parameters_of_no_and_one_dimension_are_single_filters(device):
    model = Raw().double().to(device)
    (axis,) = random(model, n=1, ignore="none").axes
    assert set(axis) == {"temperature", "gain", "mix", "cube"}
    assert float(axis["temperature"].abs()) == pytest.approx(2.0, rel=1e-14)
    assert float(axis["gain"].norm()) == pytest.approx(float(model.gain.detach().norm()), rel=1e-14)


@pytest.mark.parametrize("normalize", ["filter", "layer", "model"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_weights_get_a_zero_direction(normalize, dtype, device):
    model = nn.Sequential(nn.Linear(4, 3), nn.ConvTranspose2d(2, 2, 2)).to(device, dtype)
    with torch.no_grad():
        model[0].weight[1] = 0
        model[1].weight.zero_()
        model[1].bias.zero_()
    (axis,) = random(model, n=1, normalize=normalize, ignore="none").axes
    assert all(bool(d.isfinite().all()) for d in axis.values())
    assert axis["0.weight"].dtype == dtype
    if normalize == "filter":
        assert not axis["0.weight"][1].any()
    if normalize != "model":
        assert not axis["1.weight"].any()
        assert not axis["1.bias"].any()
    assert axis["0.weight"][0].all()


def test_what_is_ignored_stays_put():
    model = HazardNet()
    still = {"conv.bias", "norm.weight", "norm.bias", "hidden.bias", "again.bias", "and_again.bias"}
    moving = {"conv.weight", "hidden.weight", "again.weight", "mix"}
    assert set(random(model, n=1).axes[0]) == moving
    assert set(random(model, n=1, ignore="none").axes[0]) == moving | still


def test_a_tied_weight_is_moved_once():
    (axis,) = random(HazardNet(), n=1).axes
    assert "again.weight" in axis
    assert "and_again.weight" not in axis


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
def test_layer_normalisation_is_per_tensor_and_model_normalisation_is_of_all_that_moves(ignore, device):
    model = HazardNet().double().to(device)
    (drawn,) = random(model, n=1, normalize="none", ignore=ignore).axes
    (layer,) = random(model, n=1, normalize="layer", ignore=ignore).axes
    (whole,) = random(model, n=1, normalize="model", ignore=ignore).axes

    def norm(tensors):
        return math.sqrt(math.fsum(v * v for t in tensors for v in t.flatten().tolist()))

    weights = {name: model.get_parameter(name).detach() for name in drawn}
    for name, w in weights.items():
        expected = drawn[name] * (norm([w]) / norm([drawn[name]]))
        torch.testing.assert_close(layer[name], expected, rtol=1e-13, atol=1e-300)
        expected = drawn[name] * (norm(weights.values()) / norm(drawn.values()))
        torch.testing.assert_close(whole[name], expected, rtol=1e-13, atol=1e-300)


def test_a_direction_depends_on_the_seed_and_its_number_only():
    model = HazardNet()
    alone = random(model, n=1, seed=4)
    torch.manual_seed(99)
    np.random.seed(99)
    many = random(model, n=3, seed=4)
    assert len(many) == 3
    assert all(torch.equal(alone.axes[0][name], d) for name, d in many.axes[0].items())
    assert alone.sha256 == random(model, n=1, seed=4).sha256
    digests = {random(model, n=1, seed=seed).sha256 for seed in range(5)}
    assert len(digests) == 5
    assert not torch.equal(many.axes[0]["mix"], many.axes[1]["mix"])
    assert not torch.equal(random(model, n=1, seed=5).axes[0]["mix"], many.axes[1]["mix"])


def test_the_digest_knows_each_tensor_its_name_and_its_axis():
    model = HazardNet()
    d = random(model, n=2)
    swapped = ls.directions.Directions((d.axes[1], d.axes[0]), d.normalize, d.ignore, d.seed)
    reordered = ls.directions.Directions(tuple(dict(reversed(a.items())) for a in d.axes), d.normalize, d.ignore)
    renamed = ls.directions.Directions(tuple({"z" + k: v for k, v in a.items()} for a in d.axes), "filter", "none")
    nudged = ls.directions.Directions(
        (d.axes[0] | {"mix": d.axes[0]["mix"] * (1 + 1e-6)}, d.axes[1]), d.normalize, d.ignore
    )
    assert reordered.sha256 == d.sha256
    assert len({d.sha256, swapped.sha256, renamed.sha256, nudged.sha256}) == 4


@pytest.mark.parametrize("normalize", ["filter", "layer", "model", "none"])
def test_x_and_y_are_independent(normalize):
    model = nn.Sequential(nn.Linear(100, 100), nn.Conv2d(8, 16, 3))
    cosines = []
    for seed in range(20):
        x, y = (
            torch.cat([d.flatten() for d in a.values()]) for a in random(model, normalize=normalize, seed=seed).axes
        )
        cosines.append(float(F.cosine_similarity(x, y, dim=0)))
    assert max(map(abs, cosines)) < 0.06
    assert abs(np.mean(cosines)) < 0.01


def test_directions_are_gaussian():
    (axis,) = random(nn.Linear(200, 200), n=1, normalize="none").axes
    assert stats.kstest(axis["weight"].flatten().numpy(), "norm").pvalue > 0.01


def test_precisions_agree(device):
    torch.manual_seed(1)
    single = HazardNet().to(device)
    torch.manual_seed(1)
    double = HazardNet().double().to(device)
    for a, b in zip(random(single, ignore="none").axes, random(double, ignore="none").axes, strict=True):
        for name, d in a.items():
            assert (d.dtype, b[name].dtype) == (torch.float32, torch.float64)
            torch.testing.assert_close(d.double(), b[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": "filters"}, "normalize must be one of filter, layer, model, none. Got 'filters'"),
        ({"ignore": "bias"}, "ignore must be one of biasbn, none. Got 'bias'"),
        ({"n": 0}, "n must be at least 1. Got 0"),
    ],
)
def test_faulty_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        random(nn.Linear(2, 2), **arguments)


def test_nothing_to_move_is_an_error():
    with pytest.raises(ValueError, match=r"two or more dimensions\. Got none\. Use ignore='none'"):
        random(nn.BatchNorm1d(3))
    assert set(random(nn.BatchNorm1d(3), ignore="none").axes[0]) == {"weight", "bias"}


def test_an_interpolation_ends_at_the_two_networks_with_their_running_statistics(device):
    start, end = HazardNet().double(), HazardNet().double()
    with torch.no_grad():
        end.norm.running_var.mul_(3)
        end.norm.running_mean.add_(1)
    x, y = images()
    batches = batched(x.double(), y)
    expected = [averages(m, objective, batches, (), ()) for m in (start, end)]
    assert abs(expected[0]["ce"][0] - expected[1]["ce"][0]) > 1e-3
    problem = ls.Problem(start.to(device), objective, batches)
    line = ls.evaluate(problem, ls.directions.interpolation(start, end.to(device)), ls.Grid1D(x=(0, 1, 5)))
    for term in ("ce", "kd", "correct"):
        assert line.values(term)[0] == line.origin[term][0]
        np.testing.assert_allclose(line.values(term)[[0, -1]], [e[term][0] for e in expected], rtol=1e-12)
    middle = {n: (b - a).cpu() for (n, a), b in zip(_state(start), [t for _, t in _state(end)], strict=True)}
    halfway = averages(start, objective, batches, (middle,), (0.5,))
    assert line.values("ce")[2] == pytest.approx(halfway["ce"][0], rel=1e-12)


def _state(model):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [(name, t.detach()) for name, t in tensors if t.is_floating_point()]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "same parameters and buffers. Got '1.bias' in only one"),
        (nn.Sequential(nn.Linear(3, 2, bias=False)), "Got '0.bias' in only one"),
        (nn.Sequential(nn.Linear(4, 2)), r"'0.weight' must have one shape. Got \[2, 3\] and \[2, 4\]"),
    ],
)
def test_networks_that_do_not_match_are_refused_by_name(end, message):
    with pytest.raises(ValueError, match=message):
        ls.directions.interpolation(nn.Sequential(nn.Linear(3, 2)), end)
