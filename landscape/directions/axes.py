"""A set of directions, however it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup
from torch import Tensor

from landscape.markup import paragraph, table
from landscape.provenance import digest_tensors
from landscape.results import Array


@dataclass(frozen=True)
class Directions:
    """One or more directions, each a tensor for every parameter (or buffer) that moves.

    Attributes:
        axes: For each direction ``{name: tensor}``, in the shape of the parameter of that name.
        normalize: How each was scaled.
        ignore: Which parameters stay put.
        seed: What they were drawn with, or None where nothing was drawn.
        kind: How they were made, such as ``"random"`` or ``"trajectory"``.
        points: Places of note by name, each ``[k, n]`` in units of the ``n`` directions: the three networks of a plane,
            the path of a training run.
        explained: Share of the variance of a training run along each direction, for a trajectory.
    """

    axes: tuple[Mapping[str, Tensor], ...]
    normalize: str
    ignore: str
    seed: int | None = None
    kind: str = "random"
    points: Mapping[str, Array] = field(default_factory=dict)
    explained: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.axes)

    def __repr__(self) -> str:
        return f"<Directions: {len(self)} {self.kind}, normalize {self.normalize}, ignore {self.ignore}>"

    def _repr_html_(self) -> str:
        share = [f"{100 * share:.3g} %" for share in self.explained] or [""] * len(self)
        rows = [
            (str(i), str(len(axis)), f"{sum(tensor.numel() for tensor in axis.values()):,}", share[i])
            for i, axis in enumerate(self.axes)
        ]
        seed = "" if self.seed is None else f", seed {self.seed}"
        title = f"Directions, {self.kind}: normalize {self.normalize}, ignore {self.ignore}{seed}"
        head = ("direction", "tensors", "numbers", "variance explained" if self.explained else "")
        places = [paragraph(f"{name}: {len(points)} places") for name, points in self.points.items()]
        return paragraph(title, bold=True) + table(head, rows) + Markup("").join(places)

    @property
    def sha256(self) -> str:
        """Digest of every tensor with its name, in the order of the names."""
        return digest_tensors(
            (f"{i}/{name}", tensor) for i, axis in enumerate(self.axes) for name, tensor in sorted(axis.items())
        )
