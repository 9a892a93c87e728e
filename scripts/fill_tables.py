"""Puts the tables of figures/ into README.md and docs/, between the marks that name their files."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKS = r"(<!-- table: (figures/\S+) -->\n).*?(<!-- end of table -->)"


def filled(page: str) -> str:
    """A page with the tables as they are now, each as a block of code; one that is not there stays as it is."""

    def block(found: re.Match[str]) -> str:
        path = ROOT / found[2]
        return found[1] + f"\n{textwrap.indent(path.read_text(), '    ')}\n" + found[3] if path.exists() else found[0]

    return re.sub(MARKS, block, page, flags=re.S)


def main() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
