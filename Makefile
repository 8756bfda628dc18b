# make install     the virtual environment that all others use
# make check       formatting, lint, types, and which part imports which
# make test        the test suite without the tests marked "long"
# make test-long   the whole test suite
# make demo        simulate events, train networks on them, and see that they work

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: install check test test-long demo clean

install: $(INSTALLED)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: install
	$(PYTEST)

# An empty expression replaces the one in pyproject.toml that leaves long tests out.
test-long: install
	$(PYTEST) -m ""

demo: install
	$(BIN)/python tools/demo.py

# torch goes first: what depends on it must not bring another build of it.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev,pandas,parquet,serve,sign]"
	touch $@

clean:
	rm -rf $(VENV) demo
