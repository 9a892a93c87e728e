"""Batch norm in eval mode folded into the linear or convolutional layer before it.

With W, b of the layer, gain g, shift s, mean m and variance v of the norm, and a = g / sqrt(v + eps):
norm(layer(x)) = (a W) x + (a (b - m) + s), a number of a for each output channel (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). For a given a,
that is linear in W, b, m and s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    Tensors are put into ``module`` as into the model that it is a copy of; `refresh` then folds them anew, or, along
    directions that were given to `follow`, `at`. A pair whose tensors have changed since, by whatever hand, is computed
    as it was, and so is one with gradients enabled, in train mode, or with a hook.

    Attributes:
        module: In eval mode.
        pairs: Names of each layer and of the norm in it.
        linear: Whether `at` combines folded directions, rather than folding at each point.
    """

    def __init__(self, model: nn.Module, pairs: Sequence[Pair]) -> None:
        self.module, self.pairs = modules.private_copy(model), tuple(pairs)
        found = dict(self.module.named_modules())
        layouts = modules.filter_layouts(self.module)
        self._folds = [
            _Fold(found[layer], cast(_BatchNorm, found[norm]), layouts.get(f"{layer}.weight", (0, 1)))
            for layer, norm in self.pairs
        ]
        self._names = {id(t): name for name, t in [*self.module.named_parameters(), *self.module.named_buffers()]}
        self._axes: list[list[Tensor]] = []
        self.linear = False
        self.module.register_forward_hook(self._leave, always_call=True)
        self.refresh()

    @property
    def weights(self) -> list[Tensor]:
        """What the folded layers compute with: a weight and a bias for each pair, in the order of the pairs."""
        return [tensor for fold in self._folds for tensor in fold.tensors.values()]

    def hold(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> None:
        """Keep `weights` in another precision or layout than the layers' own."""
        for fold in self._folds:
            fold.hold(dtype, channels_last)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Fold the tensors of ``module`` as they are now."""
        for fold in self._folds:
            fold.refresh()

    @torch.no_grad()
    def follow(self, axes: Sequence[Mapping[str, Tensor]]) -> None:
        """Get ready for points along directions from where ``module`` is now.

        Args:
            axes: For each direction ``{name: tensor}``, of the parameters and buffers that move.
        """
        steps = [self.along(axis) for axis in axes]
        self._axes = [step for step in steps if step is not None]
        self.linear = len(self._axes) == len(axes)
        if self.linear:
            self._base = [part for fold in self._folds for part in fold.plain()]
            self._moved = [torch.empty_like(part) for part in self._base]

    @torch.no_grad()
    def at(self, point: Sequence[float]) -> None:
        """Fold where ``module`` has been moved to: the base plus each coordinate times its direction."""
        if not self.linear:
            self.refresh()
            return
        torch._foreach_copy_(self._moved, self._base)
        for coordinate, step in zip(point, self._axes, strict=True):
            if coordinate != 0:
                torch._foreach_add_(self._moved, step, alpha=coordinate)
        torch._foreach_copy_(self.weights, self._moved)
        for fold in self._folds:
            fold.settle()

    @torch.no_grad()
    def along(self, axis: Mapping[str, Tensor]) -> list[Tensor] | None:
        """How `weights` change, in the precision of the layers, for a step of one from where ``module`` is now.

        Args:
            axis: ``{name: tensor}`` for the parameters and buffers that move.

        Returns:
            None where a folded norm's gain or variance moves: then folding is not linear.
        """

        def of(tensor: Tensor) -> Tensor | None:
            found = axis.get(self._names[id(tensor)])
            return None if found is None else found.detach().to(tensor)

        if any(of(tensor) is not None for fold in self._folds for tensor in fold.curved()):
            return None
        return [part for fold in self._folds for part in fold.plain(of)]

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
        for held, folded in zip(self.tensors.values(), self.plain(), strict=True):
            held.copy_(folded)
        self.settle()

    def settle(self) -> None:
        """Take the tensors that the folded ones are of to be those that are there now."""
        self._seen = [(t, t._version) for t in self._own() if t is not None]

    def curved(self) -> list[Tensor]:
        """What folding is not linear in, together with the rest."""
        return [t for t in (self._norm._parameters["weight"], self._norm._buffers["running_var"]) if t is not None]

    def plain(self, of: Callable[[Tensor], Tensor | None] = lambda tensor: tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias in the precision of the layer, folded by the gain as it is.

        They are linear in what ``of`` gives in place of each tensor, None for zeros.
        """
        layer, norm = self._layer, self._norm
        mean, variance = _given(norm, "running_mean"), _given(norm, "running_var")
        wide = torch.float32 if variance.device.type == "mps" else torch.float64
        gain = (variance.to(wide) + norm.eps).rsqrt()
        if norm._parameters["weight"] is not None:
            gain *= norm._parameters["weight"]

        def given(tensor: Tensor | None) -> Tensor | float:
            found = None if tensor is None else of(tensor)
            return 0.0 if found is None else found.to(wide)

        bias = gain * (given(layer._parameters["bias"]) - given(mean)) + given(norm._parameters["bias"])
        weight = of(_given(layer, "weight"))
        scaled = torch.zeros_like(_given(layer, "weight")) if weight is None else self._scaled(weight, gain)
        return scaled, bias.to(mean.dtype)

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
