"""The paper's flatness figure: the task loss along random directions, and every measure of flatness, method by method.

python scripts/figure_flatness.py runs/ce-* runs/kd-sgd-* -o figures/flatness
"""

from from_runs import arguments, write

import landscape as ls


def main() -> None:
    groups, stem = arguments(__doc__)
    lines = {name: [ls.load(run.path / "lines.h5") for run in found] for name, found in groups.items()}
    minima = {name: [ls.load(next(run.path.glob("flatness-*.h5"))) for run in found] for name, found in groups.items()}
    with ls.plot.style("paper"):
        write(ls.plot.curves(lines, term="ce"), stem.with_name(f"{stem.name}-curves"))
    with ls.plot.style("paper", columns=2):
        write(ls.plot.flatness(ls.sharpness.compare(minima)), stem.with_name(f"{stem.name}-measures"))


if __name__ == "__main__":
    main()
