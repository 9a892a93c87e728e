"""The tables of docs/performance.md, from the JSON files of figures/performance.

Each becomes a text file beside its JSON, which `fill_tables.py` puts into the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fill_tables import ROOT

FOLDER = ROOT / "figures" / "performance"


def surface(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("", "bare loop (s)", "plain", "fast", "bf16", "folded by hand", "error fast", "error bf16")]
    for name, case in found["results"].items():
        ratios = case["ratios"]
        twin = f"{ratios['folded by hand']:.2f}" if "folded by hand" in ratios else ""
        ways = [f"{ratios[way]:.2f}" for way in ("plain", "fp32", "bf16")]
        errors = [f"{case['errors'][way]:.1e}" for way in ("fp32", "bf16")]
        rows.append((name, f"{case['bare_seconds']:.3f}", *ways, twin, *errors))
    return rows


def goals(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """What was aimed at beside what came out; errors of 1e-6 and 5e-3 for the convolutional network."""
    rows = [("goal", "aim", "came out", "")]

    def add(what: str, aim: float, came: float, form: str = ".2f") -> None:
        rows.append((what, f"{aim:{form}}", f"{came:{form}}", "met" if came <= aim else "missed"))

    for name, case in found["results"].items():
        ratios, twin = case["ratios"], case["ratios"].get("folded by hand")
        for way, aim in case["goals"].items():
            beside = f"{name}: {way} to the " + ("twin" if twin and way == "fp32" else "bare loop")
            add(beside, aim, ratios[way] / (twin if twin and way == "fp32" else 1.0))
        if twin:
            add(f"{name}: error of fp32", 1e-6, case["errors"]["fp32"], ".1e")
            add(f"{name}: error of bf16", 5e-3, case["errors"]["bf16"], ".1e")
    return rows


def peers(found: dict[str, Any]) -> list[tuple[str, ...]]:
    case = next(case for case in found["results"].values() if "folded by hand" in case["ratios"])
    names = {"plain": "ours, --plain", "fp32": "ours", "bf16": "ours, --precision bf16"}
    rows = [("", "to the bare loop", "lowest", "highest")]
    for way, ratio in sorted(case["ratios"].items(), key=lambda item: -item[1]):
        spread = [of[way] for of in case["rounds"]]
        rows.append((names.get(way, way), f"{ratio:.2f}", f"{min(spread):.2f}", f"{max(spread):.2f}"))
    return rows


def sampling(*found: dict[str, Any]) -> list[tuple[str, ...]]:
    head = ("grid", "error", "precision", "share of all", "minutes", "bare loop (h)", "cells checked", "covered", "p")
    rows: list[tuple[str, ...]] = [head]
    for one in found:
        check = one["check"]
        checked = (str(check["cells"]), str(check["covered"]), f"{check['p']:.2f}") if check["cells"] else ("", "", "")
        hours = one["bare_loop_seconds_extrapolated"] / 3600
        cost = (f"{one['share']:.2%}", f"{one['seconds'] / 60:.1f}", f"{hours:.1f}")
        grid, error = f"{one['points']} x {one['points']}", f"{one['goal']['rel_error']:.0%}"
        rows.append((grid, error, one["precision"], *cost, *checked))
    return rows


def rings(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("distance from the origin (half-widths)", "cells", "examples a cell")]
    for ring in found["share_by_distance"]:
        rows.append((f"{ring['from']:g} to {ring['to']:g}", str(ring["cells"]), f"{ring['share']:.2%}"))
    return rows


def coverage(*found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("problem", "term", "cells", "covered", "p", "width", "share of all", "")]
    for row in (row for one in found for row in one["rows"]):
        share, holds = f"{row['share of all examples']:.1%}", "holds" if row["holds"] else "FAILS"
        numbers = (str(row["cells"]), f"{row['covered']:.2%}", f"{row['p']:.3f}", f"{row['width']:.2f}", share, holds)
        rows.append((row["problem"], row["term"], *numbers))
    return rows


def conflict(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("measured", "a batch, plain (ms)", "measured (ms)", "ratio", "aim", "")]
    for name, case in found["results"]["measure"].items():
        plain, ours = (f"{1e3 * case['seconds_of_a_batch'][way]:.1f}" for way in ("plain", "measure"))
        met = "met" if case["ratio"] <= case["goal"] else "missed"
        rows.append((name, plain, ours, f"{case['ratio']:.3f}", f"{case['goal']:.2f}", met))
    return rows


def recorded(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [
        ("recorded while training", "a step (ms)", "a record (ms)", "an epoch (ms)", "share of the time", "aim", "")
    ]
    for name, case in found["results"]["recording"].items():
        for method in ("kd-sgd", "kd-dot"):
            of = case[method]
            times = [f"{1e3 * of[key]:.0f}" for key in ("step", "record", "epoch")]
            met = "met" if of["share"] <= case["goal"] else "missed"
            rows.append((f"{name}, {method}", *times, f"{of['share']:.1%}", f"{case['goal']:.0%}", met))
    return rows


def product(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a product with the Hessian costs, in gradients."""
    case = found["results"]["product"]
    rows = [("a product with the Hessian", "seconds", "to a gradient", "of processor time", "aim", "")]
    rows.append(("(a gradient)", f"{case['seconds']['gradient']:.3f}", "", "", "", ""))
    for way, name in (("alone", "alone"), ("together", f"each of {case['products_together']} that share a graph")):
        of = case[way]
        met = "met" if of["ratio"] <= of["goal"] else "missed"
        processor = f"{of['ratio_of_processor_time']:.2f}" if "ratio_of_processor_time" in of else ""
        rows.append((name, f"{case['seconds'][way]:.3f}", f"{of['ratio']:.2f}", processor, f"{of['goal']:.1f}", met))
    return rows


def hessian(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Products and seconds of each tool, and how far its result is from the reference."""
    asked = found["results"]["asked"]
    names = {
        "eigenvalues": f"largest {asked['k']} eigenvalues to {asked['tolerance']:g}",
        "trace": f"trace to {asked['rel_error']:.0%}",
        "trace, hutch++": f"trace to {asked['rel_error']:.0%}, Hutch++",
        "density": f"density, {asked['probes']} probes of {asked['steps']} steps",
    }
    rows = [("", "tool", "products", "seconds", "off by", "standard error")]
    for row in found["results"]["tools"]:
        error = "" if row["error"] is None else f"{abs(row['error'] / row['values'][0]):.1%}"
        cost = (str(row["products"]), f"{row['seconds']:.0f}")
        rows.append((names[row["what"]], row["tool"], *cost, f"{row['off']:.2%}", error))
    return rows


def pages(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """What pages of surfaces cost in a browser that draws on the processor."""
    rows = [("page", "MB", "s to write", "s to planes", "s to open", "frames/s")]
    for name, case in found["results"].items():
        keys = ("megabytes", "seconds to write", "seconds to planes", "seconds to open", "frames")
        rows.append((name, *(f"{case[key]:.1f}" for key in keys)))
    return rows


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Rows as text, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    lines = [rows[0], rule, *rows[1:]]
    texts = [
        [c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))] for r in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in texts) + "\n"


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


TABLES: dict[str, tuple[Callable[..., list[tuple[str, ...]]], tuple[str, ...]]] = {
    "surface": (surface, ("bench-surface-cpu.json",)),
    "goals": (goals, ("bench-surface-cpu.json",)),
    "peers": (peers, ("bench-surface-cpu.json",)),
    "sampling": (sampling, ("preview.json", "sampling-25.json", "sampling-51.json")),
    "rings": (rings, ("sampling-51.json",)),
    "coverage": (coverage, ("coverage.json", "coverage-resnet.json")),
    "conflict": (conflict, ("bench-conflict-cpu.json",)),
    "recorded": (recorded, ("bench-conflict-cpu.json",)),
    "product": (product, ("bench-hessian-cpu.json",)),
    "hessian": (hessian, ("bench-hessian-cpu.json",)),
    "pages": (pages, ("bench-pages.json",)),
}
"""How each table is made, and of which files."""


def tables() -> dict[Path, str]:
    """Each table by its file, as far as what it is made of is there."""
    found = {}
    for name, (make, sources) in TABLES.items():
        if all((FOLDER / source).exists() for source in sources):
            found[FOLDER / f"{name}.txt"] = aligned(make(*map(read, sources)))
    return found


def main() -> None:
    for path, text in tables().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
