"""Statistics re-estimated at every point: those of ``torch.optim.swa_utils.update_bn`` at those weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import brute_force, fingerprint
from plain import evaluate
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.results import DONE

PLANE = ls.Grid2D(x=(-1, 1, 3), y=(0.25, 1, 2))
Batches = list[tuple[Tensor, Tensor]]


def network(dropout: float = 0.5, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Three kinds of batch norm, none with the momentum of the others, one without weights; lived in."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.BatchNorm1d(5, momentum=None, affine=False),
        nn.Tanh(),
        nn.BatchNorm1d(5, track_running_stats=False),
        nn.Linear(5, 3),
    ).to(dtype)
    for x, _ in data(seed=9, dtype=dtype):
        model(3 * x + 1)
    return model


def data(*sizes: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 2, 6, 6, generator=generator, dtype=dtype), torch.randint(0, 3, (n,), generator=generator))
        for n in sizes or (5, 4, 2)
    ]


def ce(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    x, y = batch
    return {"ce": F.cross_entropy(model(x), y, reduction="none")}


def updated(model: nn.Module, axes: Any, point: Any, sample: Batches) -> nn.Module:
    """A deep copy with the moved weights, whose statistics torch has re-estimated; dropout taken out."""
    module = copy.deepcopy(model)
    with torch.no_grad():
        for coordinate, axis in zip(point, axes, strict=True):
            for name, direction in axis.items():
                module.get_parameter(name).add_(direction, alpha=coordinate)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # update_bn trains every layer
    update_bn(sample, module)
    return module


def script(model: nn.Module, axes: Any, point: Any, sample: Batches, batches: Batches) -> float:
    return brute_force(updated(model, axes, point, sample), ce, batches)["ce"][0]


def points(grid: ls.Grid2D) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    for i, y in enumerate(grid.ys):
        for k, x in enumerate(grid.xs):
            yield (i, k), (float(x), float(y))


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_cell_has_the_statistics_that_torch_gives_it(dtype, ignore):
    model, batches = network(dtype=dtype), data(dtype=dtype)
    directions = ls.directions.random(model, ignore=ignore)
    surface = evaluate(ls.Problem(model, ce, batches), directions, PLANE, bn_mode="recalibrate")
    for cell, point in points(PLANE):
        assert surface.values("ce")[cell] == script(model, directions.axes, point, batches, batches)
    assert surface.origin["ce"][0] == script(model, directions.axes, (0, 0), batches, batches)
    assert (surface.status == DONE).all()
    assert surface.attrs["bn_mode"] == "recalibrate"
    plain = evaluate(ls.Problem(model, ce, batches), directions, PLANE)
    assert plain.attrs["bn_mode"] == "eval"
    assert (plain.values("ce") != surface.values("ce")).all()
    assert plain.origin != surface.origin


@pytest.mark.parametrize("kind", ["list", "loader", "function"])
def test_the_sample_may_be_other_data_than_are_measured(kind):
    """Uneven batches count the same, as torch counts them."""
    model, batches, sample = network(), data(), data(7, 2, seed=3)
    given = {
        "list": sample,
        "loader": DataLoader(TensorDataset(*(torch.cat(parts) for parts in zip(*sample, strict=True))), batch_size=7),
        "function": lambda: iter(sample),
    }[kind]
    directions = ls.directions.random(model)
    problem = ls.Problem(model, ce, batches)
    surface = evaluate(problem, directions, PLANE, bn_mode="recalibrate", bn_sample=given)
    for cell, point in points(PLANE):
        assert surface.values("ce")[cell] == script(model, directions.axes, point, sample, batches)
    own = evaluate(problem, directions, PLANE, bn_mode="recalibrate")
    assert (own.values("ce") != surface.values("ce")).all()
    assert own.attrs["bn_sample_sha256"] != surface.attrs["bn_sample_sha256"]


def test_statistics_that_the_directions_move_are_estimated_all_the_same():
    """An interpolation moves them too, to what neither network would have in between."""
    model, other, batches = network(), network(), data()
    directions = ls.directions.interpolation(model, other)
    line = evaluate(ls.Problem(model, ce, batches), directions, ls.Grid1D((0, 1, 3)), bn_mode="recalibrate")
    weights = [{name: t for name, t in directions.axes[0].items() if name in dict(model.named_parameters())}]
    assert len(weights[0]) < len(directions.axes[0])
    for x, value in zip(line.x, line.values("ce"), strict=True):
        assert value == script(model, weights, (x,), batches, batches)
    assert line.values("ce")[2] == pytest.approx(script(other, [], (), batches, batches), rel=1e-12)


def test_between_two_networks_recalibration_lowers_the_loss():
    """What it is for: halfway between two trained networks averaged statistics fit neither (Garipov et al. 2018)."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 8, generator=generator) + 2 * F.one_hot(y, 8)

    def trained(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model

    a, b = trained(0), trained(1)
    directions, grid = ls.directions.interpolation(a, b), ls.Grid1D(x=(0, 1, 5))
    problem = ls.Problem(a, ce, [(x, y)])
    as_it_is = evaluate(problem, directions, grid).values("ce")
    anew = evaluate(problem, directions, grid, bn_mode="recalibrate").values("ce")
    assert anew[2] < 0.9 * as_it_is[2]
    assert anew[[0, 4]] == pytest.approx(as_it_is[[0, 4]], rel=0.2)


class _Watching:
    """An objective that keeps what state the network is in whenever it is called."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, ...]] = []
        self.momenta: list[list[float | None]] = []

    def __call__(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.seen.append((norms[0].training, norms[1].training, norms[2].training, model[3].training, model.training))
        self.momenta.append([m.momentum for m in norms])
        return ce(model, batch)


def test_only_norms_with_statistics_are_trained_and_momenta_come_back():
    model, batches, watching = network(), data(), _Watching()
    directions = ls.directions.random(model)
    evaluate(ls.Problem(model, watching, batches), directions, PLANE, bn_mode="recalibrate")
    estimating, measuring = (True, True, False, False, False), (False,) * 5
    passes = [watching.seen[i : i + 3] for i in range(0, 6 * 8, 3)]
    assert passes[:4] == [[estimating] * 3, [measuring] * 3] * 2, "the origin and its second pass"
    assert set(watching.seen) == {estimating, measuring}
    assert watching.seen.count(estimating) == 3 * (6 + 2), "a pass over the sample at every point"
    momenta = [m for m, seen in zip(watching.momenta, watching.seen, strict=True) if seen == measuring]
    assert all(m == [0.3, None, 0.1] for m in momenta)


class _Fails:
    def __init__(self, call: int, error: type[BaseException]) -> None:
        self.call, self.error, self.calls = call, error, 0

    def __call__(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.call:
            raise self.error("stop")
        return ce(model, batch)


@pytest.mark.parametrize("call", [0, 2, 5, 14, 20])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_users_network_is_as_it_was(call, error):
    model, generator = network(), torch.Generator().manual_seed(3)
    sample = DataLoader(TensorDataset(*data(11)[0]), batch_size=4, shuffle=True, generator=generator)
    directions = ls.directions.random(model)
    model.train()
    model[1].eval()
    before = fingerprint(model, generator)
    problem = ls.Problem(model, _Fails(call, error), data())
    try:
        evaluate(problem, directions, PLANE, bn_mode="recalibrate", bn_sample=sample)
        assert call == 0
    except error:
        assert call
    assert fingerprint(model, generator) == before
    assert [m.momentum for m in model.modules() if hasattr(m, "momentum")] == [0.3, None, 0.1]


@pytest.mark.parametrize(
    ("bn_mode", "mode"),
    [
        ("eval", "train"),
        ("eval", "eval"),
        ("recalibrate", "eval"),
        ("recalibrate", "train"),
    ],
)
def test_a_mode_that_the_objective_leaves_behind_is_put_right(bn_mode, mode):
    """It trains the network at the end of each batch: the next batch, or the next cell, is measured in eval mode."""
    model, batches = network(), data(11)

    def careless(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        terms = ce(m, batch)
        getattr(m, mode)()
        return terms

    directions = ls.directions.random(model)
    found = evaluate(ls.Problem(model, careless, batches), directions, PLANE, bn_mode=bn_mode)
    clean = evaluate(ls.Problem(model, ce, batches), directions, PLANE, bn_mode=bn_mode)
    np.testing.assert_array_equal(found.values("ce"), clean.values("ce"))
    assert found.origin == clean.origin


def test_a_mode_that_the_objective_leaves_behind_is_put_right_within_a_pass():
    """Of several batches the second is measured in eval mode too: the same seed would hide its dropout."""
    model, batches = nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.Dropout(0.5)).double(), data(5, 4, 2)

    def careless(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        terms = ce(m, batch)
        m.train()
        return terms

    directions = ls.directions.random(model)
    found = evaluate(ls.Problem(model, careless, batches), directions, PLANE)
    clean = evaluate(ls.Problem(model, ce, batches), directions, PLANE)
    np.testing.assert_array_equal(found.values("ce"), clean.values("ce"))


def test_a_conflict_is_measured_in_eval_mode_whatever_the_objective_leaves_behind():
    model, batches = network(dropout=0.5), data()

    def two(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        return ce(m, batch) | {"squares": m(batch[0]).square().mean(1)}

    def careless(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        terms = two(m, batch)
        m.train()
        return terms

    found, clean = (ls.conflict.measure(ls.Problem(model, f, batches), ("ce", "squares")) for f in (careless, two))
    np.testing.assert_array_equal(found.cosine, clean.cosine)


@pytest.mark.parametrize(
    "norm",
    [None, nn.LayerNorm(5), nn.BatchNorm1d(5, track_running_stats=False)],
    ids=["no norm", "layer norm", "batch norm without statistics"],
)
def test_a_network_without_running_statistics_has_nothing_to_recalibrate(norm):
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), *([norm] if norm else []), nn.Linear(5, 3)).double()
    with pytest.raises(ValueError, match=r"needs batch norms with running statistics"):
        evaluate(
            ls.Problem(model, ce, data()),
            ls.directions.random(model, n=1),
            ls.Grid1D((-1, 1, 3)),
            bn_mode="recalibrate",
        )


def test_what_is_no_mode_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"bn_mode.*eval.*recalibrate.*'train'"):
        evaluate(ls.Problem(model, ce, data()), ls.directions.random(model), PLANE, bn_mode="train")


def test_an_empty_sample_is_refused():
    model = network()
    with pytest.raises(ValueError, match="at least one batch"):
        evaluate(ls.Problem(model, ce, data()), ls.directions.random(model), PLANE, bn_mode="recalibrate", bn_sample=[])


def test_it_resumes_bit_for_bit_and_only_with_its_own_sample(tmp_path):
    model, batches, sample = network(), data(), data(4, seed=2)
    directions = ls.directions.random(model)

    def run(objective: Any = ce, bn_sample: Batches = sample, **options: Any) -> ls.Surface:
        problem = ls.Problem(model, objective, batches)
        options = {"bn_mode": "recalibrate", "bn_sample": bn_sample} | options
        return evaluate(problem, directions, PLANE, out=tmp_path / "s.h5", **options)

    with pytest.raises(KeyboardInterrupt):
        run(_Fails(20, KeyboardInterrupt))
    assert 0 < (ls.load(tmp_path / "s.h5").status == DONE).sum() < 6
    for changes, message in (
        ({"bn_sample": data(4, seed=3)}, "bn_sample_sha256"),
        ({"bn_mode": "eval", "bn_sample": None}, "bn_mode"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**changes)
    resumed = run()
    for cell, point in points(PLANE):
        assert resumed.values("ce")[cell] == script(model, directions.axes, point, sample, batches)
    with pytest.raises(ValueError, match="bn_sample_sha256"):
        run(bn_sample=data(4, seed=3))


def test_parts_of_the_data_share_the_whole_sample():
    model, batches, sample = network(), data(5, 4, 2, 3), data(4, 3, seed=2)
    directions = ls.directions.random(model)
    problem = ls.Problem(model, ce, batches)
    for given in (sample, None):
        options = {"bn_mode": "recalibrate", "bn_sample": given}
        parts = [evaluate(problem, directions, PLANE, data_shard=f"{j}/2", **options) for j in range(2)]
        whole = evaluate(problem, directions, PLANE, **options)
        np.testing.assert_allclose(ls.merge(parts).values("ce"), whole.values("ce"), rtol=1e-14)


def test_double_precision_casts_the_sample_too():
    model, batches = network(dtype=torch.float32), data(dtype=torch.float32)
    directions = ls.directions.random(model)
    problem = ls.Problem(model, ce, batches)
    surface = evaluate(problem, directions, PLANE, bn_mode="recalibrate", precision="float64")
    wide = [(x.double(), y) for x, y in batches]
    axes = [{name: t.double() for name, t in axis.items()} for axis in directions.axes]
    for cell, point in points(PLANE):
        assert surface.values("ce")[cell] == script(copy.deepcopy(model).double(), axes, point, wide, wide)


def test_a_batch_of_one_example_is_refused_with_what_to_do():
    """Batch norm cannot estimate a variance from a single value a channel."""
    model, batches = network(), data(4, 1)
    with pytest.raises(ValueError, match=r"two examples or more .* Got batch 1 with one: use drop_last"):
        evaluate(ls.Problem(model, ce, batches), ls.directions.random(model), PLANE, bn_mode="recalibrate")


def test_an_objective_that_sets_eval_mode_itself_changes_nothing():
    model, batches = network(), data()
    directions = ls.directions.random(model)

    def careful(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        m.eval()
        return ce(m, batch)

    found, plain = (
        evaluate(ls.Problem(model, objective, batches), directions, PLANE, bn_mode="recalibrate")
        for objective in (careful, ce)
    )
    assert found.values("ce").tobytes() == plain.values("ce").tobytes()
