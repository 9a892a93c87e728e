"""Reading the data: on the device, in the precision and in the pieces that a measurement asks for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping, Sized
from contextlib import closing
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from landscape.provenance import update_digest

Batches = Iterable[Any] | Callable[[], Iterable[Any]]
"""Whatever can be iterated more than once, or a function without arguments that starts a new iteration."""


def iterate(batches: Batches) -> Generator[Any]:
    """Each batch once, as it comes; generators that the loader owns are put back afterwards.

    A loader without a generator of its own draws from the global ones: call this inside `preserve_rng`, and close
    it where it may not be read to its end.

    Raises:
        ValueError: There are no batches.
    """
    states = [(generator, generator.get_state()) for generator in _generators(batches)]
    empty = True
    try:
        for batch in batches() if callable(batches) else batches:
            empty = False
            yield batch
    finally:
        for generator, state in states:
            generator.set_state(state)
    if empty:
        raise ValueError("batches must hold at least one batch. Got none: is the loader empty?")


class Reader:
    """Reads batches as a measurement takes them.

    Args:
        batches: Of a problem.
        device: Where every tensor is moved.
        dtype: What floating-point tensors are cast to; None leaves them.
        max_batch: How many examples a batch may have, None for as many as come; larger ones are split.
        part: ``(j, m)`` takes the batches whose number is j modulo m.
    """

    def __init__(
        self,
        batches: Batches,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        max_batch: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.batches, self.device, self.dtype, self.max_batch, self.part = batches, device, dtype, max_batch, part
        self.largest = 0
        self.in_pieces = False

    def read(self, digest: hashlib._Hash | None = None) -> Generator[Any]:
        """The batches of this part, ready for the objective; ``digest`` takes in those of every part.

        Raises:
            ValueError: There are no batches, or none for this part; or a batch cannot be split.
        """
        index, parts = self.part
        none = True
        with closing(iterate(self.batches)) as source:
            for number, batch in enumerate(source):
                if digest is not None:
                    update_digest(digest, str(number), batch)
                if number % parts == index:
                    none = False
                    yield from self._pieces(batch)
        if none:
            raise ValueError(f"each part of the data must have a batch. Got none for part {index} of {parts}.")

    def sha256(self) -> str:
        """Digest of all the examples, without looking at them any further."""
        digest = hashlib.sha256()
        with closing(iterate(self.batches)) as source:
            for number, batch in enumerate(source):
                update_digest(digest, str(number), batch)
        return digest.hexdigest()

    def _pieces(self, batch: Any) -> Generator[Any]:
        size = size_of(batch)
        limit = self.max_batch or size
        self.largest = max(self.largest, min(size, limit))
        self.in_pieces = size > limit
        if not self.in_pieces:
            yield to_device(batch, self.device, self.dtype)
            return
        step = -(-size // -(-size // limit))  # pieces alike
        for start in range(0, size, step):
            yield to_device(rows_of(batch, slice(start, start + step)), self.device, self.dtype)


def count(batches: Batches) -> int:
    """How many batches there are, 0 where nobody knows."""
    return len(batches) if isinstance(batches, Sized) else 0


def size_of(batch: Any) -> int:
    """Length of the first tensor in a batch; 0 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    for item in batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ():
        if size := size_of(item):
            return size
    return 0


def to_device(batch: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """``batch`` with every tensor in it, nested ones too, on ``device``; the caller's containers stay as they are."""

    def move(tensor: Tensor) -> Tensor:
        cast = dtype if tensor.is_floating_point() else None
        if tensor.device == device and cast is None:
            return tensor
        return tensor.to(device, cast, non_blocking=tensor.is_pinned())

    return _mapped(move, batch, lambda other: copy.copy(other).to(device) if hasattr(other, "to") else other)


def rows_of(batch: Any, rows: slice | Tensor) -> Any:
    """Some of the examples of a batch: of tensors along their first axis, of lists that have an entry for each.

    Raises:
        ValueError: There is something in it that has not one row for each example.
    """
    size = size_of(batch)

    def cut(tensor: Tensor) -> Tensor:
        if tensor.ndim and len(tensor) != size:
            raise _unsplittable(f"tensors of {size} and {len(tensor)} rows")
        return tensor[rows] if tensor.ndim else tensor

    def keep(other: Any) -> Any:
        if hasattr(other, "to"):
            raise _unsplittable(type(other).__name__)
        return other

    def entries(items: Any) -> Any:
        if len(items) != size:
            return items
        return items[rows] if isinstance(rows, slice) else type(items)(items[i] for i in rows.tolist())

    return _mapped(cut, batch, keep, entries)


def joined(batches: list[Any]) -> list[Any]:
    """One batch of the examples of all, in a list; or ``batches`` where they are not alike but for their examples."""
    if len(batches) < 2:
        return batches
    try:
        for batch in batches:
            rows_of(batch, slice(0, 1))
        return [_joined(batches, [size_of(batch) for batch in batches])]
    except (ValueError, TypeError, RuntimeError):  # such as sequences that are padded to several lengths
        return batches


def _joined(parts: list[Any], sizes: list[int]) -> Any:
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise TypeError("batches of different types")
    if isinstance(first, Tensor):
        return torch.cat(parts) if first.ndim else _same(parts)
    if isinstance(first, Mapping):
        if any(part.keys() != first.keys() for part in parts):
            raise ValueError("mappings of different keys")
        return _like_mapping(first, {key: _joined([part[key] for part in parts], sizes) for key in first})
    if isinstance(first, PackedSequence) or not isinstance(first, (tuple, list)):
        return _same(parts)
    if first and all(isinstance(item, (str, bytes, int, float, NoneType)) for item in first):
        if [len(part) for part in parts] == sizes:
            return type(first)(item for part in parts for item in part)
        return _same(parts)
    items = (_joined(list(of), sizes) for of in zip(*parts, strict=True))
    return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)


def _same(parts: list[Any]) -> Any:
    if any(not torch.equal(part, parts[0]) if isinstance(part, Tensor) else part != parts[0] for part in parts):
        raise ValueError("values of different batches")
    return parts[0]


def _unsplittable(what: str) -> ValueError:
    return ValueError(
        "a batch must consist of tensors with one row for each example, to be split. "
        f"Got {what}: make the loader's batches smaller."
    )


def _mapped(
    tensor: Callable[[Tensor], Tensor],
    batch: Any,
    other: Callable[[Any], Any],
    entries: Callable[[Any], Any] = lambda items: items,
) -> Any:
    """``batch`` with functions over its tensors, over lists of plain values, and over what is no container at all."""
    if isinstance(batch, Tensor):
        return tensor(batch)
    if isinstance(batch, Mapping):
        return _like_mapping(batch, {key: _mapped(tensor, value, other, entries) for key, value in batch.items()})
    if isinstance(batch, PackedSequence) or not isinstance(batch, (tuple, list)):
        return other(batch)
    if batch and all(isinstance(item, (str, bytes, int, float, NoneType)) for item in batch):
        return entries(batch)
    items = (_mapped(tensor, value, other, entries) for value in batch)
    return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)


def _like_mapping(batch: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """``items`` in a mapping of the kind of ``batch``, which may have attributes too (a ``BatchEncoding``)."""
    if type(batch) is dict or not isinstance(batch, MutableMapping):
        return items
    twin = copy.copy(batch)
    for key, value in items.items():
        twin[key] = value
    return twin


def _generators(loader: Any) -> list[torch.Generator]:
    """The random generators of a loader and of its samplers, each once."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
