"""Surfaces from samples of the examples: against every example, whole and broken off, alone and shared."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain import evaluate as plainly
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape import describing, store, wholeness
from landscape.results import DONE, NOT_FINITE
from landscape.sample_log import log_path

PLANE = ls.Grid2D(x=(-1, 1, 9), y=(-1, 1, 9))
GOAL = {"rel_error": 0.03, "abs_error": {"ce": 0.01, "error": 0.02}}


def objective(model, batch):
    x, y = batch
    logits = model(x)
    return {"ce": F.cross_entropy(logits, y, reduction="none"), "error": (logits.argmax(1) != y).float()}


@pytest.fixture(scope="module")
def problem() -> ls.Problem:
    """A small trained network and 3,594 images: digits, and digits with noise."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    x = torch.cat([x, x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))])
    y = y.repeat(2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for batch in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return ls.Problem(net, objective, list(zip(x.split(500), y.split(500), strict=True)))


@pytest.fixture(scope="module")
def plane(problem):
    return ls.directions.random(problem.model, n=2, seed=0)


@pytest.fixture(scope="module")
def truth(problem, plane) -> ls.Surface:
    return plainly(problem, plane, PLANE)


def bits(surface: ls.Surface) -> dict[str, bytes]:
    assert surface.sampled is not None
    arrays = surface.sampled.arrays | {"mean": surface.means, "sem": surface.sems}
    found = {f"{key} {term}": a.tobytes() for key, of in arrays.items() for term, a in of.items()}
    return found | {"status": surface.status.tobytes(), "n": surface.sampled.n_examples.tobytes()}


def holds(found: ls.Surface, truth: ls.Surface, **goal) -> None:
    """Errors as asked for, and the truth in the intervals as often as they say, or nearly."""
    for term in found.terms:
        floor = goal.get("abs_error") or 0.0
        floor = floor[term] if isinstance(floor, dict) else floor
        wanted = np.maximum((goal.get("rel_error") or 0.0) * abs(found.values(term)), floor)
        sem, half = found.sampled.sampling_sem[term], found.sampled.half[term]
        assert (sem <= wanted * (1 + 1e-9)).all()
        off = abs(found.values(term) - truth.values(term))
        exact = sem == 0
        assert off[exact] == pytest.approx(0, abs=1e-4)
        assert (off <= 4 * wanted + 1e-4).all()
        if (~exact).sum() > 50:
            assert (off <= half)[~exact].mean() > 0.85


def test_each_cell_has_the_error_that_was_asked_for(problem, plane, truth):
    found = ls.evaluate(problem, plane, PLANE, **GOAL)
    n = len(load_digits().target) * 2
    assert found.attrs["n_examples"] == n
    assert found.attrs["goal"] == GOAL
    assert (found.status == DONE).all()
    counts = found.sampled.n_examples
    assert counts[4, 4] == n, "the origin is known for all"
    assert found.attrs["evaluated"] == counts.sum() < 0.9 * n * 81
    holds(found, truth, **GOAL)
    for term in found.terms:
        assert ((found.sampled.sampling_sem[term] == 0) == (counts == n)).all()
        assert found.sem(term)[counts == n] == pytest.approx(truth.sem(term)[counts == n], rel=1e-3, abs=1e-6)
        assert found.sem(term) == pytest.approx(
            np.hypot(truth.sem(term), found.sampled.sampling_sem[term]), rel=0.25, abs=2e-3
        )
        assert found.sampled.sem_diff[term][4, 4] == 0


def test_the_difference_from_the_origin_has_a_smaller_error_near_it(problem, plane):
    line = ls.Grid1D(x=(-0.1, 0.1, 5))
    found = ls.evaluate(problem, ls.directions.random(problem.model, n=1, seed=0), line, abs_error=0.003)
    assert found.sampled.n_examples[3] < 3594
    x, y = (torch.cat(part) for part in zip(*problem.batches, strict=True))
    moved = ls.directions.random(problem.model, n=1, seed=0).axes[0]
    losses = []
    for point in (0.0, 0.05):
        state = {k: v + point * moved.get(k, 0) for k, v in problem.model.state_dict().items() if v.is_floating_point()}
        twin = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10)).eval()
        twin.load_state_dict(state, strict=False)
        with torch.no_grad():
            losses.append(objective(twin, (x, y))["ce"].numpy())
    expected = (losses[1] - losses[0]).std(ddof=1) / np.sqrt(len(x))
    assert np.sqrt(found.sampled.sem_diff["ce"][3] ** 2 - found.sampled.sampling_sem["ce"][3] ** 2) == pytest.approx(
        expected, rel=0.2
    )
    assert found.sampled.sem_diff["ce"][3] < found.sem("ce")[3]


def test_lines_and_bundles_of_lines_alike(problem):
    directions = ls.directions.random(problem.model, n=2, seed=0)
    line = ls.Grid1D(x=(-1, 1, 11))
    bundle, full = ls.evaluate(problem, directions, line, **GOAL), plainly(problem, directions, line)
    single = ls.evaluate(problem, ls.directions.random(problem.model, n=1, seed=0), line, **GOAL)
    assert bundle.status.shape == (2, 11)
    assert bits(single)["mean ce"] == bundle.values("ce")[0].tobytes()
    holds(bundle, full, **GOAL)


def test_an_origin_beside_the_grid_is_no_cell(problem):
    directions = ls.directions.random(problem.model, n=1, seed=0)
    found = ls.evaluate(problem, directions, ls.Grid1D(x=(0.1, 1, 8)), **GOAL)
    full = plainly(problem, directions, ls.Grid1D(x=(0.1, 1, 8)))
    assert found.origin["ce"][0] == pytest.approx(full.origin["ce"][0], rel=1e-5)
    holds(found, full, **GOAL)


def test_the_order_of_evaluation_and_the_file_make_no_difference(problem, plane, tmp_path):
    first = ls.evaluate(problem, plane, PLANE, **GOAL)
    second = ls.evaluate(problem, plane, PLANE, out=tmp_path / "s.h5", coarse_to_fine=True, **GOAL)
    assert bits(first) == bits(second) == bits(ls.load(tmp_path / "s.h5"))
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    before = (tmp_path / "s.h5").read_bytes()
    third = ls.evaluate(problem, plane, PLANE, out=tmp_path / "s.h5", rel_error=0.05, abs_error=None)
    assert third.attrs["goal"] != GOAL  # a mapping is not compared with a number: refined
    assert (tmp_path / "s.h5").read_bytes() != before


def test_a_finished_file_is_enough_for_a_larger_error(problem, plane, tmp_path):
    out = tmp_path / "s.h5"
    first = ls.evaluate(problem, plane, PLANE, out=out, rel_error=0.2)
    before = out.read_bytes()
    assert bits(ls.evaluate(problem, plane, PLANE, out=out, rel_error=0.3)) == bits(first)
    assert out.read_bytes() == before


class Counting:
    """An objective that breaks off at one of its calls."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.calls, self.examples = last, 0, 0

    def __call__(self, model, batch):
        self.calls += 1
        self.examples += len(batch[0])
        if self.last is not None and self.calls > self.last:
            raise KeyboardInterrupt
        return objective(model, batch)


def test_a_run_that_was_broken_off_anywhere_ends_the_same_and_repeats_nothing(problem, plane, tmp_path):
    whole = Counting()
    first = ls.evaluate(ls.Problem(problem.model, whole, problem.batches), plane, PLANE, **GOAL)
    start = Counting()
    small = ls.Grid2D((-1, 1, 3), (-1, 1, 3))
    ls.evaluate(ls.Problem(problem.model, start, problem.batches), plane, small, rel_error=9)
    for share in (0.3, 0.6, 0.95):
        out = tmp_path / f"{share}.h5"
        cut = Counting(int(whole.calls * share))
        with pytest.raises(KeyboardInterrupt):
            ls.evaluate(ls.Problem(problem.model, cut, problem.batches), plane, PLANE, out=out, **GOAL)
        there = ls.load(out)
        done = there.status == DONE
        assert (there.values("ce")[done] == first.values("ce")[done]).all()
        rest = Counting()
        again = ls.evaluate(ls.Problem(problem.model, rest, problem.batches), plane, PLANE, out=out, **GOAL)
        assert bits(again) == bits(first)
        assert rest.calls + cut.calls < whole.calls + start.calls, "what was measured is not measured again"
        assert not log_path(out).exists()


def test_less_error_refines_the_same_file(problem, plane, truth, tmp_path):
    out, counted = tmp_path / "s.h5", Counting()
    measured = ls.Problem(problem.model, counted, problem.batches)
    rough = ls.evaluate(measured, plane, PLANE, out=out, rel_error=0.15, abs_error=0.05)
    counted.examples = 0
    fine = ls.evaluate(measured, plane, PLANE, out=out, rel_error=0.04, abs_error=0.02)
    assert counted.examples < fine.attrs["evaluated"] - rough.attrs["evaluated"] + 15 * 3594, "but for the start"
    assert (fine.sampled.n_examples >= rough.sampled.n_examples).all()
    holds(fine, truth, rel_error=0.04, abs_error=0.02)


def test_a_wider_and_denser_grid_refines_the_same_file(problem, plane, tmp_path):
    out, wide = tmp_path / "s.h5", ls.Grid2D(x=(-2, 2, 17), y=(-1, 1, 17))
    first = ls.evaluate(problem, plane, PLANE, out=out, rel_error=0.1, abs_error=0.05)
    found = ls.evaluate(problem, plane, wide, out=out, rel_error=0.1, abs_error=0.05)
    assert (found.sampled.n_examples[::2, 4:13] >= first.sampled.n_examples).all()
    holds(found, plainly(problem, plane, wide), rel_error=0.1, abs_error=0.05)


def test_a_refinement_that_is_broken_off_goes_on(problem, plane, tmp_path):
    rough, fine = {"rel_error": 0.15, "abs_error": 0.05}, {"rel_error": 0.05, "abs_error": 0.02}
    ls.evaluate(problem, plane, PLANE, out=tmp_path / "a.h5", **rough)
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    whole = Counting()
    counted = ls.Problem(problem.model, whole, problem.batches)
    expected = ls.evaluate(counted, plane, PLANE, out=tmp_path / "a.h5", **fine)
    cut = ls.Problem(problem.model, Counting(int(whole.calls * 0.8)), problem.batches)
    with pytest.raises(KeyboardInterrupt):
        ls.evaluate(cut, plane, PLANE, out=tmp_path / "b.h5", **fine)
    assert bits(ls.evaluate(problem, plane, PLANE, out=tmp_path / "b.h5", **fine)) == bits(expected)


def test_samples_that_are_not_kept_cannot_be_refined(problem, plane, tmp_path):
    out = tmp_path / "s.h5"
    ls.evaluate(problem, plane, PLANE, out=tmp_path / "kept.h5", rel_error=0.3)
    ls.evaluate(problem, plane, PLANE, out=out, rel_error=0.3, keep_samples=False)
    assert out.stat().st_size < (tmp_path / "kept.h5").stat().st_size
    assert store.load_samples(out) == {}
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"must have its samples, to be refined. Got one without"):
        ls.evaluate(problem, plane, PLANE, out=out, rel_error=0.1)
    assert out.read_bytes() == before


# Parts


def test_shards_equal_one_process_whether_they_run_after_or_beside_each_other(problem, plane, tmp_path):
    whole = ls.evaluate(problem, plane, PLANE, **GOAL)
    out = tmp_path / "after.h5"
    for i in range(3):
        ls.evaluate(problem, plane, PLANE, out=out, shard=f"{i}/3", **GOAL)
    paths = [tmp_path / f"after.shard-{i}-of-3.h5" for i in range(3)]
    merged = ls.merge(paths, tmp_path / "after.h5")
    assert bits(merged) == bits(whole)
    refined = ls.evaluate(problem, plane, PLANE, out=tmp_path / "after.h5", rel_error=0.02, abs_error=0.01)
    assert (refined.sampled.n_examples >= merged.sampled.n_examples).all()


def _shard(problem, plane, out, i, count):
    torch.set_num_threads(1)
    counted = Counting()
    measured = ls.Problem(problem.model, counted, problem.batches)
    ls.evaluate(measured, plane, PLANE, out=out, shard=f"{i}/{count}", plain=True, **GOAL)
    out.with_name(f"calls-{i}").write_text(str(counted.examples))


def test_shards_that_run_together_share_the_anchors(problem, plane, tmp_path):
    torch.set_num_threads(1)
    alone = Counting()
    whole = ls.evaluate(ls.Problem(problem.model, alone, problem.batches), plane, PLANE, plain=True, **GOAL)
    context = multiprocessing.get_context("fork")
    out = tmp_path / "s.h5"
    running = [context.Process(target=_shard, args=(problem, plane, out, i, 2)) for i in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    merged = ls.merge([tmp_path / f"s.shard-{i}-of-2.h5" for i in range(2)])
    assert bits(merged) == bits(whole)
    start = 6 * 3594  # what every process evaluates at its start, at most
    each = [int((tmp_path / f"calls-{i}").read_text()) for i in range(2)]
    assert max(each) < 0.75 * alone.examples + start


def _to_its_end(problem, plane, out):
    def slow(model, batch):
        time.sleep(0.002)
        return objective(model, batch)

    ls.evaluate(ls.Problem(problem.model, slow, problem.batches), plane, PLANE, out=out, **GOAL)


def test_a_killed_process_loses_nothing_that_was_measured(problem, plane, tmp_path):
    torch.set_num_threads(1)
    out = tmp_path / "s.h5"
    expected = ls.evaluate(problem, plane, PLANE, **GOAL)
    context = multiprocessing.get_context("fork")
    for kill in range(3):
        process = context.Process(target=_to_its_end, args=(problem, plane, out))
        process.start()
        known = log_path(out).stat().st_size if log_path(out).exists() else 0
        deadline = time.monotonic() + 60
        while not (log_path(out).exists() and log_path(out).stat().st_size > known + 1000 * (kill + 1)):
            assert time.monotonic() < deadline
            assert process.is_alive()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        ls.load(out)
    assert bits(ls.evaluate(problem, plane, PLANE, out=out, **GOAL)) == bits(expected)


# Terms and data of other kinds


def test_tokens_are_averaged_over_tokens():
    torch.manual_seed(0)
    ids, net = torch.randint(0, 9, (800, 6)), nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))

    def tokens(model, batch):
        losses = F.cross_entropy(model(batch)[:, :-1].transpose(1, 2), batch[:, 1:], reduction="none")
        return {"token": ls.PerToken(losses, batch[:, 1:] > 2)}

    measured = ls.Problem(net, tokens, list(ids.split(64)))
    directions = ls.directions.random(net, n=1, seed=0)
    found = ls.evaluate(measured, directions, ls.Grid1D((-1, 1, 9)), rel_error=0.02)
    full = plainly(measured, directions, ls.Grid1D((-1, 1, 9)))
    holds(found, full, rel_error=0.02)
    everywhere = found.sampled.n_examples == 800
    assert found.values("token")[everywhere] == pytest.approx(full.values("token")[everywhere], rel=1e-5)


def test_a_cell_that_is_not_finite_is_a_result(problem):
    directions = ls.directions.random(problem.model, n=1, seed=0)

    def broken(model, batch):
        found = objective(model, batch)
        far = model[3].weight.abs().max() > 1.2 * problem.model[3].weight.abs().max()
        return {"ce": found["ce"] + (torch.inf if far else 0.0)}

    measured = ls.Problem(problem.model, broken, problem.batches)
    found = ls.evaluate(measured, directions, ls.Grid1D((-3, 3, 9)), rel_error=0.1)
    expected = plainly(measured, directions, ls.Grid1D((-3, 3, 9)))
    assert (expected.status == NOT_FINITE).any()
    assert (found.status == expected.status).all()


def test_a_data_set_behind_a_loader_is_read_once_and_sampled(problem):
    x, y = (torch.cat(part) for part in zip(*problem.batches, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True, generator=torch.Generator().manual_seed(3))
    directions = ls.directions.random(problem.model, n=1, seed=0)
    measured = ls.Problem(problem.model, objective, loader)
    found = ls.evaluate(measured, directions, ls.Grid1D((-1, 1, 9)), **GOAL)
    full = plainly(measured, directions, ls.Grid1D((-1, 1, 9)))
    holds(found, full, **GOAL)


# What is refused


def test_what_does_not_go_with_samples_is_refused(problem, plane, tmp_path, monkeypatch):
    out = tmp_path / "s.h5"
    for options, said in [
        ({"rel_error": -1}, "expected a positive rel_error"),
        ({"rel_error": float("nan")}, "expected a positive rel_error"),
        ({"abs_error": {"eror": 0.1}}, "abs_error must name terms of the objective: ce, error. Got eror"),
        ({"rel_error": 0.1, "data_shard": "0/2"}, "choose the examples themselves. Got reuse or data_shard"),
        ({"rel_error": 0.1, "reuse": plainly(problem, plane, PLANE)}, "choose the examples themselves"),
    ]:
        with pytest.raises(ValueError, match=said):
            ls.evaluate(problem, plane, PLANE, out=out, **options)
    with pytest.raises(ValueError, match=r"for planes, lines and bundles of lines. Got a Path"):
        ls.evaluate(problem, plane, ls.Path([0, 1], [(0, 0), (1, 1)]), rel_error=0.1)
    ls.evaluate(problem, plane, ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=out)
    with pytest.raises(ValueError, match=r"holds a full surface. Got a call for a sampled one: write to another file"):
        ls.evaluate(problem, plane, ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=out, rel_error=0.1)
    monkeypatch.setattr("landscape.examples.free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="must fit into a quarter of the free memory, to be chosen one by one"):
        ls.evaluate(problem, plane, PLANE, rel_error=0.1)


def test_examples_of_several_lengths_are_refused_with_what_to_do():
    net = nn.Embedding(9, 3)
    batches = [torch.randint(0, 9, (4, length)) for length in (3, 5)]
    measured = ls.Problem(net, lambda m, b: {"size": m(b).square().sum((1, 2))}, batches)
    with pytest.raises(ValueError, match=r"must be alike, to be chosen one by one.*pad them to one length"):
        ls.evaluate(measured, ls.directions.random(net, n=1), ls.Grid1D((-1, 1, 3)), rel_error=0.1)


def test_other_terms_at_a_cell_are_refused_by_name(problem, plane):
    def coming_and_going(model, batch):
        found = objective(model, batch)
        return found if torch.equal(model[0].weight, problem.model[0].weight) else {"ce": found["ce"]}

    measured = ls.Problem(problem.model, coming_and_going, problem.batches)
    with pytest.raises(ValueError, match=r"the same terms everywhere: ce, error. Got ce at|same terms"):
        ls.evaluate(measured, plane, PLANE, plain=True, rel_error=0.1)


# Files


def test_a_sampled_surface_comes_back_as_it_was(problem, plane, tmp_path):
    found = ls.evaluate(problem, plane, PLANE, out=tmp_path / "s.h5", **GOAL)
    again = ls.load(tmp_path / "s.h5")
    assert bits(again) == bits(found)
    assert again.attrs["goal"] == GOAL
    assert found.values("ce")[4, 4] == found.origin["ce"][0]
    assert not wholeness.faults(tmp_path / "s.h5")
    said = describing.describe(tmp_path / "s.h5")
    assert json.dumps(said)
    samples = store.load_samples(tmp_path / "s.h5")
    assert samples["0/values"].shape == (2, found.attrs["evaluated"])


def test_groups_of_a_sampled_surface_open_in_xarray(problem, plane, tmp_path):
    xarray = pytest.importorskip("xarray")
    found = ls.evaluate(problem, plane, PLANE, out=tmp_path / "s.h5", **GOAL)
    for group, arrays in found.sampled.arrays.items():
        with xarray.open_dataset(tmp_path / "s.h5", engine="h5netcdf", group=group) as data:
            assert (data["ce"].values == arrays["ce"]).all()
            assert data["ce"].dims == ("y", "x")
            assert (data["x"].values == found.x).all()
