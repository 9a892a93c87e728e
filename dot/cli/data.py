"""List, fetch, verify and describe image sets.

list: every set and where it lies. fetch: download and decode one, so that training starts at once. verify: read every
byte of one, compare digests, decode what is decoded when it is seen. info: what one holds, and how a study names it.
Sets lie in the folder that the environment variable DOT_DATA names, else in the user's cache folder; an image folder
there is the set folder:NAME.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dot.cli._shared import Common, Reply, UsageError

if TYPE_CHECKING:
    from dot.data.sources import Source

EXAMPLES = (
    "data list",
    "data info digits --json",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``data``."""

    action: Annotated[Literal["list", "fetch", "verify", "info"], tyro.conf.Positional]
    """What to do."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """An image set, such as digits, cifar100, tiny-imagenet or folder:birds,size=32."""


def run(options: Options) -> Reply:
    """Run the verb."""
    from dot import data

    if (options.action == "list") == bool(options.name):
        came = options.name or "none"
        raise UsageError(f"expected a name with fetch, verify and info, and none with list. Got {came}.")
    if options.action == "list":
        return _list()
    found = data.source(options.name)
    return {"fetch": _fetch, "verify": _verify, "info": _info}[options.action](found)


def _list() -> Reply:
    from dot import data
    from dot.data import folders
    from dot.data.sources import root

    found = [data.source(name) for name in [*data.names(), *folders.found_in(root())]]
    sets = {source.name: {"about": source.about, "path": source.find()} for source in found}
    width = max(map(len, sets))
    lines = [
        f"{name.ljust(width)}  {entry['about']}\n{' ' * width}  {entry['path'] or 'not on this machine'}"
        for name, entry in sets.items()
    ]
    return Reply("\n".join([*lines, f"data folder: {root()}"]), {"root": root(), "sets": sets})


def _fetch(source: Source) -> Reply:
    path = source.fetch()
    return Reply(f"{source.name}: {path}", {"name": source.name, "path": path})


def _verify(source: Source) -> Reply:
    try:
        source.check()
    except ValueError as error:
        return Reply(f"{source.name}: {error}", {"name": source.name, "whole": False, "fault": str(error)}, ok=False)
    return Reply(f"{source.name}: whole", {"name": source.name, "whole": True, "fault": None})


def _info(source: Source) -> Reply:
    path, images = source.where(), source.load()
    facts: dict[str, Any] = {
        "name": images.name,
        "path": path,
        "train": len(images.train),
        "test": len(images.test),
        "classes": images.num_classes,
        "shape": list(images.train.shape),
        "white": images.white,
        "mean": list(images.mean),
        "std": list(images.std),
        "digest": images.digest or None,
        "skipped": images.skipped,
    }
    lines = [f"{key}: {value}" for key, value in facts.items() if value is not None]
    return Reply("\n".join([*lines, f'in a study: data = "{images.name}"']), facts)
