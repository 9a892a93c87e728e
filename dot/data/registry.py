"""The one list of image sets; each module is imported when its set is loaded."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from dot.data.images import ImageSet

_MODULES = {"digits": "dot.data.digits"}


def names() -> list[str]:
    """Every name that `load` takes."""
    return list(_MODULES)


def load(name: str, device: torch.device) -> ImageSet:
    """An image set with its arrays on a device.

    Raises:
        ValueError: The name is unknown; close ones are listed.
    """
    if name not in _MODULES:
        close = difflib.get_close_matches(name, _MODULES, n=3, cutoff=0.5) or names()
        raise ValueError(f"data must be a known image set. Got {name!r}. Did you mean {', '.join(close)}?")
    found: ImageSet = import_module(_MODULES[name]).load()
    return found.to(device)
