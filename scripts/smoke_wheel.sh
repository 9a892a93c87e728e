#!/usr/bin/env bash
# Builds the wheel and tries it in a second, empty environment, away from the sources.
# Usage: scripts/smoke_wheel.sh PYTHON (one that has the `build` package)
set -euo pipefail
python=$(realpath -s "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --outdir "$work/dist" "$root" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -c "$root/constraints-ci.txt" "$work"/dist/*.whl

cd "$work"
export PATH="$work/venv/bin:$PATH"
dot-landscape --version
dot-landscape doctor
dot-landscape train digits-quick --method kd-dot -o runs
dot-landscape surface runs/kd-dot-* --x -1 1 5 --y -1 1 5
dot-landscape plot runs/kd-dot-*/surface.h5
dot-landscape explore runs/kd-dot-*/surface.h5
dot-landscape report runs/kd-dot-*
test -s contour.pdf && test -s explore.html && test -s report.html
python - <<'PYTHON'
from pathlib import Path
import dot, landscape
assert "site-packages" in dot.__file__ and "site-packages" in landscape.__file__
assert (Path(dot.__file__).parent / "py.typed").exists() and (Path(landscape.__file__).parent / "py.typed").exists()
PYTHON
echo "the wheel works in an empty environment"
