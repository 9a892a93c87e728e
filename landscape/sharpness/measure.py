"""A flatness number: its value, its error, what it is, and what it is not changed by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from landscape.results import Array

Invariance = Literal["filters", "layers", "none"]
"""What leaves a number as it is, of changes that leave a ReLU network's function as it is.

``"filters"``: every unit's incoming weights and bias times a factor of its own, its outgoing weights divided by it
(layers, too); ``"layers"``: the same with one factor for all units of a layer; ``"none"``: neither.
"""


@dataclass(frozen=True)
class Definition:
    """What a flatness number is.

    Attributes:
        key: Short name, without spaces.
        name: As a reader sees it, with its parameters.
        text: What it is, in a sentence, with its units.
        source: Paper and equation or section.
        flatter: Whether a flat minimum has a small or a large one.
        invariant: Under which rescalings that do not change the function.
        bound: ``"lower"`` where the number itself is a lower bound (a maximum that was searched for).
    """

    key: str
    name: str
    text: str
    source: str
    flatter: Literal["small", "large"]
    invariant: Invariance
    bound: Literal["none", "lower"] = "none"


@dataclass(frozen=True)
class Measure:
    """A flatness number of one minimum.

    Attributes:
        what: Its definition.
        value: The number; NaN where undefined.
        low: Lower end of its 95 % interval; NaN where it has none: see ``n``.
        high: Upper end.
        samples: What the number is the centre of, one for each of ``n`` random directions, draws or probes: their
            mean, or their median where ``center`` says so. One sample where nothing is random. A sample that is only
            known to be larger (its line ended first) is inf.
        center: Of the samples.
        censored: How many samples are inf.
        note: What a reader must know, such as why the value is a lower bound; empty otherwise.
        at_least: Whether the value is a lower bound: by its definition, or for want of a wider grid.
    """

    what: Definition
    value: float
    low: float
    high: float
    samples: Array = field(repr=False)
    center: Literal["mean", "median"] = "mean"
    censored: int = 0
    note: str = ""
    at_least: bool = False

    @property
    def key(self) -> str:
        """Short name, without spaces."""
        return self.what.key

    @property
    def name(self) -> str:
        """As a reader sees it."""
        return self.what.name

    @property
    def definition(self) -> str:
        """In a sentence, with its units."""
        return self.what.text

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def quantile(self, share: float) -> float:
        """The smallest sample that at least this share of them do not exceed; inf where it is censored.

        Raises:
            ValueError: ``share`` is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be between 0 and 1. Got {share}.")
        return float(np.quantile(self.samples, share, method="inverted_cdf"))

    def __str__(self) -> str:
        at_least = "at least " if self.at_least else ""
        interval = "" if np.isnan(self.low) else f" ({self.low:.3g} to {self.high:.3g})"
        of = f", {self.center} of {self.n}" if self.n > 1 else ""
        return f"{self.name}: {at_least}{self.value:.3g}{interval}{of}{f'; {self.note}' if self.note else ''}"
