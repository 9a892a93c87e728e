"""Trace, Frobenius norm and diagonal: against dense Hessians, and whether their errors mean what they say."""

from __future__ import annotations

import math
import os
import re
import signal
import warnings

import numpy as np
import pytest
import torch
from oracles import batched, dense_curvature, fingerprint, objective
from scipy import stats
from torch import nn

import landscape as ls
from landscape import describing, store, wholeness
from landscape.hessian import density, diagonal, frobenius, hutchpp, probes, trace
from landscape.hessian.diagonal import Sums, collect
from landscape.hessian.frobenius import norm_of
from landscape.hessian.kept import Kept, keeping, log_path
from landscape.hessian.means import mean_of, student
from landscape.hessian.probes import LEAST, needed, next_count, rademacher
from landscape.hessian.rows import Layers, Rows
from landscape.hessian.trace import hutchinson, hutchpp_trace

REPEATS = 200


class Dense:
    """A matrix that counts its products; after ``most`` of them it ends by ``stop``."""

    def __init__(self, matrix, most=math.inf, stop=None):
        self.matrix, self.products, self.most, self.stop = torch.as_tensor(matrix), 0, most, stop
        self.size, self.device = len(matrix), torch.device("cpu")

    def multiply(self, vectors):
        self.products += len(vectors)
        if self.products > self.most:
            self.stop()
        return vectors @ self.matrix


def rows_of(matrix, seed=0):
    return Rows(matrix, Layers(("all",), (matrix.size,), (0,)), seed)


def network(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def data():
    torch.manual_seed(1)
    return batched(torch.randn(30, 5), torch.randint(0, 3, (30,)), 12)


def problem(on_device="cpu", of=objective) -> ls.Problem:
    batches = [(x.to(on_device), y.to(on_device)) for x, y in data()]
    return ls.Problem(network().to(on_device), of, batches)


@pytest.fixture(scope="module")
def hessian():
    return dense_curvature(network(), objective, data(), "ce")


def low_rank(size=300, rank=5):
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.standard_normal((size, size)))
    return (basis * np.where(np.arange(size) < rank, 10.0 ** -np.arange(size), 1e-6)) @ basis.T


def not_under(covered: int, of: int) -> bool:
    """Whether a coverage is not significantly under 95 %: the exact binomial test at 1 %."""
    return bool(stats.binomtest(covered, of, 0.95, alternative="less").pvalue > 0.01)


def test_what_the_test_of_coverage_refuses():
    assert not_under(190, 200)
    assert not not_under(180, 200)


# --- the network's own numbers


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_trace_is_that_of_the_dense_hessian(device, hessian, method):
    found = trace(problem(device), "ce", 0.05, method=method, max_products=3000, precision="float64")
    assert abs(found.value - np.trace(hessian)) < 4 * found.sem
    assert found.converged
    assert found.sem <= 0.05 * abs(found.value)
    assert found.low < found.value < found.high
    assert found.products >= len(found.samples) >= LEAST


def test_the_trace_of_each_layer_is_that_of_its_block(hessian):
    found = trace(problem(), "ce", 0.05, max_products=5000)
    blocks = {"0": slice(0, 36), "2": slice(36, 57)}
    assert found.by_layer.keys() == blocks.keys()
    assert sum(part.value for part in found.by_layer.values()) == pytest.approx(found.value)
    for name, block in blocks.items():
        part = found.by_layer[name]
        assert abs(part.value - np.trace(hessian[block, block])) < 4 * part.sem
    alone = trace(problem(), "ce", 0.05, parameters=["2.weight", "2.bias"], max_products=5000)
    assert abs(alone.value - np.trace(hessian[36:, 36:])) < 4 * alone.sem


def test_the_frobenius_norm_is_that_of_the_dense_hessian(device, hessian):
    found = frobenius(problem(device), "ce", 0.03)
    assert abs(found.value - np.linalg.norm(hessian)) < 4 * found.sem
    assert found.sem <= 0.03 * found.value
    assert found.low < found.value < found.high


def test_the_diagonal_is_that_of_the_dense_hessian(device, hessian):
    asked = problem(device)
    found = diagonal(asked, "ce", 0.1)
    named = dict(asked.model.named_parameters())
    assert {k: v.shape for k, v in found.values.items()} == {k: v.shape for k, v in named.items()}
    values, sem = (torch.cat([t.cpu().flatten() for t in of.values()]).numpy() for of in (found.values, found.sem))
    off = values - np.diag(hessian)
    assert np.abs(off / sem).max() < 5
    assert np.square(off / sem).mean() == pytest.approx(1, abs=0.6)
    assert found.converged
    assert found.error == pytest.approx(np.linalg.norm(sem) / np.linalg.norm(values))
    assert found.error <= 0.1


def test_nothing_of_the_users_is_changed(device):
    asked = problem(device)
    before = fingerprint(asked.model)
    with torch.inference_mode():  # a careless caller's
        for measure in (trace, frobenius, diagonal):
            measure(asked, "ce", 0.5)
    trace(asked, "ce", 0.2, method="hutch++", precision="float64", kind="gauss-newton")
    assert fingerprint(asked.model) == before


# --- what the errors mean


@pytest.fixture(scope="module")
def repeats(hessian):
    """200 seeds, at an error that stops the probes early."""
    dense, layers = Dense(hessian), Layers(("a", "b"), (36, 21), (0, 1))
    sources = [Rows(dense, layers, seed) for seed in range(REPEATS)]
    return {
        "hutchinson": [hutchinson(source, Kept(), rel_error=0.1, most=2000) for source in sources],
        "hutch++": [hutchpp_trace(source, Kept(), rel_error=0.1, most=2000) for source in sources],
        "frobenius": [norm_of(source, Kept(), rel_error=0.05, most=2000) for source in sources],
    }


def test_intervals_cover_as_they_say(hessian, repeats):
    true = {"hutchinson": np.trace(hessian), "hutch++": np.trace(hessian), "frobenius": np.linalg.norm(hessian)}
    for name, found in repeats.items():
        covered = sum(one.low <= true[name] <= one.high for one in found)
        assert not_under(covered, REPEATS), (name, covered)
    parts = [one.by_layer["b"] for one in repeats["hutchinson"]]
    assert not_under(sum(part.low <= np.trace(hessian[36:, 36:]) <= part.high for part in parts), REPEATS)


def test_the_relative_error_is_what_repeats_show(hessian, repeats):
    """The spread of the estimates over seeds is what was asked for, not more; and they are not biased by stopping."""
    for name in ("hutchinson", "hutch++"):
        off = np.array([one.value for one in repeats[name]]) / np.trace(hessian) - 1
        assert np.sqrt(np.square(off).mean()) < 0.1 * math.sqrt(stats.chi2.ppf(0.999, REPEATS) / REPEATS)
        assert abs(off.mean()) < 4 * 0.1 / math.sqrt(REPEATS)
    for name, error in (("hutchinson", 0.1), ("hutch++", 0.1), ("frobenius", 0.05)):
        assert all(one.converged and one.sem <= error * one.value for one in repeats[name])


def test_the_errors_of_a_diagonal_cover(hessian):
    covered = 0
    entry = int(np.argmax(np.diag(hessian)))
    for seed in range(REPEATS):
        sums = Sums(Dense(hessian))
        assert collect(Dense(hessian), sums, rel_error=0.3, most=2000, seed=seed)
        half = student(sums.n) * float(sums.sem[entry])
        covered += abs(float(sums.mean[entry]) - hessian[entry, entry]) <= half
    assert not_under(covered, REPEATS), covered


def test_no_early_estimate_ends_it_by_luck():
    """Skewed samples, whose first ones are often small and alike, go on until their interval can be trusted."""
    covered, fewest = 0, math.inf
    for seed in range(REPEATS):
        samples = np.random.default_rng(seed).chisquare(4, 5000) / 4
        n = LEAST
        while (following := next_count(n, needed(samples[:n], 0.1), 5000)) > n:
            n = following
        mean = mean_of(samples[:n])
        covered, fewest = covered + (mean.low <= 1 <= mean.high), min(fewest, n)
    assert not_under(covered, REPEATS), covered
    assert fewest >= LEAST


def test_the_interval_is_students_without_skewness_and_reaches_further_up_with_it():
    even = np.array([1.0, 2.0, 4.0, 5.0, 3.0])
    found = mean_of(even)
    low, high = stats.t.interval(0.95, 4, 3.0, stats.sem(even))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    skewed = mean_of(np.random.default_rng(0).chisquare(1, 50))
    assert skewed.high - skewed.value > 1.2 * (skewed.value - skewed.low)
    assert mean_of(np.full(9, 0.1)) == (
        pytest.approx(0.1),
        pytest.approx(0),
        pytest.approx(0.1),
        pytest.approx(0.1),
    )


def test_how_many_probes_are_needed():
    samples = np.tile([0.9, 1.1], 50)  # a relative deviation of 0.1005, no skewness
    enlarged = stats.t.ppf(0.975, 99) / stats.norm.ppf(0.975)
    assert needed(samples, 0.01) == pytest.approx((samples.std(ddof=1) * enlarged / 0.01) ** 2)
    assert needed(samples, 0.5) == LEAST
    assert needed(samples - samples.mean(), 0.5) > 1e9
    rare = np.where(np.arange(100) < 2, 1.2, 1.0)
    assert needed(rare, 0.5) == pytest.approx(25 * stats.skew(rare) ** 2)
    assert next_count(24, 24, 100) == 24
    assert next_count(24, 1e9, 100) == 36
    assert next_count(90, 1e9, 100) == 100


def test_a_diagonal_matrix_has_no_error():
    found = hutchinson(rows_of(Dense(np.diag(np.arange(9.0)))), Kept(), rel_error=0.01, most=100)
    assert (found.value, found.sem, found.products) == (36, 0, LEAST)
    assert found.converged


def test_hutchpp_takes_far_fewer_products_of_a_matrix_of_low_rank():
    matrix = low_rank()
    plain, plus = (
        estimate(rows_of(Dense(matrix)), Kept(), rel_error=0.02, most=20_000)
        for estimate in (hutchinson, hutchpp_trace)
    )
    counted = Dense(matrix)
    again = hutchpp_trace(rows_of(counted), Kept(), rel_error=0.02, most=20_000)
    assert counted.products == again.products == plus.products
    assert plus.products < plain.products / 20
    for found in (plain, plus):
        assert abs(found.value - np.trace(matrix)) < 4 * found.sem
        assert found.rel_error <= 0.02


def test_hutchpp_is_exact_once_it_has_all_directions():
    matrix = low_rank(20, 3) + np.diag(np.linspace(-1, 1, 20))
    found = hutchpp_trace(rows_of(Dense(matrix)), Kept(), rel_error=1e-6, most=500)
    assert found.value == pytest.approx(np.trace(matrix), rel=1e-12)
    assert found.products <= LEAST + 2 * 40


def test_hutchpp_holds_no_more_directions_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(hutchpp, "_NUMBERS", 6 * 8 * 300)
    found = hutchpp_trace(rows_of(Dense(low_rank(rank=20))), Kept(), rel_error=1e-9, most=300)
    assert found.products == 300
    assert len(found.samples) == 300 - 2 * 8


def test_hutchpp_costs_little_more_where_there_is_nothing_to_gain():
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.standard_normal((200, 200)))
    flat = (basis * generator.uniform(1, 2, 200)) @ basis.T
    plain, plus = (
        estimate(rows_of(Dense(flat)), Kept(), rel_error=0.005, most=2000) for estimate in (hutchinson, hutchpp_trace)
    )
    assert plus.products <= 2 * plain.products
    assert abs(plus.value - np.trace(flat)) < 4 * plus.sem


def test_a_saddle_ends_at_the_most_products_and_says_so():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(20, 20))[0]

    class Saddle(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(20))

        def forward(self, x):
            return (torch.linspace(-1, 1, 20) * (basis @ self.w).square()).sum() * x

    flat = ls.Problem(Saddle(), lambda model, x: {"loss": model(x)}, [torch.ones(2)])
    for measure in (trace, lambda *a, **k: trace(*a, method="hutch++", **k)):
        with pytest.warns(UserWarning, match="standard error of the trace is .* not yet 0.02"):
            found = measure(flat, max_products=60)
        assert not found.converged
        assert found.products <= 60
        assert abs(found.value) < 4 * found.sem + 1e-5


# --- probes


def test_a_probe_is_the_same_in_any_block():
    matrix = Dense(np.eye(130))
    whole = rademacher(matrix, 3, range(7))
    assert torch.equal(whole, torch.cat([rademacher(matrix, 3, [n]) for n in range(7)]))
    assert torch.equal(whole.abs(), torch.ones(7, 130, dtype=torch.float64))
    others = torch.cat([rademacher(matrix, 4, range(7)), rademacher(matrix, 3, range(7), stream=1)])
    between = torch.cat([whole, others]) @ torch.cat([whole, others]).T / 130
    assert between.fill_diagonal_(0).abs().max() < 5 / math.sqrt(130)
    assert abs(rademacher(matrix, 0, range(400)).mean()) < 5 / math.sqrt(400 * 130)


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_size_of_a_block_changes_nothing(monkeypatch, method):
    found = []
    for together in (1, 5, 8):
        monkeypatch.setattr(probes, "_TOGETHER", together)
        found.append(trace(problem(), "ce", 0.2, method=method))
    for other in found[1:]:
        assert other.value == pytest.approx(found[0].value, rel=1e-6)
        assert other.products == found[0].products


def test_few_products_at_a_time_where_the_memory_is_small(monkeypatch):
    monkeypatch.setattr(probes, "_NUMBERS", 100)
    assert [len(block) for block in probes.blocks(0, 7, 33)] == [3, 3, 1]
    assert [len(block) for block in probes.blocks(2, 4, 1000)] == [1, 1]


# --- interruption


class Stops:
    """The objective, which ends at its n-th call."""

    def __init__(self, at=math.inf):
        self.calls, self.at = 0, at

    def __call__(self, model, batch):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return objective(model, batch)


def measures():
    return {
        "trace": lambda p, **k: trace(p, "ce", 0.1, **k),
        "hutch++": lambda p, **k: trace(p, "ce", 0.1, method="hutch++", **k),
        "frobenius": lambda p, **k: frobenius(p, "ce", 0.05, **k),
        "diagonal": lambda p, **k: diagonal(p, "ce", 0.2, **k),
    }


def numbers(found):
    if hasattr(found, "values"):
        return torch.cat([t.flatten() for of in (found.values, found.sem) for t in of.values()]).tolist()
    return [found.value, found.sem, found.low, found.high, found.products, *found.samples]


@pytest.mark.parametrize("name", ["trace", "frobenius", "density", "diagonal"])
def test_a_file_to_go_on_from_is_no_result_file_and_says_so(tmp_path, name):
    out = tmp_path / "p.h5"
    {**measures(), "density": lambda p, **k: density(p, "ce", probes=2, steps=5, **k)}[name](problem(), out=out)
    said = rf"p\.h5 must be a result file\. Got the random probes that .*{name}.* the same call with the same out"
    for read in (ls.load, describing.describe, store.load_surface, store.load_samples):
        with pytest.raises(ValueError, match=said):
            read(out)
    (fault,) = wholeness.faults(out)
    assert re.search(said, fault)


@pytest.mark.parametrize("name", measures())
def test_an_interrupted_call_goes_on_and_ends_as_in_one_go(tmp_path, name):
    measure, out = measures()[name], tmp_path / "p.h5"
    whole = Stops()
    expected = measure(problem(of=whole))
    stopped = Stops(at=10)
    with pytest.raises(KeyboardInterrupt):
        measure(problem(of=stopped), out=out)
    resumed = Stops()
    found = measure(problem(of=resumed), out=out)
    assert numbers(found) == numbers(expected)
    assert resumed.calls < whole.calls
    assert not log_path(out).exists()
    done = Stops()
    assert numbers(measure(problem(of=done), out=out)) == numbers(expected)
    if name != "hutch++":
        assert done.calls <= 1  # one, to see that the objective is the same


def test_a_killed_process_loses_no_finished_probe(tmp_path, hessian):
    path, identity = tmp_path / "p.h5", {"of": "a test"}
    child = os.fork()
    if not child:
        dying = Dense(hessian, 30, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with keeping(path, identity, 2) as kept:
            hutchinson(rows_of(dying), kept, rel_error=0.1, most=2000)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with open(log_path(path), "ab") as log:
        log.write(b"half a row")
    expected = hutchinson(rows_of(Dense(hessian)), Kept(), rel_error=0.1, most=2000)
    again = Dense(hessian)
    with keeping(path, identity, 2) as kept:
        found = hutchinson(rows_of(again), kept, rel_error=0.1, most=2000)
        kept.finish({})
    assert numbers(found) == numbers(expected)
    assert again.products == expected.products - LEAST  # of the second look's block none was finished
    with keeping(path, identity, 2) as kept:
        assert len(kept.rows) == expected.products


def test_a_smaller_error_takes_what_there_is(tmp_path):
    out, counting = tmp_path / "p.h5", Stops()
    rough = trace(problem(), "ce", 0.2, out=out)
    fine = trace(problem(of=counting), "ce", 0.1, out=out)
    assert numbers(fine) == numbers(trace(problem(), "ce", 0.1))
    fresh = Stops()
    trace(problem(of=fresh), "ce", 0.1)
    assert counting.calls < fresh.calls
    norm = Stops()
    assert numbers(frobenius(problem(of=norm), "ce", 0.2, out=out)) == numbers(frobenius(problem(), "ce", 0.2))
    assert norm.calls == 1
    assert rough.products < fine.products


@pytest.mark.parametrize("measure", [trace, diagonal])
def test_a_file_of_something_else_is_refused(tmp_path, measure):
    out = tmp_path / "p.h5"
    measure(problem(), "ce", 0.5, out=out)
    other = problem()
    with torch.no_grad():
        other.model[0].bias += 1
    more = ls.Problem(problem().model, objective, [*data(), *data()])
    cases = {
        "checkpoint_sha256": lambda: measure(other, "ce", 0.5, out=out),
        "data_sha256": lambda: measure(more, "ce", 0.5, out=out),
        "term": lambda: measure(problem(), "kd", 0.5, out=out),
        "curvature": lambda: measure(problem(), "ce", 0.5, kind="gauss-newton", out=out),
        "parameters_sha256": lambda: measure(problem(), "ce", 0.5, parameters=["0.weight"], out=out),
        "precision": lambda: measure(problem(), "ce", 0.5, precision="float64", out=out),
        "seed": lambda: measure(problem(), "ce", 0.5, seed=1, out=out),
    }
    for name, call in cases.items():
        with pytest.raises(ValueError, match=f"must be of this measurement. Got a file that differs in .*{name}"):
            call()


def test_a_call_that_fails_before_its_first_probe_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="Got 'cee'"):
        trace(problem(), "cee", out=tmp_path / "p.h5")
    assert not list(tmp_path.iterdir())


def test_a_log_of_something_else_is_refused(tmp_path):
    out = tmp_path / "p.h5"
    with pytest.raises(KeyboardInterrupt):
        trace(problem(of=Stops(at=10)), "ce", out=out)
    assert log_path(out).exists()
    with pytest.raises(ValueError, match="differs in seed"):
        trace(problem(), "ce", out=out, seed=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rel_error": 0.0}, "rel_error must be a positive number.*Got 0.0"),
        ({"rel_error": math.nan}, "rel_error must be a positive number.*Got nan"),
        ({"max_products": 2}, "max_products must be at least 3.*Got 2"),
        ({"seed": -1}, "seed must be 0 or more. Got -1"),
        ({"method": "hutch"}, "method must be 'hutchinson' or 'hutch.*Got 'hutch'"),
        ({"kind": "fisher"}, "kind must be one of"),
    ],
)
def test_what_cannot_be_asked_for(options, said):
    with pytest.raises(ValueError, match=said):
        trace(problem(), "ce", **options)


def test_where_it_comes_from_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = trace(problem(), "ce", 0.3, seed=5, kind="gauss-newton")
    assert (found.attrs["seed"], found.attrs["curvature"], found.attrs["term"]) == (5, "gauss-newton", "ce")
    assert found.attrs["versions"]["torch"]
