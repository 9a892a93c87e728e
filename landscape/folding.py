"""Batch norm in eval mode folded into the linear or convolutional layer before it.

With W, b of the layer, gain g, shift s, mean m and variance v of the norm, and a = g / sqrt(v + eps):
norm(layer(x)) = (a W) x + (a (b - m) + s), a number of a for each output channel (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). Folding costs
less than a thousandth of a pass, so that a network is moved first and folded after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from landscape import modules, tracing
from landscape.isolation import preserve_rng, seed_all
from landscape.tracing import Pair, Run


def fold(model: nn.Module, run: Run) -> Folded | None:
    """A copy of ``model`` whose batch norms are computed by the layers before them.

    Pairs are found from the graph, and tried: ``run`` is evaluated with the model as it is and folded. The model is not
    written to, and random states are left as they are.

    Args:
        model: Any module; in whatever mode, eval mode is what is folded.
        run: Evaluates a module as it will be used, such as ``lambda m: objective(m, batch)`` on a first batch. What it
            returns is compared: tensors, nested as they may be.

    Returns:
        None where no norm can be folded, or the results differ by more than rounding.
    """
    model = modules.unwrap(model)
    if not tracing.candidates(model):
        return None
    device = next(model.parameters()).device
    with preserve_rng(None, device), torch.inference_mode(mode=False), torch.no_grad():

        def again(module: nn.Module) -> Any:
            seed_all(0, device)
            return run(module)

        seen = tracing.watch(modules.private_copy(model), again)
        pairs = tracing.pairs(lambda: modules.private_copy(model), seen)
        if not pairs:
            return None
        trial = Folded(model, pairs)
        narrow = any(t.dtype == torch.float32 for t in modules.state(model).values())
        try:
            result = again(trial.module)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # what the plain one has just done, this one cannot: an objective that takes it apart, say
            return None
        return Folded(model, pairs) if _agree(seen.result, result, 1e-3 if narrow else 1e-9) else None


class Folded:
    """A copy of a module, with every parameter and buffer under its name, that computes some norms in the layer before.

    Tensors are put into ``module`` as into the model that it is a copy of; `refresh` then folds them anew. A pair whose
    tensors have changed since, by whatever hand, is computed as it was, and so is one with gradients enabled, in train
    mode, or with a hook.

    Attributes:
        module: In eval mode.
        pairs: Names of each layer and of the norm in it.
    """

    def __init__(self, model: nn.Module, pairs: Sequence[Pair]) -> None:
        self.module, self.pairs = modules.private_copy(model), tuple(pairs)
        found = dict(self.module.named_modules())
        layouts = modules.filter_layouts(self.module)
        self._folds = [
            _Fold(found[layer], cast(_BatchNorm, found[norm]), layouts.get(f"{layer}.weight", (0, 1)))
            for layer, norm in self.pairs
        ]
        self.module.register_forward_hook(self._leave, always_call=True)
        self.refresh()

    def hold(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> None:
        """Keep what the folded layers compute with in another precision or layout than their own."""
        for fold in self._folds:
            fold.hold(dtype, channels_last)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Fold the tensors of ``module`` as they are now."""
        for fold in self._folds:
            fold.refresh()

    def _leave(self, *_: Any) -> None:
        left = [pair for pair, fold in zip(self.pairs, self._folds, strict=True) if fold.forget()]
        if left:
            raise RuntimeError(
                f"the output of {left[0].layer!r} must go to {left[0].norm!r}, as in the example that they were folded "
                "by. Got a pass where it does not: evaluate the model as it is."
            )


class _Fold:
    """A layer that computes its norm as well, and the norm, which lets that pass."""

    def __init__(self, layer: nn.Module, norm: _BatchNorm, layout: tuple[int, int]) -> None:
        self._layer, self._norm, self._layout = layer, norm, layout
        self._passing: Tensor | None = None  # from the layer to the norm
        self._left = False
        self.hold(None, False)
        vars(layer)["forward"], vars(norm)["forward"] = self._compute, self._pass

    def hold(self, dtype: torch.dtype | None, channels_last: bool) -> None:
        weight = _given(self._layer, "weight")
        formats = {4: torch.channels_last, 5: torch.channels_last_3d} if channels_last else {}
        kept = formats.get(weight.ndim, torch.preserve_format)
        self.tensors = {
            "weight": torch.empty_like(weight, dtype=dtype, memory_format=kept, requires_grad=False),
            "bias": torch.empty_like(_given(self._norm, "running_mean"), dtype=dtype),
        }

    def refresh(self) -> None:
        for held, folded in zip(self.tensors.values(), self._folded(), strict=True):
            held.copy_(folded)
        self._seen = [(t, t._version) for t in self._own() if t is not None]

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias in the precision of the layer."""
        layer, norm = self._layer._parameters, self._norm._parameters
        mean, variance = _given(self._norm, "running_mean"), _given(self._norm, "running_var")
        wide = torch.float32 if variance.device.type == "mps" else torch.float64
        gain = (variance.to(wide) + self._norm.eps).rsqrt()
        if norm["weight"] is not None:
            gain *= norm["weight"]

        def given(tensor: Tensor | None) -> Tensor | float:
            return 0.0 if tensor is None else tensor.to(wide)

        bias = gain * (given(layer["bias"]) - given(mean)) + given(norm["bias"])
        return self._scaled(_given(self._layer, "weight"), gain), bias.to(mean.dtype)

    def _scaled(self, weight: Tensor, gain: Tensor) -> Tensor:
        gain, (axis, groups), rest = gain.to(weight.dtype), self._layout, [1] * (weight.ndim - 2)
        if axis == 0:
            return weight * gain.view(-1, 1, *rest)
        by_group = weight.unflatten(0, (groups, -1)) * gain.view(groups, 1, -1, *rest)
        return by_group.flatten(0, 1)

    def _own(self) -> list[Tensor | None]:
        layer, norm = self._layer._parameters, self._norm._parameters
        buffers = self._norm._buffers
        own = [layer["weight"], layer["bias"], norm["weight"], norm["bias"]]
        return [*own, buffers["running_mean"], buffers["running_var"]]

    def _applies(self, args: tuple[Any, ...]) -> bool:
        if torch.is_grad_enabled() or self._norm.training or tracing.hooked(self._layer) or tracing.hooked(self._norm):
            return False
        if len(args) != 1 or args[0].ndim != self.tensors["weight"].ndim:
            return False  # channels that lie elsewhere, or the shape of a transposed convolution
        own = [t for t in self._own() if t is not None]
        return len(own) == len(self._seen) and all(
            now is then and now._version == version for now, (then, version) in zip(own, self._seen, strict=True)
        )

    def _compute(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer
        if kwargs or not self._applies(args):
            return type(layer).forward(layer, *args, **kwargs)
        self._left |= self._passing is not None
        own, vars(layer)["_parameters"] = layer._parameters, self.tensors
        try:
            self._passing = type(layer).forward(layer, *args)
        finally:
            vars(layer)["_parameters"] = own
        return self._passing

    def _pass(self, input: Tensor) -> Tensor:
        if input is not self._passing:
            return type(self._norm).forward(self._norm, input)
        self._passing = None
        return input

    def forget(self) -> bool:
        """Whether the norm has not come for what the layer has computed for it."""
        left, self._passing, self._left = self._left or self._passing is not None, None, False
        return left


def _given(module: nn.Module, name: str) -> Tensor:
    tensor = module._parameters.get(name, module._buffers.get(name))
    assert tensor is not None
    return tensor


def _agree(plain: Any, folded: Any, tolerance: float) -> bool:
    """Whether all real or complex tensors of two results are the same, up to a tolerance relative to the largest."""
    results = [[t for t in tree_leaves(r) if isinstance(t, Tensor)] for r in (plain, folded)]
    if [t.shape for t in results[0]] != [t.shape for t in results[1]]:
        return False
    for a, b in zip(*results, strict=True):
        if modules.is_continuous(a):
            finite = a.abs().nan_to_num(0, 0, 0)
            scale = float(finite.max()) if finite.numel() else 0.0
            if not torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
                return False
    return True
