"""The one list of networks: each name with the module that builds it and how; imported when one is built.

A plain name is a network for small images (CIFAR, Tiny-ImageNet); one that ends in ``-imagenet`` has the stem for
images of 224x224. All take images of any size that leaves their last stage a pixel, since the average is global.
"""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dot import importing

if TYPE_CHECKING:
    from torch import nn

_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet", {"depth": depth}) for depth in (8, 14, 18, 20, 32, 44, 50, 56, 110)},
    **{f"resnet{depth}x4": ("resnet", {"depth": depth, "wide": True}) for depth in (8, 32)},
    **{f"resnet{depth}-imagenet": ("resnet", {"depth": depth, "imagenet": True}) for depth in (18, 34, 50)},
    **{f"wrn_{depth}_{widen}": ("wrn", {"depth": depth, "widen": widen}) for depth in (16, 40) for widen in (1, 2)},
    **{f"vgg{depth}": ("vgg", {"depth": depth}) for depth in (8, 11, 13, 16, 19)},
    "mobilenetv1-imagenet": ("mobilenetv1", {}),
    "mobilenetv2": ("mobilenetv2", {}),
    "mobilenetv2-tinyimagenet": ("mobilenetv2", {"tinyimagenet": True}),
    "shufflenetv1": ("shufflenetv1", {}),
    "shufflenetv2": ("shufflenetv2", {}),
    **{f"convnet{width}": ("convnet", {"width": width}) for width in (4, 8, 16)},
}


def names() -> list[str]:
    """Every name that `build` takes."""
    return list(_MODELS)


def build(name: str, *, in_channels: int = 3, num_classes: int = 100) -> nn.Module:
    """A network with freshly drawn weights, from torch's global generator.

    Args:
        name: One of `names`, or ``module:function`` for your own: a function of ``in_channels`` and ``num_classes``
            that returns a module.
        in_channels: Of the images ``[N, in_channels, H, W]``.
        num_classes: Of the logits ``[N, num_classes]``.

    Raises:
        ValueError: The name is unknown; close ones are listed. Or the function cannot be imported, takes other
            arguments, or returns no module.
    """
    if ":" in name:
        return _build_own(name, in_channels=in_channels, num_classes=num_classes)
    if name not in _MODELS:
        forms = [known for known in _MODELS if known.startswith(f"{name.lower()}-")]
        close = forms or difflib.get_close_matches(name.lower(), _MODELS, n=3, cutoff=0.5) or names()
        raise ValueError(f"model must be a known network. Got {name!r}. Did you mean {', '.join(close)}?")
    family, settings = _MODELS[name]
    model: nn.Module = import_module(f"dot.models.{family}").build(in_channels, num_classes, **settings)
    return model


def _build_own(path: str, **arguments: int) -> nn.Module:
    from torch import nn

    make = importing.find(path, argument="model", example="my_network:build")
    signature = inspect.signature(make)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{path} must be a function of in_channels and num_classes. Got {signature}: {error}. "
            "Write a function of these two that calls it."
        ) from error
    found = make(**arguments)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{path} must return a torch.nn.Module. Got {type(found).__name__}.")
    return found
