"""Curvature of a term at a minimum: eigenvalues, trace, diagonal and spectral density, each with its error."""

from landscape.hessian.checkpoints import CurvatureOfRun, over_checkpoints
from landscape.hessian.density import density
from landscape.hessian.diagonal import Diagonal, diagonal
from landscape.hessian.effective import effective_dimension
from landscape.hessian.eigen import Eigenpairs, blocks, eigenpairs
from landscape.hessian.frobenius import Norm, frobenius
from landscape.hessian.operator import Curvature, operator
from landscape.hessian.over import over
from landscape.hessian.spectrum import Density
from landscape.hessian.trace import Trace, trace

__all__ = [
    "Curvature",
    "CurvatureOfRun",
    "Density",
    "Diagonal",
    "Eigenpairs",
    "Norm",
    "Trace",
    "blocks",
    "density",
    "diagonal",
    "effective_dimension",
    "eigenpairs",
    "frobenius",
    "operator",
    "over",
    "over_checkpoints",
    "trace",
]
