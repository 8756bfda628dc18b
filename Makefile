# make test    the test suite, in a virtual environment of its own
# make check   formatting, lint and types
# make demo    simulate events, train networks on them, and see that they work

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: test check demo clean

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

# torch goes first: what depends on it must not bring another build of it.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev,pandas,parquet]"
	touch $@

clean:
	rm -rf $(VENV) demo
