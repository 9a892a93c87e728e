"""The paper's flatness figure: the task loss along random directions, and every measure of flatness, method by method.

python scripts/figure_flatness.py runs/ce-* runs/kd-sgd-* -o figures/flatness
"""

from from_runs import arguments, write

import landscape as ls
from dot import flatness


def main() -> None:
    groups, stem = arguments(__doc__)
    lines = {name: [ls.load(run.path / "lines.h5") for run in group] for name, group in groups.items()}
    asked = flatness.kept_alike(groups)
    found = flatness.verdict(groups, asked) if asked else None
    if found is None:
        raise SystemExit("expected runs of two methods or more, whose flatness was measured in one way. Got others.")
    with ls.plot.style("paper"):
        write(ls.plot.curves(lines, term="ce"), stem.with_name(f"{stem.name}-curves"))
    with ls.plot.style("paper", columns=2):
        write(ls.plot.flatness(found), stem.with_name(f"{stem.name}-measures"))


if __name__ == "__main__":
    main()
