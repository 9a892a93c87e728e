"""The flatness numbers of one minimum, together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from landscape.markup import paragraph, table
from landscape.sharpness.measure import Measure


@dataclass(frozen=True)
class Flatness:
    """The flatness numbers of one minimum.

    Attributes:
        measures: In order.
        attrs: Provenance, the root attributes of the file: among others ``term``, ``split``, ``checkpoint_sha256``,
            ``data_sha256``, ``seed``, ``settings``, and ``left_out``: ``{key: why}`` of numbers that could not be had.
    """

    measures: tuple[Measure, ...]
    attrs: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.measures)

    def __iter__(self) -> Iterator[Measure]:
        return iter(self.measures)

    def __getitem__(self, key: str) -> Measure:
        for measure in self.measures:
            if measure.key == key:
                return measure
        why = self.left_out.get(key)
        raise KeyError(
            f"expected a measure of this minimum, one of {', '.join(self.keys())}. Got {key!r}"
            + (f", which was left out: {why}" if why else ".")
        )

    def keys(self) -> tuple[str, ...]:
        """The short names of the measures, in order; ``dict(flatness)`` has them by name."""
        return tuple(measure.key for measure in self.measures)

    @property
    def left_out(self) -> dict[str, str]:
        """Numbers that could not be had, ``{key: why}``."""
        return dict(self.attrs.get("left_out", {}))

    def save(self, path: str | Path) -> None:
        """Write to an HDF5 file, replacing one that is there; `landscape.load` reads it.

        Raises:
            OSError: The file cannot be written.
        """
        from landscape import store

        store.save_flatness(path, self)

    def __str__(self) -> str:
        rows = [("", "value", "95 % interval", "n", ""), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {value:>{widths[1]}}  {interval:<{widths[2]}}  {n:>{widths[3]}}  {note}".rstrip()
            for name, value, interval, n, note in rows
        ]
        return "\n".join([self._title(), *lines])

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        left_out = [(key, "-", "", "", f"left out: {why}") for key, why in self.left_out.items()]
        return [*map(_row, self.measures), *left_out]

    def _title(self) -> str:
        of = " ".join(
            f"on {self.attrs[key]}" if key == "split" else self.attrs[key]
            for key in ("term", "split")
            if key in self.attrs
        )
        return f"Flatness of {of}" if of else "Flatness"

    def _repr_html_(self) -> str:
        return paragraph(self._title(), bold=True) + table(("", "value", "95 % interval", "n", ""), self._rows())

    def __repr__(self) -> str:
        return f"<Flatness: {', '.join(f'{m.key} {m.value:.3g}' for m in self.measures)}>"


def _row(measure: Measure) -> tuple[str, str, str, str, str]:
    bound = ">= " if measure.at_least else ""
    interval = "" if np.isnan(measure.low) else f"{measure.low:.3g} to {measure.high:.3g}"
    return measure.name, f"{bound}{measure.value:.3g}", interval, str(measure.n), measure.note
