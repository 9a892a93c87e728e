"""The one list of image sets; each module is imported when its set is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from dot.data.images import ImageSet
    from dot.data.sources import Source

_MODULES = {
    "digits": "dot.data.digits",
    "cifar10": "dot.data.cifar",
    "cifar100": "dot.data.cifar",
    "tiny-imagenet": "dot.data.tiny_imagenet",
    "tiny-imagenet-20-32": "dot.data.tiny_imagenet",
    "imagenet": "dot.data.imagenet",
}
"""By name, the module whose function ``source`` makes the set of that name."""
_FOLDERS = "folder:"


def names() -> list[str]:
    """Every name of a set that is the same everywhere; those of folders (``folder:...``) come on top."""
    return list(_MODULES)


def faults(name: str) -> list[str]:
    """What is wrong with the name of an image set in a study; nothing is looked for on the disk.

    A folder must be named with the digest of its content: the name of a run says by it what it was trained on.
    """
    try:
        found = source(name)
    except ValueError as error:
        return [str(error).removeprefix("data ")]
    if name.startswith(_FOLDERS) and "@" not in name:
        return [
            f"must name a folder with the digest of its content, as {name}@0123456789ab. Got {name!r}: "
            f"dot-landscape data info {found.name} says the digest."
        ]
    return []


def source(name: str) -> Source:
    """The image set of a name, whether it is on this machine or not.

    Raises:
        ValueError: The name is unknown; close ones are listed.
    """
    if name not in _MODULES and not name.startswith(_FOLDERS):
        close = difflib.get_close_matches(name, _MODULES, n=3, cutoff=0.5) or names()
        raise ValueError(f"data must be a known image set. Got {name!r}. Did you mean {', '.join(close)}?")
    found: Source = import_module(_MODULES.get(name, "dot.data.folders")).source(name)
    return found


def load(name: str, device: torch.device) -> ImageSet:
    """An image set with its arrays on a device; downloaded and decoded first where need be, which the log says.

    Raises:
        ValueError: The name is unknown (close ones are listed), or its files are not what they must be.
        OSError: It cannot be downloaded, read or written; the message says which file to put where.
    """
    return source(name).load().to(device)
