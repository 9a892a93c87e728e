"""Products of curvature against dense matrices of small networks, and what is refused."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape as ls
from landscape.derivatives import Derivatives
from tests import oracles
from tests.oracles import HazardNet, batched, fingerprint, images, objective

X, Y = torch.randn(13, 4, generator=torch.Generator().manual_seed(1)), torch.arange(13) % 3


def mlp(dtype=torch.float64):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def cross_entropy(model, batch):
    return {"ce": F.cross_entropy(model(batch[0]), batch[1], reduction="none")}


def simple(of=cross_entropy, dtype=torch.float64, size=5):
    return ls.Problem(mlp(dtype), of, batched(X.to(dtype), Y, size))


def hazard():
    x, y = images()
    return ls.Problem(HazardNet().double(), objective, batched(x.double(), y))  # 8, 8 and 6 examples


class Tagger(nn.Module):
    """A tag for each token."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 3), nn.Linear(3, 4)

    def forward(self, tokens):
        return self.out(torch.tanh(self.embed(tokens)))


def of_tokens(model, batch):
    tokens, labels, counted = batch
    return {"ce": ls.PerToken(F.cross_entropy(model(tokens).transpose(1, 2), labels, reduction="none"), counted)}


def tagging():
    tokens, labels = torch.randint(0, 7, (7, 5)), torch.randint(0, 4, (7, 5))
    counted = torch.rand(7, 5) < 0.6
    counted[6] = False  # the last batch has no token that counts
    batches = list(zip(tokens.split([4, 2, 1]), labels.split([4, 2, 1]), counted.split([4, 2, 1]), strict=True))
    return ls.Problem(Tagger().double(), of_tokens, batches)


PROBLEMS = {"mlp": simple, "hazard": hazard, "tokens": tagging}


def on(device, problem):
    return ls.Problem(problem.model.to(device), problem.objective, problem.batches)


def whole(made):
    """The matrix, several rows at a time."""
    rows = torch.eye(made.size, dtype=torch.float64, device=made.device).split(7)
    return torch.cat([made.multiply(each) for each in rows]).cpu().numpy()


def dense_gauss_newton(problem, term):
    """By the formula, for the terms of these problems."""
    kind = problem.objective
    if kind is of_tokens:
        parts = [tuple(torch.cat(p) for p in zip(*problem.batches, strict=True))][0]
        tokens, labels, counted = (p for p in parts)
        x, y = tokens[counted][:, None], labels[counted]
        return oracles.gauss_newton(problem.model, lambda z, t: F.cross_entropy(z[None], t[None]), x, y)
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))

    def of_one(z, target):
        return kind(lambda _: z[None], (None, target[None]))[term][0]

    return oracles.gauss_newton(problem.model, of_one, x, y)


def dense(problem, term, kind):
    if kind == "gauss-newton":
        return dense_gauss_newton(problem, term)
    made = {"hessian": oracles.hessian, "empirical-fisher": oracles.empirical_fisher}[kind]
    return made(problem.model, problem.objective, problem.batches, term)


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton", "empirical-fisher"])
@pytest.mark.parametrize(("name", "term"), [("mlp", "ce"), ("hazard", "ce"), ("hazard", "kd"), ("tokens", "ce")])
def test_products_are_those_of_the_dense_matrix(name, term, kind, device):
    problem = PROBLEMS[name]()
    expected = dense(problem, term, kind)
    made = Derivatives(on(device, problem), term, kind=kind)
    assert len(expected) == made.size == sum(p.numel() for p in problem.model.parameters() if p.requires_grad)
    found = whole(made)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())
    assert made.products == made.size
    vectors = torch.randn(3, made.size, dtype=torch.float64, device=device)
    products = made.multiply(vectors).cpu().numpy()
    np.testing.assert_allclose(products, vectors.cpu().numpy() @ expected, rtol=0, atol=1e-11 * abs(expected).max())


def test_products_by_differences_are_close(device):
    problem = hazard()
    expected = dense(problem, "ce", "hessian")
    made = Derivatives(on(device, problem), "ce", differences=True)
    vectors = torch.randn(2, made.size, dtype=torch.float64, device=device) * torch.tensor([[1.0], [1e3]]).to(device)
    vectors = torch.cat([vectors, torch.zeros_like(vectors[:1])])
    wanted = vectors.cpu().numpy() @ expected
    found = made.multiply(vectors).cpu().numpy()
    for a, b in zip(found[:2], wanted[:2], strict=True):
        assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)
    assert not found[2].any()


def test_differences_come_back_to_the_very_same_weights():
    made = Derivatives(simple(dtype=torch.float32), differences=True)
    made.move(torch.randn(made.size))
    before = [p.detach().clone() for p in made.model.parameters()]
    made.multiply(torch.randn(1, made.size))
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_slope_is_the_mean_and_its_gradient(name, device):
    problem = PROBLEMS[name]()
    total, n = oracles.sum_of(problem.model.eval(), problem.objective, problem.batches, "ce")
    expected = oracles.gradient_of_mean(problem.model, problem.objective, problem.batches, "ce")
    value, gradient = Derivatives(on(device, problem), "ce").slope()
    assert value == pytest.approx(total.item() / n, rel=1e-12)
    assert gradient.dtype == torch.float64
    np.testing.assert_allclose(gradient.cpu().numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton", "empirical-fisher"])
def test_some_parameters_give_their_diagonal_block(kind):
    problem = hazard()
    expected = dense(problem, "ce", kind)
    every = Derivatives(problem, "ce", kind=kind)
    names = ["again.weight", "conv.bias", "mix"]
    block = Derivatives(problem, "ce", kind=kind, parameters=names)
    assert block.names == [name for name in every.names if name in names]
    numbers = every.split(torch.arange(every.size))
    at = torch.cat([numbers[name].reshape(-1) for name in block.names]).numpy()
    np.testing.assert_allclose(whole(block), expected[np.ix_(at, at)], rtol=0, atol=1e-12 * abs(expected).max())


def test_moved_weights_have_their_own_curvature():
    problem = simple()
    made = Derivatives(problem)
    offset = torch.randn(made.size, dtype=torch.float64)
    at_home = made.slope()
    made.move(offset)
    expected = oracles.hessian(problem.model, cross_entropy, problem.batches, "ce", offset.numpy())
    np.testing.assert_allclose(whole(made), expected, rtol=0, atol=1e-12)
    gradient = oracles.gradient_of_mean(problem.model, cross_entropy, problem.batches, "ce", offset.numpy())
    np.testing.assert_allclose(made.slope().gradient.numpy(), gradient, rtol=0, atol=1e-13)
    made.move(offset)  # from the problem's weights, not from there
    np.testing.assert_allclose(made.slope().gradient.numpy(), gradient, rtol=0, atol=1e-13)
    made.move()
    assert made.slope().value == at_home.value
    assert torch.equal(made.slope().gradient, at_home.gradient)


def test_vectors_are_split_by_name_and_joined_again():
    made = Derivatives(hazard())
    vector = torch.randn(made.size, dtype=torch.float64)
    parts = made.split(vector)
    assert {name: t.shape for name, t in parts.items()} == {
        name: p.shape for name, p in HazardNet().named_parameters() if p.requires_grad
    }
    assert torch.equal(made.join(dict(reversed(parts.items()))), vector)
    assert torch.equal(made.join(made.split(made.weights())), made.weights())


def test_double_precision_is_that_of_a_double_network():
    problem = ls.Problem(HazardNet(), objective, batched(*images()))
    made = Derivatives(problem, "ce", precision="float64")
    twin = HazardNet().double()
    twin.load_state_dict(problem.model.state_dict())
    batches = [(x.double(), y) for x, y in problem.batches]
    expected = oracles.hessian(twin, objective, batches, "ce")
    np.testing.assert_allclose(whole(made), expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_low_precision_sums_in_double():
    problem = simple(dtype=torch.float32, size=1)
    expected = oracles.hessian(problem.model.double(), cross_entropy, batched(X.double(), Y), "ce")
    found = whole(Derivatives(ls.Problem(problem.model.float(), cross_entropy, problem.batches)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7 * abs(expected).max())


def test_everything_is_left_as_it_was():
    x, y = images()
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=generator)
    model = HazardNet()
    before = fingerprint(model, generator)
    for options in ({}, {"kind": "gauss-newton"}, {"kind": "empirical-fisher"}, {"differences": True}):
        made = Derivatives(ls.Problem(model, objective, loader), "ce", **options)
        vectors = torch.ones(2, made.size)
        with torch.inference_mode():
            inside = Derivatives(ls.Problem(model, objective, loader), "ce", **options)
            again = inside.multiply(torch.ones(2, made.size))
            inside.slope()
        with torch.no_grad():
            assert torch.equal(made.multiply(vectors), again)
        with pytest.raises(ValueError, match="shape"):
            made.multiply(vectors[:, 1:])
    assert fingerprint(model, generator) == before


# Other networks


SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def _bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=11, max_position_embeddings=6, num_labels=3, **SMALL)
    return transformers.BertForSequenceClassification(config), torch.randint(0, 3, (5,))


def _gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config), None


def _language(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    if "labels" in batch:
        return {"ce": F.cross_entropy(logits, batch["labels"], reduction="none")}
    counted = batch["attention_mask"][:, 1:].bool()
    values = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
    return {"ce": ls.PerToken(values, counted)}


@pytest.mark.parametrize("network", [_bert, _gpt2])
def test_attention_has_a_curvature(network):
    model, labels = network()
    tokens, mask = torch.randint(1, 11, (5, 6)), torch.ones(5, 6, dtype=torch.long)
    mask[2, 4:] = 0
    batch = {"input_ids": tokens, "attention_mask": mask} | ({} if labels is None else {"labels": labels})
    batches = [{k: v[:3] for k, v in batch.items()}, {k: v[3:] for k, v in batch.items()}]
    problem = ls.Problem(model.double(), _language, batches)
    made = Derivatives(problem)
    assert model.config._attn_implementation == "sdpa"  # the fused kernels of which have no second derivative
    vector = torch.randn(made.size, dtype=torch.float64)
    expected = oracles.hessian_by_differences(model, _language, batches, "ce", vector.numpy())
    found = made.multiply(vector[None])[0].numpy()
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)
    top = ls.hessian.eigenpairs(problem, k=1)
    along = made.join(top.vectors[0])
    pushed = oracles.hessian_by_differences(model, _language, batches, "ce", along.numpy())
    assert np.linalg.norm(pushed - top.values[0] * along.numpy()) == pytest.approx(top.residuals[0], rel=1e-2, abs=1e-7)
    for kind in ("gauss-newton", "empirical-fisher"):
        assert float(vector @ Derivatives(problem, kind=kind).multiply(vector[None])[0]) > 0


# What is refused


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(2 * g.detach().numpy())


def with_function(function):
    def of(model, batch):
        return {"ce": function.apply(F.cross_entropy(model(batch[0]), batch[1], reduction="none"))}

    return of


@pytest.mark.parametrize("kind", ["hessian", "empirical-fisher"])
def test_an_operation_without_second_derivative_is_named_and_differences_do(kind):
    problem = simple(with_function(_Square))
    message = (
        r"'ce' must be twice differentiable\. Got an operation that is not \(_Square is marked as once_differentiable\)"
        r"\. Use another implementation of it, or kind='hessian' with differences=True"
    )
    with pytest.raises(ValueError, match=message):
        Derivatives(problem, kind=kind).multiply(torch.ones(1, 43))

    def smooth(model, batch):
        return {"ce": cross_entropy(model, batch)["ce"] ** 2}

    expected = oracles.hessian(problem.model, smooth, problem.batches, "ce")
    found = whole(Derivatives(problem, differences=True))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * abs(expected).max())


def _distance(z):
    return torch.cdist(z[:, None], z.flip(1)[:, None] + 1)[:, 0, 0]


def _margin(z):
    return F.multi_margin_loss(z, torch.zeros(len(z), dtype=torch.long), reduction="none")


@pytest.mark.parametrize(("last", "name"), [(_distance, "_cdist_backward"), (_margin, "multi_margin_loss_backward")])
def test_an_operation_of_torch_without_second_derivative_is_named(last, name):
    made = Derivatives(simple(lambda model, batch: {"z": last(model(batch[0]))}))
    with pytest.raises(
        ValueError, match=rf"'z' must be twice differentiable\. Got .*{name}.* is not implemented\)\. U"
    ):
        made.multiply(torch.ones(1, made.size))


def test_a_backward_pass_that_leaves_the_graph_is_refused():
    made = Derivatives(simple(with_function(_Cut)), kind="empirical-fisher")
    with pytest.raises(ValueError, match=r"Got an operation that is not \(its backward pass is cut off from the graph"):
        made.multiply(torch.ones(1, made.size))


def _no_gradient(model, batch):
    return {"wrong": (model(batch[0]).argmax(1) != batch[1]).double()}


def _elsewhere(model, batch):
    return {"ce": torch.ones(len(batch[0]), requires_grad=True) * 2}


def _not_finite(model, batch):
    return {"ce": cross_entropy(model, batch)["ce"] * (math.nan if len(batch[0]) < 5 else 1)}


def _train_mode(model, batch):
    model.train()
    found = cross_entropy(model, batch)
    model.eval()
    return found


def _no_head(model, batch):
    return {"z": model[:2](batch[0]).square().sum(1)}


def _linear(model, batch):
    return {"z": model(batch[0]).sum(1)}


def _with_penalty(model, batch):
    weights = sum(p.square().sum() for p in model.parameters())
    return {"ce": cross_entropy(model, batch)["ce"] + 1e-9 * weights}


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        (cross_entropy, {"term": "kd"}, r"term must be among those of the objective: ce\. Got 'kd'"),
        (_no_gradient, {}, r"term 'wrong' must be differentiable\. Got one without a gradient \(a count or an error"),
        (_elsewhere, {}, r"term 'ce' must depend on the model's parameters\. Got one that does not"),
        (_elsewhere, {"kind": "gauss-newton"}, r"term 'ce' must depend on the model's parameters"),
        (_elsewhere, {"kind": "empirical-fisher"}, r"term 'ce' must depend on the model's parameters"),
        (_elsewhere, {"differences": True}, r"term 'ce' must depend on the model's parameters"),
        (_not_finite, {}, r"term 'ce' and its derivatives must be finite\. Got one that is not, in batch 2"),
        (_not_finite, {"kind": "gauss-newton"}, r"must be finite\. Got one that is not, in batch 2"),
        (_no_head, {"parameters": ["2.bias", "2.weight"]}, r"on the parameters 2\.weight, 2\.bias\. Got one without"),
        (_linear, {"parameters": ["2.weight"]}, r"term 'z' must be twice differentiable\. Got one whose gradient does"),
        (_linear, {"kind": "gauss-newton"}, r"term 'z' must be curved in the network's outputs\. Got one that is lin"),
        (
            _with_penalty,
            {"kind": "gauss-newton"},
            r"through the network's outputs \(its logits\) alone.*kind='hessian'",
        ),
    ],
)
def test_a_term_without_curvature_is_refused(of, options, message):
    made = Derivatives(simple(of), **options)
    with pytest.raises(ValueError, match=message):
        made.multiply(torch.ones(1, made.size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "fisher"}, r"kind must be one of hessian, gauss-newton, empirical-fisher\. Got 'fisher'"),
        ({"precision": "half"}, r"precision must be 'as given' or 'float64'\. Got 'half'"),
        ({"kind": "gauss-newton", "differences": True}, r"differences=True goes with kind='hessian'\. Got 'gauss-n"),
        (
            {"parameters": ["0.weight", "w"]},
            r"parameters must be names of the model's that require gradients\. Got 'w'",
        ),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Derivatives(simple(), **options)


def test_parameters_that_cannot_be_are_refused():
    for wrong in ("0.weight", []):
        with pytest.raises(TypeError, match=r"parameters must be a list of names, at least one"):
            Derivatives(simple(), parameters=wrong)
    frozen = simple()
    frozen.model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"must have parameters that require gradients\. Got none: all are frozen"):
        Derivatives(frozen)
    frozen.model.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"must be real to have a curvature\. Got 'phase' of torch\.complex64"):
        Derivatives(frozen)


def test_batch_norm_by_the_batch_is_refused():
    x, y = images()
    model = HazardNet()
    made = Derivatives(ls.Problem(model, lambda m, b: _train_mode(m, b), batched(x, y)))
    with pytest.raises(ValueError, match=r"batch norm must be in eval mode.*Got 'norm' in train mode"):
        made.slope()
    model.norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(ValueError, match=r"must have running statistics.*Got 'norm' without any"):
        Derivatives(ls.Problem(model, objective, batched(x, y)))


def test_other_data_at_every_pass_are_refused():
    passes = iter(range(9))

    def batches():
        return batched(X.double() + 0.01 * next(passes), Y, 5)

    made = Derivatives(ls.Problem(mlp(), cross_entropy, batches))
    made.multiply(torch.ones(1, made.size))
    with pytest.raises(ValueError, match=r"batches and objective must be the same at every pass\. Got a mean of"):
        made.multiply(torch.ones(1, made.size))


# Memory


class Little:
    """An objective that has no memory for more than so many examples."""

    def __init__(self, room):
        self.room, self.sizes = room, []

    def __call__(self, model, batch):
        self.sizes.append(len(batch[0]))
        if len(batch[0]) > self.room:
            raise torch.OutOfMemoryError
        return cross_entropy(model, batch)


@pytest.mark.parametrize("options", [{}, {"kind": "gauss-newton"}, {"kind": "empirical-fisher"}, {"differences": True}])
def test_out_of_memory_smaller_batches_give_the_same(options):
    model, little = mlp(), Little(3)
    plain = Derivatives(ls.Problem(model, cross_entropy, batched(X.double(), Y, 10)), **options)
    made = Derivatives(ls.Problem(model, little, batched(X.double(), Y, 10)), **options)
    vectors = torch.randn(2, made.size, dtype=torch.float64)
    with (
        pytest.warns(UserWarning, match=r"out of memory: batches of 5 examples from here on"),
        pytest.warns(UserWarning, match=r"out of memory: batches of 3 examples from here on"),
    ):
        found = made.multiply(vectors)
    expected = plain.multiply(vectors)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 if options.get("differences") else 1e-13)
    little.sizes.clear()
    made.slope()
    assert little.sizes == [3, 3, 3, 1, 3]  # 10 in pieces alike, then 3


def test_no_memory_for_one_example_is_said():
    made = Derivatives(ls.Problem(mlp(), Little(0), batched(X.double(), Y, 4)))
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(RuntimeError, match=r"the device must have memory for a single example and its graph"),
    ):
        made.multiply(torch.ones(1, made.size))


def test_batches_that_cannot_be_split_by_examples_are_refused():
    def two_each(model, batch):
        if len(batch[0]) > 3:
            raise torch.OutOfMemoryError
        return {"ce": cross_entropy(model, batch)["ce"].repeat(2)}

    made = Derivatives(simple(two_each))
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(ValueError, match=r"must have one value for each example, for a batch to be split"),
    ):
        made.slope()


@pytest.mark.parametrize("options", [{}, {"kind": "gauss-newton"}, {"kind": "empirical-fisher"}, {"differences": True}])
def test_no_graph_outlives_its_batch(options):
    alive, graphs = [], []

    def watched(model, batch):
        alive.append(sum(graph() is not None for graph in graphs))
        held = torch.zeros(1)  # lives as long as the graph of its product
        logits = model(batch[0])
        graphs.append(weakref.ref(held))
        return {"ce": F.cross_entropy(logits * (1 + _Held.apply(logits, held)), batch[1], reduction="none")}

    made = Derivatives(simple(watched, size=2), **options)
    made.multiply(torch.ones(2, made.size))
    assert len(alive) >= 7
    assert not any(alive)


class _Held(torch.autograd.Function):
    """Zero; its part of the graph holds a tensor."""

    @staticmethod
    def forward(ctx, x, held):
        ctx.held = held
        return 0 * x

    @staticmethod
    def backward(ctx, g):
        return 0 * g, None
