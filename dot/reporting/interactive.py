"""The pages of a study in which surfaces and gradients are turned and read: files beside its report."""

from __future__ import annotations

from pathlib import Path

import landscape as ls
from dot.findings import Findings
from dot.wording import finite
from landscape.explorer import Page
from landscape.report import Link
from landscape.sharpness import Flatness


def write_pages(findings: Findings, folder: Path) -> list[Link]:
    """Write the interactive pages that the runs have the files for.

    Returns:
        Links to them from the folder above.

    Raises:
        OSError: A file cannot be written.
    """
    pages: dict[str, tuple[str, Page]] = {}
    planes = findings.planes.values()
    if all("ce" in plane.terms for plane in planes) and any(finite(plane, "ce") for plane in planes):
        text = f"Surfaces of one student of each method (seed {findings.seed})"
        pages["explore"] = (text, ls.explore(_explored(findings), term="ce"))
    recorded = {name: seeds[0] for name, seeds in findings.conflicts.items() if len(seeds[0].step)}
    if recorded:
        pages["conflict"] = ("Gradients over training, of the first seed of each method", ls.explore(recorded))
    for name, (_, page) in pages.items():
        page.write_html(folder / f"{name}.html")
    return [Link(text, f"{folder.name}/{name}.html") for name, (text, _) in pages.items()]


def _explored(findings: Findings) -> dict[str, list[ls.Surface | Flatness]]:
    """The planes, and the flatness of the same minima where it was measured."""
    return {
        name: [plane, *(one for one in findings.flat.get(name, ()) if _weights(one) == _weights(plane))]
        for name, plane in findings.planes.items()
    }


def _weights(of: ls.Surface | Flatness) -> str:
    return str(of.attrs["checkpoint_sha256"])
