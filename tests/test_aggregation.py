"""Combined gradients against the vectors that TorchJD's own aggregators make of the gradients themselves."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from landscape.conflict import RULES, combine, from_gram, gram

torchjd = pytest.importorskip("torchjd.aggregation")


def of(*records):
    """A conflict of explicit gradients, each record ``[K, D]``."""
    rows = [gram([[g] for g in record], [0], 1).numpy() for record in records]
    terms = ("ce", "kd", "decay")[: len(records[0])]
    return from_gram(terms, range(len(rows)), ["all"], rows)


@pytest.mark.parametrize(("rule", "aggregator"), [("mean", "Mean"), ("mgda", "MGDA"), ("upgrad", "UPGrad")])
def test_combined_gradients_are_those_of_the_aggregators(rule, aggregator):
    records = [torch.randn(3, 6, dtype=torch.float64) for _ in range(4)]
    found = combine(of(*records), rule)
    assert found.weights.shape == found.cosine.shape == found.decrease.shape == (4, 3)
    for b, record in enumerate(records):
        d = getattr(torchjd, aggregator)()(record)
        np.testing.assert_allclose(found.weights[b] @ record.numpy(), d.numpy(), atol=1e-9)
        for k, g in enumerate(record):
            assert found.cosine[b, k] == pytest.approx(float(torch.cosine_similarity(g, d, dim=0)), abs=1e-9)
            assert found.decrease[b, k] == pytest.approx(float(g @ d / d.norm()), abs=1e-9)


def test_pcgrad_projects_conflicting_gradients():
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([-1.0, 1.0], dtype=torch.float64)
    found = combine(of(torch.stack([a, b]), torch.stack([a, -b])), "pcgrad")
    d = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    np.testing.assert_allclose(found.weights[0] @ torch.stack([a, b]).numpy(), d.numpy(), atol=1e-12)
    np.testing.assert_allclose(found.weights[1], [1, 1])
    assert (found.decrease >= 0).all()
    assert combine(of(torch.stack([a, b])), "mean").decrease.min() >= 0


def test_a_rule_lowers_what_the_mean_raises():
    small, large = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([-8.0, 1.0], dtype=torch.float64)
    found = {rule: combine(of(torch.stack([small, large])), rule).decrease[0] for rule in RULES}
    assert found["mean"][0] < 0
    for rule in ("pcgrad", "mgda", "upgrad"):
        assert (found[rule] >= -0.01 * float(large.norm())).all()


def test_gradients_that_cancel_have_no_direction():
    a = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = combine(of(torch.stack([a, -a])), "mean")
    assert np.isnan(found.decrease).all()
    assert np.isnan(found.cosine).all()


def test_the_same_call_gives_the_same_weights_and_draws_nothing():
    conflict = of(*(torch.randn(3, 2, dtype=torch.float64) for _ in range(5)))
    state = torch.get_rng_state()
    first = combine(conflict, "pcgrad").weights
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    np.testing.assert_array_equal(combine(conflict, "pcgrad").weights, first)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"rule must be one of mean, pcgrad, mgda, upgrad\. Got 'sum'"):
        combine(of(torch.eye(2, dtype=torch.float64)), "sum")


def test_what_to_install_is_said(monkeypatch):
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torchjd"):
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs TorchJD.*pip install \"dot-landscape\[multitask\]\""):
        combine(of(torch.eye(2, dtype=torch.float64)), "mean")
