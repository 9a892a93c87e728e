"""Any network, any loader: its surface against a script that moves a deep copy; what cannot be measured is refused."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import brute_force, fingerprint
from plain import evaluate
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.directions import Directions
from landscape.results import DONE

LINE, PLANE = ls.Grid1D(x=(-0.5, 1, 4)), ls.Grid2D(x=(-1, 1, 3), y=(0.25, 1, 2))


@dataclass
class Case:
    """A network with data to measure it on; ``twin`` is what a script would use of it."""

    model: nn.Module
    objective: Callable[[Any, Any], dict[str, Any]]
    batches: Any
    twin: nn.Module | None = None

    def passes(self) -> Iterable[Any]:
        return self.batches() if callable(self.batches) else self.batches


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__.strip("_").replace("_", " ")] = make
    return make


def ce(model, batch):
    """Of a network that returns logits ``[N, C]``."""
    x, y = batch
    logits = model(x)
    return {"ce": F.cross_entropy(logits, y, reduction="none"), "correct": logits.argmax(1) == y}


def squares(model, batch):
    """Of a network that returns anything ``[N, ...]``."""
    return {"squares": model(batch).abs().square().flatten(1).mean(1)}


def vectors(n: int = 11, of: int = 5, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    """Batches of 4, 4 and 3 examples with labels."""
    return list(zip(torch.randn(n, of, dtype=dtype).split(4), torch.randint(0, 3, (n,)).split(4), strict=True))


def pictures(size: int = 6, channels: int = 2) -> list[tuple[Tensor, Tensor]]:
    images = torch.randn(11, channels, size, size, dtype=torch.float64)
    return list(zip(images.split(4), torch.randint(0, 3, (11,)).split(4), strict=True))


def sequences() -> list[Tensor]:
    return list(torch.randn(7, 4, 8, dtype=torch.float64).split(3))


def mlp(*norms: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), *norms, nn.Tanh(), nn.Linear(6, 3)).double()


def cnn(norm: nn.Module) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    for x, _ in pictures():
        model(3 * x + 1)  # running statistics that are not those of a fresh layer
    return model


@case
def _mlp_without_norm():
    return Case(mlp(), ce, vectors())


@case
def _batch_norm_cnn():
    return Case(cnn(nn.BatchNorm2d(4)), ce, pictures())


@case
def _group_norm():
    return Case(cnn(nn.GroupNorm(2, 4)), ce, pictures())


@case
def _layer_norm():
    return Case(mlp(nn.LayerNorm(6)), ce, vectors())


class _LanguageModel(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(13, 8), kind(8, 8, batch_first=True), nn.Linear(8, 13)

    def forward(self, ids):
        return self.head(self.body(self.embed(ids))[0])


def next_token(model, ids):
    logits = model(ids[:, :-1])
    return {"ce": F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)}


def token_ids() -> list[Tensor]:
    return list(torch.randint(0, 13, (7, 6)).split(3))


@case
def _lstm_language_model():
    return Case(_LanguageModel(nn.LSTM).double(), next_token, token_ids())


@case
def _gru():
    return Case(_LanguageModel(nn.GRU).double(), next_token, token_ids())


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


@case
def _multihead_attention():
    return Case(_Attention().double(), squares, sequences())


@case
def _transformer():
    model = nn.Transformer(8, 2, 1, 1, dim_feedforward=16, batch_first=True).double()
    return Case(model, lambda m, b: {"error": (m(b, b) - b.flip(1)).square().flatten(1).mean(1)}, sequences())


class _Tied(_LanguageModel):
    def __init__(self):
        super().__init__(nn.GRU)
        self.head.weight = self.embed.weight


@case
def _tied_weights():
    return Case(_Tied().double(), next_token, token_ids())


@case
def _partly_frozen():
    model = mlp()
    model[0].requires_grad_(False)
    return Case(model, ce, vectors())


@case
def _weight_norm_as_a_parametrization():
    model = mlp()
    parametrizations.weight_norm(model[0])
    return Case(model, ce, vectors())


@case
def _spectral_norm_as_a_parametrization():
    model = mlp()
    parametrizations.spectral_norm(model[0])
    return Case(model, ce, vectors())


@case
def _weight_norm_as_a_hook_after_a_forward_pass_with_gradients():
    model = mlp()
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.nn.utils.weight_norm(model[0])
    for x, y in vectors():
        F.cross_entropy(model(x), y).backward()  # from now on copy.deepcopy of the network fails
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    return Case(model, ce, vectors(), rebuilt(model, torch.nn.utils.weight_norm))


def rebuilt(model: nn.Module, normalised: Callable[[nn.Module], Any]) -> nn.Module:
    """A network of the same tensors that has not seen a batch, for a script to copy."""
    twin = mlp()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        normalised(twin[0])
        for name, tensor in vars(twin[0]).items():
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                setattr(twin[0], name, tensor.detach())  # computed anew before each forward pass
    twin.load_state_dict(model.state_dict())
    return twin


@case
def _spectral_norm_as_a_hook_after_a_forward_pass_with_gradients():
    model = mlp()
    torch.nn.utils.spectral_norm(model[0])
    for x, y in vectors():
        F.cross_entropy(model(x), y).backward()
    return Case(model, ce, vectors(), rebuilt(model, torch.nn.utils.spectral_norm))


@case
def _data_parallel():
    network = mlp()
    return Case(nn.DataParallel(network), ce, vectors(), network)


@case
def _compiled():
    network = mlp()
    return Case(torch.compile(network, backend="eager"), ce, vectors(), network)


@case
def _compiled_data_parallel():
    network = mlp()
    return Case(torch.compile(nn.DataParallel(network), backend="eager"), ce, vectors(), network)


@case
def _float32():
    return Case(mlp().float(), ce, vectors(dtype=torch.float32))


@case
def _float16():
    return Case(mlp().half(), ce, vectors(dtype=torch.float16))


@case
def _bfloat16():
    return Case(mlp().bfloat16(), ce, vectors(dtype=torch.bfloat16))


class _Mixed(nn.Module):
    """The second layer in another precision than the first."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Linear(5, 6).bfloat16(), nn.Linear(6, 3).double()

    def forward(self, x):
        return self.high(torch.tanh(self.low(x.bfloat16())).double())


class _Turned(nn.Module):
    """A layer whose input is not contiguous: torch takes another kernel where the weight requires gradients."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


@case
def _linear_on_a_turned_input():
    return Case(_Turned().double(), squares, [torch.randn(3, 4, 8, dtype=torch.float64) for _ in range(3)])


@case
def _mixed_precisions():
    return Case(_Mixed(), ce, vectors())


class _Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(5, 5, dtype=torch.complex128))
        self.register_buffer("phase", torch.randn(5, dtype=torch.complex128))
        self.register_buffer("order", torch.tensor([3, 0, 1, 4, 2]))

    def forward(self, x):
        return (x.to(self.w.dtype) @ self.w * self.phase)[:, self.order]


@case
def _complex_parameters_and_complex_and_integer_buffers():
    return Case(_Complex(), squares, [x for x, _ in vectors()])


class _Integers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3).double()
        self.order = nn.Parameter(torch.tensor([2, 0, 1]), requires_grad=False)

    def forward(self, x):
        return self.layer(x)[:, self.order]


@case
def _integer_parameters_beside_others():
    return Case(_Integers(), ce, vectors())


class _Scalars(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.nothing = nn.Parameter(torch.zeros(5, 3, dtype=torch.float64))
        self.zero = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        self.rows = nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
        with torch.no_grad():
            self.rows[1] = 0

    def forward(self, x):
        return self.gain * x @ (self.rows + self.nothing) + self.zero


@case
def _parameters_without_a_dimension_and_of_no_norm():
    return Case(_Scalars(), ce, vectors())


@case
def _dropout():
    return Case(mlp(nn.Dropout(0.5)), ce, vectors())


@dataclass
class _Output:
    logits: Tensor


class _Returns(nn.Module):
    """Positional ``x`` or keyword ``inputs``, wrapped as ``wrap`` says."""

    def __init__(self, wrap):
        super().__init__()
        self.body, self.wrap = mlp(), wrap

    def forward(self, inputs):
        return self.wrap(self.body(inputs))


def from_loss(model: nn.Module, batches: Any, twin: nn.Module | None = None) -> Case:
    """The case that `Problem.from_loss` makes of cross-entropy."""
    problem = ls.Problem.from_loss(model, {"ce": lambda o, y: F.cross_entropy(o, y, reduction="none")}, batches)
    return Case(model, problem.objective, batches, twin)


@case
def _returns_a_tensor():
    return from_loss(_Returns(lambda z: z), vectors())


@case
def _returns_a_tuple():
    return from_loss(_Returns(lambda z: (z, None)), vectors())


@case
def _returns_a_dict_with_logits():
    return from_loss(_Returns(lambda z: {"hidden": None, "logits": z}), vectors())


@case
def _returns_a_dataclass_with_logits():
    return from_loss(_Returns(_Output), vectors())


@case
def _a_data_loader():
    x, y = (torch.cat(parts) for parts in zip(*vectors(), strict=True))
    return from_loss(mlp(), DataLoader(TensorDataset(x, y), batch_size=4))


@case
def _a_function_that_makes_a_generator():
    data = vectors()
    return from_loss(mlp(), lambda: (batch for batch in data))


@case
def _batches_that_are_dicts():
    return from_loss(_Returns(lambda z: z), [{"inputs": x, "labels": y} for x, y in vectors()])


@case
def _batches_that_are_nested():
    pair = namedtuple("pair", "images names")
    data = [{"views": pair([x, 2 * x], ("a", "b")), "labels": [y], "weight": 0.5, "none": None} for x, y in vectors()]

    def two_views(model, batch):
        logits = [model(x) for x in batch["views"].images]
        return {"ce": F.cross_entropy(batch["weight"] * sum(logits), batch["labels"][0], reduction="none")}

    return Case(mlp(), two_views, data)


class _Registered(nn.Module):
    """Parameters in lists and dicts, one of them under two names, a module under two names, a buffer not saved."""

    def __init__(self):
        super().__init__()
        self.list = nn.ParameterList([nn.Parameter(torch.randn(5, 5)), nn.Parameter(torch.randn(5))])
        self.dict = nn.ParameterDict({"head": nn.Parameter(torch.randn(5, 3))})
        self.layer = self.same = nn.Linear(5, 5)
        self.alias = self.list[0]
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("shift", torch.randn(5), persistent=False)
        self.double()

    def forward(self, x):
        x = self.same(torch.tanh(self.layer(x) @ self.alias + self.list[1] + self.shift)) @ self.list[0]
        return x @ self.dict["head"] + self.empty.sum()


@case
def _parameters_in_lists_and_dicts_and_under_two_names():
    return Case(_Registered(), ce, vectors())


class _Strided(nn.Module):
    """Parameters whose memory is not laid out in their order."""

    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(6, 5, dtype=torch.float64).T)
        self.last = nn.Conv2d(6, 3, (1, 1)).double().to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.last(torch.tanh(x @ self.turned)[:, :, None, None]).flatten(1)


@case
def _parameters_that_are_not_contiguous():
    return Case(_Strided(), ce, vectors())


@case
def _pruned():
    """The weight is computed before each forward pass from the parameter ``weight_orig`` and a mask."""
    model = mlp()
    prune.random_unstructured(model[0], "weight", 0.5)
    for x, y in vectors():
        F.cross_entropy(model(x), y).backward()
    twin = rebuilt(model, lambda layer: prune.identity(layer, "weight"))
    return Case(model, ce, vectors(), twin)


@case
def _instance_norm_with_running_statistics():
    return Case(cnn(nn.InstanceNorm2d(4, track_running_stats=True)), ce, pictures())


class _Counting(nn.Module):
    """Its forward pass writes to a buffer in eval mode too; what it returns depends on how often it was called."""

    def __init__(self, count):
        super().__init__()
        self.layer, self.count = mlp(), count
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.count(self)
        return self.layer(x) * (1 + self.calls)


@case
def _a_buffer_that_the_forward_pass_writes_to():
    """Every cell starts from the user's buffer."""
    return Case(_Counting(lambda m: m.calls.add_(1)), ce, vectors())


@case
def _sequences_that_are_packed():
    data, lengths = sequences()[0], torch.tensor([4, 2, 1])
    packed = nn.utils.rnn.pack_padded_sequence(data, lengths, batch_first=True)
    model = nn.GRU(8, 8, batch_first=True).double()
    return Case(model, lambda m, b: {"squares": m(b)[1][0].square().mean(1)}, [packed, packed])


@case
def _hugging_face_batches_with_attributes():
    """``batch.input_ids``, as their tokenizers give."""
    from transformers import BatchEncoding

    def by_attribute(model, batch):
        return next_token(model, batch.input_ids)

    return Case(_LanguageModel(nn.GRU).double(), by_attribute, [BatchEncoding({"input_ids": b}) for b in token_ids()])


SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def labelled_tokens() -> list[dict[str, Tensor]]:
    ids, lengths = torch.randint(1, 29, (7, 6)), torch.tensor([6, 3, 5, 4, 6, 2, 4])
    mask = (torch.arange(6) < lengths[:, None]).long()
    batches = {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 3, (7,))}
    return [
        dict(zip(batches, parts, strict=True)) for parts in zip(*(t.split(3) for t in batches.values()), strict=True)
    ]


@case
def _hugging_face_bert():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=29, max_position_embeddings=8, num_labels=3, **SMALL)
    return from_loss(BertForSequenceClassification(config).double(), labelled_tokens())


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=29, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).double()


def tokens_of_gpt2(model, batch):
    """``[N, T]`` losses of the next token and which of them count."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    return losses, labels != -100


@case
def _hugging_face_gpt2():
    def per_sequence(model, batch):
        losses, counted = tokens_of_gpt2(model, batch)
        return {"ce": losses.sum(1) / counted.sum(1)}

    return Case(gpt2(), per_sequence, labelled_tokens())


def hugging_face_images(size: int, channels: int = 3) -> list[dict[str, Tensor]]:
    return [{"pixel_values": x, "labels": y} for x, y in pictures(size, channels)]


@case
def _hugging_face_vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=8, patch_size=4, num_labels=3, **SMALL)
    return from_loss(ViTForImageClassification(config).double(), hugging_face_images(8))


@case
def _hugging_face_convnext():
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, patch_size=2, num_labels=3)
    return from_loss(ConvNextForImageClassification(config).double(), hugging_face_images(8))


@case
def _hugging_face_resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3)
    model = ResNetForImageClassification(config).double()
    for batch in hugging_face_images(16):
        model(batch["pixel_values"])
    return from_loss(model, hugging_face_images(16))


def lived_in(model: nn.Module) -> None:
    """Gradients on every other parameter and modes that differ, so that a measurement that resets them is seen."""
    for p in list(model.parameters())[::2]:
        p.grad = torch.ones_like(p) if p.requires_grad else None
    model.train()
    list(model.modules())[-1].eval()


@pytest.mark.parametrize("name", CASES)
def test_a_surface_of_any_network_is_that_of_a_script_and_leaves_the_network_alone(name):
    one = CASES[name]()
    twin = copy.deepcopy(one.twin or one.model)
    lived_in(one.model)
    axes = ls.directions.random(one.model, n=2, ignore="none", normalize="layer", seed=3)
    before = fingerprint(one.model)
    problem = ls.Problem(one.model, one.objective, one.batches)
    line = evaluate(problem, Directions(axes.axes[:1], "layer", "none"), LINE)
    plane = evaluate(problem, axes, PLANE)
    assert fingerprint(one.model) == before
    origin = brute_force(twin, one.objective, one.passes())
    expected = {
        **{(i,): brute_force(twin, one.objective, one.passes(), axes.axes[:1], [x]) for i, x in enumerate(LINE.xs)},
        **{
            (i, k): brute_force(twin, one.objective, one.passes(), axes.axes, [x, y])
            for i, y in enumerate(PLANE.ys)
            for k, x in enumerate(PLANE.xs)
        },
    }
    assert line.terms == plane.terms == tuple(origin)
    for term, (mean, sem) in origin.items():
        assert line.origin[term][0] == plane.origin[term][0] == mean
        assert line.origin[term][1] == plane.origin[term][1] == pytest.approx(sem, rel=1e-9, abs=1e-15)
        for cell, terms in expected.items():
            surface = line if len(cell) == 1 else plane
            assert surface.values(term)[cell] == terms[term][0], f"{term} at {cell}"
            assert surface.sem(term)[cell] == pytest.approx(terms[term][1], rel=1e-9, abs=1e-15)
            assert surface.status[cell] == DONE
    first = next(iter(origin))
    assert len({terms[first][0] for terms in expected.values()}) == len(expected), (
        "every cell differs, or proves little"
    )


def test_per_token_losses_of_gpt2_are_averaged_over_the_tokens_that_count():
    model, data = gpt2(), labelled_tokens()
    twin = copy.deepcopy(model)
    problem = ls.Problem(model, lambda m, b: {"ce": ls.PerToken(*tokens_of_gpt2(m, b))}, data)
    axes = ls.directions.random(model, n=2, seed=1)
    surface = evaluate(problem, axes, PLANE)
    for (i, k), value in np.ndenumerate(surface.values("ce")):
        tokens = lambda m, b: {"ce": (lambda losses, counted: losses[counted])(*tokens_of_gpt2(m, b))}  # noqa: E731
        expected = brute_force(twin, tokens, data, axes.axes, [PLANE.xs[k], PLANE.ys[i]])["ce"][0]
        assert value == pytest.approx(expected, rel=1e-14)
    assert surface.attrs["n_examples"] == (6 + 3 + 5 + 4 + 6 + 2 + 4) - 7, "the first token of each has no prediction"


def test_filters_of_gpt2_are_those_of_its_convolutions():
    """``Conv1D`` keeps the output units on axis 1; ``Linear`` and embeddings on axis 0."""
    model = gpt2()
    directions = ls.directions.random(model, n=1, seed=2).axes[0]
    weights = dict(model.named_parameters())
    turned = [f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    assert {name for name in directions if name.endswith("weight") and ".c_" in name} == set(turned)
    for name, direction in directions.items():
        if direction.ndim < 2:
            continue
        along = 0 if name in turned else 1
        assert torch.allclose(direction.norm(dim=along), weights[name].norm(dim=along), rtol=1e-12)
        assert not torch.allclose(direction.norm(dim=1 - along), weights[name].norm(dim=1 - along), rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["batch norm cnn", "tied weights", "complex parameters and complex and integer buffers"]
)
def test_an_interpolation_of_any_network_ends_at_the_other(name):
    """The buffers move too, integers stay put."""
    one, other = CASES[name](), CASES[name]().model
    directions = ls.directions.interpolation(one.model, other)
    line = evaluate(ls.Problem(one.model, one.objective, one.batches), directions, ls.Grid1D(x=(0, 1, 2)))
    for term, (mean, _) in brute_force(other, one.objective, one.batches).items():
        assert line.values(term)[1] == pytest.approx(mean, rel=1e-10)
        assert line.values(term)[0] == brute_force(one.model, one.objective, one.batches)[term][0]


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32])
def test_double_precision_is_that_of_the_cast_network_on_cast_batches(given):
    model, data = mlp(nn.BatchNorm1d(6)).to(given), vectors(dtype=given)
    axes = ls.directions.random(model, n=2, ignore="none", seed=3)
    before = fingerprint(model)
    surface = evaluate(ls.Problem(model, ce, data), axes, PLANE, precision="float64")
    assert fingerprint(model) == before
    wide = [{name: t.double() for name, t in axis.items()} for axis in axes.axes]
    cast = [(x.double(), y) for x, y in data]
    for term, (mean, _) in brute_force(copy.deepcopy(model).double(), ce, cast).items():
        assert surface.origin[term][0] == mean
    for (i, k), value in np.ndenumerate(surface.values("ce")):
        at = [PLANE.xs[k], PLANE.ys[i]]
        assert value == brute_force(copy.deepcopy(model).double(), ce, cast, wide, at)["ce"][0]
    assert surface.attrs["precision"] == "float64"
    assert evaluate(ls.Problem(model, ce, data), axes, PLANE).attrs["precision"] != "float64"


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_double_precision_of_complex_weights_is_double_too():
    model, data = _Complex().to(torch.complex64), [x.float() for x, _ in vectors()]
    assert model.w.dtype == torch.complex64
    axes = ls.directions.random(model, n=1, seed=1)
    line = evaluate(ls.Problem(model, squares, data), axes, LINE, precision="float64")
    wide = copy.deepcopy(model)
    wide.w.data, wide.phase = wide.w.data.to(torch.complex128), wide.phase.to(torch.complex128)
    directions = [{"w": axes.axes[0]["w"].to(torch.complex128)}]
    for x, value in zip(LINE.xs, line.values("squares"), strict=True):
        expected = brute_force(wide, squares, [b.double() for b in data], directions, [x])["squares"][0]
        assert value == pytest.approx(expected, rel=1e-13)


def test_it_may_be_called_in_inference_mode():
    model, data = mlp(nn.BatchNorm1d(6)), vectors()
    directions = ls.directions.random(model, n=1)
    expected = evaluate(ls.Problem(model, ce, data), directions, LINE)
    with torch.inference_mode():
        line = evaluate(ls.Problem(model, ce, data), directions, LINE)
    assert line.values("ce").tolist() == expected.values("ce").tolist()


def test_a_term_may_be_made_of_gradients():
    """The norm of each batch's gradient at every point: gradients are off by default, and may be switched on."""

    def slope(model, batch):
        x, y = batch
        with torch.enable_grad():
            gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        return {"slope": torch.stack([g.square().sum() for g in gradients]).sum().sqrt().expand(len(x))}

    model, data = mlp(), vectors()
    directions = ls.directions.random(model, n=1)
    line = evaluate(ls.Problem(model, slope, data), directions, LINE)
    expected = [brute_force(model, slope, data, directions.axes, [x])["slope"][0] for x in LINE.xs]
    assert line.values("slope").tolist() == expected


@pytest.mark.parametrize("caller", [torch.no_grad, torch.enable_grad])
def test_the_callers_grad_mode_makes_no_difference(caller):
    model, data = mlp(), vectors()
    directions, modes = ls.directions.random(model, n=1), set()

    def noting(model, batch):
        modes.add(torch.is_grad_enabled())
        return ce(model, batch)

    with caller():
        line = evaluate(ls.Problem(model, noting, data), directions, LINE)
        assert torch.is_grad_enabled() == (caller is torch.enable_grad)
    assert modes == {False}
    expected = [brute_force(model, ce, data, directions.axes, [x])["ce"][0] for x in LINE.xs]
    assert line.values("ce").tolist() == expected


# What cannot be measured


def problem_of(model: nn.Module, batches: Any = None, objective: Any = ce) -> ls.Problem:
    return ls.Problem(model, objective, vectors() if batches is None else batches)


def line_of(problem: ls.Problem, **options: Any) -> ls.Surface:
    return evaluate(problem, ls.directions.random(problem.model, n=1), LINE, **options)


def test_a_lazy_network_is_refused_until_it_has_seen_a_batch():
    model = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Linear(6, 3)).double()
    with pytest.raises(ValueError, match=r"lazy|uninitiali[sz]ed") as caught:
        problem_of(model)
    assert "batch" in str(caught.value), "what to do about it"
    model(vectors()[0][0])
    assert line_of(problem_of(model)).complete


def test_a_network_of_buffers_only_has_nothing_to_move():
    with pytest.raises(ValueError, match=r"model must have parameters"):
        problem_of(nn.BatchNorm1d(5, affine=False))


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"0.wieght": torch.ones(6, 5)}, "'0.wieght'"),
        ({"0.weight": torch.ones(5, 6)}, r"'0.weight'.*\[6, 5\].*\[5, 6\]"),
        ({"0.weight": torch.ones(30)}, r"'0.weight'.*\[6, 5\].*\[30\]"),
        ({"0.weight": torch.ones(6, 5), "2.bias": torch.ones(1)}, r"'2.bias'.*\[3\].*\[1\]"),
    ],
    ids=["unknown", "turned", "flat", "broadcast"],
)
def test_a_direction_that_does_not_fit_is_named(axis, message):
    with pytest.raises(ValueError, match=message):
        evaluate(problem_of(mlp()), Directions((axis,), "none", "none"), LINE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["2.weight", "1.running_var"])
def test_weights_that_are_not_numbers_are_named(value, name, tmp_path):
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    directions = ls.directions.random(model, n=1)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        tensors[name].view(-1)[1] = value
    objective = ce if math.isnan(value) or name == "2.weight" else lambda m, b: {"ce": ce(m, b)["ce"] * math.nan}
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        evaluate(problem_of(model, objective=objective), directions, LINE, out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batches", [[], lambda: iter(()), DataLoader(TensorDataset(torch.ones(0, 5)))])
def test_an_empty_loader_is_refused(batches, tmp_path):
    problem = problem_of(mlp(), batches)
    with pytest.raises(ValueError, match="at least one batch"):
        line_of(problem, out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def changing(kind: str, from_pass: int) -> Callable[[], Iterable[Any]]:
    data, passes = vectors(), []

    def batches():
        passes.append(1)
        if len(passes) < from_pass:
            return list(data)
        return {
            "shorter": data[:-1],
            "longer": [*data, data[0]],
            "order": data[::-1],
            "a label": [(x, y if i else (y + 1) % 3) for i, (x, y) in enumerate(data)],
            "an example less": [(x[i == 2 :], y[i == 2 :]) for i, (x, y) in enumerate(data)],
        }[kind]

    return batches


@pytest.mark.parametrize("kind", ["shorter", "longer", "order", "a label", "an example less"])
def test_a_loader_that_changes_in_its_second_pass_is_refused(kind):
    with pytest.raises(ValueError, match="same at every pass"):
        line_of(problem_of(mlp(), changing(kind, 2)))


@pytest.mark.parametrize("kind", ["shorter", "longer", "an example less"])
def test_a_loader_that_changes_its_length_later_is_refused_too(kind):
    """After what is checked at the origin, in the middle of the cells."""
    with pytest.raises(ValueError, match=r"as many values: .*11.* Got .*at "):
        line_of(problem_of(mlp(), changing(kind, 5)))


@pytest.mark.parametrize(
    "count",
    [lambda m: setattr(m, "calls", m.calls + 1), lambda m: m.calls.data.add_(1)],
    ids=["rebound", "behind autograd's back"],
)
def test_a_buffer_that_is_written_to_where_nobody_sees_it_is_put_back_for_each_cell(count):
    model, batches = _Counting(count), vectors()
    axes = ls.directions.random(model, n=1)
    surface = evaluate(problem_of(model, batches), axes, LINE)
    for x, value in zip(LINE.xs, surface.values("ce"), strict=True):
        assert value == brute_force(model, ce, batches, axes.axes, [x])["ce"][0]
    assert model.calls == 0


class _Stateful:
    """A loss that grows with each call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, batch):
        self.calls += 1
        return {"ce": ce(model, batch)["ce"] * (1 + self.calls)}


def test_a_stateful_objective_is_refused_unless_it_is_allowed(tmp_path):
    with pytest.raises(ValueError, match=r"nondeterministic=.allow."):
        line_of(problem_of(mlp(), objective=_Stateful()), out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []
    objective = _Stateful()
    line = line_of(problem_of(mlp(), objective=objective), nondeterministic="allow")
    assert line.complete
    assert objective.calls >= 3 * (1 + len(LINE.xs))


def test_noise_from_the_global_generators_is_the_same_at_every_pass():
    """So that an objective with dropout of its own is accepted, and smooth."""

    def noisy(model, batch):
        terms = ce(model, batch)
        noise = torch.rand(len(terms["ce"])) + np.random.rand() + random.random()
        return {"noise": noise, "ce": terms["ce"] * F.dropout(torch.ones(len(terms["ce"])), 0.5)}

    line = line_of(problem_of(mlp(), objective=noisy))
    assert len(set(line.values("noise"))) == 1
    assert line.origin["noise"][0] == line.values("noise")[0]


def test_a_network_of_integers_only_has_nothing_to_move():
    model = _Integers()
    model.layer = nn.Identity()
    with pytest.raises(ValueError, match=r"must have real or complex parameters to move") as caught:
        ls.directions.random(model, n=1, ignore="none")
    assert "ignore='none'" not in str(caught.value), "that is what was asked for"


def test_a_direction_of_no_tensor_is_refused():
    with pytest.raises(ValueError, match="direction"):
        evaluate(problem_of(mlp()), Directions(({},), "none", "none"), LINE)


def test_a_direction_for_an_integer_parameter_is_refused_by_name():
    for step in (torch.ones(3, dtype=torch.int64), torch.ones(3)):
        with pytest.raises(ValueError, match="'order'"):
            evaluate(problem_of(_Integers()), Directions(({"order": step},), "none", "none"), LINE)
