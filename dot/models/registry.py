"""The one list of networks: each name with the function that builds it."""

from __future__ import annotations

import difflib

from torch import nn

from dot.models import convnet, resnet

_FAMILIES = (resnet.MODELS, convnet.MODELS)


def names() -> list[str]:
    """Every name that `build` takes."""
    return [name for family in _FAMILIES for name in family]


def build(name: str, *, in_channels: int = 3, num_classes: int = 100) -> nn.Module:
    """A network with freshly drawn weights, from torch's global generator.

    Raises:
        ValueError: The name is unknown; close ones are listed.
    """
    for family in _FAMILIES:
        if name in family:
            return family[name](in_channels, num_classes)
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or names()
    raise ValueError(f"model must be a known network. Got {name!r}. Did you mean {', '.join(close)}?")
