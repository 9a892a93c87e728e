"""Curvature of a term at a minimum: eigenvalues, trace, diagonal and spectral density, each with its error."""
