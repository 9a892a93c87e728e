"""Surfaces, however they are cut and put together again, against a script that evaluates one cell after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import brute_force
from plain import evaluate
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import landscape as ls
from landscape.directions import Directions
from landscape.results import DONE, PENDING

# Networks of a few families, double precision, on inputs [N, 6]


class _Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body, self.head = kind(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x.unflatten(1, (2, 3)))[0][:, -1])


class _Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(3, 1, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        tokens = x.unflatten(1, (2, 3))
        return self.head(self.attention(tokens, tokens, tokens)[0].sum(1))


class _Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.head(self.scale * self.second(torch.tanh(self.first(x))))


def _mlp(*norms: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), *norms, nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 3))


def _cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)
    )


def _weight_normed() -> nn.Sequential:
    model = _mlp()
    parametrizations.weight_norm(model[0])
    return model


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "mlp": _mlp,
    "batch norm": lambda: _mlp(nn.BatchNorm1d(5)),
    "layer norm": lambda: _mlp(nn.LayerNorm(5)),
    "cnn": _cnn,
    "lstm": lambda: _Recurrent(nn.LSTM),
    "gru": lambda: _Recurrent(nn.GRU),
    "attention": _Attending,
    "tied": _Tied,
    "weight norm": _weight_normed,
}


def network(family: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = FAMILIES[family]().double()
    model(2 * torch.randn(9, 6, dtype=torch.float64) + 1)  # running statistics of their own
    return model


def data_of(sizes: list[int], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 6, dtype=torch.float64, generator=generator), torch.randint(0, 3, (n,), generator=generator))
        for n in sizes
    ]


def objective(model: Any, batch: Any) -> dict[str, Tensor]:
    x, y = batch
    logits = model(x)
    return {
        "ce": F.cross_entropy(logits, y, reduction="none"),
        "squares": logits.square().mean(1),
        "correct": logits.argmax(1) == y,
    }


# Grids, and what they mean: each cell with its coordinate along each direction


Cells = dict[tuple[int, ...], tuple[float, ...]]


def cells_of(grid: Any, n_directions: int) -> Cells:
    """``{index: point}``, from what `Grid1D`, `Grid2D` and `Path` say that they are."""
    if isinstance(grid, ls.Path):
        return {(i,): tuple(point) for i, point in enumerate(np.asarray(grid.points, dtype=float))}
    xs = [float(x) for x in grid.xs]
    if isinstance(grid, ls.Grid2D):
        return {(i, k): (x, float(y)) for i, y in enumerate(grid.ys) for k, x in enumerate(xs)}
    if n_directions == 1:
        return {(i,): (x,) for i, x in enumerate(xs)}
    along = np.eye(n_directions)
    return {(k, i): tuple(x * along[k]) for k in range(n_directions) for i, x in enumerate(xs)}


axes = st.one_of(
    st.tuples(st.floats(0.1, 2), st.integers(1, 2)).map(lambda a: (-a[0], a[0], 2 * a[1] + 1)),
    st.tuples(st.floats(-1, 0), st.floats(0.3, 2), st.integers(2, 4)).filter(lambda a: a[0] != -a[1]),
    st.builds(ls.LogAxis, st.floats(1e-3, 1e-1), st.floats(0.2, 2), st.just(2), st.booleans()),
)
coordinates = st.floats(-1, 1).map(lambda x: round(x, 3))


@st.composite
def paths(draw: Any, n: int) -> ls.Path:
    steps = draw(st.lists(st.floats(0.1, 1), min_size=2, max_size=5))
    points = draw(st.lists(st.tuples(*[coordinates] * n), min_size=len(steps), max_size=len(steps)))
    return ls.Path(x=np.cumsum(steps), points=np.array(points))


grids = st.one_of(
    st.tuples(st.just(2), st.builds(ls.Grid2D, axes, axes)),
    st.tuples(st.integers(1, 3), st.builds(ls.Grid1D, axes)),
    st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), paths(n))),
)


def identical(a: ls.Surface, b: ls.Surface) -> None:
    """To the last bit."""
    assert (a.terms, a.dims) == (b.terms, b.dims)
    for term in a.terms:
        np.testing.assert_array_equal(a.values(term), b.values(term))
        np.testing.assert_array_equal(a.sem(term), b.sem(term))
        np.testing.assert_array_equal(a.origin[term], b.origin[term])
    np.testing.assert_array_equal(a.status, b.status)
    assert a.attrs["n_examples"] == b.attrs["n_examples"]


@pytest.mark.filterwarnings("ignore:no cell differs")  # of few cells, all of them may be the origin
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    grid=grids,
    ignore=st.sampled_from(["biasbn", "none"]),
    coarse_to_fine=st.booleans(),
    shards=st.integers(1, 5),
    data_shards=st.integers(1, 3),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**20),
)
def test_whole_or_in_parts_it_is_what_a_script_computes(
    family, sizes, grid, ignore, coarse_to_fine, shards, data_shards, order, seed
):
    n, grid = grid
    model, data = network(family, seed), data_of(sizes, seed)
    directions = ls.directions.random(model, n=n, ignore=ignore, seed=seed)
    problem = ls.Problem(model, objective, data)
    whole = evaluate(problem, directions, grid, coarse_to_fine=coarse_to_fine)

    cells = cells_of(grid, n)
    assert whole.status.shape == tuple(np.max([*cells], axis=0) + 1)
    assert (whole.status == DONE).all()
    script = {cell: brute_force(model, objective, data, directions.axes, point) for cell, point in cells.items()}
    origin = brute_force(model, objective, data)
    for term in ("ce", "squares", "correct"):
        for cell, terms in script.items():
            assert whole.values(term)[cell] == terms[term][0]
            assert whole.sem(term)[cell] == pytest.approx(terms[term][1], rel=1e-9, abs=1e-14, nan_ok=True)
        assert whole.origin[term][0] == origin[term][0]
        assert whole.origin[term][1] == pytest.approx(origin[term][1], rel=1e-9, abs=1e-14, nan_ok=True)

    parts = [
        evaluate(problem, directions, grid, coarse_to_fine=coarse_to_fine, shard=f"{i}/{shards}") for i in range(shards)
    ]
    assert sum((part.status != PENDING).astype(int) for part in parts).tolist() == np.ones_like(whole.status).tolist()
    order.shuffle(parts)
    identical(ls.merge(parts), whole)

    data_shards = min(data_shards, len(sizes))
    parts = [
        evaluate(problem, directions, grid, shard=f"{i}/{shards % 2 + 1}", data_shard=f"{j}/{data_shards}")
        for i, j in product(range(shards % 2 + 1), range(data_shards))
    ]
    order.shuffle(parts)
    pooled = ls.merge(parts)
    for term in whole.terms:
        np.testing.assert_allclose(pooled.values(term), whole.values(term), rtol=1e-14, atol=0)
        np.testing.assert_allclose(pooled.sem(term), whole.sem(term), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(pooled.origin[term][0], whole.origin[term][0], rtol=1e-14, atol=0)
        np.testing.assert_allclose(pooled.origin[term][1], whole.origin[term][1], rtol=1e-9, atol=1e-12)
    assert (pooled.status == whole.status).all()
    assert pooled.attrs["n_examples"] == sum(sizes)
    assert not pooled.sums


# Which cells are evaluated, and when: the weights of every pass are noted


class _Point(nn.Module):
    """Two weights, each along a direction of its own, so that the weights are the coordinates."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 2, dtype=torch.float64))


class _Noted:
    """An objective that keeps the weights that it was called with, in their order."""

    def __init__(self, stop: int | None = None):
        self.seen: list[tuple[float, float]] = []
        self.stop = stop

    def __call__(self, model, batch):
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        self.seen.append(tuple(model.w[0].tolist()))
        return {"bowl": (model.w - batch).square().sum(1)}

    @property
    def cells(self) -> list[tuple[float, float]]:
        """Without the origin, each as often as it was evaluated."""
        return [point for point in self.seen if point != (0.0, 0.0)]


TARGETS = [torch.tensor([[0.3, -0.2]], dtype=torch.float64)]
ACROSS = Directions(
    ({"w": torch.tensor([[1.0, 0.0]]).double()}, {"w": torch.tensor([[0.0, 1.0]]).double()}), "none", "none"
)


def noted(grid: Any, stop: int | None = None, directions: Directions = ACROSS, **options: Any) -> Any:
    """The surface (None where it was broken off) and the objective that was there."""
    found = _Noted(stop)
    problem = ls.Problem(_Point(), found, TARGETS)
    try:
        return evaluate(problem, directions, grid, **options), found
    except KeyboardInterrupt:
        return None, found


def points_of(grid: Any) -> list[tuple[float, float]]:
    return [point for point in cells_of(grid, 2).values() if any(point)]


GRIDS = {
    "plane": ls.Grid2D(x=(-1, 1, 9), y=(-0.5, 1, 7)),
    "tall plane": ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 33)),
    "bundle": ls.Grid1D(x=(-1, 1, 17)),
    "log": ls.Grid2D(x=ls.LogAxis(0.01, 1, 4), y=(0.5, 1, 2)),
    "path": ls.Path(x=np.arange(6), points=np.array([[0.1 * i, 0.5 - 0.2 * i] for i in range(6)])),
}


@pytest.mark.parametrize("coarse_to_fine", [False, True])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_cell_is_evaluated_once(grid, coarse_to_fine):
    surface, objective = noted(grid, coarse_to_fine=coarse_to_fine)
    assert sorted(objective.cells) == sorted(points_of(grid))
    for cell, (x, y) in cells_of(grid, 2).items():
        assert surface.values("bowl")[cell] == pytest.approx((x - 0.3) ** 2 + (y + 0.2) ** 2, rel=1e-12)


@pytest.mark.parametrize("coarse_to_fine", [False, True])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_shards_evaluate_disjoint_cells_of_about_the_same_number(grid, coarse_to_fine):
    parts = [noted(grid, coarse_to_fine=coarse_to_fine, shard=f"{i}/3")[1].cells for i in range(3)]
    assert sorted(chain(*parts)) == sorted(points_of(grid))


def test_a_coarse_picture_of_the_whole_comes_first_and_sharpens():
    """Of a 51 x 51 plane 6 % of the cells are a picture with its corners and its centre; then spacings are halved."""
    grid = ls.Grid2D(x=(-1, 1, 51), y=(-1, 1, 51))
    _, objective = noted(grid, coarse_to_fine=True)
    assert len(objective.cells) == len(set(objective.cells)) == 51 * 51 - 1
    first = int(0.06 * 51 * 51)
    assert {(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)} <= set(objective.cells[:first])
    assert (0.0, 0.0) in objective.seen[:2], "the centre"

    def hole(count: int) -> float:
        """How far a cell is from the nearest that is done, at most, in steps of the grid."""
        done = np.array([(0.0, 0.0), *objective.cells[:count]])
        every = np.array([(x, y) for x in grid.xs for y in grid.ys])
        return float(np.abs(every[:, None] - done[None]).max(2).min(1).max() / (2 / 50))

    assert hole(first) <= 4.01
    assert hole(4 * first) <= 2.01
    assert hole(first // 12) > 8, "a few rows are no picture: this can fail"


@pytest.mark.parametrize(("level", "stop"), [("rows", False), ("coarse", True)])
@pytest.mark.parametrize("calls", [3, 10, 25, 60])
def test_broken_off_it_goes_on_with_the_cells_that_are_missing(level, stop, calls, tmp_path):
    grid = GRIDS["plane"]
    _, before = noted(grid, calls, out=tmp_path / "s.h5", coarse_to_fine=stop)
    surface, after = noted(grid, out=tmp_path / "s.h5", coarse_to_fine=not stop)  # the file's order counts
    assert set(before.cells) | set(after.cells) == set(points_of(grid))
    assert len(before.cells) + len(after.cells) == len(points_of(grid))
    identical(surface, noted(grid)[0])


# Taking cells from a surface on another grid


WIDER = ls.Grid2D(x=(-2, 2, 13), y=(-1, 1, 9))
DENSER = ls.Grid2D(x=(-1, 1, 13), y=(-0.5, 0.5, 9))
OTHER = ls.Grid2D(x=(-0.9, 0.9, 5), y=(-0.45, 0.45, 5))
NARROW = ls.Grid2D(x=(-1, 1, 7), y=(-0.5, 0.5, 5))


@pytest.mark.parametrize("stored", ["in memory", "file"])
@pytest.mark.parametrize("grid", [WIDER, DENSER, OTHER, NARROW], ids=["wider", "denser", "other", "the same"])
def test_reused_cells_are_not_evaluated_again_and_have_the_same_bits(grid, stored, tmp_path):
    old, _ = noted(NARROW, out=tmp_path / "old.h5")
    surface, objective = noted(
        grid, reuse=old if stored == "in memory" else tmp_path / "old.h5", out=tmp_path / "new.h5"
    )
    there = set(points_of(NARROW))
    new = [p for p in points_of(grid) if p not in there]
    assert sorted(objective.cells) == sorted(new)
    assert (len(new) == len(points_of(grid))) == (grid is OTHER)
    fresh, all_of_it = noted(grid)
    assert len(all_of_it.cells) == len(points_of(grid))
    identical(surface, fresh)
    identical(ls.load(tmp_path / "new.h5"), fresh)


def test_an_unfinished_surface_is_reused_as_far_as_it_got(tmp_path):
    noted(NARROW, 30, out=tmp_path / "old.h5")
    done = int((ls.load(tmp_path / "old.h5").status != PENDING).sum())
    assert 18 < done < 35, "the origin and some more"
    surface, objective = noted(DENSER, reuse=tmp_path / "old.h5")
    assert len(objective.cells) == len(points_of(DENSER)) - (done - 1), "but for the origin, which is checked"
    identical(surface, noted(DENSER)[0])


def test_shards_reuse_what_is_theirs():
    old, _ = noted(NARROW)
    parts = [noted(WIDER, reuse=old, shard=f"{i}/3") for i in range(3)]
    assert sorted(chain(*(o.cells for _, o in parts))) == sorted(set(points_of(WIDER)) - set(points_of(NARROW)))
    identical(ls.merge([surface for surface, _ in parts]), noted(WIDER)[0])


def test_a_bundle_and_a_line_are_reused_too():
    old, _ = noted(ls.Grid1D(x=(-1, 1, 5)))
    surface, objective = noted(ls.Grid1D(x=(-2, 2, 9)), reuse=old)
    assert sorted(objective.cells) == sorted(
        {(x, 0.0) for x in (-2, -1.5, 1.5, 2)} | {(0.0, x) for x in (-2, -1.5, 1.5, 2)}
    )
    identical(surface, noted(ls.Grid1D(x=(-2, 2, 9)))[0])


TURNED = Directions(ACROSS.axes[::-1], "none", "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": TURNED}, "directions_sha256"),
        ({"precision": "float64"}, None),
        ({"grid": ls.Grid1D(x=(-1, 1, 5))}, "same kind"),
        ({"grid": GRIDS["path"]}, "same kind|path"),
        ({"data_shard": "0/1"}, None),
    ],
    ids=["directions", "float64 of float64", "a bundle", "a path", "all the data"],
)
def test_what_is_of_another_measurement_is_not_reused(options, message):
    old, _ = noted(NARROW)
    options = {"grid": WIDER} | options
    if message is None:
        assert noted(options.pop("grid"), reuse=old, **options)[0].complete
        return
    with pytest.raises(ValueError, match=message):
        noted(options.pop("grid"), reuse=old, **options)


def test_a_surface_of_other_weights_data_or_objective_is_not_reused():
    model, data = network("mlp"), data_of([3, 2])
    directions = ls.directions.random(model)
    old = evaluate(ls.Problem(model, objective, data), directions, NARROW)
    for other, message in (
        (ls.Problem(network("mlp", seed=1), objective, data), "checkpoint_sha256"),
        (ls.Problem(model, objective, data_of([3, 2], seed=1)), "data_sha256"),
        (ls.Problem(model, objective, data_of([5])), "data_sha256"),
        (ls.Problem(model, objective, data, split="test"), "split"),
        (ls.Problem(model, lambda m, b: {k: 2 * v for k, v in objective(m, b).items()}, data), "objective"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(other, directions, WIDER, reuse=old)


# Putting together what does not belong together


def piece(
    shard: str = "0/1",
    data_shard: str = "0/1",
    *,
    seed: int = 0,
    data_seed: int = 0,
    direction_seed: int = 0,
    family: str = "batch norm",
    split: str = "train",
    grid: Any = NARROW,
    **options: Any,
) -> ls.Surface:
    model, data = network(family, seed), data_of([3, 2, 4], data_seed)
    directions = ls.directions.random(model, seed=direction_seed)
    problem = ls.Problem(model, objective, data, split=split)
    return evaluate(problem, directions, grid, shard=shard, data_shard=data_shard, **options)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "checkpoint_sha256"),
        ({"direction_seed": 1}, "directions_sha256"),
        ({"data_seed": 1}, "data_sha256"),
        ({"split": "test"}, "split"),
        ({"bn_mode": "recalibrate"}, "bn_mode"),
        ({"grid": replace(NARROW, x=(-2, 2, 7))}, r"in .*\bx\b"),
        ({"grid": replace(NARROW, y=(-0.5, 0.5, 7))}, r"in .*\by\b"),
        ({"coarse_to_fine": True}, "plan"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_parts_of_another_measurement_are_refused_by_what_differs(other, named):
    mine, yours = piece("0/2"), piece("1/2", **other)
    with pytest.raises(ValueError, match=rf"one measurement.*part 1.*{named}"):
        ls.merge([mine, yours])
    identical(ls.merge([mine, piece("1/2")]), piece())


def test_recalibrated_parts_know_their_sample():
    sample = data_of([4], seed=5)
    mine = piece("0/2", bn_mode="recalibrate", bn_sample=sample)
    yours = piece("1/2", bn_mode="recalibrate", bn_sample=data_of([4], seed=6))
    with pytest.raises(ValueError, match="bn_sample_sha256"):
        ls.merge([mine, yours])
    whole = piece(bn_mode="recalibrate", bn_sample=sample)
    identical(ls.merge([mine, piece("1/2", bn_mode="recalibrate", bn_sample=sample)]), whole)


def test_parts_of_another_precision_or_objective_are_refused():
    model, data = network("mlp").float(), [(x.float(), y) for x, y in data_of([3, 2])]
    directions = ls.directions.random(model)

    def part(shard: str, objective: Any = objective, **options: Any) -> ls.Surface:
        return evaluate(ls.Problem(model, objective, data), directions, NARROW, shard=shard, **options)

    with pytest.raises(ValueError, match="precision"):
        ls.merge([part("0/2"), part("1/2", precision="float64")])
    with pytest.raises(ValueError, match="terms"):
        ls.merge([part("0/2"), part("1/2", lambda m, b: {"ce": objective(m, b)["ce"]})])
    with pytest.raises(ValueError, match="objective"):
        ls.merge([part("0/2"), part("1/2", lambda m, b: {k: 2 * v for k, v in objective(m, b).items()})])
    with pytest.raises(ValueError, match="number of parts"):
        ls.merge([part("0/2"), part("1/3")])


def test_an_overlap_a_gap_and_missing_data_are_refused_by_name(tmp_path):
    first, second, third = (piece(f"{i}/3") for i in range(3))
    for parts, message in (
        ([first, second, second, third], r"twice\. Got \d+ of part 2 in part 1"),
        ([first, third], r"missing.*1/3"),
        ([second], r"missing.*0/3, 2/3"),
        ([], "at least one part"),
    ):
        with pytest.raises(ValueError, match=message):
            ls.merge(parts)
    halves = [piece(data_shard=f"{j}/3") for j in range(3)]
    with pytest.raises(ValueError, match=r"part of the data.*1/3"):
        ls.merge([halves[0], halves[2]])
    alone = ls.merge([halves[1]])
    assert alone.attrs["data_shard"] == "1/3"
    assert alone.values("ce").tobytes() == halves[1].values("ce").tobytes()
    with pytest.raises(ValueError, match="twice"):
        ls.merge([halves[0], halves[1], halves[1], halves[2]])
    with pytest.raises(ValueError, match="number of parts"):
        ls.merge([halves[0], piece(data_shard="1/2")])
    assert list(tmp_path.iterdir()) == []


def test_each_part_of_the_data_needs_all_of_its_cells():
    parts = [piece(f"{i}/2", f"{j}/2") for i, j in ((0, 0), (1, 0), (0, 1))]
    with pytest.raises(ValueError, match=r"missing.*1/2"):
        ls.merge(parts)
    whole = ls.merge([*parts, piece("1/2", "1/2")])
    np.testing.assert_allclose(whole.values("ce"), piece().values("ce"), rtol=1e-14)


def test_a_part_that_was_broken_off_is_named(tmp_path):
    out = tmp_path / "s.h5"
    noted(NARROW, out=out, shard="0/2")
    noted(NARROW, 12, out=out, shard="1/2")
    files = sorted(tmp_path.glob("*.h5"))
    assert [f.name for f in files] == ["s.shard-0-of-2.h5", "s.shard-1-of-2.h5"]
    with pytest.raises(ValueError, match=r"pending in .*s\.shard-1-of-2\.h5"):
        ls.merge(files, out)
    assert not out.exists()
    noted(NARROW, out=out, shard="1/2")
    identical(ls.merge(files, out), noted(NARROW)[0])
    identical(ls.load(out), noted(NARROW)[0])
    with pytest.raises(ValueError, match="given once"):
        ls.merge([*files, files[0]])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ls.merge([files[0], tmp_path / "nowhere.h5"])


@pytest.mark.parametrize("reverse", [False, True])
def test_files_give_what_surfaces_in_memory_give(reverse, tmp_path):
    out = tmp_path / "s.h5"
    for i, j in product(range(2), range(3)):
        piece(f"{i}/2", f"{j}/3", out=out)
    files = sorted(tmp_path.glob("*.h5"), reverse=reverse)
    assert len(files) == 6
    merged = ls.merge(files, out)
    identical(merged, ls.merge([piece(f"{i}/2", f"{j}/3") for i, j in product(range(2), range(3))]))
    identical(ls.load(out), merged)


def test_the_directions_are_in_the_whole_in_whatever_order_the_parts_come(tmp_path):
    parts = [piece(data_shard=f"{j}/2") for j in range(2)]
    assert ls.merge(parts[::-1], tmp_path / "s.h5").directions is not None
    assert ls.load(tmp_path / "s.h5").directions.sha256 == parts[0].attrs["directions_sha256"]


def test_the_parts_are_left_as_they_were():
    parts = [piece(f"{i}/2") for i in range(2)]
    ls.merge(parts)
    assert [part.directions.sha256 for part in parts] == [part.attrs["directions_sha256"] for part in parts]


def test_a_merged_file_is_the_finished_file_of_its_measurement(tmp_path):
    """What the parts were for: asked for again, nothing is left to do."""
    out = tmp_path / "s.h5"
    for i in range(3):
        noted(NARROW, out=out, shard=f"{i}/3")
    ls.merge(sorted(tmp_path.glob("*.h5")), out)
    surface, objective = noted(NARROW, out=out)
    assert objective.cells == []
    identical(surface, noted(NARROW)[0])


def test_parts_without_a_cell_are_parts_too(tmp_path):
    """Seven shards of a plane of three rows."""
    grid, out = ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3)), tmp_path / "s.h5"
    parts = [noted(grid, out=out, shard=f"{i}/7")[0] for i in range(7)]
    identical(ls.merge(parts), noted(grid)[0])
    identical(ls.merge(sorted(tmp_path.glob("*.h5"))), noted(grid)[0])


def test_a_part_of_the_data_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"part of the data must have a batch.*3 of 4"):
        piece(data_shard="3/4")


@pytest.mark.parametrize("part", ["2/2", "0/0", "-1/2", "1", "a/b", "1/2/3", " 0/2", ""])
@pytest.mark.parametrize("which", ["shard", "data_shard"])
def test_what_is_no_part_is_refused(part, which):
    with pytest.raises(ValueError, match="a part must be i/n"):
        piece(**{which: part})


def test_cells_that_are_not_finite_in_one_part_of_the_data_are_so_in_the_whole():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))

    model = Root()
    problem = ls.Problem(
        model,
        lambda m, b: {"log": (m.w.flatten() + b).log(), "one": b + 1},
        [torch.tensor([v]).double() for v in (0, 3)],
    )
    directions = Directions(({"w": torch.ones(1, 1).double()},), "none", "none")
    grid = ls.Grid1D(x=(-2, 2, 5))
    whole = evaluate(problem, directions, grid)
    parts = [evaluate(problem, directions, grid, data_shard=f"{j}/2") for j in range(2)]
    merged = ls.merge(parts)
    assert parts[1].status.tolist() == [1, 1, 1, 1, 1]
    assert merged.status.tolist() == whole.status.tolist() == [2, 2, 1, 1, 1]
    np.testing.assert_allclose(merged.values("log"), whole.values("log"), rtol=1e-14)
    assert np.isnan(merged.values("log")[0])
    assert merged.values("log")[1] == -np.inf
    np.testing.assert_allclose(merged.sem("log"), whole.sem("log"), rtol=1e-12)
    np.testing.assert_allclose(merged.values("one"), 2.5)
