"""A user's own function by its path, ``module:function``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def find(path: str, *, argument: str, example: str) -> Callable[..., Any]:
    """The function that ``path`` names, its module imported.

    Args:
        path: ``module:function``, the module as ``import`` would find it.
        argument: What the caller calls the path, for errors.
        example: A path to show in errors.

    Raises:
        ValueError: It has another form, cannot be imported, or is no function.
    """
    module, colon, function = path.partition(":")
    if not (module and colon and function):
        raise ValueError(f"{argument} must be module:function, such as {example}. Got {path!r}.")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{argument} must name a function that can be imported. Got {path!r}: {error}.") from error
    if not callable(found):
        raise ValueError(f"{argument} must name a function. Got {path!r}, which is of type {type(found).__name__}.")
    make: Callable[..., Any] = found
    return make
