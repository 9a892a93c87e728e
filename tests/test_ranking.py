"""Rank agreement with the generalisation gap, against pairs counted one by one and simulated minima."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from landscape.sharpness import Definition, Flatness, Measure, agreement, compare


def counted(*groups) -> float:
    """Stratified tau-b, pair by pair: of the same group only."""
    agree = of_values = of_gaps = 0
    for values, gaps in groups:
        for i, j in itertools.combinations(range(len(values)), 2):
            sign = (values[i] > values[j]) - (values[i] < values[j])
            other = (gaps[i] > gaps[j]) - (gaps[i] < gaps[j])
            agree += sign * other
            of_values += abs(sign)
            of_gaps += abs(other)
    return agree / math.sqrt(of_values * of_gaps) if of_values * of_gaps else math.nan


def one(values, gaps, flatter="small"):
    return agreement([(values, gaps)], flatter)


few = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9)


@given(few)
def test_tau_is_that_of_all_pairs_and_the_sign_says_sharper_generalises_worse(rows):
    values, gaps = [float(v) for v, _ in rows], [float(g) for _, g in rows]
    found = one(values, gaps)
    if len(set(values)) < 2 or len(set(gaps)) < 2:
        assert math.isnan(found.tau)
        assert str(found) == f"undefined, n = {len(rows)}; overall undefined"
        return
    assert found.tau == pytest.approx(counted((values, gaps)), abs=1e-12)
    assert found.overall == pytest.approx(stats.kendalltau(values, gaps).statistic, abs=1e-12)
    assert one(values, gaps, "large").tau == pytest.approx(-found.tau, abs=1e-12)
    assert one(np.exp(values), gaps).tau == found.tau
    assert found.n == len(rows)


def test_sharper_minima_with_the_larger_gap_agree():
    assert one([1.0, 2.0, 3.0], [0.1, 0.2, 0.4]).tau == pytest.approx(1.0)
    assert one([3.0, 2.0, 1.0], [0.1, 0.2, 0.4], "large").tau == pytest.approx(1.0)
    assert one([3.0, 2.0, 1.0], [0.1, 0.2, 0.4]).tau == pytest.approx(-1.0)


def test_p_is_the_share_of_orders_that_agree_as_much():
    values, gaps = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    taus = [counted((values, list(order))) for order in itertools.permutations(gaps)]
    expected = np.mean([abs(t) >= counted((values, gaps)) - 1e-12 for t in taus])
    assert one(values, gaps).p == pytest.approx(expected)
    assert one(values, gaps).p == pytest.approx(stats.kendalltau(values, gaps, method="exact").pvalue)


def test_the_interval_is_the_jackknifes_on_fishers_scale():
    rng = np.random.default_rng(0)
    values, gaps = rng.normal(size=9), rng.normal(size=9)
    found = one(values, gaps)
    values, gaps = values.tolist(), gaps.tolist()
    tau = counted((values, gaps))
    left = [[i for i in range(9) if i != out] for out in range(9)]
    without = [counted(([values[i] for i in some], [gaps[i] for i in some])) for some in left]
    pseudo = 9 * tau - 8 * np.array(without)
    error = pseudo.std(ddof=1) / 3 / (1 - tau**2)
    half = stats.t.ppf(0.975, 8) * error
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half))
    )


@pytest.mark.parametrize("n", [5, 12])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_hold_the_true_tau_in_95_of_100_cases(n, correlation):
    """2 / pi asin(r), for normal laws; of the cases that have one (not those where tau is 1 or -1)."""
    rng = np.random.default_rng(n)
    true, cases = 2 / math.pi * math.asin(correlation), 150
    held = known = 0
    for _ in range(cases):
        a = rng.normal(size=n)
        found = one(a, correlation * a + math.sqrt(1 - correlation**2) * rng.normal(size=n))
        known += not math.isnan(found.low)
        held += found.low <= true <= found.high
    assert known > 0.7 * cases
    assert held >= stats.binom.ppf(0.001, known, 0.95)


def test_there_is_no_interval_where_leaving_one_out_says_nothing():
    perfect = one([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert math.isnan(perfect.low)
    assert str(perfect) == "+1.00, p 0.017, n = 5; overall +1.00"
    assert math.isnan(one([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).high)
    lonely = one([1.0, 1.0, 1.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert not math.isnan(lonely.tau)
    assert math.isnan(lonely.low)


def test_what_is_only_known_to_be_larger_is_the_largest_and_what_is_undefined_is_left_out():
    gaps = [0.4, 0.3, 0.1, 0.1, 9.0, math.nan]
    found = one([1.0, 2.0, math.inf, math.inf, math.nan, 5.0], gaps, "large")
    assert found.n == 4
    assert found.tau == pytest.approx(counted(([1.0, 2.0, 9.0, 9.0], [-g for g in gaps[:4]])))
    with pytest.raises(ValueError, match=r"expected a gap for each value\. Got 1 for 2"):
        one([1.0, 2.0], [1.0])


several = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4), min_size=2, max_size=3
)


def apart(rows):
    """Values and gaps of each group."""
    return [([float(v) for v, _ in group], [float(g) for _, g in group]) for group in rows]


@given(several)
def test_pairs_of_two_groups_do_not_count(rows):
    groups = apart(rows)
    found, expected = agreement(groups, "small"), counted(*groups)
    assert found.tau == pytest.approx(expected, abs=1e-12, nan_ok=True)
    moved = [([v + 10 * i for v in values], [g - 10 * i for g in gaps]) for i, (values, gaps) in enumerate(groups)]
    shifted = agreement(moved, "small")
    assert (shifted.tau, shifted.p) == pytest.approx((found.tau, found.p), nan_ok=True)
    for each, of in ((found, groups), (shifted, moved)):
        together = [list(itertools.chain(*part)) for part in zip(*of, strict=True)]
        assert each.overall == pytest.approx(counted(together), abs=1e-12, nan_ok=True)


@given(several)
def test_p_is_the_share_of_orders_of_the_seeds_that_agree_as_much(rows):
    """Seeds change places in all groups at once, and only with those that have a minimum in the same groups."""
    groups = apart(rows)
    found, seen = agreement(groups, "small"), counted(*groups)
    if math.isnan(seen):
        assert math.isnan(found.p)
        return
    sizes = [len(values) for values, _ in groups]
    of = [tuple(i < size for size in sizes) for i in range(max(sizes))]
    orders = [o for o in itertools.permutations(range(max(sizes))) if all(of[i] == of[j] for i, j in enumerate(o))]
    taus = [counted(*((values, [gaps[o[i]] for i in range(len(values))]) for values, gaps in groups)) for o in orders]
    assert found.p == pytest.approx(np.mean([abs(tau) >= abs(seen) - 1e-12 for tau in taus]))


def test_p_of_many_seeds_is_near_that_of_all_orders_and_always_the_same():
    rng = np.random.default_rng(1)
    values, gaps = rng.normal(size=9), rng.normal(size=9)
    exact = stats.kendalltau(values, gaps, method="exact").pvalue
    found = one(values, gaps)
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 999))
    assert one(values, gaps) == found


def drawn(rng, groups, seeds, *, between=0.0, shared=0.0, correlation=0.0):
    """Values and gaps of groups that differ in both, of seeds that have a part of both in common."""
    of_seeds = shared * rng.normal(size=(2, seeds))
    found = []
    for _ in range(groups):
        a, b = rng.normal(size=(2, seeds))
        both = np.array([a, correlation * a + math.sqrt(1 - correlation**2) * b])
        found.append(tuple(both + of_seeds + between * rng.normal(size=(2, 1))))
    return found


@pytest.mark.parametrize(("groups", "seeds"), [(4, 10), (3, 3), (4, 5)])
@pytest.mark.parametrize(("between", "shared"), [(0.0, 0.0), (3.0, 0.0), (3.0, 2.0)])
def test_unrelated_numbers_agree_in_5_of_100_studies_at_most(groups, seeds, between, shared):
    """Whatever groups differ in, and whatever minima of one seed have in common."""
    rng, studies = np.random.default_rng(groups * seeds), 60
    alarms = held = known = 0
    for _ in range(studies):
        found = agreement(drawn(rng, groups, seeds, between=between, shared=shared), "small")
        alarms += found.p < 0.05
        known += not math.isnan(found.low)
        held += found.low <= 0 <= found.high
    assert alarms <= stats.binom.ppf(0.99, studies, 0.05)
    assert held >= stats.binom.ppf(0.01, known, 0.95) if known else seeds == 3


def test_intervals_of_several_groups_hold_the_tau_within_them():
    rng, studies = np.random.default_rng(0), 100
    true = 2 / math.pi * math.asin(0.8)
    found = [agreement(drawn(rng, 4, 6, between=3.0, correlation=0.8), "small") for _ in range(studies)]
    held = [each.low <= true <= each.high for each in found]
    assert sum(held) >= stats.binom.ppf(0.01, studies, 0.95)
    assert sum(each.p < 0.05 for each in found) > 0.8 * studies


def test_a_verdict_has_the_agreement_within_its_groups():
    rng = np.random.default_rng(0)
    what = Definition("width", "basin width", "Width at a rise.", "a paper", "large", "filters")
    values = {"a": rng.uniform(1, 2, 4), "b": rng.uniform(1, 3, 3)}
    gaps = {name: rng.normal(size=len(of)).tolist() for name, of in values.items()}
    groups = {
        name: [Flatness((Measure(what, float(v), math.nan, math.nan, np.array([v])),)) for v in of]
        for name, of in values.items()
    }
    found = compare(groups, gaps=gaps)["width"].agreement
    assert found.tau == pytest.approx(-counted(*((values[name].tolist(), gaps[name]) for name in values)))
    assert found == agreement({name: (values[name], gaps[name]) for name in values}, "large")
    assert found.n == 7
    assert compare(groups)["width"].agreement is None
    assert compare(groups, gaps=dict(reversed(gaps.items())))["width"].agreement == found


def test_a_lower_bound_ranks_as_the_largest_only_where_samples_ended_too_early():
    what = Definition("width", "basin width", "Width at a rise.", "a paper", "large", "filters")
    width = Measure(what, 1.0, math.nan, math.nan, np.full(1, math.inf), "median", censored=1, at_least=True)
    other = Measure(what, 1.0, math.nan, math.nan, np.full(1, 1.0), at_least=True)
    known = [Measure(what, v, math.nan, math.nan, np.array([v])) for v in (2.0, 3.0)]
    gaps = {"a": [0.2, 0.1, 0.3], "b": [0.2, 0.1, 0.3]}
    for bound, of_each, tau in ((width, 3, -1 / 3), (other, 2, 1.0)):
        group = [Flatness((measure,)) for measure in (*known, bound)]
        row = compare({"a": group, "b": group}, gaps=gaps)["width"]
        assert (row.agreement.n, row.agreement.tau) == (2 * of_each, pytest.approx(tau))
        assert "a: 1 with no more than a lower bound, of 3" in str(compare({"a": group, "b": group}))
