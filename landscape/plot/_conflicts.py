"""What recordings of gradient conflict have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._style import WIDTH, width
from landscape.results import Array


def common_steps(name: str, conflicts: Sequence[Conflict]) -> NDArray[np.int64]:
    """Steps that all recordings of a method have, ascending.

    Raises:
        ValueError: There is no recording, or no such step.
    """
    if not conflicts:
        raise ValueError(f"expected at least one recording of {name!r}. Got none. Leave the method out.")
    steps: NDArray[np.int64] = reduce(np.intersect1d, [conflict.step for conflict in conflicts])
    if not steps.size:
        raise ValueError(f"expected steps that all recordings of {name!r} share. Got none. Record the same steps.")
    return steps


def at_steps(conflict: Conflict, steps: NDArray[np.int64], values: Array) -> Array:
    """Rows of ``values`` ``[B, ...]`` of a recording at the given steps, in their order."""
    _, rows, _ = np.intersect1d(conflict.step, steps, return_indices=True)
    return values[rows]


def headings(conflicts: Mapping[str, Sequence[Conflict]]) -> list[str]:
    """The name of each method's panel, with what its line is from."""
    return [
        f"{name}: {count(len(seeds), 'seed')}, {count(len(common_steps(name, seeds)), 'record')}"
        for name, seeds in conflicts.items()
    ]


def row_size(n: int) -> tuple[float, float]:
    """Of a figure with a row for each of ``n`` methods, in inches."""
    wide = width(WIDTH)
    return wide, 0.7 + (0.6 + 0.11 * wide) * n


def band_said(conflicts: Mapping[str, Sequence[Conflict]]) -> str:
    """What line and band are, where a method has several seeds."""
    several = any(len(seeds) > 1 for seeds in conflicts.values())
    return "Line: mean over seeds; band: lowest to highest seed." if several else ""


def recordings_said(conflicts: Mapping[str, Sequence[Conflict]]) -> str:
    """The methods with their seeds and records, the examples of a record and the precision, for a caption."""
    every = [conflict for seeds in conflicts.values() for conflict in seeds]
    return "; ".join(filter(None, (*headings(conflicts), examples_said(every))))


def examples_said(conflicts: Sequence[Conflict]) -> str:
    """How many examples a record is from, and the precision, as far as they are known and all alike."""
    sizes = {int(n) for conflict in conflicts if conflict.sizes is not None for n in np.unique(conflict.sizes)}
    precisions = {conflict.attrs.get("precision") for conflict in conflicts}
    of = f"{min(sizes)} to {max(sizes)} examples" if len(sizes) > 1 else count(max(sizes), "example") if sizes else ""
    return "; ".join(filter(None, (f"{of} a record" if of else "", precisions.pop() if len(precisions) == 1 else "")))


def common_terms(conflicts: Mapping[str, Sequence[Conflict]]) -> tuple[str, str]:
    """The two terms whose gradients all recordings compare.

    Raises:
        ValueError: There is no recording, or they compare different terms, or more than two.
    """
    pairs = {conflict.terms for seeds in conflicts.values() for conflict in seeds}
    if len(pairs) != 1:
        got = "; ".join(" and ".join(pair) for pair in sorted(pairs)) or "no recordings"
        raise ValueError(f"expected recordings of one pair of terms. Got {got}. Draw a figure for each pair.")
    terms = pairs.pop()
    if len(terms) != 2:
        raise ValueError(f"expected recordings of two terms. Got {', '.join(terms)}. Choose two: conflict.pair(a, b).")
    return terms[0], terms[1]
