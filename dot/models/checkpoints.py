"""Weights of the distillation literature's published checkpoints (those of mdistiller), and torchvision's ResNets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from dot.models.resnet import ResNet
from dot.models.wrn import WideResNet
from dot.tensors import load_tensors

_RENAMES: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    ResNet: ((r"\.downsample\.", ".shortcut."), (r"^linear\.", "fc.")),
    WideResNet: ((r"^block(\d)\.layer\.", r"layer\1."), (r"\.convShortcut\.", ".shortcut.")),
}
"""For each family, what in the reference's names becomes what in ours."""


def load_reference(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a checkpoint into ``model``, in place.

    The file holds a state dict, or ``{"model": state dict}``. ResNets and Wide ResNets are matched by name; other
    networks tensor by tensor in order, where each kind (weight, bias, running mean ...) and each shape must agree. A
    classifier that is a 1x1 convolution fits a linear one. Norms' counts of batches stay as they are.

    Args:
        model: A network of `dot.models.build`, with the checkpoint's number of channels and classes.
        path: A ``.pth`` or ``.pt`` file, read as data only: a pickle that would run code is refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or a tensor does not fit, which is named; the model is as it was.
    """
    found = {_rename(model, name): tensor for name, tensor in _read(Path(path)).items()}
    ours = _counted_out(model.state_dict())
    order = ours if ours.keys() == found.keys() else found  # by name, else in the file's order
    for name, other in zip_longest(ours, order):
        if name is None or other is None or not _fits(name, ours[name], other, found[other]):
            raise ValueError(
                f"{path} must fit the model tensor by tensor. Expected {_words(name, ours)}. "
                f"Got {_words(other, found)}. Build the network of that checkpoint, with its num_classes."
            )
    matched = zip(ours.items(), order, strict=True)
    model.load_state_dict({name: found[other].reshape(tensor.shape) for (name, tensor), other in matched})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}. There is none.")
    state = load_tensors(path, "Where you trust it, save its state dict alone.")
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} must hold a state dict, or one under 'model'. Got {_content(state)}.")
    plain = dict(state)
    consume_prefix_in_state_dict_if_present(plain, "module.")  # of a network that was saved inside DataParallel
    return _counted_out(plain)


def _content(state: object) -> str:
    return (
        f"a table of {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else type(state).__name__
    )


def _counted_out(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def _rename(model: nn.Module, name: str) -> str:
    for pattern, ours in _RENAMES.get(type(model), ()):
        name = re.sub(pattern, ours, name)
    return name


def _fits(name: str, tensor: Tensor, other: str, found: Tensor) -> bool:
    return name.rpartition(".")[2] == other.rpartition(".")[2] and _shape(tensor) == _shape(found)


def _shape(tensor: Tensor) -> list[int]:
    """Without the two ones at the end that tell a 1x1 convolution from a linear layer."""
    shape = list(tensor.shape)
    return shape[:2] if shape[2:] == [1, 1] else shape


def _words(name: str | None, state: Mapping[str, Tensor]) -> str:
    return "nothing more" if name is None else f"{name} of shape {list(state[name].shape)}"
