"""What the values of a configuration must be, in words, and how to tell: the types of its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from dot import data, models
from dot.tables import suggest

METHODS = {"ce": "CE", "kd-sgd": "KD+SGD", "kd-dot": "KD+DOT"}
"""Training methods and how they are written in figures."""


@dataclass(frozen=True)
class Must:
    """What a value must be, in words, and how to tell."""

    words: str
    good: Callable[[Any], bool]

    def faults(self, value: Any) -> list[str]:
        """What is wrong with a value."""
        return [] if self.good(value) else [f"must be {self.words}. Got {value!r}."]


@dataclass(frozen=True)
class Among:
    """A value, or each of several, must be one of these names."""

    names: Callable[[], Collection[str]]

    def faults(self, value: str | tuple[str, ...]) -> list[str]:
        """What is wrong with a value."""
        allowed = self.names()
        wrong = [name for name in ((value,) if isinstance(value, str) else value) if name not in allowed]
        return [f"must be among {', '.join(allowed)}. Got {name!r}.{suggest(name, allowed)}" for name in wrong]


@dataclass(frozen=True)
class ImageSetName:
    """A value must be the name of an image set."""

    def faults(self, value: str) -> list[str]:
        """What is wrong with a value."""
        return data.faults(value)


@dataclass(frozen=True)
class OrOwn:
    """A value must be one of these names, or a user's own function as ``module:function``."""

    among: Among

    def faults(self, value: str) -> list[str]:
        """What is wrong with a value."""
        return [] if ":" in value.strip(":") else self.among.faults(value)


Count = Annotated[int, Must("at least 0", lambda v: v >= 0)]
Positive = Annotated[int, Must("at least 1", lambda v: v >= 1)]
AtLeastTwo = Annotated[int, Must("at least 2", lambda v: v >= 2)]
Odd = Annotated[int, Must("odd and at least 3, so that 0 is on the grid", lambda v: v >= 3 and v % 2 == 1)]
AboveZero = Annotated[float, Must("above 0", lambda v: v > 0)]
NotNegative = Annotated[float, Must("at least 0", lambda v: v >= 0)]
Degrees = Annotated[float, Must("0 to 180 degrees", lambda v: 0 <= v <= 180)]
Share = Annotated[float, Must("above 0 and at most 1", lambda v: 0 < v <= 1)]
Momentum = Annotated[float, Must("at least 0 and below 1", lambda v: 0 <= v < 1)]
Name = Annotated[str, Must("letters, digits, '-' and '_' alone", lambda v: v.replace("-", "_").isidentifier())]
Rising = Annotated[
    tuple[int, ...], Must("rising, from 1", lambda v: list(v) == sorted(set(v)) and min(v, default=1) > 0)
]
Epochs = Annotated[tuple[int, ...], Must("epochs, which count from 1", lambda v: all(epoch >= 1 for epoch in v))]
Seeds = Annotated[tuple[int, ...], Must("at least 0", lambda v: all(seed >= 0 for seed in v))]
Sha256 = Annotated[str, Must("64 hexadecimal digits", lambda v: not v or re.fullmatch("[0-9a-f]{64}", v) is not None)]
Method = Annotated[str, Among(lambda: METHODS)]
Methods = Annotated[tuple[str, ...], Among(lambda: METHODS)]
Model = Annotated[str, OrOwn(Among(models.names))]
Distillation = Annotated[str, OrOwn(Among(lambda: ("kd", "dkd", "standardised-kd", "hint")))]
Precision = Annotated[str, Among(lambda: ("float32", "bf16"))]
Data = Annotated[str, ImageSetName()]
