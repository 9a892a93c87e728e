"""A spectral density with its error, and means over the eigenvalues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from landscape.hessian.lanczos import Quadrature
from landscape.hessian.means import Mean, mean_of
from landscape.results import Array


class Rules(NamedTuple):
    """Quadratures of several probes, ``[probes, m]`` each."""

    nodes: Array
    weights: Array

    @classmethod
    def of(cls, rules: Sequence[Quadrature], steps: int) -> Rules:
        """Of one length, filled up with nodes of no weight."""
        nodes = np.stack([np.pad(rule.nodes, (0, steps - len(rule.nodes)), mode="edge") for rule in rules])
        weights = np.stack([np.pad(rule.weights, (0, steps - len(rule.weights))) for rule in rules])
        return cls(nodes, weights)

    def mean(self, of: Callable[[Array], Array]) -> Mean:
        """Mean of a function over the eigenvalues, see `Density.mean`."""
        return mean_of(np.sum(self.weights * of(self.nodes), axis=1))


@dataclass(frozen=True)
class Density:
    """The spectral density of a matrix: how its eigenvalues are distributed, each counted with weight 1/D.

    Attributes:
        x: Eigenvalues ``[points]``, evenly spaced.
        density: The density at ``x``, broadened by a Gaussian of standard deviation ``width``; its integral is 1.
        band: Lower and upper end of its 95 % interval at each ``x`` (Student's, over the probes), ``[2, points]``.
        rules: Quadrature of each probe: nodes and their weights, ``[probes, m]`` each; a weight is 0 for nodes that a
            probe has not, because its directions were used up.
        coarse: The same of three quarters of the steps, to see what more steps would change.
        width: Of the broadening, in units of the eigenvalues.
        size: D.
        products: How many products with the matrix it is made of.
        overlap: Largest entry of Q^T Q off its diagonal, over all probes: the check of the reorthogonalisation.
        quadrature_error: Integral of the absolute difference from the density of three quarters of the steps: an upper
            estimate of what is misplaced for want of steps, which the band does not hold.
        attrs: Provenance.
    """

    x: Array
    density: Array
    band: Array
    rules: Rules = field(repr=False)
    coarse: Rules = field(repr=False)
    width: float
    size: int
    products: int
    overlap: float
    quadrature_error: float
    attrs: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def nodes(self) -> Array:
        """Of the quadrature of each probe, ``[probes, m]``."""
        return self.rules.nodes

    @property
    def weights(self) -> Array:
        """Of the nodes, ``[probes, m]``; those of a probe add up to 1."""
        return self.rules.weights

    def mean(self, of: Callable[[Array], Array]) -> Mean:
        """Mean of a function over the eigenvalues, E[f(lambda)] = tr f(H) / D, with its error over the probes.

        Args:
            of: The function, elementwise. The quadrature is exact for polynomials of degree up to 2 m - 1, and good
                for what is smooth over the gaps between the nodes; ``coarse.mean`` shows what more steps would change.
        """
        return self.rules.mean(of)

    def moment(self, k: int) -> Mean:
        """E[lambda^k], with its error over the probes.

        Raises:
            ValueError: The steps do not do for this moment: the quadrature is exact up to ``2 m - 1``.
        """
        most = 2 * self.nodes.shape[1] - 1
        if not (0 <= k <= most or self.nodes.shape[1] == self.size):
            raise ValueError(f"k must be from 0 to {most}, as far as the steps are exact. Got {k}.")
        return self.mean(lambda values: values**k)
