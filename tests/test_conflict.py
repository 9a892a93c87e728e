"""Gradient conflict against gradients taken by an ordinary backward pass, flattened, and split vector by vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import HazardNet, batched, cosine, gradients, images, objective, parts
from torch import nn

import landscape as ls
from landscape.conflict import decompose, from_gram, gram, layers_of, measure


class Student(nn.Module):
    """Layers that both terms reach, one that only the distillation reaches, a frozen one, a parameter of the root."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)
        self.hint = nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.tensor([1.5]))
        self(torch.randn(20, 4))
        self.body[0].bias.requires_grad_(False)

    def forward(self, x):
        """``[N, 4]`` to logits ``[N, 3]`` and hints ``[N, 2]``."""
        z = self.body(x)
        return self.scale * self.head(z), self.hint(z)


def distillation(model, batch):
    x, y = batch
    logits, hint = model(x)
    teacher = torch.stack([x[:, 0], -x[:, 1], x[:, 2]], 1)
    kd = F.kl_div(F.log_softmax(logits, 1), F.softmax(teacher, 1), reduction="none").sum(1)
    hit = logits.argmax(1) == y
    return {"ce": F.cross_entropy(logits, y, reduction="none"), "kd": kd + hint.square().sum(1), "hit": hit}


def examples(dtype=torch.float64, n: int = 21):
    return batched(torch.randn(n, 4, dtype=dtype), torch.randint(0, 3, (n,)), 8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_every_number_equals_that_of_the_explicit_vectors(dtype, tolerance, device):
    model, batches = Student().to(dtype), examples(dtype)
    a = gradients(model, distillation, batches, "ce")
    b = gradients(model, distillation, batches, "kd")
    c = measure(ls.Problem(model.to(device), distillation, batches))
    assert c.terms == ("ce", "kd")
    assert list(c.step) == [0, 1, 2]
    assert set(c.layers) == {"(root)", "body.0", "body.1", "head", "hint"}
    order = list(c.layers)
    columns = {"whole": None} | {name: order.index(name) for name in order}
    for step in range(3):
        for name, column in columns.items():
            x, y = (np.concatenate(list(g[step].values())) if column is None else g[step][name] for g in (a, b))
            consistent, left_x, left_y = (np.linalg.norm(v) for v in parts(x, y))
            got = {
                "cosine": c.cosine[step] if column is None else c.layer_cosine[step, column],
                "consistent": c.consistent[step] if column is None else c.layer_consistent[step, column],
            }
            for term in ("ce", "kd"):
                got[f"norm {term}"] = c.norm[term][step] if column is None else c.layer_norm[term][step, column]
                left = c.inconsistent[term][step] if column is None else c.layer_inconsistent[term][step, column]
                got[f"left {term}"] = left
            expected = {
                "cosine": cosine(x, y),
                "consistent": consistent,
                "norm ce": np.linalg.norm(x),
                "norm kd": np.linalg.norm(y),
                "left ce": left_x,
                "left kd": left_y,
            }
            for what, value in expected.items():
                assert got[what] == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), (step, name, what)
    assert all(np.array_equal(c.per_layer[n], c.layer_cosine[:, i], equal_nan=True) for i, n in enumerate(order))
    assert c.fraction_negative == (c.cosine < 0).mean()


def test_a_parameter_that_one_term_reaches_alone_counts_as_a_zero_gradient_of_the_other(device):
    c = measure(ls.Problem(Student().double().to(device), distillation, examples()))
    hint = c.layers.index("hint")
    assert np.isnan(c.layer_cosine[:, hint]).all()
    assert (c.layer_norm["ce"][:, hint] == 0).all()
    assert (c.layer_norm["kd"][:, hint] > 0).all()
    assert (c.layer_consistent[:, hint] == 0).all()
    np.testing.assert_allclose(c.layer_inconsistent["kd"][:, hint], c.layer_norm["kd"][:, hint], rtol=1e-14)
    assert np.isfinite(c.cosine).all()


def test_frozen_parameters_are_left_out(device):
    model, batches = Student().double(), examples()
    for p in [*model.head.parameters(), *model.body[1].parameters()]:
        p.requires_grad_(False)
    expected = gradients(model, distillation, batches, "ce")
    c = measure(ls.Problem(model.to(device), distillation, batches))
    assert set(c.layers) == {"(root)", "body.0", "hint"}
    np.testing.assert_allclose(
        c.norm["ce"], [np.linalg.norm(np.concatenate(list(g.values()))) for g in expected], rtol=1e-10
    )


def test_a_tied_weight_counts_once():
    model = HazardNet()
    owners = layers_of(model)
    assert owners["again.weight"] == "again"
    assert "and_again.weight" not in owners
    assert owners["mix"] == "(root)"


def test_the_same_call_gives_the_same_numbers_without_dropout(device):
    problem = ls.Problem(HazardNet().to(device), objective, batched(*images()))
    first = measure(problem)
    torch.rand(3)
    np.testing.assert_array_equal(first.cosine, measure(problem).cosine)


def test_only_the_asked_for_batches_are_read():
    read = []

    def batches():
        for batch in examples():
            read.append(1)
            yield batch

    problem = ls.Problem(Student().double(), distillation, batches)
    some = measure(problem, batches=2)
    assert len(read) == 2
    np.testing.assert_array_equal(some.cosine, measure(ls.Problem(problem.model, distillation, batches)).cosine[:2])


def vectors(n: int):
    return st.lists(st.floats(-10, 10).map(lambda v: round(v, 3)), min_size=n, max_size=n).map(
        lambda v: torch.tensor(v, dtype=torch.float64)
    )


A = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
ORTHOGONAL = torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decomposition_of_the_cases_that_define_it(dtype, device):
    a = A.to(device, dtype)
    zero = torch.zeros_like(a)
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-15, "atol": 1e-15}
    for x, y, expected in [
        (a, a, (a, zero, zero)),
        (2 * a, a, (a, a, zero)),
        (a, 2 * a, (a, zero, a)),
        (a, -a, (zero, a, -a)),
        (a, -3 * a, (zero, a, -3 * a)),
        (a, zero, (zero, a, zero)),
        (zero, a, (zero, zero, a)),
        (zero, zero, (zero, zero, zero)),
    ]:
        for got, wanted in zip(decompose(x, y), expected, strict=True):
            torch.testing.assert_close(got, wanted, **close)


def test_orthogonal_vectors_share_half_of_the_shorter_one_along_the_bisector():
    b = ORTHOGONAL / ORTHOGONAL.norm() * A.norm()
    consistent, left_a, left_b = decompose(A, b)
    torch.testing.assert_close(consistent, (A + b) / 2, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(left_a, (A - b) / 2, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(left_b, (b - A) / 2, rtol=1e-14, atol=1e-14)


@given(a=vectors(5), b=vectors(5))
def test_decomposition_equals_its_definition_and_is_symmetric(a, b):
    got, swapped = decompose(a, b), decompose(b, a)
    for mine, theirs in zip(got, parts(a.numpy(), b.numpy()), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-11)
    torch.testing.assert_close(got.consistent, swapped.consistent, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.inconsistent_a, swapped.inconsistent_b, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.consistent + got.inconsistent_a, a, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.consistent + got.inconsistent_b, b, rtol=0, atol=1e-12)


@given(a=vectors(4), b=vectors(4), seed=st.integers(0, 2**31))
def test_decomposition_is_the_same_in_any_basis(a, b, seed):
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))
    if a.any() and b.any() and (a / a.norm() + b / b.norm()).norm() < 1e-6:
        return  # opposite up to rounding: what they share is of the size of the rounding
    for got, expected in zip(decompose(rotation @ a, rotation @ b), decompose(a, b), strict=True):
        torch.testing.assert_close(got, rotation @ expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("b", [torch.ones(4), torch.ones(3, 1)])
def test_vectors_of_other_lengths_are_refused(b):
    with pytest.raises(ValueError, match=r"vectors of one length. Got shapes \[3\] and"):
        decompose(torch.ones(3), b)


def of_vectors(pairs) -> ls.Conflict:
    a, b = (torch.stack([torch.as_tensor(p[k], dtype=torch.float64) for p in pairs]) for k in (0, 1))
    grams = torch.stack([gram([[x], [y]], [0], 1) for x, y in zip(a, b, strict=True)])
    return from_gram(("ce", "kd"), range(len(pairs)), ["all"], grams.numpy())


@given(a=vectors(6), b=vectors(6))
def test_the_gram_matrix_tells_what_the_vectors_tell(a, b):
    c = of_vectors([(a, b)])
    consistent, left_a, left_b = (float(v.norm()) for v in decompose(a, b))
    size = max(float(a.norm()), float(b.norm()), 1e-300)
    # Parallel vectors are told apart by a difference of squares: its rounding, 1e-16, is 1e-8 after the root.
    sine = math.sqrt(max(0.0, 1 - cosine(a.numpy(), b.numpy()) ** 2)) if a.any() and b.any() else 1.0
    tolerance = 1e-10 * size if sine > 1e-3 else 5e-8 * size
    assert c.consistent[0] == pytest.approx(consistent, abs=tolerance)
    assert c.inconsistent["ce"][0] == pytest.approx(left_a, abs=tolerance)
    assert c.inconsistent["kd"][0] == pytest.approx(left_b, abs=tolerance)
    assert c.cosine[0] == pytest.approx(cosine(a.numpy(), b.numpy()), abs=1e-12, nan_ok=True)
    assert not abs(c.cosine[0]) > 1


def test_the_cases_that_define_the_decomposition_hold_for_the_gram_matrix():
    n = float(A.norm())
    c = of_vectors([(A, A), (2 * A, A), (A, -A), (A, 0 * A), (0 * A, 0 * A)])
    np.testing.assert_allclose(c.consistent, [n, n, 0, 0, 0], atol=5e-8)
    np.testing.assert_allclose(c.inconsistent["ce"], [0, n, n, n, 0], atol=1e-7)
    np.testing.assert_allclose(c.inconsistent["kd"], [0, 0, n, 0, 0], atol=1e-7)
    np.testing.assert_allclose(c.cosine, [1, 1, -1, np.nan, np.nan], rtol=1e-15)


def test_the_gram_matrix_is_per_layer():
    a = [torch.randn(2, 3), torch.randn(4), torch.randn(5)]
    b = [torch.randn(2, 3), torch.randn(4), torch.randn(5)]
    got = gram([a, b], [1, 0, 1], 2)
    for row, members in ((0, [1]), (1, [0, 2])):
        x, y = (np.concatenate([v[i].double().flatten().numpy() for i in members]) for v in (a, b))
        np.testing.assert_allclose(got[row].numpy(), [[x @ x, x @ y], [x @ y, y @ y]], rtol=1e-13)


@given(ce=vectors(6), kd=vectors(6), g_ce=vectors(6), g_kd=vectors(6), mu=st.floats(0, 1), delta=st.floats(-0.5, 0.5))
@settings(max_examples=50)
def test_the_two_optimizers_part_by_delta_times_the_inconsistent_parts(ce, kd, g_ce, g_kd, mu, delta):
    """From equal buffers (the paper's section 3.3): v_DOT - v_SGD = delta (v_kd_incon - v_ce_incon)."""
    sgd = mu * (ce + kd) + g_ce + g_kd
    v_dot = (mu - delta) * ce + g_ce + (mu + delta) * kd + g_kd
    split = decompose(ce, kd)
    torch.testing.assert_close(v_dot - sgd, delta * (split.inconsistent_b - split.inconsistent_a), rtol=0, atol=1e-11)


def test_records_without_a_cosine_are_not_counted():
    x = [1.0, 0.0]
    c = of_vectors([(x, [-1.0, 1.0]), (x, [1.0, 1.0]), (x, [0.0, 0.0]), (x, [-1.0, 0.0])])
    assert list(np.isnan(c.cosine)) == [False, False, True, False]
    assert c.fraction_negative == 2 / 3
    assert math.isnan(of_vectors([(x, [0.0, 0.0])]).fraction_negative)
    assert repr(c).startswith("<Conflict of ce and kd: 4 records, 1 layers, mean cosine")
    assert "undefined" in repr(of_vectors([(x, [0.0, 0.0])]))


def test_a_file_holds_everything(tmp_path, device):
    problem = ls.Problem(Student().double().to(device), distillation, examples(), split="train")
    c = measure(problem)
    c.groups = {"momentum": measure(problem, batches=2), "heldout": measure(problem, batches=1)}
    c.save(tmp_path / "conflict.h5")
    loaded = ls.load(tmp_path / "conflict.h5")
    assert isinstance(loaded, ls.Conflict)
    assert set(loaded.groups) == {"momentum", "heldout"}
    for mine, theirs in [(c, loaded), *((c.groups[name], loaded.groups[name]) for name in c.groups)]:
        assert (mine.terms, mine.layers) == (theirs.terms, theirs.layers)
        for name in ("step", "cosine", "consistent", "layer_cosine", "layer_consistent"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        for name in ("norm", "inconsistent", "layer_norm", "layer_inconsistent"):
            for term in mine.terms:
                np.testing.assert_array_equal(getattr(mine, name)[term], getattr(theirs, name)[term])
    assert loaded.attrs["split"] == "train"
    assert loaded.attrs["checkpoint_sha256"] == c.attrs["checkpoint_sha256"]
    assert {"created_at", "command", "versions", "machine"} <= loaded.attrs.keys()
    assert loaded.fraction_negative == c.fraction_negative
    assert list(tmp_path.iterdir()) == [tmp_path / "conflict.h5"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (("ce",), r"terms must be two or more different names, such as \('ce', 'kd'\). Got \('ce',\)"),
        (("ce", "ce"), "two or more different names"),
        (("ce", "kd", "ce"), "two or more different names"),
        ("ce", "two or more different names"),
        (("ce", "dkd"), "term must be among those of the objective: ce, kd, hit. Got 'dkd'"),
        (("ce", "hit"), "term 'hit' must be differentiable. Got one without a gradient"),
    ],
)
def test_faulty_terms_are_named(terms, message):
    with pytest.raises(ValueError, match=message):
        measure(ls.Problem(Student().double(), distillation, examples()), terms=terms)


def test_a_number_of_batches_below_one_is_refused():
    with pytest.raises(ValueError, match=r"batches must be .* Got 0"):
        measure(ls.Problem(Student().double(), distillation, examples()), batches=0)


def test_a_frozen_network_is_refused():
    model = Student().double().requires_grad_(False)
    with pytest.raises(ValueError, match=r"parameters that require gradients\. Got none: all are frozen"):
        measure(ls.Problem(model, distillation, examples()))


def test_a_gradient_that_is_not_finite_names_its_term_and_batch():
    batches = examples()
    batches[1][0][3, 2] = math.nan
    with pytest.raises(ValueError, match=r"gradient of term 'ce' must be finite\. Got one that is not, in batch 1"):
        measure(ls.Problem(Student().double(), distillation, batches))


def test_it_measures_also_where_gradients_are_switched_off():
    problem = ls.Problem(Student().double(), distillation, examples())
    expected = measure(problem)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            np.testing.assert_array_equal(measure(problem).cosine, expected.cosine)
