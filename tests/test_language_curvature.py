"""Curvature and flatness of language models: a classifier like BERT, and a GPT-2 whose term is per token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import trapezoid

import landscape as ls
from landscape.derivatives import Derivatives


def _bert(seed):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=11, max_position_embeddings=6, num_labels=3, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).double()


def _gpt2(seed):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).double()


def _classes(model, batch):
    return {"ce": F.cross_entropy(model(input_ids=batch["ids"]).logits, batch["labels"], reduction="none")}


def _tokens(model, batch):
    logits = model(input_ids=batch["ids"]).logits[:, :-1]
    values = F.cross_entropy(logits.transpose(1, 2), batch["ids"][:, 1:], reduction="none")
    return {"ce": ls.PerToken(values, batch["ids"][:, 1:] > 2)}


def _problem(network, objective, seed):
    generator = torch.Generator().manual_seed(0)
    # Without token 0: torch holds the embedding of the padding fixed, which differences of gradients do not know.
    ids, labels = torch.randint(1, 11, (6, 6), generator=generator), torch.randint(0, 3, (6,), generator=generator)
    batches = [{"ids": ids[:4], "labels": labels[:4]}, {"ids": ids[4:], "labels": labels[4:]}]
    return ls.Problem(network(seed), objective, batches)


def _dense(problem):
    """By central differences of gradients, a weight at a time."""
    made = Derivatives(problem, "ce", differences=True)
    return made.multiply(torch.eye(made.size, dtype=torch.float64)).numpy()


@pytest.mark.parametrize(("network", "objective"), [(_bert, _classes), (_gpt2, _tokens)], ids=["bert", "gpt2"])
def test_eigenpairs_trace_density_and_compare(network, objective):
    problem = _problem(network, objective, 0)
    dense = _dense(problem)
    dense = (dense + dense.T) / 2
    values = np.linalg.eigvalsh(dense)

    top = ls.hessian.eigenpairs(problem, term="ce", k=3, tolerance=1e-8)
    np.testing.assert_allclose(top.values, values[::-1][:3], rtol=1e-5)
    trace = ls.hessian.trace(problem, term="ce", rel_error=0.1)
    assert abs(trace.value - np.trace(dense)) < 5 * trace.sem
    assert trace.sem <= 0.1 * abs(trace.value)
    density = ls.hessian.density(problem, term="ce", probes=6, steps=20)
    second = density.moment(2)
    assert abs(second.value - np.square(values).mean()) < 5 * second.sem
    assert trapezoid(density.density, density.x) == pytest.approx(1.0, abs=1e-3)

    others = [_problem(network, objective, seed) for seed in (1, 2)]
    verdict = ls.sharpness.compare(
        {"a": [problem, others[0]], "b": [others[1], problem]},
        measures=["noise-0.1", "sam", "top-eigenvalue"],
        n_directions=6,
    )
    assert verdict["top-eigenvalue"].groups[0].values[0] == pytest.approx(values[-1], rel=1e-2)
    assert all(np.isfinite(group.value) for row in verdict.rows for group in row.groups)
