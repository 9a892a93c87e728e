"""Curvature of a term at a minimum: eigenvalues, trace, diagonal and spectral density, each with its error."""

from landscape.hessian.eigen import Eigenpairs, blocks, eigenpairs
from landscape.hessian.operator import Curvature, operator

__all__ = ["Curvature", "Eigenpairs", "blocks", "eigenpairs", "operator"]
