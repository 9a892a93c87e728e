"""The image files of a folder and their sizes, listed once: to ask a network disk for a million sizes takes minutes.

<data folder>/cache/listing-<digest of the folder's path>.json holds the size of each file, and when each folder in it
was last changed, which is when a file in it was last added, renamed or removed: if those times are the same, so is the
list. A file that was overwritten in its place goes unseen, unless it is listed anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from dot.data.disk import alone, write_whole
from dot.data.listing import files as listed
from dot.data.sources import root

_SETTLED = 2.0
"""Seconds after which a folder that is changed again has another time for certain: clocks of disks are coarse."""

log = logging.getLogger(__name__)


def files(folder: Path, anew: bool = False) -> Iterator[tuple[str, str]]:
    """As `dot.data.listing.files`, with the size in bytes alone for a stamp.

    Args:
        folder: Where to look.
        anew: Whatever is kept.

    Raises:
        OSError: The folder cannot be read.
    """
    kept = None if anew else _read(folder)
    yield from (kept or _list_and_keep(folder, anew)).items()


def _place(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return root() / "cache" / f"listing-{name}.json"


def _read(folder: Path) -> dict[str, str] | None:
    """What was kept, if it still holds."""
    try:
        kept = json.loads(_place(folder).read_bytes())
        same = all((folder / path).stat().st_mtime_ns == changed for path, changed in kept["changed"].items())
    except (OSError, ValueError):
        return None
    return kept["files"] if same else None


def _list_and_keep(folder: Path, anew: bool) -> dict[str, str]:
    """Have one process list it while others wait; where nothing can be written, each lists it for itself."""
    place = _place(folder)
    try:
        with alone(place):
            return (None if anew else _read(folder)) or _list(folder, place)
    except OSError as error:
        log.info("the list of %s is not kept: %s", folder, error)
        return _list(folder)


def _list(folder: Path, place: Path | None = None) -> dict[str, str]:
    """List it, and keep the list at a place unless a folder was changed just now."""
    log.info("listing %s", folder)
    began, changed = time.time(), dict[str, int]()

    def enter(inside: Path) -> None:
        changed[str(inside.relative_to(folder))] = inside.stat().st_mtime_ns

    found = {path: stamp.split()[0] for path, stamp in listed(folder, enter)}
    if place is not None and max(changed.values()) < (began - _SETTLED) * 1e9:
        kept = {"folder": str(folder), "changed": changed, "files": found}
        write_whole(place, json.dumps(kept).encode())
    return found
