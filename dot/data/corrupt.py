"""Which image files cannot be decoded, and how that is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from dot.data.decoding import faults
from dot.data.listing import Listing
from dot.data.pool import as_done, decoders

_AT_A_TIME = 256
_NAMED = 5
"""Corrupt images that a message names; it counts them all."""

log = logging.getLogger(__name__)


def search(listing: Listing) -> dict[str, str]:
    """Read and decode every image, in worker processes. Returns why each that cannot be decoded cannot, by its path.

    Raises:
        RuntimeError: The worker processes cannot be started.
    """
    members = [picture.member for picture in listing.pictures]
    log.info("decoding %s images of %s", f"{len(members):,}", listing.base)
    with decoders() as pool:
        parts = [members[start : start + _AT_A_TIME] for start in range(0, len(members), _AT_A_TIME)]
        running = [pool.submit(faults, listing.base, part) for part in parts]
        found: dict[str, str] = {}
        for future in as_done(running):
            found.update(future.result())
    return {member: found[member] for member in members if member in found}


def check(listing: Listing) -> None:
    """Read and decode every image, in worker processes.

    Raises:
        ValueError: Some cannot be decoded; they are counted, and the first are named.
        RuntimeError: The worker processes cannot be started.
    """
    found = search(listing)
    if found:
        raise ValueError(complaint(listing.base, len(listing.pictures), found, "Mend or remove them."))


def complaint(base: Path, images: int, corrupt: Mapping[str, str], remedy: str) -> str:
    """What is said of so many images in a folder of which some are corrupt; the first of them are named."""
    named = [f"{base / member} ({fault})" for member, fault in list(corrupt.items())[:_NAMED]]
    more = f" and {len(corrupt) - _NAMED} more" if len(corrupt) > _NAMED else ""
    return (
        f"each of the {images:,} images must be whole. Got {len(corrupt)} that cannot be decoded: "
        f"{', '.join(named)}{more}. {remedy}"
    )
