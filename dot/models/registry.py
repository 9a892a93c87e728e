"""The one list of networks: each name with the module that builds it and how; imported when one is built."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet", {"depth": depth}) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": ("resnet", {"depth": depth, "wide": True}) for depth in (8, 32)},
    **{f"convnet{width}": ("convnet", {"width": width}) for width in (4, 8, 16)},
}


def names() -> list[str]:
    """Every name that `build` takes."""
    return list(_MODELS)


def build(name: str, *, in_channels: int = 3, num_classes: int = 100) -> nn.Module:
    """A network with freshly drawn weights, from torch's global generator.

    Raises:
        ValueError: The name is unknown; close ones are listed.
    """
    if name not in _MODELS:
        close = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.5) or names()
        raise ValueError(f"model must be a known network. Got {name!r}. Did you mean {', '.join(close)}?")
    family, settings = _MODELS[name]
    model: nn.Module = import_module(f"dot.models.{family}").build(in_channels, num_classes, **settings)
    return model
