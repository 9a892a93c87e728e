"""Directions that are made from networks, runs, terms and files, against plain algebra."""

from __future__ import annotations

import copy
import gc
import math

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import HazardNet, averages, batched, filter_normalized, filters, fingerprint, images, objective
from safetensors.torch import save_file
from torch import nn

import landscape as ls

directions = ls.directions


class Odd(nn.Module):
    """Parameters of every kind of number and shape, one of them integers; buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.randn(()))
        self.sixteen = nn.Parameter(torch.randn(3, 2).half())
        self.brain = nn.Parameter(torch.randn(2, 3).bfloat16())
        self.wave = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.phase = nn.Parameter(torch.randn((), dtype=torch.complex128))
        self.count = nn.Parameter(torch.arange(3), requires_grad=False)
        self.again = self.sixteen
        self.register_buffer("mean", torch.randn(2, dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(7))


def _vector(tensors, names):
    """In one numpy vector of float64, a complex number as two."""
    parts = [tensors[name].detach().cpu() for name in names]
    parts = [torch.view_as_real(t) if t.is_complex() else t for t in parts]
    return np.concatenate([t.double().numpy().ravel() for t in parts])


def _names(model):
    return [name for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()]


# The plane through three networks


def test_a_plane_passes_through_its_three_networks(device):
    a, b, c = (HazardNet().double().to(device) for _ in range(3))
    plane = directions.plane(a, b, c.state_dict())
    names = _names(a)
    va, vb, vc = (_vector(dict(m.named_parameters()), names) for m in (a, b, c))
    along = vb - va
    x = (vc - va) @ along / (along @ along)
    beside = vc - va - x * along
    y = np.linalg.norm(beside) / np.linalg.norm(along)
    np.testing.assert_allclose(_vector(plane.axes[0], names), along, rtol=1e-14)
    np.testing.assert_allclose(_vector(plane.axes[1], names), beside / y, rtol=1e-12, atol=1e-14)
    assert list(plane.points) == ["a", "b", "c"]
    np.testing.assert_allclose([*plane.points["a"], *plane.points["b"]], [[0, 0], [1, 0]], atol=0)
    np.testing.assert_allclose(plane.points["c"], [[x, y]], rtol=1e-13)
    assert (plane.kind, plane.normalize, plane.ignore, plane.seed) == ("plane", "none", "none", None)


def test_the_corners_of_a_plane_have_the_losses_of_their_networks():
    a, b, c = (HazardNet() for _ in range(3))
    for other in (b, c):
        other.norm.load_state_dict(other.norm.state_dict() | dict(a.norm.named_buffers()))
    x, y = images()
    batches = batched(x, y)
    plane = directions.plane(a, b, c)
    for name, network in (("a", a), ("b", b), ("c", c)):
        there = averages(a, objective, batches, plane.axes, plane.points[name][0])
        assert there["ce"][0] == pytest.approx(averages(network, objective, batches, (), ())["ce"][0], rel=1e-5)


def test_a_plane_moves_parameters_of_every_kind_and_no_buffer():
    a, b, c = (Odd() for _ in range(3))
    plane = directions.plane(a, b, c)
    names = ["scalar", "sixteen", "brain", "wave", "phase"]
    for axis in plane.axes:
        assert list(axis) == names
        assert all(d.dtype == a.get_parameter(name).dtype for name, d in axis.items())
    found = _vector(dict(a.named_parameters()), names) + plane.points["c"][0] @ [_vector(d, names) for d in plane.axes]
    np.testing.assert_allclose(found, _vector(dict(c.named_parameters()), names), atol=0.05)  # bfloat16 has 3 digits


def _between(a, b, share):
    b = b.state_dict()
    return {name: t + share * (b[name] - t) if t.is_floating_point() else t for name, t in a.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, -2.0])
def test_three_networks_on_a_line_span_no_plane(dtype, share):
    a, b = (HazardNet().to(dtype) for _ in range(2))
    with pytest.raises(ValueError, match=r"must span a plane\. Got c on the line through a and b\. Use interpolation"):
        directions.plane(a, b, _between(a, b, share))


def test_a_plane_needs_other_networks_of_the_same_kind():
    a, b = HazardNet(), HazardNet()
    with pytest.raises(ValueError, match=r"a and b must differ\. Got the same parameters"):
        directions.plane(a, copy.deepcopy(a), b)
    with pytest.raises(ValueError, match=r"b must have the model's tensors only\. Got 'weight'"):
        directions.plane(a, nn.Linear(2, 2), b)
    with pytest.raises(ValueError, match=r"c must have every tensor of the model\. Got no 'mix'"):
        directions.plane(a, b, {name: t for name, t in b.state_dict().items() if name != "mix"})


# The plane of a training run


def _run(model, k=11, decay=0.7):
    """State dicts that walk towards the weights of ``model``, the last of them its own."""
    twin, states = copy.deepcopy(model), []
    for step in range(k):
        states.append({name: t.clone() for name, t in twin.state_dict().items()})
        with torch.no_grad():
            for p in twin.parameters():
                p += 0.1 / decay**step * torch.randn_like(p)
    return states[::-1]


def _dense(model, states, names, n):
    """Principal components by a singular value decomposition of the whole matrix: axes, shares, projections."""
    origin = _vector(dict(model.named_parameters()), names)
    matrix = np.stack([_vector(state, names) - origin for state in states])
    _, s, axes = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    axes = axes[:n] * np.sign([axis[np.abs(axis).argmax()] for axis in axes[:n]])[:, None]
    return axes, s[:n] ** 2 / (s**2).sum(), matrix @ axes.T


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("k", [4, 8, 11])
def test_a_trajectory_is_the_principal_components_of_its_checkpoints(k, n, device):
    model = HazardNet().double().to(device)
    states = _run(model, k)
    found = directions.trajectory(model, states, n)
    names = _names(model)
    axes, shares, projections = _dense(model, states, names, n)
    for axis, expected in zip(found.axes, axes, strict=True):
        np.testing.assert_allclose(_vector(axis, names), expected, atol=1e-12)
    np.testing.assert_allclose(found.explained, shares, rtol=1e-12)
    np.testing.assert_allclose(found.points["trajectory"], projections, atol=1e-12)
    gram = np.array([[_vector(a, names) @ _vector(b, names) for a in found.axes] for b in found.axes])
    np.testing.assert_allclose(gram, np.eye(n), atol=1e-14)
    assert (found.kind, found.normalize, found.ignore) == ("trajectory", "none", "none")


def test_a_trajectory_leaves_out_what_is_ignored():
    model = HazardNet().double()
    states = _run(model)
    found = directions.trajectory(model, states, ignore="biasbn")
    names = ["conv.weight", "hidden.weight", "again.weight", "mix"]
    axes, shares, projections = _dense(model, states, names, 2)
    assert set(found.axes[0]) == set(names)
    np.testing.assert_allclose([_vector(axis, names) for axis in found.axes], axes, atol=1e-12)
    np.testing.assert_allclose(found.explained, shares, rtol=1e-12)
    np.testing.assert_allclose(found.points["trajectory"], projections, atol=1e-12)
    assert found.ignore == "biasbn"


def test_a_trajectory_of_numbers_of_every_kind():
    model = Odd()
    states = [Odd().state_dict() for _ in range(5)]
    found = directions.trajectory(model, states)
    names = ["scalar", "sixteen", "brain", "wave", "phase"]
    axes, shares, projections = _dense(model, states, names, 2)
    np.testing.assert_allclose([_vector(axis, names) for axis in found.axes], axes, atol=4e-3)  # stored as bfloat16
    np.testing.assert_allclose(found.explained, shares, rtol=1e-12)
    np.testing.assert_allclose(found.points["trajectory"], projections, atol=1e-12)
    assert found.axes[0]["wave"].dtype == torch.complex64


def test_checkpoints_come_from_files_functions_and_networks(tmp_path):
    model = HazardNet()
    states = _run(model, 5)
    expected = directions.trajectory(model, states)
    torch.save(states[0], tmp_path / "0.pt")
    torch.save(states[1], tmp_path / "1.pt")
    save_file({name: t.clone() for name, t in states[2].items()}, tmp_path / "2.safetensors")
    network = HazardNet()
    network.load_state_dict(states[4])
    mixed = [tmp_path / "0.pt", str(tmp_path / "1.pt"), tmp_path / "2.safetensors", lambda: states[3], network]
    found = directions.trajectory(model, mixed)
    assert found.sha256 == expected.sha256
    assert np.array_equal(found.points["trajectory"], expected.points["trajectory"])
    assert found.explained == expected.explained


def test_a_trajectory_holds_few_checkpoints_at_a_time():
    size = 1009  # a number of weights that nothing else has
    alive = []

    def checkpoint(i):
        def read():
            alive.append(sum(isinstance(o, torch.Tensor) and o.shape[-1:] == (size,) for o in gc.get_objects()))
            return {"weight": torch.randn(1, size, generator=torch.Generator().manual_seed(i))}

        return read

    gc.collect()
    gc.freeze()  # what was there before is not looked through
    try:
        found = directions.trajectory(nn.Linear(size, 1, bias=False), [checkpoint(i) for i in range(23)])
    finally:
        gc.unfreeze()
    assert len(found.points["trajectory"]) == 23
    assert len(alive) < 23 * (23 / 8 + 4)
    of_model = alive[0]  # before the first checkpoint was read
    assert max(alive) - of_model == 4  # and the one that is read then


def test_a_trajectory_leaves_the_model_as_it_was():
    model = HazardNet()
    states = _run(model, 5)
    before = fingerprint(model)
    directions.trajectory(model, states)
    directions.plane(model, states[0], states[1])
    directions.interpolation(model, states[0])
    assert fingerprint(model) == before


def _broken(name, value):
    model = HazardNet()
    states = _run(model, 5)
    if value is None:
        del states[3][name]
    else:
        states[3][name] = value
    return model, states


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mix", None, r"checkpoint 3 must have every tensor of the model\. Got no 'mix'"),
        ("mix", torch.zeros(3, 8), r"'mix' of checkpoint 3 must have the shape \[8, 3\]\. Got \[3, 8\]"),
        ("mix", torch.full((8, 3), math.inf), r"'mix' of checkpoint 3 must be finite"),
        ("module.mix", torch.zeros(8, 3), r"checkpoint 3 must have the model's tensors only\. Got 'module\.mix'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        directions.trajectory(*_broken(name, value))


def test_too_few_checkpoints_are_refused():
    model = HazardNet()
    a, b, c = _run(model, 3)
    message = r"must hold at least 3 that differ, and span 2 dimensions\. Got {} that span {}\. Save more of them"
    for states, rank in (([], 0), ([a], 0), ([a, b], 1), ([a, a, a], 0), ([a, b, b, a], 1)):
        with pytest.raises(ValueError, match=message.format(len(states), rank)):
            directions.trajectory(model, states)
    line = [{n: s * t.double() if t.is_floating_point() else t for n, t in a.items()} for s in (1, 2, 3, 4)]
    with pytest.raises(ValueError, match=message.format(4, 1)):
        directions.trajectory(model, line)
    assert len(directions.trajectory(model, [a, b, c])) == 2
    assert directions.trajectory(model, line, n=1).explained == pytest.approx([1.0], abs=1e-15)


@pytest.mark.parametrize(
    ("checkpoints", "error", "message"),
    [
        (iter([]), TypeError, r"checkpoints must be a sequence, such as a list\. Got list_iterator"),
        ("run.pt", TypeError, r"checkpoints must be a sequence, such as a list\. Got str"),
        ([3], TypeError, r"checkpoint 0 must be a module or a state dict\. Got int"),
        ([lambda: [1]], TypeError, r"checkpoint 0 must be a module or a state dict\. Got list"),
        (["absent.pt"], FileNotFoundError, r"expected a file at absent\.pt, checkpoint 0\. There is none"),
    ],
)
def test_what_is_no_checkpoint_is_refused(checkpoints, error, message):
    with pytest.raises(error, match=message):
        directions.trajectory(nn.Linear(2, 2), checkpoints)


def test_faulty_arguments_of_a_trajectory_are_named():
    with pytest.raises(ValueError, match=r"n must be at least 1\. Got 0"):
        directions.trajectory(nn.Linear(2, 2), [], n=0)
    with pytest.raises(ValueError, match=r"ignore must be one of biasbn, none\. Got 'bn'"):
        directions.trajectory(nn.Linear(2, 2), [], ignore="bn")


# The gradient of a term


def _gradient(model, x, y, term):
    """Of the term's mean over all examples at once, by an ordinary backward pass."""
    twin = copy.deepcopy(model).eval()
    objective(twin, (x, y))[term].mean().backward()
    return {name: p.grad for name, p in twin.named_parameters() if p.requires_grad}


@pytest.fixture
def problem(device):
    model = HazardNet().double().to(device)
    model.unused = nn.Parameter(torch.ones(2, 2, dtype=torch.float64, device=device))
    for p in model.parameters():
        p.grad = None
    x, y = images()
    return ls.Problem(model, objective, batched(x.double(), y))  # 8, 8 and 6 examples


@pytest.mark.parametrize("term", ["ce", "kd"])
def test_a_gradient_is_that_of_the_mean_over_all_examples(problem, term, device):
    (axis,) = directions.gradient(problem, term, normalize="none").axes
    x, y = (torch.cat(parts).to(device) for parts in zip(*problem.batches, strict=True))
    expected = _gradient(problem.model, x, y, term)
    assert expected.pop("unused") is None
    assert not axis.pop("unused").any()
    assert axis.keys() == expected.keys()
    assert "hidden.weight" not in axis  # frozen
    for name, g in expected.items():
        torch.testing.assert_close(axis[name], g, rtol=1e-10, atol=1e-15)


def test_a_gradient_is_scaled_like_a_random_direction(problem):
    plain = directions.gradient(problem, "ce", normalize="none").axes[0]
    found = directions.gradient(problem, "ce")
    assert (found.kind, found.normalize, found.ignore, found.seed) == ("gradient", "model", "none", None)
    names = list(plain)
    weights = _vector(dict(problem.model.named_parameters()), names)
    g = _vector(plain, names)
    expected = g * np.linalg.norm(weights) / np.linalg.norm(g)
    np.testing.assert_allclose(_vector(found.axes[0], names), expected, rtol=1e-12)
    conv = copy.deepcopy(problem.model.conv).cpu()
    masks = filters(conv, torch.randn(2, 1, 6, 6, dtype=torch.float64), 1)
    by_filter = directions.gradient(problem, "ce", normalize="filter", ignore="biasbn")
    assert set(by_filter.axes[0]) == {"conv.weight", "again.weight", "mix", "unused"}
    wanted = filter_normalized(plain["conv.weight"].cpu(), conv.weight.detach(), masks)
    torch.testing.assert_close(by_filter.axes[0]["conv.weight"].cpu(), wanted, rtol=1e-12, atol=0)
    assert not by_filter.axes[0]["unused"].any()


def test_a_gradient_points_uphill(problem):
    found = directions.gradient(problem, "ce", normalize="none")
    batches = [tuple(t.cpu() for t in batch) for batch in problem.batches]
    h = 1e-5
    low, high = (averages(problem.model, objective, batches, found.axes, (x,))["ce"][0] for x in (-h, h))
    squared = sum(float(d.square().sum()) for d in found.axes[0].values())
    assert (high - low) / (2 * h) == pytest.approx(squared, rel=1e-6)


def test_a_gradient_counts_every_token_once():
    model = nn.Linear(3, 4).double()
    x, y = torch.randn(7, 5, 3, dtype=torch.float64), torch.randint(0, 4, (7, 5))
    counted = torch.rand(7, 5) < 0.6
    counted[6] = False  # the last batch has no token that counts

    def of_tokens(module, batch):
        inputs, labels, mask = batch
        values = F.cross_entropy(module(inputs).transpose(1, 2), labels, reduction="none")
        return {"ce": ls.PerToken(values, mask)}

    batches = list(zip(x.split([4, 2, 1]), y.split([4, 2, 1]), counted.split([4, 2, 1]), strict=True))
    (axis,) = directions.gradient(ls.Problem(model, of_tokens, batches), "ce", normalize="none").axes
    F.cross_entropy(model(x)[counted], y[counted]).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(axis[name], p.grad, rtol=1e-12, atol=1e-16)


def test_a_gradient_leaves_everything_as_it_was():
    x, y = images()
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=generator)
    model = HazardNet()
    before = fingerprint(model, generator)
    found = directions.gradient(ls.Problem(model, objective, loader), "ce")
    assert fingerprint(model, generator) == before
    assert found.axes[0]["mix"].dtype == torch.float32
    assert not found.axes[0]["mix"].requires_grad
    with torch.no_grad():
        assert directions.gradient(ls.Problem(model, objective, loader), "ce").sha256 == found.sha256


def _not_finite(model, batch):
    return {"ce": objective(model, batch)["ce"] * (math.nan if len(batch[0]) < 8 else 1)}


def _another(model, batch):
    return {"ce": torch.ones(len(batch[0]), requires_grad=True) * 2}


@pytest.mark.parametrize(
    ("arguments", "of", "message"),
    [
        ({"term": "loss"}, objective, r"term must be among those of the objective: ce, kd, correct\. Got 'loss'"),
        ({"term": "correct"}, objective, r"term 'correct' must be differentiable\. Got one without a gradient"),
        ({"term": "ce"}, _another, r"term 'ce' must depend on the model's parameters\. Got one that does not"),
        ({"term": "ce"}, _not_finite, r"gradient of term 'ce' must be finite\. Got one that is not, in batch 2"),
        ({"term": "ce", "normalize": "unit"}, objective, r"normalize must be one of filter, layer, model, none"),
        ({"term": "ce", "ignore": "bn"}, objective, r"ignore must be one of biasbn, none\. Got 'bn'"),
    ],
)
def test_a_term_without_a_gradient_is_refused(arguments, of, message):
    with pytest.raises(ValueError, match=message):
        directions.gradient(ls.Problem(HazardNet(), of, batched(*images())), **arguments)


def test_a_gradient_needs_parameters_and_examples():
    model = HazardNet().requires_grad_(False)
    with pytest.raises(ValueError, match=r"parameters that require gradients\. Got none: all are frozen"):
        directions.gradient(ls.Problem(model, objective, batched(*images())), "ce")
    none = ls.Problem(HazardNet(), objective, [images(0)])
    with pytest.raises(ValueError, match=r"at least one example\. Got none: are all batches empty"):
        directions.gradient(none, "ce")


# The user's own tensors


def test_tensors_are_taken_as_they_are(device):
    model = Odd().to(device)
    mine = Odd().state_dict()
    found = directions.from_tensors(model, mine)
    assert set(found.axes[0]) == {"scalar", "sixteen", "brain", "wave", "phase", "mean"}
    for name, d in found.axes[0].items():
        assert (d.dtype, d.device) == (mine[name].dtype, next(model.parameters()).device)
        assert torch.equal(d.cpu(), mine[name])
    assert (found.kind, found.normalize, found.ignore, found.seed) == ("tensors", "none", "none", None)
    assert len(directions.from_tensors(model, [mine, mine, mine])) == 3


def test_tensors_are_copied():
    model, mine = nn.Linear(2, 2).double(), dict(nn.Linear(2, 2).double().named_parameters())
    found = directions.from_tensors(model, mine)
    digest = found.sha256
    with torch.no_grad():
        mine["weight"] += 1
    assert found.sha256 == digest
    assert not found.axes[0]["weight"].requires_grad


def test_tensors_are_scaled_on_request():
    model = nn.Linear(5, 4).double()
    mine = {"weight": torch.randn(4, 5, dtype=torch.float64)}
    (axis,) = directions.from_tensors(model, mine, normalize="filter", partial=True).axes
    masks = filters(model, torch.randn(7, 5, dtype=torch.float64), 1)
    expected = filter_normalized(mine["weight"], model.weight.detach(), masks)
    torch.testing.assert_close(axis["weight"], expected, rtol=1e-13, atol=0)
    assert set(axis) == {"weight"}


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"weight": torch.ones(2, 3)}, ValueError, r"axis 0 must have every tensor of the model\. Got no 'bias'"),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(2), "gain": torch.ones(2)},
            ValueError,
            r"axis 0 must have the model's tensors only\. Got 'gain', which the model does not have",
        ),
        ({"weight": torch.ones(3, 2)}, ValueError, r"'weight' of axis 0 must have the shape \[2, 3\]\. Got \[3, 2\]"),
        ({"bias": torch.tensor([1, math.nan])}, ValueError, r"'bias' of axis 0 must be finite"),
        ({"bias": np.ones(2)}, TypeError, r"'bias' of axis 0 must be a tensor\. Got ndarray"),
        ([nn.Linear(3, 2).state_dict(), [1]], TypeError, r"axis 1 must be a module or a state dict\. Got list"),
        ([], ValueError, r"axes must hold at least one direction, each with at least one tensor\. Got none"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(axes, error, message):
    with pytest.raises(error, match=message):
        directions.from_tensors(nn.Linear(3, 2), axes)


def test_a_partial_direction_must_hold_something():
    with pytest.raises(ValueError, match=r"each with at least one tensor\. Got none"):
        directions.from_tensors(nn.Linear(3, 2), {}, partial=True)
    with pytest.raises(ValueError, match=r"Got 'gain', which the model does not have"):
        directions.from_tensors(nn.Linear(3, 2), {"gain": torch.ones(2)}, partial=True)


# Files


def _same(a, b):
    assert len(a) == len(b)
    for mine, theirs in zip(a.axes, b.axes, strict=True):
        assert mine.keys() == theirs.keys()
        for name, d in mine.items():
            assert (d.dtype, d.shape) == (theirs[name].dtype, theirs[name].shape)
            assert torch.equal(d.cpu().view(-1).view(torch.uint8), theirs[name].view(-1).view(torch.uint8))
    assert (a.normalize, a.ignore, a.seed, a.kind) == (b.normalize, b.ignore, b.seed, b.kind)
    assert a.explained == b.explained
    assert a.points.keys() == b.points.keys()
    assert all(np.array_equal(places, b.points[name]) for name, places in a.points.items())
    assert a.sha256 == b.sha256


def _random(model):
    return directions.random(model, n=3, seed=2**40, ignore="none")


def _plane(model):
    return directions.plane(model, *(type(model)() for _ in range(2)))


def _trajectory(model):
    return directions.trajectory(model, [type(model)().state_dict() for _ in range(4)])


def _interpolation(model):
    return directions.interpolation(model, type(model)())


@pytest.mark.parametrize("model", [Odd, HazardNet])
@pytest.mark.parametrize("make", [_random, _plane, _trajectory, _interpolation])
def test_directions_come_back_bit_for_bit(make, model, tmp_path, device):
    found = make(model()) if device.type == "cpu" else _random(model().to(device))
    directions.save(found, tmp_path / "d.h5")
    _same(found, directions.load(tmp_path / "d.h5"))
    directions.save(directions.load(tmp_path / "d.h5"), tmp_path / "d.h5")
    _same(found, directions.load(tmp_path / "d.h5"))


def test_a_file_of_directions_is_laid_out_as_documented(tmp_path):
    found = directions.trajectory(HazardNet(), [HazardNet().state_dict() for _ in range(4)])
    directions.save(found, tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5") as file:
        assert file.attrs["schema"] == "dot-landscape/directions"
        assert file.attrs["schema_version"] == 1
        assert file.attrs["seed"] == -1
        assert file.attrs["sha256"] == found.sha256
        assert list(file["axes"]) == ["0", "1"]
        assert np.array_equal(file["axes/1/conv.weight"][()], found.axes[1]["conv.weight"].numpy())
        assert np.array_equal(file["points/trajectory"][()], found.points["trajectory"])


@pytest.fixture
def saved(tmp_path):
    directions.save(directions.random(nn.Linear(3, 2)), tmp_path / "d.h5")
    return tmp_path / "d.h5"


def _changed(file):
    file["axes/0/weight"][0, 0] = 7


def _cut(file):
    del file["axes"]


def _newer(file):
    file.attrs["schema_version"] = 2


def _foreign(file):
    file.attrs["schema"] = "dot-landscape/surface"


def _nameless(file):
    del file.attrs["schema"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed, r"d\.h5 must hold the tensors that were saved\. Got others, by their SHA-256"),
        (_cut, r"d\.h5 must hold whole dot-landscape/directions\. Got a file with a part missing: .*axes"),
        (_newer, r"d\.h5 has schema version 2, newer than 1: update dot-landscape to read it"),
        (_foreign, r"must have the schema dot-landscape/directions\. Got dot-landscape/surface"),
        (_nameless, r"must have the schema dot-landscape/directions\. Got none"),
    ],
)
def test_a_file_that_is_not_what_was_saved_is_refused(saved, change, message):
    with h5py.File(saved, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=message):
        directions.load(saved)


def test_what_is_no_file_of_directions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is none"):
        directions.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ValueError, match="must be an HDF5 file"):
        directions.load(tmp_path / "text.h5")


def test_a_name_with_a_slash_comes_back(tmp_path):
    drawn = directions.random(nn.ModuleDict({"left/right": nn.Linear(2, 2)}))
    directions.save(drawn, tmp_path / "d.h5")
    assert directions.load(tmp_path / "d.h5").sha256 == drawn.sha256


# Files of the original tool: numbered tensors in two groups


def _write_original(path, *axes):
    with h5py.File(path, "w") as file:
        for group, tensors in zip(("xdirection", "ydirection"), axes, strict=False):
            for i, tensor in enumerate(tensors):
                file[f"{group}/{i}"] = tensor.numpy()


@pytest.mark.parametrize("n", [1, 2])
def test_a_file_of_the_original_tool_for_weights(n, tmp_path, device):
    model = HazardNet().to(device)
    drawn = [[torch.randn(p.shape) for p in model.parameters()] for _ in range(n)]
    _write_original(tmp_path / "d.h5", *drawn)
    found = directions.load(tmp_path / "d.h5", model)
    assert len(found) == n
    for axis, tensors in zip(found.axes, drawn, strict=True):
        expected = {name: d for (name, _), d in zip(model.named_parameters(), tensors, strict=True)}
        assert axis.keys() == expected.keys()
        assert all(torch.equal(d.cpu(), expected[name]) for name, d in axis.items())
        assert all(d.device == next(model.parameters()).device for d in axis.values())
    assert (found.normalize, found.ignore, found.seed, found.kind) == ("none", "none", None, "loss-landscape")


@pytest.mark.parametrize("counts_batches", [True, False])  # state dicts of early versions of torch do not
def test_a_file_of_the_original_tool_for_states(counts_batches, tmp_path):
    model = HazardNet()
    drawn = {name: torch.randn(t.shape) for name, t in model.state_dict().items()}
    drawn["and_again.weight"] = drawn["again.weight"]  # one tensor under two names
    if not counts_batches:
        del drawn["norm.num_batches_tracked"]
    _write_original(tmp_path / "d.h5", drawn.values())
    (axis,) = directions.load(tmp_path / "d.h5", model).axes
    assert axis.keys() == drawn.keys() - {"and_again.weight", "norm.num_batches_tracked"}
    assert {"norm.running_mean", "norm.running_var"} < axis.keys()
    assert all(torch.equal(d, drawn[name]) for name, d in axis.items())


def test_a_loaded_direction_moves_the_weights_as_the_original_tool_does(tmp_path):
    model = HazardNet().double()
    x, y = images()
    drawn = [[0.1 * torch.randn(p.shape, dtype=torch.float64) for p in model.parameters()] for _ in range(2)]
    _write_original(tmp_path / "d.h5", *drawn)
    found = directions.load(tmp_path / "d.h5", model)
    moved = copy.deepcopy(model).eval()
    with torch.no_grad():
        for p, a, b in zip(moved.parameters(), *drawn, strict=True):
            p += 0.5 * a - 0.25 * b
        expected = float(objective(moved, (x.double(), y))["ce"].mean())
    there = averages(model, objective, [(x.double(), y)], found.axes, (0.5, -0.25))
    assert there["ce"][0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            [torch.ones(2, 3)],
            r"xdirection of .*d\.h5 must hold a tensor for each of the model's 4 parameters, or of the 7 entries of "
            r"its state dict\. Got 1",
        ),
        (
            [torch.ones(2, 3), torch.ones(3), torch.ones(2), torch.ones(2)],
            r"'0\.bias' of xdirection of .*d\.h5 must have the shape \[2\]\. Got \[3\]",
        ),
    ],
)
def test_a_file_of_the_original_tool_for_another_network_is_refused(tensors, message, tmp_path):
    _write_original(tmp_path / "d.h5", tensors)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match=message):
        directions.load(tmp_path / "d.h5", model)
    with pytest.raises(ValueError, match=r"names no tensors\. Pass the model that it belongs to"):
        directions.load(tmp_path / "d.h5")


def test_tied_tensors_that_differ_in_a_file_of_the_original_tool_are_refused(tmp_path):
    model = HazardNet()
    _write_original(tmp_path / "d.h5", [torch.randn(t.shape) for t in model.state_dict().values()])
    with pytest.raises(ValueError, match=r"one value for the tied 'again\.weight' and 'and_again\.weight'\. Got two"):
        directions.load(tmp_path / "d.h5", model)
