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


def counted(values, gaps) -> float:
    """Kendall's tau-b, pair by pair."""
    agree = ties_values = ties_gaps = 0
    pairs = list(itertools.combinations(range(len(values)), 2))
    for i, j in pairs:
        of_values = (values[i] > values[j]) - (values[i] < values[j])
        of_gaps = (gaps[i] > gaps[j]) - (gaps[i] < gaps[j])
        agree += of_values * of_gaps
        ties_values += not of_values
        ties_gaps += not of_gaps
    return agree / math.sqrt((len(pairs) - ties_values) * (len(pairs) - ties_gaps))


few = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9)


@given(few)
def test_tau_is_that_of_all_pairs_and_the_sign_says_sharper_generalises_worse(rows):
    values, gaps = [float(v) for v, _ in rows], [float(g) for _, g in rows]
    found = agreement(values, gaps, "small")
    if len(set(values)) < 2 or len(set(gaps)) < 2:
        assert math.isnan(found.tau)
        assert str(found) == f"undefined, n = {len(rows)}"
        return
    assert found.tau == pytest.approx(counted(values, gaps), abs=1e-12)
    assert agreement(values, gaps, "large").tau == pytest.approx(-found.tau, abs=1e-12)
    assert agreement(np.exp(values), gaps, "small").tau == found.tau
    assert found.n == len(rows)


def test_sharper_minima_with_the_larger_gap_agree():
    assert agreement([1.0, 2.0, 3.0], [0.1, 0.2, 0.4], "small").tau == pytest.approx(1.0)
    assert agreement([3.0, 2.0, 1.0], [0.1, 0.2, 0.4], "large").tau == pytest.approx(1.0)
    assert agreement([3.0, 2.0, 1.0], [0.1, 0.2, 0.4], "small").tau == pytest.approx(-1.0)


def test_p_is_the_share_of_orders_that_agree_as_much():
    values, gaps = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    taus = [counted(values, list(order)) for order in itertools.permutations(gaps)]
    expected = np.mean([abs(t) >= counted(values, gaps) - 1e-12 for t in taus])
    assert agreement(values, gaps, "small").p == pytest.approx(expected)


def test_the_interval_is_the_jackknifes_on_fishers_scale():
    rng = np.random.default_rng(0)
    values, gaps = rng.normal(size=9), rng.normal(size=9)
    found = agreement(values, gaps, "small")
    values, gaps = values.tolist(), gaps.tolist()
    tau = counted(values, gaps)
    left = [[i for i in range(9) if i != out] for out in range(9)]
    without = [counted([values[i] for i in some], [gaps[i] for i in some]) for some in left]
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
        found = agreement(a, correlation * a + math.sqrt(1 - correlation**2) * rng.normal(size=n), "small")
        known += not math.isnan(found.low)
        held += found.low <= true <= found.high
    assert known > 0.7 * cases
    assert held >= stats.binom.ppf(0.001, known, 0.95)


def test_there_is_no_interval_where_leaving_one_out_says_nothing():
    perfect = agreement([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0], "small")
    assert math.isnan(perfect.low)
    assert str(perfect) == "+1.00, p 0.017, n = 5"
    assert math.isnan(agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], "small").high)
    lonely = agreement([1.0, 1.0, 1.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0], "small")
    assert not math.isnan(lonely.tau)
    assert math.isnan(lonely.low)


def test_what_is_only_known_to_be_larger_is_the_largest_and_what_is_undefined_is_left_out():
    gaps = [0.4, 0.3, 0.1, 0.1, 9.0, math.nan]
    found = agreement([1.0, 2.0, math.inf, math.inf, math.nan, 5.0], gaps, "large")
    assert found.n == 4
    assert found.tau == pytest.approx(counted([1.0, 2.0, 9.0, 9.0], [-g for g in gaps[:4]]))
    with pytest.raises(ValueError, match=r"expected a gap for each value\. Got 1 for 2"):
        agreement([1.0, 2.0], [1.0], "small")


def test_a_verdict_has_the_agreement_over_all_members_of_all_groups():
    rng = np.random.default_rng(0)
    what = Definition("width", "basin width", "Width at a rise.", "a paper", "large", "filters")
    values = {"a": rng.uniform(1, 2, 4), "b": rng.uniform(1, 3, 3)}
    gaps = {name: rng.normal(size=len(of)).tolist() for name, of in values.items()}
    groups = {
        name: [Flatness((Measure(what, float(v), math.nan, math.nan, np.array([v])),)) for v in of]
        for name, of in values.items()
    }
    found = compare(groups, gaps=gaps)["width"].agreement
    assert found == agreement([*values["a"], *values["b"]], [*gaps["a"], *gaps["b"]], "large")
    assert compare(groups)["width"].agreement is None
    assert compare(groups, gaps=dict(reversed(gaps.items())))["width"].agreement == found
