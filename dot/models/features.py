"""The outputs of inner modules, for losses that compare features (FitNet, CRD) and for looking inside.

In every network of this package ``pool`` is the vector before the classifier and ``fc`` the classifier; in all but the
convnets ``layer1``, ``layer2`` ... are the stages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def features(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what the named modules give in each forward pass, as tensors that gradients flow through.

        with features(student, ["layer3", "pool"]) as kept:
            logits = student(images)
            loss = (kept["layer3"] - guide).square().mean()

    Each forward pass of ``model`` begins with an empty dictionary; where a module is called more than once in a pass,
    its last output is kept. The hooks are removed on leaving; the dictionary stays the caller's.
    A model that was compiled before does not run hooks: name the modules of the one inside, and compile it afterwards.

    Args:
        model: Any module.
        layers: Names as in ``model.named_modules()``.

    Yields:
        A dictionary from name to output, in whichever shape the module gives it.

    Raises:
        ValueError: A name is not a module's; close ones are listed.
        TypeError: ``layers`` is a string, or a named module gives no tensor (said in the forward pass).
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of names. Got the string {layers!r}. Write [{layers!r}].")
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            close = difflib.get_close_matches(name, modules, n=3, cutoff=0.5) or [n for n, _ in model.named_children()]
            raise ValueError(f"layers must name modules of the model. Got {name!r}. Did you mean {', '.join(close)}?")
    kept: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        hooks.enter_context(model.register_forward_pre_hook(lambda *_: kept.clear()))
        for name in layers:
            hooks.enter_context(modules[name].register_forward_hook(partial(_keep, kept, name)))
        yield kept


def _keep(kept: dict[str, Tensor], name: str, module: nn.Module, _: Any, output: Any) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"{name} must give a tensor. Got {type(output).__name__} from {type(module).__name__}. "
            "Name a module inside it."
        )
    kept[name] = output
