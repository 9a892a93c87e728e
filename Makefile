PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint unit docs wheel browser

demo: .venv/installed
	$(BIN)/dot-landscape reproduce

test: .venv/installed-dev browser lint unit docs wheel

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/installed-dev
	$(BIN)/pytest -n logical --dist worksteal

# Draws each figure of the gallery anew; warnings are errors.
docs: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

wheel: .venv/installed-dev
	scripts/smoke_wheel.sh $(BIN)/python

# The tests of pages need a browser; as root it is installed, else the tests say what to install.
browser:
	@command -v chromium >/dev/null || [ "$$(id -u)" -ne 0 ] || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; }

.venv/installed: pyproject.toml constraints-ci.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-ci.txt -e .
	touch $@

.venv/installed-dev: pyproject.toml constraints-ci.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-ci.txt -e ".[dev,docs]"
	touch $@ .venv/installed
