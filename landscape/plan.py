"""How a surface is computed, as far as its last bits depend on it: decided once, obeyed by resume and every shard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from landscape.files import claim, create_once, write_whole

Order = Literal["rows", "coarse-to-fine"]


@dataclass(frozen=True)
class Plan:
    """What the first call decided.

    Attributes:
        threads: CPU threads; sums in another order differ in their last bits.
        device: Its type.
        order: In which order cells are evaluated, and so which shard owns which.
        max_batch: How many examples a batch may have; 0 for as many as come.
        layout: Of the weights of convolutions: ``"channels last"``, or ``"as given"``.
        path: ``"plain"`` evaluates the module as it is, on the batches as they come; ``"fast"`` folds batch norms and
            evaluates batches of ``max_batch`` examples, which are kept where there is room.
        folded: How many batch norms are computed by the layers before them.
        kept: Whether the examples are read once and kept on the device.
    """

    threads: int
    device: str
    order: Order = "rows"
    max_batch: int = 0
    layout: str = "as given"
    path: Literal["plain", "fast"] = "plain"
    folded: int = 0
    kept: bool = False

    @classmethod
    def new(cls, device: torch.device, order: Order) -> Plan:
        """As this process is set up."""
        return cls(torch.get_num_threads(), device.type, order)

    @classmethod
    def of(cls, attrs: dict[str, Any]) -> Plan:
        """That of a file, from its attributes.

        Raises:
            ValueError: It was written by a version with other plans.
        """
        try:
            return cls(**attrs["plan"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                "a surface must have a plan of this version, to be resumed. Got one of another: write to another file."
            ) from error

    def as_attr(self) -> dict[str, Any]:
        """Ready for a file's attributes."""
        return asdict(self)

    def halved(self, largest: int) -> Plan:
        """With half the examples at a time.

        Raises:
            RuntimeError: There is only one example left, or nobody knows how many there are.
        """
        if not largest:
            raise RuntimeError(
                "a batch must consist of tensors, to be split for want of memory. Got one without any: make the "
                "loader's batches smaller."
            )
        if largest < 2:
            raise RuntimeError(
                "the device must have memory for one example. Got out of memory with a single one: use a device with "
                "more, a model of lower precision, or shorter examples."
            )
        return replace(self, max_batch=(largest + 1) // 2)


def agreed(path: Path, mine: Plan) -> Plan:
    """The plan that all shards share: that of ``path``, which the first to come writes.

    Raises:
        OSError: The folder cannot be written.
        ValueError: The file is of another kind.
    """
    if not path.exists():
        create_once(path, json.dumps(mine.as_attr(), indent=2).encode())
    try:
        return Plan(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must be the plan of shards. Got something else: delete it.") from error


def lowered(path: Path, mine: Plan) -> Plan:
    """`agreed`, where this shard has had to take smaller batches: the smallest of all shards counts.

    Raises:
        OSError: The folder cannot be written.
    """
    with claim(path):
        theirs = agreed(path, mine).max_batch or mine.max_batch
        plan = replace(mine, max_batch=min(mine.max_batch, theirs))
        write_whole(path, json.dumps(plan.as_attr(), indent=2).encode())
    return plan
