"""Out of memory: batches are halved, and all is as it would have been with smaller ones; what is held at most."""

from __future__ import annotations

import gc
import json
import weakref
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import brute_force, fingerprint
from plain import evaluate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape.results import DONE, PENDING

pytestmark = [
    pytest.mark.filterwarnings("ignore:out of memory"),  # the warnings besides the one that a test is about
    pytest.mark.filterwarnings("ignore:.*reduce_op.*:FutureWarning"),  # of torch, when all objects are looked at
]

PLANE = ls.Grid2D(x=(-1, 1, 3), y=(0.25, 1, 2))
SIZES = (11, 11, 3)
SAID = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 79 GiB"
Pair = tuple[Tensor, Tensor]


def network(*norms: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), *norms, nn.Tanh(), nn.Linear(4, 3)).double()


def data(*sizes: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 5, generator=generator, dtype=torch.float64), torch.randint(0, 3, (n,), generator=generator))
        for n in sizes or SIZES
    ]


def cut(batches: list[Pair], size: int) -> list[Pair]:
    return [piece for x, y in batches for piece in zip(x.split(size), y.split(size), strict=True)]


def ce(model: nn.Module, batch: Pair) -> dict[str, Tensor]:
    x, y = batch
    return {"ce": F.cross_entropy(model(x), y, reduction="none")}


class Device:
    """An objective on a device with room for so many examples at a time; it notes how many came."""

    def __init__(self, room: int, objective: Any = ce, *, after: int = 0, said: str = SAID):
        self.room, self.objective, self.after, self.said = room, objective, after, said
        self.sizes: list[int] = []

    def __call__(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        n = len(batch[0])
        self.sizes.append(n)
        if n > self.room and len(self.sizes) > self.after:
            held = torch.ones(1000)  # what the frames of the error hold
            raise torch.OutOfMemoryError(*[self.said] * bool(held.sum() and self.said))
        return self.objective(model, batch)


def measure(objective: Any, batches: Any = None, model: nn.Module | None = None, **options: Any) -> ls.Surface:
    model = model or network()
    problem = ls.Problem(model, objective, data() if batches is None else batches)
    return evaluate(problem, ls.directions.random(model), options.pop("grid", PLANE), **options)


def of_pieces(surface: ls.Surface, size: int, batches: list[Pair] | None = None) -> None:
    """Every cell and the origin are, bit for bit, what a script gives on batches of that size."""
    model, pieces = network(), cut(batches or data(), size)
    axes = ls.directions.random(model).axes
    for i, y in enumerate(PLANE.ys):
        for k, x in enumerate(PLANE.xs):
            mean, sem = brute_force(model, ce, pieces, axes, (x, y))["ce"]
            assert surface.values("ce")[i, k] == mean
            assert surface.sem("ce")[i, k] == pytest.approx(sem, rel=1e-9)
    assert surface.origin["ce"][0] == brute_force(model, ce, pieces)["ce"][0]
    assert (surface.status == DONE).all()


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize(("room", "limits"), [(6, [6]), (5, [6, 3]), (3, [6, 3]), (2, [6, 3, 2]), (1, [6, 3, 2, 1])])
def test_batches_are_halved_until_they_fit(room, limits, place, tmp_path):
    device = Device(room)
    with pytest.warns(UserWarning, match="out of memory") as warned:
        surface = measure(device, **({"out": tmp_path / "s.h5"} if place == "file" else {}))
    said = [str(w.message) for w in warned]
    assert len(said) == len(limits)
    for text, limit in zip(said, limits, strict=True):
        assert f"at most {limit} examples" in text
        assert "Tried to allocate 2.00 GiB." in text
        assert "total capacity" not in text, "the first line is enough"
    of_pieces(surface, limits[-1])
    assert surface.attrs["plan"]["max_batch"] == limits[-1]
    assert surface.attrs["n_examples"] == sum(SIZES)
    if place == "file":
        assert ls.load(tmp_path / "s.h5").attrs["plan"]["max_batch"] == limits[-1]
        of_pieces(ls.load(tmp_path / "s.h5"), limits[-1])
    assert measure(ce).attrs["plan"]["max_batch"] == 0


def test_with_room_enough_nothing_is_split():
    device = Device(11)
    of_pieces(measure(device), 11)
    assert set(device.sizes) == {11, 3}


def test_the_data_have_the_same_digest_however_they_are_split():
    with pytest.warns(UserWarning, match="out of memory"):
        surface = measure(Device(4))
    assert surface.attrs["data_sha256"] == measure(ce).attrs["data_sha256"]


@pytest.mark.parametrize("after", [4, 8, 12, 20])
def test_it_may_come_in_the_middle_and_the_file_is_begun_anew(after, tmp_path):
    """Other programs take memory too: cells of the old plan have other last bits, and are put aside."""
    with pytest.warns(UserWarning, match=r"at most 6 examples at a time, from the start") as warned:
        surface = measure(Device(6, after=after), out=tmp_path / "s.h5")
    of_pieces(surface, 6)
    of_pieces(ls.load(tmp_path / "s.h5"), 6)
    kept = tmp_path / "s.h5.batches-as-given"
    assert {p.name for p in tmp_path.iterdir()} <= {"s.h5", kept.name}
    assert kept.exists() == (after >= 8), "once there is a file"
    if kept.exists():
        assert "kept in" in str(warned[0].message)
        known = ls.load(kept).status == DONE
        np.testing.assert_allclose(ls.load(kept).values("ce")[known], surface.values("ce")[known], rtol=1e-12)


def test_a_call_that_goes_on_obeys_the_file(tmp_path):
    def stopping(model: nn.Module, batch: Pair) -> dict[str, Tensor]:
        if len(device.sizes) == 40:
            raise KeyboardInterrupt
        return ce(model, batch)

    device = Device(4, stopping)
    with pytest.warns(UserWarning, match="at most 3"), pytest.raises(KeyboardInterrupt):
        measure(device, out=tmp_path / "s.h5")
    stored = ls.load(tmp_path / "s.h5")
    assert stored.attrs["plan"]["max_batch"] == 3
    assert 0 < (stored.status == DONE).sum() < 6
    roomy = Device(1000)
    of_pieces(measure(roomy, out=tmp_path / "s.h5"), 3)
    assert max(roomy.sizes) == 3, "although there is room for more"
    again = Device(1000)
    of_pieces(measure(again, out=tmp_path / "s.h5"), 3)
    assert again.sizes == [3], "a finished file costs one piece of a batch"


def test_a_surface_on_a_wider_grid_obeys_what_it_reuses():
    with pytest.warns(UserWarning, match="at most 3"):
        old = measure(Device(4), grid=ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3)))
    roomy = Device(1000)
    wider = measure(roomy, grid=ls.Grid2D(x=(-2, 2, 5), y=(-1, 1, 3)), reuse=old)
    assert max(roomy.sizes) == 3
    with pytest.warns(UserWarning, match="at most 3"):
        fresh = measure(Device(4), grid=ls.Grid2D(x=(-2, 2, 5), y=(-1, 1, 3)))
    np.testing.assert_array_equal(wider.values("ce"), fresh.values("ce"))


def test_memory_that_runs_out_beside_a_reused_surface_is_no_other_measurement():
    """The cells that are there were computed on whole batches: they are kept or measured anew, but it goes on."""
    old = measure(ce, grid=ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3)))
    grid = ls.Grid2D(x=(-2, 2, 5), y=(-1, 1, 3))
    with pytest.warns(UserWarning, match="at most 6"):
        found = measure(Device(6), grid=grid, reuse=old)
    np.testing.assert_allclose(found.values("ce"), measure(ce, grid=grid).values("ce"), rtol=1e-12)


def test_a_single_example_that_does_not_fit_is_the_end_with_advice(tmp_path):
    device = Device(0)
    with (
        pytest.warns(UserWarning, match="at most 1 examples"),
        pytest.raises(RuntimeError, match="one example") as caught,
    ):
        measure(device, out=tmp_path / "s.h5")
    assert "precision" in str(caught.value), "what to do"
    assert min(device.sizes) == 1
    assert list(tmp_path.iterdir()) == []


def interrupting(call: int) -> Device:
    """With room for everything, broken off at a call."""

    def stopping(model: nn.Module, batch: Pair) -> dict[str, Tensor]:
        if len(device.sizes) == call:
            raise KeyboardInterrupt
        return ce(model, batch)

    device = Device(1000, stopping)
    return device


def test_the_file_that_was_there_survives_an_end_for_want_of_memory(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure(interrupting(17), out=tmp_path / "s.h5")
    before = ls.load(tmp_path / "s.h5")
    assert 0 < (before.status == DONE).sum() < 6
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(RuntimeError, match="one example"):
        measure(Device(0), out=tmp_path / "s.h5")
    np.testing.assert_array_equal(ls.load(tmp_path / "s.h5").values("ce"), before.values("ce"))


@pytest.mark.parametrize("call", [1, 8])
def test_the_users_network_is_as_it_was(call):
    model = network(nn.BatchNorm1d(4))
    model[0].weight.grad = torch.ones(4, 5).double()
    before = fingerprint(model)
    with pytest.warns(UserWarning, match="out of memory"):
        measure(Device(4, after=call), model=model)
    assert fingerprint(model) == before


def test_an_error_without_a_word_is_handled_too():
    with pytest.warns(UserWarning, match="at most 6"):
        of_pieces(measure(Device(6, said="")), 6)


def test_another_error_is_not_taken_for_it():
    def failing(model: nn.Module, batch: Pair) -> dict[str, Tensor]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        measure(failing)


# What a batch may hold


@pytest.mark.parametrize("shape", ["tuple", "dict", "named", "nested"])
def test_all_tensors_of_a_batch_are_cut_alike_and_what_is_one_for_the_batch_is_not(shape):
    pair = namedtuple("pair", "x y")
    scale = torch.tensor(2.0, dtype=torch.float64)
    wrap, parts = {
        "tuple": (lambda x, y: (x, y, 0.5, scale, None), lambda b: (b[0], b[1])),
        "dict": (lambda x, y: {"x": x, "y": y, "name": "a"}, lambda b: (b["x"], b["y"])),
        "named": (pair, lambda b: (b.x, b.y)),
        "nested": (lambda x, y: {"in": [x, {"also": (x,)}], "out": y}, lambda b: (b["in"][1]["also"][0], b["out"])),
    }[shape]
    device = Device(4)
    with pytest.warns(UserWarning, match="at most 3"):
        surface = measure(lambda m, b: device(m, parts(b)), [wrap(x, y) for x, y in data()])
    of_pieces(surface, 3)


def test_a_tensor_of_another_length_is_whole_in_every_piece_or_refused():
    """Weights of the classes are no examples."""
    classes, seen = torch.ones(13), set()

    def weighted(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        seen.add(len(batch[2]))
        return device(model, batch[:2])

    device = Device(4)
    try:
        with pytest.warns(UserWarning, match="out of memory"):
            of_pieces(measure(weighted, [(x, y, classes) for x, y in data()]), 3)
    except (ValueError, RuntimeError) as error:
        assert "make the loader's batches smaller" in str(error)  # noqa: PT017
    assert seen == {13}


class Graph:
    """Moves itself to a device, and nobody knows how to cut it."""

    def __init__(self, x: Tensor):
        self.x = x

    def to(self, *args: Any) -> Graph:
        return Graph(self.x.to(*args))


def test_a_batch_with_an_object_that_cannot_be_cut_is_refused_with_advice(tmp_path):
    device = Device(4)
    batches = [(x, y, Graph(x)) for x, y in data()]
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(ValueError, match=r"split.*Got Graph: make the loader's batches smaller"),
    ):
        measure(lambda m, b: device(m, b[:2]), batches, out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_is_such_an_object_is_refused_with_advice():
    device = Device(4)
    with pytest.raises((ValueError, RuntimeError), match="make the loader's batches smaller"):
        measure(
            lambda m, b: {"a": device(m, (m(b.x), torch.zeros(len(b.x))))["a"]},
            [Graph(x) for x, _ in data()],
        )


def test_lists_of_tensors_of_each_example_are_cut_between_the_examples_or_refused():
    """A detector's batch: a list of images. Cut inside of each, they would be other images."""
    images = [[torch.randn(4, 6, 5, dtype=torch.float64) for _ in range(n)] for n in (6, 6, 3)]

    def of_image(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
        return {"a": torch.stack([model(image).square().mean() for image in batch])}

    try:
        with pytest.warns(UserWarning, match="out of memory"):
            surface = measure(_RoomFor(3, of_image), images)
    except (ValueError, RuntimeError) as error:
        assert "make the loader's batches smaller" in str(error)  # noqa: PT017
        return
    whole = measure(of_image, images)
    assert surface.attrs["n_examples"] == whole.attrs["n_examples"]
    np.testing.assert_allclose(surface.values("a"), whole.values("a"), rtol=1e-12)


class _RoomFor:
    """Out of memory for lists of more images, or of larger ones."""

    def __init__(self, room: int, objective: Any):
        self.room, self.objective = room, objective

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
        if len(batch) * len(batch[0]) > self.room * 4:
            raise torch.OutOfMemoryError(SAID)
        return self.objective(model, batch)


def test_lists_of_something_for_each_example_are_cut_too_or_refused():
    """Names beside images: without the cut, the wrong ones."""
    batches = [(x, y, [f"{b}-{i}" for i in range(len(x))]) for b, (x, y) in enumerate(data(8, 8, 3))]
    device = Device(4)

    def named(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        x, y, names = batch
        place = torch.tensor([float(name.split("-")[1]) for name in names], dtype=torch.float64)[: len(x)]
        return {"ce": device(model, (x, y))["ce"], "place": place}

    try:
        with pytest.warns(UserWarning, match="out of memory"):
            surface = measure(named, batches)
    except (ValueError, RuntimeError) as error:
        assert "make the loader's batches smaller" in str(error)  # noqa: PT017
        return
    assert surface.origin["place"][0] == (28 + 28 + 3) / 19


def test_packed_sequences_are_not_cut_through():
    """Their data are sorted by time: rows of them are no examples."""
    packed = nn.utils.rnn.pack_sequence([torch.randn(n, 5, dtype=torch.float64) for n in (4, 3, 2, 2)])
    model = nn.GRU(5, 4).double()

    def last(m: nn.Module, batch: Any) -> dict[str, Tensor]:
        if len(batch.data) > 6:
            raise torch.OutOfMemoryError(SAID)
        return {"a": m(batch)[1][0].square().mean(1)}

    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(ValueError, match="batches smaller"):
        measure(last, [packed, packed], model=model)


# Statistics, parts and shards


def test_the_sample_of_batch_norms_counts_too():
    """Its batches may be larger than those that are measured."""
    model, sample = network(nn.BatchNorm1d(4)), data(16, 16)
    device = Device(12)
    with pytest.warns(UserWarning, match="at most 8"):
        surface = measure(device, model=model, bn_mode="recalibrate", bn_sample=sample)
    fresh = measure(ce, cut(data(), 8), model=model, bn_mode="recalibrate", bn_sample=cut(sample, 8))
    np.testing.assert_array_equal(surface.values("ce"), fresh.values("ce"))


def test_shards_take_over_the_smaller_plan_and_begin_anew(tmp_path):
    out = tmp_path / "s.h5"
    first = measure(ce, out=out, shard="0/2")
    assert first.attrs["plan"]["max_batch"] == 0
    (plan,) = tmp_path.glob("*.json")
    assert json.loads(plan.read_text())["max_batch"] == 0
    with pytest.warns(UserWarning, match="at most 6"):
        second = measure(Device(6), out=out, shard="1/2")
    assert json.loads(plan.read_text())["max_batch"] == second.attrs["plan"]["max_batch"] == 6
    with pytest.raises(ValueError, match=r"differs.*plan.*older plan"):
        ls.merge(sorted(tmp_path.glob("*.h5")), out)
    roomy = Device(1000)
    again = measure(roomy, out=out, shard="0/2")
    assert max(roomy.sizes) == 6
    assert roomy.sizes.count(6) > 4, "it was finished, and is measured anew"
    assert (again.status == first.status).all()
    of_pieces(ls.merge(sorted(tmp_path.glob("*.h5")), out), 6)
    of_pieces(ls.load(out), 6)
    idle = Device(1000)
    measure(idle, out=out, shard="1/2")
    assert idle.sizes == [6], "that one has the new plan already"


def test_a_shard_that_comes_later_begins_with_the_smaller_plan(tmp_path):
    with pytest.warns(UserWarning, match="at most 6"):
        measure(Device(6), out=tmp_path / "s.h5", shard="0/3")
    roomy = Device(1000)
    surface = measure(roomy, out=tmp_path / "s.h5", shard="2/3")
    assert max(roomy.sizes) == 6
    assert surface.attrs["plan"]["max_batch"] == 6


def test_a_shard_in_the_middle_begins_anew_too(tmp_path):
    out = tmp_path / "s.h5"
    with pytest.raises(KeyboardInterrupt):
        measure(interrupting(14), out=out, shard="0/2")
    assert 0 < (ls.load(tmp_path / "s.shard-0-of-2.h5").status != PENDING).sum() < 3
    with pytest.warns(UserWarning, match="at most 6"):
        measure(Device(6), out=out, shard="1/2")
    measure(ce, out=out, shard="0/2")
    of_pieces(ls.merge(sorted(tmp_path.glob("*.h5"))), 6)


def test_a_smaller_plan_is_not_made_larger_by_a_shard_that_runs_out_later(tmp_path):
    """One machine has room for 3, another for 6: in the end all use 3."""
    out = tmp_path / "s.h5"
    with pytest.warns(UserWarning, match="at most 6"):
        measure(Device(6), out=out, shard="0/2")
    with pytest.warns(UserWarning, match="at most 3"):
        measure(Device(3), out=out, shard="1/2")
    measure(Device(6), out=out, shard="0/2")
    of_pieces(ls.merge(sorted(tmp_path.glob("*.h5"))), 3)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_the_data_share_the_plan_too(parts, tmp_path):
    out = tmp_path / "s.h5"
    with pytest.warns(UserWarning, match="at most 6"):
        measure(Device(6), out=out, data_shard=f"0/{parts}")
    for j in range(1, parts):
        measure(ce, out=out, data_shard=f"{j}/{parts}")
    merged = ls.merge(sorted(tmp_path.glob("*.h5")))
    np.testing.assert_allclose(merged.values("ce"), measure(ce).values("ce"), rtol=1e-14)
    np.testing.assert_allclose(merged.sem("ce"), measure(ce).sem("ce"), rtol=1e-9)


# What is held


def storages(tensors: Any, least: int) -> dict[int, int]:
    """Bytes of each storage of at least so many, by its address."""
    found = {}
    for t in tensors:
        if isinstance(t, Tensor) and t.device.type != "meta" and t.untyped_storage().nbytes() >= least:
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
    return found


class Watching(TorchDispatchMode):
    """The most bytes in large tensors at any time, of those that operations made and still live."""

    def __init__(self, least: int, known: dict[int, int]):
        super().__init__()
        self.least, self.known, self.peak = least, known, 0
        self.live: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else [result]
        self.live += [weakref.ref(t) for t in made if storages([t], self.least)]
        self.live = [ref for ref in self.live if ref() is not None]
        held = storages([ref() for ref in self.live], self.least)
        self.peak = max(self.peak, sum(n for at, n in held.items() if at not in self.known))
        return result


SIDE = 512


def wide(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(SIDE, SIDE, bias=False), nn.BatchNorm1d(SIDE), nn.Linear(SIDE, 1)).to(dtype)


@pytest.mark.parametrize("bn_mode", ["eval", "recalibrate"])
@pytest.mark.parametrize("kind", ["random", "interpolation"])
def test_no_more_than_a_copy_of_the_weights_is_held_besides_the_users_and_the_directions(kind, bn_mode):
    model = wide()
    if kind == "random":
        directions, grid = ls.directions.random(model, n=2), PLANE
    else:
        directions, grid = ls.directions.interpolation(model, wide()), ls.Grid1D(x=(0, 1, 3))
    weights = SIDE * SIDE * 4
    gc.collect()
    known = storages(gc.get_objects(), weights)
    counts = []

    def counting(m: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        counts.append(sum(n for at, n in storages(gc.get_objects(), weights).items() if at not in known))
        return {"a": m(batch)[:, 0]}

    with Watching(weights, known) as watching:
        evaluate(ls.Problem(model, counting, [torch.randn(4, SIDE)]), directions, grid, bn_mode=bn_mode)
    assert set(counts) == {weights}, "the copy, in every cell"
    assert watching.peak == weights, "nor anything in between"


def test_the_watch_sees_what_is_made():
    """It would count a second copy, and a direction that is converted."""
    a, weights = torch.ones(SIDE, SIDE), SIDE * SIDE * 4
    with Watching(weights, storages([a], weights)) as watching:
        b = a.clone()
        _ = (b.double(), a.add_(1), a.view(-1))
    assert watching.peak == weights + 2 * weights
    with Watching(weights, storages([a], weights)) as watching:
        for _ in range(3):
            b = a * 2
            del b
    assert watching.peak == weights


def test_after_the_call_nothing_is_held():
    model = wide()
    directions = ls.directions.random(model, n=1)
    problem = ls.Problem(model, lambda m, b: {"a": m(b)[:, 0]}, [torch.randn(4, SIDE)])
    gc.collect()
    known = storages(gc.get_objects(), SIDE * SIDE)
    surface = evaluate(problem, directions, ls.Grid1D(x=(-1, 1, 3)))
    gc.collect()
    assert storages(gc.get_objects(), SIDE * SIDE).keys() == known.keys()
    assert surface.directions is directions
