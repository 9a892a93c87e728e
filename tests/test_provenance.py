"""Digests tell data apart, whatever they are made of."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from landscape.provenance import update_digest


@dataclass
class Pair:
    a: Any
    b: Any


class Colour(enum.Enum):
    RED = 1


def digest(value: Any) -> str:
    found = hashlib.sha256()
    update_digest(found, "batch", value)
    return found.hexdigest()


DIFFERENT = [
    torch.tensor([1.0, 2.0]),
    torch.tensor([1.0, 2.0], dtype=torch.float64),
    torch.tensor([[1.0, 2.0]]),
    torch.tensor([1.0, 3.0]),
    torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    torch.zeros(0),
    torch.zeros(0, 3, dtype=torch.bfloat16),
    np.array([1.0, 2.0]),
    np.array([2.0, 1.0]),
    np.array(["a", "b"]),
    np.array(["a", "c"]),
    np.array([None, "c"], dtype=object),
    [1, 2],
    [1, 3],
    (1, 2, 3),
    {"x": 1},
    {"y": 1},
    "text",
    b"text",
    None,
    True,
    1.5,
    Pair(1, torch.ones(2)),
    Pair(1, torch.zeros(2)),
    Colour.RED,
    SimpleNamespace(a=1),
]


def test_different_data_have_different_digests() -> None:
    digests = [digest(value) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert digests == [digest(value) for value in DIFFERENT]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.arange(6).reshape(2, 3).T, torch.arange(6).reshape(2, 3).T.contiguous()),
        (np.arange(6)[::-1], np.ascontiguousarray(np.arange(6)[::-1])),
        (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
    ],
)
def test_the_layout_in_memory_does_not_count(a: Any, b: Any) -> None:
    assert digest(a) == digest(b)


def test_a_value_that_holds_itself_is_no_endless_walk() -> None:
    loop = SimpleNamespace()
    loop.me = loop
    assert digest(loop) == digest(SimpleNamespace())
