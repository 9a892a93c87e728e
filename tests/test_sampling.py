"""How many examples a cell needs: enumerated samples, closed forms, and what must hold for any losses."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RectBivariateSpline, make_interp_spline
from scipy.stats import binom

from landscape.sampling import Goal, Sampler
from landscape.sampling.allocation import certainty, second_phase, two_phase
from landscape.sampling.estimate import Frame, Origin, estimate, exact, quantile
from landscape.sampling.order import nested_order, spread, variance_of_mean
from landscape.sampling.predictors import Anchors, weights

AXIS = np.linspace(-1, 1, 9)


def quadratics(n=700, points=9, seed=0):
    """``[cells, n]``: each example's loss is a paraboloid with a wave of its own."""
    draw, axis = np.random.default_rng(seed), np.linspace(-1, 1, points)
    y, x = (c.ravel()[:, None] for c in np.meshgrid(axis, axis, indexing="ij"))
    a, b, c, p = draw.gamma(2, 0.5, n), draw.normal(0, 0.4, n), draw.normal(0, 0.4, n), draw.normal(0, 2, n)
    return (a * (0.3 + (x - b) ** 2 + (y - c) ** 2) + 0.05 * np.cos(p * x)).astype(np.float32)


def drive(sampler, losses, cells=None):
    for request in sampler.requests(cells):
        sampler.give(request, {term: of[request.cell, request.examples] for term, of in losses.items()})
    return sampler


# The order


@given(n=st.integers(1, 200), seed=st.integers(0, 9), labelled=st.booleans())
def test_the_order_is_a_permutation_and_the_same_each_time(n, seed, labelled):
    labels = np.arange(n) % 3 if labelled else None
    order = nested_order(n, seed, labels)
    assert sorted(order) == list(range(n))
    assert np.array_equal(order, nested_order(n, seed, labels))


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 9), share=st.floats(0, 1))
def test_every_prefix_of_a_stratified_order_has_the_proportions_of_the_whole(counts, seed, share):
    labels = np.repeat(np.arange(len(counts)), counts)
    n = len(labels)
    taken = labels[nested_order(n, seed, labels)[: int(share * n)]]
    for label, count in enumerate(counts):
        assert abs((taken == label).sum() - len(taken) * count / n) < len(counts) + 1


def test_each_example_has_the_same_chance_in_a_stratified_prefix():
    labels = np.array([0] * 3 + [1] * 9)
    hits = np.zeros(12)
    for seed in range(4000):
        hits[nested_order(12, seed, labels)[:4]] += 1
    np.testing.assert_allclose(hits / 4000, 4 / 12, atol=4 * math.sqrt(1 / 3 * 2 / 3 / 4000))


@pytest.mark.parametrize(("n", "size"), [(6, 1), (6, 3), (7, 5), (5, 5)])
def test_the_variance_of_a_mean_without_replacement_is_that_over_all_samples(n, size):
    values = np.random.default_rng(n).normal(size=n)
    means = [np.mean(sample) for sample in itertools.combinations(values, size)]
    assert variance_of_mean(spread(values), size, n) == pytest.approx(np.var(means), abs=1e-15)


def test_labels_without_order_and_orders_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"expected a label for each of 4 examples\. Got an array of shape \(3,\)"):
        nested_order(4, 0, [1, 2, 3])
    with pytest.raises(ValueError, match="at least one example"):
        nested_order(0, 0)


# The estimate


def frame(n, first, certain=(), columns=None, sampled=(), **more):
    marks = np.zeros(first, bool)
    marks[list(certain)] = True
    return Frame(n, np.zeros((first, 0)) if columns is None else columns, marks, np.array(sampled, np.int64), **more)


def test_the_plain_estimate_is_unbiased_over_all_samples_with_a_variance_that_is_right_on_average():
    """Without predictors the jackknife's variance of a mean is m / (m - 1) times the unbiased one."""
    values = np.random.default_rng(0).gamma(1, size=8)
    m = 4
    found = [
        estimate(frame(8, 8, sampled=s), np.empty(0), values[list(s)]) for s in itertools.combinations(range(8), m)
    ]
    assert np.mean([e.mean for e in found]) == pytest.approx(values.mean())
    true = np.var([e.mean for e in found])
    assert np.mean([e.sem**2 for e in found]) == pytest.approx(true * m / (m - 1))


def test_certain_examples_add_no_variance_and_two_phases_add_theirs():
    """All two-phase samples of 7: n1 = 5, of which the largest expected is certain, and 2 of the other 4."""
    values = np.array([0.1, 0.4, 0.5, 1.1, 1.3, 2.0, 9.0])
    found = []
    for first in itertools.permutations(range(7), 5):
        y = values[list(first)]
        top = int(np.argmax(y))
        rest = [i for i in range(5) if i != top][:2]
        found.append(estimate(frame(7, 5, [top], sampled=rest), y[[top]], y[rest]))
    assert np.mean([e.mean for e in found]) == pytest.approx(values.mean())
    true = np.var([e.mean for e in found])
    first_part = variance_of_mean(spread(values), 5, 7)
    # The residuals' part is the jackknife's, of m = 2: twice; the first part is estimated from few, by way of both.
    second = true - first_part
    assert np.mean([e.sem**2 - e.first for e in found]) == pytest.approx(2 * second)
    assert np.mean([e.first for e in found]) == pytest.approx(first_part, rel=0.25)


@given(seed=st.integers(0, 200), slope=st.floats(-3, 3), offset=st.floats(-3, 3))
@settings(max_examples=30)
def test_values_that_the_predictors_explain_are_known_exactly(seed, slope, offset):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(50, 2))
    y = offset + slope * x[:, 0] - x[:, 1]
    found = estimate(frame(50, 50, columns=x, sampled=range(10)), np.empty(0), y[:10])
    assert found.mean == pytest.approx(y.mean(), abs=1e-9)
    assert found.sem == pytest.approx(0, abs=1e-9)


def test_the_regression_estimate_is_the_textbook_one():
    """Cochran, 7.1: the mean plus the slope times the difference of the predictor's means."""
    draw = np.random.default_rng(5)
    x = draw.normal(size=40)
    y = 2 * x + draw.normal(size=40)
    s = np.arange(12)
    slope, _ = np.polyfit(x[s], y[s], 1)
    found = estimate(frame(40, 40, columns=x[:, None], sampled=s), np.empty(0), y[s])
    assert found.mean == pytest.approx(y[s].mean() + slope * (x.mean() - x[s].mean()))


def test_the_regression_variance_is_right_on_average_for_a_linear_model():
    """Over many samples, not below the true one, and no more than the jackknife's excess above it."""
    draw = np.random.default_rng(6)
    x = draw.normal(size=(200, 2))
    y = x @ [1.0, -2.0] + draw.normal(size=200)
    found = []
    for _ in range(4000):
        s = draw.choice(200, 20, replace=False)
        found.append(estimate(frame(200, 200, columns=x, sampled=s), np.empty(0), y[s]))
    true = np.mean([(e.mean - y.mean()) ** 2 for e in found])
    assert 0.95 < np.mean([e.sem**2 for e in found]) / true < 1.35


def test_a_first_phase_borrows_from_an_origin_known_for_all():
    """Values that are the origin's, times a number, have no error whichever examples the first phase holds."""
    start = np.random.default_rng(7).gamma(1, size=60)
    y = 3 * start[:20]
    origin = Origin(start[:20], float(start.mean()))
    found = estimate(frame(60, 20, sampled=range(20), origin=origin), np.empty(0), y)
    assert found.mean == pytest.approx(3 * start.mean())
    assert found.sem == pytest.approx(0, abs=1e-9)
    alone = estimate(frame(60, 20, sampled=range(20)), np.empty(0), y)
    assert alone.sem == pytest.approx(y.std(ddof=1) * math.sqrt(1 / 20 - 1 / 60))


def test_a_zero_one_term_without_a_single_one_is_not_known_exactly():
    found = estimate(frame(1000, 1000, sampled=range(100), binary=True), np.empty(0), np.zeros(100))
    assert found.sem == pytest.approx(1 / 100 * math.sqrt(0.5 * 0.9))


def test_one_example_that_carries_the_variance_is_seen():
    y = np.r_[np.random.default_rng(0).normal(size=99), 1e3]
    assert estimate(frame(1000, 1000, sampled=range(100)), np.empty(0), y).heavy
    assert not estimate(frame(1000, 1000, sampled=range(99)), np.empty(0), y[:99]).heavy


def test_large_residuals_that_were_not_drawn_are_expected_by_their_sizes():
    draw = np.random.default_rng(1)
    size = np.r_[np.ones(50), np.full(50, 10.0)]
    y = size * draw.normal(size=100)
    unaware = estimate(frame(100, 100, sampled=range(30)), np.empty(0), y[:30])
    aware = estimate(frame(100, 100, sampled=range(30), size=size), np.empty(0), y[:30])
    assert aware.sem > 3 * unaware.sem


def test_the_quantile_is_students_and_grows_with_skewness():
    from scipy.stats import t

    tail = 0.05 / 1.5 / 2
    assert quantile(10) == pytest.approx(t.isf(tail, 10))
    assert quantile(10, 0.5) > quantile(10, 0.1) > quantile(10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_exact_mean_that_is_not_finite_has_no_error(bad):
    found = exact(np.array([1.0, bad]))
    assert math.isnan(found.sem)
    np.testing.assert_equal(found.mean, bad)


# The predictors


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_weights_give_scipys_spline_and_sum_to_one(count):
    x = np.sort(np.random.default_rng(count).normal(size=count))
    values = np.random.default_rng(1).normal(size=count)
    spline = make_interp_spline(x, values, k=min(3, count - 1))
    for at in np.linspace(x[0], x[-1], 11):
        w = weights(x, float(at))
        assert w @ values == pytest.approx(float(spline(at)), abs=1e-12)
        assert w.sum() == pytest.approx(1)


def test_predictors_are_the_tensor_splines_of_losses_and_of_logarithms():
    """Against SciPy's own bivariate spline, which has the same not-a-knot ends for five anchors."""
    axis = np.linspace(-1, 1, 5)
    losses = np.random.default_rng(0).gamma(5, size=(5, 5, 3))
    columns, size = Anchors((axis, axis), losses).at((0.3, -0.7))
    for i in range(3):
        linear = RectBivariateSpline(axis, axis, losses[..., i], s=0)(0.3, -0.7)[0, 0]
        logs = RectBivariateSpline(axis, axis, np.log(losses[..., i]), s=0)(0.3, -0.7)[0, 0]
        logs = np.clip(logs, np.log(losses[..., i].min() / 2), np.log(losses[..., i].max() * 2))
        np.testing.assert_allclose(columns[i], [linear, np.exp(logs)], rtol=1e-9)
    assert (size > 0).all()


def test_predictors_of_zero_and_tiny_losses_are_finite_and_not_finite_ones_are_told_apart():
    axis = np.linspace(0, 1, 3)
    losses = np.zeros((3, 4))
    losses[:, 1], losses[:, 2], losses[1, 3] = [1e-30, 1, 1e30], 1.0, np.inf
    columns, size = Anchors((axis,), losses).at((0.25,))
    assert np.isfinite(columns[:3]).all()
    assert np.isfinite(size).tolist() == [True, True, True, False]


def test_zero_one_and_negative_terms_have_the_linear_predictor_only():
    axis = np.linspace(0, 1, 3)
    assert Anchors((axis,), np.array([[0, 1], [1, 1], [0, 0.0]])).at((0.4,)).columns.shape == (2, 1)
    assert Anchors((axis,), np.array([[0, 1], [1, -1], [0, 0.5]])).at((0.4,)).columns.shape == (2, 1)


# The allocation


@given(
    total=st.floats(0.1, 10),
    share=st.floats(0.001, 1.2),
    goal=st.floats(1e-3, 1),
    n=st.integers(10, 150),
    costs=st.tuples(st.integers(1, 60), st.integers(1, 500)),
)
@settings(max_examples=60, deadline=None)
def test_the_allocation_is_as_cheap_as_any_pair_of_whole_numbers(total, share, goal, n, costs):
    residual, (first, second) = total * min(share, 1.0), costs
    n1, n2 = two_phase(total, residual, goal, n, first_cost=first, second_cost=second)
    a, b = np.meshgrid(np.arange(1, n + 1), np.arange(1, n + 1), indexing="ij")
    variance = (1 / a - 1 / n) * total + (1 / b - 1 / a) * residual
    fits = (b <= a) & (variance <= goal * (1 + 1e-9))
    assert fits[n1 - 1, n2 - 1]
    price = first * a + second * b
    assert price[n1 - 1, n2 - 1] <= price[fits].min() + first + second  # rounding up costs one of each at most


@given(
    total=st.floats(0.1, 10), share=st.floats(0.01, 1), goal=st.floats(1e-4, 1), n=st.integers(2, 1000), data=st.data()
)
def test_the_second_phase_reaches_the_variance_exactly(total, share, goal, n, data):
    first = data.draw(st.integers(1, n))
    m = second_phase(total, total * share, goal, n, first)
    if math.isfinite(m):
        assert (1 / first - 1 / n) * total + (1 / m - 1 / first) * total * share == pytest.approx(goal)


@given(sizes=st.lists(st.floats(0.01, 100), min_size=1, max_size=60), goal=st.floats(1e-3, 1e4))
def test_certain_examples_are_where_the_sum_of_both_is_smallest(sizes, goal):
    size = np.sort(sizes)[::-1]
    h, m = certainty(size, goal, least=2)

    def drawn(h):
        rest = size[h:]
        if not len(rest):
            return 0.0
        square = np.mean(rest**2)
        need = len(rest) ** 2 * square / (goal + len(rest) * square)
        tail = 4 * np.mean(rest**3) ** 2 / square**3
        return min(len(rest), max(need, tail, 2))

    best = min(k + drawn(k) for k in range(len(size) + 1))
    assert h + drawn(h) == pytest.approx(best)
    assert m == pytest.approx(drawn(h), abs=1 + 1e-9)  # a whole number, and rounding


# The sampler


def test_each_cell_reaches_its_error_at_a_fraction_of_the_cost_and_near_the_truth():
    losses = quadratics()
    sampler = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), {"loss": losses})
    truth = losses.mean(1, dtype=np.float64).reshape(9, 9)
    assert sampler.done
    assert (sampler.sem("loss") <= 0.02 * sampler.mean("loss") * (1 + 1e-12)).all()
    assert (np.abs(sampler.mean("loss") - truth) <= 2 * np.maximum(sampler.half("loss"), 1e-9)).all()
    assert sampler.evaluated < 0.6 * losses.size
    assert sampler.evaluated == sampler.examples().sum()
    whole = sampler.examples() == 700
    assert whole[4, 4]
    np.testing.assert_allclose(sampler.mean("loss")[whole], truth[whole], rtol=1e-12)
    assert (sampler.sem("loss")[whole] == 0).all()
    s = losses.std(1, ddof=1, dtype=np.float64).reshape(9, 9) / math.sqrt(700)
    np.testing.assert_allclose(sampler.total_sem("loss")[whole], s[whole], rtol=1e-9)
    assert sampler.sem_diff("loss")[4, 4] == 0


@given(seed=st.integers(0, 50), scale=st.sampled_from([0.0, 1e-30, 1.0]), rel=st.sampled_from([1e-9, 0.01, 0.3]))
@settings(max_examples=12, deadline=None)
def test_no_example_is_evaluated_twice_so_that_nothing_costs_more_than_everything(seed, scale, rel):
    losses = np.random.default_rng(seed).gamma(0.1, size=(25, 90)).astype(np.float32) * np.float32(scale)
    axis = np.linspace(-1, 1, 5)
    seen = set()
    sampler = Sampler((axis, axis), 90, ["loss"], Goal(rel), seed=seed)
    for request in sampler.requests():
        asked = {(request.cell, int(i)) for i in request.examples}
        assert len(asked) == len(request.examples)
        assert not asked & seen
        seen |= asked
        sampler.give(request, {"loss": losses[request.cell, request.examples]})
    assert sampler.done
    assert sampler.evaluated == len(seen) <= losses.size
    if rel == 1e-9 and scale:
        np.testing.assert_allclose(sampler.mean("loss").ravel(), losses.mean(1, dtype=np.float64), rtol=1e-6)


def copied(sampler):
    """Through bytes, as a file would hold it."""
    file = io.BytesIO()
    np.savez(file, **sampler.state())
    file.seek(0)
    with np.load(file) as arrays:
        return Sampler.restored(dict(arrays))


@pytest.mark.parametrize("every", [1, 7])
def test_a_sampler_that_is_stored_and_restored_at_any_moment_ends_bit_equal(every):
    losses = {
        "loss": quadratics(points=7, n=300),
        "error": (quadratics(points=7, n=300, seed=1) > 1).astype(np.float32),
    }
    axis = np.linspace(-1, 1, 7)
    goal = Goal(0.03, {"error": 0.02})
    labels = np.arange(300) % 4
    whole = drive(Sampler((axis, axis), 300, list(losses), goal, labels=labels), losses)
    broken = Sampler((axis, axis), 300, list(losses), goal, labels=labels)
    while not broken.done:
        for request in itertools.islice(broken.requests(), every):
            broken.give(request, {term: of[request.cell, request.examples] for term, of in losses.items()})
        broken = copied(broken)
    for name in ("mean", "sem", "half", "total_sem", "sem_diff"):
        for term in losses:
            assert np.array_equal(getattr(whole, name)(term), getattr(broken, name)(term))
    assert np.array_equal(whole.examples(), broken.examples())


def test_shards_share_the_first_phase_and_together_are_the_whole():
    losses = {"loss": quadratics()}
    whole = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), losses)
    start = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), losses, cells=[])
    assert start.first_phase_done
    parts = [drive(copied(start), losses, cells=range(i, 81, 2)) for i in (0, 1)]
    parts[0].absorb(parts[1])
    assert parts[0].done
    assert np.array_equal(parts[0].mean("loss"), whole.mean("loss"))
    assert parts[0].evaluated == whole.evaluated
    with pytest.raises(ValueError, match="same examples and first phase"):
        whole.absorb(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02), seed=1))


def test_requests_may_be_collected_and_answered_later_in_any_order():
    losses = quadratics()
    whole = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), {"loss": losses})
    other = Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02))
    while requests := list(other.requests()):
        for request in reversed(requests):
            other.give(request, {"loss": losses[request.cell, request.examples]})
    assert np.array_equal(whole.mean("loss"), other.mean("loss"))
    assert np.array_equal(whole.examples(), other.examples())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_losses_that_are_not_finite_make_the_mean_what_it_would_be_over_all(bad):
    losses = quadratics()
    losses[60:, ::5] = bad
    sampler = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), {"loss": losses})
    with np.errstate(invalid="ignore"):
        truth = losses.mean(1, dtype=np.float64)
    found = sampler.mean("loss").ravel()
    np.testing.assert_array_equal(found[60:], truth[60:])
    assert np.isnan(sampler.sem("loss").ravel()[60:]).all()
    np.testing.assert_allclose(found[:60], truth[:60], rtol=0.1)


def test_lines_are_sampled_like_planes():
    losses = quadratics()[36:45]
    sampler = drive(Sampler((AXIS,), 700, ["loss"], Goal(0.02)), {"loss": losses})
    np.testing.assert_allclose(sampler.mean("loss"), losses.mean(1, dtype=np.float64), rtol=0.08)
    assert sampler.evaluated < losses.size


def test_an_origin_off_the_grid_is_a_cell_of_its_own():
    losses = quadratics()
    sampler = Sampler((AXIS + 0.01, AXIS), 700, ["loss"], Goal(0.02))
    first = next(sampler.requests())
    assert (first.cell, len(first.examples)) == (-1, 700)
    drive(sampler, {"loss": losses})
    assert sampler.done


def test_predictors_without_gain_fall_back_and_cost_no_more_than_everything():
    losses = np.random.default_rng(0).gamma(2, size=(81, 700)).astype(np.float32)  # no cell knows another
    sampler = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.05)), {"loss": losses})
    truth = losses.mean(1, dtype=np.float64).reshape(9, 9)
    assert (np.abs(sampler.mean("loss") - truth) < 0.25 * truth).all()
    assert losses.size * 0.1 < sampler.evaluated <= losses.size


def test_losses_of_finished_cells_may_be_forgotten():
    losses = {"loss": quadratics()}
    kept = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02)), losses)
    lean = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.02), keep=False), losses)
    assert np.array_equal(kept.mean("loss"), lean.mean("loss"))
    assert np.array_equal(kept.examples(), lean.examples())
    assert lean.state()["values"].size < kept.state()["values"].size


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"positive rel_error, abs_error or both\. Got None, None"):
        Goal()
    with pytest.raises(ValueError, match="positive"):
        Goal(-1)
    with pytest.raises(ValueError, match="at least one term"):
        Sampler((AXIS,), 10, [], Goal(0.1))
    with pytest.raises(ValueError, match="increasing coordinates"):
        Sampler((AXIS[::-1],), 10, ["loss"], Goal(0.1))
    with pytest.raises(ValueError, match=r"from 2 to 9, as the grid has\. Got 10"):
        Sampler((AXIS,), 10, ["loss"], Goal(0.1), anchors=10)
    sampler = Sampler((AXIS,), 10, ["loss"], Goal(0.1))
    request = next(sampler.requests())
    with pytest.raises(ValueError, match=r"expected 10 values of term 'loss', one for each example\. Got \(3,\)"):
        sampler.give(request, {"loss": np.ones(3)})
    with pytest.raises(ValueError, match="Got none"):
        sampler.give(request, {})
    sampler.give(request, {"loss": np.ones(10)})
    with pytest.raises(ValueError, match="has been given 10 of these before"):
        sampler.give(request, {"loss": np.ones(10)})
    bad = Sampler((AXIS,), 10, ["loss"], Goal(0.1))
    bad.give(next(bad.requests()), {"loss": np.full(10, np.nan)})
    with pytest.raises(ValueError, match="must be finite at the origin"):
        next(bad.requests())


# Refinement


def asked(sampler, losses, cells=None):
    """Drive a sampler to its end; the pairs of cell and example that it asked for, each once."""
    seen = set()
    for request in sampler.requests(cells):
        pairs = {(request.cell, int(i)) for i in request.examples}
        assert len(pairs) == len(request.examples)
        assert not pairs & seen
        seen |= pairs
        sampler.give(request, {term: of[request.cell, request.examples] for term, of in losses.items()})
    return seen


def heavy_tailed(n=1500, points=9, seed=0):
    """`quadratics` whose scales are log-normal: many examples are evaluated for certain."""
    return (quadratics(n, points, seed) * np.random.default_rng(seed + 1).lognormal(0, 1.3, n)).astype(np.float32)


@pytest.mark.parametrize("make", [quadratics, heavy_tailed])
def test_a_refined_sampler_asks_for_nothing_twice_and_costs_little_more_than_a_new_one(make):
    losses = {"loss": make(1500)}
    rough = Sampler((AXIS, AXIS), 1500, ["loss"], Goal(0.1))
    first = asked(rough, losses)
    fine = rough.refined(Goal(0.01))
    assert fine.evaluated == rough.evaluated == len(first)
    assert not fine.finished
    second = asked(fine, losses)
    assert not first & second
    assert fine.done
    assert fine.evaluated == len(first) + len(second) == fine.examples().sum()
    assert (fine.sem("loss") <= 0.01 * fine.mean("loss") * (1 + 1e-12)).all()
    fresh = drive(Sampler((AXIS, AXIS), 1500, ["loss"], Goal(0.01)), losses)
    assert fine.evaluated <= 1.15 * fresh.evaluated
    assert rough.evaluated < fresh.evaluated


def test_a_larger_error_needs_nothing_new():
    losses = {"loss": quadratics()}
    fine = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.01)), losses)
    rough = fine.refined(Goal(0.05))
    assert len(asked(rough, losses)) < 0.05 * fine.evaluated  # its anchors may be others
    truth = losses["loss"].mean(1, dtype=np.float64).reshape(9, 9)
    assert (rough.sem("loss") <= 0.05 * rough.mean("loss") * (1 + 1e-12)).all()
    assert (np.abs(rough.mean("loss") - truth) <= 2 * np.maximum(rough.half("loss"), 1e-9)).all()


@pytest.mark.parametrize("forth", [True, False])
def test_the_origin_is_kept_whether_it_is_on_the_grid_or_beside_it(forth):
    on, beside = (AXIS, AXIS), (AXIS[:4], AXIS)
    axes, others = (beside, on) if forth else (on, beside)
    whole = np.concatenate([quadratics(), quadratics()[40][None]])  # the last row is the origin's, -1
    part = np.concatenate([whole[:36], whole[-1:]])
    old = drive(Sampler(axes, 700, ["loss"], Goal(0.05)), {"loss": part if forth else whole})
    new = old.refined(Goal(0.05), others)
    assert (old.setup.origin, new.setup.origin) == ((-1, 40) if forth else (40, -1))
    assert new.samples.count(new.setup.origin) == 700
    assert new.setup.origin not in {cell for cell, _ in asked(new, {"loss": whole if forth else part})}
    assert new.done


def test_a_line_stays_a_line_and_anchors_must_still_fit():
    sampler = Sampler((AXIS,), 10, ["loss"], Goal(0.1), anchors=9)
    with pytest.raises(ValueError, match=r"expected 1 axes, as before\. Got 2"):
        sampler.refined(Goal(0.1), (AXIS, AXIS))
    with pytest.raises(ValueError, match=r"from 2 to 5, as the grid has\. Got 9"):
        sampler.refined(Goal(0.1), (AXIS[::2],))


@pytest.mark.parametrize("make", [quadratics, heavy_tailed])
def test_intervals_of_refined_samplers_cover(make):
    """The chance of fewer hits, if each were 0.95, is above one in a thousand."""
    losses = {"loss": make(1500)}
    truth = losses["loss"].mean(1, dtype=np.float64)
    hits = []
    for seed in range(30):
        cells = np.random.default_rng(seed).choice(81, 12, replace=False).tolist()
        rough = drive(Sampler((AXIS, AXIS), 1500, ["loss"], Goal(0.08), seed=seed), losses, cells)
        fine = drive(rough.refined(Goal(0.03)), losses, cells)
        found = [fine.estimate(cell)["loss"] for cell in cells]
        hits += [abs(e.mean - truth[c]) <= e.half for c, e in zip(cells, found, strict=True) if e.sem]
    assert len(hits) > 100
    assert binom.cdf(sum(hits), len(hits), 0.95) > 1e-3


def test_finished_cells_are_listed_in_the_order_of_their_estimates():
    losses, order = {"loss": quadratics()}, [5, 80, 3]
    sampler = drive(Sampler((AXIS, AXIS), 700, ["loss"], Goal(0.05)), losses, cells=order)
    assert sorted(sampler.finished) == [3, 5, 80]
    assert copied(sampler).finished == sampler.finished
    before = sampler.finished
    drive(sampler, losses, cells=[40])
    assert sampler.finished == [*before, 40]
