# make install     the virtual environment that all others use
# make install-onnx  one without torch, for tests of predictions by ONNX Runtime
# make check       formatting, lint, types, and which part imports which
# make test        the test suite without the tests marked "long"
# make test-long   the whole test suite
# make demo        simulate events, train networks on them, and see that they work

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WITHOUT_TORCH := .venv-onnx
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: install install-onnx check test test-long demo clean

install: $(INSTALLED)

install-onnx: $(WITHOUT_TORCH)/.installed

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: install install-onnx
	$(PYTEST)

# An empty expression replaces the one in pyproject.toml that leaves long tests out.
test-long: install install-onnx
	$(PYTEST) -m ""

demo: install
	$(BIN)/python tools/demo.py

# torch goes first: what depends on it must not bring another build of it.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev,onnx,pandas,parquet,serve,sign,weights]"
	touch $@

$(WITHOUT_TORCH)/.installed: pyproject.toml requirements-onnx.txt
	test -x $(WITHOUT_TORCH)/bin/python || $(PYTHON) -m venv $(WITHOUT_TORCH)
	$(WITHOUT_TORCH)/bin/python -m pip install --quiet --requirement requirements-onnx.txt
	$(WITHOUT_TORCH)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(WITHOUT_TORCH) demo
