"""Any number of terms, and what holds for all the examples, against the gradient of every single example."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import batched, cosine, example_gradients, gradients, parts
from test_conflict import Student, distillation, examples
from torch import nn

import landscape as ls
from landscape import modules
from landscape.conflict import from_gram, gram, measure

TERMS = ("ce", "kd", "decay")


def three(model, batch):
    terms = distillation(model, batch)
    logits, _ = model(batch[0])
    return terms | {"decay": (logits - 1).square().sum(1)}


def network() -> Student:
    torch.manual_seed(3)
    return Student().double()


def data():
    """21 examples in uneven batches, around a point, so that their gradients have something in common."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(21, 4, dtype=torch.float64, generator=generator) / 2 + 1
    return batched(x, torch.randint(0, 2, (21,), generator=generator), 8)


def measured(**options) -> ls.Conflict:
    return measure(ls.Problem(network(), three, data()), TERMS, **options)


def oracle() -> dict[str, list[list[np.ndarray]]]:
    return {term: example_gradients(network(), three, data(), term) for term in TERMS}


def test_inner_products_of_three_terms(device):
    model, batches = Student().double(), examples()
    each = {term: gradients(model, three, batches, term) for term in TERMS}
    c = measure(ls.Problem(model.to(device), three, batches), TERMS)
    assert c.gram.shape == (3, len(c.layers), 3, 3)
    np.testing.assert_array_equal(c.sizes, [[8] * 3, [8] * 3, [5] * 3])
    for b in range(3):
        for i, layer in enumerate(c.layers):
            rows = np.stack([each[term][b][layer] for term in TERMS])
            np.testing.assert_allclose(c.gram[b, i], rows @ rows.T, rtol=1e-10, atol=1e-12)
        whole = np.stack([np.concatenate(list(each[term][b].values())) for term in TERMS])
        for k, first in enumerate(whole):
            for m, second in enumerate(whole):
                assert c.cosines[b, k, m] == pytest.approx(cosine(first, second), abs=1e-10)


def test_a_pair_of_three_is_what_measuring_the_two_gives():
    c = measured()
    pair, alone = c.pair("decay", "ce"), measure(ls.Problem(network(), three, data()), ("decay", "ce"))
    assert pair.terms == ("decay", "ce")
    np.testing.assert_allclose(pair.gram, alone.gram, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(pair.whole.halves, alone.whole.halves, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(pair.whole.spread, alone.whole.spread, rtol=1e-12, atol=1e-15)
    assert not np.array_equal(pair.cosine, c.cosine)
    with pytest.raises(KeyError, match=r"one of ce, kd, decay\. Got 'dkd'"):
        c.pair("ce", "dkd")
    with pytest.raises(ValueError, match=r"two different terms\. Got 'ce' twice"):
        c.pair("ce", "ce")


def test_ratio_similarity_and_shares_are_those_of_their_definitions():
    c = measured()
    for b, (x, y) in enumerate(zip(*([np.mean(rows, 0) for rows in oracle()[t]] for t in TERMS[:2]), strict=True)):
        n, m = np.linalg.norm(x), np.linalg.norm(y)
        _, left_x, left_y = parts(x, y)
        assert c.ratio[b] == pytest.approx(n / m, rel=1e-10)
        assert c.magnitude_similarity[b] == pytest.approx(2 * n * m / (n**2 + m**2), rel=1e-10)
        assert c.inconsistent_share["ce"][b] == pytest.approx(left_x @ left_x / n**2, rel=1e-9)
        assert c.inconsistent_share["kd"][b] == pytest.approx(left_y @ left_y / m**2, rel=1e-9)


@given(st.lists(st.integers(-99, 99), min_size=4, max_size=4), st.floats(1e-3, 1e3))
def test_what_depends_on_the_scale_of_the_terms_and_what_does_not(numbers, scale):
    vectors = np.array(numbers).reshape(2, 2)
    one, other = (
        from_gram(("a", "b"), [0], ["all"], [[v @ v.T]]) for v in (vectors, vectors * np.array([[scale], [scale]]))
    )
    np.testing.assert_allclose(other.cosine, one.cosine, atol=1e-9)
    np.testing.assert_allclose(other.magnitude_similarity, one.magnitude_similarity, rtol=1e-6)
    np.testing.assert_allclose(other.norm["a"], one.norm["a"] * scale, rtol=1e-9)
    if not np.isnan(one.ratio[0]):
        assert one.magnitude_similarity[0] <= 1
        swapped = one.pair("b", "a")
        assert swapped.ratio[0] == pytest.approx(1 / one.ratio[0])
        assert swapped.magnitude_similarity[0] == pytest.approx(one.magnitude_similarity[0])


# All the examples


def test_gradients_over_all_the_examples_have_exact_weights():
    c, every = measured(), oracle()
    mean = [np.mean([row for rows in every[t] for row in rows], axis=0) for t in TERMS]
    expected = np.stack(mean) @ np.stack(mean).T
    np.testing.assert_allclose(c.whole.gram.sum(axis=0), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(c.whole.counts, [21, 21, 21])
    assert c.whole.cosine == pytest.approx(cosine(mean[0], mean[1]), abs=1e-10)
    consistent, left_a, left_b = parts(mean[0], mean[1])
    assert c.whole.norm["decay"] == pytest.approx(np.linalg.norm(mean[2]), rel=1e-10)
    assert c.whole.consistent == pytest.approx(np.linalg.norm(consistent), rel=1e-10)
    assert c.whole.inconsistent["ce"] == pytest.approx(np.linalg.norm(left_a), rel=1e-9)
    assert c.whole.inconsistent["kd"] == pytest.approx(np.linalg.norm(left_b), rel=1e-9)
    assert abs(c.whole.cosine - c.cosine.mean()) > 1e-3, "or a mean over batches would pass for it"


def test_the_split_half_cosine_is_that_of_even_and_odd_batches():
    c, every = measured(), oracle()
    halves = {t: [np.mean([r for rows in every[t][h::2] for r in rows], axis=0) for h in (0, 1)] for t in TERMS}
    for k, s in enumerate(TERMS):
        for m, t in enumerate(TERMS):
            (a1, a2), (b1, b2) = halves[s], halves[t]
            expected = (a1 @ b2 + a2 @ b1) / 2 / math.sqrt((a1 @ a2) * (b1 @ b2))
            assert c.whole.split_half_cosines[k, m] == pytest.approx(expected, abs=1e-10)
    assert c.whole.split_half_cosine == c.whole.split_half_cosines[0, 1]


def test_a_split_half_cosine_without_noise_is_the_cosine_whatever_the_halves_sizes():
    """Two terms whose counts differ between the halves: of 1 and of 4 tokens in turn."""
    torch.manual_seed(0)
    net = nn.Linear(3, 4, dtype=torch.float64)
    x = torch.randn(1, 3, dtype=torch.float64).expand(2, 3)

    def terms(model, batch):
        inputs, tokens = batch
        values = model(inputs)
        few = torch.arange(4) < tokens[:, None]
        return {
            "a": ls.PerToken(values, torch.ones_like(few)),
            "b": ls.PerToken(values.sum(1, keepdim=True).expand(2, 4), few),
        }

    batches = [(x, torch.tensor([n, n])) for n in (1, 4, 1, 4)]
    whole = ls.conflict.measure(ls.Problem(net, terms, batches), ("a", "b")).whole
    assert whole.shares[:, 1] == pytest.approx([0.2, 0.8])
    assert whole.cosine == pytest.approx(1.0)
    assert whole.split_half_cosine == pytest.approx(1.0)


def test_a_split_half_cosine_of_halves_that_oppose_is_undefined():
    def pull(model, batch):
        return {"a": model(batch).squeeze(1), "b": batch[:, 0] * 0 + model(batch * 0 + 1).squeeze(1)}

    batches = [torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -2.0]])]
    c = measure(ls.Problem(nn.Linear(2, 1, bias=False), pull, batches), ("a", "b"))
    assert math.isnan(c.whole.split_half_cosine)
    assert "split" in c.summary()
    assert "undefined" in c.summary()


def test_variance_and_signal_to_noise_from_uneven_batches():
    c, every = measured(), oracle()
    for term in TERMS:
        means, sizes = [np.mean(rows, 0) for rows in every[term]], [len(rows) for rows in every[term]]
        n, whole = sum(sizes), np.average(means, axis=0, weights=sizes)
        one = sum(k * np.sum((g - whole) ** 2) for g, k in zip(means, sizes, strict=True)) / (len(means) - 1)
        variance, signal = one / (n / len(means)), whole @ whole - one / n
        assert c.whole.variance[term] == pytest.approx(variance, rel=1e-10)
        assert c.whole.signal_to_noise[term] == pytest.approx(signal / variance, rel=1e-9)


def linear(model, x):
    return {"a": model(x).squeeze(1), "b": model(x + 1).squeeze(1)}


def test_variance_and_signal_are_unbiased_for_uneven_batches():
    """Over many draws of examples the mean of each estimate is the truth, which a plain variance of means is not."""
    generator, model = torch.Generator().manual_seed(0), nn.Linear(3, 1, bias=False).double()
    found = []
    for _ in range(400):
        x = torch.randn(14, 3, dtype=torch.float64, generator=generator) + 0.5
        problem = ls.Problem(
            model, lambda m, b: {"a": m(b).squeeze(1), "b": m(b + 1).squeeze(1)}, list(x.split([9, 4, 1]))
        )
        whole = measure(problem, ("a", "b")).whole
        found.append((whole.variance["a"] * 14 / 3, whole.signal_to_noise["a"] * whole.variance["a"]))
    variance, signal = np.mean(found, axis=0)
    error_of_variance, error_of_signal = np.std(found, axis=0) / math.sqrt(len(found))
    assert variance == pytest.approx(3.0, abs=4 * error_of_variance)
    assert signal == pytest.approx(0.75, abs=4 * error_of_signal)
    assert error_of_variance < 0.15


def test_batches_that_are_all_alike_have_no_noise():
    c = measure(ls.Problem(network(), three, [data()[0]] * 3), TERMS)
    np.testing.assert_allclose(c.whole.cosines, c.cosines[0], rtol=1e-12)
    np.testing.assert_allclose(c.whole.split_half_cosines, c.cosines[0], rtol=1e-12)
    for term in TERMS:
        assert c.whole.variance[term] <= 1e-12 * c.whole.norm[term] ** 2


# Parts of the network


@pytest.mark.parametrize("by", ["parameter", "block"])
def test_rows_of_any_size_add_up_to_the_network(by):
    c, layers = measured(by=by), measured()
    assert c.by == by
    expected = {
        "parameter": [n for n, p in Student().named_parameters() if p.requires_grad],
        "block": ["(root)", "body.0", "body.1", "head", "hint"],
    }
    assert list(c.layers) == expected[by]
    np.testing.assert_allclose(c.total, layers.total, rtol=1e-12)
    np.testing.assert_allclose(c.whole.gram.sum(0), layers.whole.gram.sum(0), rtol=1e-12)


def test_a_measurement_by_parameter_can_be_put_together():
    fine = measured(by="parameter")
    for by in ("layer", "block"):
        put, direct = fine.grouped(by), measured(by=by)
        assert (put.layers, put.by) == (direct.layers, by)
        np.testing.assert_allclose(put.gram, direct.gram, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(put.whole.halves, direct.whole.halves, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(put.whole.spread, direct.whole.spread, rtol=1e-9, atol=1e-15)
    assert fine.grouped("parameter") is fine
    with pytest.raises(ValueError, match=r"by must be layer or coarser.* Got 'parameter': measure it with"):
        measured().grouped("parameter")
    with pytest.raises(ValueError, match=r"by must be one of parameter, layer, block\. Got 'filter'"):
        measured(by="filter")


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("layer1.0.conv1", "layer1.0"),
        ("transformer.h.3.attn.c_attn", "transformer.h.3"),
        ("encoder.layers.2.blocks.1.norm", "encoder.layers.2"),
        ("transformer.wte", "transformer"),
        ("conv1", "conv1"),
        ("0", "0"),
        ("(root)", "(root)"),
    ],
)
def test_the_block_of_a_layer(layer, block):
    assert modules.block(layer) == block


# Other vectors


def test_gradients_along_other_vectors():
    model = network()
    wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
    vectors = {name: {n: torch.randn_like(p) for n, p in wanted.items()} for name in ("momentum", "update")}
    c, every = measured(along=vectors), oracle()
    for name, vector in vectors.items():
        flat = torch.cat([vector[n].reshape(-1) for n in wanted]).numpy()
        for term in TERMS:
            means = [np.mean(rows, 0) for rows in every[term]]
            np.testing.assert_allclose(c.cosine_along(name)[term], [cosine(g, flat) for g in means], atol=1e-10)
            mean = np.mean([row for rows in every[term] for row in rows], axis=0)
            assert c.whole_cosine_along(name)[term] == pytest.approx(cosine(mean, flat), abs=1e-10)
    assert c.pair("decay", "ce").cosine_along("update")["ce"] == pytest.approx(c.cosine_along("update")["ce"])
    assert c.grouped("block").cosine_along("update")["kd"] == pytest.approx(c.cosine_along("update")["kd"])
    np.testing.assert_allclose(c.gram, measured().gram, rtol=1e-12, atol=1e-15)
    with pytest.raises(KeyError, match=r"one of momentum, update\. Got 'velocity'"):
        c.cosine_along("velocity")
    c.whole = None
    with pytest.raises(ValueError, match=r"whole must be there\. Got a recording of single batches only"):
        c.whole_cosine_along("update")


@pytest.mark.parametrize(
    ("change", "got"), [(lambda v: v.pop("scale"), "none"), (lambda v: v.update(scale=torch.ones(2)), r"\[2\]")]
)
def test_a_vector_that_does_not_fit_is_named(change, got):
    vector = {n: torch.ones_like(p) for n, p in Student().named_parameters()}
    change(vector)
    with pytest.raises(ValueError, match=rf"along\['v'\] must have a tensor of shape \[1\] for scale\. Got {got}"):
        measured(along={"v": vector})


# Unhappy data


def test_one_batch_has_no_variance_and_no_halves():
    c = measured(batches=1)
    assert np.isnan(c.whole.spread).all()
    assert math.isnan(c.whole.split_half_cosine)
    assert math.isnan(c.whole.signal_to_noise["ce"])
    assert c.whole.cosine == pytest.approx(c.cosine[0], abs=1e-14)
    mean, low, high, n = c.intervals()["cosine"]
    assert (mean, n) == (pytest.approx(c.cosine[0]), 1)
    assert math.isnan(low)
    assert math.isnan(high)
    assert "One batch does not tell how batches differ" in c.summary()


def test_a_term_without_a_gradient_in_some_batches_is_left_out_and_counted():
    batches = examples()
    batches[1][0][:] = 0

    def flat(model, batch):
        logits, hint = model(batch[0])
        return {"ce": F.cross_entropy(logits, batch[1], reduction="none"), "kd": hint.sum(1) * batch[0].sum(1)}

    c = measure(ls.Problem(Student().double(), flat, batches))
    assert list(np.isnan(c.cosine)) == [False, True, False]
    assert c.intervals()["cosine"].records == 2
    assert c.intervals()["cosine"].mean == pytest.approx(np.nanmean(c.cosine))
    assert "cosine of ce and kd is undefined in 1 of 3 batches" in c.summary()


def test_a_layer_that_one_term_never_reaches_is_said():
    said = measured().summary()
    assert "The gradient of ce is zero, and cosines with it undefined, in hint (3 of 3 batches)." in said
    assert "The gradient of kd is zero" not in said


def test_terms_that_share_no_parameter_are_said():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

    def apart(model, batch):
        return {"a": model.a(batch[0]).squeeze(1), "b": model.b(batch[0]).squeeze(1)}

    c = measure(ls.Problem(Two(), apart, examples(torch.float32)), ("a", "b"))
    np.testing.assert_array_equal(c.cosine, 0)
    assert c.attrs["share_no_parameter"] == [["a", "b"]]
    assert "a and b share no parameter: cosine 0 by construction" in c.summary()
    assert measured().attrs["share_no_parameter"] == []


def test_a_term_that_is_a_mean_already_is_refused():
    def mean(model, batch):
        return {name: term.mean() for name, term in three(model, batch).items() if name in TERMS}

    with pytest.raises(ValueError, match=r"term 'ce' must have one value per example, shape \[N\]\. Got shape \[\]"):
        measure(ls.Problem(network(), mean, data()), TERMS)


def tokens(model, batch):
    """A term for each token, some of them left out, and one for each sequence."""
    ids, counted = batch
    values = model(ids).squeeze(2)
    return {"token": ls.PerToken(values.square(), counted), "sequence": values.mean(1)}


def token_batches(masks):
    return [(torch.randn(3, 4, 5, dtype=torch.float64), torch.tensor(mask)) for mask in masks]


def test_a_batch_counts_as_many_tokens_as_it_has():
    masks = [[[True] * 4, [True] * 2 + [False] * 2, [False] * 4], [[True] + [False] * 3] * 3]
    model, batches = nn.Linear(5, 1).double(), token_batches(masks)
    c = measure(ls.Problem(model, tokens, batches), ("token", "sequence"))
    np.testing.assert_array_equal(c.sizes, [[6, 3], [3, 3]])
    rows = [r for batch in example_gradients(model, tokens, batches, "token") for r in batch]
    assert len(rows) == 9
    assert c.whole.norm["token"] == pytest.approx(np.linalg.norm(np.mean(rows, 0)), rel=1e-10)
    assert c.norm["token"][0] == pytest.approx(np.linalg.norm(np.mean(rows[:6], 0)), rel=1e-10)


def test_a_batch_without_tokens_has_no_cosine_and_no_weight():
    some = [[True] * 4] * 3
    batches, model = token_batches([some, [[False] * 4] * 3, some]), nn.Linear(5, 1).double()
    c = measure(ls.Problem(model, tokens, batches), ("token", "sequence"))
    assert list(np.isnan(c.cosine)) == [False, True, False]
    np.testing.assert_array_equal(c.whole.counts, [24, 9])
    np.testing.assert_array_equal(c.whole.batches, [2, 3])
    alone = measure(ls.Problem(model, tokens, [batches[0], batches[2]]), ("token", "sequence"))
    assert c.whole.norm["token"] == pytest.approx(alone.whole.norm["token"], rel=1e-12)
    assert c.whole.variance["token"] == pytest.approx(alone.whole.variance["token"], rel=1e-10)


def test_a_batch_without_examples_has_no_cosine_and_no_weight():
    batches = data()
    nothing = (batches[0][0][:0], batches[0][1][:0])
    c = measure(ls.Problem(network(), three, [batches[0], nothing, *batches[1:]]), TERMS)
    assert list(np.isnan(c.cosine)) == [False, True, False, False]
    np.testing.assert_allclose(c.whole.gram, measured().whole.gram, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(c.whole.spread, measured().whole.spread, rtol=1e-9, atol=1e-15)


# Intervals


def test_intervals_hold_the_mean_and_are_the_same_each_time():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 1, 2, 5)) + 0.3
    c = from_gram(("a", "b"), range(200), ["all"], vectors @ vectors.swapaxes(-1, -2))
    found = c.intervals()
    assert set(found) == {
        *("cosine", "fraction negative", "ratio of norms", "magnitude similarity"),
        *("inconsistent share of a", "inconsistent share of b"),
    }
    assert found == c.intervals()
    for interval in found.values():
        assert interval.low < interval.mean < interval.high
    assert found["fraction negative"].mean == c.fraction_negative
    width = 1.96 * c.cosine.std(ddof=1) / math.sqrt(200)
    assert found["cosine"].high - found["cosine"].low == pytest.approx(2 * width, rel=0.1)


# A language model


@pytest.fixture(scope="module")
def language_models():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"student": (16, 2), "teacher": (32, 3)}
    return [
        transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=30, n_positions=12, n_embd=width, n_layer=depth, n_head=2, bos_token_id=0, eos_token_id=0
            )
        ).eval()
        for width, depth in sizes.values()
    ]


def test_a_language_model_with_two_losses(language_models):
    student, teacher = (model.double() for model in language_models)

    def objective(model, batch):
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
        with torch.no_grad():
            wanted = teacher(input_ids=batch["input_ids"]).logits[:, :-1]
        labels, counted = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:].bool()
        ce = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        kd = F.kl_div(logits.log_softmax(2), wanted.softmax(2), reduction="none").sum(2)
        return {"next": ls.PerToken(ce, counted), "kd": ls.PerToken(kd, counted)}

    batches = [
        {"input_ids": torch.randint(0, 30, (n, 9)), "attention_mask": (torch.arange(9) < length).long().expand(n, 9)}
        for n, length in ((2, 9), (2, 6), (1, 4))
    ]
    c = measure(ls.Problem(student, objective, batches), ("next", "kd"), by="block")
    assert c.layers == ("transformer", "transformer.h.0", "transformer.h.1")
    np.testing.assert_array_equal(c.sizes[:, 0], [16, 10, 3])
    rows = {t: example_gradients(student, objective, batches, t) for t in ("next", "kd")}
    means = {t: np.mean([r for batch in each for r in batch], axis=0) for t, each in rows.items()}
    assert c.whole.cosine == pytest.approx(cosine(means["next"], means["kd"]), abs=1e-10)
    for b in range(3):
        assert c.cosine[b] == pytest.approx(cosine(*(np.mean(rows[t][b], 0) for t in ("next", "kd"))), abs=1e-10)


# Other kinds of numbers


def test_gradients_of_bfloat16_are_summed_in_float32():
    model = nn.Linear(4, 1).bfloat16()

    def terms(m, x):
        out = m(x).squeeze(1)
        return {"a": out, "b": out.float().square()}

    batches = list(torch.randn(600, 4).bfloat16().split(2))
    c = measure(ls.Problem(model, terms, batches), ("a", "b"))
    every = example_gradients(model, terms, [torch.cat(batches)], "a")[0]
    # The sum of 600 in bfloat16 would be right to two digits at best; each batch's own gradient is rounded to that.
    assert c.whole.norm["a"] == pytest.approx(np.linalg.norm(np.mean(every, 0)), rel=2e-3)
    assert c.gram.dtype == np.float64


def test_complex_weights_count_with_both_parts():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, dtype=torch.complex128))

        def forward(self, x):
            return (x * self.w).sum(1)

    def terms(m, x):
        out = m(x)
        return {"a": out.real + out.imag, "b": out.real - out.imag}

    c = measure(ls.Problem(Complex(), terms, [torch.ones(2, 4, dtype=torch.float64)]), ("a", "b"))
    np.testing.assert_allclose(c.norm["a"], math.sqrt(8))
    np.testing.assert_allclose(c.cosine, 0, atol=1e-15)


@pytest.mark.parametrize("n", [1000, 100_003])
def test_long_vectors_are_multiplied_in_float64(n, device):
    vectors = [[torch.randn(n, device=device) + k, torch.randn(7, device=device)] for k in (1, 2, 3)]
    found = gram(vectors, [1, 0], 2).cpu().numpy()
    for row, column in ((1, 0), (0, 1)):
        rows = np.stack([vector[column].cpu().double().numpy() for vector in vectors])
        np.testing.assert_allclose(found[row], rows @ rows.T, rtol=1e-12)
