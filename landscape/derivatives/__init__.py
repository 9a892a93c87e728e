"""Mean, gradient and curvature products of a term over all the data, at a problem's weights or away from them."""

from landscape.derivatives.kinds import Kind
from landscape.derivatives.over_data import Derivatives, NotFinite, Slope

__all__ = ["Derivatives", "Kind", "NotFinite", "Slope"]
