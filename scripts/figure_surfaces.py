"""The paper's surfaces: the task loss around a student of KD+DOT and one of KD+SGD, and the first less the second.

python scripts/figure_surfaces.py runs/kd-sgd-* runs/kd-dot-* -o figures/surfaces
"""

from from_runs import arguments, write

import landscape as ls


def main() -> None:
    groups, stem = arguments(__doc__)
    names = ("KD+DOT", "KD+SGD")
    a, b = (ls.load(groups[name][0].path / "surface.h5") for name in names)
    with ls.plot.style("paper"):
        write(ls.plot.contour(dict(zip(names, (a, b), strict=True)), term="ce"), stem)
        write(ls.plot.difference(a, b, term="ce", names=names), stem.with_name(f"{stem.name}-difference"))


if __name__ == "__main__":
    main()
