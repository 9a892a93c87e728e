"""Parts of a surface that are measured apart: shards of its cells, and parts of its data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Part ``index`` of ``count``, counted from 0; ``0/1`` is the whole.

    Raises:
        ValueError: The index is not below the count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a part must be i/n with i from 0 to n - 1, such as 0/4. Got {self.index}/{self.count}.")

    @classmethod
    def parse(cls, text: str) -> Part:
        """That of a text such as ``"0/4"``.

        Raises:
            ValueError: It is none.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"a part must be i/n, such as 0/4. Got {text!r}.")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def whole(self) -> bool:
        """Whether it is everything."""
        return self.count == 1

    def of(self, items: list[T]) -> list[T]:
        """Its items: every ``count``-th, from ``index`` on."""
        return items[self.index :: self.count]


def part_path(out: Path, shard: Part, data_shard: Part) -> Path:
    """Where a part of the surface ``out`` is written: ``surface.shard-0-of-4.h5``, ``surface.data-1-of-2.h5``."""
    names = [] if shard.whole else [f"shard-{shard.index}-of-{shard.count}"]
    names += [] if data_shard.whole else [f"data-{data_shard.index}-of-{data_shard.count}"]
    return out.with_suffix("".join(f".{name}" for name in names) + out.suffix)


def plan_path(out: Path) -> Path:
    """Where the plan lies that all parts of ``out`` share."""
    return out.with_suffix(".plan.json")


def whole_path(parts: Sequence[Path]) -> Path:
    """What parts make, by their names: ``surface.h5`` of ``surface.shard-0-of-2.h5`` and ``surface.shard-1-of-2.h5``.

    Shards of one part of the data make that part.
    """
    of_data = {_without("shard", part) for part in parts}
    return of_data.pop() if len(of_data) == 1 else _without("data", of_data.pop())


def _without(which: str, part: Path) -> Path:
    return part.with_name(re.sub(rf"\.{which}-\d+-of-\d+(?=(\.[^/]*)?$)", "", part.name))
