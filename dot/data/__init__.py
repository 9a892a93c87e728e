"""Image sets by name: ``load("digits", device)``; each is arrays on the device, batched without a per-item loop."""

from dot.data.registry import faults, load, names, source

__all__ = ["faults", "load", "names", "source"]
