"""Verdicts on minima drawn from known laws: how often they are right, and the numbers behind them one by one."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.comparing import holm
from landscape.sharpness import Definition, Flatness, Measure, compare
from landscape.sharpness.power import directions_needed, pairs_needed, power
from landscape.sharpness.two_levels import noise, over_seeds

SMALL = Definition("curv", "curvature", "Second derivative.", "a paper", "small", "filters")
LARGE = Definition("width", "basin width", "Width at a rise.", "a paper", "large", "filters")


def measure(samples, what=SMALL, center="mean", **more) -> Measure:
    samples = np.atleast_1d(np.asarray(samples, float))
    value = float(np.mean(samples) if center == "mean" else np.median(samples))
    return Measure(what, value, value - 0.5, value + 0.5, samples, center, **more)


def flat(*samples, what=SMALL, **attrs) -> Flatness:
    """A minimum with one number, of these samples."""
    return Flatness((measure(samples, what),), attrs)


def group(*values, what=SMALL) -> list[Flatness]:
    return [flat(value, what=what) for value in values]


def only(verdict):
    """The difference of two groups in one measure."""
    ((difference,),) = (row.differences for row in verdict.rows)
    return difference


def study(rng, n, shift, pair=0.5, between=0.4, within=0.3, m=8) -> dict[str, list[Flatness]]:
    """Two groups of n seeds: a part that a pair shares, one of each minimum, and the noise of m directions."""
    shared = rng.normal(0, pair, n)
    draw = lambda mean: [  # noqa: E731
        flat(*(10 + mean + shared[i] + rng.normal(0, between) + rng.normal(0, within, m))) for i in range(n)
    ]
    return {"a": draw(0.0), "b": draw(shift)}


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_a_difference_is_the_t_test_of_the_logarithms_shown_as_a_ratio() -> None:
    a, b = np.array([3.0, 4.0, 5.0, 7.0]), np.array([2.0, 2.2, 3.1, 4.0])
    found = only(compare({"CE": group(*a), "KD": group(*b)}))
    test = stats.ttest_rel(np.log(b), np.log(a))
    ends = test.confidence_interval(0.95)
    assert (found.one, found.other, found.scale, found.n, found.dropped) == ("KD", "CE", "ratio", 4, 0)
    assert found.value == pytest.approx(stats.gmean(b / a))
    assert (found.low, found.high) == pytest.approx((math.exp(ends.low), math.exp(ends.high)))
    assert found.p == found.p_holm == pytest.approx(test.pvalue)
    assert found.outcome == "flatter"
    assert found.sentence == (
        f"KD is flatter than CE: {found.value:.3g} [{found.low:.3g}, {found.high:.3g}] times as large "
        f"(n = 4, p {found.p:.2g})."
    )


def test_a_value_that_is_not_positive_makes_it_a_plain_difference() -> None:
    a, b = np.array([0.0, 1.0, -1.0, 0.5]), np.array([3.0, 4.1, 2.2, 3.3])
    verdict = compare({"CE": group(*a), "KD": group(*b)})
    found, test = only(verdict), stats.ttest_rel(b, a)
    assert (found.scale, verdict["curv"].log, found.outcome) == ("difference", False, "sharper")
    assert (found.value, found.p) == pytest.approx(((b - a).mean(), test.pvalue))
    assert [g.value for g in verdict["curv"].groups] == pytest.approx([a.mean(), b.mean()])
    assert f"{found.value:+.3g}" in found.sentence


@pytest.mark.parametrize(("what", "higher", "lower"), [(SMALL, "sharper", "flatter"), (LARGE, "flatter", "sharper")])
def test_which_one_is_flatter_is_the_definitions_to_say(what, higher, lower) -> None:
    one, twice = group(1.0, 1.1, 1.2, 1.0, what=what), group(2.0, 2.3, 2.4, 1.9, what=what)
    assert only(compare({"one": one, "twice": twice})).outcome == higher
    assert only(compare({"twice": twice, "one": one})).outcome == lower


numbers = st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=6)


@settings(max_examples=30, deadline=None)
@given(numbers, st.floats(0.1, 10))
def test_the_order_of_the_groups_and_the_unit_of_the_measure_change_no_verdict(rows, unit) -> None:
    a, b = np.array(rows).T
    found = only(compare({"a": group(*a), "b": group(*b)}))
    back = only(compare({"b": group(*b), "a": group(*a)}))
    scaled = only(compare({"a": group(*unit * a), "b": group(*unit * b)}))
    assert back.outcome == {"flatter": "sharper", "sharper": "flatter"}.get(found.outcome, found.outcome)
    assert (back.value, back.low) == pytest.approx((1 / found.value, 1 / found.high), rel=1e-6)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((found.value, found.low, found.high), rel=1e-6)


def test_every_two_groups_are_one_family() -> None:
    rng = np.random.default_rng(0)
    values = {name: np.exp(rng.normal(shift, 0.3, 6)) for name, shift in (("a", 0), ("b", 0.3), ("c", 1.2))}
    row = compare({name: group(*of) for name, of in values.items()})["curv"]
    assert [(d.one, d.other) for d in row.differences] == [("b", "a"), ("c", "a"), ("c", "b")]
    alone = [stats.ttest_rel(np.log(values[d.one]), np.log(values[d.other])).pvalue for d in row.differences]
    assert [d.p for d in row.differences] == pytest.approx(alone)
    assert [d.p_holm for d in row.differences] == pytest.approx(holm(alone))
    assert [d.found for d in row.differences] == [p < 0.05 for p in holm(alone)]
    assert row.between("c", "b") is row.differences[2]
    with pytest.raises(KeyError, match="expected one of b against a, c against a, c against b"):
        row.between("a", "b")


def test_groups_have_geometric_means_and_their_ratio_is_the_one_shown() -> None:
    a, b = (2.0, 3.0, 5.0), (1.0, 4.0, 2.0)
    row = compare({"a": group(*a), "b": group(*b)})["curv"]
    assert [g.value for g in row.groups] == pytest.approx([stats.gmean(a), stats.gmean(b)])
    assert row.differences[0].value == pytest.approx(row.groups[1].value / row.groups[0].value)
    t = stats.ttest_1samp(np.log(a), 0).confidence_interval(0.95)
    assert (row.groups[0].low, row.groups[0].high) == pytest.approx((math.exp(t.low), math.exp(t.high)))


def test_the_error_is_that_of_resampling_seeds_and_then_their_samples() -> None:
    """Drawn out: seeds with replacement, then samples of each, either level with its unbiased variance."""
    rng = np.random.default_rng(3)
    n, m = 4, 6
    x = rng.normal(5, 1, (n, 1)) + rng.normal(0, 1.0, (n, m))
    means = x.mean(1)
    w = float(np.mean(x.var(1, ddof=1) / m))
    assert means.var(ddof=1) > w, "this sample must have a spread of its own between seeds"
    shrunk = means.mean() + (means - means.mean()) * math.sqrt((1 - w / means.var(ddof=1)) * n / (n - 1))
    replicates = []
    for _ in range(8_000):
        total = 0.0
        for i in rng.integers(0, n, n):
            inner = x[i, rng.integers(0, m, m)].mean() - means[i]
            total += shrunk[i] + inner * math.sqrt(m / (m - 1))
        replicates.append(total / n)
    found = over_seeds([measure(row) for row in x], log=False)
    half = special.stdtrit(n - 1, 0.975) * np.std(replicates)
    assert found.value == pytest.approx(means.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.04)


def test_where_directions_are_all_of_the_noise_the_error_is_theirs() -> None:
    x = np.array([[0.0, 4.0, -4.0, 1.0], [1.0, -3.0, 5.0, -2.0]])  # means 0.25 and 0.25
    found = over_seeds([measure(row) for row in x], log=False, seed=1)
    w = float(np.mean(x.var(1, ddof=1) / 4))
    assert (found.high - found.low) / 2 == pytest.approx(special.stdtrit(1, 0.975) * math.sqrt(w / 2), rel=0.05)


def test_the_noise_of_directions_is_that_of_their_mean_and_cancels_where_a_pair_shares_it() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(10, 1, 30)
    b = 2 * a
    assert noise([measure(a)], log=False) == pytest.approx(a.var(ddof=1) / 30, rel=0.15)
    assert noise([measure(a)], log=True) == pytest.approx(a.var(ddof=1) / 30 / a.mean() ** 2, rel=0.15)
    assert noise([measure(a), measure(b)], log=True) == pytest.approx(0.0, abs=1e-20)
    other = rng.normal(10, 1, 30)
    expected = (a - other).var(ddof=1) / 30
    assert noise([measure(a), measure(other)], log=False) == pytest.approx(expected, rel=0.15)
    assert noise([measure(a[:1])], log=False) == 0.0


def test_the_noise_of_a_median_is_that_of_a_median() -> None:
    """pi / 2 times that of the mean, for a normal law and many samples."""
    rng = np.random.default_rng(0)
    found = [noise([measure(rng.normal(size=101), center="median")], log=False, seed=i) for i in range(60)]
    assert np.mean(found) == pytest.approx(math.pi / 2 / 101, rel=0.15)


# --- how often they are right -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize(("between", "within"), [(1.0, 0.01), (1.0, 1.0), (0.5, 3.0), (0.0, 1.0)])
def test_intervals_over_seeds_and_directions_hold_the_mean_in_95_of_100_studies(n, between, within) -> None:
    rng = np.random.default_rng(n)
    studies, m = 250, 8
    held = 0
    for k in range(studies):
        x = rng.normal(0, between, (n, 1)) + rng.normal(0, within, (n, m))
        found = over_seeds([measure(row) for row in x], log=False, seed=k)
        held += found.low <= 0 <= found.high
    assert held >= stats.binom.ppf(0.001, studies, 0.95)
    if within < 0.1:  # where directions matter they may hold more
        assert held <= stats.binom.ppf(0.999, studies, 0.95)


@pytest.mark.parametrize(("n", "within"), [(3, 0.05), (5, 0.05), (5, 2.0)])
def test_groups_of_one_law_are_told_apart_in_5_of_100_studies_at_most(n, within) -> None:
    rng = np.random.default_rng(n)
    studies = 200
    found = [only(compare(study(rng, n, 0.0, within=within), seed=k)).outcome for k in range(studies)]
    alarms = found.count("flatter") + found.count("sharper")
    assert alarms <= stats.binom.ppf(0.999, studies, 0.05)
    assert alarms >= stats.binom.ppf(0.001, studies, 0.05)


def test_three_groups_of_one_law_are_all_left_together_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(1)
    studies, wrong = 200, 0
    for _ in range(studies):
        three = {name: group(*np.exp(rng.normal(0, 0.4, 5))) for name in "abc"}
        wrong += any(d.found for d in compare(three)["curv"].differences)
    assert wrong <= stats.binom.ppf(0.999, studies, 0.05)


def test_a_large_difference_is_told_apart_and_on_its_own_side() -> None:
    rng = np.random.default_rng(2)
    for shift, outcome in ((4.0, "sharper"), (-4.0, "flatter")):
        found = [only(compare(study(rng, 5, shift))).outcome for _ in range(40)]
        assert found.count(outcome) >= 38


def test_leaving_pairs_without_a_value_out_raises_no_false_alarm() -> None:
    """Values beyond what could be measured are missing where they are largest, in either group alike."""
    rng = np.random.default_rng(5)
    studies, alarms = 200, 0
    for _ in range(studies):
        drawn = np.exp(rng.normal(0, 0.5, (2, 8)))
        known = [[flat(v, what=LARGE) if v < 1.6 else beyond(v) for v in values] for values in drawn]
        alarms += only(compare({"a": known[0], "b": known[1]})).found
    assert alarms <= stats.binom.ppf(0.999, studies, 0.05)


# --- what it would take -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "n", "level"), [(0.5, 8, 0.05), (1.2, 4, 0.05), (-0.8, 20, 0.0167)])
def test_power_is_the_share_of_simulated_studies(effect, n, level) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(effect, 1, (20_000, n))
    test = stats.ttest_1samp(x, 0, axis=1)
    share = np.mean((test.pvalue < level) & (np.sign(test.statistic) == np.sign(effect)))
    assert power(effect, n, level) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(x)))


@pytest.mark.parametrize("effect", [0.1, 0.35, 1.0, 3.0])
def test_the_pairs_needed_are_the_fewest(effect) -> None:
    needed = pairs_needed(effect, 0.05)
    assert power(effect, needed, 0.05) >= 0.8
    assert needed == 2 or power(effect, needed - 1, 0.05) < 0.8
    assert needed == pairs_needed(-effect, 0.05)


def test_the_pairs_needed_at_the_ends() -> None:
    assert pairs_needed(0.0, 0.05) is None
    assert pairs_needed(math.inf, 0.05) == 6  # the sign test's 2^-5 is the first below 0.05
    assert pairs_needed(0.5, 0.05) == 34  # Cohen's table, and G*Power


def test_with_as_many_more_seeds_four_of_five_studies_tell_it_apart() -> None:
    rng = np.random.default_rng(0)
    difference = np.array([0.9, -0.2, 0.6, 0.1])
    base = np.array([3.0, 4.0, 3.5, 5.0])
    found = only(compare({"a": group(*base - 5), "b": group(*base - 5 + difference)}))
    assert (found.outcome, found.scale) == ("not told apart", "difference")
    n = found.n + found.more_seeds
    assert found.sentence.endswith(f"about {found.more_seeds} more seeds would tell a difference of this size apart.")
    told, studies = 0, 300
    for _ in range(studies):
        a = rng.normal(0, 1, n)
        b = a + rng.normal(difference.mean(), difference.std(ddof=1), n)
        told += only(compare({"a": group(*a), "b": group(*b)})).outcome == "sharper"
    assert 0.73 <= told / studies <= 0.89


def test_where_directions_are_the_noise_more_of_them_would_do() -> None:
    rng = np.random.default_rng(4)
    n, m, shift, between, within = 6, 4, 1.5, 0.5, 4.0
    needed = directions_needed(shift, 2 * between**2, 2 * within**2 / m, n, m, 0.05)
    told, studies = 0, 800
    for _ in range(studies):
        drawn = rng.normal(0, within, (2, n, needed)).mean(2) + rng.normal(0, between, (2, n))
        told += stats.ttest_1samp(shift + drawn[1] - drawn[0], 0).pvalue < 0.05
    assert told / studies == pytest.approx(0.8, abs=0.05)
    assert directions_needed(shift, 2.0, 2 * within**2 / m, n, m, 0.05) is None  # the seeds alone are too noisy
    assert directions_needed(shift, 0.1, 0.0, n, m, 0.05) is None


def test_a_verdict_says_how_many_directions_would_do() -> None:
    """Seeds that differ by nothing but their four directions."""
    rng = np.random.default_rng(0)
    offsets = [5.0, 6.0, 4.5, 5.5]
    low, high = ([flat(*(x + mean + rng.normal(0, 1.2, 4))) for x in offsets] for mean in (0.0, 0.8))
    found = only(compare({"a": low, "b": high}))
    assert (found.outcome, found.directions) == ("not told apart", 4)
    assert found.within > 0.5
    assert found.directions_instead > 4
    assert f"or about {found.directions_instead} directions a seed instead of 4" in found.sentence


def test_directions_that_a_pair_shares_are_not_blamed() -> None:
    """The same noise in both of a pair is none of their difference."""
    rng = np.random.default_rng(0)
    shared = [10 + rng.normal(0, 3, 5) for _ in range(4)]
    a = [flat(*s) for s in shared]
    b = [flat(*(s * factor)) for s, factor in zip(shared, (1.5, 0.9, 1.3, 0.95), strict=True)]
    found = only(compare({"a": a, "b": b}))
    assert found.outcome == "not told apart"
    assert found.within == pytest.approx(0.0, abs=1e-12)
    assert found.directions_instead is None


def test_groups_with_the_same_mean_would_need_more_seeds_than_there_are() -> None:
    found = only(compare({"a": group(-1, 1, -1, 1), "b": group(1, -1, 1, -1)}))
    assert (found.outcome, found.more_seeds) == ("not told apart", None)
    assert "more than 10,000 seeds would be needed" in found.sentence


# --- what has no answer -----------------------------------------------------------------------------------------------


def beyond(reached: float) -> Flatness:
    """A width whose lines ended first: the value is how far they reached."""
    what = measure([math.inf, math.inf, reached], LARGE, "median", censored=2, at_least=True)
    return Flatness((dataclasses.replace(what, value=reached),))


def test_one_seed_is_compared_and_says_nothing_of_others() -> None:
    verdict = compare({"CE": group(2.0), "KD": group(1.0)})
    found = only(verdict)
    assert (found.outcome, found.n, found.value) == ("too few pairs", 1, 0.5)
    assert math.isnan(found.p)
    assert "KD and CE are not told apart with 1 seed: 0.5 times as large" in str(verdict)
    assert "One seed (CE, KD): its interval is over directions, and says nothing of other seeds." in verdict.notes
    assert (verdict["curv"].groups[0].low, verdict["curv"].groups[0].high) == (1.5, 2.5)  # as measured


def test_one_value_of_several_seeds_has_no_interval() -> None:
    """Its directions would make one that looks as if it were of the seeds."""
    (a, _) = compare({"a": [*group(2.0, what=LARGE), beyond(3.0)], "b": group(1.0, 1.5, what=LARGE)})["width"].groups
    assert (a.value, a.n) == (2.0, 1)
    assert math.isnan(a.low)
    assert math.isnan(a.high)


def test_pairs_without_a_value_are_left_out_and_said() -> None:
    wide = [*group(1.0, 1.1, 1.3, what=LARGE), beyond(3.0), flat(math.nan, what=LARGE)]
    narrow = group(0.5, 0.6, 0.7, 0.6, 0.5, what=LARGE)
    verdict = compare({"narrow": narrow, "wide": wide})
    found, row = only(verdict), verdict["width"]
    assert (found.n, found.dropped, found.outcome) == (3, 2, "flatter")
    assert found.value == pytest.approx(stats.gmean([2, 1.1 / 0.6, 1.3 / 0.7]))
    assert found.sentence.endswith("2 pairs left out for want of a value.")
    assert row.groups[1].n == 3
    assert row.groups[1].value == pytest.approx(stats.gmean([1.0, 1.1, 1.3]))
    said = "basin width: without a value: wide: 1 with no more than a lower bound and 1 undefined, of 5."
    assert said in verdict.sentences()


def test_no_pair_with_a_value_is_undefined() -> None:
    verdict = compare({"a": [beyond(2.0), beyond(2.0)], "b": group(1.0, 1.5, what=LARGE)})
    found = only(verdict)
    assert (found.outcome, found.n, found.dropped) == ("undefined", 0, 2)
    assert "b and a cannot be compared: there is no pair with a value on both sides" in found.sentence
    assert verdict.table()[1][2:] == ["a lower bound", str(verdict["width"].groups[1]), "undefined"]


def test_a_measure_that_a_minimum_has_not_is_undefined_there() -> None:
    a, b = group(1.0, 2.0, 3.0), [flat(2.0), Flatness(()), flat(5.0)]
    assert (only(compare({"a": a, "b": b})).n, only(compare({"a": a, "b": b})).dropped) == (2, 1)


def test_the_same_numbers_are_the_same() -> None:
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 1, 5))
    for other in (values, values * (1 + 1e-6 * rng.normal(size=5)), values * (1 + 1e-5)):
        found = only(compare({"a": group(*values), "b": group(*other)}))
        assert found.outcome == "same"
        assert found.sentence == "b and a are the same within 0.1 % (n = 5)."
    assert only(compare({"a": group(*values), "b": group(*values * 1.01)})).outcome != "same"
    signed = rng.normal(size=5)
    assert only(compare({"a": group(*signed), "b": group(*signed)})).outcome == "same"


def test_equal_differences_are_judged_by_their_signs() -> None:
    """Three equal ratios are no certainty: the sign test's p is 1/4, and it takes six to pass 1/20."""
    found = only(compare({"a": group(1.0, 2.0, 4.0), "b": group(2.0, 4.0, 8.0)}))
    assert (found.outcome, found.p, found.more_seeds) == ("not told apart", 0.25, 3)
    assert only(compare({"a": group(*[1.0, 2.0] * 3), "b": group(*[2.0, 4.0] * 3)})).outcome == "sharper"


def test_unequal_groups_are_compared_over_their_common_positions() -> None:
    a, b = [3.0, 4.0, 5.0, 100.0], [2.0, 2.2, 3.1]
    verdict = compare({"CE": group(*a), "KD": group(*b)})
    assert (only(verdict).n, only(verdict).dropped) == (3, 0)
    assert only(verdict).p == pytest.approx(stats.ttest_rel(np.log(a[:3]), np.log(b)).pvalue)
    assert verdict.notes == ("Groups of different sizes (CE 4, KD 3) are compared over the positions that both have.",)


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_verdict_is_a_table_and_plain_data() -> None:
    two = [Flatness((measure([v, v + 1]), measure([1 / v, 2 / v], LARGE))) for v in (1.0, 2.0, 3.5)]
    verdict = compare({"a": two, "b": two[::-1]}, gaps={"a": [1, 2, 3], "b": [3, 2, 1]})
    head, *lines = verdict.table()
    assert head == ["measure", "flatter is", "a", "b", "b against a", "tau with the gap"]
    assert [line[:2] for line in lines] == [["curvature", "small"], ["basin width", "large"]]
    assert {len(line) for line in lines} == {len(head)}
    assert str(verdict).splitlines()[0].startswith("measure")
    again = json.loads(json.dumps(dataclasses.asdict(verdict)))
    assert again["rows"][0]["differences"][0]["p"] == verdict["curv"].differences[0].p
    assert len(verdict.sentences()) == 2
    with pytest.raises(KeyError, match=r"expected one of curv, width\. Got 'trace'"):
        verdict["trace"]


def test_measures_are_chosen_by_key_and_in_that_order() -> None:
    two = [Flatness((measure([v, v + 1]), measure([1 / v, 2 / v], LARGE))) for v in (1.0, 2.0)]
    assert [r.what.key for r in compare({"a": two, "b": two}, measures=["width", "curv"]).rows] == ["width", "curv"]
    with pytest.raises(ValueError, match=r"measures must be some of curv, width\. Got 'trace'"):
        compare({"a": two, "b": two}, measures=["trace"])


def test_lower_bounds_by_definition_and_shared_directions_are_said() -> None:
    bound = dataclasses.replace(SMALL, bound="lower")
    numbers = [[Flatness((measure(v, bound, at_least=True),), {"seed": 0}) for v in (1.0, 2.0)] for _ in range(2)]
    verdict = compare({"a": numbers[0], "b": numbers[1]})
    assert only(verdict).n == 2
    assert "Lower bounds by definition, compared as they are: curvature." in verdict.notes
    assert any("measured along the same directions" in note for note in verdict.notes)


def test_faulty_groups_are_refused() -> None:
    a = group(1.0, 2.0)
    with pytest.raises(ValueError, match=r"groups must be two or more, .* Got 1"):
        compare({"a": a})
    with pytest.raises(ValueError, match=r"group 'b' must have a minimum\. Got none"):
        compare({"a": a, "b": []})
    with pytest.raises(TypeError, match=r"group 'b' must be a list of minima\. Got Flatness"):
        compare({"a": a, "b": a[0]})
    with pytest.raises(TypeError, match=r"a minimum of 'b' must be a Problem, or the Flatness .* Got float"):
        compare({"a": a, "b": [1.0]})
    with pytest.raises(ValueError, match=r"gaps must be one for each minimum, .* Got \{'a': 2, 'b': 1\}"):
        compare({"a": a, "b": a}, gaps={"a": [1, 2], "b": [1]})
    with pytest.raises(ValueError, match=r"'curv' must be the same number in all minima.* Got another in 'b'"):
        compare({"a": a, "b": group(1.0, what=dataclasses.replace(SMALL, text="Something else."))})
    for key in ("term", "split"):
        with pytest.raises(ValueError, match=rf"all minima must be measured on the same {key}\. Got ce, kd"):
            compare({"a": [flat(1.0, **{key: "ce"})], "b": [flat(1.0, **{key: "kd"})]})


def test_minima_of_other_data_are_said_and_those_of_other_settings_refused() -> None:
    one, other, silent = flat(1.0, data_sha256="a"), flat(2.0, data_sha256="b"), flat(3.0)
    for groups in ({"a": [one, one], "b": [one, other]}, {"a": [silent, one], "b": [silent, other]}):
        assert any("Not all minima were measured on the same batches" in note for note in compare(groups).notes)
    assert not any("same batches" in note for note in compare({"a": [one, silent], "b": [silent, one]}).notes)
    at = lambda rho: flat(1.0, settings={"rises": (0.1, 1.0), "rho": rho})  # noqa: E731
    with pytest.raises(ValueError, match=r"at the same settings\. Got others at position 0 of 'b' than first in 'a'"):
        compare({"a": [at(0.05)], "b": [at(0.1)]})
    read = flat(1.0, settings={"rho": 0.05, "rises": [0.1, 1.0]})  # as a file has it
    assert compare({"a": [at(0.05)], "b": [read]})


def test_what_is_left_out_in_every_minimum_is_said_with_its_reason() -> None:
    why = "term 'wrong' must be differentiable. Got one without a gradient.\nTake another."
    a, b = flat(1.0, left_out={"sam": why, "trace": "too long"}), flat(2.0, left_out={"sam": "Another reason."})
    said = [note for note in compare({"a": [a, a], "b": [b, a]}).notes if "Left out" in note]
    assert said == ["Left out in every minimum: sam: term 'wrong' must be differentiable."]
    assert not any("Left out" in note for note in compare({"a": [a], "b": [flat(1.0)]}).notes)


# --- problems ---------------------------------------------------------------------------------------------------------


def problem(seed: int, scale: float, device) -> ls.Problem:
    """A small network, its outputs times a factor: the loss of the larger is sharper. All have the same data."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 4, generator=generator), torch.randint(0, 3, (24,), generator=generator)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double().to(device)
    with torch.no_grad():
        net[2].weight.mul_(scale)
    ce = lambda out, labels: F.cross_entropy(out, labels, reduction="none")  # noqa: E731
    return ls.Problem.from_loss(net, {"ce": ce}, [(x.double(), y)])


def test_problems_are_measured_along_directions_that_a_pair_shares(device) -> None:
    groups = {name: [problem(seed, scale, device) for seed in range(2)] for name, scale in (("CE", 1.0), ("KD", 3.0))}
    options = {"measures": ["noise-0.25"], "n_directions": 4}
    verdict = compare(groups, seed=7, **options)
    assert str(verdict) == str(compare(groups, seed=7, **options))
    assert str(verdict) != str(compare(groups, seed=8, **options))
    same = {"CE": groups["CE"], "again": groups["CE"]}
    assert only(compare(same, **options)).outcome == "same"
    twice = {"CE": [groups["CE"][0]] * 2, "KD": [groups["KD"][0]] * 2}
    values = compare(twice, **options)["noise-0.25"].groups[0].values
    assert values[0] != values[1], "each position has directions of its own"


def test_a_network_with_its_layers_rescaled_is_the_same_by_what_does_not_change(device) -> None:
    """ReLU(5 x) and a last layer over 5 are the same function as before."""
    plain = [problem(seed, 1.0, device) for seed in range(3)]
    rescaled = []
    for one in plain:
        one.model[1] = nn.ReLU()
        net = copy.deepcopy(one.model)
        with torch.no_grad():
            net[0].weight.mul_(5)
            net[0].bias.mul_(5)
            net[2].weight.div_(5)
        rescaled.append(dataclasses.replace(one, model=net))
    verdict = compare({"plain": plain, "rescaled": rescaled}, measures=["noise-0.25", "keskar"], n_directions=4)
    assert verdict["noise-0.25"].differences[0].outcome == "same"
    assert verdict["keskar"].differences[0].outcome != "same"


def test_a_problem_and_what_was_measured_of_one_go_together(device) -> None:
    a, b = problem(0, 1.0, device), problem(0, 3.0, device)
    measured = ls.sharpness.summary(b, n_directions=4, measures=["noise-0.25"])
    assert ls.sharpness.compare({"CE": [a], "KD": [measured]}, n_directions=4) is not None
    assert ls.sharpness.compare({"CE": [a], "KD": [b]}) is not None


def test_a_term_that_no_minimum_was_measured_on_is_refused(device) -> None:
    measured = ls.sharpness.summary(problem(0, 1.0, device), n_directions=4, measures=["noise-0.25"])
    with pytest.raises(ValueError, match=r"measured on the same term\. Got kd, ce"):
        compare({"a": [measured], "b": [measured]}, term="kd")
    for one, other in itertools.permutations([measured, problem(0, 3.0, device)]):
        with pytest.raises(ValueError, match="term must be among those of the objective: ce"):
            compare({"a": [one], "b": [other]}, term="kd")


def test_problems_with_other_data_are_said_to_be_so_also_from_files(tmp_path) -> None:
    one, same = problem(0, 1.0, "cpu"), problem(1, 1.0, "cpu")
    x, y = one.batches[0]
    other = dataclasses.replace(same, batches=[(x, y.roll(1))])

    def said(a, b) -> bool:
        return any("on the same batches" in note for note in compare({"a": [a], "b": [b]}, measures=["sam"]).notes)

    assert not said(one, same)
    assert said(one, other)
    paths = [tmp_path / "one.h5", tmp_path / "other.h5"]
    for path, of in zip(paths, (one, other), strict=True):
        ls.sharpness.summary(of, measures=["sam"]).save(path)
    assert said(*map(ls.load, paths))
    surface = ls.evaluate(one, ls.directions.random(one.model, n=1), ls.Grid1D(x=(-1, 1, 3)))
    assert ls.load(paths[0]).attrs["data_sha256"] == surface.attrs["data_sha256"]
