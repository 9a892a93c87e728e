"""Paired comparisons against scipy one by one, hand-worked examples, and simulated studies without a difference."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from landscape.comparing import compare, holm, paired

# Quarters add and subtract without rounding, so that properties hold exactly where they should.
quarters = st.integers(-400, 400).map(lambda i: i / 4)
tables = st.dictionaries(st.integers(0, 30), st.tuples(quarters, quarters, quarters), max_size=8)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(float(v) for v in values))


# --- one pair of methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_a_comparison_is_the_one_sample_t_test_of_the_differences(n):
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(71, 1, n), rng.normal(70, 1, n)
    difference = ours - theirs
    se = difference.std(ddof=1) / math.sqrt(n)
    reach = stats.t.ppf(0.975, n - 1) * se
    found = paired(by_seed(ours), by_seed(theirs))
    assert (found.n, found.dropped, found.interval) == (n, 0, "t")
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((difference.mean() - reach, difference.mean() + reach))
    assert found.p == found.p_holm == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert found.effect == pytest.approx(difference.mean() / se / math.sqrt(n))


def test_a_hand_worked_pair():
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3), whose p at two degrees of freedom is as below."""
    found = paired({0: 11, 1: 22, 2: 33}, {0: 10, 1: 20, 2: 30})
    t = 2 * math.sqrt(3)
    assert (found.mean, found.effect) == pytest.approx((2, 2))
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert found.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.verdict == "no difference found"


def test_only_finite_values_of_common_seeds_are_paired_and_the_rest_is_counted():
    found = paired({0: 1.0, 1: 3.0, 2: math.nan, 3: 5.0, 7: 1.0}, {3: 1.0, 1: 2.0, 0: 0.5, 2: 1.0, 8: math.inf})
    same = paired({0: 1.0, 1: 3.0, 3: 5.0}, {0: 0.5, 1: 2.0, 3: 1.0})
    assert (found.n, found.dropped) == (3, 3)
    assert (found.mean, found.low, found.high, found.p) == (same.mean, same.low, same.high, same.p)
    assert str(found).endswith("n = 3, 3 dropped")
    assert str(same).endswith("n = 3")


@pytest.mark.parametrize(
    ("ours", "theirs", "n", "mean"),
    [({}, {}, 0, math.nan), ({1: 2.0}, {1: 1.5}, 1, 0.5), ({1: 2.0}, {2: 1.5}, 0, math.nan)],
)
def test_below_two_pairs_there_is_no_interval(ours, theirs, n, mean):
    found = paired(ours, theirs)
    assert (found.n, found.interval, found.verdict) == (n, "none", "too few pairs")
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert all(math.isnan(v) for v in (found.low, found.high, found.p, found.p_holm, found.effect))
    assert str(found).startswith(f"too few pairs: n = {n}")


def test_equal_methods_have_no_difference():
    found = paired(by_seed([70.1, 70.2, 70.3]), by_seed([70.1, 70.2, 70.3]))
    assert (found.mean, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, 0)
    assert (found.interval, found.verdict) == ("no spread", "no difference found")


@pytest.mark.parametrize(("n", "verdict"), [(2, "no difference found"), (5, "no difference found"), (6, "lower")])
def test_a_constant_difference_has_the_p_value_of_the_signs(n, verdict):
    theirs = 70 + 0.1 * np.arange(n)
    found = paired(by_seed(theirs - 0.3), by_seed(theirs))
    assert found.interval == "no spread"
    assert found.low == found.high == found.mean == pytest.approx(-0.3)
    assert found.p == pytest.approx(stats.binomtest(0, n).pvalue)
    assert found.effect == -math.inf
    assert found.verdict == verdict


@given(tables)
def test_swapping_the_baseline_flips_the_sign(table):
    one, other = ({s: v[i] for s, v in table.items()} for i in (0, 1))
    there, back = paired(one, other), paired(other, one)
    assert (back.mean, back.low, back.high, back.effect) == pytest.approx(
        (-there.mean, -there.high, -there.low, -there.effect), nan_ok=True
    )
    assert back.p == pytest.approx(there.p, nan_ok=True)
    assert {"higher": "lower", "lower": "higher"}.get(there.verdict, there.verdict) == back.verdict


@given(tables)
def test_what_a_seed_does_to_both_methods_makes_no_difference(table):
    one, other = ({s: v[i] for s, v in table.items()} for i in (0, 1))
    moved, moved_other = ({s: v[i] + v[2] for s, v in table.items()} for i in (0, 1))
    assert repr(paired(moved, moved_other)) == repr(paired(one, other))


def test_the_interval_holds_the_true_difference_in_95_of_100_studies():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        seed_effect = rng.normal(0, 5, 5)
        theirs, ours = 70 + seed_effect + rng.normal(0, 0.2, 5), 71 + seed_effect + rng.normal(0, 0.3, 5)
        found = paired(by_seed(ours), by_seed(theirs))
        held += found.low <= 1 <= found.high
    assert stats.binomtest(held, 2000, 0.95).pvalue > 0.001


# --- a family ---------------------------------------------------------------------------------------------------------


def test_holm_on_a_hand_worked_example():
    """0.005 x 4, 0.01 x 3, 0.03 x 2 and 0.04 x 1, which is raised to the 0.06 before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_passes_over_nan_and_ends_at_one():
    assert holm([math.nan, 0.02, 0.7]) == pytest.approx([math.nan, 0.04, 0.7], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match=rf"p must be in \[0, 1\] or NaN\. Got {p}\."):
        holm([0.5, p])


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8))
def test_holm_raises_p_values_keeps_their_order_and_rejects_by_his_steps(p):
    adjusted = holm(p)
    real = [(a, b) for a, b in zip(p, adjusted, strict=True) if not math.isnan(a)]
    assert [math.isnan(b) for b in adjusted] == [math.isnan(a) for a in p]
    assert all(a <= b <= 1 for a, b in real)
    assert all(b <= d for a, b in real for c, d in real if a <= c)
    # His procedure as published: from the smallest on, reject while p_(k) m_left < alpha.
    rejected = 0
    for k, a in enumerate(sorted(a for a, _ in real)):
        if not (len(real) - k) * a < 0.05:
            break
        rejected = k + 1
    assert sum(b < 0.05 for _, b in real) == rejected


def test_a_table_is_compared_as_one_family():
    rng = np.random.default_rng(1)
    base = rng.normal(70, 1, 6)
    moved = {"dot": 1.0, "sgd": 0.1, "swapped": -0.5}
    table = {name: by_seed(base + shift + rng.normal(0, 0.2, 6)) for name, shift in moved.items()}
    table = {"kd": by_seed(base), "single": {0: 70.0}} | table
    found = compare(table, "kd")
    assert list(found) == ["single", "dot", "sgd", "swapped"]
    raw = [stats.ttest_rel(list(table[m].values()), base).pvalue for m in moved]
    assert [found[m].p for m in moved] == pytest.approx(raw)
    assert [found[m].p_holm for m in moved] == pytest.approx(holm(raw))
    assert {m: c.verdict for m, c in found.items()} == {
        "single": "too few pairs",
        "dot": "higher",
        "sgd": "no difference found",
        "swapped": "lower",
    }


def test_the_verdict_is_that_of_the_adjusted_p_value():
    base = by_seed([0, 0, 0, 0])
    alone = {"base": base, "a": by_seed([1, 2, 3, 4])}
    assert compare(alone, "base")["a"].p == pytest.approx(0.0305, abs=1e-4)
    assert compare(alone, "base")["a"].verdict == "higher"
    assert compare(alone | {"b": by_seed([1, -1, 2, 0])}, "base")["a"].verdict == "no difference found"


def test_a_table_without_its_baseline_is_refused():
    with pytest.raises(ValueError, match=r"baseline must be one of a, b\. Got 'kd'\."):
        compare({"a": {}, "b": {}}, "kd")


def test_a_family_without_a_difference_seldom_shows_one():
    """Five methods that are all the baseline, which they share: false verdicts in at most 5 % of studies."""
    rng = np.random.default_rng(2)
    studies = 1000
    false = 0
    for _ in range(studies):
        seeds = rng.normal(70, 1, 5)
        table = {name: by_seed(seeds + rng.normal(0, 0.3, 5)) for name in "abcdef"}
        false += any(c.verdict != "no difference found" for c in compare(table, "a").values())
    assert stats.binomtest(false, studies, 0.05, alternative="greater").pvalue > 0.001
    assert false > 0
