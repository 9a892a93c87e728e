"""Which batch norms take the output of one layer, all of it and nothing else: read from a network's graph."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape import modules

Run = Callable[[nn.Module], Any]
"""Evaluates something with a module, such as an objective on one batch."""

_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_METHODS = ("__call__", "forward", "_conv_forward", "_output_padding", "_check_input_dim")
_TENSORS = ("weight", "bias", "running_mean", "running_var")
_EXPORTED = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


class Pair(NamedTuple):
    """The names of a linear or convolutional layer and of the batch norm behind it."""

    layer: str
    norm: str


class Seen(NamedTuple):
    """What a run of the network did.

    Attributes:
        result: Of the run.
        inputs: Positional and keyword arguments that the network was first called with.
        calls: How often each layer or norm was called, by name; ``""`` is the network.
        faults: Layers and norms that did anything but what their type does in eval mode on a batch.
    """

    result: Any
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    calls: Counter[str]
    faults: set[str]


def candidates(model: nn.Module) -> dict[str, nn.Module]:
    """The layers and norms that compute what torch's own do, by name; none where one of both kinds is missing."""
    found = {name: m for name, m in model.named_modules() if _is_stock(m)}
    kinds = [any(isinstance(m, kind) for m in found.values()) for kind in (_LAYERS, _NORMS)]
    return found if all(kinds) else {}


def hooked(module: nn.Module) -> bool:
    """Whether somebody looks at, or changes, what goes in or comes out."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def watch(model: nn.Module, run: Run) -> Seen:
    """Evaluate ``run`` with a module, which is written to where its forward pass writes, and note what it did."""
    inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    calls: Counter[str] = Counter()
    faults: set[str] = set()

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[""] += 1
        if not inputs:
            inputs.append((args, kwargs))

    def note(name: str) -> Callable[..., None]:
        def of(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] += 1
            weight = module.weight if isinstance(module, _LAYERS) else None
            if module.training:
                faults.add(name)
            elif isinstance(weight, Tensor) and (output.ndim, output.dtype) != (weight.ndim, weight.dtype):
                faults.add(name)  # in another precision, or channels on another axis than those of the norm

        return of

    watched = candidates(model)  # before the hooks
    model.register_forward_pre_hook(enter, with_kwargs=True)
    for name, module in watched.items():
        module.register_forward_hook(note(name))
    result = run(model)
    return Seen(result, inputs[0] if inputs else ((), {}), calls, faults)


def pairs(make: Callable[[], nn.Module], seen: Seen) -> list[Pair]:
    """The pairs of a network, in the order of its graph; none where nobody can tell.

    The graph is that of `torch.fx`, valid for any input; where the network's Python depends on its input, that of
    `torch.export` for the inputs that were seen, which refuses what depends on values but not what depends on shapes.

    Args:
        make: Gives a copy of the network in eval mode, which is thrown away.
        seen: A run of another copy.
    """
    if not seen.calls[""]:
        return []
    for graph_of in (_traced, _exported):
        model = make()
        try:
            graph, owner = graph_of(model, seen)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # the network's own code runs on what it was not written for: anything may come
            continue
        return [pair for pair in _matched(graph, owner) if _fits(pair, model, seen)]
    return []


def _is_stock(module: nn.Module) -> bool:
    kind = next((kind for kind in (*_LAYERS, *_NORMS) if isinstance(module, kind)), None)
    if kind is None or hooked(module) or any(name in vars(module) for name in _METHODS):
        return False
    own = type(module)
    if any(getattr(own, name, None) is not getattr(kind, name, None) for name in _METHODS):
        return False  # such as a fused activation
    if any(hasattr(own, name) for name in _TENSORS):
        return False  # computed, as parametrisations do
    if kind in _LAYERS:
        return module._parameters.get("weight") is not None
    return module._buffers.get("running_mean") is not None and module._buffers.get("running_var") is not None


class _Tracer(fx.Tracer):
    """Goes into everything but torch's own layers, their subclasses that change nothing, and norms."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Norms check their input's shape, which a tracer does not know."""
        return _is_stock(m) or isinstance(m, _NormBase) or super().is_leaf_module(m, module_qualified_name)


Owner = Callable[[fx.Node], str | None]
"""The name of the module that a node is the call of."""


def _traced(model: nn.Module, seen: Seen) -> tuple[fx.Graph, Owner]:
    graph = _Tracer().trace(model)
    return graph, lambda node: str(node.target) if node.op == "call_module" else None


def _exported(model: nn.Module, seen: Seen) -> tuple[fx.Graph, Owner]:
    args, kwargs = seen.inputs
    with warnings.catch_warnings(action="ignore"):
        graph = torch.export.export(model, args, kwargs, strict=False).graph
    aten = torch.ops.aten
    operations = {packet for name in _EXPORTED for packet in [getattr(aten, name)]} | {aten.batch_norm}

    def owner(node: fx.Node) -> str | None:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if getattr(node.target, "overloadpacket", None) not in operations or not stack:
            return None
        return str(stack[-1][0]).partition("@")[0]  # a second call is marked so

    return graph, owner


def _matched(graph: fx.Graph, owner: Owner) -> Iterable[Pair]:
    """Where the only reader of a module's output is another module."""
    owners = {node: name for node in graph.nodes if (name := owner(node)) is not None}
    for node, layer in owners.items():
        readers = [user for user in node.users if not _asks_for_shape(user)]
        norm = owners.get(readers[0]) if len(readers) == 1 else None
        if norm is not None and readers[0].args[:1] == (node,):
            yield Pair(layer, norm)


def _asks_for_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")


def _fits(pair: Pair, model: nn.Module, seen: Seen) -> bool:
    found = candidates(model)
    if not (pair.layer in found and pair.norm in found):
        return False
    layer, norm = found[pair.layer], found[pair.norm]
    if not (isinstance(layer, _LAYERS) and isinstance(norm, _NORMS)):
        return False
    state = [*modules.state(layer).values(), *modules.state(norm).values()]
    dtypes = {t.dtype for t in state if modules.is_continuous(t)}
    once = seen.calls[pair.layer] == seen.calls[pair.norm] == seen.calls[""]
    channels = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
    return (
        once
        and not seen.faults & set(pair)
        and channels == norm.num_features
        and dtypes in ({torch.float32}, {torch.float64})  # in half precision the rounding of folded weights shows
    )
