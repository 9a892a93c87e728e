"""Means and standard errors against textbook formulas, exact sums and a bootstrap."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import standard_error
from plain import evaluate
from torch import Tensor, nn

import landscape as ls
from landscape.results import DONE, NOT_FINITE

pytestmark = pytest.mark.filterwarnings("ignore:no cell differs from the origin")

Tokens = list[tuple[Tensor, Tensor]]
"""Batches of values ``[N, T]`` with their masks."""


def surface(batches: list[Any], objective: Any, **options: Any) -> ls.Surface:
    """Of an objective that looks at the data only: every cell is the origin."""
    model = nn.Linear(1, 1).double()
    nn.init.ones_(model.weight), nn.init.ones_(model.bias)
    directions = ls.directions.random(model, n=1)
    return evaluate(ls.Problem(model, objective, batches), directions, ls.Grid1D(x=(-1, 1, 3)), **options)


def of_values(batches: list[Tensor], **options: Any) -> tuple[float, float]:
    """Mean and standard error at the origin."""
    return surface(batches, lambda m, b: {"a": b}, **options).origin["a"]


def per_token(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return {"a": ls.PerToken(*batch)}


def of_tokens(batches: Tokens, **options: Any) -> tuple[float, float]:
    return surface(batches, per_token, **options).origin["a"]


def in_parts(batches: list[Any], objective: Any, parts: int) -> tuple[float, float]:
    """The same from parts of the data."""
    return ls.merge([surface(batches, objective, data_shard=f"{j}/{parts}") for j in range(parts)]).origin["a"]


def ratio(sequences: list[list[float]]) -> tuple[float, float]:
    """Mean over all tokens, and the standard error of a ratio of totals over clusters.

    Cochran, "Sampling Techniques", 1977, equation (2.46) without the finite population's factor: with S_i the sum and
    m_i the size of cluster i of N, R = sum S_i / sum m_i and
    SE = sqrt(sum (S_i - R m_i)^2 / (N - 1) / N) / (sum m_i / N).
    """
    sums = [sum(map(Fraction, s)) for s in sequences]
    sizes = [len(s) for s in sequences]
    n = len(sequences)
    mean = Fraction(sum(sums), sum(sizes))
    spread = sum((total - mean * size) ** 2 for total, size in zip(sums, sizes, strict=True))
    return float(mean), math.sqrt(spread / (n - 1) / n) / (sum(sizes) / n) if n > 1 else math.nan


def counted(batches: Tokens) -> list[list[float]]:
    """The values that count, a list for each sequence."""
    return [
        values[mask].double().tolist() for batch in batches for values, mask in zip(batch[0], batch[1], strict=True)
    ]


def correlated(n: int, length: int = 12, sizes: int = 7, seed: int = 0) -> Tokens:
    """Sequences of very different lengths, whose tokens share most of their value."""
    generator = torch.Generator().manual_seed(seed)
    values = 2 + torch.randn(n, 1, generator=generator, dtype=torch.float64)
    values = values + 0.3 * torch.randn(n, length, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, length + 1, (n, 1), generator=generator)
    mask = torch.arange(length) < lengths
    return list(zip(values.split(sizes), mask.split(sizes), strict=True))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    shift=st.sampled_from([0.0, -3.0, 1e4]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 2**20),
)
def test_the_standard_error_of_examples_is_s_over_the_root_of_n(sizes, shift, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, generator=generator, dtype=dtype) + shift for n in sizes]
    values = torch.cat(batches).double().tolist()
    mean, sem = of_values(batches)
    assert mean == pytest.approx(math.fsum(values) / len(values), rel=1e-14, abs=1e-15)
    expected = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    assert sem == pytest.approx(expected, rel=1e-9, abs=1e-13, nan_ok=True)
    assert standard_error(values) == pytest.approx(expected, rel=1e-12, nan_ok=True), "the oracle, by another route"


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    n=st.integers(1, 20),
    length=st.integers(1, 6),
    size=st.integers(1, 8),
    shift=st.sampled_from([0.0, -3.0, 1e4]),
    parts=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)
def test_the_standard_error_of_tokens_is_that_of_a_ratio_over_sequences(n, length, size, shift, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, length, generator=generator, dtype=torch.float64) + shift
    mask = torch.rand(n, length, generator=generator) < 0.7  # with holes, and sequences of no token
    mask[0, 0] = True
    batches = list(zip(values.split(size), mask.split(size), strict=True))
    expected = ratio(counted(batches))
    mean, sem = of_tokens(batches)
    assert mean == pytest.approx(expected[0], rel=1e-13, abs=1e-14)
    assert sem == pytest.approx(expected[1], rel=1e-9, abs=1e-12, nan_ok=True)
    parts = min(parts, len(batches))
    if all(any(m.any() for _, m in batches[j::parts]) for j in range(parts)):
        pooled = in_parts(batches, per_token, parts)
        assert pooled[0] == pytest.approx(mean, rel=1e-13, abs=1e-14)
        assert pooled[1] == pytest.approx(expected[1], rel=1e-9, abs=1e-12, nan_ok=True)


def test_the_standard_error_of_correlated_tokens_is_that_of_a_bootstrap_over_sequences():
    batches = correlated(400)
    sequences = counted(batches)
    sums, sizes = (np.array([f(s) for s in sequences]) for f in (math.fsum, len))
    drawn = np.random.default_rng(0).integers(0, len(sequences), (4000, len(sequences)))
    bootstrap = (sums[drawn].sum(1) / sizes[drawn].sum(1)).std(ddof=1)
    mean, sem = of_tokens(batches)
    assert sem == pytest.approx(bootstrap, rel=0.1)
    assert mean == pytest.approx(sums.sum() / sizes.sum(), rel=1e-13)
    flat = [v for s in sequences for v in s]
    assert sem > 2 * standard_error(flat), "counted as independent, tokens would look more certain than they are"


def test_the_standard_error_covers_the_truth_as_often_as_it_says():
    """Of 300 data sets with a known mean, the interval of 1.96 standard errors holds it in 92 to 98 %."""
    inside = 0
    for seed in range(300):
        ((values, mask),) = correlated(60, sizes=60, seed=seed)
        term = surface([(values, mask)], per_token).origin["a"]
        inside += abs(term[0] - 2) <= 1.96 * term[1]
    assert 0.92 <= inside / 300 <= 0.98


@pytest.mark.parametrize("length", [1, 4])
def test_one_token_in_each_sequence_is_the_plain_case(length):
    """Wherever in the sequence it stands."""
    values = [torch.randn(n, length, dtype=torch.float64) + 5 for n in (4, 4, 3)]
    place = [torch.randint(0, length, (len(v), 1)) for v in values]
    masks = [torch.zeros_like(v, dtype=torch.bool).scatter(1, p, True) for v, p in zip(values, place, strict=True)]
    plain = of_values([v.gather(1, p).squeeze(1) for v, p in zip(values, place, strict=True)])
    tokens = of_tokens(list(zip(values, masks, strict=True)))
    assert tokens[0] == pytest.approx(plain[0], rel=1e-15)
    assert tokens[1] == pytest.approx(plain[1], rel=1e-12)


def test_what_does_not_count_may_be_anything():
    """Not a number, infinite: losses of padding."""
    batches = correlated(11)
    expected = of_tokens(batches)
    for filling in (math.nan, math.inf, 1e300):
        filled = [(values.where(mask, filling), mask) for values, mask in batches]
        assert of_tokens(filled) == expected


def test_a_sequence_without_a_token_changes_its_clusters_only():
    """It is a sequence of the sample that had no token to give: N grows by one, the mean stays."""
    batches = correlated(11)
    silent = (torch.full((1, 12), math.nan).double(), torch.zeros(1, 12, dtype=torch.bool))
    assert of_tokens([*batches, silent])[0] == of_tokens(batches)[0]
    assert of_tokens([*batches, silent])[1] == pytest.approx(ratio([*counted(batches), []])[1], rel=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_without_a_token_is_as_good_as_any(first):
    batches = correlated(11)
    silent = (torch.zeros(2, 12).double(), torch.zeros(2, 12, dtype=torch.bool))
    mean, sem = of_tokens([silent, *batches] if first else [*batches, silent])
    expected = ratio([*counted(batches), [], []])
    assert mean == pytest.approx(expected[0], rel=1e-13)
    assert sem == pytest.approx(expected[1], rel=1e-12)


def test_a_mask_that_leaves_out_everything_is_refused():
    batches = [(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))]
    with pytest.raises(ValueError, match="at least one token"):
        of_tokens(batches)


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        (torch.ones(3), torch.ones(3, dtype=torch.bool)),
        (torch.ones(3, 2), torch.ones(3, dtype=torch.bool)),
        (torch.ones(3, 2), torch.ones(3, 2)),
        (torch.ones(3, 2), torch.ones(3, 1, dtype=torch.bool)),
    ],
    ids=["flat", "mask of sequences", "float mask", "broadcast mask"],
)
def test_a_term_per_token_of_another_shape_is_refused_by_name(values, mask):
    with pytest.raises(ValueError, match=r"term 'a' per token.*\[N, T\].*bool"):
        of_tokens([(values, mask)])


def test_a_value_for_each_token_without_a_mask_is_told_of_per_token():
    with pytest.raises(ValueError, match=r"ls\.PerToken"):
        of_values([torch.ones(3, 2)])


def test_terms_of_examples_and_of_tokens_go_together():
    batches = correlated(11)

    def both(model, batch):
        values, mask = batch
        return {"a": ls.PerToken(values, mask), "longest": mask.sum(1), "first": values[:, 0]}

    whole = surface(batches, both)
    assert whole.origin["a"] == of_tokens(batches)
    lengths = torch.cat([mask.sum(1) for _, mask in batches]).tolist()
    assert whole.origin["longest"][0] == sum(lengths) / 11
    assert whole.origin["longest"][1] == pytest.approx(statistics.stdev(lengths) / math.sqrt(11), rel=1e-12)
    assert whole.attrs["n_examples"] == {"a": sum(lengths), "longest": 11, "first": 11}
    merged = ls.merge([surface(batches, both, data_shard=f"{j}/2") for j in range(2)])
    assert merged.attrs["n_examples"] == whole.attrs["n_examples"]
    for term in whole.terms:
        np.testing.assert_allclose(merged.origin[term], whole.origin[term], rtol=1e-12)
        np.testing.assert_allclose(merged.values(term), whole.values(term), rtol=1e-13)
        np.testing.assert_allclose(merged.sem(term), whole.sem(term), rtol=1e-12)


def far(n: int, mean: float, sd: float, seed: int = 0) -> Tensor:
    return mean + sd * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HARD = {
    "a large mean": far(1000, 1e8, 1),
    "a larger mean": far(1000, -1e12, 1),
    "a tiny spread": far(1000, 1, 1e-10),
    "first batch elsewhere": torch.cat([far(50, 0, 1), far(950, 1e8, 1)]),
    "last batch elsewhere": torch.cat([far(950, 1e8, 1), far(50, 0, 1)]),
    "one outlier at the start": torch.cat([far(1, 1e6, 1), far(999, 1, 1e-3)]),
    "sorted": far(1000, 1e8, 1).sort().values,
    "huge": far(1000, 1e150, 1e149),
    "tiny": far(1000, 1e-150, 1e-151),
}


@pytest.mark.parametrize("parts", [1, 3, 7])
@pytest.mark.parametrize("kind", HARD)
def test_hard_numbers_keep_their_digits(kind, parts):
    """As many as the spread leaves: 1e-16 times the mean over the spread."""
    values = HARD[kind]
    batches = list(values.split(50))
    exact = [Fraction(v) for v in values.tolist()]
    mean = sum(exact) / len(exact)
    deviations = [v - mean for v in exact]
    spread = math.sqrt(sum(d * d for d in deviations) / (len(exact) - 1))
    found = in_parts(batches, lambda m, b: {"a": b}, parts) if parts > 1 else of_values(batches)
    assert found[0] == pytest.approx(float(mean), rel=1e-14)
    digits = max(1e-12, 20 * 2.0**-53 * abs(float(mean)) / spread)
    assert digits < 2e-2, "a bound that cannot fail proves nothing"
    assert found[1] == pytest.approx(spread / math.sqrt(len(exact)), rel=digits, abs=0)


@pytest.mark.parametrize("parts", [1, 3])
def test_hard_numbers_per_token_keep_their_digits(parts):
    tokens = [(values + 1e8, mask) for values, mask in correlated(200)]
    mean, sem = ratio(counted(tokens))
    found = of_tokens(tokens) if parts == 1 else in_parts(tokens, per_token, parts)
    assert found[0] == pytest.approx(mean, rel=1e-14)
    assert found[1] == pytest.approx(sem, rel=1e-6)


def test_equal_values_have_no_error():
    assert of_values([torch.full((n,), 0.1, dtype=torch.float64) for n in (7, 7, 3)])[1] == pytest.approx(0, abs=1e-17)
    assert of_values([torch.full((n,), 0.1) for n in (7, 7, 3)])[1] == pytest.approx(0, abs=1e-17)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", ["first batch", "last batch"])
@pytest.mark.parametrize("tokens", [False, True])
def test_a_value_that_is_not_finite_makes_its_cell_so_without_harm_to_others(bad, at, tokens):
    """The weight is 1 at the origin and 2 at x = 1: only there one example is not finite."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))

    model, batches = One(), [torch.arange(4.0).double(), torch.arange(4.0, 7.0).double()]

    def objective(m, batch):
        values = batch * m.w[0, 0]
        hit = batch == (1.0 if at == "first batch" else 5.0)
        values = values.where(~(hit & (m.w[0, 0] > 1.5)), bad)
        return {"a": ls.PerToken(values[:, None], torch.ones(len(values), 1, dtype=torch.bool)) if tokens else values}

    directions = ls.directions.from_tensors(model, {"w": torch.ones(1, 1).double()})
    line = evaluate(ls.Problem(model, objective, batches), directions, ls.Grid1D(x=(-1, 1, 5)))
    assert line.status.tolist() == [DONE] * 4 + [NOT_FINITE]
    np.testing.assert_array_equal(line.values("a")[-1], bad)
    assert math.isnan(line.sem("a")[-1])
    np.testing.assert_allclose(line.values("a")[:4], 3 * (1 + line.x[:4]), rtol=1e-14, atol=1e-15)
    assert np.isfinite(line.sem("a")[:4]).all()


def test_half_precision_losses_are_summed_in_double():
    """In half precision 4096 ones and a half would stop growing at 2048."""
    batches = [torch.full((4096,), 1.5, dtype=torch.float16), torch.full((3,), 1.0, dtype=torch.float16)]
    assert of_values(batches)[0] == (4096 * 1.5 + 3) / 4099
    low = [(b[:, None].expand(-1, 2).bfloat16(), torch.ones(len(b), 2, dtype=torch.bool)) for b in batches]
    assert of_tokens(low)[0] == pytest.approx((4096 * 1.5 + 3) / 4099, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_counts_are_numbers_too(dtype):
    mean, sem = of_values([torch.tensor([1, 0, 1, 1]).to(dtype), torch.tensor([0]).to(dtype)])
    assert mean == 0.6
    assert sem == pytest.approx(math.sqrt(0.6 * 0.4 / 4), rel=1e-12)


def test_a_first_batch_without_a_token_costs_no_digits():
    tokens = [(values + 1e8, mask) for values, mask in correlated(200)]
    silent = (torch.zeros(2, 12).double(), torch.zeros(2, 12, dtype=torch.bool))
    expected = ratio([[], [], *counted(tokens)])[1]
    assert of_tokens([*tokens, silent])[1] == pytest.approx(expected, rel=1e-6)
    assert of_tokens([silent, *tokens])[1] == pytest.approx(expected, rel=1e-6)
