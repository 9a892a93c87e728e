"""The paper's trade-off figure: task loss against distillation loss on the test images, over training.

python scripts/figure_tradeoff.py runs/kd-sgd-* runs/kd-dot-* -o figures/tradeoff
"""

from from_runs import arguments, write

import landscape as ls
from dot import gallery


def main() -> None:
    groups, stem = arguments(__doc__)
    with ls.plot.style("paper"):
        write(gallery.tradeoff(groups), stem)


if __name__ == "__main__":
    main()
