"""Directions against the definition of filter normalisation, taken filter by filter."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

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


def test_a_state_dict_is_as_good_as_its_network(device):
    start, end = HazardNet().to(device), HazardNet().to(device)
    of_module, of_state = (ls.directions.interpolation(start, e) for e in (end, end.state_dict()))
    assert of_state.sha256 == of_module.sha256
    assert {"norm.running_mean", "norm.running_var"} < set(of_state.axes[0])
    assert not {"and_again.weight", "norm.num_batches_tracked"} & set(of_state.axes[0])


def test_a_buffer_that_state_dicts_leave_out_stays_that_of_the_start():
    start, end = (nn.Linear(3, 2) for _ in range(2))
    for model in (start, end):
        model.register_buffer("scale", torch.ones(2), persistent=False)
    assert set(ls.directions.interpolation(start, end).axes[0]) == {"weight", "bias", "scale"}
    assert set(ls.directions.interpolation(start, end.state_dict()).axes[0]) == {"weight", "bias"}


def test_a_mask_of_infinities_in_both_networks_stays_what_it_is():
    start, end = (nn.Linear(3, 2) for _ in range(2))
    for model in (start, end):
        model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    assert torch.equal(ls.directions.interpolation(start, end).axes[0]["mask"], torch.zeros(2))


def _without(name):
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    del state[name]
    return state


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (nn.Sequential(nn.Linear(3, 2)), r"end must have every tensor of the model\. Got no '1\.weight'"),
        (_without("1.running_mean"), r"Got no '1\.running_mean'"),
        (
            nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.PReLU()),
            r"end must have the model's tensors only\. Got '2\.weight', which the model does not have",
        ),
        (
            nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)),
            r"'0\.weight' of end must have the shape \[2, 3\]\. Got \[2, 4\]",
        ),
        (_without("0.bias") | {"0.bias": torch.tensor([0, math.nan])}, r"'0\.bias' of end must be finite\. Got NaN"),
        (_without("0.bias") | {"0.bias": torch.zeros(2) * 1j}, r"'0\.bias' of end must be real, as in the model"),
    ],
)
def test_networks_that_do_not_match_are_refused_by_name(end, message):
    with pytest.raises(ValueError, match=message):
        ls.directions.interpolation(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), end)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (3, r"end must be a module or a state dict\. Got int"),
        (_without("0.bias") | {"0.bias": [0.0, 1.0]}, r"'0\.bias' of end must be a tensor\. Got list"),
    ],
)
def test_what_is_no_network_is_refused(end, message):
    with pytest.raises(TypeError, match=message):
        ls.directions.interpolation(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), end)


def test_tied_tensors_may_come_once_but_not_as_two():
    start = HazardNet()
    state = {name: t.clone() for name, t in HazardNet().state_dict().items()}
    both = ls.directions.interpolation(start, state)
    for name in ("again.weight", "and_again.weight"):
        alone = {k: t for k, t in state.items() if k != name}
        assert ls.directions.interpolation(start, alone).sha256 == both.sha256
    state["and_again.weight"] += 1
    with pytest.raises(ValueError, match=r"one value for the tied 'again.weight' and 'and_again.weight'\. Got two"):
        ls.directions.interpolation(start, state)


def _cosine(a, b):
    """Of two tensors, summed exactly; a complex number counts as two."""
    a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (a, b))
    a, b = a.double().flatten().tolist(), b.double().flatten().tolist()
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.hypot(*a) * math.hypot(*b))


@pytest.mark.parametrize("kind", LAYERS)
def test_orthogonal_directions_are_so_in_every_filter_and_keep_its_norm(kind, device):
    make, shape, channel_axis = LAYERS[kind]
    layer = make().double()
    masks = filters(layer, torch.randn(shape, dtype=torch.float64), channel_axis)
    name, weight = "weight", layer.weight.detach().clone()
    axes = random(layer.to(device), n=3, orthogonal=True).axes
    for mask in masks:
        parts = [axis[name].cpu()[mask] for axis in axes]
        for part in parts:
            assert float(part.norm()) == pytest.approx(float(weight[mask].norm()), rel=1e-13)
        assert max(abs(_cosine(a, b)) for a, b in combinations(parts, 2)) <= 1e-15


@pytest.mark.parametrize("normalize", ["layer", "model", "none"])
def test_orthogonal_directions_are_so_in_the_units_of_their_normalisation(normalize, device):
    model = HazardNet().double().to(device)
    axes = random(model, n=4, normalize=normalize, ignore="none", orthogonal=True).axes
    plain = random(model, n=4, normalize=normalize, ignore="none").axes
    assert all(torch.equal(axes[0][name], d) for name, d in plain[0].items())
    names = list(plain[0])
    if normalize == "layer":
        assert not any(axis["norm.bias"].any() for axis in axes)  # a zero weight
        units = [[name] for name in names if name != "norm.bias" and model.get_parameter(name).numel() >= 4]
    else:
        units = [names]
    for unit in units:
        vectors = [torch.cat([axis[name].flatten() for name in unit]) for axis in axes]
        weights = torch.cat([model.get_parameter(name).detach().flatten() for name in unit])
        assert max(abs(_cosine(a, b)) for a, b in combinations(vectors, 2)) <= 1e-15
        if normalize != "none":
            assert [float(v.norm()) for v in vectors] == pytest.approx([float(weights.norm())] * 4, rel=1e-13)


def test_a_filter_stays_put_along_directions_that_it_has_no_room_for():
    model = nn.ModuleDict({"one": nn.Linear(1, 4), "two": nn.Linear(2, 4), "raw": Raw()}).double()
    axes = random(model, n=3, ignore="none", orthogonal=True).axes
    torch.testing.assert_close(axes[0]["one.weight"].abs(), model["one"].weight.detach().abs(), rtol=1e-14, atol=0)
    assert float(axes[0]["raw.temperature"].abs()) == pytest.approx(2.0, rel=1e-14)
    for later in axes[1:]:
        assert not later["one.weight"].any()
        assert not later["raw.temperature"].any()
    assert not axes[2]["two.weight"].any()
    for a, b, w in zip(axes[0]["two.weight"], axes[1]["two.weight"], model["two"].weight.detach(), strict=True):
        assert abs(_cosine(a, b)) <= 1e-15
        assert float(b.norm()) == pytest.approx(float(w.norm()), rel=1e-13)
    assert axes[2]["raw.mix"].all()


def test_zero_filters_stay_put_along_orthogonal_directions():
    model = nn.Linear(5, 3).double()
    with torch.no_grad():
        model.weight[1] = 0
    for axis in random(model, n=3, orthogonal=True).axes:
        assert not axis["weight"][1].any()
        assert axis["weight"][[0, 2]].all()


def test_complex_filters_have_room_for_two_directions_a_weight():
    model = nn.Module()
    model.w = nn.Parameter(torch.randn(3, 1, dtype=torch.complex128))
    axes = random(model, n=3, orthogonal=True).axes
    for a, b, w in zip(axes[0]["w"], axes[1]["w"], model.w.detach(), strict=True):
        assert abs(_cosine(a, b)) <= 1e-15
        assert [float(a.norm()), float(b.norm())] == pytest.approx([float(w.norm())] * 2, rel=1e-13)
    assert not axes[2]["w"].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_orthogonal_directions_are_so_to_the_digits_of_the_weights(dtype, device):
    model = nn.Conv2d(8, 4, 3).to(device, dtype)
    x, y = (axis["weight"] for axis in random(model, orthogonal=True).axes)
    assert x.dtype == y.dtype == dtype
    rounding = torch.finfo(dtype).eps
    for a, b, w in zip(x, y, model.weight.detach(), strict=True):
        assert abs(_cosine(a.cpu(), b.cpu())) < rounding
        assert float(b.double().norm()) == pytest.approx(float(w.double().norm()), rel=rounding)


REPARAMETRISED = {
    "weight_norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)),
        {"parametrizations.weight.original1"},
        "parametrizations.weight.original0",
    ),
    "older weight_norm": (lambda: torch.nn.utils.weight_norm(nn.Linear(5, 4)), {"weight_v"}, "weight_g"),
    "spectral_norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4)),
        {"parametrizations.weight.original"},
        None,
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", REPARAMETRISED)
def test_what_a_reparametrised_layer_stores_is_moved_filter_by_filter(kind):
    make, moved, gain = REPARAMETRISED[kind]
    model = make().double()
    axes = random(model, n=2, orthogonal=True).axes
    assert set(axes[0]) == moved
    (name,) = moved
    for a, b, w in zip(*(axis[name] for axis in axes), model.get_parameter(name).detach(), strict=True):
        assert [float(a.norm()), float(b.norm())] == pytest.approx([float(w.norm())] * 2, rel=1e-13)
        assert abs(_cosine(a, b)) <= 1e-15
    every = random(model, n=2, ignore="none", orthogonal=True).axes
    assert set(every[0]) == dict(model.named_parameters()).keys()
    if gain is not None:  # one number a filter: a second direction has no room
        assert torch.allclose(every[0][gain].abs(), model.get_parameter(gain).detach().abs(), rtol=1e-13)
        assert not every[1][gain].any()
