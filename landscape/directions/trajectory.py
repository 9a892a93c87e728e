"""The plane that a training run moves in: principal components of its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.normalisation import Ignore, one_of
from landscape.directions.weights import like, moving, read
from landscape.results import Array

Checkpoint = modules.Weights | str | os.PathLike[str] | Callable[[], modules.Weights]
"""A network or its state dict, a file with a state dict, or a function without arguments that returns one."""

_HELD = 4
"""How many checkpoints are in memory while the others pass by."""

_ROUNDING = 1e-12
"""A variance below this part of the largest squared distance from the origin is rounding."""


def trajectory(
    model: nn.Module, checkpoints: Sequence[Checkpoint], n: int = 2, *, ignore: Ignore = "none"
) -> Directions:
    """The ``n`` principal components of a training run, as in Li et al. 2018 (arXiv 1712.09913), section 7.2.

    They are those of the differences between the checkpoints and ``model``, less their mean. The k x k inner products
    and the components are summed in float64 with five checkpoints in memory at most, and each is read about k / 8
    times. A component with a share s of the variance of the first is right to about 1e-16 / s.

    Args:
        model: The network at the origin, such as the last of the run. Buffers stay those of this network.
        checkpoints: k state dicts, files (``.safetensors`` or what ``torch.save`` wrote) or functions that return a
            state dict.
        n: How many components.
        ignore: Which parameters stay put, and out of the components: see `random`.

    Returns:
        ``n`` orthogonal directions of norm 1, each with its largest coordinate positive; ``points["trajectory"]`` is
        where the checkpoints project to, ``[k, n]``; ``explained`` is the share of the variance along each.

    Raises:
        TypeError: ``checkpoints`` is no sequence (it is read more than once), or one of them is none of these.
        ValueError: A checkpoint does not fit the model (it is named, with the tensor), or they span too few dimensions.
    """
    one_of("ignore", ignore, Ignore)
    if n < 1:
        raise ValueError(f"n must be at least 1. Got {n}.")
    if not isinstance(checkpoints, Sequence) or isinstance(checkpoints, str):
        raise TypeError(f"checkpoints must be a sequence, such as a list. Got {type(checkpoints).__name__}.")
    model = modules.unwrap(model)
    modules.check(model)
    run = _Run(model, moving(model, ignore), checkpoints)
    shares, mixtures = _components(_gram(run.difference, len(checkpoints)), n)
    axes = _signed(_mixed(run.difference, mixtures))
    points = np.array([(axes @ run.difference(i)).numpy() for i in range(len(checkpoints))])
    return Directions(
        tuple(like(run.tensors(axis), run.moved) for axis in axes),
        normalize="none",
        ignore=ignore,
        kind="trajectory",
        points={"trajectory": points},
        explained=shares,
    )


class _Run:
    """Differences of checkpoints to a model as vectors ``[D]`` of float64, a complex number as two coordinates."""

    def __init__(self, model: nn.Module, moved: Mapping[str, Tensor], checkpoints: Sequence[Checkpoint]) -> None:
        self.model, self.moved, self.checkpoints = model, moved, checkpoints
        self._origin = {name: modules.wide(p) for name, p in moved.items()}

    def difference(self, number: int) -> Tensor:
        what = f"checkpoint {number}"
        there = read(self.model, loaded(self.checkpoints[number], what), what, self.moved)
        return torch.cat([_real(modules.wide(there[name]) - p).reshape(-1) for name, p in self._origin.items()])

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        found, start = {}, 0
        for name, p in self._origin.items():
            shape = _real(p).shape
            part = vector[start : start + shape.numel()].reshape(shape)
            found[name] = torch.complex(*part.unbind(-1)) if p.is_complex() else part
            start += shape.numel()
        return found


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def loaded(checkpoint: Checkpoint, what: str) -> modules.Weights:
    """A checkpoint as a network or state dict; ``what`` errors call it.

    Raises:
        FileNotFoundError, ValueError: Its file is not there, or holds no state dict.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        return _from_file(Path(checkpoint), what)
    if isinstance(checkpoint, (nn.Module, Mapping)) or not callable(checkpoint):
        return checkpoint
    return checkpoint()


def _from_file(path: Path, what: str) -> modules.Weights:
    if not path.exists():
        raise FileNotFoundError(f"expected a file at {path}, {what}. There is none.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} must be a state dict, {what}, which torch.load(weights_only=True) reads. Got something else."
        ) from error


def _gram(difference: Callable[[int], Tensor], k: int) -> Array:
    """Inner products of all pairs, ``[k, k]``."""
    gram = np.zeros((k, k))
    for start in range(0, k, _HELD):
        _fill(gram, difference, range(start, min(start + _HELD, k)))
    return gram


def _fill(gram: Array, difference: Callable[[int], Tensor], rows: range) -> None:
    """Inner products of some differences with each other and with those after them."""
    held = [difference(i) for i in rows]
    block = slice(rows.start, rows.stop)
    gram[block, block] = [[float(a @ b) for a in held] for b in held]
    for i in range(rows.stop, len(gram)):
        gram[block, i] = gram[i, block] = _products(held, difference(i))


def _products(held: Sequence[Tensor], one: Tensor) -> list[float]:
    return [float(each @ one) for each in held]


def _components(gram: Array, n: int) -> tuple[tuple[float, ...], Array]:
    """Shares of the variance, and of each component the mixture of the differences that it is, ``[n, k]``."""
    k = len(gram)
    centring = np.eye(k) - 1 / max(k, 1)
    values, vectors = (found[..., ::-1] for found in np.linalg.eigh(centring @ gram @ centring))
    rank = int((values > _ROUNDING * gram.diagonal().max(initial=0.0)).sum())
    if rank < n:
        raise ValueError(
            f"checkpoints must hold at least {n + 1} that differ, and span {n} dimensions. "
            f"Got {k} that span {rank}. Save more of them, or use a smaller n."
        )
    shares = values[:n] / values.clip(min=0.0).sum()
    mixtures = centring @ vectors[:, :n] / np.sqrt(values[:n])
    return tuple(map(float, shares)), mixtures.T


def _mixed(difference: Callable[[int], Tensor], mixtures: Array) -> Tensor:
    """The components ``[n, D]``, orthonormal."""
    first, *rest = torch.as_tensor(mixtures.T.copy())
    axes = torch.outer(first, difference(0))
    for number, weights in enumerate(rest, start=1):
        axes.addr_(weights, difference(number))
    return torch.linalg.qr(axes.T).Q.T  # takes out the rounding of the sums


def _signed(axes: Tensor) -> Tensor:
    """Each with its largest coordinate positive: a component is one up to its sign only."""
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return (axes * largest.sign()).contiguous()
